//! What calls take, put down to those who make them: reserved before the work, written down before the answer's end.

use std::sync::Arc;

use control::{Amount, Exceeded, Limited, Meter, NotAdmitted};
use serving::Deployed;

use crate::http::App;
use crate::{Code, Fault};

/// Tokens of each answer that are reserved at a time where nobody says how many there will be.
const LEASE_TOKENS: usize = 256;

/// Reserves that `deployed` predicts `rows`, which [`predicted`] then counts.
pub(crate) fn reserve_rows(app: &App, deployed: &Deployed, rows: usize) -> Result<(), Fault> {
    reserve(app.meter.as_deref(), deployed, Amount { rows: rows as u64, ..Amount::default() })
}

/// Counts that `rows` were predicted.
pub(crate) async fn predicted(app: &App, rows: usize) {
    let Some(meter) = &app.meter else { return };
    let noted = meter.note(Amount { rows: rows as u64, ..Amount::default() });
    // Predictions that are ready at the same time are written down together: it takes the disk's cache as long as one.
    tokio::task::yield_now().await;
    drop(noted);
}

/// Reserves that `deployed` reads `tokens`, which [`read`] then counts.
pub(crate) fn reserve_tokens(app: &App, deployed: &Deployed, tokens: usize) -> Result<(), Fault> {
    reserve(app.meter.as_deref(), deployed, Amount { prompt_tokens: tokens as u64, ..Amount::default() })
}

/// Counts that `tokens` were read.
pub(crate) fn read(app: &App, tokens: usize) {
    if let Some(meter) = &app.meter {
        meter.record(Amount { prompt_tokens: tokens as u64, ..Amount::default() });
    }
}

/// Counts what could not be known before: an explanation's work.
pub(crate) fn explained(app: &App, deployed: &Deployed, used: Amount) {
    if let Some(meter) = &app.meter {
        meter.charge(&deployed.model_name, &deployed.display_name, used);
    }
}

fn reserve(meter: Option<&Meter>, deployed: &Deployed, more: Amount) -> Result<(), Fault> {
    let Some(meter) = meter else { return Ok(()) };
    Ok(meter.reserve(&deployed.model_name, &deployed.display_name, more)?)
}

/// How answers are to be paid for.
pub(crate) struct Charge {
    meter: Option<Arc<Meter>>,
    whole: bool,
}

impl Charge {
    /// By the caller of `app`. Where the client says how long an answer may be, so much is there from the start
    /// (`whole`), or nothing is begun; else it is had piece by piece, and the answer ends where no more is to be had.
    pub(crate) fn of(app: &App, whole: bool) -> Charge {
        Charge { meter: app.meter.clone(), whole }
    }
}

/// Tokens that answers may have. What is left goes back when it is dropped.
pub(crate) struct Lease {
    meter: Option<Arc<Meter>>,
    deployed: Arc<Deployed>,
    answers: usize,
    /// Tokens of all answers together that may be told.
    may: usize,
    prompt: usize,
    told: usize,
    recorded: bool,
}

impl Lease {
    /// For `answers` answers of `deployed` to prompts of `prompt` tokens, each of `longest` tokens at most.
    ///
    /// # Errors
    /// If what they take at the beginning is not to be had.
    pub(crate) fn take(
        charge: Charge,
        deployed: &Arc<Deployed>,
        prompt: usize,
        answers: usize,
        longest: usize,
    ) -> Result<Lease, Fault> {
        let Charge { meter, whole } = charge;
        let each = if whole || meter.is_none() { longest } else { longest.min(LEASE_TOKENS) };
        let may = each.saturating_mul(answers);
        // Tokens that end answers are not told, and count.
        let ends = if each < longest { answers } else { 0 };
        let more = Amount {
            prompt_tokens: prompt as u64,
            output_tokens: may.saturating_add(ends) as u64,
            ..Amount::default()
        };
        reserve(meter.as_deref(), deployed, more)?;
        let deployed = Arc::clone(deployed);
        Ok(Lease { meter, deployed, answers, may, prompt, told: 0, recorded: false })
    }

    /// Whether one more token may be told, which then counts as told.
    pub(crate) fn tell(&mut self) -> bool {
        if self.told >= self.may {
            let more = LEASE_TOKENS.saturating_mul(self.answers);
            let amount = Amount { output_tokens: more as u64, ..Amount::default() };
            if reserve(self.meter.as_deref(), &self.deployed, amount).is_err() {
                return false;
            }
            self.may = self.may.saturating_add(more);
        }
        self.told += 1;
        true
    }

    /// Tokens that were told.
    pub(crate) fn told(&self) -> usize {
        self.told
    }

    /// Counts what was used.
    pub(crate) fn record(&mut self, usage: &llm::Usage) {
        let used = Amount {
            prompt_tokens: usage.prompt as u64,
            cached_tokens: usage.cached as u64,
            output_tokens: usage.completion as u64,
            ..Amount::default()
        };
        self.recorded = true;
        if let Some(meter) = &self.meter {
            meter.record(used);
        }
    }

    /// Counts what answers took that nobody waits for any more: their prompts, and what was told.
    pub(crate) fn record_broken_off(&mut self) {
        if !self.recorded {
            let usage = llm::Usage { prompt: self.prompt, cached: 0, completion: self.told };
            self.record(&usage);
        }
    }
}

impl From<Exceeded> for Fault {
    fn from(exceeded: Exceeded) -> Self {
        let reason = match exceeded.limit {
            Limited::Budget(_) | Limited::Stored { .. } | Limited::Training(_) => INSUFFICIENT_QUOTA,
            Limited::Requests(_) | Limited::Tokens { .. } | Limited::Concurrent(_) => RATE_LIMITED,
        };
        let fault = Fault::new(Code::ResourceExhausted, exceeded.to_string()).because(reason);
        Fault { retry_after: exceeded.retry_after, ..fault }
    }
}

/// The word for programs that no waiting of theirs helps.
pub(crate) const INSUFFICIENT_QUOTA: &str = "insufficient_quota";
/// The word for programs that a limit of the caller's own is reached.
const RATE_LIMITED: &str = "rate_limit_exceeded";

impl From<NotAdmitted> for Fault {
    fn from(not: NotAdmitted) -> Self {
        match not {
            NotAdmitted::Exceeded(exceeded) => exceeded.into(),
            NotAdmitted::Unwritable => Fault::new(Code::Unavailable, not.to_string()),
        }
    }
}
