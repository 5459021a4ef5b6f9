#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Mutex;

use tensor::TensorSpec;

use super::*;

/// Adds one to every number; remembers the shapes it was given.
struct PlusOne {
    signature: Signature,
    shapes: Mutex<Vec<Vec<usize>>>,
}

fn plus_one(shapes: &[&[Dim]]) -> PlusOne {
    let spec = |(i, shape): (usize, &&[Dim])| TensorSpec {
        name: format!("x{i}"),
        data_type: DataType::F32,
        shape: shape.to_vec(),
    };
    let inputs: Vec<TensorSpec> = shapes.iter().enumerate().map(spec).collect();
    let signature = Signature { outputs: inputs.clone(), inputs };
    PlusOne { signature, shapes: Mutex::default() }
}

impl Runtime for PlusOne {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn predict(&self, inputs: &Tensors) -> Result<Tensors, RuntimeError> {
        self.shapes.lock().unwrap().push(inputs[0].1.shape().to_vec());
        let add = |(name, t): &(String, Tensor)| {
            let more = t.as_f32().unwrap().iter().map(|v| v + 1.0).collect();
            (name.clone(), Tensor::new(t.shape().to_vec(), Data::F32(more)).unwrap())
        };
        Ok(inputs.iter().map(add).collect())
    }
}

fn rows(shapes: &[&[usize]]) -> Tensors {
    let tensor = |(i, shape): (usize, &&[usize])| {
        let n: usize = shape.iter().product();
        (format!("x{i}"), Tensor::new(shape.to_vec(), Data::F32((0..n).map(|v| v as f32).collect())).unwrap())
    };
    shapes.iter().enumerate().map(tensor).collect()
}

/// Runs rows and checks that each element came back plus one, in the shape it went in.
fn shapes_run(runtime: &PlusOne, inputs: &Tensors) -> Vec<Vec<usize>> {
    let outputs = Plan::new(runtime.signature()).run(runtime, inputs).unwrap();
    for ((_, out), (_, own)) in outputs.iter().zip(inputs) {
        assert_eq!(out.shape(), own.shape());
        let same = out.as_f32().unwrap().iter().zip(own.as_f32().unwrap()).all(|(o, i)| *o == i + 1.0);
        assert!(same);
    }
    std::mem::take(&mut runtime.shapes.lock().unwrap())
}

const ANY: Dim = Dim::Any;
const fn fixed(n: usize) -> Dim {
    Dim::Fixed(n)
}

#[test]
fn open_batches_run_as_they_are_until_they_are_large() {
    let runtime = plus_one(&[&[ANY, fixed(2)]]);
    assert_eq!(shapes_run(&runtime, &rows(&[&[5, 2]])), [[5, 2]]);
    let many = shapes_run(&runtime, &rows(&[&[10_000, 2]]));
    assert_eq!(many, [[4096, 2], [4096, 2], [1808, 2]]);
    let wide = plus_one(&[&[ANY, ANY]]);
    let few = shapes_run(&wide, &rows(&[&[9, 1 << 20]]));
    assert_eq!(few.iter().map(|s| s[0]).collect::<Vec<_>>(), [4, 4, 1]);
}

#[test]
fn fixed_batches_are_filled_up() {
    let runtime = plus_one(&[&[fixed(4), fixed(2)]]);
    assert_eq!(shapes_run(&runtime, &rows(&[&[6, 2]])), [[4, 2], [4, 2]]);
    assert_eq!(shapes_run(&runtime, &rows(&[&[4, 2]])), [[4, 2]]);
    let single = plus_one(&[&[fixed(1), fixed(2)]]);
    assert_eq!(shapes_run(&single, &rows(&[&[2, 2]])), [[1, 2], [1, 2]]);
}

#[test]
fn an_input_without_a_dimension_for_rows_runs_alone() {
    let vector = plus_one(&[&[fixed(3)]]);
    assert_eq!(shapes_run(&vector, &rows(&[&[2, 3]])), [[3], [3]]);
    let mixed = plus_one(&[&[ANY, fixed(2)], &[]]);
    assert_eq!(shapes_run(&mixed, &rows(&[&[3, 2], &[3]])), [[1, 2], [1, 2], [1, 2]]);
}

/// Gives tensors of the shapes `given` to a model of inputs of `shapes`, and checks that they come back in these.
fn by_name(shapes: &[&[Dim]], given: &[&[usize]], ports: &[&str]) {
    let runtime = plus_one(shapes);
    let plan = Plan::new(runtime.signature());
    let told = plan.ports(runtime.signature());
    assert_eq!(told.inputs.iter().map(ToString::to_string).collect::<Vec<_>>(), ports);
    let inputs = rows(given);
    let outputs = plan.run(&runtime, &plan.rows(inputs.clone()).unwrap()).unwrap();
    let outputs = plan.unrowed(&told.outputs, outputs).unwrap();
    for ((_, out), (_, own)) in outputs.iter().zip(&inputs) {
        assert_eq!(out.shape(), own.shape());
    }
}

#[test]
fn tensors_by_name_keep_the_model_s_own_shapes() {
    by_name(&[&[ANY, Dim::Fixed(2)]], &[&[3, 2]], &["x0: float32[?, 2]"]);
    by_name(&[&[Dim::Fixed(2), Dim::Fixed(2)]], &[&[3, 2]], &["x0: float32[?, 2]"]);
    by_name(&[&[Dim::Fixed(6)]], &[&[6]], &["x0: float32[6]"]);
    by_name(&[&[]], &[&[]], &["x0: float32[]"]);
    by_name(&[&[ANY, Dim::Fixed(2)], &[]], &[&[1, 2], &[]], &["x0: float32[?, 2]", "x1: float32[]"]);
    let mixed = Plan::new(plus_one(&[&[ANY, Dim::Fixed(2)], &[]]).signature());
    assert!(mixed.rows(rows(&[&[2, 2], &[]])).is_err());
}
