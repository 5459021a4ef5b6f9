//! How long a row of an ONNX network takes: `cargo run --release --example network -- FILE [ROWS] [THREADS] [SIZE]`.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;
use std::time::{Duration, Instant};

use tensor::{Data, DataType, Dim, Lane, OnnxModel, Tensor, Tensors};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: usize| arguments.get(i).map_or(default, |text| text.parse().unwrap());
    let (rows, threads, size) = (number(1, 1), number(2, 1), number(3, 128));
    let model = OnnxModel::load(Path::new(&arguments[0])).unwrap();
    let inputs: Tensors = model
        .signature()
        .inputs
        .iter()
        .map(|spec| {
            let dims = spec.shape.iter().enumerate().map(|(place, dim)| match dim {
                Dim::Fixed(n) => *n,
                Dim::Any if place == 0 => rows,
                Dim::Any => size,
            });
            let shape: Vec<usize> = dims.collect();
            let count = shape.iter().product();
            let data = match spec.data_type {
                DataType::F32 => {
                    Data::F32((0..count).map(|i| (i * 7919 % 2003) as f32 / 1001.5 - 1.0).collect())
                }
                _ => Data::I32(vec![1; count]),
            };
            (spec.name.clone(), Tensor::new(shape, data).unwrap())
        })
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                Lane::new().enter(|| {
                    model.run(&inputs).unwrap();
                    let since = Instant::now();
                    let mut took = Vec::new();
                    while since.elapsed() < Duration::from_secs(4) {
                        let began = Instant::now();
                        model.run(&inputs).unwrap();
                        took.push(began.elapsed().as_secs_f64() * 1000.0 / rows as f64);
                    }
                    took.sort_by(f64::total_cmp);
                    println!("{:.3} ms a row at the median, {:.3} at best", took[took.len() / 2], took[0]);
                });
            });
        }
    });
}
