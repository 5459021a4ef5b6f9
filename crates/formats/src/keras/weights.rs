//! [`Vars`]: a layer's weights in their order.

use super::Array;
use crate::hdf5::{Group, Hdf5Error};
use crate::spec::SpecError;

/// How many bytes of weights may still be read: those of the file, so that none are read over and over.
#[derive(Debug)]
pub(super) struct Budget(pub(super) usize);

/// The weights of one layer, taken one by one.
#[derive(Debug)]
pub(super) struct Vars<'a, 'b> {
    /// For messages.
    layer: &'b str,
    vars: Option<Group<'a>>,
    next: usize,
    budget: &'b mut Budget,
}

impl<'a, 'b> Vars<'a, 'b> {
    /// Those of `layer`, which has `group` in the file, if it has weights at all.
    pub(super) fn of(
        layer: &'b str,
        group: Option<&Group<'a>>,
        budget: &'b mut Budget,
    ) -> Result<Vars<'a, 'b>, SpecError> {
        let vars = member(layer, group, "vars")?;
        Ok(Vars { layer, vars, next: 0, budget })
    }

    /// The next array, which a person calls `what`.
    pub(super) fn take(&mut self, what: &str) -> Result<Array, SpecError> {
        let wrong = |message: String| SpecError::new(self.layer, message);
        let unreadable = |e: Hdf5Error| wrong(format!("its {what}: {e}"));
        let number = self.next.to_string();
        let dataset = self.vars.as_ref().map(|vars| vars.dataset(&number)).transpose().map_err(unreadable)?;
        let dataset =
            dataset.flatten().ok_or_else(|| wrong(format!("its {what} is not among the weights")))?;
        let left = self.budget.0.checked_sub(dataset.byte_count());
        self.budget.0 = left.ok_or_else(|| wrong(format!("its {what} overlaps other weights")))?;
        let values = dataset.floats().ok_or_else(|| wrong(format!("its {what} holds integers")))?;
        self.next += 1;
        Ok(Array { shape: dataset.shape().to_vec(), values })
    }

    /// The budget that it takes from.
    pub(super) fn budget(&mut self) -> &mut Budget {
        self.budget
    }

    /// The next array, if `present`.
    pub(super) fn take_if(&mut self, present: bool, what: &str) -> Result<Option<Array>, SpecError> {
        if present { self.take(what).map(Some) } else { Ok(None) }
    }
}

/// The group called `name` among a layer's weights.
pub(super) fn member<'a>(
    at: &str,
    group: Option<&Group<'a>>,
    name: &str,
) -> Result<Option<Group<'a>>, SpecError> {
    let member = group.map(|group| group.group(name)).transpose();
    Ok(member.map_err(|e| SpecError::new(at, format!("its weights: {e}")))?.flatten())
}

/// A class' name as the weights file has it: `MaxPooling2D` is `max_pooling2d`, `LeakyReLU` is `leaky_re_lu`.
pub(super) fn snake(class: &str) -> String {
    let letters: Vec<char> = class.chars().collect();
    let small = |i: Option<usize>| i.and_then(|i| letters.get(i)).is_some_and(char::is_ascii_lowercase);
    let mut name = String::with_capacity(letters.len() + 4);
    for (i, letter) in letters.iter().enumerate() {
        if i > 0 && letter.is_ascii_uppercase() && (small(i.checked_sub(1)) || small(i.checked_add(1))) {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}
