//! Prints the vectors of texts, one line each, and how long they took: `embed MODEL TEXT...`.

#![allow(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use llm::LoadOptions;
use llm::encoder::{Input, LoadedEncoder};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path: PathBuf = arguments.next().ok_or("which model?")?.into();
    let begun = Instant::now();
    let LoadedEncoder { mut encoder, tokenizer, need } = LoadedEncoder::open(&path, &LoadOptions::default())?;
    println!("loaded in {:?}: {need:?}", begun.elapsed());
    let inputs: Vec<Input> = arguments.map(|text| Input::text(&tokenizer, &text)).collect();
    let begun = Instant::now();
    let vectors = encoder.run(&inputs)?;
    println!("computed in {:?}", begun.elapsed());
    for vector in vectors {
        println!("{:?}", vector.get(..8).unwrap_or(&vector));
    }
    for (texts, tokens) in [(1, 32), (32, 32), (32, 128)] {
        let input = Input { tokens: vec![2000; tokens], second_from: tokens };
        let inputs = vec![input; texts];
        let begun = Instant::now();
        let rounds = 1 + 200 / texts;
        for _ in 0..rounds {
            encoder.run(&inputs)?;
        }
        let each = begun.elapsed() / u32::try_from(rounds)?;
        println!(
            "{texts} texts of {tokens} tokens: {each:?}, {:.0} texts/s",
            texts as f64 / each.as_secs_f64()
        );
    }
    Ok(())
}
