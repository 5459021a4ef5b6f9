//! From what is said to a prompt's tokens.

use llm::template::{ChatTemplate, Context, Message, TemplateError, Value};
use llm::tokenizer::{Special, Tokenizer};

use super::Language;

/// Why no prompt was made. The texts are safe to send to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// It cannot fit: so many bytes take more tokens than there are.
    #[error("the prompt has {bytes} bytes; this model's context of {context} tokens holds fewer; shorten it")]
    TooLong {
        /// Bytes of text.
        bytes: usize,
        /// Tokens in the context.
        context: usize,
    },
    /// The model has no template that can be used.
    #[error("this model takes no conversations: {why}; send it a plain text to complete")]
    NoTemplate {
        /// Why.
        why: String,
    },
    /// The template does not take this conversation.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// The template that a file's `source` is, or why it is none.
pub(super) fn template(source: &str, tokenizer: &Tokenizer) -> Result<ChatTemplate, String> {
    if source.is_empty() {
        return Err("its file has no chat template".to_owned());
    }
    ChatTemplate::new(source, tokenizer).map_err(|error| error.to_string())
}

impl Language {
    /// The prompt that the model's template makes of a conversation, up to where the answer begins. What people
    /// wrote in it is text, whatever it looks like. Takes a while for long ones: not for async threads.
    ///
    /// # Errors
    /// If it cannot fit, or the template does not take it.
    pub fn chat_prompt(&self, messages: &[Message], tools: Vec<Value>) -> Result<Vec<u32>, PromptError> {
        let why = |why: &String| PromptError::NoTemplate { why: why.clone() };
        let template = self.template.as_ref().map_err(why)?;
        let texts = messages.iter().flat_map(|message| [&message.content, &message.reasoning]);
        self.check_bytes(texts.flatten().map(String::len).sum())?;
        let context = Context { tools, add_generation_prompt: true, ..Context::default() };
        Ok(template.render(messages, &context)?.encode(&self.tokenizer))
    }

    /// Whether it takes conversations.
    pub fn takes_chats(&self) -> bool {
        self.template.is_ok()
    }

    /// The tokens of a text to be continued. Names of control tokens in it are text.
    ///
    /// # Errors
    /// If it cannot fit.
    pub fn text_prompt(&self, text: &str) -> Result<Vec<u32>, PromptError> {
        self.check_bytes(text.len())?;
        Ok(self.tokenizer.encode_prompt(text, Special::AsText))
    }

    /// Refuses, before any work, a text that no tokens could make short enough.
    fn check_bytes(&self, bytes: usize) -> Result<(), PromptError> {
        let context = self.context();
        if bytes > context.saturating_mul(self.tokenizer.token_bytes_max()) {
            return Err(PromptError::TooLong { bytes, context });
        }
        Ok(())
    }
}
