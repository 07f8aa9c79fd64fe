//! `watch` as a service: readiness, pings, reload, settings, metrics and health.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringward_recovery::{Durability, From};
use serde_json::Value;

use crate::bed::{Bed, lines};

/// One that says nothing for so long hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// A `ringward watch --json`, whose lines are read as they come.
struct Daemon {
    child: Child,
    lines: Receiver<String>,
}

impl Daemon {
    fn start(bed: &Bed, args: &[&str], more: impl FnOnce(&mut Command)) -> Daemon {
        let often: &[&str] = if args.contains(&"--interval") { &[] } else { &["--interval", "5ms"] };
        let mut command = bed.command(&[&["watch", "--json"], often, args].concat());
        command.stdin(Stdio::null()).stderr(Stdio::null());
        more(&mut command);
        let mut child = command.spawn().unwrap();
        let (sent, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sent.send(line)));
        Daemon { child, lines }
    }

    /// The next line that has this event; those before it are passed over.
    fn next(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.lines.recv_timeout(LIMIT).expect("it ended, or says nothing");
            let value: Value = serde_json::from_str(&line).unwrap();
            if wanted(&value) {
                return value;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.child.wait().unwrap().code(), Some(143));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is(event: &'static str) -> impl Fn(&Value) -> bool {
    move |value| value["event"] == event
}

fn of(channel: &'static str, verdict: &'static str) -> impl Fn(&Value) -> bool {
    move |value| value["channel"] == channel && value["verdict"] == verdict
}

fn request(address: &str, request: &str) -> (String, String) {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    (head.to_owned(), body.to_owned())
}

fn get(address: &str, path: &str) -> (String, String) {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
}

/// A sample: name, labels, value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Parses Prometheus's text format, version 0.0.4, and refuses what Prometheus refuses: samples of a metric that was not announced, or apart
/// from its announcement, doubled ones, names and labels that can't be.
fn parse(text: &str) -> Vec<Sample> {
    assert!(text.ends_with('\n'));
    let name_ok = |name: &str| {
        let first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
        name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit())
    };
    let mut samples: Vec<Sample> = Vec::new();
    let (mut announced, mut current) = (BTreeSet::new(), String::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(help.split_once(' ').is_some_and(|(name, text)| name_ok(name) && !text.is_empty()), "{line}");
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(announced.insert(name.to_owned()), "{name} is announced twice");
            current = name.to_owned();
            continue;
        }
        let (name, rest) = line.split_once('{').unwrap_or_else(|| panic!("{line}"));
        assert_eq!(name, current, "a sample apart from its metric: {line}");
        let mut labels = BTreeMap::new();
        let mut rest = rest;
        loop {
            let (label, more) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(name_ok(label) && !label.contains(':'), "{line}");
            let (mut value, mut chars) = (String::new(), more.char_indices());
            let end = loop {
                match chars.next().unwrap_or_else(|| panic!("{line}")) {
                    (at, '"') => break at,
                    (_, '\\') => match chars.next() {
                        Some((_, 'n')) => value.push('\n'),
                        Some((_, c @ ('"' | '\\'))) => value.push(c),
                        other => panic!("{other:?} in {line}"),
                    },
                    (_, c) => value.push(c),
                }
            };
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            match more[end + 1..].split_at(1) {
                (",", more) => rest = more,
                ("}", more) => {
                    let value: f64 = more.strip_prefix(' ').unwrap().parse().unwrap_or_else(|_| panic!("{line}"));
                    assert!(!samples.iter().any(|(n, l, _)| n == name && *l == labels), "twice: {line}");
                    samples.push((name.to_owned(), labels, value));
                    break;
                }
                _ => panic!("{line}"),
            }
        }
    }
    samples
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let fits = |sample: &&Sample| {
        sample.0 == name && labels.iter().all(|(label, value)| sample.1.get(*label).is_some_and(|found| found == value))
    };
    samples.iter().find(fits).map(|sample| sample.2)
}

