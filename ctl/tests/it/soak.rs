//! A file goes through a channel whose sender and receiver are killed over and over, and comes out whole.
//!
//! `RINGWARD_SOAK_MIB`, `RINGWARD_SOAK_KILLS` and `RINGWARD_SOAK_FILE` scale it up.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use sha2::{Digest, Sha256};

use crate::bed::Bed;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// Chooses when to kill: at random, up to a most that follows the work, so that the kills spread over the whole file on fast
/// and slow machines. After enough of them it only grows, so that the run ends.
struct Killer {
    random: StdRng,
    most: Duration,
    enough: u64,
    /// All kills.
    kills: u64,
    /// Those that hit somebody at work: a sender that had the channel, a receiver that had written.
    at_work: u64,
}

impl Killer {
    fn new(seed: u64, enough: u64) -> Killer {
        Killer { random: StdRng::seed_from_u64(seed), most: Duration::from_millis(12), enough, kills: 0, at_work: 0 }
    }

    fn delay(&mut self) -> Duration {
        self.most.mul_f64(self.random.random::<f64>())
    }

    /// Takes note of a kill, after which this share of the work was done.
    fn killed(&mut self, at_work: bool, share: f64) {
        self.kills += 1;
        self.at_work += u64::from(at_work);
        let factor = match () {
            () if self.at_work >= self.enough => 1.2,
            () if !at_work => 1.05,
            () if share * self.enough as f64 > self.at_work as f64 => 0.8,
            () => 1.1,
        };
        self.most = self.most.mul_f64(factor).max(Duration::from_millis(1));
    }
}

#[derive(Debug, Default)]
struct Figures {
    frames: u64,
    redelivered: u64,
    torn: u64,
}

/// Reads the frames of one incarnation: hashes each record once.
fn apply(path: &Path, next: &mut u64, hash: &mut Sha256, figures: &mut Figures) {
    let len = std::fs::metadata(path).unwrap().len();
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path).unwrap());
    let mut at = 0;
    let mut payload = Vec::new();
    while len - at >= 16 {
        let mut header = [0; 16];
        reader.read_exact(&mut header).unwrap();
        let sequence = u64::from_le_bytes(header[..8].try_into().unwrap());
        payload.resize(u32::from_le_bytes(header[12..].try_into().unwrap()) as usize, 0);
        at += 16;
        if len - at < payload.len() as u64 {
            break;
        }
        reader.read_exact(&mut payload).unwrap();
        at += payload.len() as u64;
        figures.frames += 1;
        match sequence.cmp(next) {
            std::cmp::Ordering::Less => figures.redelivered += 1,
            std::cmp::Ordering::Equal => {
                hash.update(&payload);
                *next += 1;
            }
            std::cmp::Ordering::Greater => panic!("{path:?}: record {sequence} where {next} should be"),
        }
    }
    figures.torn += u64::from(at < len);
}

fn hash_file(path: &Path) -> Vec<u8> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).unwrap();
    let mut buf = vec![0; 1 << 20];
    loop {
        match file.read(&mut buf).unwrap() {
            0 => return hash.finalize().to_vec(),
            got => hash.update(&buf[..got]),
        }
    }
}

fn source(dir: &Path, mib: u64, seed: u64) -> PathBuf {
    if let Some(path) = std::env::var_os("RINGWARD_SOAK_FILE") {
        return path.into();
    }
    let path = dir.join("source");
    let mut file = File::create(&path).unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let mut buf = vec![0; 1 << 20];
    for _ in 0..mib {
        random.fill_bytes(&mut buf);
        file.write_all(&buf).unwrap();
    }
    file.write_all(b"and a last, short chunk").unwrap();
    path
}

/// The channel's newest generation and the sequence number that comes next.
fn stands(bed: &Bed) -> (u64, u64) {
    let chain = bed.channel().inspect().unwrap_or_default();
    let Some(newest) = chain.last() else { return (0, 0) };
    match newest.seen.as_ref().map(|seen| seen.published) {
        Ok(ringward_ring::cursor::Reading::Sound(mark)) => (newest.number, mark.sequence),
        _ => (newest.number, 0),
    }
}

