//! The categorical step: one output per category, and a last one for other texts.

use super::hash::{FastMap, index};

/// Lookup table of one column.
#[derive(Debug)]
pub(crate) struct CategoricalStep {
    categories: FastMap<Box<str>, u32>,
}

impl CategoricalStep {
    pub(crate) fn new(categories: &[String]) -> Self {
        CategoricalStep { categories: index(categories) }
    }

    pub(crate) fn width(&self) -> usize {
        self.categories.len() + 1
    }

    /// Writes 1 at the category of `cell`, blanks around it left out.
    pub(crate) fn write(&self, cell: &str, out: &mut [f32]) {
        out.fill(0.0);
        let place = self.categories.get(cell.trim()).map_or(self.categories.len(), |id| *id as usize);
        if let Some(value) = out.get_mut(place) {
            *value = 1.0;
        }
    }
}
