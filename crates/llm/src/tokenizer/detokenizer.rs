//! [`Detokenizer`]: tokens back to text, as they come.

use super::Tokenizer;

/// Turns a stream of tokens into text. A character whose bytes are spread over several tokens appears when it is
/// whole; bytes that can never be one appear as `�`.
#[derive(Debug, Clone)]
pub struct Detokenizer {
    tokenizer: Tokenizer,
    /// The beginning of a character: at most three bytes.
    pending: Vec<u8>,
    controls: bool,
}

impl Detokenizer {
    /// At the beginning of a text. Control tokens are left out.
    #[must_use]
    pub fn new(tokenizer: &Tokenizer) -> Detokenizer {
        Detokenizer { tokenizer: tokenizer.clone(), pending: Vec::new(), controls: false }
    }

    /// The same, but control tokens appear by their names.
    #[must_use]
    pub fn with_controls(tokenizer: &Tokenizer) -> Detokenizer {
        Detokenizer { controls: true, ..Detokenizer::new(tokenizer) }
    }

    /// The text that this token completes.
    #[must_use]
    pub fn push(&mut self, id: u32) -> String {
        if self.controls || !self.tokenizer.is_control(id) {
            self.pending.extend_from_slice(self.tokenizer.token_bytes(id));
        }
        let mut text = String::new();
        let consumed = take_whole(&self.pending, &mut text);
        self.pending.drain(..consumed);
        text
    }

    /// What is left at the end: `�` when a character was never completed.
    #[must_use]
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}

/// Appends to `text` all that is whole or can never be; says how many bytes that was.
fn take_whole(bytes: &[u8], text: &mut String) -> usize {
    let mut at = 0;
    loop {
        match std::str::from_utf8(&bytes[at..]) {
            Ok(rest) => {
                text.push_str(rest);
                return bytes.len();
            }
            Err(error) => {
                let valid = at + error.valid_up_to();
                text.push_str(std::str::from_utf8(&bytes[at..valid]).unwrap_or_default());
                match error.error_len() {
                    Some(len) => {
                        text.push('\u{fffd}');
                        at = valid + len;
                    }
                    None => return valid,
                }
            }
        }
    }
}
