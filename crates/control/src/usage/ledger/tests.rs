#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;
use crate::usage::{Money, Report, ReportBy, Wanted};

/// Writes down that a key used something.
fn append(ledger: &Ledger, key: &str, amount: Amount) {
    drop(ledger.append(User { project: "p", key, model: "m" }, &amount, now_ms()));
}

fn tokens(n: u64) -> Amount {
    Amount { requests: 1, prompt_tokens: n, cost: Money(n), ..Amount::default() }
}

/// All that each key used.
fn sums(ledger: &Ledger) -> BTreeMap<String, Amount> {
    let wanted =
        Wanted { first: Day::MIN, last: Day::MAX, project: Some("p".into()), by: vec![ReportBy::Key] };
    let report = Report::of(ledger, &[], &wanted).unwrap();
    report.rows.into_iter().map(|row| (row.key.unwrap(), row.amount)).collect()
}

#[test]
fn what_was_appended_is_there_after_a_crash_and_a_torn_line_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let first = Ledger::open(directory.path()).unwrap();
    for n in 0..100 {
        append(&first, "a", tokens(n));
    }
    append(&first, "b", tokens(7));
    let path = directory.path().join(segment_name(1));
    let whole = fs::read(&path).unwrap();
    // As a crash in the middle of a line leaves it.
    drop(first);
    fs::write(&path, &whole[..whole.len() - 5]).unwrap();
    let second = Ledger::open(directory.path()).unwrap();
    append(&second, "b", tokens(1));
    let all = BTreeMap::from([
        ("a".into(), Amount { requests: 100, prompt_tokens: 4950, cost: Money(4950), ..Amount::default() }),
        ("b".into(), tokens(1)),
    ]);
    assert_eq!(sums(&second), all);
    assert_eq!(segments(directory.path()).unwrap(), [1, 2]);
}

#[test]
fn whoever_writes_first_writes_for_those_who_wait() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    let lines = || fs::read_to_string(directory.path().join(segment_name(1))).unwrap().lines().count();
    let user = |key| User { project: "p", key, model: "m" };
    let [first, second, third] = ["a", "b", "c"].map(|key| ledger.append(user(key), &tokens(1), now_ms()));
    drop(second);
    assert_eq!(lines(), 3);
    drop((third, first));
    assert_eq!(lines(), 3);
    append(&ledger, "d", tokens(1));
    assert_eq!(lines(), 4);
}

#[test]
fn folding_counts_nothing_twice_whenever_it_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    append(&ledger, "a", tokens(3));
    drop(ledger);
    let ledger = Ledger::open(directory.path()).unwrap();
    append(&ledger, "a", tokens(4));
    let before = sums(&ledger);
    let path = directory.path().join(segment_name(1));
    let segment = fs::read(&path).unwrap();
    ledger.shared.fold(u64::MAX).unwrap();
    assert_eq!((sums(&ledger), segments(directory.path()).unwrap()), (before.clone(), vec![2]));
    // As a crash leaves it that comes after the totals and before the removal.
    fs::write(&path, segment).unwrap();
    assert_eq!(sums(&ledger), before);
    ledger.shared.fold(u64::MAX).unwrap();
    assert_eq!((sums(&ledger), segments(directory.path()).unwrap()), (before.clone(), vec![2]));
    // A number that was folded is never used again.
    drop(ledger);
    fs::remove_file(directory.path().join(segment_name(2))).unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    assert_eq!(segments(directory.path()).unwrap(), [2]);
    assert_eq!(sums(&ledger)["a"].requests, 1);
}

#[test]
fn a_full_segment_is_followed_by_another() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    append(&ledger, "a", tokens(3));
    lock(&ledger.shared.segment).length = SEGMENT_BYTES;
    append(&ledger, "a", tokens(4));
    assert_eq!(segments(directory.path()).unwrap(), [1, 2]);
    assert_eq!(sums(&ledger)["a"].prompt_tokens, 7);
}

#[test]
fn a_disk_that_takes_nothing_loses_nothing_for_a_while_and_then_lets_nobody_in() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(directory.path()).unwrap();
    // A file that cannot be written.
    let file = std::mem::replace(&mut lock(&ledger.shared.segment).file, File::open("/dev/null").unwrap());
    append(&ledger, "a", tokens(3));
    assert!(ledger.takes_entries());
    while lock(&ledger.shared.pending).bytes.len() < PENDING_BYTES_MAX / 2 {
        append(&ledger, "a", tokens(0));
    }
    assert!(!ledger.takes_entries());
    lock(&ledger.shared.segment).file = file;
    append(&ledger, "a", tokens(4));
    assert!(ledger.takes_entries());
    assert_eq!(sums(&ledger)["a"].prompt_tokens, 7);
}
