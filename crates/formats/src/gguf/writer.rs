//! [`Writer`]: makes GGUF files, for tests and conversions.

use crate::{Format, TensorView};

const ALIGNMENT: usize = 32;

/// A GGUF file of version 3 in the making. Keys and tensors are written in the order in which they are given; nothing
/// is checked, so that tests can make files that are wrong.
#[derive(Debug, Default, Clone)]
pub struct Writer {
    keys: u64,
    metadata: Vec<u8>,
    tensors: u64,
    infos: Vec<u8>,
    data: Vec<u8>,
}

impl Writer {
    /// A file that says of which architecture its model is, and nothing else.
    #[must_use]
    pub fn new(architecture: &str) -> Writer {
        Writer::default().str("general.architecture", architecture)
    }

    /// Adds a key with a whole number.
    #[must_use]
    pub fn u32(self, key: &str, value: u32) -> Writer {
        self.value(key, 4, &value.to_le_bytes())
    }

    /// Adds a key with a number.
    #[must_use]
    pub fn f32(self, key: &str, value: f32) -> Writer {
        self.value(key, 6, &value.to_le_bytes())
    }

    /// Adds a key with a truth value.
    #[must_use]
    pub fn bool(self, key: &str, value: bool) -> Writer {
        self.value(key, 7, &[value.into()])
    }

    /// Adds a key with a string.
    #[must_use]
    pub fn str(self, key: &str, value: &str) -> Writer {
        let mut bytes = Vec::new();
        put_string(&mut bytes, value);
        self.value(key, 8, &bytes)
    }

    /// Adds a key with an array of strings.
    #[must_use]
    pub fn strings<S: AsRef<str>>(self, key: &str, values: &[S]) -> Writer {
        let mut bytes = Vec::new();
        values.iter().for_each(|value| put_string(&mut bytes, value.as_ref()));
        self.array(key, 8, values.len(), &bytes)
    }

    /// Adds a key with an array of numbers.
    #[must_use]
    pub fn f32s(self, key: &str, values: &[f32]) -> Writer {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.array(key, 6, values.len(), &bytes)
    }

    /// Adds a key with an array of whole numbers.
    #[must_use]
    pub fn i32s(self, key: &str, values: &[i32]) -> Writer {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.array(key, 5, values.len(), &bytes)
    }

    /// Adds a tensor.
    #[must_use]
    pub fn tensor(self, name: &str, shape: &[usize], format: Format, bytes: &[u8]) -> Writer {
        self.view(TensorView { name, shape, format, bytes })
    }

    /// Adds a tensor.
    #[must_use]
    pub fn view(mut self, tensor: TensorView<'_>) -> Writer {
        self.tensors += 1;
        put_string(&mut self.infos, tensor.name);
        self.infos.extend((tensor.shape.len() as u32).to_le_bytes());
        for &dimension in tensor.shape.iter().rev() {
            self.infos.extend((dimension as u64).to_le_bytes());
        }
        self.infos.extend(tensor.format.gguf_number().to_le_bytes());
        self.data.resize(self.data.len().next_multiple_of(ALIGNMENT), 0);
        self.infos.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend_from_slice(tensor.bytes);
        self
    }

    /// The file.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3_u32.to_le_bytes());
        file.extend(self.tensors.to_le_bytes());
        file.extend(self.keys.to_le_bytes());
        file.extend(self.metadata);
        file.extend(self.infos);
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
        file.extend(self.data);
        file
    }

    pub(super) fn value(mut self, key: &str, kind: u32, bytes: &[u8]) -> Writer {
        self.keys += 1;
        put_string(&mut self.metadata, key);
        self.metadata.extend(kind.to_le_bytes());
        self.metadata.extend_from_slice(bytes);
        self
    }

    fn array(self, key: &str, kind: u32, count: usize, elements: &[u8]) -> Writer {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((count as u64).to_le_bytes());
        bytes.extend_from_slice(elements);
        self.value(key, 9, &bytes)
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}
