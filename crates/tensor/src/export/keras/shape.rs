//! Layers that move elements or leave some out.

use formats::keras::{Kind, Sides};

use super::super::writer::{
    Step, Writer, fixed, int, ints, known, length, product, row_elements, shown, string,
};
use crate::Dim;

impl Writer {
    pub(super) fn reshape_to(&mut self, target: &[i64]) -> Step {
        let wrong = |shape: &[Dim]| format!("{} cannot become {target:?}", shown(shape));
        let own = self.at.shape.clone();
        let given: Vec<usize> = target.iter().filter(|d| **d != -1).map(|d| *d as usize).collect();
        let (elements, given) = (known(&own)?, product(&given)?);
        let (open, left) = (own.contains(&Dim::Any), target.iter().filter(|d| **d == -1).count());
        if left > 1 || given == 0 || (left == 0 && (open || elements != given)) {
            return Err(wrong(&own));
        }
        let rest = match (open, elements.is_multiple_of(given)) {
            (true, _) => Dim::Any,
            (false, true) => Dim::Fixed(elements / given),
            (false, false) => return Err(wrong(&own)),
        };
        let shape = target.iter().map(|d| if *d == -1 { rest } else { Dim::Fixed(*d as usize) });
        self.shape_as(target, shape.collect());
        Ok(())
    }

    pub(super) fn permute(&mut self, dims: &[usize]) -> Step {
        self.lay_channels_last();
        let mut sorted = dims.to_vec();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(1..=self.at.shape.len()) {
            return Err(format!("{dims:?} is no order of the dimensions of {}", shown(&self.at.shape)));
        }
        let perm = std::iter::once(0).chain(dims.iter().map(|d| *d as i64)).collect();
        self.apply("Transpose", &[], vec![ints("perm", perm)]);
        self.at.shape = dims.iter().map(|d| self.at.shape[d - 1]).collect();
        self.at.mask = None;
        Ok(())
    }

    pub(super) fn repeat(&mut self, n: usize) -> Step {
        let &[features] = self.at.shape.as_slice() else {
            return Err(format!("takes [features], not {}", shown(&self.at.shape)));
        };
        let shape = vec![Dim::Fixed(n), features];
        row_elements(&shape)?;
        let (axis, repeats) = (self.integers("axis", &[1]), self.integers("repeats", &[1, n as i64, 1]));
        self.apply("Unsqueeze", &[&axis], vec![]);
        self.apply("Tile", &[&repeats], vec![]);
        self.at.shape = shape;
        self.at.mask = None;
        Ok(())
    }

    pub(super) fn global_pooling(&mut self, kind: Kind, rank: usize, keep: bool) -> Step {
        let (_, channels) = self.extent(rank)?;
        if kind == Kind::Average && rank == 1 && self.at.mask.is_some() {
            if keep {
                return Err("keeping its dimensions over masked steps is not supported".to_owned());
            }
            self.lay_channels_last();
            return self.global_average_pooling1d();
        }
        self.at.mask = None;
        let first = if self.at.channels_first { 2 } else { 1 };
        let axes: Vec<i64> = (first..first + rank as i64).collect();
        let axes = self.integers("axes", &axes);
        let op = match kind {
            Kind::Max => "ReduceMax",
            Kind::Average => "ReduceMean",
        };
        self.apply(op, &[&axes], vec![int("keepdims", i64::from(keep))]);
        if keep {
            self.at.shape = [vec![Dim::Fixed(1); rank], vec![Dim::Fixed(channels)]].concat();
        } else {
            self.at.shape = vec![Dim::Fixed(channels)];
            self.at.channels_first = false;
        }
        Ok(())
    }

    pub(super) fn zero_padding(&mut self, sides: &Sides) -> Step {
        let (extent, channels) = self.extent(sides.len())?;
        let wider = |(dim, [before, after]): (&Dim, &[usize; 2])| match dim {
            Dim::Fixed(length) => Some(Dim::Fixed(length.checked_add(*before)?.checked_add(*after)?)),
            Dim::Any => Some(Dim::Any),
        };
        let extent = extent.iter().zip(sides).map(wider).collect::<Option<Vec<_>>>().ok_or("is too large")?;
        let shape = [extent, vec![Dim::Fixed(channels)]].concat();
        row_elements(&shape)?;
        let of = |side: usize| sides.iter().map(move |sides| sides[side] as i64);
        let around = |list: Vec<i64>| match self.at.channels_first {
            true => [vec![0, 0], list].concat(),
            false => [vec![0], list, vec![0]].concat(),
        };
        let pads = [around(of(0).collect()), around(of(1).collect())].concat();
        let pads = self.integers("pads", &pads);
        self.apply("Pad", &[&pads], vec![string("mode", "constant")]);
        self.at.shape = shape;
        self.at.mask = None;
        Ok(())
    }

