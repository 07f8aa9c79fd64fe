//! Crash at each step of Succeed: the state that a death or a stop there leaves, and whoever comes next.
//!
//! First by hand, so that every single word of the succession line is met undecided and decided; then with real processes,
//! stopped at every system call that they make on the way.

use std::sync::Arc;

use ringward_recovery::{Channel, Event, Outcome, Reader, SendError, Verdict, Warmth, Writer, generation_name};
use ringward_ring::build::{LinkError, Prepared};
use ringward_ring::segment::{Access, Segment};
use ringward_ring::succession;
use ringward_ring::word::{State, Successor};
use ringward_ring::writer::PushError;
use rstest::rstest;
use rustix::fd::AsFd;

use crate::attacks::{
    Alarm, SHORT, carried, decided_end, elected, follower, id, push_text, reclaim, skip, take, text, until, verdict,
    wait_until,
};
use crate::attacks_child::{At, DONE, Traced};
use crate::common::{Bed, config, durable};

/// How far the one who ends generation 1 has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// State `FENCING`, no end.
    Fencing,
    /// The end decided.
    Decided,
    /// Generation 2 built, without a name.
    Built,
    /// Linked as a candidate.
    Linked,
    /// Named by the successor word, still a candidate.
    Named,
    /// Open; the old state still `FENCING`.
    Opened,
    /// State `SUCCEEDED`; nobody woken.
    Told,
}

/// The one who ends generation 1, standing at a step. Dropped, it has died there.
struct Linker {
    old: Arc<Segment>,
    prepared: Option<Prepared>,
    next: Option<Arc<Segment>>,
}

impl Linker {
    fn at(bed: &Bed, step: Step, proved_dead: bool) -> Linker {
        let old = bed.attach(1, Access::Successor);
        let mut linker = Linker { old: Arc::clone(&old), prepared: None, next: None };
        assert_eq!(succession::fence_writer(&old, proved_dead), Ok(State::OPEN));
        if step >= Step::Decided {
            let end = succession::published_end(&old).unwrap();
            succession::decide_end(&old, Some(end.position)).unwrap();
        }
        if step >= Step::Built {
            linker.prepared = Some(follower(bed, &old, decided_end(&old), &carried(&old)));
        }
        if step >= Step::Linked {
            let dir = bed.dir();
            let linked = linker.prepared.take().unwrap().link(dir.as_fd(), &generation_name(2));
            linker.next = Some(Arc::new(linked.map_err(|(why, _)| why).unwrap()));
        }
        if let Some(next) = &linker.next {
            if step >= Step::Named {
                assert_eq!(succession::decide_successor(&old, id(next)), Ok(Successor::Segment(id(next))));
            }
            if step >= Step::Opened {
                succession::shift_state(next, State::CANDIDATE, State::OPEN);
            }
            if step >= Step::Told {
                succession::shift_state(&old, State::FENCING, State::SUCCEEDED);
            }
        }
        linker
    }

