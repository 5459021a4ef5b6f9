//! One file a command: what it takes, what it does, what it prints.

pub mod audit;
pub mod batch;
pub mod bench;
pub mod chat;
pub mod deploy;
pub mod doctor;
pub mod endpoints;
pub mod env;
pub mod evaluate;
pub mod explain;
pub mod import;
pub mod jobs;
pub mod keys;
pub mod models;
pub mod predict;
pub mod pull;
pub mod quota;
pub(crate) mod rows;
pub mod serve;
mod tables;
pub mod train;
pub mod undeploy;
pub mod usage;

use crate::cli::Command;
use crate::failure::Result;
use crate::show::Output;

/// Does what was typed.
///
/// # Errors
/// If it could not be done.
pub async fn run(command: Command, output: &Output) -> Result<()> {
    match command {
        Command::Serve(command) => command.run(output).await,
        Command::Quickstart(command) => command.run(output).await,
        Command::Train(command) => command.run(output).await,
        Command::Import(command) => command.run(output).await,
        Command::Pull(command) => command.run(output).await,
        Command::Deploy(command) => command.run(output).await,
        Command::Undeploy(command) => command.run(output).await,
        Command::Predict(command) => command.run(output).await,
        Command::Chat(command) => command.run(output).await,
        Command::Batch(command) => command.run(output).await,
        Command::Evaluate(command) => command.run(output).await,
        Command::Explain(command) => command.run(output).await,
        Command::Models(command) => command.run(output).await,
        Command::Endpoints(command) => command.run(output).await,
        Command::Jobs(command) => command.run(output).await,
        Command::Keys(command) => command.run(output).await,
        Command::Audit(command) => command.run(output).await,
        Command::Env(command) => command.run(output).await,
        Command::Quota(command) => command.run(output).await,
        Command::Usage(command) => command.run(output).await,
        Command::Bench(command) => command.run(output).await,
        Command::Doctor(command) => command.run(output).await,
    }
}
