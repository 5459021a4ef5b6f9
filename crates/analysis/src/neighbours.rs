//! [`Neighbours`]: which of many vectors lie nearest to others, found by looking at all of them.

/// Vectors that are looked at together for all that is asked, so that they are read from memory once.
const BLOCK_ROWS: usize = 256;

/// Sums that go on side by side in a distance.
const LANES: usize = 16;

/// Vectors of one width.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbours {
    width: usize,
    /// One after another.
    vectors: Vec<f32>,
}

/// One of the nearest: its place, and its Euclidean distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// Which of the vectors, from 0.
    pub place: usize,
    /// How far away it is.
    pub distance: f64,
}

impl Neighbours {
    /// Vectors of `width` numbers, one after another; `None` if these are not whole ones, or not finite.
    pub fn new(width: usize, vectors: Vec<f32>) -> Option<Self> {
        let whole = width > 0 && vectors.len().is_multiple_of(width);
        (whole && vectors.iter().all(|x| x.is_finite())).then_some(Neighbours { width, vectors })
    }

    /// Numbers in a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many vectors there are.
    pub fn len(&self) -> usize {
        self.vectors.len() / self.width
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.vectors.is_empty()
    }

    /// The `count` vectors nearest to each of `asked`, the nearest first, of equally near ones the first. `None` if a
    /// vector asked has another width, or `stop` says so on the way.
    pub fn nearest(
        &self,
        asked: &[Vec<f32>],
        count: usize,
        stop: &dyn Fn() -> bool,
    ) -> Option<Vec<Vec<Neighbour>>> {
        if count == 0 || asked.iter().any(|vector| vector.len() != self.width) {
            return None;
        }
        let mut nearest: Vec<Vec<(f32, usize)>> = vec![Vec::new(); asked.len()];
        for (block, vectors) in self.vectors.chunks(BLOCK_ROWS * self.width).enumerate() {
            if stop() {
                return None;
            }
            for (asked, best) in asked.iter().zip(&mut nearest) {
                for (row, vector) in vectors.chunks_exact(self.width).enumerate() {
                    let distance = squared_distance(asked, vector);
                    let is_full = best.len() == count;
                    if is_full && best.last().is_some_and(|(worst, _)| distance >= *worst) {
                        continue;
                    }
                    let at = best.partition_point(|(other, _)| *other <= distance);
                    best.insert(at, (distance, block * BLOCK_ROWS + row));
                    best.truncate(count);
                }
            }
        }
        let told = |(squared, place): (f32, usize)| Neighbour { place, distance: f64::from(squared).sqrt() };
        Some(nearest.into_iter().map(|best| best.into_iter().map(told).collect()).collect())
    }
}

fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += (a - b) * (a - b);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| (a - b) * (a - b)).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn the_nearest_are_those_of_a_sorted_list() {
        let (width, rows) = (37, 1000);
        let mut random = Random::new(3);
        let mut numbers = |n: usize| (0..n).map(|_| random.unit() as f32).collect::<Vec<f32>>();
        let vectors = numbers(width * rows);
        let asked: Vec<Vec<f32>> = (0..3).map(|_| numbers(width)).collect();
        let index = Neighbours::new(width, vectors.clone()).unwrap();
        assert_eq!((index.len(), index.width()), (rows, width));
        for (asked, found) in asked.iter().zip(index.nearest(&asked, 10, &|| false).unwrap()) {
            let distance = |row: &[f32]| {
                row.iter().zip(asked).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
            };
            let mut all: Vec<(f64, usize)> =
                vectors.chunks(width).map(distance).enumerate().map(|(place, d)| (d, place)).collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0));
            for (expected, found) in all.iter().zip(&found) {
                assert_eq!(found.place, expected.1);
                assert!((found.distance - expected.0).abs() < 1e-5);
            }
            assert_eq!(found.len(), 10);
        }
    }

    #[test]
    fn of_equals_the_first_and_no_more_than_there_are() {
        let index = Neighbours::new(1, vec![2.0, 1.0, 2.0]).unwrap();
        let found = index.nearest(&[vec![2.0]], 5, &|| false).unwrap();
        let places: Vec<usize> = found[0].iter().map(|neighbour| neighbour.place).collect();
        assert_eq!(places, [0, 2, 1]);
        assert_eq!(index.nearest(&[vec![2.0, 1.0]], 5, &|| false), None);
        assert_eq!(index.nearest(&[vec![2.0]], 5, &|| true), None);
        assert!(Neighbours::new(2, vec![1.0]).is_none());
        assert!(Neighbours::new(1, vec![f32::NAN]).is_none());
    }
}
