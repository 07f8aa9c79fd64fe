//! Any bytes as a copied segment. Invariant: the decoder is total: it ends, never panics, and says the same about the same bytes twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringward_ring::checksum::crc32c;
use ringward_ring::image::decode;
use ringward_ring::layout::IDENTITY_LEN;

fuzz_target!(|bytes: &[u8]| {
    look(bytes);
    // And with an identity whose checksum is right, so that the fuzzer gets behind it.
    if bytes.len() >= IDENTITY_LEN {
        let mut signed = bytes.to_vec();
        let crc = crc32c(&signed[..IDENTITY_LEN - 4]);
        signed[IDENTITY_LEN - 4..IDENTITY_LEN].copy_from_slice(&crc.to_le_bytes());
        look(&signed);
    }
});

fn look(bytes: &[u8]) {
    let image = decode(bytes);
    let findings: Vec<String> = image.findings.iter().map(ToString::to_string).collect();
    let pieces = image.pieces().count();
    let again = decode(bytes);
    assert_eq!(findings, again.findings.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(pieces, again.pieces().count());
    let _ = image.to_string();
}
