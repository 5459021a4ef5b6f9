//! An encoder's weights, read from a file by name and packed.

use kernels::Matrix;

use super::pool::{Head, Pooler};
use super::shape::{Names, Shape};
use crate::load::LoadError;
use crate::weights::{Linear, Source};

/// Segments that there are in a pair of texts.
const SEGMENTS: usize = 2;

/// All but the head.
#[derive(Debug)]
pub(super) struct Weights {
    /// `[vocab, width]`.
    pub(super) words: Matrix,
    /// `[positions, width]`.
    pub(super) positions: Vec<f32>,
    /// `[segments, width]`: for the first text and the second.
    pub(super) segments: Option<Vec<f32>>,
    pub(super) norm: Norm,
    pub(super) layers: Vec<Layer>,
}

/// `[width]` each.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

/// One layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) output: Linear,
    pub(super) attention_norm: Norm,
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) norm: Norm,
}

/// A file, the names in it, and the dimensions that its tensors must have.
pub(super) struct Reader<'a> {
    pub(super) source: Source<'a>,
    pub(super) names: Names,
    pub(super) shape: Shape,
}

impl Reader<'_> {
    /// Reads all there is, and fails where there is more: the model would not be the one in the file. Tensors that
    /// `aside` names are for other tasks.
    pub(super) fn read(&self, aside: impl Fn(&str) -> bool) -> Result<(Weights, Head), LoadError> {
        let Reader { source, names, shape } = self;
        let words = self.name(names.words);
        let vocab = source.hidden(&words, 0)?;
        let segments = self.name(names.segments);
        let segments = match source.has(&segments) {
            true => Some(self.segments(&segments)?),
            false => None,
        };
        let weights = Weights {
            words: source.matrix(&words, vocab, shape.width)?,
            positions: source.table(&self.name(names.positions), shape.positions, shape.width)?,
            segments,
            norm: self.norm(&self.name(names.norm))?,
            layers: (0..shape.layers).map(|index| self.layer(index)).collect::<Result<_, _>>()?,
        };
        let head = self.head()?;
        match source.untaken(aside) {
            Some(name) => Err(LoadError::Unknown { name }),
            None => Ok((weights, head)),
        }
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.names.prefix)
    }

    /// Those of models that were made for one text are the same for both.
    fn segments(&self, name: &str) -> Result<Vec<f32>, LoadError> {
        let (width, rows) = (self.shape.width, self.source.hidden(name, 0)?);
        let mut table = self.source.table(name, rows, width)?;
        if rows == 1 {
            table.extend_from_within(..);
        }
        table.truncate(SEGMENTS * width);
        Ok(table)
    }

    fn norm(&self, name: &str) -> Result<Norm, LoadError> {
        let vector = |part: &str| self.source.vector(&format!("{name}.{part}"), self.shape.width);
        Ok(Norm { weight: vector("weight")?, bias: vector("bias")? })
    }

    fn layer(&self, index: usize) -> Result<Layer, LoadError> {
        let (width, hidden) = (self.shape.width, self.shape.hidden);
        let [query, key, value, output, attention_norm, up, down, norm] =
            self.names.parts.map(|part| self.name(&format!("{}{index}.{part}", self.names.layer)));
        let linear = |name: &str, rows: usize, cols: usize| self.source.linear(name, rows, cols);
        Ok(Layer {
            query: linear(&query, width, width)?,
            key: linear(&key, width, width)?,
            value: linear(&value, width, width)?,
            output: linear(&output, width, width)?,
            attention_norm: self.norm(&attention_norm)?,
            up: linear(&up, hidden, width)?,
            down: linear(&down, width, hidden)?,
            norm: self.norm(&norm)?,
        })
    }

    /// Models that judge have a layer for it.
    fn head(&self) -> Result<Head, LoadError> {
        let Reader { source, names, shape } = self;
        if !source.has(names.score) {
            return Ok(Head::Vector(Pooler::new(shape.pooling, shape.normalize)?));
        }
        let classes = source.hidden(names.score, 0)?;
        if classes != 1 {
            let message = format!("its classifier has {classes} classes; one that ranks has one");
            return Err(LoadError::Shape(message));
        }
        Ok(Head::Score {
            pooler: source.linear(&self.name(names.pooler), shape.width, shape.width)?,
            output: source.linear(names.score, 1, shape.width)?,
        })
    }
}
