//! A process that takes one role of a channel, for tests that kill it: `worker ROLE ROOT CHANNEL`.
//!
//! It says `ready` on standard output once it has its role, then plays it until it is killed or its channel ends.

use std::io::Write;
use std::time::Duration;

use ringward_recovery::{Action, Channel, Config, Durability, Event, From, Namespace, Outcome, Warmth, Watchdog};

fn say(what: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{what}").and_then(|()| out.flush());
}

fn write(mut writer: ringward_recovery::Writer) {
    say("ready");
    let mut payload = [0u8; 100];
    loop {
        payload[..8].copy_from_slice(&writer.next_sequence().to_le_bytes());
        if let Err(error) = writer.push(1, &payload) {
            say(&error.to_string());
            return;
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [role, root, name] = arguments.as_slice() else {
        eprintln!("usage: ringward-test-worker writer|standby|reader|durable|watchdog ROOT CHANNEL");
        std::process::exit(2);
    };
    let namespace = match Namespace::builder("test").root(root).open() {
        Ok(namespace) => namespace,
        Err(error) => return say(&error.to_string()),
    };
    let config = Config::default().capacity(1 << 16).when_full(ringward_recovery::WhenFull::Block(Duration::MAX));
    let channel = Channel::new(&namespace, name, config).expect("a good configuration");
    match role.as_str() {
        "writer" => match channel.writer() {
            Ok(writer) => write(writer),
            Err(error) => say(&error.to_string()),
        },
        "standby" => match channel.standby(Warmth::Hot) {
            Ok(mut standby) => loop {
                match standby.wait(Duration::from_secs(3600)) {
                    Ok(Outcome::Elected(writer)) => return write(*writer),
                    Ok(_) => {}
                    Err(error) => return say(&error.to_string()),
                }
            },
            Err(error) => say(&error.to_string()),
        },
        "reader" | "durable" => {
            let (durability, reader) = match role.as_str() {
                "reader" => (Durability::Ephemeral, "e"),
                _ => (Durability::Durable, "d"),
            };
            match channel.reader(reader, durability, From::Latest) {
                Ok(mut reader) => {
                    say("ready");
                    let mut buf = vec![0; reader.record_limit()];
                    loop {
                        match reader.recv(&mut buf, Duration::from_secs(3600)) {
                            Ok(Some(Event::Closed { .. })) => return,
                            Ok(_) => {}
                            Err(error) => return say(&error.to_string()),
                        }
                    }
                }
                Err(error) => say(&error.to_string()),
            }
        }
        "watchdog" => {
            let mut watchdog = Watchdog::builder(&namespace).action(Action::Reclaim).grace(Duration::ZERO).build();
            say("ready");
            loop {
                watchdog.tick();
            }
        }
        other => {
            eprintln!("no role {other:?}");
            std::process::exit(2);
        }
    }
}
