//! [`TokenizerSpec`]: how a model's text becomes tokens, as its file says.

mod charsmap;
mod error;
mod gguf;
mod huggingface;
#[cfg(test)]
mod tests;
mod unigram;

pub use charsmap::Charsmap;
pub use error::TokenizerSpecError;
pub use unigram::{Cut, Normalize, Prepend};

/// Vocabularies are far smaller.
const TOKENS_MAX: usize = 1 << 21;
/// Text of one token; the longest in use are a few hundred bytes of spaces.
const TOKEN_BYTES_MAX: usize = 4096;

/// A tokenizer as a model file describes it: validated, but not yet built. Every identity is below the number of
/// tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenizerSpec {
    /// How text is cut into tokens.
    pub kind: TokenizerKind,
    /// The vocabulary; a token's identity is its place.
    pub tokens: Vec<TokenSpec>,
    /// Begins a text; of an encoder, the classification token.
    pub bos: Option<u32>,
    /// Ends a text; of an encoder, the separator.
    pub eos: Option<u32>,
    /// Ends a turn.
    pub eot: Option<u32>,
    /// Ends a message that expects a tool's answer.
    pub eom: Option<u32>,
    /// Stands for what has no token.
    pub unknown: Option<u32>,
    /// Fills up batches.
    pub pad: Option<u32>,
    /// Whether texts begin with `bos`.
    pub add_bos: bool,
    /// Whether texts end with `eos`.
    pub add_eos: bool,
    /// How many `eos` stand between two texts that are judged together.
    pub pair_ends: usize,
    /// Whether a space is put before a text, so that its first word is like any other.
    pub add_space_prefix: bool,
    /// The Jinja template that makes a conversation a text.
    pub chat_template: Option<String>,
}

/// How text is cut into tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenizerKind {
    /// Byte-pair encoding over bytes: text is split by the rule `pre`, then pairs are merged, earlier merges first.
    /// Tokens are written in GPT-2's alphabet, in which every byte is a printable letter.
    Bpe {
        /// The name of the splitting rule, as in `tokenizer.ggml.pre`.
        pre: String,
        /// Pairs of tokens' texts, in order of precedence.
        merges: Vec<(String, String)>,
        /// Whether a whole piece that is a token is taken as it is, merges or not. Unset, `pre` decides.
        ignore_merges: Option<bool>,
    },
    /// SentencePiece's byte-pair encoding over characters: pairs merge whose joint text is a token, the highest score
    /// first. Spaces are written `▁`; characters without a token become tokens of their bytes.
    Spm,
    /// BERT's: the longest token that fits, from left to right within each word. A token that begins a word is written
    /// with `▁` before it.
    WordPiece {
        /// Whether text becomes lower-case.
        lowercase: bool,
        /// Whether accents are taken off.
        strip_accents: bool,
    },
    /// SentencePiece's unigram model: of all tokens that make up a piece, those whose scores have the greatest sum. Spaces
    /// are written `▁`.
    Unigram {
        /// What is done with a text first.
        normalize: Vec<Normalize>,
        /// How it is cut into pieces.
        cuts: Vec<Cut>,
    },
}

/// One token of a vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenSpec {
    /// As the vocabulary has it.
    pub text: String,
    /// What it is for.
    pub kind: TokenKind,
    /// What SentencePiece ranks merges by, or how likely the token is, as a logarithm; 0 where there are none.
    pub score: f32,
    /// Whether white space after it in a text belongs to it, as Phi-3 has it.
    pub strip_right: bool,
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    Normal,
    /// Stands for what has no token.
    Unknown,
    /// Structures a conversation: never comes of what a user writes.
    Control,
    /// A piece of text that is never cut.
    UserDefined,
    /// In the vocabulary, and never used.
    Unused,
    /// A single byte, written `<0xAB>`.
    Byte(u8),
}

impl TokenizerSpec {
    /// Checks what all sources have in common.
    fn validated(self) -> Result<TokenizerSpec, TokenizerSpecError> {
        let count = self.tokens.len();
        if count == 0 || count > TOKENS_MAX {
            return Err(TokenizerSpecError::Tokens { count, max: TOKENS_MAX });
        }
        for (id, token) in self.tokens.iter().enumerate() {
            if token.text.len() > TOKEN_BYTES_MAX {
                return Err(TokenizerSpecError::LongToken { id, max: TOKEN_BYTES_MAX });
            }
            if !token.score.is_finite() {
                return Err(TokenizerSpecError::Score { id });
            }
        }
        let named = [
            ("bos", self.bos),
            ("eos", self.eos),
            ("eot", self.eot),
            ("eom", self.eom),
            ("unknown", self.unknown),
            ("pad", self.pad),
        ];
        for (name, id) in named {
            if let Some(id) = id.filter(|&id| id as usize >= count) {
                return Err(TokenizerSpecError::Special { name, id, count });
            }
        }
        for (name, id, added) in [("bos", self.bos, self.add_bos), ("eos", self.eos, self.add_eos)] {
            if added && id.is_none() {
                return Err(TokenizerSpecError::AddedMissing { name });
            }
        }
        Ok(self)
    }
}

/// The byte that a token such as `<0x0A>` stands for: two digits, no sign, nothing else.
fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let hexadecimal = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    hexadecimal.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}
