//! What SentencePiece's unigram tokenizers do with a text before they look for tokens.

use super::Charsmap;

/// A step that changes a text.
#[derive(Debug, Clone, PartialEq)]
pub enum Normalize {
    /// Replaces by SentencePiece's table what it has, the longest first, as SentencePiece does.
    Charsmap(Charsmap),
    /// Replaces by that table each character that people see as one, or else its parts, as `tokenizers` does.
    CharsmapOfGraphemes(Charsmap),
    /// Replaces a text wherever it stands.
    Replace {
        /// What.
        from: String,
        /// By what.
        to: String,
    },
    /// Replaces two or more spaces one after another.
    ReplaceSpaces {
        /// By what.
        to: String,
    },
    /// Takes spaces off the ends, and makes one of several.
    SqueezeSpaces,
    /// Puts a text before one that is not empty.
    Prepend(String),
    /// Takes white space off the ends.
    Strip {
        /// Off the beginning.
        left: bool,
        /// Off the end.
        right: bool,
    },
    /// Takes off what Unicode calls marks.
    StripAccents,
    /// Makes it lower-case.
    Lowercase,
    /// Unicode's composed form.
    Nfc,
    /// Unicode's decomposed form.
    Nfd,
    /// Unicode's composed form of what is compatible.
    Nfkc,
    /// Unicode's decomposed form of what is compatible.
    Nfkd,
}

/// A step that cuts a text into the pieces that tokens are looked for in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// At white space, which is dropped.
    WhiteSpace,
    /// Writes spaces `▁`.
    MarkSpaces {
        /// Which pieces are given a `▁` where they do not begin with one.
        prepend: Prepend,
        /// Whether each `▁` begins a piece.
        cut: bool,
    },
}

/// Which pieces of a text a mark is put before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prepend {
    /// All.
    Always,
    /// The one that begins the text.
    First,
    /// None.
    Never,
}
