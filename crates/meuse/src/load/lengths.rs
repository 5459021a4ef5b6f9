//! [`Lengths`]: how many tokens a prompt or an answer has.

use std::fmt;
use std::str::FromStr;

use super::Random;

/// Tokens that a prompt or an answer may be asked to have.
const TOKENS_MAX: u32 = 1_000_000;

/// A number of tokens, or a range of which every number is as likely: `128`, `64-256`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lengths {
    least: u32,
    most: u32,
}

impl Lengths {
    /// The least.
    pub fn least(self) -> u32 {
        self.least
    }

    /// The most.
    pub fn most(self) -> u32 {
        self.most
    }

    /// One of them.
    pub fn draw(self, random: &mut Random) -> u32 {
        self.least + random.below(self.most - self.least + 1)
    }
}

impl FromStr for Lengths {
    type Err = String;

    fn from_str(text: &str) -> Result<Lengths, String> {
        let (least, most) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.parse::<u32>().ok().filter(|count| (1..=TOKENS_MAX).contains(count));
        match (number(least), number(most)) {
            (Some(least), Some(most)) if least <= most => Ok(Lengths { least, most }),
            _ => Err(format!(
                "`{text}` is no number of tokens from 1 to {TOKENS_MAX}, such as 128, and no range of them, \
                 such as 64-256"
            )),
        }
    }
}

impl fmt::Display for Lengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.least == self.most {
            write!(f, "{}", self.least)
        } else {
            write!(f, "{}-{}", self.least, self.most)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_number_and_a_range_are_read() {
        let read = |text: &str| text.parse::<Lengths>();
        assert_eq!(read("128").unwrap(), Lengths { least: 128, most: 128 });
        assert_eq!(read("64-256").unwrap().to_string(), "64-256");
        for wrong in ["", "0", "-1", "a", "5-4", "1-2-3", "0-3", "1000001", "1.5"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_range_is_drawn_from_end_to_end() {
        let lengths: Lengths = "3-5".parse().unwrap();
        let mut random = Random::new(1, 1);
        let drawn: std::collections::BTreeSet<u32> = (0..100).map(|_| lengths.draw(&mut random)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [3, 4, 5]);
    }
}
