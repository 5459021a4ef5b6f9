//! [`Slices`]: the same figures for the rows that share a value of a column.

use std::collections::BTreeMap;

/// The longest value, in bytes, that rows can be sliced by.
pub const SLICE_VALUE_BYTES_MAX: usize = 256;

/// One accumulator for each value of a column, for a bounded number of values.
///
/// A column with more values is no category: then no slice is kept at all, so that the outcome depends neither on
/// the order of the rows nor on how they were split.
#[derive(Debug, Clone)]
pub struct Slices<A> {
    column: String,
    values_max: usize,
    empty: A,
    /// `None` once there were too many values.
    values: Option<BTreeMap<String, A>>,
}

impl<A: Clone> Slices<A> {
    /// Slices by `column`, at most `values_max` of them, each beginning as `empty`.
    pub fn new(column: impl Into<String>, values_max: usize, empty: A) -> Self {
        Slices { column: column.into(), values_max, empty, values: Some(BTreeMap::new()) }
    }

    /// The column sliced by.
    pub fn column(&self) -> &str {
        &self.column
    }

    /// The accumulator of the rows with this value. `None` once the column has had too many values, or one of over
    /// [`SLICE_VALUE_BYTES_MAX`] bytes.
    pub fn of(&mut self, value: &str) -> Option<&mut A> {
        let known = self.values.as_ref()?;
        if !known.contains_key(value) {
            if known.len() >= self.values_max || value.len() > SLICE_VALUE_BYTES_MAX {
                self.values = None;
                return None;
            }
            self.values.as_mut()?.insert(value.to_owned(), self.empty.clone());
        }
        self.values.as_mut()?.get_mut(value)
    }

    /// Adds the slices of another by the same column, with `merge` for those that both have.
    pub fn merge<E>(
        &mut self,
        other: Slices<A>,
        mut merge: impl FnMut(&mut A, A) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(theirs) = other.values else {
            self.values = None;
            return Ok(());
        };
        for (value, accumulator) in theirs {
            if let Some(ours) = self.of(&value) {
                merge(ours, accumulator)?;
            }
        }
        Ok(())
    }

    /// The slices by value, ascending; `None` when the column has too many values.
    pub fn values(&mut self) -> Option<impl Iterator<Item = (&str, &mut A)>> {
        Some(self.values.as_mut()?.iter_mut().map(|(value, accumulator)| (value.as_str(), accumulator)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn count(values: &[&str]) -> Slices<u32> {
        let mut slices = Slices::new("colour", 3, 0);
        values.iter().for_each(|v| {
            if let Some(n) = slices.of(v) {
                *n += 1;
            }
        });
        slices
    }

    fn add(to: &mut u32, from: u32) -> Result<(), Infallible> {
        *to += from;
        Ok(())
    }

    fn counts(slices: &mut Slices<u32>) -> Option<Vec<(String, u32)>> {
        Some(slices.values()?.map(|(value, n)| (value.to_owned(), *n)).collect())
    }

    #[test]
    fn rows_are_counted_by_value() {
        let mut slices = count(&["red", "blue", "red", ""]);
        let expected = [("", 1), ("blue", 1), ("red", 2)].map(|(v, n)| (v.to_owned(), n)).to_vec();
        assert_eq!((slices.column().to_owned(), counts(&mut slices)), ("colour".to_owned(), Some(expected)));
    }

    #[test]
    fn too_many_values_are_no_slices_however_they_are_split() {
        let values = ["a", "b", "c", "d", "a"];
        assert_eq!(counts(&mut count(&values)), None);
        for at in 1..values.len() {
            let (first, second) = values.split_at(at);
            let mut merged = count(first);
            merged.merge(count(second), add).unwrap();
            assert_eq!(counts(&mut merged), None, "{at}");
        }
        assert_eq!(counts(&mut count(&["x".repeat(257).as_str()])), None);
    }

    #[test]
    fn merging_adds() {
        let mut merged = count(&["a", "b"]);
        merged.merge(count(&["b", "c"]), add).unwrap();
        let expected = [("a", 1), ("b", 2), ("c", 1)].map(|(v, n)| (v.to_owned(), n)).to_vec();
        assert_eq!(counts(&mut merged), Some(expected));
    }
}
