//! [`Conversation`]: a chat as every protocol asks for it, until the model has it.

use std::sync::Arc;

use llm::template::Message;
use llm::{GenerateRequest, SamplingParams};
use serving::{Language, LanguageRoute};

use super::generation::Generation;
use super::prepare::{deadline, room};
use super::{Answers, Format, Tools, prompt};
use crate::Fault;
use crate::fields::unsupported;
use crate::http::App;
use crate::metering::Charge;

/// What a protocol calls the fields that faults are about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    /// What is said.
    pub(crate) prompt: &'static str,
    /// How many tokens an answer may have.
    pub(crate) max_tokens: &'static str,
    /// What form an answer has.
    pub(crate) format: &'static str,
}

/// A chat that is to go on.
#[derive(Debug)]
pub(crate) struct Conversation {
    /// What was said so far.
    pub(crate) turns: Vec<Message>,
    /// What the model may call.
    pub(crate) tools: Tools,
    /// Answers wanted.
    pub(crate) n: usize,
    /// Tokens in each at most; where nothing is said, as many as fit.
    pub(crate) max_tokens: Option<usize>,
    /// How tokens are chosen.
    pub(crate) sampling: SamplingParams,
    /// Texts before which an answer ends.
    pub(crate) stop: Vec<String>,
    /// Whether log-probabilities are wanted, with how many alternatives.
    pub(crate) logprobs: Option<u8>,
    /// The form of an answer.
    pub(crate) format: Format,
}

impl Default for Conversation {
    fn default() -> Conversation {
        Conversation {
            turns: Vec::new(),
            tools: Tools::default(),
            n: 1,
            max_tokens: None,
            sampling: SamplingParams::default(),
            stop: Vec::new(),
            logprobs: None,
            format: Format::Text,
        }
    }
}

impl Conversation {
    /// The tokens that the model behind `language` reads. Not for async threads.
    ///
    /// # Errors
    /// If they cannot fit, or the model takes no such conversation.
    pub(crate) fn prompt(&self, language: &Language, names: &Names) -> Result<Vec<u32>, Fault> {
        self.tools.style(language)?;
        prompt::prompt(language, &self.turns, &self.tools.described(), names.prompt)
    }

    /// Hands it to a model, for a caller of `project`. Not for async threads: this renders, tokenizes and compiles.
    ///
    /// # Errors
    /// If the model cannot honour it, it does not fit, or the model is busy.
    pub(crate) fn start(
        self,
        app: &App,
        route: LanguageRoute,
        project: &str,
        names: &Names,
    ) -> Result<Answers, Fault> {
        let language = Arc::clone(&route.language);
        let style = self.tools.style(&language)?;
        let prompt = self.prompt(&language, names)?;
        let fields = (names.prompt, names.max_tokens);
        let max_tokens = room(language.context(), prompt.len(), self.max_tokens, fields)?;
        let calls = style.and_then(|style| self.tools.constraint(style, &language));
        let form = self.format.constraint();
        if style.is_some() && form.is_some() {
            let message = "cannot be given together with tools: leave one of them out";
            return Err(unsupported(names.format, message));
        }
        let charge = Charge::of(app, self.max_tokens.is_some());
        let wanted = GenerateRequest {
            n: self.n,
            sampling: self.sampling,
            stop: self.stop,
            logprobs: self.logprobs,
            constraint: calls.or(form),
            deadline: deadline(app),
            priority: app.priority,
            ..GenerateRequest::new(Vec::new(), max_tokens)
        };
        let generation = Generation::start(route, project, vec![prompt], &wanted, names, charge)?;
        Ok(Answers::new(generation, self.n, style, &self.tools))
    }
}
