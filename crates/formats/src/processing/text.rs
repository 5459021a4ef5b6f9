//! [`Text`]: how a text becomes the tokens that a network takes.

use super::name;
use crate::Value;
use crate::spec::SpecError;
use crate::spec::fields::Fields;

/// The most tokens of a text.
const LENGTH_MAX: usize = 65_536;
/// As long as most texts that are classified.
const LENGTH: usize = 128;

/// How a text becomes a row of each of a network's inputs: its tokens, which of them are the text's, and a 0 for each,
/// as far as the network takes these, filled up to one length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// What a column, a field or a tensor with the texts is called.
    pub name: String,
    /// The file beside the document that says how texts are cut, in the form of `tokenizer.json`.
    pub tokenizer: String,
    /// Tokens of a row.
    pub max_length: usize,
    /// Whether longer texts are cut; they are refused else.
    pub truncate: bool,
    /// The input for the tokens.
    pub ids: String,
    /// The input that is 1 where there is a token of the text.
    pub mask: String,
    /// The input that says which of two texts a token is of.
    pub types: String,
}

impl Default for Text {
    fn default() -> Self {
        Text {
            name: "text".to_owned(),
            tokenizer: "tokenizer.json".to_owned(),
            max_length: LENGTH,
            truncate: false,
            ids: "input_ids".to_owned(),
            mask: "attention_mask".to_owned(),
            types: "token_type_ids".to_owned(),
        }
    }
}

impl Text {
    pub(super) fn read(value: &Value) -> Result<Self, SpecError> {
        let mut fields = Fields::new("text", value)?;
        let usual = Text::default();
        let named = |given: Option<&str>, usual: String| given.map_or(usual, str::to_owned);
        let text = Text {
            name: name(&mut fields, &usual.name)?,
            tokenizer: named(fields.text("tokenizer")?, usual.tokenizer),
            max_length: fields.count("max_length", 2, LENGTH_MAX)?.unwrap_or(LENGTH),
            truncate: fields.flag("truncate")?.unwrap_or(false),
            ids: named(fields.text("ids")?, usual.ids),
            mask: named(fields.text("mask")?, usual.mask),
            types: named(fields.text("types")?, usual.types),
        };
        fields.finish()?;
        Ok(text)
    }
}