#[test]
fn metrics_tell_what_there_is_and_what_happened() {
    let bed = Bed::new();
    let mut send = bed.start(&["send", "c", "--readers", "1", "--capacity", "64KiB", "--events", "json"]);
    send.note("writing");
    let slow = bed.channel().reader("slow", Durability::Durable, From::Oldest).unwrap();
    send.feed(&lines(0..10));
    let ls = || serde_json::from_slice::<Value>(&bed.run(&["ls", "--json"], b"").code(0).stdout).unwrap();
    bed.until("10 records are there", || ls()["channels"][0]["next_sequence"] == 10);
    let mut daemon = Daemon::start(&bed, &["--listen", "127.0.0.1:0", "--mode", "reclaim", "--grace", "0"], |_| {});
    let address = daemon.next(is("listening"))["address"].as_str().unwrap().to_owned();
    daemon.next(of("c", "live"));
    let scrape = || {
        let (head, body) = get(&address, "/metrics");
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
        parse(&body)
    };
    let c = ("channel", "c");
    // The first look may not have been counted yet.
    bed.until("the look is counted", || value(&scrape(), "ringward_channels", &[]) == Some(1.0));
    let samples = scrape();
    assert_eq!(value(&samples, "ringward_channel_verdict", &[c, ("verdict", "live"), ("id", "RW-WD-LIVE")]), Some(1.0));
    assert_eq!(value(&samples, "ringward_channel_generation", &[c, ("namespace", "test")]), Some(1.0));
    assert_eq!(value(&samples, "ringward_channel_records_total", &[c]), Some(10.0));
    assert_eq!(
        value(&samples, "ringward_reader_lag_records", &[c, ("reader", "slow"), ("kind", "durable")]),
        Some(10.0)
    );
    assert_eq!(value(&samples, "ringward_reader_alive", &[c, ("reader", "slow")]), Some(1.0));
    assert_eq!(value(&samples, "ringward_channel_writer_held", &[c]), Some(1.0));
    assert!(value(&samples, "ringward_channel_silent_seconds", &[c]).is_some());
    assert!(
        value(&samples, "ringward_filesystem_free_bytes", &[])
            <= value(&samples, "ringward_filesystem_size_bytes", &[])
    );
    // Every metric that is announced has samples here, but for what needs an orphan.
    let names: BTreeSet<String> = samples.iter().map(|sample| sample.0.clone()).collect();
    assert!(names.len() >= 22, "{names:?}");

    // A death and a succession are counted, and a channel that was nobody's.
    send.kill();
    daemon.next(of("c", "draining"));
    bed.until("the death is counted", || value(&scrape(), "ringward_channel_deaths_total", &[c]) == Some(1.0));
    let next = bed.start(&["send", "c", "--events", "json"]);
    next.note("writing");
    bed.until("the succession is counted", || {
        value(&scrape(), "ringward_channel_successions_total", &[c]) == Some(1.0)
    });
    assert_eq!(value(&scrape(), "ringward_channel_deaths_total", &[c]), Some(1.0));
    next.end().code(0);
    // Closed in order: that is no death.
    bed.until("the close is seen", || value(&scrape(), "ringward_channel_writer_held", &[c]) == Some(0.0));
    assert_eq!(value(&scrape(), "ringward_channel_deaths_total", &[c]), Some(1.0));
    bed.run(&["send", "old"], b"x\n").code(0);
    daemon.next(|value| value["channel"] == "old" && value["done"] == "reclaimed");
    bed.until("it is counted", || value(&scrape(), "ringward_reclaims_total", &[]) == Some(1.0));
    assert!(value(&scrape(), "ringward_channel_verdict", &[("channel", "old")]).is_none());
    drop(slow);
    daemon.stop();
}

