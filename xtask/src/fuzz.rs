//! The fuzz targets under `fuzz/`, each for a bounded time. Coverage counters are the compiler's own passes, so that the
//! stable toolchain is enough; memory errors are ruled out by `unsafe` being forbidden, so there is no sanitizer.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::runner;
use crate::tally::Tally;

/// Targets, by their names in `fuzz/Cargo.toml`.
const TARGETS: [&str; 10] = [
    "gguf",
    "safetensors",
    "tokenizer",
    "template",
    "constraint",
    "rows",
    "parquet",
    "specification",
    "keras",
    "zip",
];

/// How long each is run, where `MEUSE_FUZZ_SECONDS` does not say.
const SECONDS: u64 = 8;

/// An input that takes longer is a fault.
const INPUT_SECONDS: u64 = 10;

/// A target that takes more memory is a fault. The constraints' compiler has its own, lower limit.
const MEMORY_MIB: u64 = 1024;

/// Inputs are no longer than this.
const INPUT_BYTES: u64 = 8192;

/// For building the targets.
const BUILD: Duration = Duration::from_secs(20 * 60);

/// What makes the compiler count where a program has been, as libFuzzer reads it.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

/// Builds the targets and runs each. What breaks one is kept under `target/fuzz/faults`.
pub(crate) fn run(root: &Path) -> Result<Tally, String> {
    if !has_cpp_compiler() {
        println!(
            "not run: libFuzzer needs a C++ compiler, and there is none; on Debian and Ubuntu: apt-get install g++"
        );
        return Ok(Tally::default());
    }
    let build_dir = root.join("target").join("fuzz");
    // With the target named, what runs while building is built without counters.
    let host = host()?;
    let mut build = Command::new("cargo");
    build.current_dir(root.join("fuzz")).args(["build", "--release", "--locked", "--target", &host]);
    build.env("CARGO_TARGET_DIR", &build_dir).env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\u{1f}"));
    if !runner::run(&mut build, BUILD)? {
        return Err("the fuzz targets could not be built".to_owned());
    }
    let seconds = std::env::var("MEUSE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let mut tally = Tally::default();
    for target in TARGETS {
        let program = build_dir.join(&host).join("release").join(target);
        tally += Tally::check(fuzz(root, &build_dir, &program, target, seconds.unwrap_or(SECONDS))?);
    }
    Ok(tally)
}

/// Whether there is one where libFuzzer's build looks for it.
fn has_cpp_compiler() -> bool {
    let program = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    Command::new(program).arg("--version").output().is_ok_and(|done| done.status.success())
}

/// This machine, as the compiler calls it.
fn host() -> Result<String, String> {
    let about = runner::output(Command::new("rustc").arg("-vV"))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "`rustc -vV` does not name its host".to_owned())
}

/// Runs one target from its corpus; what it finds on the way is kept beside the build.
fn fuzz(root: &Path, build_dir: &Path, program: &Path, target: &str, seconds: u64) -> Result<bool, String> {
    let found = build_dir.join("corpus").join(target);
    let faults = build_dir.join("faults");
    for directory in [&found, &faults] {
        std::fs::create_dir_all(directory)
            .map_err(|error| format!("{} cannot be made: {error}", directory.display()))?;
    }
    let mut run = Command::new(program);
    run.arg(&found).arg(root.join("fuzz").join("corpus").join(target));
    run.args([
        format!("-max_total_time={seconds}"),
        format!("-timeout={INPUT_SECONDS}"),
        format!("-rss_limit_mb={MEMORY_MIB}"),
        format!("-max_len={INPUT_BYTES}"),
        format!("-artifact_prefix={}/{target}-", faults.display()),
    ]);
    let log = build_dir.join(format!("{target}.log"));
    let file = std::fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    run.stderr(file);
    let limit = Duration::from_secs(seconds + INPUT_SECONDS + 30);
    println!("fuzzing {target} for {seconds} s");
    let sound = runner::run(&mut run, limit)?;
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    let lines = said.lines().count();
    // The last line counts the inputs; what broke a target comes before it.
    let shown = if sound { 1 } else { 40 };
    said.lines().skip(lines.saturating_sub(shown)).for_each(|line| println!("{line}"));
    if !sound {
        println!(
            "{target} broke; the input is under {}, all that was said in {}",
            faults.display(),
            log.display()
        );
    }
    Ok(sound)
}
