//! Model as a Service that you own: the program `meuse`.
//!
//! [`cli`] is what can be typed, [`commands`] does it, mostly by asking a running server through
//! [`client`]; [`show`] draws the answers; [`server`] is that server; [`load`] asks a language model much at once;
//! [`quickstart`] is the tour.

pub mod cli;
pub mod client;
pub mod commands;
pub mod connection;
pub mod data_dir;
pub mod failure;
pub mod load;
pub mod quickstart;
pub mod server;
pub mod show;
pub mod sources;
mod time;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let output = show::Output::detect(cli.json);
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| failure::Failure::new(format!("the runtime could not be started: {e}")))
        .and_then(|runtime| runtime.block_on(commands::run(cli.command, &output)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}
