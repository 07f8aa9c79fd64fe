//! `ringward watch`: the watchdog in the foreground, as a service manager likes it.

mod journal;
mod metrics;
mod notify;
mod server;
mod settings;

use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ringward_recovery::{Action, Done as Fate, Namespace, Notice, Report, Watchdog, WatchdogBuilder};
use serde_json::{Value, json};

use crate::args::{Mode, Place, Watch};
use crate::exit::{Done, Failure, complain};
use crate::output::print;
use crate::place;
use crate::stop::Stop;
use crate::survey;
use crate::units::show_size;

use journal::Journal;
use metrics::{Counts, Space};
use notify::Notify;
use server::Answer;
use settings::Settings;

/// What the thread that answers scrapes shares with the one that looks.
struct Shared {
    namespace: Namespace,
    counts: Counts,
    /// When a look last ended well.
    well: Instant,
    /// How long one may take to come.
    patience: Duration,
    error: Option<String>,
}

/// Least time between two looks.
const LEAST: Duration = Duration::from_millis(5);

struct Daemon<'a> {
    at: &'a Place,
    args: &'a Watch,
    settings: Settings,
    namespace: Namespace,
    watchdog: Watchdog,
    sent: Sender<Notice>,
    notices: Receiver<Notice>,
    journal: Journal,
    shared: Arc<Mutex<Shared>>,
    /// Memory is short, and that was told.
    short: bool,
}

/// Only asks everybody for the settings; `environment` answers for the environment.
pub(crate) fn settings(args: &Watch, environment: impl Fn(&str) -> Option<String>) -> Result<(), Failure> {
    Settings::gather(args, environment).map(drop)
}

pub(crate) fn run(at: &Place, args: &Watch, stop: &Stop) -> Result<Done, Failure> {
    let mut notify = Notify::from_environment();
    let mut daemon = Daemon::new(at, args)?;
    if !args.once {
        daemon.listen()?;
    }
    let mut first = true;
    loop {
        let error = daemon.look()?;
        if args.once {
            return match error {
                Some(error) => Err(Failure::system("look at the namespace", error)),
                None => Ok(Done::All),
            };
        }
        let status = daemon.status();
        if std::mem::take(&mut first) {
            notify.ready(&status);
        }
        match error {
            Some(error) => complain(&format!("cannot look at the namespace: {error}; trying again [RW-CTL-SYSTEM]")),
            None => notify.well(&status),
        }
        // A look that takes no time at all would burn a core; one that comes too late would pass for a hang.
        let interval = daemon.settings.interval.max(Duration::from_millis(1));
        let nap = notify.every().map_or(interval, |every| interval.min(every));
        let begun = Instant::now();
        let wait = |bell: BorrowedFd<'_>| {
            if let Err(error) = daemon.watchdog.wait(nap, Some(bell)) {
                complain(&format!("wait for the end of processes: {error} [RW-CTL-SYSTEM]"));
                std::thread::sleep(nap.min(LEAST));
            }
            // Processes that end one after the other don't make it look all the time.
            std::thread::sleep(nap.min(LEAST).saturating_sub(begun.elapsed()));
        };
        match stop.nap(wait) {
            Ok(false) => {}
            Ok(true) => {
                notify.reloading();
                daemon.reload();
                notify.ready(&daemon.status());
            }
            Err(stopped) => {
                notify.stopping();
                for line in daemon.journal.end(daemon.settings.json) {
                    print(&line)?;
                }
                return Err(stopped);
            }
        }
    }
}

