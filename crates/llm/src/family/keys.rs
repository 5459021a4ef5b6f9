//! A family's metadata, read with bounds.

use formats::gguf::{Gguf, Metadata};

use crate::load::LoadError;

/// The metadata whose keys begin with the architecture's name.
pub(crate) struct Keys<'a> {
    metadata: Metadata<'a>,
    architecture: &'a str,
    /// For factors that are tensors.
    pub(crate) gguf: &'a Gguf,
    /// Tokens that sequences will have at most, whatever the file was trained for.
    pub(crate) context_max: usize,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(gguf: &'a Gguf, context_max: usize) -> Keys<'a> {
        Keys { metadata: gguf.metadata(), architecture: gguf.architecture(), gguf, context_max }
    }

    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// An error that says what the key should be.
    pub(crate) fn refuse(&self, key: &str, wanted: &str) -> LoadError {
        LoadError::Metadata { key: self.full(key), wanted: wanted.to_string() }
    }

    /// A count from 1 to `most`, which must be there.
    pub(crate) fn count(&self, key: &str, most: usize) -> Result<usize, LoadError> {
        let count = self.count_or(key, most, 0)?;
        if count == 0 { Err(self.refuse(key, "given")) } else { Ok(count) }
    }

    /// A count from 1 to `most`, or what stands in for it. Where it is given layer by layer, all must be alike.
    pub(crate) fn count_or(&self, key: &str, most: usize, otherwise: usize) -> Result<usize, LoadError> {
        let full = self.full(key);
        let found = if self.metadata.is_array(&full) {
            let each = self.metadata.u32s(&full)?.unwrap_or_default();
            if each.windows(2).any(|pair| pair[0] != pair[1]) {
                return Err(self.refuse(key, "the same for all layers"));
            }
            each.first().copied()
        } else {
            self.metadata.u32(&full)?
        };
        match found.map(|count| count as usize) {
            None => Ok(otherwise),
            Some(count) if (1..=most).contains(&count) => Ok(count),
            Some(_) => Err(self.refuse(key, &format!("between 1 and {most}"))),
        }
    }

    /// A whole number, if it is there.
    pub(crate) fn whole(&self, key: &str) -> Result<Option<u32>, LoadError> {
        Ok(self.metadata.u32(&self.full(key))?)
    }

    /// Yes or no, if it is there.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, LoadError> {
        Ok(self.metadata.bool(&self.full(key))?)
    }

    /// A number above zero, if it is there.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f32>, LoadError> {
        match self.metadata.f32(&self.full(key))? {
            Some(number) if number > 0.0 => Ok(Some(number)),
            Some(_) => Err(self.refuse(key, "above zero")),
            None => Ok(None),
        }
    }

    /// A number above zero, which must be there.
    pub(crate) fn positive(&self, key: &str) -> Result<f32, LoadError> {
        self.number(key)?.ok_or_else(|| self.refuse(key, "given"))
    }

    /// A word, if it is there.
    pub(crate) fn word(&self, key: &str) -> Result<Option<&'a str>, LoadError> {
        Ok(self.metadata.str(&self.full(key))?)
    }
}
