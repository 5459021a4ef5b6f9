//! [`Window`]: the lines that are being answered, a bounded number at once, given back in their order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use formats::rows::Position;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::LOOK;
use super::lines::Lines;
use crate::answerer::{Answered, Answerer, Asked, Closed};
use crate::jobs::context::Context;
use crate::{BatchEnding, Error, ErrorCode, Result, Timestamp};

/// Lines that are read ahead of the first unanswered one, for each that may be with the models: a slow one holds up what
/// is written, not what is asked.
const AHEAD: usize = 4;

/// Bytes of lines that are read ahead.
const BYTES_MAX: usize = 64 << 20;

/// The lines of one batch on their way.
pub(super) struct Window<'a> {
    context: &'a Context,
    answerer: Arc<dyn Answerer>,
    asked: Arc<Asked>,
    lines: Lines,
    /// Lines that have been read and not given back, in order.
    begun: VecDeque<Begun>,
    bytes: usize,
    /// Why no more lines are answered.
    ending: Option<BatchEnding>,
}

struct Begun {
    line: Bytes,
    /// Where the lines go on after it.
    after: Position,
    answer: JoinHandle<std::result::Result<Answered, Closed>>,
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        self.begun.iter().for_each(|begun| begun.answer.abort());
    }
}

impl<'a> Window<'a> {
    pub(super) fn new(
        context: &'a Context,
        answerer: Arc<dyn Answerer>,
        asked: Asked,
        lines: Lines,
        ending: Option<BatchEnding>,
    ) -> Self {
        Window { context, answerer, asked: Arc::new(asked), lines, begun: VecDeque::new(), bytes: 0, ending }
    }

    /// Why no more lines are answered, if so.
    pub(super) fn ending(&self) -> Option<BatchEnding> {
        self.ending
    }

    /// What became of the next line, and where the lines go on after it; `None` after the last.
    ///
    /// # Errors
    /// `Unavailable` when the process ends.
    pub(super) fn next(&mut self) -> Result<Option<(Answered, Position)>> {
        loop {
            self.look()?;
            self.fill()?;
            let Some(first) = self.begun.front_mut() else { return self.give_up_next() };
            // Once nothing more is answered, what has been is taken and the rest given up.
            let patience = if self.ending.is_some() { Duration::ZERO } else { LOOK };
            let waited = async { timeout(patience, &mut first.answer).await };
            let answered = match self.context.runtime.block_on(waited) {
                Ok(Ok(Ok(answered))) => answered,
                Ok(Ok(Err(Closed)) | Err(_)) => {
                    return Err(self.context.leave("nothing is answered any more in this process"));
                }
                Err(_) => match self.ending {
                    None => continue,
                    Some(why) => unanswered(&*self.answerer, &first.line, why),
                },
            };
            let Some(first) = self.begun.pop_front() else { continue };
            first.answer.abort();
            self.bytes -= first.line.len();
            return Ok(Some((answered, first.after)));
        }
    }

    /// Sees whether lines are still to be answered.
    fn look(&mut self) -> Result<()> {
        let signals = &self.context.signals;
        if signals.stopping.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorCode::Unavailable, "the server is being stopped"));
        }
        if self.ending.is_none() {
            let cancelled = signals.cancelled.load(Ordering::Relaxed);
            let expired = Timestamp::now() >= self.asked.expires;
            self.ending = match (cancelled, expired) {
                (true, _) => Some(BatchEnding::Cancelled),
                (false, true) => Some(BatchEnding::Expired),
                (false, false) => None,
            };
        }
        Ok(())
    }

    /// Has more lines answered, as far as there is room.
    fn fill(&mut self) -> Result<()> {
        let permits = self.context.control.runner().requests();
        let most = self.context.control.options().jobs.requests.max(1) * AHEAD;
        while self.ending.is_none() && self.begun.len() < most && self.bytes < BYTES_MAX {
            let Some((_, line)) = self.lines.next()? else { return Ok(()) };
            // Lines that cannot be read were found before any was answered, and the file does not change.
            let line = line.unwrap_or_default();
            let (answerer, asked) = (Arc::clone(&self.answerer), Arc::clone(&self.asked));
            let (text, permits) = (line.clone(), Arc::clone(permits));
            let answer = self.context.runtime.spawn(async move {
                let _permit = permits.acquire_owned().await.map_err(|_| Closed)?;
                answerer.answer(&asked, &text).await
            });
            self.bytes += line.len();
            self.begun.push_back(Begun { line, after: self.lines.position(), answer });
        }
        Ok(())
    }

    /// The next line when none is being answered: there is none, or it will not be.
    fn give_up_next(&mut self) -> Result<Option<(Answered, Position)>> {
        let Some(why) = self.ending else { return Ok(None) };
        let Some((_, line)) = self.lines.next()? else { return Ok(None) };
        let answered = unanswered(&*self.answerer, &line.unwrap_or_default(), why);
        Ok(Some((answered, self.lines.position())))
    }
}

fn unanswered(answerer: &dyn Answerer, line: &[u8], why: BatchEnding) -> Answered {
    Answered { line: answerer.unanswered(line, why), error: Some("it was given up".to_owned()) }
}
