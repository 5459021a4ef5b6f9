//! A model's weights, read from a file by name and packed.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use formats::gguf::Gguf;
use formats::safetensors::Safetensors;
use formats::{Format, TensorView};
use kernels::{Arena, Biased, Isa, Matrix};

use crate::load::LoadError;

/// A matrix and what is added to its product.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) matrix: Matrix,
    /// `[rows]`.
    pub(crate) bias: Option<Vec<f32>>,
}

impl Linear {
    pub(crate) fn biased(&self) -> Biased<'_> {
        Biased { matrix: &self.matrix, bias: self.bias.as_deref() }
    }
}

/// Where tensors are.
#[derive(Clone, Copy)]
pub(crate) enum File<'a> {
    /// In a GGUF file.
    Gguf(&'a Gguf),
    /// In safetensors files.
    Safetensors(&'a Safetensors),
}

impl<'a> File<'a> {
    pub(crate) fn tensor(self, name: &str) -> Option<TensorView<'a>> {
        match self {
            File::Gguf(file) => file.tensor(name),
            File::Safetensors(file) => file.tensor(name),
        }
    }

    pub(crate) fn names(self) -> Vec<&'a str> {
        match self {
            File::Gguf(file) => file.tensors().map(|view| view.name).collect(),
            File::Safetensors(file) => file.tensors().map(|view| view.name).collect(),
        }
    }

    pub(crate) fn tensor_bytes(self) -> u64 {
        match self {
            File::Gguf(file) => file.tensor_bytes(),
            File::Safetensors(file) => file.tensor_bytes(),
        }
    }

    fn release(self, name: &str) {
        match self {
            File::Gguf(file) => file.release(name),
            File::Safetensors(file) => file.release(name),
        }
    }
}

/// A file's tensors, and which of them were taken.
pub(crate) struct Source<'a> {
    file: File<'a>,
    isa: Isa,
    /// Where matrices are packed.
    arena: Arena,
    taken: Mutex<HashSet<String>>,
}

/// What is added to its product is called.
fn bias_name(weight: &str) -> String {
    weight.strip_suffix("weight").map_or_else(String::new, |stem| format!("{stem}bias"))
}

impl<'a> Source<'a> {
    /// The tensors of `file`, to be packed in `arena`.
    pub(crate) fn new(file: File<'a>, isa: Isa, arena: Arena) -> Source<'a> {
        Source { file, isa, arena, taken: Mutex::new(HashSet::new()) }
    }

    fn find(&self, name: &str) -> Option<TensorView<'a>> {
        let view = self.file.tensor(name)?;
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_string());
        Some(view)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.file.tensor(name).is_some()
    }

    /// A tensor that nothing took, save those that `aside` names: the model would not be the one in the file.
    pub(crate) fn untaken(&self, aside: impl Fn(&str) -> bool) -> Option<String> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let names = self.file.names();
        names.into_iter().find(|name| !taken.contains(*name) && !aside(name)).map(str::to_owned)
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<TensorView<'a>, LoadError> {
        let view = self.find(name).ok_or_else(|| LoadError::Missing { name: name.to_string() })?;
        if view.shape == shape {
            return Ok(view);
        }
        Err(LoadError::Tensor {
            name: name.to_string(),
            expected: shape.to_vec(),
            found: view.shape.to_vec(),
        })
    }

    /// A short tensor as plain numbers.
    pub(crate) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        let view = self.tensor(name, &[len])?;
        let mut numbers = vec![0.0; len];
        kernels::dequantize(view.format, view.bytes, &mut numbers);
        Ok(numbers)
    }

    /// A small table as plain numbers.
    pub(crate) fn table(&self, name: &str, rows: usize, cols: usize) -> Result<Vec<f32>, LoadError> {
        let view = self.tensor(name, &[rows, cols])?;
        let mut numbers = vec![0.0; rows * cols];
        kernels::dequantize(view.format, view.bytes, &mut numbers);
        Ok(numbers)
    }

    /// A matrix. Its bytes in the file's map are given back to the system.
    pub(crate) fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix, LoadError> {
        let view = self.tensor(name, &[rows, cols])?;
        let matrix = self.pack(name, view.format, rows, cols, view.bytes);
        self.file.release(name);
        matrix
    }

    fn pack(
        &self,
        name: &str,
        format: Format,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> Result<Matrix, LoadError> {
        let packed = Matrix::pack(&self.arena, self.isa, format, rows, cols, bytes);
        packed.map_err(|source| LoadError::Pack { name: name.to_string(), source })
    }

    /// A matrix with the bias that the file may have for it.
    pub(crate) fn linear(&self, name: &str, rows: usize, cols: usize) -> Result<Linear, LoadError> {
        Ok(Linear { matrix: self.matrix(name, rows, cols)?, bias: self.bias(name, rows)? })
    }

    fn bias(&self, weight: &str, rows: usize) -> Result<Option<Vec<f32>>, LoadError> {
        let name = bias_name(weight);
        if self.has(&name) { self.vector(&name, rows).map(Some) } else { Ok(None) }
    }

    /// Matrices that one tensor holds below each other.
    pub(crate) fn stacked<const N: usize>(
        &self,
        name: &str,
        rows: [usize; N],
        cols: usize,
    ) -> Result<[Linear; N], LoadError> {
        let total = rows.iter().sum();
        let view = self.tensor(name, &[total, cols])?;
        let bias = self.bias(name, total)?;
        let row_bytes = view.bytes.len() / total;
        let mut first = 0;
        let mut parts = Vec::with_capacity(N);
        for rows in rows {
            let bytes = &view.bytes[first * row_bytes..(first + rows) * row_bytes];
            let bias = bias.as_ref().map(|bias| bias[first..first + rows].to_vec());
            parts.push(Linear { matrix: self.pack(name, view.format, rows, cols, bytes)?, bias });
            first += rows;
        }
        self.file.release(name);
        parts.try_into().map_err(|_| LoadError::Missing { name: name.to_string() })
    }

    /// One matrix for each expert, from a tensor of three dimensions.
    pub(crate) fn each(
        &self,
        name: &str,
        count: usize,
        rows: usize,
        cols: usize,
    ) -> Result<Vec<Linear>, LoadError> {
        let view = self.tensor(name, &[count, rows, cols])?;
        let bias = bias_name(name);
        let biases = match self.find(&bias) {
            Some(_) => {
                let view = self.tensor(&bias, &[count, rows])?;
                let mut numbers = vec![0.0; count * rows];
                kernels::dequantize(view.format, view.bytes, &mut numbers);
                Some(numbers)
            }
            None => None,
        };
        let parts = view.bytes.chunks_exact(view.bytes.len() / count).enumerate().map(|(expert, bytes)| {
            let bias = biases.as_ref().map(|biases| biases[expert * rows..(expert + 1) * rows].to_vec());
            Ok(Linear { matrix: self.pack(name, view.format, rows, cols, bytes)?, bias })
        });
        let parts = parts.collect();
        self.file.release(name);
        parts
    }
}

impl Source<'_> {
    /// A dimension of a tensor that only the tensor itself tells.
    pub(crate) fn hidden(&self, name: &str, dimension: usize) -> Result<usize, LoadError> {
        let view = self.find(name).ok_or_else(|| LoadError::Missing { name: name.to_string() })?;
        view.shape.get(dimension).copied().ok_or_else(|| LoadError::Tensor {
            name: name.to_string(),
            expected: Vec::new(),
            found: view.shape.to_vec(),
        })
    }
}
