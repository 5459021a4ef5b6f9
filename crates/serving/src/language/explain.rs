//! Why a language model answered so: how much each part of what was said moved the probability of the answer.

mod prompt;
mod spans;

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use analysis::removal::{self, Deletion};
use analysis::shapley::{self, Coalition};
use llm::template::Message;
use llm::{Event, GenerateRequest, SubmitError, Ticket};

use super::Language;
use crate::error::PredictError;
use prompt::Prompt;

pub use spans::SpanKind;

/// Parts of a prompt that are told apart at most.
const SPANS_MAX: usize = 512;
/// Prompts that an explanation may compute at most.
const EVALUATIONS_MAX: usize = 4096;
/// Tokens of an answer that is explained.
pub const EXPLAINED_TOKENS_MAX: usize = 512;
/// Prompts of one explanation that are with the engine at once.
const IN_FLIGHT: usize = 16;
/// How often a waiting explanation looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// What was said to a model.
#[derive(Debug, Clone)]
pub enum Said {
    /// A conversation.
    Chat(Vec<Message>),
    /// A text that is continued.
    Text(String),
}

/// How the weight of a part is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LanguageMethod {
    /// What the answer loses without the part. Exact for what it says; blind for what is said twice.
    LeaveOneOut,
    /// Sampled Shapley values over so many orders, 1 to 50: what the part adds to what else is there, on average.
    Shapley {
        /// Random orders in which the parts come together.
        paths: u32,
    },
    /// As [`LanguageMethod::LeaveOneOut`], approximately: the answer does not look at the part, but what follows the part
    /// in the prompt has seen it. The prompt is computed once.
    Hidden,
}

/// What is to be explained, and how.
#[derive(Debug, Clone)]
pub struct LanguageExplain {
    /// The prompt.
    pub said: Said,
    /// The answer; the model's own (greedy) one where it is not given.
    pub answer: Option<String>,
    /// Tokens of the model's own answer, at most [`EXPLAINED_TOKENS_MAX`].
    pub max_tokens: usize,
    /// The parts.
    pub spans: SpanKind,
    /// The method.
    pub method: LanguageMethod,
    /// Whether the result is put to the deletion test: a few prompts more, by real removal.
    pub deletion: bool,
    /// Of Shapley's orders and the deletion test's random parts.
    pub seed: u64,
}

/// What one part contributed.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanShare {
    /// Which message; 0 for a text.
    pub message: usize,
    /// Its bytes in the message's content.
    pub bytes: Range<usize>,
    /// By how much it raised the natural logarithm of the answer's probability.
    pub value: f64,
    /// Of a sampled value.
    pub standard_error: f64,
}

/// Why a model answered so.
#[derive(Debug, Clone, PartialEq)]
pub struct LanguageExplanation {
    /// The answer that is explained.
    pub answer: String,
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// The same, with nothing said.
    pub baseline_logprob: f64,
    /// In the order of the prompt.
    pub spans: Vec<SpanShare>,
    /// See [`analysis::completeness_gap`].
    pub approximation_error: f64,
    /// Where asked for. By real removal, whatever the method.
    pub deletion: Option<Deletion>,
    /// Tokens of all prompts that were needed, those of the deletion test included.
    pub prompt_tokens: usize,
    /// Of those, found computed.
    pub cached_tokens: usize,
}

