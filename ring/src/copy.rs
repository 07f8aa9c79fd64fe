//! Copying and checksumming in one pass: CRC-32C over exactly the bytes that were copied, each read once.
//!
//! A separate pass over a large record would fetch it again from a far cache. Short ones go through the processor's own instruction,
//! eight bytes at a time. Longer ones are folded by carry-less multiplication: 128 bytes are carried over the next 128 until
//! few are left (Gopal and others, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel 2009), in
//! registers of 32 bytes, which copy on the way; that needs VPCLMULQDQ. On x86-64 without it, long runs are copied in pieces, and each is then cut into
//! three streams, whose checksums are put together (Gopal and others, "Fast CRC computation for iSCSI polynomial using CRC32 instruction",
//! Intel 2011). Elsewhere, and on processors without any of this: a copy, then `crc-fast`.
//!
//! # Safety
//!
//! [`copy`] asks its caller for two ranges; everything else works on slices. Bytes that another process may change are loaded by
//! inline assembly, so that what is stored and what is checksummed is one value, whatever the compiler would like. The
//! instructions are executed only where the processor says that it has them.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use core::sync::atomic::{AtomicU8, Ordering};

use crc_fast::{CrcAlgorithm, Digest};

/// What this processor has for checksums. Only [`here`](Self::here) makes one, by asking the processor: whoever has a `Way` may go it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way(u8);

/// Nothing: `crc-fast` looks for itself.
const NONE: Way = Way(1);
/// The checksum's own instruction: SSE4.2.
#[cfg(target_arch = "x86_64")]
const SUMS: Way = Way(2);
/// It can fold besides: AVX2, PCLMULQDQ and VPCLMULQDQ.
#[cfg(target_arch = "x86_64")]
const FOLDS: Way = Way(3);