impl<'a> Daemon<'a> {
    fn new(at: &'a Place, args: &'a Watch) -> Result<Daemon<'a>, Failure> {
        let settings = Settings::gather(args, |name| std::env::var(name).ok())?;
        let namespace = place::namespace(at, !args.once)?;
        let (sent, notices) = channel();
        let shared = Shared {
            namespace: namespace.clone(),
            counts: Counts::default(),
            well: Instant::now(),
            patience: patience(&settings),
            error: None,
        };
        Ok(Daemon {
            at,
            args,
            watchdog: builder(&namespace, &settings, &sent).build(),
            journal: Journal::new(settings.log_limit),
            settings,
            namespace,
            sent,
            notices,
            shared: Arc::new(Mutex::new(shared)),
            short: false,
        })
    }

    fn listen(&self) -> Result<(), Failure> {
        let Some(address) = self.settings.listen else { return Ok(()) };
        let shared = Arc::clone(&self.shared);
        let bound = server::serve(address, move |path| answer(&shared, path))?;
        print(&if self.settings.json {
            format!("{}\n", json!({"event": "listening", "id": "RW-WD-LISTENING", "address": bound.to_string()}))
        } else {
            format!("metrics at http://{bound}/metrics, health at http://{bound}/healthz [RW-WD-LISTENING]\n")
        })
    }

    /// One look: what it found is printed and counted. Says what stood in its way.
    fn look(&mut self) -> Result<Option<String>, Failure> {
        self.follow_the_name();
        let begun = Instant::now();
        let report = self.watchdog.tick();
        let took = begun.elapsed().as_secs_f64();
        let json = self.settings.json;
        for notice in self.notices.try_iter() {
            if self.journal.may(&notice.channel) {
                print(&if json { format!("{}\n", notice_json(&notice)) } else { notice_words(&notice) })?;
            }
        }
        for line in self.journal.turn(Instant::now(), json) {
            print(&line)?;
        }
        summary(&report, json)?;
        self.weigh_space()?;
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.counts.add(&report, took);
        if report.error.is_none() {
            shared.well = Instant::now();
        }
        shared.error.clone_from(&report.error);
        Ok(report.error)
    }

    /// A namespace whose folder was removed is another one when it comes again.
    fn follow_the_name(&mut self) {
        if !self.namespace.removed() {
            return;
        }
        match place::namespace(self.at, true) {
            Ok(namespace) => {
                complain(&format!("{} was removed and is there again [RW-WD-VANISHED]", namespace.path().display()));
                self.namespace = namespace.clone();
                self.watchdog = builder(&namespace, &self.settings, &self.sent).build();
                self.shared.lock().unwrap_or_else(PoisonError::into_inner).namespace = namespace;
            }
            Err(failure) => {
                complain(&format!("the namespace was removed, and can't be made again: {failure:?} [RW-WD-VANISHED]"))
            }
        }
    }

    /// Says so before the file system is full, and when it is not nearly full any more.
    fn weigh_space(&mut self) -> Result<(), Failure> {
        let space = space(&self.namespace);
        let (used, limit) = (space.used(), self.settings.space_limit);
        let short = space.short(limit, self.short);
        if short == self.short {
            return Ok(());
        }
        self.short = short;
        let (free, size) = (space.free, space.size);
        print(&if self.settings.json {
            let document = json!({"event": "space", "id": "RW-WD-SPACE", "short": short, "used_percent": used, "limit_percent": limit, "free": free, "size": size});
            format!("{document}\n")
        } else if short {
            format!(
                "memory is getting short: {used} % of {} used, {} free, told from {limit} % on [RW-WD-SPACE]\n",
                show_size(size),
                show_size(free)
            )
        } else {
            format!("memory is enough again: {used} % of {} used [RW-WD-SPACE]\n", show_size(size))
        })
    }

    fn status(&self) -> String {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let live =
            shared.counts.notices.iter().filter(|notice| notice.verdict == ringward_recovery::Verdict::Live).count();
        format!("{} channels, {live} live", shared.counts.notices.len())
    }

    /// Asks environment and file again; what can't be leaves everything as it is.
    fn reload(&mut self) {
        match Settings::gather(self.args, |name| std::env::var(name).ok()) {
            Ok(settings) => {
                if settings.listen != self.settings.listen {
                    complain("another address to listen at takes a restart [RW-CTL-CONFIG]");
                }
                self.watchdog.set_up(builder(&self.namespace, &settings, &self.sent));
                self.journal.set_limit(settings.log_limit);
                self.shared.lock().unwrap_or_else(PoisonError::into_inner).patience = patience(&settings);
                self.settings = settings;
                complain("settings read again [RW-WD-RELOADED]");
            }
            Err(Failure::Refused(why) | Failure::Usage(why)) => complain(&format!("settings left as they were: {why}")),
            Err(other) => complain(&format!("settings left as they were: {other:?} [RW-CTL-CONFIG]")),
        }
    }
}

/// After how long without a look this watchdog counts as ill.
fn patience(settings: &Settings) -> Duration {
    (settings.interval * 3).max(Duration::from_secs(10))
}

/// Descriptors for the watchdog to keep: most of what this process may have, which has nothing else to do with them.
fn descriptors() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let more = rustix::process::Rlimit { current: limit.maximum, ..limit };
        // Refused, it is as before.
        if setrlimit(Resource::Nofile, more).is_ok() {
            limit = more;
        }
    }
    let most = limit.current.unwrap_or(1 << 20);
    // Each is a mapping of a segment, too, and these are limited for each process.
    let maps = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    let maps = maps.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(65_530);
    usize::try_from((most / 4 * 3).min(maps / 4)).unwrap_or(usize::MAX)
}

fn builder(namespace: &Namespace, settings: &Settings, sent: &Sender<Notice>) -> WatchdogBuilder {
    let sent = sent.clone();
    let builder = Watchdog::builder(namespace)
        .action(match settings.mode {
            Mode::Report => Action::Report,
            Mode::Quarantine => Action::Quarantine,
            Mode::Reclaim => Action::Reclaim,
        })
        .grace(settings.grace)
        .stall_timeout(settings.stall_timeout)
        .wipe(settings.wipe)
        .descriptors(descriptors())
        .on_notice(move |notice: &Notice| {
            let _ = sent.send(notice.clone());
        });
    match settings.expire_durable {
        Some(after) => builder.expire_durable(after),
        None => builder,
    }
}

