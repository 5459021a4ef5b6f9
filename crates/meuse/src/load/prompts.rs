//! [`Prompts`]: texts of a wanted number of tokens, as the server counts them.

use super::{Asking, Random, Trouble, ask};
use crate::client::ClientError;
use crate::failure::{Failure, Result};

/// Words that are one token each, with the blank before them, in nearly every vocabulary.
const WORDS: [&str; 64] = [
    "time",
    "year",
    "people",
    "way",
    "day",
    "man",
    "thing",
    "woman",
    "life",
    "child",
    "world",
    "school",
    "state",
    "family",
    "student",
    "group",
    "country",
    "problem",
    "hand",
    "part",
    "place",
    "case",
    "week",
    "company",
    "system",
    "program",
    "question",
    "work",
    "government",
    "number",
    "night",
    "point",
    "home",
    "water",
    "room",
    "mother",
    "area",
    "money",
    "story",
    "fact",
    "month",
    "lot",
    "right",
    "study",
    "book",
    "eye",
    "job",
    "word",
    "business",
    "issue",
    "side",
    "kind",
    "head",
    "house",
    "service",
    "friend",
    "father",
    "power",
    "hour",
    "game",
    "line",
    "end",
    "member",
    "law",
];

/// What every prompt ends with, so that answers do not end at once.
const WISH: &str = "\n\nWrite a long story with these words.";

/// Words of the first text that is counted.
const FEW: u32 = 8;
/// Words of the second text that is counted, as the lengths want it between these.
const MANY: std::ops::RangeInclusive<u32> = 40..=512;

/// Tokens of answer that are asked for when a text is counted; the first few may have no text.
const COUNTED_ANSWER: u32 = 8;

/// The sequences of a seed from which words are drawn that are in no prompt, and in every prompt.
const COUNTED: u64 = u64::MAX;
const SHARED: u64 = u64::MAX - 1;

/// Texts of a wanted number of tokens, as the server counts them.
#[derive(Debug, Clone)]
pub struct Prompts {
    seed: u64,
    /// Tokens that a prompt without words would have.
    empty: f64,
    /// Tokens that a word adds.
    per_word: f64,
    /// Words that all prompts begin with.
    shared: Vec<&'static str>,
}

impl Prompts {
    /// Asks the server how many tokens two texts have: what it adds itself, and what a word is worth.
    ///
    /// # Errors
    /// If it does not say.
    pub async fn counted_by(asking: &Asking, seed: u64, wanted: u32) -> Result<Prompts> {
        let mut random = Random::new(seed, COUNTED);
        let many = wanted.clamp(*MANY.start(), *MANY.end());
        let mut tokens = [0.0; 2];
        for (count, words) in tokens.iter_mut().zip([FEW, many]) {
            let text = text(&[], &mut random, words);
            *count = match ask(asking, &text, COUNTED_ANSWER).await {
                Ok(answered) => answered.prompt_tokens as f64,
                Err(unanswered) => return Err(unusable(asking, unanswered.trouble, unanswered.error)),
            };
        }
        let per_word = (tokens[1] - tokens[0]) / f64::from(many - FEW);
        if per_word <= 0.0 {
            let [few, many_tokens] = tokens;
            return Err(Failure::new(format!(
                "{} does not count a prompt's tokens: {FEW} words are {few} of them, {many} words are {many_tokens}",
                asking.client.url()
            )));
        }
        let empty = tokens[0] - f64::from(FEW) * per_word;
        Ok(Prompts { seed, empty, per_word, shared: Vec::new() })
    }

    /// Lets all prompts begin with the same `tokens`, where the shortest has `least`.
    ///
    /// # Errors
    /// If a prompt cannot be so short, or nothing of it would be its own.
    pub fn sharing(mut self, tokens: u32, least: u32) -> Result<Prompts> {
        let shortest = self.empty + self.per_word;
        if f64::from(least) < shortest {
            return Err(Failure::usage(format!(
                "a prompt cannot have {least} tokens: with one word it has {shortest:.0}, which the chat's form takes \
                 for itself"
            ))
            .next("ask for more with --prompt-tokens"));
        }
        if tokens > 0 && f64::from(tokens) > f64::from(least) - shortest {
            return Err(Failure::usage(format!(
                "prompts of {least} tokens cannot share {tokens}: besides what the chat's form takes there are {:.0}",
                f64::from(least) - shortest
            ))
            .next("ask for fewer with --shared-prefix-tokens or for more with --prompt-tokens"));
        }
        let mut random = Random::new(self.seed, SHARED);
        self.shared = words(&mut random, (f64::from(tokens) / self.per_word).round() as u32).collect();
        Ok(self)
    }

    /// The prompt of a request: about `tokens` of them, drawn from `random` where it is not shared.
    pub fn of(&self, tokens: u32, random: &mut Random) -> String {
        let words = ((f64::from(tokens) - self.empty) / self.per_word).round().max(1.0) as u32;
        let own = words.saturating_sub(self.shared.len() as u32).max(1);
        text(&self.shared, random, own)
    }
}

/// `shared` words, `own` drawn words, and the wish.
fn text(shared: &[&'static str], random: &mut Random, own: u32) -> String {
    let all: Vec<_> = shared.iter().copied().chain(words(random, own)).collect();
    all.join(" ") + WISH
}

fn words(random: &mut Random, count: u32) -> impl Iterator<Item = &'static str> {
    (0..count).map(|_| WORDS[random.below(WORDS.len() as u32) as usize])
}

/// Why nothing can be measured.
fn unusable(asking: &Asking, trouble: Trouble, error: Option<ClientError>) -> Failure {
    let url = asking.client.url();
    match (error, trouble) {
        (Some(error), _) => error.into(),
        (None, Trouble::NoUsage) => Failure::new(format!("{url} does not say how many tokens a prompt has"))
            .next("it would have to honour `stream_options: {\"include_usage\": true}`"),
        (None, Trouble::TimedOut) => {
            Failure::new(format!("{url} gave no answer within {:?}", asking.patience))
                .next("give it more: --timeout")
        }
        (None, trouble) => Failure::new(format!("{url} was asked for a few tokens: {trouble}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn prompts() -> Prompts {
        Prompts { seed: 1, empty: 30.0, per_word: 1.0, shared: Vec::new() }
    }

    /// As a server whose every word is a token counts it.
    fn tokens(text: &str) -> usize {
        30 + text.strip_suffix(WISH).unwrap().split(' ').count()
    }

    #[test]
    fn prompts_have_the_tokens_that_are_wanted() {
        for wanted in [31, 32, 100, 2000] {
            assert_eq!(tokens(&prompts().of(wanted, &mut Random::new(1, 1))), wanted as usize);
        }
    }

    #[test]
    fn what_is_shared_is_shared_and_nothing_else() {
        let prompts = prompts().sharing(50, 100).unwrap();
        let texts: Vec<String> = (0..2).map(|nth| prompts.of(100, &mut Random::new(1, nth))).collect();
        let words: Vec<Vec<&str>> = texts.iter().map(|text| text.split(' ').collect()).collect();
        assert!(words[0][..50] == words[1][..50] && words[0][50..60] != words[1][50..60]);
        assert!(texts.iter().all(|text| tokens(text) == 100));
    }

    #[test]
    fn what_cannot_be_is_refused_with_figures() {
        let refused = |shared, least| prompts().sharing(shared, least).unwrap_err().to_string();
        assert!(refused(0, 30).contains("with one word it has 31"));
        assert!(refused(70, 100).contains("there are 69"));
        assert!(prompts().sharing(69, 100).is_ok() && prompts().sharing(0, 31).is_ok());
    }
}