impl Language {
    /// Explains an answer. Takes many prompts' time, at low priority: not for async threads.
    ///
    /// # Errors
    /// If the request does not fit the model, or `stop` says so.
    pub(crate) fn explain_until(
        &self,
        project: &str,
        explain: &LanguageExplain,
        deadline: Instant,
        stop: &dyn Fn() -> bool,
    ) -> Result<LanguageExplanation, PredictError> {
        let prompt = Prompt::new(self, &explain.said, explain.spans)?;
        check(explain, prompt.spans().len())?;
        let mut judge =
            Judge { language: self, project, deadline, stop, prompt: 0, cached: 0, answer: Vec::new() };
        judge.answer = match &explain.answer {
            Some(text) => self.tokenizer().encode(text, llm::tokenizer::Special::AsText),
            None => judge.own_answer(prompt.whole(), explain.max_tokens)?,
        };
        if !(1..=EXPLAINED_TOKENS_MAX).contains(&judge.answer.len()) {
            let tokens = judge.answer.len();
            let message =
                format!("the answer has {tokens} tokens; 1 to {EXPLAINED_TOKENS_MAX} can be explained");
            return Err(bad_request(message));
        }
        let parts = prompt.spans().len();
        let found = match explain.method {
            LanguageMethod::LeaveOneOut => removal::leave_one_out(parts, |sets| judge.without(&prompt, sets)),
            LanguageMethod::Hidden => removal::leave_one_out(parts, |sets| judge.hidden(&prompt, sets)),
            LanguageMethod::Shapley { paths } => {
                let options =
                    shapley::Options { paths: paths as usize, seed: explain.seed, batch_max: usize::MAX };
                shapley::sampled(parts, &options, |sets| judge.without(&prompt, sets))
            }
        };
        let found = found.map_err(of_attribution)?;
        let deletion = match explain.deletion {
            true => removal::deletion(&found.values, found.instance_output, explain.seed, |sets| {
                judge.without(&prompt, sets)
            }),
            false => Ok(None),
        };
        let share = |((span, &value), &standard_error): ((&prompt::Span, &f64), &f64)| SpanShare {
            message: span.message,
            bytes: span.bytes.clone(),
            value,
            standard_error,
        };
        Ok(LanguageExplanation {
            answer: self.tokenizer().decode(&judge.answer),
            logprob: found.instance_output,
            baseline_logprob: found.baseline_output,
            spans: prompt.spans().iter().zip(&found.values).zip(&found.standard_errors).map(share).collect(),
            approximation_error: found.approximation_error,
            deletion: deletion.map_err(of_attribution)?,
            prompt_tokens: judge.prompt,
            cached_tokens: judge.cached,
        })
    }
}

/// Refuses what would take for ever.
fn check(explain: &LanguageExplain, parts: usize) -> Result<(), PredictError> {
    if parts == 0 {
        return Err(bad_request("nothing was said that could be explained".into()));
    }
    if parts > SPANS_MAX {
        return Err(bad_request(format!(
            "the prompt has {parts} parts; at most {SPANS_MAX} are told apart: choose larger ones (word, sentence, message)"
        )));
    }
    if !(1..=EXPLAINED_TOKENS_MAX).contains(&explain.max_tokens) {
        let message = format!("max_tokens is {}; it must be 1 to {EXPLAINED_TOKENS_MAX}", explain.max_tokens);
        return Err(bad_request(message));
    }
    if let LanguageMethod::Shapley { paths } = explain.method {
        if !(1..=50).contains(&paths) {
            return Err(bad_request(format!("the path count must be 1 to 50, not {paths}")));
        }
        let evaluations = paths as usize * parts;
        if evaluations > EVALUATIONS_MAX {
            return Err(bad_request(format!(
                "{paths} paths over {parts} parts are {evaluations} prompts; at most {EVALUATIONS_MAX} are computed: choose \
                 fewer paths or larger parts"
            )));
        }
    }
    Ok(())
}

/// Asks the engine how probable the answer is after a prompt.
struct Judge<'a> {
    language: &'a Language,
    project: &'a str,
    deadline: Instant,
    stop: &'a dyn Fn() -> bool,
    answer: Vec<u32>,
    /// Tokens in prompts so far, and of those found computed.
    prompt: usize,
    cached: usize,
}

/// What came of one prompt: its place and the answer's log-probability.
type Judged = Result<(usize, f64, llm::Usage), String>;

