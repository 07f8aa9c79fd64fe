//! Sizes and durations as people write them.

use std::time::Duration;

fn split(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(digits)
}

/// Bytes: `4096`, `4K`, `4KiB`, `1MiB`, `2GiB`; always powers of 1024.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is no size; write bytes (4096) or 4KiB, 1MiB, 2GiB");
    let (digits, unit) = split(text.trim());
    let number: u64 = digits.parse().map_err(|_| bad())?;
    let shift = match unit {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        _ => return Err(bad()),
    };
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} is more than 64 bits hold"))
}

/// As [`size`], for a record's payload.
pub(crate) fn payload_size(text: &str) -> Result<u32, String> {
    let bytes = size(text)?;
    u32::try_from(bytes).map_err(|_| format!("{text:?} is more than a record can have ({} bytes)", u32::MAX))
}

/// A time: `250ms`, `5s`, `2m`, `1h`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no time; write 250ms, 5s, 2m or 1h");
    let (digits, unit) = split(text.trim());
    let number: u64 = digits.parse().map_err(|_| bad())?;
    let whole = |seconds: u64| number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(bad);
    match unit {
        "us" => Ok(Duration::from_micros(number)),
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => whole(1),
        "m" => whole(60),
        "h" => whole(3600),
        _ => Err(bad()),
    }
}

/// Bytes for people: exact below 10 KiB, else with one decimal.
pub(crate) fn show_size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (unit, name) in UNITS {
        if bytes >= unit && (bytes.is_multiple_of(unit) || bytes >= 10 * unit || unit > 1 << 10) {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return match tenths % 10 {
                0 => format!("{} {name}", tenths / 10),
                tenth => format!("{}.{tenth} {name}", tenths / 10),
            };
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("4K", 4096), ("4KiB", 4096), ("1MiB", 1 << 20), ("2G", 2 << 30)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "K", "4 KiB", "-1", "4kb", "1.5M", "99999999999999999999", "18446744073709551615K"] {
            assert!(size(text).is_err(), "{text}");
        }
        for (text, ms) in [("250ms", 250), ("5s", 5000), ("5", 5000), ("2m", 120_000), ("1h", 3_600_000), ("2000us", 2)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1s", "1d", "18446744073709551615h"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for (bytes, text) in [(0, "0 B"), (4096, "4 KiB"), (5000, "5000 B"), (1 << 20, "1 MiB"), (1_600_000, "1.5 MiB")]
        {
            assert_eq!(show_size(bytes), text);
        }
    }
}
