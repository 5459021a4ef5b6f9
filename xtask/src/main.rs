//! Everything that proves the project, from a fresh machine. It depends on nothing but the standard library.
//!
//! - `cargo xtask test [--only PART[,PART]] [--list]`: every check and every test; the last line counts them.
//! - `cargo xtask bench NAME [ARGUMENTS]`: one of the measurements in `benches/`.
//! - `cargo xtask load URL …`, `cargo xtask streams URL …`: load generators, used by the measurements.
//! - `cargo xtask protos`: makes the API's descriptors again.

// A command-line tool answers on standard output.
#![allow(clippy::print_stdout)]

mod bench;
mod fuzz;
mod invariants;
mod licences;
mod load;
mod protos;
mod python;
mod runner;
mod streams;
mod tally;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask test [--only PART[,PART]] [--list]
       cargo xtask bench NAME [ARGUMENTS]
       cargo xtask load URL [--connections N] [--seconds S] [--body FILE] [--bearer KEY] [--header LINE]
       cargo xtask streams URL --bodies FILE [--bearer KEY]
       cargo xtask protos";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = root();
    let (verb, rest) = match arguments.split_first() {
        Some((verb, rest)) => (verb.as_str(), rest),
        None => ("", &[] as &[String]),
    };
    let outcome = match verb {
        "test" => test::run(&root, rest),
        "bench" => bench::run(&root, rest),
        "load" => load::run(rest),
        "streams" => streams::run(rest),
        "protos" => return protos::run(&root),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

/// The repository's root: xtask lies directly in it.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