impl Judge<'_> {
    /// The answer's log-probability after the prompt with each coalition of parts.
    fn without(&mut self, prompt: &Prompt<'_>, sets: &[Coalition]) -> Result<Vec<f64>, PredictError> {
        self.all(sets.len(), |nth| Ok((prompt.with(&sets[nth])?, 0..0)))
    }

    /// As [`Judge::without`], approximately where a single part is absent.
    fn hidden(&mut self, prompt: &Prompt<'_>, sets: &[Coalition]) -> Result<Vec<f64>, PredictError> {
        let ranges = prompt.tokens_of_spans()?;
        self.all(sets.len(), |nth| {
            let mut absent = (0..ranges.len()).filter(|&part| !sets[nth].contains(part));
            match (absent.next(), absent.next()) {
                (Some(part), None) => Ok((prompt.whole().to_vec(), ranges[part].clone())),
                _ => Ok((prompt.with(&sets[nth])?, 0..0)),
            }
        })
    }

    /// The model's own answer, greedy.
    fn own_answer(&mut self, prompt: &[u32], most: usize) -> Result<Vec<u32>, PredictError> {
        let room = self.language.context().saturating_sub(prompt.len());
        let request = GenerateRequest::new(prompt.to_vec(), most.min(room.max(1)));
        let (sender, events) = mpsc::channel();
        let sink = move |event| match sender.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        let _ticket = self.submit(request, || Box::new(sink.clone()))?;
        let mut answer = Vec::new();
        loop {
            match self.next(&events)? {
                Event::Token { id, .. } => answer.push(id),
                Event::Finished { .. } => {}
                Event::Done { .. } => return Ok(answer),
                Event::Failed { message } => return Err(PredictError::Failed { message }),
            }
        }
    }

    /// Judges `count` prompts, some at a time; each is the prompt's tokens and the positions hidden from the answer.
    fn all(
        &mut self,
        count: usize,
        mut prompt: impl FnMut(usize) -> Result<(Vec<u32>, Range<usize>), PredictError>,
    ) -> Result<Vec<f64>, PredictError> {
        let (sender, results) = mpsc::channel();
        let mut tickets = VecDeque::new();
        let mut outputs = vec![0.0; count];
        let mut begun = 0;
        for done in 0..count {
            while begun < count.min(done + IN_FLIGHT) {
                let (tokens, hidden) = prompt(begun)?;
                tickets.push_back(self.begin(begun, tokens, hidden, &sender)?);
                begun += 1;
            }
            let (place, logprob, usage) =
                self.next(&results)?.map_err(|message| PredictError::Failed { message })?;
            outputs[place] = logprob;
            self.prompt += usage.prompt;
            self.cached += usage.cached;
        }
        Ok(outputs)
    }

    fn begin(
        &self,
        place: usize,
        prompt: Vec<u32>,
        hidden: Range<usize>,
        results: &mpsc::Sender<Judged>,
    ) -> Result<Ticket, PredictError> {
        let request = GenerateRequest::judge(prompt, self.answer.clone(), hidden);
        self.submit(request, || {
            let results = results.clone();
            let mut sum = 0.0;
            Box::new(move |event| {
                let result = match event {
                    Event::Token { logprob, .. } => {
                        sum += logprob.map_or(f64::NAN, |found| f64::from(found.chosen.logprob));
                        return ControlFlow::Continue(());
                    }
                    Event::Finished { .. } => return ControlFlow::Continue(()),
                    Event::Done { usage } => Ok((place, sum, usage)),
                    Event::Failed { message } => Err(message),
                };
                match results.send(result) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            })
        })
    }

    /// Hands a request to the engine, behind everybody else's; waits while its queue is full.
    fn submit(&self, request: GenerateRequest, sink: impl Fn() -> llm::Sink) -> Result<Ticket, PredictError> {
        let request = GenerateRequest { priority: -1, deadline: self.deadline, ..request };
        loop {
            match self.language.submit(self.project, request.clone(), sink()) {
                Ok(ticket) => return Ok(ticket),
                Err(SubmitError::Full { .. }) => {
                    self.go_on()?;
                    std::thread::sleep(LOOK);
                }
                Err(error @ SubmitError::Stopped) => {
                    return Err(PredictError::Failed { message: error.to_string() });
                }
                Err(error) => return Err(bad_request(error.to_string())),
            }
        }
    }

    /// What comes next, unless it is of no use any more.
    fn next<T>(&self, from: &mpsc::Receiver<T>) -> Result<T, PredictError> {
        loop {
            self.go_on()?;
            match from.recv_timeout(LOOK) {
                Ok(next) => return Ok(next),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let message = "the model stopped before the explanation was complete; try again".into();
                    return Err(PredictError::Failed { message });
                }
            }
        }
    }

    fn go_on(&self) -> Result<(), PredictError> {
        if (self.stop)() { Err(PredictError::Stopped) } else { Ok(()) }
    }
}

fn of_attribution(error: shapley::Error<PredictError>) -> PredictError {
    match error {
        shapley::Error::Evaluation(error) => error,
        other => PredictError::Failed { message: other.to_string() },
    }
}

fn bad_request(message: String) -> PredictError {
    PredictError::BadRequest { message }
}
