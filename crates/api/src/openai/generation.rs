//! [`Generation`]: a request with the engine, and what comes of it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use control::ALL_PROJECTS;
use llm::{Event, FinishReason, GenerateRequest, SubmitError, Ticket, TokenLogprob, Usage};
use serving::{LanguageRoute, LanguageRouteError, Outcome};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::http::{App, Call};
use crate::{Code, Fault};

/// The project of a key for all projects that names none.
const USUAL_PROJECT: &str = "default";

/// The header in which a client names the project.
const PROJECT_HEADER: &str = "openai-project";

/// The project in which a call acts: the key's; for a key of all projects the one that the header names.
pub(super) fn project_of(call: &Call) -> Result<String, Fault> {
    let named = call.header(PROJECT_HEADER).filter(|name| !name.is_empty());
    let own = call.principal.as_ref().map_or("", |principal| principal.project.as_str());
    match named {
        _ if own == ALL_PROJECTS => Ok(named.unwrap_or(USUAL_PROJECT).to_owned()),
        Some(named) if named != own => {
            let message =
                format!("this key belongs to project {own}, not to the one that `OpenAI-Project` names");
            Err(Fault::new(Code::PermissionDenied, message))
        }
        _ => Ok(own.to_owned()),
    }
}

/// Does what takes a processor for a while: reading a large request, rendering, tokenizing, compiling. As many at
/// once as there are processors.
pub(super) async fn prepared<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&Arc<App>) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let slot = timeout(app.limits.predict_timeout, Arc::clone(&app.preparing).acquire_owned()).await;
    let slot =
        slot.map_err(|_| Fault::new(Code::Unavailable, "too many prompts are waiting; try again shortly"))?;
    let app = Arc::clone(app);
    let done = tokio::task::spawn_blocking(move || {
        let _slot = slot;
        work(&app)
    });
    done.await.map_err(|e| Fault::internal("preparing the request", e))?
}

/// The longest name of a model, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// The language model called `name` in `project`.
pub(super) fn find(app: &App, project: &str, name: &str) -> Result<LanguageRoute, Fault> {
    if name.len() > NAME_BYTES_MAX {
        return Err(super::fields::invalid("model", "is longer than any name"));
    }
    app.router.language(project, name).map_err(|error| match &error {
        LanguageRouteError::Unknown { .. } => {
            Fault::not_found(error.to_string()).about("model").because("model_not_found")
        }
        LanguageRouteError::NotLanguage { .. } => Fault::invalid(error.to_string()).about("model"),
        LanguageRouteError::NotServing { endpoint, .. } => {
            let known = app.control.endpoints().fault(endpoint, None).map(Fault::from);
            let known = known.unwrap_or_else(|| Fault::new(Code::FailedPrecondition, error.to_string()));
            // The machine's limit, not the client's: asking less often does not help.
            let code = if known.code == Code::ResourceExhausted { Code::Unavailable } else { known.code };
            Fault { code, ..known }.about("model")
        }
    })
}

/// What happens to one of the answers.
#[derive(Debug)]
pub(super) enum Said {
    /// A token was chosen.
    Token {
        /// Which of the answers: those to the first prompt first.
        answer: usize,
        /// The token.
        id: u32,
        /// The characters that it completed.
        text: String,
        /// Where asked for.
        logprob: Option<TokenLogprob>,
    },
    /// An answer ended.
    Ended {
        /// Which of the answers.
        answer: usize,
        /// Its last text.
        text: String,
        /// `stop` or `length`.
        reason: &'static str,
    },
}

/// One request to the engine, or several that are answered as one. Dropping it ends the work within a step.
pub(super) struct Generation {
    /// What answers.
    pub(super) route: LanguageRoute,
    /// Tokens so far; complete once [`Generation::next`] says that there is no more.
    pub(super) usage: Usage,
    events: mpsc::Receiver<(usize, Event)>,
    tickets: Vec<Ticket>,
    /// Answers to each prompt.
    n: usize,
    /// Prompts whose answers have not all ended.
    open: usize,
    /// Whether its end was counted.
    counted: bool,
}

/// Events taken at a time.
const EVENTS: usize = 64;

impl Generation {
    /// Hands `prompts` to the model, each with the rest of `request`. `of` names the field that a prompt is in.
    /// Not for async threads: a constraint is compiled here.
    pub(super) fn start(
        route: LanguageRoute,
        project: &str,
        prompts: Vec<Vec<u32>>,
        request: &GenerateRequest,
        of: &str,
    ) -> Result<Generation, Fault> {
        let language = Arc::clone(&route.language);
        let tokens = request.max_tokens.min(language.context());
        // All that can come fits: the engine never waits for a client.
        let most = prompts.len() * (request.n.min(1024) * (tokens + 2) + 2);
        let (sender, events) = mpsc::channel(most);
        let (n, open) = (request.n, prompts.len());
        let mut tickets = Vec::with_capacity(open);
        for (place, prompt) in prompts.into_iter().enumerate() {
            let sender = sender.clone();
            let sink = move |event| match sender.try_send((place, event)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            };
            let one = GenerateRequest { prompt, ..request.clone() };
            let ticket = language.submit(project, one, Box::new(sink)).map_err(|error| {
                route.count_refusal(&error);
                refused(&error, of)
            })?;
            tickets.push(ticket);
        }
        let usage = Usage::default();
        Ok(Generation { route, usage, events, tickets, n, open, counted: false })
    }

