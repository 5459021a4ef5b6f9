//! Models that make a vector of a text (Reimers and Gurevych, 2019), or judge how well two go together (Nogueira and Cho,
//! 2019): encoders made for it, and decoders whose file says how their hidden states become one vector.
//!
//! The texts of a step lie one after another, without padding, and each sees its own tokens alone. So the numbers of
//! one depend, to the last bit, on nothing else that is computed with it.

mod bert;
mod input;
mod load;
mod pool;
mod shape;
mod states;
mod step;
#[cfg(test)]
mod tests;
mod weights;

use crate::forward::ForwardError;
use bert::Bert;
use states::States;

pub use input::Input;
pub use load::LoadedEncoder;
pub use pool::Pooler;

/// Tokens that are computed together, unless one text alone has more. Larger steps were not faster.
pub const STEP_TOKENS: usize = 1024;

/// What an encoder makes of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Makes {
    /// A vector of so many numbers.
    Vectors(usize),
    /// One number: how well a pair of texts goes together.
    Scores,
}

/// A model's weights and what computes them.
#[derive(Debug)]
pub struct Encoder(Kind);

#[derive(Debug)]
enum Kind {
    Bert(Box<Bert>),
    Decoder(Box<States>),
}

impl Encoder {
    /// What it makes of a text.
    #[must_use]
    pub fn makes(&self) -> Makes {
        match &self.0 {
            Kind::Bert(bert) => bert.makes(),
            Kind::Decoder(states) => Makes::Vectors(states.width()),
        }
    }

    /// Tokens that a text may have, those at its ends included.
    #[must_use]
    pub fn tokens_max(&self) -> usize {
        match &self.0 {
            Kind::Bert(bert) => bert.tokens_max(),
            Kind::Decoder(states) => states.tokens_max(),
        }
    }

    /// What it makes of each text: its vector, or a vector of its score alone.
    ///
    /// # Errors
    /// If a text has no token, too many, or one that the model does not have. Nothing is computed then.
    pub fn run(&mut self, texts: &[Input]) -> Result<Vec<Vec<f32>>, ForwardError> {
        texts.iter().try_for_each(|text| self.check(text))?;
        match &mut self.0 {
            Kind::Bert(bert) => Ok(bert.run(texts)),
            Kind::Decoder(states) => states.run(texts),
        }
    }

    fn check(&self, text: &Input) -> Result<(), ForwardError> {
        let vocab = match &self.0 {
            Kind::Bert(bert) => bert.vocab(),
            Kind::Decoder(states) => states.vocab(),
        };
        let (len, max) = (text.tokens.len(), self.tokens_max());
        if len == 0 || len > max {
            return Err(ForwardError(format!("a text of {len} tokens; 1 to {max} are possible")));
        }
        match text.tokens.iter().find(|&&token| token as usize >= vocab) {
            Some(token) => Err(ForwardError(format!("token {token} is not one of its {vocab}"))),
            None => Ok(()),
        }
    }
}
