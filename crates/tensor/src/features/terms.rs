//! The `terms` text step: one column per term of a vocabulary.

use formats::spec::{Analyzer, Weighting};

use super::hash::{FastMap, index};
use super::tokens::{Scratch, Tokenizer, for_each_gram};

/// Lookup tables of one fitted step.
#[derive(Debug)]
pub(crate) struct TermsStep {
    pub(crate) analyzer: Analyzer,
    pub(crate) ngrams: [usize; 2],
    weighting: Weighting,
    normalize: bool,
    unknown: bool,
    terms: FastMap<Box<str>, u32>,
    rarity: Vec<f32>,
}

impl TermsStep {
    pub(crate) fn new(
        analyzer: Analyzer,
        ngrams: [usize; 2],
        weighting: Weighting,
        [normalize, unknown]: [bool; 2],
        terms: &[String],
        rarity: &[f32],
    ) -> Self {
        let terms = index(terms);
        TermsStep { analyzer, ngrams, weighting, normalize, unknown, terms, rarity: rarity.to_vec() }
    }

    pub(crate) fn width(&self) -> usize {
        self.rarity.len()
    }

    pub(crate) fn tokenizer(&self) -> Tokenizer {
        tokenizer(self.analyzer)
    }

    /// Writes the row of `text`.
    pub(crate) fn write(&self, text: &str, out: &mut [f32], scratch: &mut Scratch) {
        self.count(text, out, scratch);
        for (value, rarity) in out.iter_mut().zip(&self.rarity) {
            *value = match self.weighting {
                Weighting::TfIdf => *value * rarity,
                Weighting::Count => *value,
                Weighting::Presence => value.min(1.0),
            };
        }
        if self.normalize {
            let length = out.iter().map(|v| v * v).sum::<f32>().sqrt();
            if length > 0.0 {
                out.iter_mut().for_each(|v| *v /= length);
            }
        }
    }

    /// Shares of each token in `attributions`: a column's goes to its occurrences in equal parts.
    pub(crate) fn share(&self, text: &str, attributions: &[f64], scratch: &mut Scratch) -> Vec<f64> {
        let tokens = self.tokenizer().spans(text).count();
        let mut added = vec![vec![0.0; self.width()]; tokens];
        self.occurrences(text, scratch, |column, first, length| {
            for token in added.iter_mut().skip(first).take(length) {
                token[column] += 1.0 / length as f32;
            }
        });
        super::share::by_contribution(&added, attributions)
    }

    fn count(&self, text: &str, out: &mut [f32], scratch: &mut Scratch) {
        out.fill(0.0);
        self.occurrences(text, scratch, |column, _, _| {
            if let Some(count) = out.get_mut(column) {
                *count += 1.0;
            }
        });
    }

    /// Calls `f` with the column, the first token and the number of tokens of each occurrence.
    fn occurrences(&self, text: &str, scratch: &mut Scratch, mut f: impl FnMut(usize, usize, usize)) {
        let first = u32::from(self.unknown);
        for_each_term(self.analyzer, self.ngrams, text, scratch, |term, token, length| {
            match self.terms.get(term) {
                Some(id) => f((id + first) as usize, token, length),
                None if self.unknown => f(0, token, length),
                None => {}
            }
        });
    }
}

/// How an analyzer finds tokens.
pub(crate) fn tokenizer(analyzer: Analyzer) -> Tokenizer {
    match analyzer {
        Analyzer::Words | Analyzer::Characters => Tokenizer::Words,
        Analyzer::Whitespace => Tokenizer::Whitespace,
    }
}

/// Calls `f` with every term of `text`, the number of its first token, and how many tokens it spans.
pub fn for_each_term(
    analyzer: Analyzer,
    ngrams: [usize; 2],
    text: &str,
    scratch: &mut Scratch,
    mut f: impl FnMut(&str, usize, usize),
) {
    tokenizer(analyzer).join(text, scratch);
    let Scratch { joined, ends, padded, bounds, .. } = scratch;
    if analyzer == Analyzer::Characters {
        for (i, span) in ends.iter().enumerate() {
            let word = joined.get(span.clone()).unwrap_or_default();
            for_each_gram(word, ngrams, padded, bounds, |gram| f(gram, i, 1));
        }
        return;
    }
    for length in ngrams[0]..=ngrams[1] {
        for (i, window) in ends.windows(length).enumerate() {
            if let (Some(first), Some(last)) = (window.first(), window.last())
                && let Some(term) = joined.get(first.start..last.end)
            {
                f(term, i, length);
            }
        }
    }
}
