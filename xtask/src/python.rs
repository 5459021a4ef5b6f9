//! Virtual environments with pinned packages, made once and again when their requirements change.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::runner;

const INSTALL_LIMIT: Duration = Duration::from_secs(15 * 60);

/// A Python in `directory` that has the packages of the file `requirements`.
pub(crate) fn environment(directory: &Path, requirements: &Path) -> Result<PathBuf, String> {
    let python = directory.join("bin").join("python");
    let wanted = std::fs::read_to_string(requirements)
        .map_err(|error| format!("{} cannot be read: {error}", requirements.display()))?;
    let stamp = directory.join("requirements.installed");
    if python.exists() && std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    println!("installing {} into {}", requirements.display(), directory.display());
    if !python.exists() || !has_pip(&python) {
        create(&base(), directory)?;
    }
    install(&python, requirements)?;
    std::fs::write(&stamp, wanted)
        .map_err(|error| format!("{} cannot be written: {error}", stamp.display()))?;
    Ok(python)
}

/// The interpreter to make environments with.
fn base() -> String {
    std::env::var("MEUSE_PYTHON_BASE").unwrap_or_else(|_| "python3".to_owned())
}

fn create(base: &str, directory: &Path) -> Result<(), String> {
    let venv = |arguments: &[&str]| {
        let mut command = Command::new(base);
        command.args(["-m", "venv", "--clear"]).args(arguments).arg(directory);
        command
    };
    let made =
        venv(&[]).stdout(Stdio::null()).stderr(Stdio::null()).status().map_err(|error| {
            format!("`{base}` could not be started: {error}. Install Python 3.11 or newer")
        })?;
    if made.success() {
        return Ok(());
    }
    // Debian ships `venv` without `ensurepip`, and some images ship neither, but pip can install itself from outside.
    let python = directory.join("bin").join("python");
    if runner::run(&mut venv(&["--without-pip"]), INSTALL_LIMIT)? {
        let mut pip = Command::new(base);
        pip.args(["-m", "pip", "--python"]).arg(&python).args(["install", "--quiet", "pip"]);
        if pip.stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            return Ok(());
        }
    }
    Err(format!(
        "a Python environment could not be made in {}: `{base} -m venv` needs ensurepip, and there is no pip to stand \
         in for it. On Debian and Ubuntu: apt-get install python3-venv",
        directory.display()
    ))
}

fn has_pip(python: &Path) -> bool {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    pip.status().is_ok_and(|status| status.success())
}

fn install(python: &Path, requirements: &Path) -> Result<(), String> {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(requirements);
    if runner::run(&mut pip, INSTALL_LIMIT)? {
        return Ok(());
    }
    Err(format!(
        "the packages in {} could not be installed; see pip's message above. They need Python 3.11 or newer and \
         a package index that can be reached",
        requirements.display()
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        let directory = std::env::temp_dir().join("no-environment-is-made-here");
        let none = create("/no/such/python", &directory).unwrap_err();
        assert!(none.contains("Install Python 3.11"), "{none}");
        let crippled = create("false", &directory).unwrap_err();
        assert!(crippled.contains("apt-get install python3-venv"), "{crippled}");
    }
}
