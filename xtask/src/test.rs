//! `cargo xtask test`: the parts of the proof, one after another, and their sum.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::tally::Tally;
use crate::{fuzz, invariants, licences, python, runner};

/// For a compilation or a whole set of tests.
const LONG: Duration = Duration::from_secs(40 * 60);
/// For one suite under `tests/`.
const SUITE: Duration = Duration::from_secs(15 * 60);
/// Model files that the crates' tests use, by their names in `tests/models/fetch.py`.
const TEST_MODELS: [&str; 2] = ["smollm2-135m", "qwen2.5-coder-0.5b"];

type Run = Box<dyn Fn(&Path) -> Result<Tally, String>>;

/// One thing that is proven, and can be proven alone.
struct Part {
    name: String,
    what: String,
    run: Run,
}

/// Runs the parts that `arguments` name, or all. `Ok(false)` when anything failed.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<bool, String> {
    let parts = parts(root)?;
    let only = match arguments {
        [] => None,
        [flag] if flag == "--list" => {
            parts.iter().for_each(|part| println!("{:12} {}", part.name, part.what));
            return Ok(true);
        }
        [flag, names] if flag == "--only" => Some(names.split(',').collect::<Vec<_>>()),
        _ => return Err(crate::USAGE.to_owned()),
    };
    let known = |name: &&str| parts.iter().any(|part| part.name == *name);
    if let Some(unknown) = only.iter().flatten().find(|name| !known(name)) {
        return Err(format!("there is no part `{unknown}`; see `cargo xtask test --list`"));
    }
    let chosen =
        parts.iter().filter(|part| only.as_ref().is_none_or(|names| names.contains(&part.name.as_str())));
    Ok(run_all(root, chosen))
}

fn run_all<'a>(root: &Path, parts: impl Iterator<Item = &'a Part>) -> bool {
    let begun = Instant::now();
    let mut total = Tally::default();
    let mut failed = Vec::new();
    for part in parts {
        println!("\n── {}: {}", part.name, part.what);
        let part_begun = Instant::now();
        let tally = (part.run)(root).unwrap_or_else(|message| {
            println!("{message}");
            Tally::check(false)
        });
        let verdict = if tally.failed == 0 { "passed" } else { "FAILED" };
        println!("── {} {verdict} in {:.0} s", part.name, part_begun.elapsed().as_secs_f64());
        if tally.failed > 0 {
            failed.push(part.name.as_str());
        }
        total += tally;
    }
    println!("\nall parts took {:.0} s", begun.elapsed().as_secs_f64());
    for name in &failed {
        println!("{name} failed; to run it alone: cargo xtask test --only {name}");
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    failed.is_empty()
}

fn parts(root: &Path) -> Result<Vec<Part>, String> {
    let mut parts = vec![
        part("format", "rustfmt would change nothing", |root| {
            check(cargo(root, &["fmt", "--all", "--check"]))
        }),
        part("invariants", "what ARCHITECTURE.md promises of the source", |root| {
            listed(invariants::faults(root)?)
        }),
        part("licences", "every dependency's licence is allowed", |root| listed(licences::faults(root)?)),
        part("deny", "cargo-deny: advisories, bans, sources", deny),
        part("clippy", "no lint, in any target", |root| {
            check(cargo(
                root,
                &["clippy", "--release", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"],
            ))
        }),
        part("docs", "documentation links lead somewhere", |root| {
            let mut docs = cargo(root, &["doc", "--release", "--locked", "--workspace", "--no-deps"]);
            docs.env("RUSTDOCFLAGS", "-D rustdoc::broken-intra-doc-links");
            check(docs)
        }),
        part("rust", "the crates' own tests", |root| {
            let python = test_python(root)?;
            let mut tests = cargo(root, &["test", "--release", "--locked", "--workspace", "--no-fail-fast"]);
            tests.env("MEUSE_TEST_MODELS", test_models(root, &python)?);
            runner::run_tests(tests.env("MEUSE_PYTHON", python), LONG)
        }),
        part("fuzz", "files and texts from outside, mutated for a bounded time", fuzz::run),
    ];
    for directory in suites(root)? {
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let what = format!("tests/{name} with pytest, against the program itself");
        parts.push(part(name, what, move |root| suite(root, &directory)));
    }
    Ok(parts)
}

fn part(
    name: impl Into<String>,
    what: impl Into<String>,
    run: impl Fn(&Path) -> Result<Tally, String> + 'static,
) -> Part {
    Part { name: name.into(), what: what.into(), run: Box::new(run) }
}

fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root).args(arguments);
    cargo
}

