//! Copying and checksumming in one pass: CRC-32C over exactly the bytes that were copied, each read once.
//!
//! A separate pass over a large record would fetch it again from a far cache. On x86-64 the processor's own instruction
//! takes eight bytes a cycle, if three of them are under way at a time: so larger runs are cut into three streams, whose
//! checksums are put together by carry-less multiplication (after Gopal and others, "Fast CRC computation for iSCSI
//! polynomial using CRC32 instruction", Intel 2011). Elsewhere, and on processors without that instruction: a copy, then
//! `crc-fast`.
//!
//! # Safety
//!
//! [`copy`] asks its caller for two ranges; everything else works on slices. Bytes that another process may change are loaded by
//! inline assembly, so that what is stored and what is checksummed is one value, whatever the compiler would like. The
//! instructions are executed only where the processor says that it has them.
#![allow(unsafe_code)]

use crc_fast::{CrcAlgorithm, Digest};

/// Carries the register `crc` over `bytes`, in place.
#[inline(always)]
pub(crate) fn over(crc: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if x86::present() {
        // SAFETY: the slice is readable, nothing is stored, and the instruction is there.
        return unsafe { x86::run::<false>(crc, bytes.as_ptr(), core::ptr::null_mut(), bytes.len()) };
    }
    portable(crc, bytes)
}

/// Copies `len` bytes and carries the register `crc` over them.
///
/// # Safety
///
/// `from` must be readable and `to` writable for `len` bytes, and the two must not overlap. One of them is private to the
/// caller; `private_to` says which.
#[inline(always)]
pub(crate) unsafe fn copy(crc: u32, from: *const u8, to: *mut u8, len: usize, private_to: bool) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if x86::present() {
        if len <= AT_ONCE {
            // SAFETY: the caller's promise, and the instruction is there.
            return unsafe { x86::small::<true>(crc, from, to, len) };
        }
        // SAFETY: the caller's promise.
        return unsafe { in_pieces(crc, from, to, len, private_to) };
    }
    // SAFETY: the caller's promise.
    unsafe { core::ptr::copy_nonoverlapping(from, to, len) };
    let private = if private_to { to.cast_const() } else { from };
    // SAFETY: the private one of the two, readable for `len` bytes and written to by nobody else.
    portable(crc, unsafe { core::slice::from_raw_parts(private, len) })
}

/// Up to so many bytes go through registers, eight at a time.
#[cfg(target_arch = "x86_64")]
const AT_ONCE: usize = 256;
/// Beyond that, pieces of so many bytes are copied and then checksummed while they are close. Wide copies have many more
/// lines under way between two processors than eight bytes at a time can have.
#[cfg(target_arch = "x86_64")]
const PIECE: usize = 3072;

/// Copies `len` bytes.
///
/// The system's copy is used for short ones only: for long ones it takes `rep movsb`, which some processors do at a byte a
/// nanosecond if the two addresses lie unluckily (seen on AMD's third generation; ours always do, by the header's length).
///
/// # Safety
///
/// `from` must be readable and `to` writable for `len` bytes, and the two must not overlap.
#[inline(always)]
pub(crate) unsafe fn plain(from: *const u8, to: *mut u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    if len >= x86::WIDE && std::arch::is_x86_feature_detected!("avx") {
        // SAFETY: the caller's promise, and the instructions are there.
        return unsafe { x86::wide(from, to, len) };
    }
    // SAFETY: the caller's promise.
    unsafe { core::ptr::copy_nonoverlapping(from, to, len) };
}

/// # Safety
///
/// As [`copy`].
#[cfg(target_arch = "x86_64")]
#[inline(never)]
unsafe fn in_pieces(mut crc: u32, from: *const u8, to: *mut u8, len: usize, private_to: bool) -> u32 {
    let private = if private_to { to.cast_const() } else { from };
    let mut at = 0;
    while at < len {
        let piece = PIECE.min(len - at);
        // SAFETY: `at + piece` is at most `len`.
        unsafe { plain(from.add(at), to.add(at), piece) };
        // SAFETY: the same piece of the private one, written to by nobody else.
        crc = over(crc, unsafe { core::slice::from_raw_parts(private.add(at), piece) });
        at += piece;
    }
    crc
}

/// The same by `crc-fast`.
pub(crate) fn portable(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(crc));
    digest.update(bytes);
    digest.get_state() as u32
}

/// The register behind four words and a half, least significant bytes first.
#[inline(always)]
pub(crate) fn words(words: [u64; 4], half: u32) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if x86::present() {
        // SAFETY: the instruction is there.
        let crc = words.into_iter().fold(u64::from(!0_u32), |crc, word| unsafe { x86::value(crc, word) });
        // SAFETY: the instruction is there.
        return unsafe { x86::half_value(crc as u32, half) };
    }
    let crc = words.into_iter().fold(!0, |crc, word| portable(crc, &word.to_le_bytes()));
    portable(crc, &half.to_le_bytes())
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::asm;
    use core::arch::x86_64::{
        _mm_clmulepi64_si128, _mm_crc32_u64, _mm_cvtsi32_si128, _mm_cvtsi128_si64, _mm256_zeroupper,
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
    pub(super) unsafe fn wide(from: *const u8, to: *mut u8, len: usize) {
        let last = len - 128;
        let mut at = 0;
        loop {
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

    #[inline(always)]
    pub(super) fn present() -> bool {
        std::arch::is_x86_feature_detected!("sse4.2")
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
        let words = len & !7;
        let mut at = 0;
        while at < words {
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
        let all = bytes(9000);
        let lengths = (0..=1100).chain([3071, 3072, 3073, 3072 + 768 + 192 + 9, 8191, 8999]);
        for len in lengths {
            for skew in [0, 1] {
                let from = &all[skew..skew + len];
                let want = slow(!0, from);
                assert_eq!(over(!0, from), want, "{len}");
                assert_eq!(portable(!0, from), want, "{len}");
                for private_to in [false, true] {
                    let mut to = vec![0xee; len + 2];
                    // SAFETY: both slices have `len` bytes there and are different memory.
                    let got = unsafe { copy(!0, from.as_ptr(), to[1..].as_mut_ptr(), len, private_to) };
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
        assert_eq!(words(all, 0x89ab_cdef), slow(!0, &bytes));
    }
}