    /// It wakes up, and goes on from where it stood. It must find what the others made of it.
    fn wakes(self, bed: &Bed) {
        let dir = bed.dir();
        let next = match (self.prepared, self.next) {
            (Some(prepared), _) => match prepared.link(dir.as_fd(), &generation_name(2)) {
                Err((LinkError::Taken, _)) => return,
                Err((other, _)) => panic!("{other}"),
                // Generation 2 came and went meanwhile: its name is free again.
                Ok(next) => Arc::new(next),
            },
            (None, Some(next)) => next,
            (None, None) => return,
        };
        match succession::decide_successor(&self.old, id(&next)).unwrap() {
            Successor::Segment(named) if named == id(&next) => {
                assert_ne!(succession::state(&next), State::CANDIDATE, "whoever came by helped it");
            }
            other => {
                assert_ne!(other, Successor::Undecided);
                // Withdraw, as the one path does; and die before the unlink.
                succession::shift_state(&next, State::CANDIDATE, State::RETIRED);
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Old {
    Dead,
    /// Alive, and pushes as soon as the linker stands.
    Zombie,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum New {
    Dead,
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Writer,
    Standby,
    Reader,
    Watchdog,
}

#[rstest]
#[case::fencing(Step::Fencing)]
#[case::decided(Step::Decided)]
#[case::built(Step::Built)]
#[case::linked(Step::Linked)]
#[case::named(Step::Named)]
#[case::opened(Step::Opened)]
#[case::told(Step::Told)]
fn whoever_comes_after_a_crash_at_a_step_of_succeed_goes_on(#[case] step: Step) {
    let _alarm = Alarm::new();
    for old in [Old::Dead, Old::Zombie] {
        for new in [New::Dead, New::Stopped] {
            for next in [Next::Writer, Next::Standby, Next::Reader, Next::Watchdog] {
                eprintln!("{step:?}: writer {old:?}, linker {new:?}, then {next:?}");
                goes_on(step, old, new, next);
            }
        }
    }
}

fn goes_on(step: Step, old: Old, new: New, next: Next) {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut first = channel.writer().unwrap();
    let mut reader = Some(durable(&channel, "d"));
    push_text(&mut first, 0..3);
    let mut zombie = Some(first);
    if old == Old::Dead {
        zombie = None;
    }
    if next != Next::Reader {
        reader = None; // away; it comes back at the end
    }
    let linker = Linker::at(&bed, step, old == Old::Dead);
    let mut expected = text(0..3);
    if let Some(zombie) = &mut zombie {
        match zombie.push(0, b"3") {
            // It was first to say where its generation ends.
            Ok(3) => {
                assert_eq!(step, Step::Fencing);
                expected.push((3, b"3".to_vec()));
            }
            Err(SendError::Push(PushError::Fenced)) => assert!(step >= Step::Decided),
            other => panic!("{other:?}"),
        }
    }
    let linked = step >= Step::Linked;
    let mut linker = Some(linker).filter(|_| new == New::Stopped);
    let held = linked && new == New::Stopped;
    let mut writer: Option<Writer> = None;
    match next {
        Next::Writer if held => {
            // It is somebody: the first to have the name, and who knows, perhaps it wakes up.
            let error = channel.writer().unwrap_err();
            assert!(matches!(error, ringward_recovery::OpenError::Owned { generation: 2, .. }), "{error}");
            linker = None;
        }
        Next::Standby if held => {
            let mut standby = channel.standby(Warmth::Cold).unwrap();
            assert!(matches!(standby.wait(SHORT).unwrap(), Outcome::TimedOut));
            linker = None;
            let Outcome::Elected(elected) = standby.wait(crate::attacks::LONG).unwrap() else { panic!("not elected") };
            writer = Some(*elected);
        }
        Next::Writer => {}
        Next::Standby => writer = Some(elected(&channel, Warmth::Hot)),
        Next::Reader if step == Step::Fencing && old == Old::Dead => {
            // Nobody has said where it ends, and a reader may not: it takes nothing, and says that the writer is gone.
            assert_eq!(take(reader.as_mut().unwrap(), 0).0, []);
        }
        Next::Reader => {
            let (records, events) = take(reader.as_mut().unwrap(), expected.len());
            assert_eq!(records, expected);
            let moved = events.contains(&Event::Restarted { old: 1, new: 2 });
            assert_eq!(moved, linked, "{events:?}");
            expected.clear();
            if moved {
                assert_eq!(bed.names(), ["00000002.ring"], "drained, confirmed, unlinked");
            }
        }
        Next::Watchdog => {
            for _ in 0..3 {
                let report = reclaim(channel.namespace());
                let ok: &[Verdict] =
                    if held || (old == Old::Zombie && !linked) { &[Verdict::Live] } else { &[Verdict::Draining] };
                assert!(ok.contains(&verdict(&report)), "{report:?}");
            }
        }
    }
    if writer.is_none() && held && linker.is_some() {
        // The stopped one owns generation 2; end of its patience.
        writer = Some(channel.supersede().unwrap());
    }
    let mut writer = writer.unwrap_or_else(|| channel.writer().unwrap());
    let at = writer.next_sequence();
    assert_eq!(at, if old == Old::Zombie && step == Step::Fencing { 4 } else { 3 });
    push_text(&mut writer, at..at + 2);
    expected.extend(text(at..at + 2));
    let mut reader = reader.unwrap_or_else(|| durable(&channel, "d"));
    let (records, events) = take(&mut reader, expected.len());
    assert_eq!(records, expected, "{events:?}");
    assert!(!events.iter().any(|event| matches!(event, Event::Gap { .. })), "{events:?}");
    // Those who were stopped or taken for dead wake up.
    if let Some(zombie) = &mut zombie {
        assert!(matches!(zombie.push(0, b"late"), Err(SendError::Push(PushError::Fenced))));
    }
    if let Some(linker) = linker {
        linker.wakes(&bed);
    }
    push_text(&mut writer, at + 2..at + 3);
    assert_eq!(take(&mut reader, 1).0, text(at + 2..at + 3));
    channel.tidy().unwrap();
    assert_eq!(bed.names(), [generation_name(writer.generation())], "nothing of the others is left");
    reader.forget();
    drop((writer, zombie));
    reclaim(channel.namespace());
    assert_eq!(bed.entries(), [] as [&str; 0]);
}

/// Whoever comes while a candidate stands there unconfirmed, its linker stopped: he confirms it before he takes a place in it.
#[test]
fn a_candidate_is_confirmed_before_it_is_joined() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut first = channel.writer().unwrap();
    push_text(&mut first, 0..2);
    drop(first);
    let linker = Linker::at(&bed, Step::Linked, true);
    let candidate = linker.next.clone().unwrap();
    assert_eq!(succession::state(&candidate), State::CANDIDATE);
    let newcomer = channel.reader("new", ringward_recovery::Durability::Ephemeral, Default::default()).unwrap();
    assert_eq!(newcomer.generation(), 2);
    assert_eq!(succession::state(&candidate), State::OPEN, "joined as a candidate");
    assert_eq!(succession::successor(&linker.old), Ok(Successor::Segment(id(&candidate))));
}

/// A file has the next generation's name, and is open; but the successor word names another segment. No reader goes there.
#[test]
fn a_reader_goes_by_the_successor_word_and_not_by_the_name() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut first = channel.writer().unwrap();
    let mut reader = durable(&channel, "d");
    push_text(&mut first, 0..2);
    drop(first);
    let linker = Linker::at(&bed, Step::Linked, true);
    let impostor = linker.next.clone().unwrap();
    let another = ringward_ring::word::SegmentId::from_random(1 << 40);
    assert_ne!(another, id(&impostor));
    succession::decide_successor(&linker.old, another).unwrap();
    succession::shift_state(&impostor, State::CANDIDATE, State::OPEN);
    let (_, events) = take(&mut reader, 2);
    assert!(!events.iter().any(|event| matches!(event, Event::Restarted { .. })), "{events:?}");
    assert_eq!(reader.generation(), 1);
}

/// What a traced process does, and what stands before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// `writer()` after a death.
    Writer,
    /// `supersede()` of a living writer, which pushes later.
    Supersede,
    /// A hot standby after a death.
    Standby,
    /// A watchdog, over a channel with an undrained end and nobody alive.
    Watchdog,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Writer => "becomes-writer",
            Role::Supersede => "supersedes",
            Role::Standby => "is-elected",
            Role::Watchdog => "watches",
        }
    }
}

