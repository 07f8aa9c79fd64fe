//! `ringward forget`: gives up the place of a durable reader that will not come back.

use ringward_recovery::Config;
use serde_json::json;

use crate::args::{Forget, Place};
use crate::exit::{Done, Failure};
use crate::inspect;
use crate::output::print;
use crate::place;
use crate::stop::Stop;
use crate::survey::one;

pub(crate) fn run(at: &Place, args: &Forget, stop: &Stop) -> Result<Done, Failure> {
    let namespace = place::namespace(at, false)?;
    let view = one(&namespace, &args.channel, None, stop)?;
    let Some(reader) = view.readers.iter().find(|reader| reader.name.as_deref() == Some(&args.reader)) else {
        let names: Vec<&str> = view.readers.iter().filter_map(|reader| reader.name.as_deref()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(Failure::Nothing(format!("{} has no reader {}; there are: {names}", args.channel, args.reader)));
    };
    let mut document = json!({"channel": args.channel, "reader": reader, "dry": !args.yes});
    if !args.json {
        print(&format!("{}\n", inspect::reader_words(reader)))?;
    }
    if args.yes {
        let channel = place::channel(&namespace, &args.channel, Config::default())?;
        let forgotten = channel.forget_reader(&args.reader).map_err(Failure::refused)?;
        document["forgotten"] = json!(forgotten);
        if !args.json {
            print(if forgotten {
                "forgotten: it holds nobody back any more.\n"
            } else {
                "there was nothing to forget.\n"
            })?;
        }
    } else if !args.json {
        print(if reader.lock_held {
            "Nothing was done, and nothing would be: its process lives.\n"
        } else {
            "Nothing was done. With --yes its place is given up, and what it has not received is lost to it.\n"
        })?;
    }
    if args.json {
        print(&format!("{document:#}\n"))?;
    }
    Ok(Done::All)
}
