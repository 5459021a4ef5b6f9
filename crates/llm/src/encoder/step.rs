//! [`Step`]: texts that are computed together.

use kernels::{PAGE_TOKENS, Place};

use super::{Input, STEP_TOKENS};

/// The texts of one step, one after another.
#[derive(Default)]
pub(super) struct Step<'a> {
    pub(super) texts: Vec<&'a Input>,
    /// Of each text, the first row.
    pub(super) first: Vec<usize>,
    /// Of each text, its pages for keys and values.
    pub(super) pages: Vec<Vec<u32>>,
    /// Of each row, where its key and value go.
    pub(super) places: Vec<Place>,
    pub(super) tokens: usize,
}

impl<'a> Step<'a> {
    /// The first of `texts`, as many as a step takes, and at least one.
    pub(super) fn of(texts: &'a [Input]) -> Step<'a> {
        let mut step = Step::default();
        let mut page = 0;
        for text in texts {
            let len = text.tokens.len();
            let pages = len.div_ceil(PAGE_TOKENS);
            if step.tokens > 0 && (page as usize + pages) * PAGE_TOKENS > STEP_TOKENS {
                break;
            }
            let own: Vec<u32> = (page..).take(pages).collect();
            let place = |token: usize| Place {
                page: page + (token / PAGE_TOKENS) as u32,
                slot: (token % PAGE_TOKENS) as u32,
            };
            step.places.extend((0..len).map(place));
            step.texts.push(text);
            step.first.push(step.tokens);
            step.tokens += len;
            page += own.len() as u32;
            step.pages.push(own);
        }
        step
    }

    /// Each text's rows as attention takes them, where every token sees every other.
    pub(super) fn spans(&self) -> Vec<kernels::Span<'_>> {
        let span = |at: usize| {
            let count = self.texts[at].tokens.len();
            kernels::Span { row: self.first[at], count, visible: count, hidden: 0..0, pages: &self.pages[at] }
        };
        (0..self.texts.len()).map(span).collect()
    }
}
