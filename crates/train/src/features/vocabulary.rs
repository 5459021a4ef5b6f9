//! Vocabularies: the most frequent terms of texts.

use std::collections::HashMap;

use formats::spec::Analyzer;
use tensor::features::for_each_term;
use tensor::features::tokens::{Scratch, Tokenizer};

/// How often terms occur, in how many texts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Term to the number of texts with it and the last of these.
    terms: HashMap<Box<str>, (u32, u32)>,
}

/// More different terms than this are thinned out while counting.
const TERMS_MAX: usize = 4 << 20;

impl Tally {
    /// Counts `term` in text number `text`, once a text.
    pub(crate) fn add(&mut self, term: &str, text: u32) {
        match self.terms.get_mut(term) {
            Some((_, last)) if *last == text => {}
            Some((count, last)) => {
                *count += 1;
                *last = text;
            }
            None => {
                self.terms.insert(term.into(), (1, text));
            }
        }
    }

    /// Forgets terms seen once, where there are too many. Which ones follows from the texts alone.
    pub(crate) fn thin(&mut self) {
        if self.terms.len() > TERMS_MAX {
            self.terms.retain(|_, (count, _)| *count > 1);
        }
    }

    /// At most `max` terms in at least `least` texts, most frequent first, ties by the alphabet.
    pub(crate) fn top(self, least: u32, max: usize) -> Vec<(String, u32)> {
        let kept = self.terms.into_iter().filter(|(_, (count, _))| *count >= least);
        let mut terms: Vec<(String, u32)> = kept.map(|(term, (count, _))| (term.into(), count)).collect();
        terms.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        terms.truncate(max);
        terms
    }
}

/// At most `max` of the texts themselves, most frequent first.
pub(crate) fn most_frequent<'a>(texts: impl Iterator<Item = &'a str>, max: usize) -> Vec<String> {
    let mut tally = Tally::default();
    for (i, text) in (0u32..).zip(texts) {
        tally.add(text, i);
    }
    tally.top(1, max).into_iter().map(|(text, _)| text).collect()
}

/// The terms of a `terms` step of `width` columns, and the rarity of each column.
pub(crate) fn terms(
    texts: &[&str],
    analyzer: Analyzer,
    ngrams: [usize; 2],
    width: usize,
    unknown: bool,
) -> (Vec<String>, Vec<f32>) {
    let mut tally = Tally::default();
    let mut scratch = Scratch::default();
    for (i, text) in (0u32..).zip(texts) {
        for_each_term(analyzer, ngrams, text, &mut scratch, |term, _, _| tally.add(term, i));
        tally.thin();
    }
    let terms = tally.top(1, width - usize::from(unknown));
    let texts = texts.len() as f64;
    // Keras' formula where a term is what Keras takes for one, otherwise scikit-learn's.
    let rarity = |count: f64| match analyzer {
        Analyzer::Whitespace => (1.0 + texts / (1.0 + count)).ln(),
        Analyzer::Words | Analyzer::Characters => ((1.0 + texts) / (1.0 + count)).ln() + 1.0,
    };
    let mut rarities: Vec<f32> = terms.iter().map(|(_, count)| rarity(f64::from(*count)) as f32).collect();
    if unknown {
        // Keras gives unknown terms the mean rarity.
        let mean = rarities.iter().sum::<f32>() / rarities.len().max(1) as f32;
        rarities.insert(0, mean);
    }
    (terms.into_iter().map(|(term, _)| term).collect(), rarities)
}

/// The `max` most frequent tokens of a `sequence` step.
pub(crate) fn tokens(texts: &[&str], max: usize) -> Vec<String> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    let mut scratch = Scratch::default();
    for text in texts {
        Tokenizer::Whitespace.join(text, &mut scratch);
        for span in &scratch.ends {
            let token = scratch.joined.get(span.clone()).unwrap_or_default();
            match counts.get_mut(token) {
                Some(count) => *count += 1,
                None => {
                    counts.insert(token.to_owned(), 1);
                }
            }
        }
    }
    let mut tokens: Vec<(String, u64)> = counts.into_iter().collect();
    tokens.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    tokens.truncate(max);
    tokens.into_iter().map(|(token, _)| token).collect()
}
