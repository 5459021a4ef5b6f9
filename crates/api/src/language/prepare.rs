//! Before a request is handed to the engine: a processor to prepare it on, time, and room for its answer.

use std::sync::Arc;
use std::time::Instant;

use llm::SubmitError;
use tokio::time::timeout;

use crate::http::App;
use crate::{Code, Fault};

/// Does what takes a processor for a while: reading a large request, rendering, tokenizing, compiling. As many at
/// once as there are processors.
pub(crate) async fn prepared<T: Send + 'static>(
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

/// When an answer that is asked for now is of no use any more.
pub(crate) fn deadline(app: &App) -> Instant {
    Instant::now() + app.limits.answer_timeout
}

/// The fault that a prompt does not fit the model.
pub(super) fn too_long(of: &str, message: String) -> Fault {
    Fault::invalid(message).about(of).because("context_length_exceeded")
}

/// The tokens that an answer to a prompt of `prompt` tokens may have, when `asked` are asked for. `of` names the
/// fields of both.
pub(crate) fn room(
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
                "the prompt has {prompt} tokens and `{}` asks for {asked}; this model's context has {context}: ask for \
                 {} at most, or shorten the prompt",
                of.1,
                context - prompt
            ),
        )),
        Some(asked) => Ok(asked),
        None => Ok(context - prompt),
    }
}
