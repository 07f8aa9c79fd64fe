//! What is written: type, length and bytes of a record follow from its nonce alone, so that a reader can check each byte
//! without having been told anything.

/// Bytes of a payload that an entry of the ledger holds.
pub(crate) const HEAD: usize = 12;

/// A small generator of numbers (SplitMix64): the same seed, the same numbers, on every machine.
#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Dice for one purpose of one process.
    pub(crate) fn new(seed: u64, salt: u64) -> Dice {
        let mut dice = Dice(seed ^ salt.wrapping_mul(0xd134_2543_de82_ef95));
        dice.next();
        dice
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// True with probability `p`.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        ((self.next() >> 11) as f64) < p * (1_u64 << 53) as f64
    }
}

/// The user record type that goes with a nonce.
pub(crate) fn record_type(nonce: u64) -> u32 {
    (nonce.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// Fills `buf` with the payload of `nonce`: the nonce itself, then noise that depends on it.
pub(crate) fn fill(nonce: u64, buf: &mut [u8]) {
    let mut noise = Dice(nonce);
    let mut word = nonce;
    for chunk in buf.chunks_mut(8) {
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        word = noise.next();
    }
}

/// The nonce that a payload claims; none if it is too short to hold one.
pub(crate) fn claimed(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// The first byte that is not what `nonce` asks for, if there is one.
pub(crate) fn first_wrong(nonce: u64, payload: &[u8]) -> Option<usize> {
    let mut noise = Dice(nonce);
    let mut word = nonce;
    for (at, chunk) in payload.chunks(8).enumerate() {
        let want = word.to_le_bytes();
        if chunk != &want[..chunk.len()] {
            return Some(at * 8 + chunk.iter().zip(want).position(|(found, want)| *found != want).unwrap_or(0));
        }
        word = noise.next();
    }
    None
}

/// The first bytes of a payload, padded with zeros.
pub(crate) fn head(payload: &[u8]) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let len = payload.len().min(HEAD);
    head[..len].copy_from_slice(&payload[..len]);
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_byte_is_found() {
        for len in [0, 1, 7, 8, 9, 64, 129] {
            let mut bytes = vec![0; len];
            fill(77 << 32 | 5, &mut bytes);
            assert_eq!(first_wrong(77 << 32 | 5, &bytes), None);
            for at in 0..len {
                bytes[at] ^= 0x10;
                assert_eq!(first_wrong(77 << 32 | 5, &bytes), Some(at), "length {len}");
                bytes[at] ^= 0x10;
            }
        }
    }
}