/// Stops a real process at each system call on its way, kills it there or leaves it standing, and lets others go on.
#[rstest]
#[case::writer(Role::Writer)]
#[case::supersede(Role::Supersede)]
#[case::standby(Role::Standby)]
#[case::watchdog(Role::Watchdog)]
fn killed_or_stopped_at_any_system_call_it_is_in_nobodys_way(#[case] role: Role) {
    let _alarm = Alarm::new();
    let mut calls = 0;
    loop {
        let kill = calls % 2 == 0;
        let next = [Next::Writer, Next::Standby, Next::Reader, Next::Watchdog][(calls / 2) % 4];
        // Neighbouring calls meet another continuation; on an odd round the same calls are met the other way round.
        match stopped_at(role, calls, kill, next) {
            Some(true) => calls += 1,
            Some(false) => break,
            None => return skip("tracing is not permitted here"),
        }
    }
    eprintln!("{role:?}: stopped at each of {calls} system calls");
    assert!(calls >= 10, "inconclusive: {calls} calls");
}

/// `Some(false)`: it ended before call number `n`. `None`: not permitted.
fn stopped_at(role: Role, n: usize, kill: bool, next: Next) -> Option<bool> {
    let bed = Bed::new();
    let channel = bed.channel(config());
    let mut old = channel.writer().unwrap();
    let mut reader = Some(durable(&channel, "d"));
    push_text(&mut old, 0..2);
    let mut zombie = (role == Role::Supersede).then_some(old);
    if next != Next::Reader {
        reader = None;
    }
    let mut kid = Traced::spawn(role.name(), &bed)?;
    if !kid.step_to(n) {
        return Some(false);
    }
    if std::env::var_os("RINGWARD_VERBOSE").is_some() {
        eprintln!("{role:?} {n}");
    }
    let context = format!("{role:?} at call {n}, {}, then {next:?}", if kill { "killed" } else { "stopped" });
    let mut kid = Some(kid);
    if kill {
        kid.take().unwrap().kill();
    }
    let mut expected = text(0..2);
    if let Some(zombie) = &mut zombie
        && let Ok(sequence) = zombie.push(0, b"2")
    {
        assert_eq!(sequence, 2, "{context}");
        expected.push((2, b"2".to_vec()));
    }
    match next {
        Next::Reader => {
            let reader = reader.as_mut().unwrap();
            let (records, _) = take_with_kid(reader, &expected, &context);
            expected.drain(..records);
        }
        Next::Watchdog => {
            reclaim(channel.namespace());
        }
        Next::Writer | Next::Standby => {}
    }
    let mut writer = follow(&channel, next, zombie.is_some(), &mut kid, &context);
    let at = writer.next_sequence();
    let mut reader = reader.unwrap_or_else(|| durable(&channel, "d"));
    writer.push(0, b"after").unwrap();
    // The child may have pushed its one record before it was stopped.
    let mut got = Vec::new();
    let mut buf = [0; 4096];
    while got.last().is_none_or(|(sequence, _)| *sequence != at) {
        match reader.recv(&mut buf, crate::attacks::LONG).unwrap() {
            Some(Event::Record { sequence, len, .. }) => got.push((sequence, buf[..len].to_vec())),
            Some(Event::Gap { .. }) | None => panic!("{context}: {got:?}"),
            Some(_) => {}
        }
    }
    let after = got.pop().unwrap();
    assert_eq!(after, (at, b"after".to_vec()), "{context}");
    let kid_pushed = got.last().is_some_and(|(_, payload)| payload == b"kid");
    if kid_pushed {
        got.pop();
    }
    assert_eq!(got, expected, "{context}");
    if let Some(zombie) = &mut zombie {
        assert!(matches!(zombie.push(0, b"late"), Err(SendError::Push(PushError::Fenced))), "{context}");
    }
    // The stopped one goes on: whatever it says, it has harmed nobody.
    if role == Role::Standby {
        // Else it would stand by as long as we write.
        writer.close().unwrap();
        let closed = kid.map(Traced::release);
        assert!(matches!(closed, None | Some(1 | 2)) || (kid_pushed && closed == Some(DONE)), "{context}: {closed:?}");
        reader.forget();
        reclaim(channel.namespace());
        assert_eq!(bed.entries(), [] as [&str; 0], "{context}");
        return Some(true);
    }
    if let Some(kid) = kid {
        match kid.release() {
            1 | 2 => {} // it was fenced, or found somebody else
            DONE if role == Role::Watchdog || kid_pushed => {}
            DONE if role == Role::Supersede => {
                // It had not looked yet whom it was to supersede: now it was us, by right.
                assert!(matches!(writer.push(0, b"late"), Err(SendError::Push(PushError::Fenced))), "{context}");
                writer = channel.writer().unwrap();
            }
            code => panic!("{context}: it ended with {code}"),
        }
    }
    let next = writer.push(0, b"more").unwrap();
    for sequence in at + 1..=next {
        let record = |event: &Event| matches!(event, Event::Record { .. } | Event::Gap { .. });
        let event = crate::attacks::until(&mut reader, record);
        assert!(matches!(event, Event::Record { sequence: got, .. } if got == sequence), "{context}: {event:?}");
    }
    channel.tidy().unwrap();
    assert_eq!(bed.names(), [generation_name(writer.generation())], "{context}");
    reader.forget();
    drop((writer, zombie));
    reclaim(channel.namespace());
    assert_eq!(bed.entries(), [] as [&str; 0], "{context}");
    Some(true)
}

