//! Rows of a table, by their ids.

/// The rows of `table`, each of `width`, that `ids` name; the id that names none.
pub(crate) fn look_up(table: &[f32], width: usize, ids: &[i32]) -> Result<Vec<f32>, i32> {
    let mut vectors = Vec::with_capacity(ids.len() * width);
    for id in ids {
        let row = usize::try_from(*id).ok().and_then(|id| table.get(id * width..(id + 1) * width));
        vectors.extend_from_slice(row.ok_or(*id)?);
    }
    Ok(vectors)
}

/// Adds the gradient by the table: of each row, what those have who named it.
pub(crate) fn by_table(ids: &[i32], gradient: &[f32], width: usize, table: &mut [f32]) {
    for (id, vector) in ids.iter().zip(gradient.chunks_exact(width.max(1))) {
        // The way there would have refused another.
        let row = usize::try_from(*id).ok().and_then(|id| table.get_mut(id * width..(id + 1) * width));
        row.into_iter().flatten().zip(vector).for_each(|(sum, g)| *sum += g);
    }
}

/// Which ids count where that of 0 is padding.
pub(crate) fn mask(ids: &[i32]) -> Vec<f32> {
    ids.iter().map(|id| if *id == 0 { 0.0 } else { 1.0 }).collect()
}
