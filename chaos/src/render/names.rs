//! Mangled names, made readable: enough for labels.

/// The last two parts of a mangled Rust name; other names as they are.
pub(super) fn short(name: &str) -> String {
    if !name.starts_with("_ZN") && !name.starts_with("_R") {
        return name.to_owned();
    }
    let mut parts: Vec<&str> = Vec::new();
    let mut rest = &name[2..];
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        rest = &rest[at..];
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let part = rest[..digits].parse::<usize>().ok().and_then(|len| {
            let tail = &rest[digits..];
            let tail = if name.starts_with("_R") { tail.strip_prefix('_').unwrap_or(tail) } else { tail };
            tail.get(..len).map(|part| (part, tail))
        });
        match part.filter(|(part, _)| part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')) {
            Some((part, tail)) => {
                let hash = part.len() == 17 && part[1..].bytes().all(|byte| byte.is_ascii_hexdigit());
                if !hash && !part.contains('$') {
                    parts.push(part);
                }
                rest = &tail[part.len()..];
            }
            None => rest = &rest[1..],
        }
    }
    match &parts[..] {
        [] => name.to_owned(),
        [one] => (*one).to_owned(),
        [.., a, b] => format!("{a}::{b}"),
    }
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn names_are_readable() {
        for (mangled, plain) in [
            ("_ZN13ringward_ring6writer15Writer$LT$M$GT$8try_push17h5bd899fc7a13d675E", "writer::try_push"),
            ("_ZN8crc_fast22crc32_iscsi_calculator17hcb42f032cc8b1738E", "crc_fast::crc32_iscsi_calculator"),
            ("_RNvMs5_NtCsjrHSEGnQ3l9_3std4timeNtB5_10SystemTime11checked_add", "SystemTime::checked_add"),
            ("ringward_chaos_push", "ringward_chaos_push"),
            ("libc.so.6", "libc.so.6"),
            ("_ZN", "_ZN"),
            ("_R99999999999999999999999x", "_R99999999999999999999999x"),
        ] {
            assert_eq!(short(mangled), plain);
        }
    }
}