    pub(super) fn cropping(&mut self, sides: &Sides) -> Step {
        let (extent, channels) = self.extent(sides.len())?;
        let inner = |(dim, [before, after]): (&Dim, &[usize; 2])| match dim {
            Dim::Fixed(length) => {
                let left = length.checked_sub(*before)?.checked_sub(*after)?;
                (left > 0).then_some(Dim::Fixed(left))
            }
            Dim::Any => Some(Dim::Any),
        };
        let left = extent.iter().zip(sides).map(inner).collect::<Option<Vec<_>>>();
        let left = left.ok_or_else(|| format!("leaves nothing of {}", shown(&extent)))?;
        let starts: Vec<i64> = sides.iter().map(|[before, _]| *before as i64).collect();
        // Counted from the end, if anything is cut off there.
        let end = |[_, after]: &[usize; 2]| if *after == 0 { i64::MAX } else { -(*after as i64) };
        let ends: Vec<i64> = sides.iter().map(end).collect();
        let first = if self.at.channels_first { 2 } else { 1 };
        let axes: Vec<i64> = (first..first + sides.len() as i64).collect();
        let (starts, ends, axes) =
            (self.integers("starts", &starts), self.integers("ends", &ends), self.integers("axes", &axes));
        self.apply("Slice", &[&starts, &ends, &axes], vec![]);
        self.at.shape = [left, vec![Dim::Fixed(channels)]].concat();
        self.at.mask = None;
        Ok(())
    }

    pub(super) fn up_sampling(&mut self, size: &[usize], bilinear: bool) -> Step {
        let (extent, channels) = self.extent(size.len())?;
        let larger = |(dim, size): (&Dim, &usize)| match dim {
            Dim::Fixed(length) => length.checked_mul(*size).map(Dim::Fixed),
            Dim::Any => Some(Dim::Any),
        };
        let shape = extent.iter().zip(size).map(larger).chain([Some(Dim::Fixed(channels))]);
        let shape = shape.collect::<Option<Vec<_>>>().ok_or("is too large")?;
        row_elements(&shape)?;
        self.at.mask = None;
        if !bilinear && !shape.contains(&Dim::Any) {
            self.lay_channels_last();
            for (place, size) in size.iter().enumerate() {
                self.repeat_cells(place, *size)?;
            }
            return Ok(());
        }
        self.lay_channels_first();
        let scales: Vec<f32> = [1.0, 1.0].into_iter().chain(size.iter().map(|n| *n as f32)).collect();
        let scales = self.weights("scales", &[scales.len()], &scales)?;
        let how = match bilinear {
            true => vec![string("mode", "linear"), string("coordinate_transformation_mode", "half_pixel")],
            false => vec![
                string("mode", "nearest"),
                string("coordinate_transformation_mode", "asymmetric"),
                string("nearest_mode", "floor"),
            ],
        };
        self.apply("Resize", &["", &scales], how);
        self.at.shape = shape;
        Ok(())
    }

    /// Each cell along dimension `place` of a row `size` times.
    fn repeat_cells(&mut self, place: usize, size: usize) -> Step {
        if size == 1 {
            return Ok(());
        }
        let axis = self.integers("axis", &[place as i64 + 2]);
        let mut repeats = vec![1; self.at.shape.len() + 2];
        repeats[place + 2] = size as i64;
        let repeats = self.integers("repeats", &repeats);
        self.apply("Unsqueeze", &[&axis], vec![]);
        self.apply("Tile", &[&repeats], vec![]);
        let dims: Vec<Dim> = self.at.shape.clone();
        let longer = |(i, dim): (usize, &Dim)| length(*dim).map(|n| if i == place { n * size } else { n });
        let lengths = dims.iter().enumerate().map(longer).collect::<Option<Vec<_>>>();
        let lengths = lengths.ok_or("takes dimensions of known lengths")?;
        let target: Vec<i64> = std::iter::once(0).chain(lengths.iter().map(|d| *d as i64)).collect();
        let target = self.integers("shape", &target);
        self.apply("Reshape", &[&target], vec![]);
        self.at.shape = fixed(&lengths);
        Ok(())
    }
}
