//! The determinism contract on a real file, through the engine: the same tokens and log-probabilities, to the last bit,
//! alone or in company, whole or in chunks, cold or on a prefix hit, on one thread or two.

use std::ops::ControlFlow;
use std::sync::mpsc;
use std::time::Duration;

use llm::tokenizer::{Special, Tokenizer};
use llm::{
    Engine, EngineOptions, Event, GenerateRequest, LoadOptions, LoadedModel, SamplingParams, Ticket, Usage,
};

use crate::{SMOLLM2, load};

const ANSWER: usize = 24;
const PATIENCE: Duration = Duration::from_secs(300);

const PROMPTS: [&str; 8] = [
    "The capital of France is",
    "Once upon a time, in a village by the river, there lived a miller who had three sons and a cat. When the miller died, \
     the eldest son took the mill, the second the donkey, and the youngest was left with the cat. What could he do with a \
     cat? But the cat spoke to him and said:",
    "def fibonacci(n):\n",
    "A list of ten European rivers: 1.",
    "Water boils at a lower temperature on mountains because",
    "Dear Sir or Madam,",
    "The three laws of motion are",
    "In 1815, near a village south of Brussels,",
];

/// An answer's tokens with the bits of their log-probabilities.
type Answer = Vec<(u32, u32)>;

fn engine(threads: usize, options: EngineOptions) -> (Engine, Tokenizer) {
    let machine = LoadOptions { threads, ..LoadOptions::default() };
    let LoadedModel { model, tokenizer, .. } = load(SMOLLM2, 128, machine);
    (Engine::start(model, options).unwrap(), tokenizer)
}

/// Every second prompt is drawn from the distribution, with a seed.
fn request(tokenizer: &Tokenizer, nth: usize) -> GenerateRequest {
    let sampling = match nth % 2 {
        0 => SamplingParams::greedy(),
        _ => SamplingParams { seed: Some(nth as u64), top_p: 0.9, ..SamplingParams::default() },
    };
    let prompt = tokenizer.encode_prompt(PROMPTS[nth], Special::AsText);
    GenerateRequest { sampling, logprobs: Some(3), ignore_end: true, ..GenerateRequest::new(prompt, ANSWER) }
}

fn start(engine: &Engine, request: GenerateRequest) -> (Ticket, mpsc::Receiver<Event>) {
    let (sender, receiver) = mpsc::channel();
    let sink = move |event| match sender.send(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    (engine.submit(request, Box::new(sink)).unwrap(), receiver)
}

fn collect(events: &mpsc::Receiver<Event>) -> (Answer, Usage) {
    let mut answer = Answer::new();
    loop {
        match events.recv_timeout(PATIENCE).expect("the engine is stuck") {
            Event::Token { id, logprob, .. } => {
                answer.push((id, logprob.unwrap().chosen.logprob.to_bits()));
            }
            Event::Finished { .. } => {}
            Event::Done { usage } => return (answer, usage),
            Event::Failed { message } => panic!("{message}"),
        }
    }
}

#[test]
fn company_changes_no_bit() {
    let alone_options = EngineOptions { step_tokens: 1024, ..EngineOptions::default() };
    let (alone, tokenizer) = engine(1, alone_options);
    let ask = |engine: &Engine, nth: usize| {
        let (_ticket, events) = start(engine, request(&tokenizer, nth));
        collect(&events).0
    };
    let expected: Vec<Answer> = (0..PROMPTS.len()).map(|nth| ask(&alone, nth)).collect();
    drop(alone);

    let small_chunks =
        EngineOptions { step_tokens: 24, mixed_tokens: 7, running_max: 8, ..EngineOptions::default() };
    let (crowd, tokenizer) = engine(2, small_chunks);
    for warm in [false, true] {
        let open: Vec<_> = (0..PROMPTS.len()).map(|nth| start(&crowd, request(&tokenizer, nth))).collect();
        for (nth, (_ticket, events)) in open.iter().enumerate() {
            let (answer, usage) = collect(events);
            assert_eq!(answer, expected[nth], "{:?}, warm: {warm}", PROMPTS[nth]);
            if warm && usage.prompt > 16 {
                assert!(usage.cached > 0, "{usage:?}");
            }
        }
    }
}
