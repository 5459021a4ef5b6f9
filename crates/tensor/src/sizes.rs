//! [`Sizes`]: how much a network holds at a time for one row.

use crate::Dim;

/// The largest values within a network, by how many dimensions of any length they have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sizes {
    /// The greatest product of the other dimensions.
    elements: Vec<usize>,
}

impl Sizes {
    /// The most elements that one row may have anywhere in a network, dimensions of any length left out of account.
    pub const ELEMENTS_MAX: usize = 16 << 20;
    /// The same, with those as long as a request makes them.
    pub const OPEN_ELEMENTS_MAX: usize = 64 << 20;

    /// Takes note of a value with rows of this shape.
    pub(crate) fn add(&mut self, shape: &[Dim]) {
        let open = shape.iter().filter(|dim| **dim == Dim::Any).count();
        let fixed = shape.iter().fold(1usize, |n, dim| match dim {
            Dim::Fixed(length) => n.saturating_mul(*length),
            Dim::Any => n,
        });
        self.elements.resize(self.elements.len().max(open + 1), 0);
        if let Some(most) = self.elements.get_mut(open) {
            *most = fixed.max(*most);
        }
    }

    /// Elements of the largest, where dimensions of any length are this long.
    pub fn elements(&self, length: usize) -> usize {
        let mut power = 1usize;
        let of = |fixed: &usize| {
            let elements = fixed.saturating_mul(power);
            power = power.saturating_mul(length);
            elements
        };
        self.elements.iter().map(of).max().unwrap_or(0)
    }

    /// How long dimensions of any length may be.
    pub fn length_max(&self) -> usize {
        let of = |(open, fixed): (usize, &usize)| {
            let room = Self::OPEN_ELEMENTS_MAX / (*fixed).max(1);
            if open == 0 { usize::MAX } else { (room as f64).powf(1.0 / open as f64) as usize }
        };
        self.elements.iter().enumerate().filter(|(_, fixed)| **fixed > 0).map(of).min().unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_value_grows_with_what_is_open() {
        let mut sizes = Sizes::default();
        sizes.add(&[Dim::Any, Dim::Fixed(100)]);
        sizes.add(&[Dim::Any, Dim::Any, Dim::Fixed(4)]);
        sizes.add(&[Dim::Fixed(50)]);
        assert_eq!([1, 10, 100].map(|length| sizes.elements(length)), [100, 1000, 40_000]);
        let max = sizes.length_max();
        assert!(
            sizes.elements(max) <= Sizes::OPEN_ELEMENTS_MAX
                && sizes.elements(max + 1) > Sizes::OPEN_ELEMENTS_MAX
        );
        assert_eq!(sizes.elements(usize::MAX), usize::MAX);
    }
}
