//! Layers that move elements or leave some out.

use formats::keras::{Kind, Sides};

use super::super::writer::{Step, Writer, int, ints, product, row_elements, string};

impl Writer {
    pub(super) fn reshape_to(&mut self, target: &[i64]) -> Step {
        let elements = product(&self.at.shape)?;
        let known = target.iter().filter(|d| **d != -1).map(|d| *d as usize);
        let known = known.clone().try_fold(1usize, usize::checked_mul).filter(|n| *n > 0);
        let open = target.iter().filter(|d| **d == -1).count();
        let left = known.filter(|n| elements.is_multiple_of(*n) && open <= 1).map(|n| elements / n);
        let left = left.ok_or_else(|| format!("{:?} cannot become {target:?}", self.at.shape))?;
        let shape: Vec<usize> = target.iter().map(|d| if *d == -1 { left } else { *d as usize }).collect();
        self.reshape(&shape)
    }

    pub(super) fn permute(&mut self, dims: &[usize]) -> Step {
        self.lay_channels_last();
        let mut sorted = dims.to_vec();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(1..=self.at.shape.len()) {
            return Err(format!("{dims:?} is no order of the dimensions of {:?}", self.at.shape));
        }
        let perm = std::iter::once(0).chain(dims.iter().map(|d| *d as i64)).collect();
        self.apply("Transpose", &[], vec![ints("perm", perm)]);
        self.at.shape = dims.iter().map(|d| self.at.shape[d - 1]).collect();
        self.at.ids = None;
        Ok(())
    }

    pub(super) fn repeat(&mut self, n: usize) -> Step {
        let &[features] = self.at.shape.as_slice() else {
            return Err(format!("takes [features], not {:?}", self.at.shape));
        };
        row_elements(&[n, features])?;
        let (axis, repeats) = (self.integers("axis", &[1]), self.integers("repeats", &[1, n as i64, 1]));
        self.apply("Unsqueeze", &[&axis], vec![]);
        self.apply("Tile", &[&repeats], vec![]);
        self.at.shape = vec![n, features];
        self.at.ids = None;
        Ok(())
    }

    pub(super) fn global_pooling(&mut self, kind: Kind, rank: usize, keep: bool) -> Step {
        let (_, channels) = self.extent(rank)?;
        if kind == Kind::Average && rank == 1 && self.at.ids.is_some() {
            if keep {
                return Err("keeping its dimensions over masked steps is not supported".to_owned());
            }
            self.lay_channels_last();
            return self.global_average_pooling1d();
        }
        self.at.ids = None;
        let first = if self.at.channels_first { 2 } else { 1 };
        let axes: Vec<i64> = (first..first + rank as i64).collect();
        let axes = self.integers("axes", &axes);
        let op = match kind {
            Kind::Max => "ReduceMax",
            Kind::Average => "ReduceMean",
        };
        self.apply(op, &[&axes], vec![int("keepdims", i64::from(keep))]);
        if keep {
            self.at.shape = [vec![1; rank], vec![channels]].concat();
        } else {
            self.at.shape = vec![channels];
            self.at.channels_first = false;
        }
        Ok(())
    }

    pub(super) fn zero_padding(&mut self, sides: &Sides) -> Step {
        let (extent, channels) = self.extent(sides.len())?;
        let wider = |(length, [before, after]): (&usize, &[usize; 2])| {
            length.checked_add(*before)?.checked_add(*after)
        };
        let extent = extent.iter().zip(sides).map(wider).collect::<Option<Vec<_>>>().ok_or("is too large")?;
        let shape = [extent, vec![channels]].concat();
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
        self.at.ids = None;
        Ok(())
    }

    pub(super) fn cropping(&mut self, sides: &Sides) -> Step {
        let (extent, channels) = self.extent(sides.len())?;
        let inner = |(length, [before, after]): (&usize, &[usize; 2])| {
            length.checked_sub(*before)?.checked_sub(*after).filter(|left| *left > 0)
        };
        let left = extent.iter().zip(sides).map(inner).collect::<Option<Vec<_>>>();
        let left = left.ok_or_else(|| format!("leaves nothing of {extent:?}"))?;
        let starts: Vec<i64> = sides.iter().map(|[before, _]| *before as i64).collect();
        let ends: Vec<i64> = starts.iter().zip(&left).map(|(start, left)| start + *left as i64).collect();
        let first = if self.at.channels_first { 2 } else { 1 };
        let axes: Vec<i64> = (first..first + sides.len() as i64).collect();
        let (starts, ends, axes) =
            (self.integers("starts", &starts), self.integers("ends", &ends), self.integers("axes", &axes));
        self.apply("Slice", &[&starts, &ends, &axes], vec![]);
        self.at.shape = [left, vec![channels]].concat();
        self.at.ids = None;
        Ok(())
    }

    pub(super) fn up_sampling(&mut self, size: &[usize], bilinear: bool) -> Step {
        let (extent, channels) = self.extent(size.len())?;
        let larger = extent.iter().zip(size).map(|(length, size)| length.checked_mul(*size));
        let shape = larger.chain([Some(channels)]).collect::<Option<Vec<_>>>().ok_or("is too large")?;
        row_elements(&shape)?;
        self.at.ids = None;
        if !bilinear {
            self.lay_channels_last();
            for (place, size) in size.iter().enumerate() {
                self.repeat_cells(place, *size)?;
            }
            return Ok(());
        }
        self.lay_channels_first();
        let scales: Vec<f32> = [1.0, 1.0].into_iter().chain(size.iter().map(|n| *n as f32)).collect();
        let scales = self.weights("scales", &[scales.len()], &scales)?;
        let how = vec![string("mode", "linear"), string("coordinate_transformation_mode", "half_pixel")];
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
        self.at.shape[place] *= size;
        let dims: Vec<i64> = std::iter::once(0).chain(self.at.shape.iter().map(|d| *d as i64)).collect();
        let dims = self.integers("shape", &dims);
        self.apply("Reshape", &[&dims], vec![]);
        Ok(())
    }
}
