//! What can be wrong with a tokenizer's description.

/// A description of a tokenizer that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerSpecError {
    /// A metadata value of a GGUF file is of the wrong kind.
    #[error(transparent)]
    Gguf(#[from] crate::gguf::Error),
    /// `tokenizer.json` is not the JSON that is understood.
    #[error("tokenizer.json cannot be read: {0}")]
    Json(String),
    /// Something that is needed is not there.
    #[error("the tokenizer's `{0}` is missing")]
    Missing(&'static str),
    /// A kind of tokenizer that is not supported.
    #[error("tokenizers of the kind {kind:?} are not supported; {known} are")]
    Kind {
        /// As written.
        kind: String,
        /// What is supported.
        known: &'static str,
    },
    /// Lists that belong together differ in length.
    #[error("the tokenizer has {tokens} tokens, but {found} {what}")]
    Lengths {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many tokens.
        tokens: usize,
    },
    /// No tokens, or too many.
    #[error("the tokenizer has {count} tokens; 1 to {max} are possible")]
    Tokens {
        /// How many.
        count: usize,
        /// How many are possible.
        max: usize,
    },
    /// A token's text is too long.
    #[error("token {id} has more than {max} bytes of text")]
    LongToken {
        /// Which.
        id: usize,
        /// The most possible.
        max: usize,
    },
    /// A token's score is not a number.
    #[error("token {id} has a score that is not a finite number")]
    Score {
        /// Which.
        id: usize,
    },
    /// A token's type does not exist.
    #[error("token {id} is of the unknown type {number}")]
    TokenType {
        /// Which.
        id: usize,
        /// As written.
        number: i32,
    },
    /// A token should be a byte, and is not written as one.
    #[error("token {id} should stand for a byte, and is written {text:?} instead of like <0x0A>")]
    Byte {
        /// Which.
        id: usize,
        /// As written.
        text: String,
    },
    /// SentencePiece's table of replacements is damaged.
    #[error("the tokenizer's table of replacements cannot be used: {0}")]
    Charsmap(&'static str),
    /// A merge is not two texts with a space between.
    #[error("merge {at} is {text:?}; two tokens with a space between are needed")]
    Merge {
        /// Its place.
        at: usize,
        /// As written.
        text: String,
    },
    /// A special token's identity is not in the vocabulary.
    #[error("the {name} token is number {id}, but there are {count} tokens")]
    Special {
        /// What it is for.
        name: &'static str,
        /// As written.
        id: u32,
        /// How many tokens there are.
        count: usize,
    },
    /// Texts should begin or end with a token that is not named.
    #[error("texts should be given a {name} token, but the tokenizer names none")]
    AddedMissing {
        /// Which.
        name: &'static str,
    },
    /// Part of a tokenizer.json is of a kind that is not supported.
    #[error("tokenizer.json: {what} {found:?} is not supported")]
    Unsupported {
        /// Which part.
        what: &'static str,
        /// What is there.
        found: String,
    },
    /// An identity in tokenizer.json is used twice, or leaves a gap.
    #[error("tokenizer.json: token number {0} is missing or given twice")]
    Identity(usize),
}
