//! What must stay true of the source, as ARCHITECTURE.md has it, where a machine can tell cheaply.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::runner;

/// A crate of the workspace and what it may know.
struct Rule {
    name: &'static str,
    /// The crates of ours that it may use: those below it.
    below: &'static [&'static str],
    /// Whether HTTP and wire JSON may be named.
    wire: bool,
    /// Whether there may be `async`.
    asynchronous: bool,
    /// Whether it may depend on `serde_json`.
    json: bool,
    /// Where the compiler may be told to trust us.
    trust: Trust,
}

/// Where code may do what the compiler cannot check, and name CPU instructions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    Nowhere,
    /// In this file: no instructions, but memory that the operating system maps.
    File(&'static str),
    /// Everywhere: the crate is made of it.
    Everywhere,
}

const RULES: [Rule; 11] = [
    Rule { name: "xtask", below: &[], wire: false, asynchronous: false, json: false, trust: Trust::Nowhere },
    Rule {
        name: "meuse",
        below: &["api", "control", "serving", "analysis", "train", "tensor", "llm", "kernels", "formats"],
        wire: true,
        asynchronous: true,
        json: true,
        trust: Trust::Nowhere,
    },
    Rule {
        name: "api",
        below: &["control", "serving", "analysis", "train", "tensor", "llm", "kernels", "formats"],
        wire: true,
        asynchronous: true,
        json: true,
        trust: Trust::Nowhere,
    },
    Rule {
        name: "control",
        below: &["serving", "analysis", "train", "tensor", "llm", "kernels", "formats"],
        wire: false,
        asynchronous: true,
        json: true,
        trust: Trust::Nowhere,
    },
    Rule {
        name: "serving",
        below: &["analysis", "train", "tensor", "llm", "kernels", "formats"],
        wire: false,
        asynchronous: true,
        json: false,
        trust: Trust::Nowhere,
    },
    Rule {
        name: "analysis",
        below: &[],
        wire: false,
        asynchronous: false,
        json: false,
        trust: Trust::Nowhere,
    },
    Rule {
        name: "train",
        below: &["tensor", "kernels", "formats"],
        wire: false,
        asynchronous: false,
        json: false,
        trust: Trust::Nowhere,
    },
    Rule {
        name: "tensor",
        below: &["kernels", "formats"],
        wire: false,
        asynchronous: false,
        json: false,
        trust: Trust::Nowhere,
    },
    Rule {
        name: "llm",
        below: &["kernels", "formats"],
        wire: false,
        asynchronous: false,
        json: false,
        trust: Trust::Nowhere,
    },
    Rule {
        name: "kernels",
        below: &["formats"],
        wire: false,
        asynchronous: false,
        json: false,
        trust: Trust::Everywhere,
    },
    Rule {
        name: "formats",
        below: &[],
        wire: false,
        asynchronous: false,
        json: true,
        trust: Trust::File("src/map.rs"),
    },
];

/// Libraries that speak HTTP on the server's side.
const WIRE: [&str; 5] = ["axum", "hyper", "hyper-util", "tonic", "tower"];
/// Libraries that make code asynchronous.
const ASYNC: [&str; 4] = ["tokio", "async-trait", "futures-util", "futures"];
/// Of those three kinds, what must not even come in through others: into the engines that run on threads of their own.
const NEVER_BELOW_SERVING: [&str; 3] = ["axum", "hyper", "tonic"];

/// One line for each thing that is not as it must be.
pub(crate) fn faults(root: &Path) -> Result<Vec<String>, String> {
    let graph = Graph::read(root)?;
    let mut faults = Vec::new();
    for directory in members(root)? {
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match RULES.iter().find(|rule| rule.name == name) {
            Some(rule) => {
                check_dependencies(&graph, rule, &mut faults);
                check_manifest(&directory, rule, &mut faults)?;
                check_source(root, &directory, rule, &mut faults)?;
            }
            None => faults.push(format!(
                "{name}: a crate without a rule; say in xtask/src/invariants.rs what it may know"
            )),
        }
    }
    Ok(faults)
}

