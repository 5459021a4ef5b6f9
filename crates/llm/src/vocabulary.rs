//! What the engine knows of tokens: their bytes, and which of them end an answer.

/// A model's tokens as the engine needs them. `Tokenizer` is one.
pub trait Vocabulary: Send + Sync {
    /// How many tokens there are.
    fn len(&self) -> usize;

    /// The bytes a token stands for in running text: parts of characters, or nothing for control tokens.
    fn bytes(&self, token: u32) -> &[u8];

    /// Whether the token steers the model and is not text.
    fn is_control(&self, token: u32) -> bool;

    /// The tokens that end an answer.
    fn ends(&self) -> &[u32];

    /// Whether there is no token.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
