//! `ringward completions` and `ringward man`: the command line, for shells and for `man`.

use std::fs;

use clap::CommandFactory;
use clap_mangen::Man as Page;

use crate::args::{Args, Completions, Man};
use crate::exit::{Done, Failure};
use crate::output::print;

pub(crate) fn completions(args: &Completions) -> Result<Done, Failure> {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "ringward", &mut out);
    print(&String::from_utf8_lossy(&out))?;
    Ok(Done::All)
}

pub(crate) fn run(args: &Man) -> Result<Done, Failure> {
    let mut command = Args::command();
    command.build();
    if let Some(dir) = &args.dir {
        let system = |error| Failure::system(&format!("write to {}", dir.display()), error);
        fs::create_dir_all(dir).map_err(system)?;
        fs::write(dir.join("ringward.1"), page(command.clone())?).map_err(system)?;
        for inner in command.get_subcommands() {
            let name = format!("ringward-{}", inner.get_name());
            fs::write(dir.join(format!("{name}.1")), page(inner.clone())?).map_err(system)?;
        }
        return Ok(Done::All);
    }
    let of = match &args.command {
        None => command,
        Some(name) => match command.find_subcommand(name) {
            Some(inner) => inner.clone(),
            None => return Err(Failure::Usage(format!("no command {name}; `ringward --help` lists them"))),
        },
    };
    print(&page(of)?)?;
    Ok(Done::All)
}

fn page(command: clap::Command) -> Result<String, Failure> {
    let mut out = Vec::new();
    Page::new(command).render(&mut out).map_err(|error| Failure::system("write a manual page", error))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}
