//! `meuse bench`

mod answers;
mod machine;
mod report;

use clap::{Args, Subcommand};

use crate::failure::Result;
use crate::show::Output;

/// Measure a language model under load, or this machine.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_value_name = "OTHER",
    subcommand_help_heading = "Other measurements",
    after_help = "Any address that speaks OpenAI's protocol can be measured: --url http://HOST:PORT, with /v1 or without.\n\
Prompts are random words, made to a length by asking the server how many tokens it counts. Answers may end before\n\
their length; --extra-body '{\"ignore_eos\": true}' forbids that where the server knows it. Rates are over the time\n\
from the first request to the end of the last answer. Ctrl-C shows what was measured so far."
)]
pub struct Bench {
    /// What is measured unless something else is named.
    #[command(flatten)]
    pub answers: answers::Answers,
    /// What else to measure.
    #[command(subcommand)]
    pub other: Option<Other>,
}

/// What else to measure.
#[derive(Debug, Subcommand)]
pub enum Other {
    /// The two limits of language models here: reading memory, and multiplying 8-bit integers
    Machine(machine::Machine),
}

impl Bench {
    /// Measures and says what was found.
    ///
    /// # Errors
    /// If nothing can be measured.
    pub async fn run(&self, output: &Output) -> Result<()> {
        match &self.other {
            None => self.answers.run(output).await,
            Some(Other::Machine(machine)) => machine.run(output),
        }
    }
}
