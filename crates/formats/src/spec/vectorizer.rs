//! [`Vectorizer`]: how a text becomes numbers.

use serde::{Deserialize, Serialize};

use super::SpecError;
use super::fields::Fields;
use crate::Value;

/// How a text becomes one row of numbers, fitted on the training rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
pub enum Vectorizer {
    /// Evidence for each class from TF-IDF weighted words, pairs of words and parts of words, then the
    /// most telling words as columns of their own up to `width`. The default, and the most accurate.
    Evidence {
        /// Columns.
        width: usize,
    },
    /// The TF-IDF, count or presence of the `width` most frequent terms.
    Terms {
        /// Columns, [`Vectorizer::Terms::unknown`] included.
        width: usize,
        /// What a term is.
        analyzer: Analyzer,
        /// Fewest and most tokens or characters in a term.
        ngrams: [usize; 2],
        /// What a column holds.
        weighting: Weighting,
        /// Whether a row is scaled to length 1.
        normalize: bool,
        /// Whether column 0 counts the terms that have no column, as Keras' `TextVectorization` does.
        unknown: bool,
    },
    /// Ids of tokens in order: 0 pads, 1 is unknown. Feeds an `embedding`.
    Sequence {
        /// Ids, the two special ones included.
        max_tokens: usize,
        /// Tokens kept; the rest of a longer text is cut, as Keras does.
        length: usize,
    },
}

/// What a term of [`Vectorizer::Terms`] is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Analyzer {
    /// Runs of letters and digits, in lower case.
    Words,
    /// Characters within words, in lower case; a blank marks a word's begin and end.
    Characters,
    /// What lies between blanks, in lower case and without ASCII punctuation: Keras' default.
    Whitespace,
}

/// What a column of [`Vectorizer::Terms`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    /// Occurrences times rarity.
    TfIdf,
    /// Occurrences.
    Count,
    /// 1 if the term occurs, else 0.
    Presence,
}

/// Columns that a text makes unless told otherwise.
pub(crate) const TEXT_WIDTH: usize = 100;
/// The most columns that one text may make.
pub(crate) const TEXT_WIDTH_MAX: usize = 65_536;
/// The most tokens of a [`Vectorizer::Sequence`].
const SEQUENCE_LENGTH_MAX: usize = 8_192;
/// The longest n-gram.
const NGRAM_MAX: usize = 8;

impl Vectorizer {
    /// Reads the options of a `text` feature.
    pub(crate) fn read(options: &mut Fields<'_>) -> Result<Self, SpecError> {
        let width = options.count("width", 1, TEXT_WIDTH_MAX)?.unwrap_or(TEXT_WIDTH);
        let analyzer = options.text("tokens")?;
        let ngrams = options.pair("ngrams", 1, NGRAM_MAX)?;
        let method = options.text("method")?.unwrap_or(match (analyzer, ngrams) {
            (None, None) => "evidence",
            _ => "terms",
        });
        match method {
            "evidence" => {
                if analyzer.is_some() || ngrams.is_some() {
                    return Err(options.error("method", "`evidence` chooses its own tokens and n-grams"));
                }
                Ok(Vectorizer::Evidence { width })
            }
            "terms" => Self::terms(options, width, analyzer, ngrams),
            "sequence" => Ok(Vectorizer::Sequence {
                max_tokens: options.count("max_tokens", 3, 1 << 20)?.unwrap_or(10_000),
                length: options.count("length", 1, SEQUENCE_LENGTH_MAX)?.unwrap_or(64),
            }),
            other => Err(options
                .error("method", format!("`{other}` is not known; there are: evidence, terms, sequence"))),
        }
    }

    fn terms(
        options: &mut Fields<'_>,
        width: usize,
        analyzer: Option<&str>,
        ngrams: Option<[usize; 2]>,
    ) -> Result<Self, SpecError> {
        let analyzer = match analyzer {
            None | Some("words") => Analyzer::Words,
            Some("characters") => Analyzer::Characters,
            Some("whitespace") => Analyzer::Whitespace,
            Some(other) => {
                let known = "there are: words, characters, whitespace";
                return Err(options.error("tokens", format!("`{other}` is not known; {known}")));
            }
        };
        let ngrams = ngrams.unwrap_or(if analyzer == Analyzer::Characters { [3, 5] } else { [1, 1] });
        if ngrams[0] > ngrams[1] {
            return Err(options.error("ngrams", "the first must not exceed the second"));
        }
        let weighting = match options.text("weighting")? {
            None | Some("tf_idf") => Weighting::TfIdf,
            Some("count") => Weighting::Count,
            Some("presence") => Weighting::Presence,
            Some(other) => {
                let known = "there are: tf_idf, count, presence";
                return Err(options.error("weighting", format!("`{other}` is not known; {known}")));
            }
        };
        let normalize = options.flag("normalize")?.unwrap_or(weighting == Weighting::TfIdf);
        Ok(Vectorizer::Terms { width, analyzer, ngrams, weighting, normalize, unknown: false })
    }

    /// Reads the configuration of Keras' `TextVectorization`.
    pub(crate) fn text_vectorization(mut config: Fields<'_>) -> Result<Self, SpecError> {
        let text = |s: &str| Value::Text(s.to_owned());
        config.only("standardize", &[text("lower_and_strip_punctuation")])?;
        config.only("split", &[text("whitespace")])?;
        config.only("ragged", &[Value::Bool(false)])?;
        config.only("sparse", &[Value::Bool(false)])?;
        config.only("vocabulary", &[])?;
        config.only("idf_weights", &[])?;
        config.only("pad_to_max_tokens", &[Value::Bool(false)])?;
        config.ignore(&["name", "trainable", "encoding", "vocabulary_size", "invert", "batch_input_shape"]);
        super::keras::check_dtype(&mut config)?;
        let tokens = config.count("max_tokens", 2, 1 << 20)?;
        let length = config.count("output_sequence_length", 1, SEQUENCE_LENGTH_MAX)?;
        let ngrams = config.count("ngrams", 1, NGRAM_MAX)?.unwrap_or(1);
        let mode = config.text("output_mode")?.unwrap_or("int");
        let weighting = match mode {
            "int" if ngrams != 1 => {
                return Err(config.error("ngrams", "is supported for the other output modes only"));
            }
            "int" => {
                let length =
                    length.ok_or_else(|| config.error("output_sequence_length", "is needed for `int`"))?;
                config.finish()?;
                return Ok(Vectorizer::Sequence { max_tokens: tokens.unwrap_or(10_000).max(3), length });
            }
            "multi_hot" => Weighting::Presence,
            "count" => Weighting::Count,
            "tf_idf" | "tf-idf" => Weighting::TfIdf,
            other => return Err(config.error("output_mode", format!("`{other}` is not supported"))),
        };
        if length.is_some() {
            return Err(config.error("output_sequence_length", "is for the output mode `int` only"));
        }
        config.finish()?;
        Ok(Vectorizer::Terms {
            width: tokens.unwrap_or(TEXT_WIDTH).min(TEXT_WIDTH_MAX),
            analyzer: Analyzer::Whitespace,
            ngrams: [1, ngrams],
            weighting,
            normalize: false,
            unknown: true,
        })
    }
}
