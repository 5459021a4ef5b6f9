//! The crate through its public doors. One program for all of it: each costs a minute of compiling.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

mod common;
mod jobs;
mod jobs_crash;
mod registry;
mod requests;
mod storage;
#[cfg(unix)]
mod store_crash;
