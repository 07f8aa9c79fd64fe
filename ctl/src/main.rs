//! `ringward`, see [`ringward_ctl`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ringward_ctl::main()
}
