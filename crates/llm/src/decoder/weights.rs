//! A decoder's weights, read from a file by name and packed.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use formats::gguf::Gguf;
use formats::{Format, TensorView};
use kernels::{Arena, Biased, Isa, Matrix};

use crate::family::Architecture;
use crate::load::LoadError;

/// A matrix and what is added to its product.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) matrix: Matrix,
    /// `[rows]`.
    pub(super) bias: Option<Vec<f32>>,
}

impl Linear {
    pub(super) fn biased(&self) -> Biased<'_> {
        Biased { matrix: &self.matrix, bias: self.bias.as_deref() }
    }
}

/// One layer.
#[derive(Debug)]
pub(super) struct Layer {
    /// `[width]`.
    pub(super) attention_norm: Vec<f32>,
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    /// `[head_dim]` each.
    pub(super) head_norms: Option<(Vec<f32>, Vec<f32>)>,
    /// `[heads]`.
    pub(super) sinks: Option<Vec<f32>>,
    pub(super) output: Linear,
    /// `[width]` each: after attention, after feed-forward.
    pub(super) post_norms: Option<(Vec<f32>, Vec<f32>)>,
    /// `[width]`.
    pub(super) feed_forward_norm: Vec<f32>,
    pub(super) feed_forward: FeedForward,
}

/// The second block of a layer.
#[derive(Debug)]
pub(super) enum FeedForward {
    /// One.
    Dense(Expert),
    /// Several, of which the router chooses.
    Experts { router: Linear, experts: Vec<Expert> },
}

/// A gated feed-forward block.
#[derive(Debug)]
pub(super) struct Expert {
    pub(super) gate: Linear,
    pub(super) up: Linear,
    pub(super) down: Linear,
}

/// A file's tensors, and which of them were taken.
pub(super) struct Source<'a> {
    gguf: &'a Gguf,
    isa: Isa,
    /// Where matrices are packed.
    arena: Arena,
    taken: Mutex<HashSet<String>>,
}

/// What a layer's tensor is called.
fn name(layer: usize, part: &str) -> String {
    format!("blk.{layer}.{part}.weight")
}

/// What is added to its product is called.
fn bias_name(weight: &str) -> String {
    weight.strip_suffix("weight").map_or_else(String::new, |stem| format!("{stem}bias"))
}

impl<'a> Source<'a> {
    /// The tensors of `gguf`, to be packed in `arena`.
    pub(super) fn new(gguf: &'a Gguf, isa: Isa, arena: Arena) -> Source<'a> {
        Source { gguf, isa, arena, taken: Mutex::new(HashSet::new()) }
    }

    fn find(&self, name: &str) -> Option<TensorView<'a>> {
        let view = self.gguf.tensor(name)?;
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_string());
        Some(view)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    /// A tensor that nothing took: the model would not be the one in the file.
    pub(super) fn untaken(&self) -> Option<String> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        // Factors of positions are read with the metadata.
        let aside = |name: &str| name.starts_with("rope_f");
        self.gguf
            .tensors()
            .map(|view| view.name.to_string())
            .find(|name| !taken.contains(name) && !aside(name))
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
    pub(super) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        let view = self.tensor(name, &[len])?;
        let mut numbers = vec![0.0; len];
        kernels::dequantize(view.format, view.bytes, &mut numbers);
        Ok(numbers)
    }

    /// A matrix. Its bytes in the file's map are given back to the system.
    pub(super) fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix, LoadError> {
        let view = self.tensor(name, &[rows, cols])?;
        let matrix = self.pack(name, view.format, rows, cols, view.bytes);
        self.gguf.release(name);
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
    fn linear(&self, name: &str, rows: usize, cols: usize) -> Result<Linear, LoadError> {
        Ok(Linear { matrix: self.matrix(name, rows, cols)?, bias: self.bias(name, rows)? })
    }

    fn bias(&self, weight: &str, rows: usize) -> Result<Option<Vec<f32>>, LoadError> {
        let name = bias_name(weight);
        if self.has(&name) { self.vector(&name, rows).map(Some) } else { Ok(None) }
    }

    /// Matrices that one tensor holds below each other.
    fn stacked<const N: usize>(
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
        self.gguf.release(name);
        parts.try_into().map_err(|_| LoadError::Missing { name: name.to_string() })
    }

    /// One matrix for each expert, from a tensor of three dimensions.
    fn each(&self, name: &str, count: usize, rows: usize, cols: usize) -> Result<Vec<Linear>, LoadError> {
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
        self.gguf.release(name);
        parts
    }
}

