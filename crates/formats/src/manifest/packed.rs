//! Numbers as base64 of their little-endian bytes: exact, and a third of the size of decimal text.

/// Serde functions for `Vec<f32>`.
pub(crate) mod f32s {
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(values: &[f32], s: S) -> Result<S::Ok, S::Error> {
        super::write(values.iter().flat_map(|v| v.to_le_bytes()).collect(), s)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<f32>, D::Error> {
        Ok(super::read(d)?.into_iter().map(f32::from_le_bytes).collect())
    }
}

/// Serde functions for `Vec<u32>`.
pub(crate) mod u32s {
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(values: &[u32], s: S) -> Result<S::Ok, S::Error> {
        super::write(values.iter().flat_map(|v| v.to_le_bytes()).collect(), s)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u32>, D::Error> {
        Ok(super::read(d)?.into_iter().map(u32::from_le_bytes).collect())
    }
}

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::Serializer;

fn write<S: Serializer>(bytes: Vec<u8>, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&STANDARD.encode(bytes))
}

fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<[u8; 4]>, D::Error> {
    let text = String::deserialize(d)?;
    let bytes = STANDARD.decode(&text).map_err(D::Error::custom)?;
    let (words, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(D::Error::custom("packed numbers end within a number"));
    }
    Ok(words.to_vec())
}