/// Which package uses which when it runs.
struct Graph {
    /// By `name vVERSION`.
    uses: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn read(root: &Path) -> Result<Graph, String> {
        let mut tree = Command::new("cargo");
        tree.current_dir(root).args(["tree", "--workspace", "--locked", "--edges", "normal"]);
        tree.args(["--prefix", "depth", "--format", " {p}"]);
        Ok(Graph::parse(&runner::output(&mut tree)?))
    }

    /// Lines of a depth and a package. A package whose own lines were already given is not opened again.
    fn parse(tree: &str) -> Graph {
        let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut path: Vec<String> = Vec::new();
        for line in tree.lines() {
            let mut words = line.split_whitespace();
            let (Some(Ok(depth)), Some(name), Some(version)) =
                (words.next().map(str::parse::<usize>), words.next(), words.next())
            else {
                continue;
            };
            let package = format!("{name} {version}");
            path.truncate(depth);
            if let Some(user) = path.last() {
                uses.entry(user.clone()).or_default().insert(package.clone());
            }
            path.push(package);
        }
        Graph { uses }
    }

    /// Names of what the package `name` uses itself.
    fn direct(&self, name: &str) -> BTreeSet<&str> {
        let ours = self.uses.iter().filter(|(user, _)| name_of(user) == name);
        ours.flat_map(|(_, used)| used).map(|used| name_of(used)).collect()
    }

    /// Names of what the package `name` uses, itself or through others.
    fn all(&self, name: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut open: Vec<&String> = self.uses.keys().filter(|user| name_of(user) == name).collect();
        while let Some(user) = open.pop() {
            for used in self.uses.get(user).into_iter().flatten() {
                if found.insert(used) {
                    open.push(used);
                }
            }
        }
        found.into_iter().map(|package| name_of(package)).collect()
    }
}

fn name_of(package: &str) -> &str {
    package.split(' ').next().unwrap_or_default()
}

fn members(root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut members = entries(&root.join("crates"))?;
    members.push(root.join("xtask"));
    members.retain(|member| member.join("Cargo.toml").exists());
    members.sort();
    Ok(members)
}

fn check_dependencies(graph: &Graph, rule: &Rule, faults: &mut Vec<String>) {
    let name = rule.name;
    for dependency in graph.direct(name) {
        let ours = RULES.iter().any(|r| r.name == dependency);
        if ours && !rule.below.contains(&dependency) {
            faults.push(format!("{name}: depends on `{dependency}`, which is not below it"));
        }
        if !rule.wire && WIRE.contains(&dependency) {
            faults.push(format!("{name}: depends on `{dependency}`; only `api` and above know HTTP"));
        }
        if !rule.asynchronous && ASYNC.contains(&dependency) {
            faults.push(format!("{name}: depends on `{dependency}`; it is a synchronous crate"));
        }
        if !rule.json && dependency == "serde_json" {
            faults.push(format!("{name}: depends on `serde_json`; JSON of artifacts is read in `formats`"));
        }
        if name == "xtask" {
            faults.push(format!("xtask: depends on `{dependency}`; it has no dependencies"));
        }
    }
    // Object storage needs an HTTP client, so `control` has one beneath it.
    if !rule.wire && name != "control" {
        for dependency in graph.all(name) {
            if NEVER_BELOW_SERVING.contains(&dependency) {
                faults.push(format!("{name}: `{dependency}` comes in through a dependency"));
            }
        }
    }
}

fn check_manifest(directory: &Path, rule: &Rule, faults: &mut Vec<String>) -> Result<(), String> {
    let manifest = read(&directory.join("Cargo.toml"))?;
    let own = rule.trust != Trust::Nowhere && manifest.contains(concat!("[lints.rust]\nuns", "afe_code = "));
    if !own && !manifest.contains("[lints]\nworkspace = true") {
        faults.push(format!("{}: its manifest does not take the workspace's lints", rule.name));
    }
    Ok(())
}

