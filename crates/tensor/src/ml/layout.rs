//! Where the elements of values lie, and how two values of different shapes go together.

use super::Fault;
use super::value::elements;

/// Elements from one step of each dimension to the next.
pub(super) fn steps(shape: &[usize]) -> Vec<usize> {
    let mut steps = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        if let (Some(&step), Some(&size)) = (steps.get(i), shape.get(i))
            && let Some(before) = steps.get_mut(i - 1)
        {
            *before = step * size;
        }
    }
    steps
}

/// The place of each element of `shape`, in order, where dimension `i` steps by `by[i]`.
pub(super) fn walk(shape: &[usize], by: &[usize]) -> Vec<usize> {
    let mut places = vec![0];
    for (&size, &step) in shape.iter().zip(by) {
        places = places.iter().flat_map(|&start| (0..size).map(move |i| start + i * step)).collect();
    }
    places
}

/// The shape that two values have together, and of each the place of what goes to every element.
pub(super) struct Together {
    pub(super) shape: Vec<usize>,
    pub(super) of_a: Vec<usize>,
    pub(super) of_b: Vec<usize>,
}

pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Result<Together, Fault> {
    let rank = a.len().max(b.len());
    let longer = |shape: &[usize]| [vec![1; rank - shape.len()].as_slice(), shape].concat();
    let (a, b) = (longer(a), longer(b));
    let mut shape = Vec::with_capacity(rank);
    for (&x, &y) in a.iter().zip(&b) {
        shape.push(match (x, y) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            _ => return Err(Fault::new(format!("shapes {a:?} and {b:?} do not go together"))),
        });
    }
    elements(&shape)?;
    let places = |own: &[usize]| {
        let by = steps(own).into_iter().zip(own).map(|(step, &size)| if size == 1 { 0 } else { step });
        walk(&shape, &by.collect::<Vec<_>>())
    };
    let (of_a, of_b) = (places(&a), places(&b));
    Ok(Together { shape, of_a, of_b })
}

/// Combines two lists of values element by element, each repeated where it is narrower.
pub(super) fn combined<T: Clone, U>(
    (a, a_shape): (&[T], &[usize]),
    (b, b_shape): (&[T], &[usize]),
    of: impl Fn(&T, &T) -> U,
) -> Result<(Vec<usize>, Vec<U>), Fault> {
    if a_shape == b_shape {
        return Ok((a_shape.to_vec(), a.iter().zip(b).map(|(a, b)| of(a, b)).collect()));
    }
    let Together { shape, of_a, of_b } = broadcast(a_shape, b_shape)?;
    let pairs = of_a.iter().zip(&of_b).filter_map(|(&i, &j)| Some(of(a.get(i)?, b.get(j)?)));
    let all = pairs.collect();
    Ok((shape, all))
}
