//! `chaos`, see [`ringward_chaos`].

fn main() {
    std::process::exit(ringward_chaos::main());
}