/// Runs the whole: `one_file` has all receivers append to one file with `--output`, else each has a stream of its own.
fn soak(mib: u64, kills: u64, one_file: bool) {
    let seed = setting("RINGWARD_SOAK_SEED", rand::random());
    println!("seed {seed}: {mib} MiB, {kills} kills of each");
    let bed = Bed::with_limit(Duration::from_secs(120 + mib * 2));
    let scratch = tempfile::tempdir().unwrap();
    let source = source(scratch.path(), mib, seed);
    let expected = hash_file(&source);
    let began = Instant::now();
    let total = std::fs::metadata(&source).unwrap().len();
    let chain_full = AtomicU64::new(0);
    let mut outputs = Vec::new();
    let (mut send_killer, mut recv_killer) = (Killer::new(seed ^ 1, kills), Killer::new(seed ^ 2, kills));
    let mut generations = 0;
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let killer = &mut send_killer;
            let mut last = 0;
            loop {
                let mut command = bed.command(&["send", "c", "--frame", "chunk:4096", "--resume", "--readers", "1"]);
                command.stdin(File::open(&source).unwrap());
                let send = bed.spawn(command);
                let end = Instant::now() + killer.delay();
                while Instant::now() < end && send.running() {
                    std::thread::sleep(Duration::from_micros(200));
                }
                let ended = if send.running() { send.kill() } else { send.wait() };
                match ended.status.code() {
                    None => {
                        let (generation, next) = stands(&bed);
                        killer.killed(generation > last, next as f64 * 4096.0 / total as f64);
                        last = generation;
                    }
                    Some(0) => return,
                    Some(1) if ended.stderr.contains("RW-OPEN-CHAIN") => {
                        chain_full.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    code => panic!("sender ended with {code:?}: {}", ended.stderr),
                }
            }
        });
        let killer = &mut recv_killer;
        let mut written = 0;
        loop {
            let mut args = vec!["recv", "c", "--durable", "--name", "d", "--framed"];
            let path =
                scratch.path().join(if one_file { "out".to_owned() } else { format!("out-{:05}", outputs.len()) });
            if one_file {
                args.extend(["--output", path.to_str().unwrap()]);
            }
            let mut command = bed.command(&args);
            if !one_file {
                command.stdout(File::create(&path).unwrap());
            }
            let recv = bed.spawn(command);
            let end = Instant::now() + killer.delay();
            while Instant::now() < end && recv.running() {
                std::thread::sleep(Duration::from_micros(200));
            }
            let ended = if recv.running() { recv.kill() } else { recv.wait() };
            let len = std::fs::metadata(&path).map_or(0, |meta| meta.len());
            let now = if one_file { len } else { written + len };
            outputs.push(path);
            match ended.status.code() {
                None => killer.killed(now > written, now as f64 / total as f64),
                Some(0) => break,
                // Never joined before all was over: impossible, the sender waits for it.
                code => panic!("receiver ended with {code:?}: {}", ended.stderr),
            }
            written = now;
        }
        sender.join().unwrap();
        generations = bed.channel().inspect().unwrap().last().unwrap().number;
    });
    let took = began.elapsed();
    if one_file {
        outputs.truncate(1);
    }
    let (mut next, mut hash, mut figures) = (0, Sha256::new(), Figures::default());
    for output in &outputs {
        apply(output, &mut next, &mut hash, &mut figures);
    }
    let (send_kills, recv_kills) = (send_killer.kills, recv_killer.kills);
    println!(
        "{took:.1?}: sender killed {send_kills} times, {} of them as the owner of the channel, receiver {recv_kills} times, {} of \
         them after it had written; {generations} generations; {next} records, {} frames, {} redelivered, {} torn ends; chain full {} times",
        send_killer.at_work,
        recv_killer.at_work,
        figures.frames,
        figures.redelivered,
        figures.torn,
        chain_full.into_inner()
    );
    assert_eq!(hash.finalize().to_vec(), expected, "the file came out other than it went in");
    if one_file {
        assert_eq!((figures.redelivered, figures.torn), (0, 0), "each record once");
    }
    assert!(send_kills >= kills && recv_kills >= kills, "inconclusive: too few kills ({send_kills}, {recv_kills})");
}

#[test]
fn a_file_survives_killed_senders_and_receivers() {
    soak(setting("RINGWARD_SOAK_MIB", 32), setting("RINGWARD_SOAK_KILLS", 20), false);
}

#[test]
fn a_file_of_frames_survives_killed_senders_and_receivers() {
    soak(setting("RINGWARD_SOAK_MIB", 16).min(64), setting("RINGWARD_SOAK_KILLS", 10), true);
}
