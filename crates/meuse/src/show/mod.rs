//! Answers on the terminal: [`Output`], [`Table`], progress, shaded text.

mod attribution;
mod output;
mod progress;
mod table;
mod words;

pub use attribution::{TokenShare, attribution_lines};
pub use output::{Output, Style};
pub use progress::{ByteBar, EpochBar, LoadBar, RowBar};
pub use table::Table;
pub use words::{ago, fit, megabytes, percent, thousands};
