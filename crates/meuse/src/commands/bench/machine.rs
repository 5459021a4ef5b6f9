//! `meuse bench machine`

use std::time::Duration;

use clap::Args;
use kernels::{Isa, Pool, probe};
use serde_json::json;

use crate::failure::{Failure, Result};
use crate::show::Output;

/// How long each limit is probed.
const PROBE: Duration = Duration::from_millis(800);

/// The two limits of language models here: reading memory, and multiplying 8-bit integers.
#[derive(Debug, Args)]
#[command(
    after_help = "One stream answers at most (bytes read a second / bytes of the model) tokens a second; \
many together, at most (operations a second / twice the model's weights)."
)]
pub struct Machine {
    /// Threads that share the work [default: one a core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub threads: usize,
}

impl Machine {
    /// Measures and says what was found.
    ///
    /// # Errors
    /// If there is no memory to measure with.
    pub fn run(&self, output: &Output) -> Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = Pool::new(if self.threads == 0 { cores } else { self.threads.min(cores) });
        let isa = Isa::forced().map_err(|e| Failure::usage(e.to_string()))?.unwrap_or_else(Isa::best);
        let bandwidth = probe::bandwidth(&pool, PROBE)
            .map_err(|e| Failure::new(format!("the memory's speed could not be measured: {e}")))?;
        let rate = probe::int8_rate(&pool, isa, PROBE);
        if output.json {
            output.value(&json!({
                "threads": pool.threads(),
                "instructionSet": isa.name(),
                "bytesPerSecond": bandwidth,
                "int8OperationsPerSecond": rate,
            }));
        } else {
            output.line(format!("{} threads, {}", pool.threads(), isa.name()));
            output.line(format!("memory is read at {:.1} GB/s", bandwidth / 1e9));
            output.line(format!("8-bit integers are multiplied and added at {:.0} GOP/s", rate / 1e9));
        }
        Ok(())
    }
}