fn check_source(root: &Path, directory: &Path, rule: &Rule, faults: &mut Vec<String>) -> Result<(), String> {
    let mut files = Vec::new();
    for part in ["src", "tests", "examples", "benches"] {
        rust_files(&directory.join(part), &mut files)?;
    }
    files.sort();
    for file in files {
        let text = read(&file)?;
        let trusted = match rule.trust {
            Trust::Nowhere => false,
            Trust::File(only) => file == directory.join(only),
            Trust::Everywhere => true,
        };
        for (number, line) in text.lines().enumerate() {
            let code = without_comment(line);
            if let Some(fault) = source_fault(code, rule, trusted) {
                let shown = file.strip_prefix(root).unwrap_or(&file).display();
                faults.push(format!("{shown}:{}: {fault}", number + 1));
            }
        }
    }
    Ok(())
}

fn source_fault(code: &str, rule: &Rule, trusted: bool) -> Option<&'static str> {
    // The names are put together here so that this file does not itself contain them.
    let unchecked = has_word(code, concat!("uns", "afe")) || code.contains(concat!("allow(uns", "afe_code"));
    if unchecked && !trusted {
        return Some("unsafe code; it belongs into `kernels`");
    }
    if rule.trust != Trust::Everywhere
        && (code.contains(concat!("std::", "arch")) || code.contains(concat!("core::", "arch")))
    {
        return Some("CPU intrinsics; they belong into `kernels`");
    }
    if !rule.asynchronous && (has_word(code, concat!("as", "ync")) || has_word(code, concat!("aw", "ait"))) {
        return Some("asynchronous code in a synchronous crate");
    }
    None
}

fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        ![before, after].into_iter().flatten().any(|c| c.is_alphanumeric() || matches!(c, '_' | '"' | '-'))
    })
}

/// Enough for lines of code: a `//` inside a string hides the rest of that line, which only makes the check milder.
fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    if !directory.exists() {
        return Ok(());
    }
    for path in entries(directory)? {
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error| format!("{} cannot be read: {error}", directory.display());
    let entries = std::fs::read_dir(directory).map_err(unreadable)?;
    entries.map(|entry| entry.map(|e| e.path()).map_err(unreadable)).collect()
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: &str, name: &str) -> bool {
        RULES
            .iter()
            .any(|rule| rule.name == name && source_fault(without_comment(code), rule, false).is_some())
    }

    #[test]
    fn what_is_forbidden_is_found() {
        assert!(fault(concat!("    uns", "afe { *p }"), "serving"));
        assert!(fault(concat!("use std::", "arch::x86_64;"), "tensor"));
        assert!(fault(concat!("pub as", "ync fn a() {}"), "train"));
        assert!(fault(concat!("x.aw", "ait"), "analysis"));
    }

    #[test]
    fn what_is_not_is_left_alone() {
        assert!(!fault(concat!("pub as", "ync fn a() {}"), "control"));
        assert!(!fault(concat!("// no uns", "afe here"), "serving"));
        assert!(!fault(concat!("fn uns", "afely_named() {}"), "serving"));
    }

    #[test]
    fn a_tree_is_read_as_a_graph() {
        let graph = Graph::parse(
            "0 a v1.0.0 (/a)\n1 b v1.0.0\n2 c v2.0.0\n1 c v1.0.0\n\n0 d v1.0.0\n1 b v1.0.0 (*)\n",
        );
        assert_eq!(graph.direct("a"), BTreeSet::from(["b", "c"]));
        assert_eq!(graph.direct("d"), BTreeSet::from(["b"]));
        assert_eq!(graph.all("d"), BTreeSet::from(["b", "c"]));
    }

    #[test]
    fn arrows_point_down_only() {
        for rule in &RULES {
            for below in rule.below {
                let lower = RULES.iter().find(|r| r.name == *below);
                assert!(lower.is_some_and(|r| !r.below.contains(&rule.name)), "{} and {below}", rule.name);
            }
        }
    }
}
