//! [`superpixels`]: a picture cut into areas of about one size that follow its edges.

/// Rounds in which areas and their centres settle.
const ROUNDS: usize = 5;
/// How much nearness weighs beside likeness: colours, 0 to 255, that differ by so much are as far apart as neighbouring
/// centres.
const COMPACTNESS: f32 = 30.0;

/// The middle of an area: where it lies, and its mean colour.
#[derive(Clone, Copy)]
struct Centre {
    x: f32,
    y: f32,
    colour: [f32; 3],
}

/// Cuts a picture (`rgb`, row by row) into about `wanted` areas: the number of each pixel's area, and how many there are.
/// Pixels join the nearest of a grid of centres, by place and colour together, which then move to the middle of theirs
/// (*SLIC*; Achanta et al., PAMI 2012). The same picture gives the same areas.
pub fn superpixels(rgb: &[u8], width: usize, height: usize, wanted: usize) -> (Vec<u32>, usize) {
    let pixels = width * height;
    if pixels == 0 || rgb.len() < pixels * 3 {
        return (Vec::new(), 0);
    }
    let step = (pixels as f32 / wanted.clamp(1, pixels) as f32).sqrt().max(1.0);
    let along = |side: usize| ((side as f32 / step).round() as usize).clamp(1, side);
    let (columns, rows) = (along(width), along(height));
    let colour = |pixel: usize| {
        let at = pixel * 3;
        [f32::from(rgb[at]), f32::from(rgb[at + 1]), f32::from(rgb[at + 2])]
    };
    let cell = |i: usize, of: usize, side: usize| (i as f32 + 0.5) * side as f32 / of as f32;
    let mut centres: Vec<Centre> = (0..rows)
        .flat_map(|row| (0..columns).map(move |column| (row, column)))
        .map(|(row, column)| {
            let (x, y) = (cell(column, columns, width), cell(row, rows, height));
            Centre { x, y, colour: colour(y as usize * width + x as usize) }
        })
        .collect();
    let mut areas = vec![0u32; pixels];
    for _ in 0..ROUNDS {
        for y in 0..height {
            // A pixel is never asked of centres further than the next but one in the grid.
            let row = y * rows / height;
            for x in 0..width {
                let column = x * columns / width;
                let (own, at) = (colour(y * width + x), (x as f32 + 0.5, y as f32 + 0.5));
                let mut nearest = (f32::INFINITY, 0);
                for row in row.saturating_sub(1)..(row + 2).min(rows) {
                    for column in column.saturating_sub(1)..(column + 2).min(columns) {
                        let place = row * columns + column;
                        let distance = distance(&centres[place], own, at, step);
                        if distance < nearest.0 {
                            nearest = (distance, place);
                        }
                    }
                }
                areas[y * width + x] = nearest.1 as u32;
            }
        }
        settle(&mut centres, &areas, width, colour);
    }
    without_gaps(areas, centres.len())
}

fn distance(centre: &Centre, colour: [f32; 3], (x, y): (f32, f32), step: f32) -> f32 {
    let unlike: f32 = centre.colour.iter().zip(colour).map(|(a, b)| (a - b) * (a - b)).sum();
    let far = (centre.x - x) * (centre.x - x) + (centre.y - y) * (centre.y - y);
    unlike + far * (COMPACTNESS / step) * (COMPACTNESS / step)
}

/// Moves centres to the middle of their pixels. One without any stays.
fn settle(centres: &mut [Centre], areas: &[u32], width: usize, colour: impl Fn(usize) -> [f32; 3]) {
    let mut sums = vec![([0f64; 5], 0u32); centres.len()];
    for (pixel, area) in areas.iter().enumerate() {
        let ([r, g, b], (sum, count)) = (colour(pixel), &mut sums[*area as usize]);
        let own = [(pixel % width) as f32 + 0.5, (pixel / width) as f32 + 0.5, r, g, b];
        sum.iter_mut().zip(own).for_each(|(sum, v)| *sum += f64::from(v));
        *count += 1;
    }
    for (centre, (sum, count)) in centres.iter_mut().zip(sums).filter(|(_, (_, count))| *count > 0) {
        let [x, y, r, g, b] = sum.map(|v| (v / f64::from(count)) as f32);
        *centre = Centre { x, y, colour: [r, g, b] };
    }
}

/// The areas that have pixels, numbered anew.
fn without_gaps(mut areas: Vec<u32>, centres: usize) -> (Vec<u32>, usize) {
    let mut numbers: Vec<Option<u32>> = vec![None; centres];
    let mut next = 0;
    for area in &mut areas {
        let number = numbers[*area as usize].get_or_insert_with(|| {
            next += 1;
            next - 1
        });
        *area = *number;
    }
    (areas, next as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_follow_edges_and_cover_the_picture() {
        // Black on the left, white on the right; the edge lies on no cell of the grid.
        let (width, height) = (60, 40);
        let rgb: Vec<u8> =
            (0..width * height).flat_map(|p| [if p % width < 33 { 0 } else { 255 }; 3]).collect();
        let (areas, count) = superpixels(&rgb, width, height, 24);
        assert_eq!(areas.len(), width * height);
        assert!((12..=30).contains(&count), "{count}");
        let mut sides = vec![[0; 2]; count];
        areas.iter().enumerate().for_each(|(p, a)| sides[*a as usize][usize::from(p % width < 33)] += 1);
        assert!(sides.iter().all(|[white, black]| *white == 0 || *black == 0), "{sides:?}");
        assert_eq!(superpixels(&rgb, width, height, 24), (areas, count));
    }

    #[test]
    fn pictures_of_any_size_have_areas() {
        for (width, height) in [(1, 1), (1, 50), (7, 3)] {
            let (areas, count) = superpixels(&vec![9; width * height * 3], width, height, 49);
            assert!((1..=49).contains(&count), "{count}");
            assert_eq!(areas.iter().max(), Some(&(count as u32 - 1)));
        }
        assert_eq!(superpixels(&[], 0, 0, 9), (vec![], 0));
    }
}