fn check(mut command: Command) -> Result<Tally, String> {
    runner::run(&mut command, LONG).map(Tally::check)
}

fn listed(faults: Vec<String>) -> Result<Tally, String> {
    faults.iter().for_each(|fault| println!("{fault}"));
    Ok(Tally::check(faults.is_empty()))
}

/// Runs cargo-deny where it is installed. Compiling it takes longer than everything else here, so it is installed
/// only when `MEUSE_DENY=1` asks for it. Without it the licences are still checked by their own part.
fn deny(root: &Path) -> Result<Tally, String> {
    let tools = root.join("target").join("tools");
    let own = tools.join("bin").join("cargo-deny");
    let installed =
        |program: &Path| Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    let asked = std::env::var_os("MEUSE_DENY").is_some_and(|value| value == "1");
    if asked && !installed(Path::new("cargo-deny")) && !installed(&own) {
        let mut install = cargo(root, &["install", "--locked", "cargo-deny", "--root"]);
        install.arg(&tools).env("CARGO_TARGET_DIR", tools.join("target"));
        if !runner::run(&mut install, LONG)? {
            return Err("cargo-deny could not be installed".to_owned());
        }
    }
    let program = [PathBuf::from("cargo-deny"), own].into_iter().find(|program| installed(program));
    let Some(program) = program else {
        println!("not run: cargo-deny is not installed. MEUSE_DENY=1 installs it under target/tools first");
        return Ok(Tally::default());
    };
    let mut deny = Command::new(program);
    deny.current_dir(root).args(["--locked", "check"]);
    check(deny)
}

/// The directories under `tests/` that hold a `test_*.py`.
fn suites(root: &Path) -> Result<Vec<PathBuf>, String> {
    let tests = root.join("tests");
    let unreadable = |error| format!("{} cannot be read: {error}", tests.display());
    let mut suites = Vec::new();
    for entry in std::fs::read_dir(&tests).map_err(unreadable)? {
        let directory = entry.map_err(unreadable)?.path();
        if directory.is_dir() && has_tests(&directory) {
            suites.push(directory);
        }
    }
    suites.sort();
    Ok(suites)
}

fn has_tests(directory: &Path) -> bool {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    files.map(|file| file.file_name()).any(|name| {
        let name = name.to_string_lossy();
        name.starts_with("test_") && name.ends_with(".py")
    })
}

/// A Python with the packages of tests/requirements.txt: `MEUSE_PYTHON`, or one made under `target/`.
fn test_python(root: &Path) -> Result<PathBuf, String> {
    match std::env::var_os("MEUSE_PYTHON") {
        Some(python) => Ok(PathBuf::from(python)),
        None => python::environment(
            &root.join("target").join("python"),
            &root.join("tests").join("requirements.txt"),
        ),
    }
}

/// A Python for one suite: with the packages of its own requirements where it has any, for those that hold a part of
/// the program against another implementation.
fn suite_python(root: &Path, directory: &Path) -> Result<PathBuf, String> {
    let own = directory.join("requirements.txt");
    if !own.exists() {
        return test_python(root);
    }
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    python::environment(&root.join("target").join(format!("python-{name}")), &own)
}

/// The directory of the model files that tests use, fetched by name and digest.
fn test_models(root: &Path, python: &Path) -> Result<PathBuf, String> {
    let directory = root.join("target").join("models");
    let mut fetch = Command::new(python);
    fetch.current_dir(root).arg("tests/models/fetch.py").args(TEST_MODELS);
    fetch.env("MEUSE_TEST_MODELS", &directory);
    match runner::run(&mut fetch, LONG)? {
        true => Ok(directory),
        false => Err("the model files for the tests could not be fetched".to_owned()),
    }
}

/// Runs one suite with pytest. It finds the program in `MEUSE_BIN` and starts its own server.
fn suite(root: &Path, directory: &Path) -> Result<Tally, String> {
    if !runner::run(&mut cargo(root, &["build", "--release", "--locked", "--package", "meuse"]), LONG)? {
        return Err("the program could not be built".to_owned());
    }
    let python = suite_python(root, directory)?;
    let mut pytest = Command::new(&python);
    pytest.current_dir(root).args(["-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "--tb=short"]);
    pytest.arg(directory);
    pytest.env("MEUSE_BIN", root.join("target").join("release").join("meuse"));
    pytest.env("MEUSE_PYTHON", &python).env("PYTHONDONTWRITEBYTECODE", "1");
    // The servers under test are here, whatever proxy leads elsewhere.
    pytest.env("NO_PROXY", "127.0.0.1,localhost").env("no_proxy", "127.0.0.1,localhost");
    runner::run_tests(&mut pytest, SUITE)
}
