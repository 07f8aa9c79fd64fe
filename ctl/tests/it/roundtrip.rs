//! What goes in comes out: lines, chunks, resumed senders, receivers that come back.

use std::fs::File;

use crate::bed::{Bed, frames, lines};

#[test]
fn lines_come_out_as_they_went_in() {
    for (input, payloads, with_newlines) in [
        (&b"a\n\nb\nlast"[..], &b"ablast"[..], &b"a\n\nb\nlast\n"[..]),
        (b"", b"", b""),
        (b"\n", b"", b"\n"),
        (b"\xff\x00\r\n\xfe", b"\xff\x00\r\xfe", b"\xff\x00\r\n\xfe\n"),
    ] {
        let bed = Bed::new();
        let raw = bed.start(&["recv", "c"]);
        let cooked = bed.start(&["recv", "c", "--newline", "--name", "n"]);
        bed.run(&["send", "c", "--readers", "2"], input).code(0);
        assert_eq!(raw.end().code(0).stdout, payloads);
        assert_eq!(cooked.end().code(0).stdout, with_newlines);
    }
}

#[test]
fn chunks_wrap_around_a_small_ring() {
    for checksum in ["full", "header"] {
        let bed = Bed::new();
        let bytes: Vec<u8> = (0..300_001u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let recv = bed.start(&["recv", "c", "--framed"]);
        let args = ["send", "c", "--frame", "chunk:1000", "--readers", "1", "--capacity", "4KiB", "--type", "7"];
        bed.run(&[&args[..], &["--checksum", checksum]].concat(), &bytes).code(0);
        let (got, torn) = frames(&recv.end().code(0).stdout);
        assert_eq!((got.len(), torn), (301, 0));
        assert!(got.iter().zip(0..).all(|(frame, n)| frame.sequence == n && frame.record_type == 7));
        assert_eq!(got.last().unwrap().payload.len(), 1);
        assert_eq!(got.concat_payloads(), bytes);
    }
}

trait Payloads {
    fn concat_payloads(&self) -> Vec<u8>;
}

impl Payloads for Vec<crate::bed::Frame> {
    fn concat_payloads(&self) -> Vec<u8> {
        self.iter().flat_map(|frame| frame.payload.clone()).collect()
    }
}

#[test]
fn a_resumed_sender_goes_on_where_the_channel_stands() {
    let bytes = lines(0..100);
    // How stdin is cut, and whether it is a file, which is skipped by seeking, or a pipe, which is read.
    for (frame, file, first) in
        [("lines", false, 417), ("chunk:64", false, 640), ("chunk:64", true, 640), ("lines", true, 417)]
    {
        let bed = Bed::new();
        let path = bed.root().join("input");
        std::fs::write(&path, &bytes).unwrap();
        let send = |input: &[u8], more: &[&str]| {
            let args = [&["send", "c", "--resume", "--events", "json", "--frame", frame][..], more].concat();
            if file {
                std::fs::write(&path, input).unwrap();
                let mut command = bed.command(&args);
                command.stdin(File::open(&path).unwrap());
                bed.spawn(command).wait()
            } else {
                bed.run(&args, input)
            }
        };
        // A newline ends at byte `first`, or the sender would (rightly) count half a line as a record.
        let cut = if frame == "lines" { bytes[..first].iter().rposition(|b| *b == b'\n').unwrap() + 1 } else { first };
        let recv = bed.start(&["recv", "c", "--framed", "--durable", "--name", "d"]);
        let half = send(&bytes[..cut], &["--no-close", "--readers", "1"]).code(0);
        let had = half.notes("done")[0]["next"].as_u64().unwrap();
        assert!(had > 5, "{half:?}");
        let rest = send(&bytes, &[]).code(0);
        assert_eq!(rest.notes("writing")[0]["skipped"], had);
        let (got, _) = frames(&recv.end().code(0).stdout);
        assert!(got.iter().zip(0..).all(|(frame, n)| frame.sequence == n), "{frame} {file}");
        let sep: &[u8] = if frame == "lines" { b"\n" } else { b"" };
        let all: Vec<u8> = got.iter().flat_map(|frame| [&frame.payload, sep].concat()).collect();
        assert_eq!(all, bytes, "{frame} {file}");
        // Nothing more to send is fine; a stdin that can't be what was sent is not.
        assert_eq!(send(&bytes, &["--no-close"]).code(0).notes("done")[0]["records"], 0);
        send(&bytes[..64], &[]).code(1).says("RW-CTL-RESUME");
    }
}

#[test]
fn a_durable_receiver_comes_back_to_where_it_was() {
    let bed = Bed::new();
    let first = bed.start(&["recv", "c", "--durable", "--name", "d", "--count", "10", "--newline"]);
    bed.run(&["send", "c", "--readers", "1", "--no-close"], &lines(0..30)).code(0);
    assert_eq!(first.end().code(0).stdout, lines(0..10));
    let again = ["recv", "c", "--durable", "--name", "d", "--newline"];
    let second = bed.run(&[&again[..], &["--count", "5"]].concat(), b"").code(0);
    assert_eq!(second.stdout, lines(10..15));
    let third = bed.run(&[&again[..], &["--timeout", "50ms"]].concat(), b"").code(3).says("RW-CTL-TIMEOUT");
    assert_eq!(third.stdout, lines(15..30));
    // Of a channel that is closed, somebody who was not there gets what is still there if he asks for it; the durable one
    // gets its rest.
    bed.run(&["send", "c"], &lines(30..40)).code(0);
    bed.run(&["recv", "c", "--from", "latest"], b"").code(3).says("RW-OPEN-CLOSED");
    let late = bed.run(&["recv", "c", "--from", "oldest", "--newline"], b"").code(0);
    assert_eq!(late.stdout, lines(30..40));
    assert_eq!(bed.run(&again, b"").code(0).stdout, lines(30..40));
}

#[test]
fn a_reader_may_begin_with_the_oldest_record() {
    let bed = Bed::new();
    let mut send = bed.start(&["send", "c", "--events", "json"]);
    send.feed(&lines(0..20));
    bed.until("20 records are there", || {
        let seen = bed.channel().inspect();
        seen.is_ok_and(|chain| {
            let seen = chain[0].seen.as_ref().unwrap();
            matches!(seen.published, ringward_ring::cursor::Reading::Sound(mark) if mark.sequence == 20)
        })
    });
    let recv = bed.run(&["recv", "c", "--from", "oldest", "--count", "20", "--lines"], b"").code(0);
    assert_eq!(recv.stdout, lines(0..20));
    send.end().code(0);
}

#[test]
fn a_file_of_frames_takes_each_record_once() {
    let bed = Bed::new();
    let path = bed.root().join("out");
    let path = path.to_str().unwrap();
    let args = ["recv", "c", "--framed", "--durable", "--name", "d", "--output", path];
    let first = bed.start(&[&args[..], &["--count", "10"]].concat());
    bed.run(&["send", "c", "--readers", "1"], &lines(0..30)).code(0);
    first.end().code(0);
    // As if it had been killed inside its next write.
    let mut bytes = std::fs::read(path).unwrap();
    bytes.extend(10u64.to_le_bytes());
    std::fs::write(path, &bytes).unwrap();
    bed.run(&args, b"").code(0).says("RW-EV-TORN");
    let (got, torn) = frames(&std::fs::read(path).unwrap());
    assert_eq!((got.len(), torn), (30, 0));
    assert!(got.iter().zip(0..).all(|(frame, n)| frame.sequence == n));
}

/// A frame's length in the middle of the file is damaged: what lies behind it is not a torn end, and is not cut off.
#[test]
fn a_damaged_length_in_the_middle_of_a_file_of_frames_costs_nothing_behind_it() {
    let bed = Bed::new();
    let path = bed.root().join("out");
    let args = ["recv", "c", "--framed", "--durable", "--name", "d", "--output", path.to_str().unwrap()];
    let first = bed.start(&[&args[..], &["--count", "30"]].concat());
    bed.run(&["send", "c", "--readers", "1", "--no-close"], &lines(0..30)).code(0);
    first.end().code(0);
    let whole = std::fs::read(&path).unwrap();
    let starts = {
        let mut starts = vec![0];
        while *starts.last().unwrap() < whole.len() {
            let at = *starts.last().unwrap();
            starts.push(at + 16 + u32::from_le_bytes(whole[at + 12..at + 16].try_into().unwrap()) as usize);
        }
        starts
    };
    // Each bit of some lengths: too long for the file, or within it.
    for frame in [1, 14, 26] {
        for bit in 0..32 {
            let mut damaged = whole.clone();
            damaged[starts[frame] + 12 + bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &damaged).unwrap();
            let ended = bed.run(&[&args[..], &["--timeout", "0s"]].concat(), b"");
            assert!(ended.stderr.contains("RW-CTL-OUTPUT"), "frame {frame} bit {bit}: {}", ended.stderr);
            assert_eq!(ended.status.code(), Some(1), "frame {frame} bit {bit}");
            assert_eq!(std::fs::read(&path).unwrap(), damaged, "frame {frame} bit {bit}");
        }
    }
    assert!(!bed.root().join("out.torn").exists());
    // And the whole one is gone on with.
    std::fs::write(&path, &whole).unwrap();
    bed.run(&["send", "c"], &lines(30..31)).code(0);
    bed.run(&args, b"").code(0);
    assert_eq!(frames(&std::fs::read(&path).unwrap()).0.len(), 31);
}

/// The namespace is removed and made again while receivers wait in the old one: who waits for his channel finds the new one, who was
/// reading is told.
#[test]
fn a_receiver_does_not_wait_in_a_namespace_that_was_removed() {
    let bed = Bed::new();
    let namespace = bed.namespace();
    let waits = bed.start(&["recv", "d", "--events", "json", "--from", "oldest", "--newline", "--wait", "30s"]);
    waits.note("waiting");
    let writer = bed.channel().writer().unwrap();
    let reads = bed.start(&["recv", "c", "--events", "json", "--timeout", "30s"]);
    reads.note("joined");
    std::fs::remove_dir_all(namespace.path()).unwrap();
    bed.run(&["send", "d"], b"hello\n").code(0);
    assert_eq!(waits.end().code(0).stdout, b"hello\n");
    reads.end().code(1).says("RW-RECV-GONE");
    drop(writer);
}
