//! Any bytes as a file that `chaos` is handed: a plan or a violation's file (`replay`, `shrink`), a report (`run --resume`, `report`). Nothing
//! is performed.
//!
//! Invariant: each reader is total, and says what is wrong; what it accepts is within the bounds of the command line and names no file;
//! a plan goes through its printed form unchanged, each smaller plan of it too, and shrinking comes to an end, at the least plan that
//! has the fault; what a report is turned into is text that XML can hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringward_chaos::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(read) = std::str::from_utf8(bytes).map_err(drop).and_then(|text| fuzzing::read(text).map_err(drop)) {
        round_trip(&read);
        for plan in &read.smaller {
            assert_ne!(*plan, read.plan, "not smaller");
            round_trip(&again(plan));
        }
        if let Some(least) = &read.least {
            let words: Vec<&str> = least.split_ascii_whitespace().collect();
            let count = |word: &str| words.iter().filter(|other| **other == word).count();
            assert_eq!((count("trial"), count("fault")), (1, 1), "{least}");
            assert!(words.contains(&"readers=1") && words.contains(&"standbys=1"), "{least}");
            assert!(words.contains(&"after=1") || words.contains(&"after=0"), "{least}");
        }
        if let Some(Ok(line)) = &read.storm {
            assert!(!read.files, "a file that was handed over says where this machine writes: {line}");
            can_be(line);
        }
    }
    if let Ok(line) = fuzzing::resumed(bytes) {
        can_be(&line);
    }
    if let Ok([_, xml, html]) = fuzzing::rendered(bytes) {
        for text in [xml, html] {
            let odd =
                text.chars().find(|c| (c.is_control() && !"\n\t".contains(*c)) || "\u{fffe}\u{ffff}".contains(*c));
            assert_eq!(odd, None);
        }
    }
});

/// What was printed is read.
fn again(plan: &str) -> fuzzing::Read {
    fuzzing::read(plan).unwrap_or_else(|error| panic!("{error}:\n{plan}"))
}

fn round_trip(read: &fuzzing::Read) {
    assert!(read.same, "another plan than was printed:\n{}", read.plan);
    assert_eq!(again(&read.plan).plan, read.plan);
    within_bounds(&read.plan);
}

/// With a decoder of its own.
fn within_bounds(plan: &str) {
    let mut faults = 0;
    for line in plan.lines().skip(2) {
        let number = |key: &str| {
            let word = line.split(' ').find_map(|word| word.strip_prefix(key)).expect("the key is there");
            word.strip_prefix("0x")
                .map_or_else(|| word.parse(), |digits| u64::from_str_radix(digits, 16))
                .expect("a number")
        };
        if line.starts_with("trial ") {
            faults = 0;
            assert!((1..=8).contains(&number("readers=")) && (1..=8).contains(&number("standbys=")), "{line}");
            let capacity = number("capacity=");
            assert!(capacity.is_power_of_two() && (4096..=1 << 20).contains(&capacity), "{line}");
            assert!(number("watchdog=") <= 1, "{line}");
        } else {
            faults += 1;
            assert!(line.starts_with("fault ") && faults <= 64 && number("after=") <= 100_000, "{line}");
            number("word=");
        }
    }
}

/// A command line of a run that this program accepts.
fn can_be(line: &str) {
    let words: Vec<&str> = line.split(' ').skip(2).collect();
    assert!(fuzzing::accepted(&words), "{line}");
}
