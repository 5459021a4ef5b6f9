//! `cargo xtask protos`: makes `crates/api/descriptors/vertex.binpb` again from the published protos.
//!
//! Needed only when the protos' version changes; the file made is committed. Needs Python 3, `npm` and
//! the two package registries.

use std::path::Path;
use std::process::{Command, ExitCode};

const SCRIPT: &str = include_str!("protos.py");

/// Makes the descriptor set of the repository at `root`, working under its `target` directory.
pub(crate) fn run(root: &Path) -> ExitCode {
    let work = root.join("target").join("protos");
    let output = root.join("crates/api/descriptors/vertex.binpb");
    let done = Command::new("python3").arg("-c").arg(SCRIPT).arg(&work).arg(&output).status();
    match done {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("making {} failed: {status}", output.display());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("python3 could not be started: {error}; install Python 3 and try again");
            ExitCode::FAILURE
        }
    }
}
