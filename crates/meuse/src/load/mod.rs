//! Load for language models: who asks how much and when, what came of it, in figures and in a picture.
//!
//! [`Prompts`] are made to a length, [`ask()`] sends one and watches its answer come, [`run()`] sends many at a
//! [`Level`], [`Figures`] say what that was, [`plot()`] draws them.

mod ask;
mod figures;
mod lengths;
mod level;
mod plot;
mod prompts;
mod random;
mod run;
mod trouble;

pub use ask::{Answered, Asking, ask};
pub use figures::{Figures, Goal, Spread};
pub use lengths::Lengths;
pub use level::Level;
pub use plot::plot;
pub use prompts::Prompts;
pub use random::Random;
pub use run::{Limits, Plan, run};
pub use trouble::{Trouble, Troubles};
