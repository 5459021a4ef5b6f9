//! [`Lookup`]: layers that find texts, or numbers, in a vocabulary.

use super::read::{COUNT_MAX, required};
use crate::Value;
use crate::spec::SpecError;
use crate::spec::fields::{Fields, brief};

/// What becomes of texts or integers that are looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct Lookup {
    /// How a text is made words first.
    pub words: Words,
    /// The words that are known, in their order: integers as decimal digits. What is not among them comes before them.
    pub vocabulary: Vec<String>,
    /// What has a place before everything else: padding.
    pub mask: Option<String>,
    /// What is given.
    pub output: Encoded,
    /// Whether integers are looked up, not texts.
    pub integers: bool,
}

/// How a text is made words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Words {
    /// Whether its letters from A to Z become small.
    pub lower: bool,
    /// Whether its punctuation is left out.
    pub strip: bool,
    /// Where it is cut.
    pub split: Split,
}

/// Where a text is cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Split {
    /// Nowhere.
    #[default]
    Nowhere,
    /// Between words.
    Whitespace,
    /// Between letters.
    Letters,
}

/// What is given of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoded {
    /// Their numbers; of a text that is cut, so many, the rest cut off or filled with 0.
    Numbers {
        /// How many.
        length: Option<usize>,
    },
    /// Which of them there are, or how often; `width` numbers.
    Bag {
        /// Whether they are counted.
        counted: bool,
        /// How many numbers.
        width: usize,
    },
}

/// What every lookup leaves out of the names that a vocabulary file begins with.
const UNKNOWN: &str = "[UNK]";

/// Reads `StringLookup`, `IntegerLookup` or `TextVectorization`; `file` is the vocabulary beside the configuration, for
/// where this has none.
pub(super) fn read(class: &str, options: &mut Fields<'_>, file: Option<&str>) -> Result<Lookup, SpecError> {
    options.ignore(&["vocabulary_size", "vocabulary_dtype", "encoding", "oov_method", "salt", "max_tokens"]);
    options.only("invert", &[Value::Bool(false)])?;
    options.only("sparse", &[Value::Bool(false)])?;
    options.only("ragged", &[Value::Bool(false)])?;
    options.only("idf_weights", &[])?;
    options.only("pad_to_max_tokens", &[Value::Bool(false)])?;
    options.only("ngrams", &[])?;
    options.only("num_oov_indices", &[Value::Number(1.0)])?;
    let cut = class == "TextVectorization";
    let integers = class == "IntegerLookup";
    let words = if cut { words(options)? } else { Words::default() };
    let length = options.count("output_sequence_length", 1, COUNT_MAX)?;
    let output = options.text("output_mode")?.unwrap_or("int").to_owned();
    let mask = match options.take("mask_token") {
        _ if cut => Some(String::new()),
        None => None,
        Some(token) => Some(word(&options.at("mask_token"), token)?),
    };
    let unknown = match options.take("oov_token") {
        None => if integers { "-1" } else { UNKNOWN }.to_owned(),
        Some(token) => word(&options.at("oov_token"), token)?,
    };
    let at = options.at("vocabulary");
    let listed = options.take("vocabulary");
    let mut vocabulary = match (listed, file) {
        (Some(Value::Numbers(list)), _) => list.iter().map(f64::to_string).collect(),
        (Some(Value::List(list)), _) => list.iter().map(|v| word(&at, v)).collect::<Result<Vec<_>, _>>()?,
        (Some(other), _) => {
            return Err(SpecError::new(at, format!("expected a list of words, found {}", brief(other))));
        }
        (None, Some(file)) => file.trim_end_matches('\n').lines().map(str::to_owned).collect(),
        (None, None) => return Err(SpecError::new(at, "is neither here nor among the archive's files")),
    };
    // What has a place of its own may stand before the words.
    for special in [mask.as_ref(), Some(&unknown)].into_iter().flatten() {
        if vocabulary.first() == Some(special) {
            vocabulary.remove(0);
        }
    }
    if cut && output == "int" && length.is_none() {
        let message =
            "is missing: rows would be as long as the longest beside them, and answers would depend on these";
        return Err(options.error("output_sequence_length", message));
    }
    let width = vocabulary.len() + 1;
    let output = match output.as_str() {
        "int" => Encoded::Numbers { length },
        "multi_hot" => Encoded::Bag { counted: false, width },
        "count" => Encoded::Bag { counted: true, width },
        other => return Err(options.error("output_mode", format!("`{other}` is not supported"))),
    };
    Ok(Lookup { words, vocabulary, mask, output, integers })
}

fn words(options: &mut Fields<'_>) -> Result<Words, SpecError> {
    let (lower, strip) = match options.text("standardize")? {
        None => (false, false),
        Some("lower") => (true, false),
        Some("strip_punctuation") => (false, true),
        Some("lower_and_strip_punctuation") => (true, true),
        Some(other) => return Err(options.error("standardize", format!("`{other}` is not supported"))),
    };
    let split = match options.text("split")? {
        None => Split::Nowhere,
        Some("whitespace") => Split::Whitespace,
        Some("character") => Split::Letters,
        Some(other) => return Err(options.error("split", format!("`{other}` is not supported"))),
    };
    Ok(Words { lower, strip, split })
}

/// A word of a vocabulary: a text, or a whole number.
fn word(at: &str, value: &Value) -> Result<String, SpecError> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        Value::Number(n) if n.fract() == 0.0 => Ok(n.to_string()),
        other => Err(SpecError::new(at, format!("expected a word, found {}", brief(other)))),
    }
}

/// Reads `CategoryEncoding`: how many numbers there are, and whether they are counted; `None` where each is given apart.
pub(super) fn encoding(options: &mut Fields<'_>) -> Result<(usize, Option<bool>), SpecError> {
    let width = required(options, "num_tokens")?;
    options.only("sparse", &[Value::Bool(false)])?;
    let counted = match options.text("output_mode")? {
        None | Some("multi_hot") => Some(false),
        Some("count") => Some(true),
        Some("one_hot") => None,
        Some(other) => return Err(options.error("output_mode", format!("`{other}` is not supported"))),
    };
    Ok((width, counted))
}
