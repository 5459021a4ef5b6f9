//! Answers of a real model held to a schema.

use std::ops::ControlFlow;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use llm::tokenizer::Special;
use llm::{
    Constraint, Engine, EngineOptions, Event, FinishReason, GenerateRequest, LoadOptions, SamplingParams,
};

use crate::{SMOLLM2, load};

const SCHEMA: &str = r#"{"type":"object","properties":{"city":{"type":"string","maxLength":20},
    "population":{"type":"integer","minimum":0,"maximum":99999999},"capital":{"type":"boolean"}},
    "required":["city","population","capital"],"additionalProperties":false}"#;

#[test]
fn a_small_model_fills_in_a_form() {
    let loaded = load(SMOLLM2, 64, LoadOptions::default());
    let prompt = loaded.tokenizer.encode_prompt("Paris, described as JSON:\n", Special::AsText);
    let engine = Engine::start(loaded.model, EngineOptions::default()).unwrap();
    for seed in 0..3 {
        let request = GenerateRequest {
            n: 2,
            sampling: SamplingParams { seed: Some(seed), ..SamplingParams::default() },
            constraint: Some(Constraint::JsonSchema(SCHEMA.into())),
            ..GenerateRequest::new(prompt.clone(), 200)
        };
        let (sender, events) = mpsc::channel();
        let sink = move |event| match sender.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        let begun = Instant::now();
        let _ticket = engine.submit(request, Box::new(sink)).unwrap();
        println!("compiled in {:?}", begun.elapsed());
        let mut texts = [String::new(), String::new()];
        loop {
            match events.recv_timeout(Duration::from_secs(300)).expect("the engine is stuck") {
                Event::Token { choice, text, .. } => texts[choice] += &text,
                Event::Finished { choice, reason, text } => {
                    texts[choice] += &text;
                    assert_eq!(reason, FinishReason::Stop, "{texts:?}");
                }
                Event::Done { .. } => break,
                Event::Failed { message } => panic!("{message}"),
            }
        }
        for text in texts {
            println!("{text}");
            let compact: String = text.split_whitespace().collect();
            assert!(compact.starts_with("{\"city\":\"") && compact.ends_with('}'), "{text}");
            assert!(compact.contains("\"population\":"), "{text}");
            assert!(compact.contains("\"capital\":true") || compact.contains("\"capital\":false"), "{text}");
        }
    }
}
