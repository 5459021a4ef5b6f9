//! [`Cli`]: what can be typed.

use clap::{Parser, Subcommand};

use crate::commands;

/// Model as a Service that you own: train, register, deploy, predict, chat, batch, evaluate and explain.
#[derive(Debug, Parser)]
#[command(name = "meuse", version, max_term_width = 100, propagate_version = true)]
#[command(after_help = "Start here: `meuse quickstart`. Exit codes: 0 done, 1 failed, 2 bad usage.")]
pub struct Cli {
    /// Print JSON on standard output, for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Serve(commands::serve::Serve),
    /// See everything at work: train, deploy, evaluate, batch, predict, explain; pull a language model and ask it
    Quickstart(crate::quickstart::Quickstart),
    /// Train a model on a CSV file and register it as a version
    Train(commands::train::Train),
    /// Register a model that was made elsewhere (ONNX, Keras, GGUF, an encoder's directory) as a version
    Import(commands::import::Import),
    /// Fetch a model by its name or address and register it as a version; list what there is
    Pull(commands::pull::Pull),
    /// Put a version behind an endpoint, and wait until it serves
    Deploy(commands::deploy::Deploy),
    /// Take a model off its endpoint
    Undeploy(commands::undeploy::Undeploy),
    /// Ask a deployed model
    Predict(commands::predict::Predict),
    /// Talk to a language model
    Chat(commands::chat::Chat),
    /// Predict every row of a file or of objects in a bucket
    Batch(commands::batch::Batch),
    /// Measure a version on labelled rows
    Evaluate(commands::evaluate::Evaluate),
    /// See which words or columns a prediction rests on
    Explain(commands::explain::Explain),
    /// List models, or the versions of one
    Models(commands::models::Models),
    /// List endpoints and who gets how much of the traffic
    Endpoints(commands::endpoints::Endpoints),
    /// List jobs, or watch or cancel one
    Jobs(commands::jobs::Jobs),
    /// Make, list, rotate and withdraw keys
    Keys(commands::keys::Keys),
    /// Read and verify the log of who did what
    Audit(commands::audit::Audit),
    /// Print the environment in which programs written for a cloud come to this server
    Env(commands::env::Env),
    /// Limit what projects and keys may use, and say what models cost
    Quota(commands::quota::Quota),
    /// See what was used, by project, key, model and day
    Usage(commands::usage::Usage),
    /// Measure a language model under load, or this machine
    Bench(commands::bench::Bench),
    /// Check this machine, the data directory and the server, and say what to do
    Doctor(commands::doctor::Doctor),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn definition_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
