//! Running other programs: shown as they run, ended when they take too long.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::tally::Tally;

/// Time that a program interrupted for taking too long has to stop what it started.
const GRACE: Duration = Duration::from_secs(20);

/// Runs to the end; `Ok(true)` when it succeeded.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<bool, String> {
    let child = as_from_a_shell(command).spawn().map_err(|error| not_started(command, &error))?;
    wait(child, &name(command), limit)
}

/// Runs a test runner, passes its output on and counts its tests. One that fails without a failed test, or that
/// runs no test, is itself a failed test.
pub(crate) fn run_tests(command: &mut Command, limit: Duration) -> Result<Tally, String> {
    command.stdout(Stdio::piped());
    let mut child = as_from_a_shell(command).spawn().map_err(|error| not_started(command, &error))?;
    let output = child.stdout.take();
    let counting = std::thread::spawn(move || {
        let mut tally = Tally::default();
        let lines = output.into_iter().flat_map(|o| BufReader::new(o).split(b'\n'));
        for line in lines.map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            tally += Tally::from_line(&line).unwrap_or_default();
        }
        tally
    });
    let succeeded = wait(child, &name(command), limit)?;
    let mut tally = counting.join().map_err(|_| "the test output could not be read".to_owned())?;
    if tally.failed == 0 && (!succeeded || tally.passed == 0) {
        tally.failed = 1;
    }
    Ok(tally)
}

/// What a program prints, when it succeeds.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let done = as_from_a_shell(command)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| not_started(command, &error))?;
    if !done.status.success() {
        return Err(format!("`{}` failed: {}", name(command), done.status));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Without what `cargo run` told this program of its own package. Build scripts look at it: a `cargo build` from here
/// would compile again what one from a shell has compiled, and the other way round.
fn as_from_a_shell(command: &mut Command) -> &mut Command {
    const TOLD: [&str; 6] =
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_", "OUT_DIR"];
    for (name, _) in std::env::vars_os() {
        if TOLD.iter().any(|told| name.to_string_lossy().starts_with(told)) {
            command.env_remove(name);
        }
    }
    command
}

fn wait(mut child: Child, name: &str, limit: Duration) -> Result<bool, String> {
    let deadline = Instant::now() + limit;
    let mut interrupted = false;
    loop {
        if let Some(status) = child.try_wait().map_err(|error| format!("waiting for `{name}`: {error}"))? {
            return Ok(status.success() && !interrupted);
        }
        let now = Instant::now();
        if now >= deadline && !interrupted {
            println!("`{name}` has run for {} s, which is too long: it is interrupted", limit.as_secs());
            interrupt(&child);
            interrupted = true;
        }
        if now >= deadline + GRACE {
            // Gone between the two calls is as good.
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// As Ctrl-C does, so that a test runner can stop the servers it started.
fn interrupt(child: &Child) {
    let _ = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
}

fn name(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let mut text = words.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ");
    if text.len() > 100 {
        text.truncate(text.floor_char_boundary(97));
        text.push('…');
    }
    text
}

fn not_started(command: &Command, error: &std::io::Error) -> String {
    format!("`{}` could not be started: {error}", name(command))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn tests_are_counted_and_silence_is_a_failure() {
        let minute = Duration::from_secs(60);
        let tally = |script| {
            let tally = run_tests(&mut shell(script), minute).unwrap();
            (tally.passed, tally.failed)
        };
        assert_eq!(tally("echo '2 passed in 1.0s'; echo '3 passed in 1.0s'"), (5, 0));
        assert_eq!(tally("echo '2 passed, 1 failed in 1.0s'; exit 1"), (2, 1));
        assert_eq!(tally("echo '2 passed in 1.0s'; exit 1"), (2, 1));
        assert_eq!(tally("true"), (0, 1));
    }

    #[test]
    fn what_takes_too_long_is_interrupted() {
        assert!(!run(&mut shell("exec sleep 30"), Duration::from_millis(100)).unwrap());
        assert!(run(&mut shell("true"), Duration::from_secs(60)).unwrap());
    }
}
