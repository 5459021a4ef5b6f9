//! [`Front`]: what makes a network's tensors of instances with columns.

use std::ops::Range;

use formats::Value;
use tensor::Tensors;
use tensor::features::{ColumnKind, InputColumn};

use super::game::words;
use crate::declared::Declared;
use crate::error::PredictError;
use crate::model::Trained;

/// What makes a network's tensors of instances with columns.
pub(super) trait Front {
    /// The columns, in the order of a list.
    fn columns(&self) -> &[InputColumn];

    /// The tensors of instances.
    fn tensors(&self, instances: &[Value]) -> Result<Tensors, PredictError>;

    /// What a column holds when nothing is known of it.
    fn nothing_known(&self, place: usize) -> Value;

    /// Where the tokens of a text are.
    fn text_tokens(&self, text: &str) -> Vec<Range<usize>>;

    /// The text without the tokens whose entry in `keep` is false.
    fn text_from_mask(&self, text: &str, keep: &[bool]) -> String;
}

impl Front for Trained {
    fn columns(&self) -> &[InputColumn] {
        self.features.columns()
    }

    fn tensors(&self, instances: &[Value]) -> Result<Tensors, PredictError> {
        Trained::tensors(self, instances)
    }

    /// A pixel is black.
    fn nothing_known(&self, place: usize) -> Value {
        let Some(column) = self.features.columns().get(place) else { return Value::Null };
        match column.kind {
            ColumnKind::Text => Value::Text(String::new()),
            ColumnKind::Category | ColumnKind::Image => Value::Null,
            ColumnKind::Number => Value::Number(self.means.get(&column.name).copied().unwrap_or(0.0)),
        }
    }

    fn text_tokens(&self, text: &str) -> Vec<Range<usize>> {
        self.features.text_tokens(text)
    }

    fn text_from_mask(&self, text: &str, keep: &[bool]) -> String {
        self.features.text_from_mask(text, keep)
    }
}

impl Front for Declared {
    fn columns(&self) -> &[InputColumn] {
        Declared::columns(self)
    }

    fn tensors(&self, instances: &[Value]) -> Result<Tensors, PredictError> {
        Declared::tensors(self, instances)
    }

    fn nothing_known(&self, place: usize) -> Value {
        Declared::nothing_known(self, place)
    }

    fn text_tokens(&self, text: &str) -> Vec<Range<usize>> {
        words(text)
    }

    fn text_from_mask(&self, text: &str, keep: &[bool]) -> String {
        let kept = words(text).into_iter().zip(keep).filter(|(_, keep)| **keep);
        let kept: Vec<&str> = kept.filter_map(|(range, _)| text.get(range)).collect();
        kept.join(" ")
    }
}
