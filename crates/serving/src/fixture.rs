//! Models for this crate's tests.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::sync::Arc;

use formats::rows::RowBlock;
use formats::spec::TrainSpec;
use tempfile::TempDir;
use tensor::{Data, DataType, Dim, Signature, Tensor, TensorSpec, Tensors};

use crate::{Deployed, Model, Route, RoutingTable, Runtime, RuntimeError};

/// A runtime made of a function from rows of floats to rows of floats.
pub(crate) struct Function<F> {
    signature: Signature,
    of_row: F,
}

impl<F: Fn(&[f32]) -> Vec<f32> + Send + Sync> Function<F> {
    pub(crate) fn new(inputs: usize, outputs: usize, of_row: F) -> Self {
        let spec = |name: &str, n| TensorSpec {
            name: name.into(),
            data_type: DataType::F32,
            shape: vec![Dim::Any, Dim::Fixed(n)],
        };
        Function {
            signature: Signature { inputs: vec![spec("x", inputs)], outputs: vec![spec("y", outputs)] },
            of_row,
        }
    }

    pub(crate) fn model(self) -> Model
    where
        F: 'static,
    {
        Model::from_runtime(Box::new(self))
    }
}

impl<F: Fn(&[f32]) -> Vec<f32> + Send + Sync> Runtime for Function<F> {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn predict(&self, inputs: &Tensors) -> Result<Tensors, RuntimeError> {
        let x = &inputs[0].1;
        let y: Vec<f32> = x.as_f32().unwrap().chunks(x.row_len()).flat_map(&self.of_row).collect();
        let shape = vec![x.rows(), y.len() / x.rows()];
        Ok(vec![("y".into(), Tensor::new(shape, Data::F32(y)).unwrap())])
    }
}

/// A small trained classifier with its artifact: rows of `columns`, the last of which is the label.
pub(crate) fn trained(spec: &str, columns: &[&str], rows: &[Vec<&str>]) -> (TempDir, Model) {
    let spec = TrainSpec::from_yaml(spec).unwrap();
    let names = columns.iter().map(|c| (*c).to_owned()).collect();
    let block = RowBlock::new(names, 0, rows).unwrap();
    let mut source = train::Blocks::new(vec![block]);
    let trained =
        train::fit(&spec, &mut source, &mut |_| train::Flow::Continue).expect("the test's rows train");
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in trained.files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let model = Model::load(dir.path()).expect("a trained artifact loads");
    (dir, model)
}

/// Texts about cats and boats.
pub(crate) fn texts() -> (TempDir, Model) {
    let words = [("a cat sleeps on the warm mat", "cat"), ("the kitten and the cat purr", "cat")]
        .into_iter()
        .chain([("the boat sails on the sea", "boat"), ("a ship and a boat in harbour", "boat")]);
    let rows: Vec<Vec<&str>> = words.map(|(text, label)| vec![text, label]).cycle().take(80).collect();
    trained(
        "features: [{text: text, width: 16}]\nlabel: label\nlayers: [{dense: 8, activation: relu}, {dense: 2, activation: softmax}]\nepochs: 20",
        &["text", "label"],
        &rows,
    )
}

/// The same texts through an embedding.
pub(crate) fn embedded() -> (TempDir, Model) {
    let words = [("a cat sleeps here", "cat"), ("the cat purrs", "cat")]
        .into_iter()
        .chain([("the boat sails here", "boat"), ("a boat in harbour", "boat")]);
    let rows: Vec<Vec<&str>> = words.map(|(text, label)| vec![text, label]).cycle().take(80).collect();
    trained(
        "features: [{text: text, method: sequence, max_tokens: 50, length: 6}]\nlabel: label\n\
         layers: [{embedding: 4, mask_zero: true}, global_average_pooling1d, {dense: 2, activation: softmax}]\n\
         epochs: 40\nlearning_rate: 0.02",
        &["text", "label"],
        &rows,
    )
}

/// A routing table of one endpoint `e` with models by id and weight.
pub(crate) fn table(models: Vec<(&str, u32, Arc<Model>)>) -> RoutingTable {
    let deployed = models.into_iter().map(|(id, weight, model)| Deployed {
        id: id.into(),
        model,
        model_name: format!("models/{id}"),
        version: 1,
        aliases: Vec::new(),
        display_name: id.into(),
        weight,
        explain: None,
        nearest: None,
        concurrency: None,
    });
    let route = Route { deployed: deployed.collect() };
    RoutingTable { routes: HashMap::from([("e".to_owned(), route)]) }
}
