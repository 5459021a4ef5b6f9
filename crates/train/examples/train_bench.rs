//! Trains a specification on one CSV file and measures it on another; prints one line of JSON. The other
//! half of `benches/train/run.py`.
//!
//! ```text
//! train_bench SPEC.yaml TRAIN.csv TEST.csv SEED
//! ```

use std::error::Error;
use std::io::Write;

use formats::manifest::{Manifest, Task, WEIGHTS_FILE, Weights};
use formats::rows::{CsvDecoder, Limits, RowBlock};
use formats::spec::TrainSpec;
use tensor::features::FeatureStep;
use train::{Blocks, Flow, Network, Trained};

/// Rows of a block.
const BLOCK_ROWS: usize = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [spec, train, test, seed] = args.as_slice() else {
        return Err("usage: train_bench SPEC.yaml TRAIN.csv TEST.csv SEED".into());
    };
    let mut spec = TrainSpec::from_yaml(&std::fs::read_to_string(spec)?)?;
    spec.seed = seed.parse()?;
    let trained = train::fit(&spec, &mut Blocks::new(read(train)?), &mut |_| Flow::Continue)?;
    let accuracy = accuracy(&trained, &read(test)?)?;
    let seconds: Vec<String> = trained.epochs.iter().map(|e| e.seconds.to_string()).collect();
    let last = trained.epochs.last().and_then(|e| e.accuracy).unwrap_or(f64::NAN);
    let line = format!(
        "{{\"epoch_seconds\":[{}],\"train_accuracy\":{last},\"accuracy\":{accuracy},\"rows\":{}}}",
        seconds.join(","),
        trained.rows
    );
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

fn read(path: &str) -> Result<Vec<RowBlock>, Box<dyn Error>> {
    let mut decoder = CsvDecoder::new(Limits::default());
    decoder.push(&std::fs::read(path)?);
    decoder.finish();
    let mut blocks = Vec::new();
    while let Some(block) = decoder.take(BLOCK_ROWS)? {
        blocks.push(block);
    }
    Ok(blocks)
}

/// Share of rows whose likeliest label is the right one.
fn accuracy(trained: &Trained, blocks: &[RowBlock]) -> Result<f64, Box<dyn Error>> {
    let file = |name: &str| trained.files.iter().find(|(n, _)| n == name).map(|(_, bytes)| bytes.as_slice());
    let manifest = Manifest::parse(file("meuse.json").unwrap_or_default())?;
    let Task::Classification { labels } = &manifest.task else { return Err("not a classification".into()) };
    let network = Network::new(&manifest, &Weights::parse(file(WEIGHTS_FILE).unwrap_or_default())?)?;
    let step = FeatureStep::new(&manifest)?;
    let (mut right, mut rows) = (0usize, 0usize);
    for block in blocks {
        let column = block.column(&manifest.label).ok_or("the test rows have no label")?;
        let (input, faults) = step.from_rows(block)?;
        if let Some(fault) = faults.first() {
            return Err(format!("row {}: {}", fault.row, fault.reason).into());
        }
        let scores = network.predict(&input)?;
        for (row, scores) in scores.as_f32().unwrap_or_default().chunks(labels.len()).enumerate() {
            let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i);
            right +=
                usize::from(labels.get(best).is_some_and(|label| label == block.cell(row, column).trim()));
            rows += 1;
        }
    }
    Ok(right as f64 / rows.max(1) as f64)
}