/// Takes what is expected; a record of the child's own may follow it, and is left alone. Returns how many came.
fn take_with_kid(reader: &mut Reader, expected: &[(u64, Vec<u8>)], context: &str) -> (usize, ()) {
    let mut buf = [0; 4096];
    for want in expected {
        let event = crate::attacks::until(reader, |event| matches!(event, Event::Record { .. } | Event::Gap { .. }));
        let Event::Record { sequence, .. } = event else { panic!("{context}: {event:?}") };
        assert_eq!(sequence, want.0, "{context}");
    }
    // Moves on, if there is somewhere to go.
    let more = reader.recv(&mut buf, SHORT).unwrap();
    assert!(!matches!(more, Some(Event::Gap { .. })), "{context}: {more:?}");
    if let Some(Event::Record { len, .. }) = more {
        assert_eq!(&buf[..len], b"kid", "{context}");
    }
    (expected.len(), ())
}

/// Becomes the writer after whatever happened. A stopped one that has the channel already is told to be superseded.
fn follow(channel: &Channel, next: Next, zombie: bool, kid: &mut Option<Traced>, context: &str) -> Writer {
    if next == Next::Standby && !zombie && kid.is_none() {
        return elected(channel, Warmth::Hot);
    }
    match channel.writer() {
        Ok(writer) => writer,
        Err(ringward_recovery::OpenError::Owned { .. }) => {
            channel.supersede().unwrap_or_else(|e| panic!("{context}: {e}"))
        }
        Err(other) => panic!("{context}: {other}"),
    }
}

