//! Fail points: the durable steps of storage, artifacts and jobs, at each of which a test can crash
//! this process or fill its disk.
//!
//! `MEUSE_FAULT=abort@N` ends the process, without any clean-up, at the N-th durable step;
//! `MEUSE_FAULT=disk_full@N` lets every step from the N-th on fail as a full disk does;
//! `MEUSE_FAULT=count` changes nothing and lets a test ask how many steps a run takes. Unset, which
//! is the rule, a step costs one read of a flag.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// What to do at which step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Nothing,
    Count,
    AbortAt(u64),
    DiskFullFrom(u64),
}

static PLAN: OnceLock<Plan> = OnceLock::new();
static STEPS: AtomicU64 = AtomicU64::new(0);

/// Passes one durable step: something is about to be written that a restart will find.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`] when the plan says so.
pub(crate) fn step() -> io::Result<()> {
    let plan = *PLAN.get_or_init(|| std::env::var("MEUSE_FAULT").map_or(Plan::Nothing, |v| parse(&v)));
    if plan == Plan::Nothing {
        return Ok(());
    }
    let number = STEPS.fetch_add(1, Ordering::SeqCst) + 1;
    match plan {
        Plan::AbortAt(n) if n == number => std::process::abort(),
        Plan::DiskFullFrom(n) if n <= number => Err(io::Error::from(io::ErrorKind::StorageFull)),
        _ => Ok(()),
    }
}

/// How many durable steps have been passed, while a plan is set.
#[must_use]
pub fn steps_passed() -> u64 {
    STEPS.load(Ordering::SeqCst)
}

fn parse(plan: &str) -> Plan {
    let at = |text: &str| text.parse().unwrap_or(u64::MAX);
    match plan.split_once('@') {
        Some(("abort", n)) => Plan::AbortAt(at(n)),
        Some(("disk_full", n)) => Plan::DiskFullFrom(at(n)),
        _ if plan == "count" => Plan::Count,
        _ => Plan::Nothing,
    }
}
