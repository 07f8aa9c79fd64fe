//! A namespace with a bit of everything, for those who look at what the tool prints; and what differs from run to run taken out of it.

use ringward_recovery::{Durability, From};

use crate::bed::{Bed, Tool, lines};

/// What must stay while the scene is looked at.
pub(crate) struct Scene {
    pub(crate) bed: Bed,
    _owner: Tool,
    _reader: ringward_recovery::Reader,
}

impl Scene {
    /// `c`: its first writer was killed, a second one writes; a durable reader is behind, another absent. `closed`: closed in order, nobody's.
    /// `broken`: cut. `loose`: nobody writes, a durable reader is to come back.
    pub(crate) fn new() -> Scene {
        let bed = Bed::new();
        let send = || {
            let sender = bed.start(&["send", "c", "--capacity", "64KiB", "--events", "json", "--heartbeat", "0"]);
            sender.note("writing");
            sender
        };
        let mut first = send();
        bed.absent("billing", From::Oldest);
        first.feed(&lines(0..20));
        bed.until_next(20);
        first.kill();
        let mut second = send();
        let reader = bed.channel().reader("ledger", Durability::Durable, From::Oldest).unwrap();
        second.feed(b"buy 100 at 17.25\nsell 40 at 17.30\nbuy 60 at 17.20\n");
        bed.until_next(23);
        bed.run(&["send", "closed"], b"x\n").code(0);
        bed.run(&["send", "broken", "--no-close"], b"x\n").code(0);
        let broken = bed.root().join("test/broken").join(ringward_recovery::generation_name(1));
        std::fs::OpenOptions::new().write(true).open(broken).unwrap().set_len(100).unwrap();
        bed.run(&["send", "loose", "--no-close"], b"x\ny\n").code(0);
        bed.run(&["recv", "loose", "--durable", "--name", "archive", "--timeout", "20ms"], b"").code(3);
        Scene { bed, _owner: second, _reader: reader }
    }

    pub(crate) fn text(&self, args: &[&str]) -> String {
        String::from_utf8(self.bed.run(args, b"").code(0).stdout).unwrap()
    }
}

/// The text with what has a digit, and the units behind it, as `#`, and with one blank for many: what is left is the same in each run.
pub(crate) fn masked(text: &str) -> String {
    let mask = |line: &str| {
        let mut words: Vec<&str> = Vec::new();
        for word in line.split_whitespace() {
            let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            let varies = word.contains(|c: char| c.is_ascii_digit())
                || word.starts_with('/')
                || matches!(bare, "B" | "KiB" | "MiB" | "GiB" | "ms")
                || (word.len() == 2 && word != "be" && word.bytes().all(|byte| byte.is_ascii_hexdigit()));
            match (varies, words.last()) {
                (true, Some(&"#")) => {}
                (true, _) => words.push("#"),
                (false, _) => words.push(word),
            }
        }
        words.join(" ")
    };
    text.lines().map(|line| mask(line) + "\n").collect()
}