/// A rival stopped on its way, `linkat` still to come; two generations pass meanwhile, and its name is free again when it wakes. The
/// real code must find out by the successor word, and withdraw.
#[test]
fn a_rival_stopped_at_any_system_call_while_generations_pass_withdraws() {
    let _alarm = Alarm::new();
    let (mut calls, mut withdrawn) = (0, 0);
    loop {
        let bed = Bed::new();
        let channel = bed.channel(config());
        let mut writer = channel.writer().unwrap();
        let mut reader = durable(&channel, "d");
        push_text(&mut writer, 0..1);
        drop(writer);
        let Some(mut kid) = Traced::spawn("becomes-writer", &bed) else { return skip("tracing is not permitted here") };
        if !kid.step_to(calls) {
            break;
        }
        let linked = bed.names().contains(&generation_name(2));
        let ours = |channel: &Channel| channel.writer().or_else(|_| channel.supersede()).unwrap();
        drop(ours(&channel));
        let mut writer = ours(&channel);
        let at = writer.push(0, b"after").unwrap();
        until(&mut reader, |event| matches!(event, Event::Record { sequence, .. } if *sequence == at));
        reader.release();
        channel.tidy().unwrap();
        assert_eq!(bed.names(), [generation_name(writer.generation())], "call {calls}");
        let gone = writer.generation();
        let code = kid.release();
        // One that had the name is fenced (1) or has done already (42); one that had not finds a living writer (2).
        assert!(if linked { [1, 2, DONE].contains(&code) } else { code == 2 }, "call {calls}: it ended with {code}");
        withdrawn += usize::from(!linked);
        assert_eq!(writer.push(0, b"more").unwrap(), at + 1, "call {calls}");
        let next = until(&mut reader, |event| matches!(event, Event::Record { .. } | Event::Gap { .. }));
        assert!(matches!(next, Event::Record { sequence, .. } if sequence == at + 1), "call {calls}: {next:?}");
        channel.tidy().unwrap();
        assert_eq!(bed.names(), [generation_name(gone)], "call {calls}: nothing of the rival is left");
        calls += 1;
    }
    eprintln!("stopped at each of {calls} system calls, {withdrawn} of them before it had a name");
    assert!(withdrawn >= 20, "inconclusive: {withdrawn} of {calls}");
}