impl Layer {
    pub(super) fn read(source: &Source<'_>, shape: &Architecture, index: usize) -> Result<Layer, LoadError> {
        let (width, query_width, kv_width) = (shape.width, shape.query_width(), shape.kv_width());
        let part = |part: &str| name(index, part);
        let [query, key, value] = if shape.fused {
            source.stacked(&part("attn_qkv"), [query_width, kv_width, kv_width], width)?
        } else {
            [
                source.linear(&part("attn_q"), query_width, width)?,
                source.linear(&part("attn_k"), kv_width, width)?,
                source.linear(&part("attn_v"), kv_width, width)?,
            ]
        };
        let vector = |name: &str, len: usize| source.vector(&part(name), len);
        Ok(Layer {
            attention_norm: vector("attn_norm", width)?,
            query,
            key,
            value,
            head_norms: match shape.head_norms {
                true => {
                    Some((vector("attn_q_norm", shape.head_dim)?, vector("attn_k_norm", shape.head_dim)?))
                }
                false => None,
            },
            sinks: shape.sinks.then(|| vector("attn_sinks", shape.heads)).transpose()?,
            output: source.linear(&part("attn_output"), width, query_width)?,
            post_norms: match shape.post_norms {
                true => Some((vector("post_attention_norm", width)?, vector("post_ffw_norm", width)?)),
                false => None,
            },
            feed_forward_norm: vector(shape.feed_forward_norm, width)?,
            feed_forward: FeedForward::read(source, shape, index)?,
        })
    }
}

impl FeedForward {
    fn read(source: &Source<'_>, shape: &Architecture, index: usize) -> Result<FeedForward, LoadError> {
        let part = |part: &str| name(index, part);
        let width = shape.width;
        let Some(experts) = shape.experts else {
            return Ok(FeedForward::Dense(Expert::read(source, shape, index)?));
        };
        let hidden = source.hidden(&part("ffn_up_exps"), 1)?;
        let count = experts.count;
        let gates = source.each(&part("ffn_gate_exps"), count, hidden, width)?;
        let ups = source.each(&part("ffn_up_exps"), count, hidden, width)?;
        let downs = source.each(&part("ffn_down_exps"), count, width, hidden)?;
        let parts = gates.into_iter().zip(ups).zip(downs);
        Ok(FeedForward::Experts {
            router: source.linear(&part("ffn_gate_inp"), count, width)?,
            experts: parts.map(|((gate, up), down)| Expert { gate, up, down }).collect(),
        })
    }
}

impl Expert {
    fn read(source: &Source<'_>, shape: &Architecture, index: usize) -> Result<Expert, LoadError> {
        let part = |part: &str| name(index, part);
        let width = shape.width;
        let up = part("ffn_up");
        let (gate, up) = if shape.fused {
            let half = source.hidden(&up, 0)? / 2;
            let [gate, up] = source.stacked(&up, [half, half], width)?;
            (gate, up)
        } else {
            let hidden = source.hidden(&up, 0)?;
            (source.linear(&part("ffn_gate"), hidden, width)?, source.linear(&up, hidden, width)?)
        };
        let hidden = up.matrix.rows();
        Ok(Expert { gate, up, down: source.linear(&part("ffn_down"), width, hidden)? })
    }
}

impl Source<'_> {
    /// A dimension of a tensor that only the tensor itself tells.
    pub(super) fn hidden(&self, name: &str, dimension: usize) -> Result<usize, LoadError> {
        let view = self.find(name).ok_or_else(|| LoadError::Missing { name: name.to_string() })?;
        view.shape.get(dimension).copied().ok_or_else(|| LoadError::Tensor {
            name: name.to_string(),
            expected: Vec::new(),
            found: view.shape.to_vec(),
        })
    }
}