#[test]
fn health_and_strange_requests() {
    let bed = Bed::new();
    bed.run(&["watch", "--listen", "256.0.0.1:1"], b"").code(2);
    let mut daemon = Daemon::start(&bed, &["--listen", "127.0.0.1:0"], |_| {});
    let address = daemon.next(is("listening"))["address"].as_str().unwrap().to_owned();
    let taken = bed.run(&["watch", "--listen", &address], b"").code(1);
    assert!(taken.stderr.contains("RW-CTL-LISTEN"), "{}", taken.stderr);
    let (head, body) = get(&address, "/healthz");
    assert!(
        head.starts_with("HTTP/1.1 200") && serde_json::from_str::<Value>(&body).unwrap()["well"] == true,
        "{head}{body}"
    );
    assert!(get(&address, "/metrics?x=1").0.starts_with("HTTP/1.1 200"));
    assert!(get(&address, "/").0.starts_with("HTTP/1.1 404"));
    assert!(request(&address, "POST /metrics HTTP/1.1\r\n\r\n").0.starts_with("HTTP/1.1 405"));
    let (head, body) = request(&address, "HEAD /healthz HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200") && body.is_empty());
    // Longer than a request may be.
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000));
    let mut client = TcpStream::connect(&address).unwrap();
    let _ = client.write_all(long.as_bytes());
    // Gone before it is answered: the next one is.
    drop(client);
    drop(TcpStream::connect(&address).unwrap());
    assert!(get(&address, "/healthz").0.starts_with("HTTP/1.1 200"));
    daemon.stop();
}

#[test]
fn the_service_manager_is_told() {
    let bed = Bed::new();
    let path = bed.root().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let receive = |wanted: &str| {
        loop {
            let mut buf = [0; 512];
            let len = socket.recv(&mut buf).unwrap();
            let text = String::from_utf8(buf[..len].to_vec()).unwrap();
            if text.split('\n').any(|line| line.starts_with(wanted)) {
                return text;
            }
        }
    };
    let daemon = Daemon::start(&bed, &[], |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "20000");
    });
    assert!(receive("READY=1").contains("STATUS=0 channels"));
    receive("WATCHDOG=1");
    daemon.signal(Signal::SIGHUP);
    assert!(receive("RELOADING=1").contains("\nMONOTONIC_USEC="));
    daemon.signal(Signal::SIGTERM);
    receive("STOPPING=1");
}

#[test]
fn a_hang_up_reads_the_settings_again_and_bad_ones_change_nothing() {
    let bed = Bed::new();
    let file = bed.root().join("watch.toml");
    std::fs::write(&file, "grace = \"0\"\n").unwrap();
    bed.run(&["send", "old"], b"x\n").code(0);
    let mut daemon = Daemon::start(&bed, &["--config", file.to_str().unwrap()], |_| {});
    let notice = daemon.next(of("old", "orphaned"));
    assert_eq!(notice["done"], "nothing");
    std::fs::write(&file, "mode = \"kill\"\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    bed.run(&["send", "other"], b"x\n").code(0);
    assert_eq!(daemon.next(of("other", "orphaned"))["done"], "nothing");
    assert!(bed.root().join("test/old").exists());
    std::fs::write(&file, "grace = \"0\"\nmode = \"reclaim\"\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.next(|value| value["channel"] == "old" && value["done"] == "reclaimed");
    daemon.stop();
    std::fs::write(&file, "grace = \"soon\"\n").unwrap();
    bed.run(&["watch", "--once", "--config", file.to_str().unwrap()], b"").code(1).says("RW-CTL-CONFIG");
}

#[test]
fn the_end_of_a_writers_process_is_noticed_without_waiting_for_the_interval() {
    let bed = Bed::new();
    let send = bed.start(&["send", "c", "--no-close", "--events", "json"]);
    send.note("writing");
    // The next look by the clock would come long after this test has given up.
    let mut daemon = Daemon::start(&bed, &["--interval", "3600s"], |_| {});
    daemon.next(of("c", "live"));
    let killed = send.kill();
    assert!(killed.status.code().is_none());
    daemon.next(|value| value["channel"] == "c" && value["verdict"] != "live");
    daemon.stop();
}

#[test]
fn a_namespace_that_was_removed_is_followed() {
    let bed = Bed::new();
    bed.run(&["send", "c"], b"x\n").code(0);
    let mut daemon = Daemon::start(&bed, &[], |_| {});
    daemon.next(of("c", "orphaned (within grace)"));
    std::fs::remove_dir_all(bed.root().join("test")).unwrap();
    bed.until("the watchdog made it again", || bed.root().join("test").is_dir());
    bed.run(&["send", "d"], b"x\n").code(0);
    daemon.next(of("d", "orphaned (within grace)"));
    daemon.stop();
}