    /// Waits for what happens next and appends it to `said`. `false` once every answer has ended.
    ///
    /// # Errors
    /// If the model fails, or time is up.
    pub(super) async fn next(&mut self, said: &mut Vec<Said>) -> Result<bool, Fault> {
        if self.open == 0 {
            return Ok(false);
        }
        let mut events = Vec::with_capacity(EVENTS);
        if self.events.recv_many(&mut events, EVENTS).await == 0 {
            return Err(self.failed(
                Outcome::Failed,
                Code::Unavailable,
                "the model stopped before its answer was complete; try again",
            ));
        }
        for (prompt, event) in events {
            self.take(prompt, event, said)?;
        }
        Ok(true)
    }

    fn take(&mut self, prompt: usize, event: Event, said: &mut Vec<Said>) -> Result<(), Fault> {
        match event {
            Event::Token { choice, id, text, logprob } => {
                said.push(Said::Token { answer: prompt * self.n + choice, id, text, logprob });
            }
            Event::Finished { choice, reason, text } => {
                let reason = match reason {
                    FinishReason::Stop | FinishReason::StopText(_) | FinishReason::Cancelled => "stop",
                    FinishReason::Length => "length",
                    FinishReason::Deadline => {
                        let message = "the answer took longer than this server allows";
                        return Err(self.failed(Outcome::Expired, Code::DeadlineExceeded, message));
                    }
                };
                said.push(Said::Ended { answer: prompt * self.n + choice, text, reason });
            }
            Event::Done { usage } => {
                self.open -= 1;
                self.usage.prompt += usage.prompt;
                self.usage.cached += usage.cached;
                self.usage.completion += usage.completion;
            }
            Event::Failed { message } => return Err(self.failed(Outcome::Failed, Code::Internal, &message)),
        }
        Ok(())
    }

    fn failed(&mut self, outcome: Outcome, code: Code, message: &str) -> Fault {
        self.route.count(outcome);
        self.counted = true;
        self.open = 0;
        self.tickets.clear();
        Fault::new(code, message)
    }

    /// Ends the answers that go on: they come to their ends soon, as if the model had ended them.
    pub(super) fn cancel(&self) {
        self.tickets.iter().for_each(Ticket::cancel);
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if self.open > 0 && !self.counted {
            self.route.count(Outcome::Cancelled);
        }
    }
}

/// When an answer that is asked for now is of no use any more.
pub(super) fn deadline(app: &App) -> Instant {
    Instant::now() + app.limits.answer_timeout
}

/// What to tell a client whose request the engine did not take.
fn refused(error: &SubmitError, of: &str) -> Fault {
    match error {
        SubmitError::Full { retry_after } => Fault {
            retry_after: Some(*retry_after),
            ..Fault::new(Code::ResourceExhausted, error.to_string()).because("rate_limit_exceeded")
        },
        SubmitError::PromptTooLong { .. } => too_long(of, error.to_string()),
        SubmitError::Invalid { field: "constraint", message } => {
            Fault::invalid(message.clone()).about("response_format").because("invalid_value")
        }
        SubmitError::Invalid { field: "prompt", message } => super::fields::invalid(of, message.clone()),
        SubmitError::Invalid { field, message } => super::fields::invalid(*field, message.clone()),
        SubmitError::Stopped => Fault::new(Code::Unavailable, error.to_string()),
    }
}

/// The fault that a prompt does not fit the model.
pub(super) fn too_long(of: &str, message: String) -> Fault {
    Fault::invalid(message).about(of).because("context_length_exceeded")
}

/// The tokens that an answer to a prompt of `prompt` tokens may have, when `asked` are asked for.
pub(super) fn room(
    context: usize,
    prompt: usize,
    asked: Option<usize>,
    of: (&str, &str),
) -> Result<usize, Fault> {
    if prompt >= context {
        let tokens = SubmitError::PromptTooLong { tokens: prompt, limit: context };
        return Err(too_long(of.0, tokens.to_string()));
    }
    match asked {
        Some(asked) if asked > context - prompt => Err(too_long(
            of.1,
            format!(
                "the prompt has {prompt} tokens and {asked} are asked for; this model's context has {context}: ask \
                 for {} at most, or shorten the prompt",
                context - prompt
            ),
        )),
        Some(asked) => Ok(asked),
        None => Ok(context - prompt),
    }
}
