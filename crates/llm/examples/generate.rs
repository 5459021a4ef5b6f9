//! A prompt in, text out: `generate FILE [PROMPT] [TOKENS]`; or how fast: `generate FILE --measure [STREAMS...]`.

#![allow(clippy::print_stdout, reason = "that is what it is for")]

use std::error::Error;
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::mpsc;
use std::time::Instant;

use llm::tokenizer::Special;
use llm::{Engine, EngineOptions, Event, GenerateRequest, LoadOptions, LoadedModel, Ticket};

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let file =
        arguments.first().ok_or("usage: generate FILE [PROMPT] [TOKENS] | FILE --measure [STREAMS...]")?;
    let threads = std::env::var("THREADS").ok().and_then(|threads| threads.parse().ok()).unwrap_or(0);
    let begun = Instant::now();
    let loaded = LoadedModel::open(file, &LoadOptions { threads, ..LoadOptions::default() })?;
    println!("loaded in {:.0} ms; {:?}", begun.elapsed().as_secs_f64() * 1e3, loaded.need);
    match arguments.get(1).map(String::as_str) {
        Some("--measure") => measure(loaded, &arguments[2..]),
        prompt => {
            let tokens = arguments.get(2).map_or(Ok(64), |tokens| tokens.parse())?;
            speak(loaded, prompt.unwrap_or("Gravity is"), tokens)
        }
    }
}

/// Continues a prompt, printing as the text comes.
fn speak(loaded: LoadedModel, prompt: &str, tokens: usize) -> Result<(), Failure> {
    let prompt_tokens = loaded.tokenizer.encode_prompt(prompt, Special::Parse);
    let engine = Engine::start(loaded.model, EngineOptions::default())?;
    let (sender, events) = mpsc::channel();
    let sink = move |event| match sender.send(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    let _ticket = engine.submit(GenerateRequest::new(prompt_tokens, tokens), Box::new(sink))?;
    print!("{prompt}");
    for event in events {
        match event {
            Event::Token { text, .. } => print!("{text}"),
            Event::Finished { reason, text, .. } => println!("{text}\n{reason:?}"),
            Event::Done { usage } => println!("{usage:?}"),
            Event::Failed { message } => return Err(message.into()),
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Tokens a second: a prompt of 512 tokens, then 1, 8, 16 and 32 answers at once.
fn measure(loaded: LoadedModel, streams: &[String]) -> Result<(), Failure> {
    const ANSWER: usize = 64;
    let streams: Vec<usize> = match streams {
        [] => vec![1, 8, 16, 32],
        given => given.iter().map(|count| count.parse()).collect::<Result<_, _>>()?,
    };
    let vocab = loaded.tokenizer.vocab_len() as u32;
    let engine = Engine::start(loaded.model, EngineOptions::default())?;
    // Another first token each time: no prefix is found.
    let prompt = |nth: usize, len: usize| -> Vec<u32> {
        (0..len as u32).map(|at| (at * 7919 + nth as u32 * 104_729 + 1000) % (vocab - 1000)).collect()
    };
    for nth in 0..3 {
        let begun = Instant::now();
        run(&engine, vec![GenerateRequest::new(prompt(nth, 512), 1)])?;
        println!("prefill of 512: {:.0} tokens/s", 512.0 / begun.elapsed().as_secs_f64());
    }
    for count in streams {
        let request = |nth: usize| GenerateRequest {
            ignore_end: true,
            ..GenerateRequest::new(prompt(1000 * count + nth, 16), ANSWER)
        };
        let rate = run(&engine, (0..count).map(request).collect())?;
        println!("{count} streams: {rate:.1} tokens/s in all");
    }
    Ok(())
}

/// Runs requests at once; tokens a second from when all have begun to when the first one ends.
fn run(engine: &Engine, requests: Vec<GenerateRequest>) -> Result<f64, Failure> {
    let (sender, events) = mpsc::channel();
    let count = requests.len();
    let mut tickets: Vec<Ticket> = Vec::new();
    for (nth, request) in requests.into_iter().enumerate() {
        let sender = sender.clone();
        let sink = move |event| match sender.send((nth, event)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        tickets.push(engine.submit(request, Box::new(sink))?);
    }
    drop(sender);
    let (mut begun, mut tokens, mut from, mut rate) = (vec![false; count], 0usize, Instant::now(), None);
    for (nth, event) in events {
        match event {
            Event::Token { .. } => {
                tokens += 1;
                if !std::mem::replace(&mut begun[nth], true) && begun.iter().all(|begun| *begun) {
                    (tokens, from) = (0, Instant::now());
                }
            }
            Event::Failed { message } => return Err(message.into()),
            Event::Done { .. } => {
                rate.get_or_insert(tokens as f64 / from.elapsed().as_secs_f64());
            }
            Event::Finished { .. } => {}
        }
    }
    Ok(rate.unwrap_or_default())
}