impl Way {
    /// This processor's. One load, where the standard library's answer takes six instructions for each feature.
    #[inline(always)]
    pub(crate) fn here() -> Way {
        #[cfg(target_arch = "x86_64")]
        {
            static FOUND: AtomicU8 = AtomicU8::new(0);

            #[cold]
            #[inline(never)]
            fn look() -> Way {
                use std::arch::is_x86_feature_detected as has;
                let folds = has!("avx2") && has!("pclmulqdq") && has!("vpclmulqdq");
                let way = match has!("sse4.2") {
                    true if folds => FOLDS,
                    true => SUMS,
                    false => NONE,
                };
                FOUND.store(way.0, Ordering::Relaxed);
                way
            }

            match FOUND.load(Ordering::Relaxed) {
                0 => look(),
                found => Way(found),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        NONE
    }
}

/// Carries the register `crc` over `bytes`, in place.
#[inline(always)]
pub(crate) fn over(way: Way, crc: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if way == FOLDS && bytes.len() >= x86::FOLD {
        // SAFETY: the slice is readable and long enough, nothing is stored, and the instructions are there.
        return unsafe { x86::fold::<false, false>(crc, bytes.as_ptr(), core::ptr::null_mut(), bytes.len()) };
    }
    #[cfg(target_arch = "x86_64")]
    if way != NONE {
        // SAFETY: the slice is readable, nothing is stored, and the instruction is there.
        return unsafe { x86::run::<false>(crc, bytes.as_ptr(), core::ptr::null_mut(), bytes.len()) };
    }
    portable(way, crc, bytes)
}

/// Copies `len` bytes and carries the register `crc` over them.
///
/// # Safety
///
/// `from` must be readable and `to` writable for `len` bytes, and the two must not overlap. One of them is private to the
/// caller; `private_to` says which.
#[inline(always)]
pub(crate) unsafe fn copy(way: Way, crc: u32, from: *const u8, to: *mut u8, len: usize, private_to: bool) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if way != NONE {
        if len < x86::FOLD {
            // SAFETY: the caller's promise, and the instruction is there.
            return unsafe { x86::small::<true>(crc, from, to, len) };
        }
        if way == FOLDS {
            // SAFETY: the caller's promise, the instructions are there, and it is long enough.
            return unsafe {
                match private_to {
                    true => x86::fold::<true, false>(crc, from, to, len),
                    false => x86::fold::<true, true>(crc, from, to, len),
                }
            };
        }
        // SAFETY: the caller's promise.
        return unsafe { in_pieces(crc, from, to, len, private_to) };
    }
    // SAFETY: the caller's promise.
    unsafe { core::ptr::copy_nonoverlapping(from, to, len) };
    let private = if private_to { to.cast_const() } else { from };
    // SAFETY: the private one of the two, readable for `len` bytes and written to by nobody else.
    portable(way, crc, unsafe { core::slice::from_raw_parts(private, len) })
}

/// Without folding, pieces of so many bytes are copied and then checksummed while they are close. Wide copies have many more
/// lines under way between two processors than eight bytes at a time can have.
#[cfg(target_arch = "x86_64")]
const PIECE: usize = 3072;

/// Copies `len` bytes; `private_to` as for [`copy`].
///
/// The system's copy is used for short ones only: for long ones it takes `rep movsb`, which some processors do at a byte a
/// nanosecond if the two addresses lie unluckily (seen on AMD's third generation; ours always do, by the header's length).
///
/// # Safety
///
/// `from` must be readable and `to` writable for `len` bytes, and the two must not overlap.
#[inline(always)]
pub(crate) unsafe fn plain(from: *const u8, to: *mut u8, len: usize, private_to: bool) {
    #[cfg(target_arch = "x86_64")]
    if len >= x86::WIDE && std::arch::is_x86_feature_detected!("avx") {
        // SAFETY: the caller's promise, and the instructions are there.
        return unsafe {
            match private_to {
                true => x86::wide::<false>(from, to, len),
                false => x86::wide::<true>(from, to, len),
            }
        };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = private_to;
    // SAFETY: the caller's promise.
    unsafe { core::ptr::copy_nonoverlapping(from, to, len) };
}

/// Up to so many bytes go through registers there, eight at a time.
#[cfg(target_arch = "x86_64")]
const AT_ONCE: usize = 256;

/// Asks the processor to bring the line at `at` here. Whatever `at` is, nothing faults and nothing is waited for.
#[inline(always)]
pub(crate) fn prefetch(at: *const u8) {
    // SAFETY: a hint, for which the processor looks at no right and raises no fault.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!("prefetcht0 [{at}]", at = in(reg) at, options(readonly, nostack, preserves_flags));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(readonly, nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// As [`prefetch`], for who is about to write there: the line comes as this processor's own.
#[inline(always)]
pub(crate) fn prefetch_to_write(at: *const u8) {
    // SAFETY: a hint, for which the processor looks at no right and raises no fault. One that does not know it does nothing.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!("prefetchw [{at}]", at = in(reg) at, options(readonly, nostack, preserves_flags));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!("prfm pstl1keep, [{at}]", at = in(reg) at, options(readonly, nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// A writer asks for lines so many bytes in front of itself. The reader had each of them last, and stores leave the processor one after the
/// other: without, each waits for its line's way here. Between distant processors that is half of all the time that
/// records of 64 bytes take, and nothing where the two are near; 256 to 2048 make little difference.
pub(crate) const AHEAD: u64 = 512;

/// # Safety
///
/// As [`copy`]; and the processor has SSE4.2.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
unsafe fn in_pieces(mut crc: u32, from: *const u8, to: *mut u8, len: usize, private_to: bool) -> u32 {
    if len <= AT_ONCE {
        // SAFETY: the caller's promise, and the caller has found the instruction.
        return unsafe { x86::small::<true>(crc, from, to, len) };
    }
    let private = if private_to { to.cast_const() } else { from };
    let mut at = 0;
    while at < len {
        let piece = PIECE.min(len - at);
        // SAFETY: `at + piece` is at most `len`.
        unsafe { plain(from.add(at), to.add(at), piece, private_to) };
        // SAFETY: the same piece of the private one, written to by nobody else; the caller has found the instruction.
        crc = unsafe { x86::run::<false>(crc, private.add(at), core::ptr::null_mut(), piece) };
        at += piece;
    }
    crc
}

/// The same by `crc-fast`, whatever the processor has.
pub(crate) fn portable(_: Way, crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(crc));
    digest.update(bytes);
    digest.get_state() as u32
}

/// The register behind four words and a half, least significant bytes first.
#[inline(always)]
pub(crate) fn words(way: Way, words: [u64; 4], half: u32) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if way != NONE {
        // SAFETY: the instruction is there.
        let crc = words.into_iter().fold(u64::from(!0_u32), |crc, word| unsafe { x86::value(crc, word) });
        // SAFETY: the instruction is there.
        return unsafe { x86::half_value(crc as u32, half) };
    }
    let crc = words.into_iter().fold(!0, |crc, word| portable(way, crc, &word.to_le_bytes()));
    portable(way, crc, &half.to_le_bytes())
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::asm;

    use super::AHEAD;
    use core::arch::x86_64::{
        __m256i, _mm_clmulepi64_si128, _mm_crc32_u64, _mm_cvtsi32_si128, _mm_cvtsi128_si64, _mm_extract_epi64,
        _mm_set_epi64x, _mm_xor_si128, _mm256_castsi256_si128, _mm256_clmulepi64_epi128, _mm256_extracti128_si256,
        _mm256_setr_epi64x, _mm256_storeu_si256, _mm256_xor_si256, _mm256_zeroupper,
    };

    /// From here on cutting into streams pays.
    const LARGE: usize = 3 * SMALL_STREAM;
    const LARGE_STREAM: usize = 1024;
    const MIDDLE_STREAM: usize = 256;
    const SMALL_STREAM: usize = 64;

    /// From here on `wide` copies; twice what it copies at once, at least.
    pub(super) const WIDE: usize = 768;

    /// # Safety
    ///
    /// As `plain`; `len` is at least 128, and the processor has AVX.
    #[target_feature(enable = "avx")]
    pub(super) unsafe fn wide<const TO_RING: bool>(from: *const u8, to: *mut u8, len: usize) {
        let last = len - 128;
        let mut at = 0;
        loop {
            if TO_RING {
                ahead(to.wrapping_add(at));
            }
            // SAFETY: `at` is at most `last`, so 128 bytes are there.
            unsafe {
                asm!(
                    "vmovdqu {a}, ymmword ptr [{from} + {at}]",
                    "vmovdqu {b}, ymmword ptr [{from} + {at} + 32]",
                    "vmovdqu {c}, ymmword ptr [{from} + {at} + 64]",
                    "vmovdqu {d}, ymmword ptr [{from} + {at} + 96]",
                    "vmovdqu ymmword ptr [{to} + {at}], {a}",
                    "vmovdqu ymmword ptr [{to} + {at} + 32], {b}",
                    "vmovdqu ymmword ptr [{to} + {at} + 64], {c}",
                    "vmovdqu ymmword ptr [{to} + {at} + 96], {d}",
                    a = out(ymm_reg) _, b = out(ymm_reg) _, c = out(ymm_reg) _, d = out(ymm_reg) _,
                    from = in(reg) from, to = in(reg) to, at = in(reg) at,
                    options(nostack, preserves_flags),
                );
            }
            if at == last {
                // The compiler does not see that the registers' upper halves were used; with them in use, the carry-less multiplications
                // of the checksum that follows take several times as long.
                return _mm256_zeroupper();
            }
            // The last block may overlap the one before it.
            at = (at + 128).min(last);
        }
    }

    /// From here on folding pays.
    pub(super) const FOLD: usize = 192;

    /// What carries 16 bytes over `bits` bits further: for their first half and their second.
    const fn carry(bits: u32) -> [i64; 2] {
        [power(bits + 31) as i64, power(bits - 33) as i64]
    }

    /// Carries both halves of `value` on, `by` as [`carry`] says, and adds what comes there.
    #[target_feature(enable = "avx2,vpclmulqdq")]
    #[inline]
    fn fold_two(value: __m256i, by: __m256i, next: __m256i) -> __m256i {
        let (low, high) = (_mm256_clmulepi64_epi128::<0x00>(value, by), _mm256_clmulepi64_epi128::<0x11>(value, by));
        _mm256_xor_si256(_mm256_xor_si256(low, high), next)
    }

    /// Asks for 128 bytes of the ring that will be written when this far has been.
    #[inline(always)]
    fn ahead(to: *const u8) {
        super::prefetch_to_write(to.wrapping_add(AHEAD as usize));
        super::prefetch_to_write(to.wrapping_add(AHEAD as usize + 64));
    }

    /// 32 bytes at `from`, loaded once; stored to `to`, too, if `COPY`.
    ///
    /// # Safety
    ///
    /// As `run`, for these bytes; and the processor has AVX.
    #[target_feature(enable = "avx")]
    #[inline]
    unsafe fn one<const COPY: bool>(from: *const u8, to: *mut u8) -> __m256i {
        let value;
        // SAFETY: the caller's promise.
        unsafe {
            asm!("vmovdqu {value}, ymmword ptr [{from}]", value = out(ymm_reg) value, from = in(reg) from,
                options(readonly, nostack, preserves_flags));
            if COPY {
                _mm256_storeu_si256(to.cast(), value);
            }
        }
        value
    }

    /// As `one`, for 128 bytes.
    ///
    /// # Safety
    ///
    /// As `one`.
    #[target_feature(enable = "avx")]
    #[inline]
    unsafe fn four<const COPY: bool>(from: *const u8, to: *mut u8) -> [__m256i; 4] {
        let (a, b, c, d);
        // SAFETY: the caller's promise.
        unsafe {
            asm!(
                "vmovdqu {a}, ymmword ptr [{from}]",
                "vmovdqu {b}, ymmword ptr [{from} + 32]",
                "vmovdqu {c}, ymmword ptr [{from} + 64]",
                "vmovdqu {d}, ymmword ptr [{from} + 96]",
                a = out(ymm_reg) a, b = out(ymm_reg) b, c = out(ymm_reg) c, d = out(ymm_reg) d, from = in(reg) from,
                options(readonly, nostack, preserves_flags),
            );
            if COPY {
                _mm256_storeu_si256(to.cast(), a);
                _mm256_storeu_si256(to.add(32).cast(), b);
                _mm256_storeu_si256(to.add(64).cast(), c);
                _mm256_storeu_si256(to.add(96).cast(), d);
            }
        }
        [a, b, c, d]
    }

    /// Copies `len` bytes if it is to, and carries the register over them, 128 at a time. `TO_RING`: `to` is the ring.
    ///
    /// # Safety
    ///
    /// As `run`; `len` is at least 128, and the processor has AVX2, PCLMULQDQ and VPCLMULQDQ besides.
    #[target_feature(enable = "sse4.2,avx2,pclmulqdq,vpclmulqdq")]
    #[inline(never)]
    pub(super) unsafe fn fold<const COPY: bool, const TO_RING: bool>(
        crc: u32,
        from: *const u8,
        to: *mut u8,
        len: usize,
    ) -> u32 {
        let by = |bits: [i64; 2]| _mm256_setr_epi64x(bits[0], bits[1], bits[0], bits[1]);
        let far = by(const { carry(1024) });
        // SAFETY: 128 bytes at least.
        let [first, mut b, mut c, mut d] = unsafe { four::<COPY>(from, to) };
        let mut a = _mm256_xor_si256(first, _mm256_setr_epi64x(i64::from(crc), 0, 0, 0));
        let mut at = 128;
        while len - at >= 128 {
            if TO_RING {
                ahead(to.wrapping_add(at));
            }
            // SAFETY: `at + 128` is at most `len`; without `COPY`, `to` is only moved along.
            let next = unsafe { four::<COPY>(from.add(at), to.wrapping_add(at)) };
            a = fold_two(a, far, next[0]);
            b = fold_two(b, far, next[1]);
            c = fold_two(c, far, next[2]);
            d = fold_two(d, far, next[3]);
            at += 128;
        }
        let near = by(const { carry(256) });
        let mut all = fold_two(fold_two(fold_two(a, near, b), near, c), near, d);
        while len - at >= 32 {
            // SAFETY: `at + 32` is at most `len`; as above.
            all = fold_two(all, near, unsafe { one::<COPY>(from.add(at), to.wrapping_add(at)) });
            at += 32;
        }
        let [low, high] = const { carry(128) };
        let (first, second) = (_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all));
        let by = _mm_set_epi64x(high, low);
        let folded = _mm_xor_si128(_mm_clmulepi64_si128::<0x00>(first, by), _mm_clmulepi64_si128::<0x11>(first, by));
        let last = _mm_xor_si128(folded, second);
        let crc = _mm_crc32_u64(0, _mm_cvtsi128_si64(last) as u64);
        let crc = _mm_crc32_u64(crc, _mm_extract_epi64::<1>(last) as u64) as u32;
        // SAFETY: `at` is at most `len`; without `COPY`, `to` is only moved along.
        unsafe { small::<COPY>(crc, from.add(at), to.wrapping_add(at), len - at) }
    }

    /// # Safety
    ///
    /// The processor has SSE4.2.
    #[inline(always)]
    pub(super) unsafe fn value(mut crc: u64, word: u64) -> u64 {
        // SAFETY: registers only.
        unsafe {
            asm!("crc32 {crc}, {word}", crc = inout(reg) crc, word = in(reg) word,
                options(pure, nomem, nostack, preserves_flags));
        }
        crc
    }

    /// # Safety
    ///
    /// The processor has SSE4.2.
    #[inline(always)]
    pub(super) unsafe fn half_value(mut crc: u32, half: u32) -> u32 {
        // SAFETY: registers only.
        unsafe {
            asm!("crc32 {crc:e}, {half:e}", crc = inout(reg) crc, half = in(reg) half,
                options(pure, nomem, nostack, preserves_flags));
        }
        crc
    }

    /// Takes eight bytes at `from + at` to `to + at`, and the register over them.
    ///
    /// # Safety
    ///
    /// As `run`, for these eight bytes.
    #[inline(always)]
    unsafe fn eight<const COPY: bool>(crc: u64, from: *const u8, to: *mut u8, at: usize) -> u64 {
        let word: u64;
        // SAFETY: eight bytes are readable there; loaded once, into a register.
        unsafe {
            asm!("mov {word}, qword ptr [{from} + {at}]", word = out(reg) word, from = in(reg) from, at = in(reg) at,
                options(readonly, nostack, preserves_flags));
        }
        if COPY {
            // SAFETY: eight bytes are writable there.
            unsafe { to.add(at).cast::<u64>().write_unaligned(word) };
        }
        // SAFETY: the processor has the instruction.
        unsafe { value(crc, word) }
    }

    /// Copies `len` bytes if it is to, and carries the register over them.
    ///
    /// # Safety
    ///
    /// `from` is readable for `len` bytes; `to` is writable for as many if `COPY`, and does not overlap. The processor has SSE4.2.
    #[inline(always)]
    pub(super) unsafe fn run<const COPY: bool>(crc: u32, from: *const u8, to: *mut u8, len: usize) -> u32 {
        if len >= LARGE {
            // SAFETY: the caller's promise.
            return unsafe { large::<COPY>(crc, from, to, len) };
        }
        // SAFETY: the caller's promise.
        unsafe { small::<COPY>(crc, from, to, len) }
    }

    /// # Safety
    ///
    /// As `run`.
    #[inline(always)]
    pub(super) unsafe fn small<const COPY: bool>(crc: u32, from: *const u8, to: *mut u8, len: usize) -> u32 {
        let mut crc = u64::from(crc);
        let mut at = 0;
        while len - at >= 32 {
            // SAFETY: `at + 32` is at most `len`.
            unsafe {
                crc = eight::<COPY>(crc, from, to, at);
                crc = eight::<COPY>(crc, from, to, at + 8);
                crc = eight::<COPY>(crc, from, to, at + 16);
                crc = eight::<COPY>(crc, from, to, at + 24);
            }
            at += 32;
        }
        while len - at >= 8 {
            // SAFETY: `at + 8` is at most `len`.
            crc = unsafe { eight::<COPY>(crc, from, to, at) };
            at += 8;
        }
        if at < len {
            // SAFETY: fewer than eight bytes are left, all below `len`.
            crc = unsafe { rest::<COPY>(crc, from, to, at, len) };
        }
        crc as u32
    }

    /// The last one to seven bytes.
    ///
    /// # Safety
    ///
    /// As `run`.
    #[cold]
    #[inline(never)]
    unsafe fn rest<const COPY: bool>(mut crc: u64, from: *const u8, to: *mut u8, mut at: usize, len: usize) -> u64 {
        while at < len {
            let byte: u8;
            // SAFETY: `at` is below `len`; loaded once. The processor has the instruction.
            unsafe {
                asm!("mov {byte}, byte ptr [{from} + {at}]", "crc32 {crc:e}, {byte}",
                    byte = out(reg_byte) byte, crc = inout(reg) crc, from = in(reg) from, at = in(reg) at,
                    options(readonly, nostack, preserves_flags));
            }
            if COPY {
                // SAFETY: `at` is below `len`.
                unsafe { to.add(at).write(byte) };
            }
            at += 1;
        }
        crc
    }

    /// # Safety
    ///
    /// As `run`.
    #[inline(never)]
    unsafe fn large<const COPY: bool>(mut crc: u32, from: *const u8, to: *mut u8, len: usize) -> u32 {
        let mut at = 0;
        if std::arch::is_x86_feature_detected!("pclmulqdq") {
            // SAFETY: each takes whole blocks below `len`; the processor has both instructions.
            unsafe {
                crc = streams::<LARGE_STREAM, COPY>(crc, from, to, &mut at, len);
                crc = streams::<MIDDLE_STREAM, COPY>(crc, from, to, &mut at, len);
                crc = streams::<SMALL_STREAM, COPY>(crc, from, to, &mut at, len);
            }
        }
        // SAFETY: `at` is at most `len`; without `COPY`, `to` is only moved along.
        unsafe { small::<COPY>(crc, from.add(at), to.wrapping_add(at), len - at) }
    }

    /// Takes blocks of three streams of `EACH` bytes while there are any.
    ///
    /// # Safety
    ///
    /// As `run`; and the processor has carry-less multiplication.
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    unsafe fn streams<const EACH: usize, const COPY: bool>(
        mut crc: u32,
        from: *const u8,
        to: *mut u8,
        at: &mut usize,
        len: usize,
    ) -> u32 {
        let [once, twice] = const { [power(8 * EACH as u32 - 33), power(16 * EACH as u32 - 33)] };
        while len - *at >= 3 * EACH {
            let (mut a, mut b, mut c) = (u64::from(crc), 0, 0);
            let end = *at + EACH;
            let mut at_a = *at;
            while at_a < end {
                // SAFETY: all three lie in the block, which ends at or below `len`.
                unsafe {
                    a = eight::<COPY>(a, from, to, at_a);
                    b = eight::<COPY>(b, from, to, at_a + EACH);
                    c = eight::<COPY>(c, from, to, at_a + 2 * EACH);
                }
                at_a += 8;
            }
            crc = (shift(a, twice) ^ shift(b, once) ^ c) as u32;
            *at += 3 * EACH;
        }
        crc
    }

    /// The register `crc` behind as many zeros as `by`, a power of x, stands for.
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    fn shift(crc: u64, by: u32) -> u64 {
        let product = _mm_clmulepi64_si128::<0>(_mm_cvtsi32_si128(crc as i32), _mm_cvtsi32_si128(by as i32));
        _mm_crc32_u64(0, _mm_cvtsi128_si64(product) as u64)
    }

    /// x to the `n`th, modulo the polynomial, the highest power in the lowest bit. `shift` multiplies by x³³ besides.
    const fn power(n: u32) -> u32 {
        let mut value = 0x8000_0000_u32;
        let mut i = 0;
        while i < n {
            value = if value & 1 == 1 { (value >> 1) ^ 0x82f6_3b78 } else { value >> 1 };
            i += 1;
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + i / 7 + (i >> 9)) as u8).collect()
    }

