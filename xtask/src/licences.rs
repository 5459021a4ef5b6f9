//! Whether every dependency's licence is among those that `deny.toml` allows.
//!
//! The same check as `cargo deny check licenses`, without having to compile that program first.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::runner;

/// One line for each package whose licence is not allowed.
pub(crate) fn faults(root: &Path) -> Result<Vec<String>, String> {
    let allowed = allowed(&root.join("deny.toml"))?;
    let mut tree = Command::new("cargo");
    tree.current_dir(root).args(["tree", "--workspace", "--locked", "--edges", "normal,build"]);
    tree.args(["--prefix", "none", "--format", "{p}|{l}"]);
    let mut faults = BTreeSet::new();
    for line in runner::output(&mut tree)?.lines() {
        let Some((package, licence)) = line.trim_end_matches(" (*)").split_once('|') else { continue };
        if !accepts(licence, &allowed) {
            faults.insert(format!("{package}: licence `{licence}` is not allowed in deny.toml"));
        }
    }
    Ok(faults.into_iter().collect())
}

/// The list `allow = [ … ]` of `[licenses]`: as much of TOML is read as deny.toml uses.
fn allowed(path: &Path) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let section = text.split_once("[licenses]").map(|(_, section)| section).unwrap_or_default();
    let list = section.split_once("allow = [").and_then(|(_, rest)| rest.split_once("\n]"));
    list.map(|(list, _)| quoted(list))
        .ok_or_else(|| format!("{} has no `allow` list in `[licenses]`", path.display()))
}

fn quoted(list: &str) -> Vec<String> {
    let lines = list.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.flat_map(|line| line.split('"').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be met with `allowed`. The old form `A/B` means `A OR B`.
fn accepts(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    any_of(&mut rest, allowed) && rest.is_empty()
}

fn any_of(rest: &mut &[&str], allowed: &[String]) -> bool {
    let mut accepted = all_of(rest, allowed);
    while take(rest, "OR") {
        accepted |= all_of(rest, allowed);
    }
    accepted
}

fn all_of(rest: &mut &[&str], allowed: &[String]) -> bool {
    let mut accepted = one(rest, allowed);
    while take(rest, "AND") {
        accepted &= one(rest, allowed);
    }
    accepted
}

fn one(rest: &mut &[&str], allowed: &[String]) -> bool {
    if take(rest, "(") {
        let accepted = any_of(rest, allowed);
        return take(rest, ")") && accepted;
    }
    let Some((name, after)) = rest.split_first() else { return false };
    *rest = after;
    let mut name = (*name).to_owned();
    if let ["WITH", exception, after @ ..] = *rest {
        name = format!("{name} WITH {exception}");
        *rest = after;
    }
    allowed.contains(&name)
}

fn take(rest: &mut &[&str], token: &str) -> bool {
    match rest.split_first() {
        Some((first, after)) if *first == token => {
            *rest = after;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_or_not() {
        let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("MIT OR GPL-3.0-only", true),
            ("MIT AND GPL-3.0-only", false),
            ("GPL-3.0-only/MIT", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", false),
            ("Unicode-3.0 OR (MIT AND Apache-2.0)", true),
            ("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true),
            ("GPL-2.0 WITH LLVM-exception", false),
            ("", false),
            ("(MIT", false),
            ("MIT MIT", false),
        ] {
            assert_eq!(accepts(expression, &allowed), expected, "{expression}");
        }
    }
}
