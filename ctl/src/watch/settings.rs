//! What the watchdog is to do: from the command line, else the environment, else the file, else as usual.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::args::{Mode, Watch};
use crate::exit::Failure;
use crate::units::duration;

/// The settings, as they stand after everybody was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) mode: Mode,
    pub(super) grace: Duration,
    pub(super) expire_durable: Option<Duration>,
    pub(super) stall_timeout: Duration,
    pub(super) interval: Duration,
    pub(super) wipe: bool,
    pub(super) listen: Option<SocketAddr>,
    /// Percent of the file system in use from which on it is told.
    pub(super) space_limit: u8,
    /// Lines about one channel in a minute; the rest are counted.
    pub(super) log_limit: u32,
    pub(super) json: bool,
}

/// The file: every key is optional, unknown ones are refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Page {
    mode: Option<String>,
    grace: Option<String>,
    expire_durable: Option<String>,
    stall_timeout: Option<String>,
    interval: Option<String>,
    wipe: Option<bool>,
    listen: Option<String>,
    space_limit: Option<u8>,
    log_limit: Option<u32>,
    json: Option<bool>,
}

fn refused(what: &str, why: impl std::fmt::Display) -> Failure {
    Failure::Refused(format!("{what}: {why}; see `ringward watch --help` [RW-CTL-CONFIG]"))
}

impl Page {
    fn read(path: &Path) -> Result<Page, Failure> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| refused(&name, error))?;
        toml::from_str(&text).map_err(|error| refused(&name, error.to_string().trim_end()))
    }
}

/// A word from the environment or the file, and where it stood.
struct Word {
    text: String,
    of: String,
}

impl Word {
    fn parse<T>(self, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, Failure> {
        parse(&self.text).map_err(|why| refused(&self.of, why))
    }
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "report" => Ok(Mode::Report),
        "quarantine" => Ok(Mode::Quarantine),
        "reclaim" => Ok(Mode::Reclaim),
        _ => Err(format!("{text:?} is none of report, quarantine, reclaim")),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number that can be"))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is no address; write 127.0.0.1:9464 or [::1]:9464"))
}

impl Settings {
    /// Asks everybody; `environment` answers for the environment.
    pub(super) fn gather(args: &Watch, environment: impl Fn(&str) -> Option<String>) -> Result<Settings, Failure> {
        let file: Option<PathBuf> =
            args.config.clone().or_else(|| environment("RINGWARD_WATCH_CONFIG").map(PathBuf::from));
        let page = file.as_deref().map_or_else(|| Ok(Page::default()), Page::read)?;
        let in_file = file.map(|file| file.display().to_string()).unwrap_or_default();
        let word = |key: &str, in_page: Option<String>| -> Option<Word> {
            let name = format!("RINGWARD_WATCH_{}", key.to_uppercase().replace('-', "_"));
            match environment(&name).filter(|value| !value.is_empty()) {
                Some(text) => Some(Word { text, of: format!("${name}") }),
                None => in_page.map(|text| Word { text, of: format!("{in_file}: {key}") }),
            }
        };
        let time = |given: Option<Duration>, key: &str, in_page: &Option<String>, usual: Duration| match given {
            Some(given) => Ok(given),
            None => word(key, in_page.clone()).map_or(Ok(usual), |word| word.parse(duration)),
        };
        let shown = |value: Option<bool>| value.map(|value| value.to_string());
        let settings = Settings {
            mode: match args.mode {
                Some(given) => given,
                None => word("mode", page.mode.clone()).map_or(Ok(Mode::Report), |word| word.parse(mode))?,
            },
            grace: time(args.grace, "grace", &page.grace, Duration::from_secs(60))?,
            expire_durable: match args.expire_durable {
                Some(given) => Some(given),
                None => {
                    word("expire-durable", page.expire_durable.clone()).map(|word| word.parse(duration)).transpose()?
                }
            },
            stall_timeout: time(args.stall_timeout, "stall-timeout", &page.stall_timeout, Duration::from_secs(2))?,
            interval: time(args.interval, "interval", &page.interval, Duration::from_secs(1))?,
            wipe: args.wipe || word("wipe", shown(page.wipe)).map_or(Ok(false), |word| word.parse(yes_or_no))?,
            listen: match args.listen {
                Some(given) => Some(given),
                None => word("listen", page.listen.clone()).map(|word| word.parse(address)).transpose()?,
            },
            space_limit: match args.space_limit {
                Some(given) => given,
                None => word("space-limit", page.space_limit.map(|n| n.to_string()))
                    .map_or(Ok(80), |word| word.parse(number))?,
            },
            log_limit: match args.log_limit {
                Some(given) => given,
                None => word("log-limit", page.log_limit.map(|n| n.to_string()))
                    .map_or(Ok(60), |word| word.parse(number))?,
            },
            json: args.json || word("json", shown(page.json)).map_or(Ok(false), |word| word.parse(yes_or_no))?,
        };
        if settings.space_limit > 100 {
            return Err(refused("space-limit", format!("{} percent", settings.space_limit)));
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};

    fn gather(line: &[&str], environment: &[(&str, &str)]) -> Result<Settings, Failure> {
        let args = Args::try_parse_from([&["ringward", "watch"], line].concat()).unwrap();
        let Command::Watch(watch) = args.command else { unreachable!() };
        Settings::gather(&watch, |name| environment.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn the_command_line_before_the_environment_before_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            &file,
            "mode = \"reclaim\"\ngrace = \"5m\"\ninterval = \"7s\"\nlisten = \"127.0.0.1:0\"\nspace-limit = 70\n",
        )
        .unwrap();
        let path = file.path().to_str().unwrap();
        let usual = gather(&[], &[]).unwrap();
        assert_eq!((usual.mode, usual.interval, usual.listen), (Mode::Report, Duration::from_secs(1), None));
        let of_file = gather(&["--config", path], &[]).unwrap();
        assert_eq!((of_file.mode, of_file.grace, of_file.space_limit), (Mode::Reclaim, Duration::from_secs(300), 70));
        let environment =
            [("RINGWARD_WATCH_CONFIG", path), ("RINGWARD_WATCH_GRACE", "3s"), ("RINGWARD_WATCH_JSON", "true")];
        let both = gather(&["--interval", "2s"], &environment).unwrap();
        assert_eq!((both.grace, both.interval, both.json), (Duration::from_secs(3), Duration::from_secs(2), true));
        assert_eq!(gather(&["--grace", "1s"], &environment).unwrap().grace, Duration::from_secs(1));
    }

    #[test]
    fn what_can_not_be_is_refused_and_says_where_it_stood() {
        let refused = |text: &str, part: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(&file, text).unwrap();
            match gather(&["--config", file.path().to_str().unwrap()], &[]) {
                Err(Failure::Refused(why)) => assert!(why.contains(part) && why.ends_with("[RW-CTL-CONFIG]"), "{why}"),
                other => panic!("{text}: {other:?}"),
            }
        };
        refused("mode = \"kill\"", "none of report");
        refused("grce = \"5m\"", "unknown field");
        refused("grace = \"soon\"", "no time");
        refused("listen = \"here\"", "no address");
        refused("space-limit = 101", "101");
        refused("mode = ", "line 1");
        assert!(gather(&["--config", "/no/such/file"], &[]).is_err());
        assert!(gather(&[], &[("RINGWARD_WATCH_WIPE", "perhaps")]).is_err());
    }
}