fn space(namespace: &Namespace) -> Space {
    rustix::fs::fstatvfs(namespace.dir())
        .map(|stat| Space { size: stat.f_blocks * stat.f_frsize, free: stat.f_bavail * stat.f_frsize })
        .unwrap_or_default()
}

/// Answers a scrape: the verdicts of the last look, and the channels as they are now.
fn answer(shared: &Mutex<Shared>, path: &str) -> Option<Answer> {
    let guard = shared.lock().unwrap_or_else(PoisonError::into_inner);
    match path {
        "/metrics" => {
            let (namespace, counts) = (guard.namespace.clone(), guard.counts.clone());
            drop(guard); // looking takes longer than others may wait
            let views: Vec<_> =
                counts.notices.iter().filter_map(|notice| survey::view(&namespace, notice.clone()).ok()).collect();
            let body = metrics::render(namespace.name(), &counts, &views, space(&namespace));
            Some(Answer { status: "200 OK", kind: "text/plain; version=0.0.4; charset=utf-8", body })
        }
        "/healthz" => {
            let age = guard.well.elapsed();
            let well = age <= guard.patience && guard.error.is_none();
            let body = json!({"well": well, "id": (!well).then_some("RW-WD-DOWN"), "last_look_seconds": age.as_secs_f64(), "error": guard.error});
            let status = if well { "200 OK" } else { "503 Service Unavailable" };
            Some(Answer { status, kind: "application/json", body: format!("{body}\n") })
        }
        _ => None,
    }
}

/// What a look did beside the channels.
fn summary(report: &Report, json: bool) -> Result<(), Failure> {
    if report.births == 0 && report.drained == 0 {
        return Ok(());
    }
    let (births, drained) = (report.births, report.drained);
    print(&if json {
        format!("{}\n", json!({"event": "tidied", "id": "RW-WD-TIDIED", "births": births, "drained": drained}))
    } else {
        format!("removed what {births} interrupted births left, and {drained} drained generations [RW-WD-TIDIED]\n")
    })
}

pub(crate) fn notice_words(notice: &Notice) -> String {
    let done = match &notice.done {
        Fate::Reclaimed { bytes } => format!("; reclaimed, {}", show_size(*bytes)),
        Fate::Quarantined { name } => format!("; quarantined as {name}"),
        Fate::Refused { why } => format!("; not taken away: {why}"),
        Fate::Failed { why } => format!("; could not be taken away: {why}"),
        _ => String::new(),
    };
    let evidence = &notice.evidence;
    let mut why = Vec::new();
    if let Some(generation) = evidence.generation {
        why.push(format!("generation {generation}"));
    }
    if evidence.owner_pid != 0 {
        why.push(format!(
            "writer {} {}",
            evidence.owner_pid,
            if evidence.writer_held { "holds its lock" } else { "has let go" }
        ));
    }
    if evidence.readers_held > 0 {
        why.push(format!("{} reader bytes held", evidence.readers_held));
    }
    if evidence.durable > 0 {
        why.push(format!("{} durable readers", evidence.durable));
    }
    if let Some(time) = evidence.orphaned_for {
        why.push(format!("nobody's for {time:.1?}"));
    }
    if let Some(error) = &evidence.error {
        why.push(error.clone());
    }
    let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(", ")) };
    format!("{}: {}{why}{done} [{}]\n", notice.channel, notice.verdict, notice.id)
}

pub(crate) fn notice_json(notice: &Notice) -> Value {
    let (done, detail) = match &notice.done {
        Fate::Nothing => ("nothing", Value::Null),
        Fate::Reclaimed { bytes } => ("reclaimed", json!(bytes)),
        Fate::Quarantined { name } => ("quarantined", json!(name)),
        Fate::Refused { why } => ("refused", json!(why)),
        Fate::Failed { why } => ("failed", json!(why)),
        other => ("other", json!(format!("{other:?}"))),
    };
    let evidence = &notice.evidence;
    let ms = |time: Option<Duration>| time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    json!({
        "event": "notice",
        "id": notice.id,
        "channel": notice.channel,
        "verdict": notice.verdict.to_string(),
        "verdict_id": notice.verdict.id(),
        "done": done,
        "detail": detail,
        "evidence": {
            "generation": evidence.generation,
            "generations": evidence.generations,
            "state": evidence.state.map(|state| state.to_string().to_ascii_lowercase()),
            "writer_held": evidence.writer_held,
            "owner_pid": evidence.owner_pid,
            "owner": evidence.owner.map(|owner| format!("{owner:?}").to_ascii_lowercase()),
            "presence_held": evidence.presence_held,
            "readers_held": evidence.readers_held,
            "durable": evidence.durable,
            "silent_ms": ms(evidence.silent),
            "orphaned_ms": ms(evidence.orphaned_for),
            "error": evidence.error,
        },
    })
}
