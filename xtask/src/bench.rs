//! `cargo xtask bench NAME`: one of the measurements in `benches/`, with what it needs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::{python, runner};

const LIMIT: Duration = Duration::from_secs(2 * 60 * 60);

/// Builds the program, installs the peers that `benches/NAME/requirements.txt` pins, and runs `benches/NAME/run.py`.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<bool, String> {
    let benches = root.join("benches");
    let Some((name, arguments)) = arguments.split_first() else {
        return Err(format!("which one? There are: {}", names(&benches).join(", ")));
    };
    let directory = benches.join(name);
    if !names(&benches).contains(name) {
        return Err(format!("there is no benches/{name}; there are: {}", names(&benches).join(", ")));
    }
    for package in ["meuse", "xtask"] {
        let mut build = Command::new("cargo");
        build.current_dir(root).args(["build", "--release", "--locked", "--package", package]);
        if !runner::run(&mut build, LIMIT)? {
            return Ok(false);
        }
    }
    let environment = root.join("target").join(format!("bench-{name}")).join("venv");
    let python = python::environment(&environment, &directory.join("requirements.txt"))?;
    let release = root.join("target").join("release");
    let mut bench = Command::new(python);
    bench.current_dir(root).arg(directory.join("run.py")).args(arguments);
    bench.env("MEUSE_BIN", release.join("meuse")).env("MEUSE_LOAD", release.join("xtask"));
    runner::run(&mut bench, LIMIT)
}

fn names(benches: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(benches).into_iter().flatten().flatten();
    let runnable = entries.filter(|entry| entry.path().join("run.py").exists());
    let mut names: Vec<String> =
        runnable.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
