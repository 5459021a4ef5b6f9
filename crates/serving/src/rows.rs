//! Joining and cutting tensors along their first dimension.

use std::ops::Range;

use tensor::{Data, ShapeError, Tensor, Tensors};

/// How many rows named tensors hold: the first dimension, which they share.
pub(crate) fn row_count(tensors: &Tensors) -> usize {
    tensors.first().map_or(0, |(_, t)| t.rows())
}

/// Memory that the elements take.
pub(crate) fn byte_count(tensors: &Tensors) -> usize {
    tensors.iter().map(|(_, t)| data_bytes(t.data())).sum()
}

fn data_bytes(data: &Data) -> usize {
    match data {
        Data::F32(v) => size_of_val(v.as_slice()),
        Data::I32(v) => size_of_val(v.as_slice()),
        Data::Text(v) => v.iter().map(|s| size_of::<String>() + s.len()).sum(),
    }
}

/// Whether rows of both can share a batch: same names, types and row shapes.
pub(crate) fn joinable(a: &Tensors, b: &Tensors) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|((a_name, a), (b_name, b))| {
            a_name == b_name
                && a.data().data_type() == b.data().data_type()
                && a.shape().get(1..) == b.shape().get(1..)
        })
}

/// All rows of `parts` in order. The parts must be joinable.
pub(crate) fn join(parts: &[&Tensors]) -> Result<Tensors, ShapeError> {
    let Some(first) = parts.first() else { return Ok(Tensors::new()) };
    (0..first.len())
        .map(|i| {
            let column: Vec<&Tensor> = parts.iter().filter_map(|p| p.get(i)).map(|(_, t)| t).collect();
            Ok((first[i].0.clone(), join_one(&column)?))
        })
        .collect()
}

fn join_one(parts: &[&Tensor]) -> Result<Tensor, ShapeError> {
    let mut shape = parts.first().map_or_else(Vec::new, |t| t.shape().to_vec());
    if let Some(rows) = shape.first_mut() {
        *rows = parts.iter().map(|t| t.rows()).sum();
    }
    let elements = parts.iter().map(|t| t.data().len()).sum();
    let mut data = match parts.first().map(|t| t.data()) {
        Some(Data::I32(_)) => Data::I32(Vec::with_capacity(elements)),
        Some(Data::Text(_)) => Data::Text(Vec::with_capacity(elements)),
        Some(Data::F32(_)) | None => Data::F32(Vec::with_capacity(elements)),
    };
    for part in parts {
        match (&mut data, part.data()) {
            (Data::F32(all), Data::F32(v)) => all.extend_from_slice(v),
            (Data::I32(all), Data::I32(v)) => all.extend_from_slice(v),
            (Data::Text(all), Data::Text(v)) => all.extend_from_slice(v),
            // Of another type: left out, so that the shape check below reports it.
            _ => {}
        }
    }
    Tensor::new(shape, data)
}

/// The rows `range` of each tensor; out of bounds is cut off.
pub(crate) fn slice(tensors: &Tensors, range: Range<usize>) -> Result<Tensors, ShapeError> {
    tensors.iter().map(|(name, t)| Ok((name.clone(), slice_one(t, range.clone())?))).collect()
}

fn slice_one(t: &Tensor, range: Range<usize>) -> Result<Tensor, ShapeError> {
    let (start, end) = (range.start.min(t.rows()), range.end.min(t.rows()));
    let mut shape = t.shape().to_vec();
    if let Some(rows) = shape.first_mut() {
        *rows = end - start;
    }
    let elements = start * t.row_len()..end * t.row_len();
    let data = match t.data() {
        Data::F32(v) => Data::F32(v[elements].to_vec()),
        Data::I32(v) => Data::I32(v[elements].to_vec()),
        Data::Text(v) => Data::Text(v[elements].to_vec()),
    };
    Tensor::new(shape, data)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn two(rows: usize, from: f32) -> Tensors {
        let numbers = (0..rows * 3).map(|i| from + i as f32).collect();
        let texts = (0..rows).map(|i| format!("{from} {i}")).collect();
        vec![
            ("x".into(), Tensor::new(vec![rows, 3], Data::F32(numbers)).unwrap()),
            ("t".into(), Tensor::new(vec![rows], Data::Text(texts)).unwrap()),
        ]
    }

    #[test]
    fn joined_and_cut_is_the_same() {
        let (a, b) = (two(2, 0.0), two(3, 100.0));
        let all = join(&[&a, &b]).unwrap();
        assert_eq!(row_count(&all), 5);
        assert_eq!(slice(&all, 0..2).unwrap(), a);
        assert_eq!(slice(&all, 2..5).unwrap(), b);
        assert_eq!(row_count(&slice(&all, 4..9).unwrap()), 1);
    }

    #[test]
    fn other_shapes_do_not_join() {
        let other = vec![("x".into(), Tensor::new(vec![1, 2], Data::F32(vec![0.0; 2])).unwrap())];
        assert!(!joinable(&two(1, 0.0), &other));
        assert!(joinable(&two(1, 0.0), &two(4, 1.0)));
    }
}
