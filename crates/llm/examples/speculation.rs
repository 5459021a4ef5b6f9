//! What guessing ahead gains: `speculation FILE [ROUNDS] [STREAMS] [DRAFT]`. The same requests, with and without, in turn:
//! prompts that ask for edited code, whose answers repeat much of them, and prompts that ask for prose. One stream is timed by
//! the answer, several by all answers: each asks for one after the other. `DRAFT` is a small model's file, which guesses too.

#![allow(clippy::print_stdout, reason = "that is what it is for")]

use std::error::Error;
use std::ops::ControlFlow;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use llm::template::{ChatTemplate, Context, Message};
use llm::tokenizer::Tokenizer;
use llm::{Engine, EngineOptions, Event, GenerateRequest, LoadOptions, LoadedModel};

type Failure = Box<dyn Error>;

const CODE: &str = r#"import json
import time


class Cache:
    """Keeps values for a limited time."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.values = {}

    def get(self, key, default=None):
        entry = self.values.get(key)
        if entry is None:
            return default
        value, stored = entry
        if time.time() - stored > self.seconds:
            del self.values[key]
            return default
        return value

    def set(self, key, value):
        self.values[key] = (value, time.time())

    def dump(self, path):
        with open(path, "w") as file:
            json.dump({key: value for key, (value, _) in self.values.items()}, file)
"#;

const EDITS: [&str; 4] = [
    "Rename the class `Cache` to `TimedCache` and change nothing else. Answer with the whole file.",
    "Add a docstring to every method and change nothing else. Answer with the whole file.",
    "Rename the attribute `values` to `entries` everywhere and change nothing else. Answer with the whole file.",
    "Add type hints to every method and change nothing else. Answer with the whole file.",
];

const PROSE: [&str; 4] = [
    "Tell a story about a lighthouse keeper who finds a letter in a bottle.",
    "Explain to a student how vaccines work and why some need a second dose.",
    "Describe a walk through an old market on a rainy morning.",
    "Write a letter to the mayor about the closing of the public library.",
];

const ANSWER: usize = 200;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let file = arguments.first().ok_or("usage: speculation FILE [ROUNDS] [STREAMS] [DRAFT]")?;
    let number = |nth: usize, usual| arguments.get(nth).map_or(Ok(usual), |given| given.parse());
    let (rounds, streams): (usize, usize) = (number(1, 3)?, number(2, 1)?);
    let start = |draft_max| -> Result<_, Failure> {
        let options = LoadOptions::default();
        let loaded = match arguments.get(3).filter(|_| draft_max > 0) {
            Some(draft) => LoadedModel::open_with_draft(file, draft, &options)?,
            None => LoadedModel::open(file, &options)?,
        };
        let engine = Engine::start(loaded.model, EngineOptions { draft_max, ..EngineOptions::default() })?;
        Ok((engine, loaded.tokenizer, loaded.chat_template))
    };
    let (plain, ..) = start(0)?;
    let (guessing, tokenizer, template) = start(EngineOptions::default().draft_max)?;
    let template = ChatTemplate::new(&template.ok_or("the file has no template for chats")?, &tokenizer)?;
    let edits: Vec<String> = EDITS.iter().map(|edit| format!("{edit}\n\n```python\n{CODE}```")).collect();
    let prose: Vec<String> = PROSE.iter().map(|&prompt| prompt.to_owned()).collect();
    for (kind, prompts) in [("code edits", &edits), ("prose", &prose)] {
        let prompts: Vec<Vec<u32>> =
            prompts.iter().map(|text| tokens(&template, &tokenizer, text)).collect::<Result<_, _>>()?;
        let mut ratios = Vec::new();
        let before = guessing.counters();
        for round in 0..rounds {
            for some in prompts.chunks(if streams == 1 { 1 } else { prompts.len() }) {
                let run = |engine| measure(engine, some, streams);
                let (without, with) = if round % 2 == 0 {
                    let without = run(&plain)?;
                    (without, run(&guessing)?)
                } else {
                    let with = run(&guessing)?;
                    (run(&plain)?, with)
                };
                if without.1 != with.1 {
                    return Err(format!("{kind}: guessing changed an answer").into());
                }
                ratios.push(without.0.as_secs_f64() / with.0.as_secs_f64());
            }
        }
        let after = guessing.counters();
        ratios.sort_by(f64::total_cmp);
        println!(
            "{kind}, {streams} at once: {:.2} times as fast ({:.2} to {:.2}); {} of {} guesses right",
            ratios[ratios.len() / 2],
            ratios[0],
            ratios[ratios.len() - 1],
            after.accepted_tokens - before.accepted_tokens,
            after.drafted_tokens - before.drafted_tokens,
        );
    }
    Ok(())
}

fn tokens(template: &ChatTemplate, tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, Failure> {
    let message = Message { role: "user".to_owned(), content: Some(text.to_owned()), ..Message::default() };
    let context = Context { add_generation_prompt: true, ..Context::default() };
    Ok(template.render(&[message], &context)?.encode(tokenizer))
}

/// How long it took until each stream had its answer to each prompt, and what the answers were. The prompts are computed
/// before; each stream begins with another.
fn measure(
    engine: &Engine,
    prompts: &[Vec<u32>],
    streams: usize,
) -> Result<(Duration, Vec<Vec<u32>>), Failure> {
    for prompt in prompts {
        answer(engine, prompt, 1)?;
    }
    let begun = Instant::now();
    let all = |nth: usize| -> Result<Vec<Vec<u32>>, String> {
        let turn = prompts.iter().cycle().skip(nth).take(prompts.len());
        turn.map(|prompt| answer(engine, prompt, ANSWER).map_err(|e| e.to_string())).collect()
    };
    let answers = thread::scope(|scope| -> Result<Vec<_>, Failure> {
        let asking: Vec<_> = (0..streams).map(|nth| scope.spawn(move || all(nth))).collect();
        let mut answers = Vec::new();
        for stream in asking {
            answers.append(&mut stream.join().map_err(|_| "a stream broke")??);
        }
        Ok(answers)
    })?;
    Ok((begun.elapsed(), answers))
}

fn answer(engine: &Engine, prompt: &[u32], most: usize) -> Result<Vec<u32>, Failure> {
    let (sender, events) = mpsc::channel();
    let sink = move |event| match sender.send(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    let _ticket = engine.submit(GenerateRequest::new(prompt.to_vec(), most), Box::new(sink))?;
    let mut answer = Vec::new();
    for event in events {
        match event {
            Event::Token { id, .. } => answer.push(id),
            Event::Failed { message } => return Err(message.into()),
            Event::Finished { .. } | Event::Done { .. } => {}
        }
    }
    Ok(answer)
}
