//! Progress on standard error: a live bar where a person looks, plain lines in a log.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Output, megabytes, thousands};
use crate::client::wire::{CompletionStats, Epoch, PullProgress, TrainingProgress};

/// Epochs of a training job.
#[derive(Debug)]
pub struct EpochBar {
    bar: Bar,
    shown: usize,
}

/// Rows of a batch or evaluation job.
#[derive(Debug)]
pub struct RowBar {
    bar: Bar,
}

/// Bytes of a pull.
#[derive(Debug)]
pub struct ByteBar {
    bar: Bar,
    /// Tenths that a log has seen.
    tenths: u64,
}

/// Requests of a measurement.
#[derive(Debug)]
pub struct LoadBar {
    bar: Bar,
    name: String,
}

/// Where progress is drawn.
#[derive(Debug)]
enum Bar {
    Live(ProgressBar),
    Lines,
    Silent,
}

impl EpochBar {
    /// A bar that waits for the first epoch.
    pub fn new(output: &Output) -> Self {
        let template = "  {bar:24.cyan/dim} {pos:>3}/{len} epochs  {msg}";
        EpochBar { bar: Bar::new(output, template, "reading the rows"), shown: 0 }
    }

    /// Shows where the job is.
    pub fn update(&mut self, progress: &TrainingProgress) {
        let new = progress.progress.get(self.shown..).unwrap_or_default();
        self.shown = progress.progress.len();
        match &self.bar {
            Bar::Live(bar) => {
                if let Some(last) = new.last() {
                    bar.set_length(progress.epochs.max(last.epoch));
                    bar.set_position(last.epoch);
                    bar.set_message(figures(last));
                }
            }
            Bar::Lines => {
                for epoch in new {
                    let head = format!("  epoch {:>2}/{}", epoch.epoch, progress.epochs.max(epoch.epoch));
                    let _ = writeln!(io::stderr().lock(), "{head}  {}", figures(epoch));
                }
            }
            Bar::Silent => {}
        }
    }

    /// Leaves the last state standing.
    pub fn finish(self) {
        if let Bar::Live(bar) = self.bar {
            bar.abandon();
        }
    }
}

impl RowBar {
    /// A spinner for rows that nobody has counted.
    pub fn new(output: &Output, what: &str) -> Self {
        let bar = Bar::new(output, "  {spinner:.cyan} {msg}", what);
        RowBar { bar }
    }

    /// Shows how many rows are done.
    pub fn update(&self, stats: &CompletionStats) {
        if let Bar::Live(bar) = &self.bar {
            let done = thousands(stats.successful_count);
            bar.set_message(match stats.failed_count {
                0 => format!("{done} rows"),
                failed => format!("{done} rows, {} failed", thousands(failed)),
            });
        }
    }

    /// Takes the spinner away.
    pub fn finish(self) {
        if let Bar::Live(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

impl ByteBar {
    /// A bar that waits for the first byte.
    pub fn new(output: &Output) -> Self {
        let template = "  {bar:24.cyan/dim} {bytes}/{total_bytes}  {bytes_per_sec}  {msg}";
        ByteBar { bar: Bar::new(output, template, "asking for it"), tenths: 0 }
    }

    /// Shows how many bytes are here.
    pub fn update(&mut self, progress: &PullProgress) {
        let (done, total) = (progress.bytes_done, progress.bytes_total.max(progress.bytes_done));
        match &self.bar {
            Bar::Live(bar) => {
                bar.set_length(total);
                bar.set_position(done);
                bar.set_message(if done > 0 && done == total { "verifying" } else { "" });
            }
            Bar::Lines => {
                let tenths = (done * 10).checked_div(total).unwrap_or(0);
                if tenths > self.tenths {
                    let _ = writeln!(io::stderr().lock(), "  {} of {}", megabytes(done), megabytes(total));
                }
                self.tenths = tenths;
            }
            Bar::Silent => {}
        }
    }

    /// Takes the bar away.
    pub fn finish(self) {
        if let Bar::Live(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Steps of a bar that stands for a share.
const SHARES: u64 = 1000;

impl LoadBar {
    /// A bar for the level called `name`.
    pub fn new(output: &Output, name: String) -> Self {
        let bar = Bar::new(output, "  {bar:24.cyan/dim} {msg}", &name);
        if let Bar::Live(bar) = &bar {
            bar.set_length(SHARES);
        }
        LoadBar { bar, name }
    }

    /// Shows how many requests have ended and how much of the work is done.
    pub fn update(&self, ended: u64, share: f64) {
        if let Bar::Live(bar) = &self.bar {
            bar.set_position((share * SHARES as f64) as u64);
            bar.set_message(format!("{}: {} requests", self.name, thousands(ended)));
        }
    }

    /// Takes the bar away; in a log, says that the level is done.
    pub fn finish(self, ended: u64) {
        match self.bar {
            Bar::Live(bar) => bar.finish_and_clear(),
            Bar::Lines => {
                let _ = writeln!(io::stderr().lock(), "  {}: {} requests", self.name, thousands(ended));
            }
            Bar::Silent => {}
        }
    }
}

impl Bar {
    fn new(output: &Output, template: &str, message: &str) -> Self {
        if !output.progress() {
            return Bar::Silent;
        }
        if !io::stderr().is_terminal() {
            return Bar::Lines;
        }
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        bar.set_style(style.progress_chars("━╸─"));
        bar.set_message(message.to_owned());
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
        Bar::Live(bar)
    }
}

fn figures(epoch: &Epoch) -> String {
    let mut text = format!("loss {:.4}", epoch.loss);
    let mut add = |name: &str, value: Option<f64>| {
        if let Some(value) = value {
            text.push_str(&format!("  {name} {value:.4}"));
        }
    };
    add("accuracy", epoch.accuracy);
    add("val loss", epoch.validation_loss);
    add("val accuracy", epoch.validation_accuracy);
    text.push_str(&format!("  {:.2} s", epoch.seconds));
    text
}
