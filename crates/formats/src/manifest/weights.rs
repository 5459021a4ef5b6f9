//! [`Weights`]: named arrays of float32 in a safetensors file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Named, shaped arrays; the same arrays in the same order give the same bytes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weights {
    arrays: Vec<(String, Vec<usize>, Vec<f32>)>,
}

/// A weights file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// Its header is not what safetensors prescribes.
    #[error("weights.safetensors: the header cannot be read: {0}")]
    Header(#[from] serde_json::Error),
    /// Readable, but wrong.
    #[error("weights.safetensors: {0}")]
    Invalid(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// The longest header read, in bytes.
const HEADER_BYTES_MAX: usize = 1 << 20;

impl Weights {
    /// Appends an array.
    ///
    /// # Errors
    /// If `shape` does not hold `values`, a value is not finite, or the name is taken.
    pub fn push(&mut self, name: String, shape: Vec<usize>, values: Vec<f32>) -> Result<(), WeightsError> {
        if shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(values.len()) {
            return invalid(format!("`{name}` of shape {shape:?} has {} values", values.len()));
        }
        if !values.iter().all(|v| v.is_finite()) {
            return invalid(format!("`{name}` has a value that is not finite"));
        }
        if self.arrays.iter().any(|(n, _, _)| *n == name) {
            return invalid(format!("`{name}` occurs twice"));
        }
        self.arrays.push((name, shape, values));
        Ok(())
    }

    /// The array called `name`, which must have `shape`.
    ///
    /// # Errors
    /// If there is none, or its shape differs.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<&[f32], WeightsError> {
        match self.arrays.iter().find(|(n, _, _)| n == name) {
            Some((_, found, values)) if found == shape => Ok(values),
            Some((_, found, _)) => invalid(format!("`{name}` has shape {found:?} where {shape:?} is needed")),
            None => invalid(format!("`{name}` is missing")),
        }
    }

    /// The file.
    ///
    /// # Errors
    /// Only if a shape cannot be written as JSON, which does not happen.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WeightsError> {
        let mut offset = 0;
        let mut header = serde_json::Map::new();
        for (name, shape, values) in &self.arrays {
            let end = offset + values.len() * 4;
            let entry = Entry { dtype: "F32".to_owned(), shape: shape.clone(), data_offsets: [offset, end] };
            header.insert(name.clone(), serde_json::to_value(entry)?);
            offset = end;
        }
        let mut text = serde_json::to_vec(&header)?;
        // The format wants data aligned to 8 bytes and pads with blanks.
        text.resize(text.len().next_multiple_of(8), b' ');
        let mut bytes = Vec::with_capacity(8 + text.len() + offset);
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text);
        for (_, _, values) in &self.arrays {
            bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        }
        Ok(bytes)
    }

    /// Reads a file of float32 arrays.
    ///
    /// # Errors
    /// If it is cut short, has gaps or overlaps, other types, or values that are not finite.
    pub fn parse(bytes: &[u8]) -> Result<Self, WeightsError> {
        let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
            return invalid("it is shorter than its first field".to_owned());
        };
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > HEADER_BYTES_MAX || length > rest.len() {
            return invalid(format!("its header claims {length} bytes"));
        }
        let (header, data) = rest.split_at(length);
        let entries: BTreeMap<String, Entry> = serde_json::from_slice(header)?;
        let mut entries: Vec<(String, Entry)> = entries.into_iter().collect();
        entries.sort_by_key(|(_, e)| e.data_offsets);
        let mut weights = Weights::default();
        let mut offset = 0;
        for (name, entry) in entries {
            let [begin, end] = entry.data_offsets;
            if entry.dtype != "F32" || begin != offset || end < begin || end > data.len() {
                return invalid(format!("`{name}` is not float32 or not where it should be"));
            }
            let (words, rest) = data[begin..end].as_chunks::<4>();
            if !rest.is_empty() {
                return invalid(format!("`{name}` ends within a number"));
            }
            weights.push(name, entry.shape, words.iter().map(|w| f32::from_le_bytes(*w)).collect())?;
            offset = end;
        }
        if offset != data.len() {
            return invalid(format!("{} bytes follow the last array", data.len() - offset));
        }
        Ok(weights)
    }
}

fn invalid<T>(message: String) -> Result<T, WeightsError> {
    Err(WeightsError::Invalid(message))
}