    /// Bit by bit, as the standard says.
    fn slow(mut crc: u32, bytes: &[u8]) -> u32 {
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            }
        }
        crc
    }

    #[test]
    fn every_way_gives_the_same_checksum_and_the_same_bytes() {
        let way = Way::here();
        let all = bytes(9000);
        let lengths = (0..=1100).chain([3071, 3072, 3073, 3072 + 768 + 192 + 9, 8191, 8999]);
        // An interpreter takes a second for each.
        for len in lengths.filter(|len| !cfg!(miri) || len % 61 == 0) {
            for skew in [0, 1] {
                let from = &all[skew..skew + len];
                let want = slow(!0, from);
                assert_eq!(over(way, !0, from), want, "{len}");
                assert_eq!(portable(way, !0, from), want, "{len}");
                #[cfg(target_arch = "x86_64")]
                if way != NONE {
                    // SAFETY: readable for `len` bytes, nothing is stored, and the instruction is there.
                    let got = unsafe { x86::run::<false>(!0, from.as_ptr(), core::ptr::null_mut(), len) };
                    assert_eq!(got, want, "{len}, without folding");
                    let mut to = vec![0xee; len + 2];
                    // SAFETY: both slices have `len` bytes there and are different memory; the instruction is there.
                    let got = unsafe { in_pieces(!0, from.as_ptr(), to[1..].as_mut_ptr(), len, true) };
                    assert_eq!(got, want, "{len}, without folding");
                    assert!(to[0] == 0xee && to[len + 1] == 0xee && to[1..=len] == *from, "{len}, without folding");
                }
                for private_to in [false, true] {
                    let mut to = vec![0xee; len + 2];
                    // SAFETY: both slices have `len` bytes there and are different memory.
                    let got = unsafe { copy(way, !0, from.as_ptr(), to[1..].as_mut_ptr(), len, private_to) };
                    assert_eq!(got, want, "{len}");
                    assert!(to[0] == 0xee && to[len + 1] == 0xee && to[1..=len] == *from, "{len}");
                }
            }
        }
    }

    #[test]
    fn words_are_their_bytes() {
        let all = [0x0123_4567_89ab_cdef, u64::MAX, 0, 77];
        let bytes = [all.map(u64::to_le_bytes).concat(), 0x89ab_cdef_u32.to_le_bytes().to_vec()].concat();
        assert_eq!(words(Way::here(), all, 0x89ab_cdef), slow(!0, &bytes));
    }
}