/// The same for a durable reader that opens its place: stopped at each system call, another comes for the same name.
#[test]
fn two_claims_on_one_name_at_any_system_call_make_one_holder() {
    let _alarm = Alarm::new();
    for old_place in [false, true] {
        let mut calls = 0;
        loop {
            let bed = Bed::new();
            let channel = bed.channel(config());
            let mut writer = channel.writer().unwrap();
            // A third one has slot 0 until the first stands: what decides between two newcomers must not be luck with slots.
            let blocker = (calls % 2 == 0)
                .then(|| channel.reader("e", ringward_recovery::Durability::Ephemeral, Default::default()).unwrap());
            if old_place {
                drop(durable(&channel, "d"));
                writer.push(0, b"kept").unwrap();
            }
            let Some(mut kid) = Traced::spawn("joins", &bed) else { return skip("tracing is not permitted here") };
            if !kid.step_to(calls) {
                break;
            }
            drop(blocker);
            let mine = channel.reader("d", ringward_recovery::Durability::Durable, Default::default());
            let mut held = None;
            match &mine {
                Ok(_) => {}
                Err(ringward_recovery::OpenError::NameHeld { .. }) => held = Some(()),
                Err(other) => panic!("at call {calls}: {other}"),
            }
            // Let the other end while we hold ours, if we do.
            let code = kid.release();
            match (&mine, code) {
                (Ok(_), 1) | (Err(_), DONE) => {}
                // Each saw the other on its way, and both gave up: allowed, and nobody has the name.
                (Err(_), 1) => panic!("at call {calls}: nobody got the name"),
                (mine, code) => panic!("at call {calls}: we {mine:?}, it {code}: two holders"),
            }
            drop(mine);
            // Both are gone: the name is free, in one place, and nothing was lost.
            let mut again = durable(&channel, "d");
            if old_place {
                let event = crate::attacks::until(&mut again, |event| matches!(event, Event::Record { .. }));
                assert!(matches!(event, Event::Record { sequence: 0, .. }), "at call {calls}");
            }
            let places = channel.inspect().unwrap()[0].seen.as_ref().unwrap().readers.len();
            assert!(places <= 2, "at call {calls}: {places} places");
            let _ = held;
            calls += 1;
        }
        eprintln!("stopped at each of {calls} system calls");
        assert!(calls >= 10, "inconclusive: {calls} calls");
    }
}

#[test]
fn a_traced_child_ends_by_itself() {
    let _alarm = Alarm::new();
    let bed = Bed::new();
    let channel = bed.channel(config());
    drop(channel.writer().unwrap());
    let Some(mut kid) = Traced::spawn("becomes-writer", &bed) else { return skip("tracing is not permitted here") };
    let mut calls = 0;
    let code = loop {
        match kid.step() {
            At::Call => calls += 1,
            At::Ended(code) => break code,
        }
    };
    assert_eq!(code, DONE);
    assert!(calls > 10, "{calls}");
    wait_until("its lock falls", || channel.writer().is_ok());
}
