//! The engine with a model that is a hash: what is answered, and that company changes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ops::ControlFlow;
use std::sync::mpsc;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::constraint::Constraint;
use crate::forward::{Batch, ForwardError, Watch};
use crate::mock::{ByteVocabulary, MockModel};
use crate::request::{Event, FinishReason, TokenLogprob, Usage};
use crate::sampler::SamplingParams;

const BLOCK_LEN: usize = 4;
/// How long a test waits for an event before it says that the engine is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

fn model(blocks: u32) -> Model {
    let forward = Box::new(MockModel::new(257, blocks, BLOCK_LEN));
    Model {
        forward,
        vocabulary: Arc::new(ByteVocabulary::default()),
        blocks,
        block_len: BLOCK_LEN,
        context_max: 120,
        draft: None,
    }
}

fn engine(blocks: u32) -> Engine {
    Engine::start(model(blocks), EngineOptions::default()).unwrap()
}

/// Sends a request; its events arrive at the receiver.
fn send(engine: &Engine, request: GenerateRequest) -> (Ticket, mpsc::Receiver<Event>) {
    let (sender, receiver) = mpsc::channel();
    let sink = move |event| match sender.send(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    (engine.submit(request, Box::new(sink)).unwrap(), receiver)
}

/// What a caller got.
#[derive(Clone, Debug, Default, PartialEq)]
struct Answer {
    tokens: Vec<Vec<u32>>,
    texts: Vec<String>,
    logprobs: Vec<Vec<TokenLogprob>>,
    reasons: Vec<Option<FinishReason>>,
    usage: Usage,
    failed: Option<String>,
}

fn collect(events: &mpsc::Receiver<Event>, n: usize) -> Answer {
    let mut answer = Answer {
        tokens: vec![Vec::new(); n],
        texts: vec![String::new(); n],
        logprobs: vec![Vec::new(); n],
        reasons: vec![None; n],
        ..Answer::default()
    };
    loop {
        match events.recv_timeout(PATIENCE).expect("the engine is stuck") {
            Event::Token { choice, id, text, logprob } => {
                assert_eq!(answer.reasons[choice], None, "a token after the end");
                answer.tokens[choice].push(id);
                answer.texts[choice] += &text;
                answer.logprobs[choice].extend(logprob);
            }
            Event::Finished { choice, reason, text } => {
                assert_eq!(answer.reasons[choice].replace(reason), None);
                answer.texts[choice] += &text;
            }
            Event::Done { usage } => {
                answer.usage = usage;
                return answer;
            }
            Event::Failed { message } => {
                answer.failed = Some(message);
                return answer;
            }
        }
    }
}

fn answer(engine: &Engine, request: GenerateRequest) -> Answer {
    let n = request.n;
    let (_ticket, events) = send(engine, request);
    collect(&events, n)
}

/// Waits until so many requests have ended, and checks that they left nothing behind. Counters follow events.
fn settle(engine: &Engine, finished: u64) {
    let until = Instant::now() + PATIENCE;
    while engine.counters().finished < finished {
        assert!(Instant::now() < until, "a request goes on: {:?}", engine.counters());
        std::thread::yield_now();
    }
    let Counters { running, waiting, blocks_used, .. } = engine.counters();
    assert_eq!((running, waiting, blocks_used), (0, 0, 0));
}

fn prompt(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

#[test]
fn a_request_is_answered_and_accounted() {
    let engine = engine(64);
    let request = GenerateRequest { ignore_end: true, ..GenerateRequest::new(prompt("hello"), 10) };
    let got = answer(&engine, request.clone());
    assert_eq!(got.tokens[0].len(), 10);
    assert_eq!(got.reasons, [Some(FinishReason::Length)]);
    assert_eq!(got.usage, Usage { prompt: 5, cached: 0, completion: 10 });
    let again = answer(&engine, request);
    assert_eq!(again.tokens, got.tokens);
    assert_eq!(again.usage.cached, 4);
}

#[test]
fn an_answer_ends_before_its_stop_text_and_where_the_context_does() {
    let engine = engine(64);
    let request = GenerateRequest { ignore_end: true, ..GenerateRequest::new(prompt("stop"), 40) };
    let whole = answer(&engine, request.clone());
    let stop = String::from_utf8_lossy(&whole.tokens[0][6..8].iter().map(|&t| t as u8).collect::<Vec<_>>())
        .into_owned();
    let cut =
        answer(&engine, GenerateRequest { stop: vec!["never".into(), stop.clone()], ..request.clone() });
    assert!(whole.texts[0].starts_with(&cut.texts[0]));
    assert_eq!(cut.texts[0], whole.texts[0][..whole.texts[0].find(&stop).unwrap()]);
    assert_eq!(cut.reasons, [Some(FinishReason::StopText(1))]);
    let full = answer(&engine, GenerateRequest { max_tokens: 1000, ..request });
    assert_eq!((full.tokens[0].len(), full.reasons[0]), (116, Some(FinishReason::Length)));
}

#[test]
fn a_constraint_shapes_every_answer() {
    let engine = engine(64);
    let request = GenerateRequest {
        n: 3,
        sampling: SamplingParams { seed: Some(5), ..SamplingParams::default() },
        constraint: Some(Constraint::Regex("[a-f]{3}-[0-9]{2}".into())),
        ..GenerateRequest::new(prompt("code:"), 30)
    };
    let got = answer(&engine, request);
    for text in &got.texts {
        let bytes = text.as_bytes();
        assert!(
            bytes.len() == 6 && bytes[3] == b'-' && bytes[..3].iter().all(|b| (b'a'..=b'f').contains(b)),
            "{text}"
        );
    }
    assert_eq!(got.reasons, vec![Some(FinishReason::Stop); 3]);
    assert_ne!(got.texts[0], got.texts[1], "choices are drawn apart");
}

#[test]
fn a_dropped_ticket_and_a_closed_sink_end_the_request() {
    let engine = engine(64);
    let request =
        GenerateRequest { max_tokens: 100, ignore_end: true, ..GenerateRequest::new(prompt("x"), 100) };
    let (ticket, events) = send(&engine, request.clone());
    events.recv_timeout(PATIENCE).unwrap();
    drop(ticket);
    let got = collect(&events, 1);
    assert!(matches!(got.reasons[0], Some(FinishReason::Cancelled | FinishReason::Length)));
    let (_ticket, events) = send(&engine, request);
    drop(events);
    settle(&engine, 2);
}

/// Prompts that repeat themselves, and a model that does: much is guessed right, and nothing is another.
#[test]
fn guesses_save_steps_and_change_nothing() {
    let run = |draft_max| {
        let forward = Box::new(MockModel::new(257, 64, BLOCK_LEN).forgetful(1).pausing(STEP));
        let options = EngineOptions { draft_max, ..EngineOptions::default() };
        let engine = Engine::start(Model { forward, ..model(64) }, options).unwrap();
        let mut answers = Vec::new();
        for seed in 0..4 {
            let sampling =
                SamplingParams { seed: Some(seed), temperature: 0.01, ..SamplingParams::default() };
            let request = GenerateRequest {
                sampling,
                logprobs: Some(1),
                ignore_end: true,
                ..GenerateRequest::new(prompt("ab"), 110)
            };
            answers.push(answer(&engine, request));
        }
        settle(&engine, 4);
        (answers, engine.counters())
    };
    let ((plain, without), (guessed, with)) = (run(0), run(16));
    assert_eq!(plain, guessed);
    assert_eq!((without.drafted_tokens, without.completion_tokens), (0, with.completion_tokens));
    // How many guesses pay follows from what steps are seen to take: a busy machine makes some more or fewer.
    assert!(with.accepted_tokens > 0 && with.steps < without.steps, "{with:?}, {without:?}");
}

/// How long a step takes where guesses are to pay: long beside what a mock computes.
const STEP: Duration = Duration::from_millis(1);

/// A model with a small one beside it. Its own steps take long, so that guesses pay.
fn with_draft(draft: MockModel, blocks: u32, draft_blocks: u32) -> Model {
    let forward = Box::new(MockModel::new(257, blocks, BLOCK_LEN).pausing(STEP));
    let draft =
        Draft { forward: Box::new(draft), blocks: draft_blocks, block_len: BLOCK_LEN, context_max: 120 };
    Model { forward, draft: Some(draft), ..model(blocks) }
}

/// Ten answers, one after the other: greedy and not, with penalties.
fn ten_answers(engine: &Engine) -> Vec<Answer> {
    let request = |seed: u64| {
        let sampled =
            SamplingParams { seed: Some(seed), frequency_penalty: 0.5, ..SamplingParams::default() };
        GenerateRequest {
            sampling: if seed.is_multiple_of(2) { SamplingParams::greedy() } else { sampled },
            logprobs: Some(2),
            ignore_end: true,
            ..GenerateRequest::new(prompt(&format!("prompt {seed}")), 60)
        }
    };
    (0..10).map(|seed| answer(engine, request(seed))).collect()
}

#[test]
fn a_small_models_guesses_save_steps_and_change_nothing() {
    let mock = || MockModel::new(257, 64, BLOCK_LEN);
    let run = |model| {
        let engine = Engine::start(model, EngineOptions::default()).unwrap();
        let answers = ten_answers(&engine);
        settle(&engine, 10);
        (answers, engine.counters())
    };
    let (plain, without) = run(model(64));
    let (right, with) = run(with_draft(mock(), 64, 64));
    assert_eq!(right, plain);
    assert_eq!(with.drafted_tokens, with.accepted_tokens, "drawn alike");
    assert!(with.steps * 2 < without.steps, "{with:?}, {without:?}");
    let (partly, with) = run(with_draft(mock().astray(6), 64, 64));
    assert_eq!(partly, plain);
    assert!(with.accepted_tokens > 100 && with.accepted_tokens < with.drafted_tokens, "{with:?}");
    assert!(with.steps < without.steps, "{with:?}, {without:?}");
    let (wrong, with) = run(with_draft(mock().astray(1).pausing(STEP / 4), 64, 64));
    assert_eq!(wrong, plain);
    assert!(with.drafted_tokens < 120, "it goes on guessing: {with:?}");
    let (broken, with) = run(with_draft(mock().failing_in(30), 64, 64));
    assert_eq!(broken, plain);
    assert!(with.accepted_tokens > 0 && with.steps < without.steps, "{with:?}");
}

#[test]
fn a_small_model_with_little_memory_or_fewer_tokens_guesses_what_it_can() {
    let plain = ten_answers(&engine(64));
    // A cache of less than one answer, of about one, and tokens that end before some prompts' do.
    let drafts = [
        (MockModel::new(257, 8, BLOCK_LEN), 8),
        (MockModel::new(257, 18, BLOCK_LEN), 18),
        (MockModel::new(110, 64, BLOCK_LEN), 64),
    ];
    for (draft, blocks) in drafts {
        let engine = Engine::start(with_draft(draft, 64, blocks), EngineOptions::default()).unwrap();
        assert_eq!(ten_answers(&engine), plain);
    }
}

#[test]
fn a_small_model_that_is_as_slow_as_the_large_one_is_not_asked() {
    let engine = Engine::start(
        with_draft(MockModel::new(257, 64, BLOCK_LEN).pausing(STEP), 64, 64),
        EngineOptions::default(),
    );
    let engine = engine.unwrap();
    ten_answers(&engine);
    let counters = engine.counters();
    assert!(counters.drafted_tokens < 60, "{counters:?}");
}

#[test]
fn a_given_answer_has_the_log_probabilities_that_it_had_when_it_was_found() {
    let options = EngineOptions { step_tokens: 80, mixed_tokens: 7, ..EngineOptions::default() };
    let engine = Engine::start(model(64), options).unwrap();
    let prompt = prompt("a prompt of some length, so that its first blocks are found");
    let found = answer(
        &engine,
        GenerateRequest { logprobs: Some(0), ignore_end: true, ..GenerateRequest::new(prompt.clone(), 40) },
    );
    for _ in 0..2 {
        let judged = answer(&engine, GenerateRequest::judge(prompt.clone(), found.tokens[0].clone(), 0..0));
        assert_eq!(judged.logprobs, found.logprobs);
        assert_eq!(judged.tokens, found.tokens);
        assert_eq!((judged.usage.completion, judged.usage.prompt), (0, prompt.len()));
    }
}

#[test]
fn what_is_hidden_from_an_answer_changes_it_alone() {
    let engine = engine(64);
    let (prompt, given) = (prompt("the secret word is swordfish, the rest is not"), prompt("yes"));
    let judge =
        |hidden| answer(&engine, GenerateRequest::judge(prompt.clone(), given.clone(), hidden)).logprobs;
    let (whole, masked) = (judge(0..0), judge(4..10));
    assert_ne!(whole, masked);
    assert_eq!(judge(4..10), masked, "neither is found where the other is looked for");
    assert_eq!(judge(0..0), whole);
    let refused = engine.submit(
        GenerateRequest::judge(prompt.clone(), given.clone(), 4..prompt.len()),
        Box::new(|_| ControlFlow::Continue(())),
    );
    assert!(matches!(refused, Err(SubmitError::Invalid { field: "hidden", .. })), "{refused:?}");
}

#[test]
fn a_deadline_ends_an_answer() {
    let engine = engine(64);
    let request = GenerateRequest { deadline: Instant::now(), ..GenerateRequest::new(prompt("x"), 100) };
    assert_eq!(answer(&engine, request).reasons, [Some(FinishReason::Deadline)]);
}

#[test]
fn what_is_out_of_range_is_refused_by_name() {
    let engine = engine(8);
    let good = GenerateRequest::new(prompt("x"), 10);
    let bad = [
        ("n", GenerateRequest { n: 10_000, ..good.clone() }),
        ("n", GenerateRequest { n: 0, ..good.clone() }),
        ("max_tokens", GenerateRequest { max_tokens: 0, ..good.clone() }),
        ("stop", GenerateRequest { stop: vec!["x".into(); 10_000], ..good.clone() }),
        ("stop", GenerateRequest { stop: vec![String::new()], ..good.clone() }),
        ("stop", GenerateRequest { stop: vec!["x".repeat(1 << 20)], ..good.clone() }),
        ("logprobs", GenerateRequest { logprobs: Some(255), ..good.clone() }),
        ("prompt", GenerateRequest { prompt: vec![], ..good.clone() }),
        ("prompt", GenerateRequest { prompt: vec![257], ..good.clone() }),
        ("constraint", GenerateRequest { constraint: Some(Constraint::Regex("(".into())), ..good.clone() }),
        (
            "temperature",
            GenerateRequest {
                sampling: SamplingParams { temperature: -1.0, ..SamplingParams::default() },
                ..good.clone()
            },
        ),
    ];
    for (wanted, request) in bad {
        match engine.submit(request, Box::new(|_| ControlFlow::Continue(()))) {
            Err(SubmitError::Invalid { field, .. }) => assert_eq!(field, wanted),
            other => panic!("{wanted}: {other:?}"),
        }
    }
    let long = GenerateRequest { prompt: vec![1; 32], ..good };
    let refused = engine.submit(long, Box::new(|_| ControlFlow::Continue(())));
    assert_eq!(refused.unwrap_err(), SubmitError::PromptTooLong { tokens: 32, limit: 32 });
}

/// Rows that take long, so that a step of many is worth giving up, and a model that repeats itself, so that guesses are
/// given up with it.
#[test]
fn steps_given_up_for_who_comes_change_nothing() {
    let request = |salt, text: &str, max_tokens| GenerateRequest {
        salt,
        ignore_end: true,
        logprobs: Some(1),
        sampling: SamplingParams { seed: Some(salt), temperature: 0.01, ..SamplingParams::default() },
        ..GenerateRequest::new(prompt(text), max_tokens)
    };
    let model = |row| {
        let forward = MockModel::new(257, 400, BLOCK_LEN).forgetful(1).pausing_by_row(row);
        Model { forward: Box::new(forward), ..model(400) }
    };
    let start = |row| Engine::start(model(row), EngineOptions::default()).unwrap();
    let quick = start(Duration::ZERO);
    let alone = |request: GenerateRequest| answer(&quick, request);
    let engine = start(Duration::from_millis(1));
    let flood = || (0..20).map(|nth| request(7, &format!("{nth} of many questions"), 40));
    let many: Vec<_> = flood().map(|request| send(&engine, request)).collect();
    let until = Instant::now() + PATIENCE;
    let mut came = 0;
    while engine.counters().given_up < 3 {
        assert!(Instant::now() < until, "no step was given up: {:?}", engine.counters());
        came += 1;
        let one = request(came, "one question", 2);
        let (got, wanted) = (answer(&engine, one.clone()), alone(one));
        assert_eq!((got.tokens, got.logprobs), (wanted.tokens, wanted.logprobs));
    }
    for ((_ticket, events), request) in many.iter().zip(flood()) {
        let (got, wanted) = (collect(events, 1), alone(request));
        assert_eq!((got.tokens, got.logprobs), (wanted.tokens, wanted.logprobs));
    }
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let options = EngineOptions { running_max: 1, waiting_max: 2, ..EngineOptions::default() };
    let engine = Engine::start(model(64), options).unwrap();
    let mut tickets = Vec::new();
    let refused = loop {
        let request = GenerateRequest { ignore_end: true, ..GenerateRequest::new(prompt("x"), 100) };
        match engine.submit(request, Box::new(|_| ControlFlow::Continue(()))) {
            Ok(ticket) => tickets.push(ticket),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, SubmitError::Full { retry_after } if retry_after >= Duration::from_secs(1)));
}

#[test]
fn a_queue_that_one_tenant_fills_has_room_for_others() {
    let options = EngineOptions { running_max: 1, waiting_max: 16, ..EngineOptions::default() };
    let engine = Engine::start(model(64), options).unwrap();
    let mut tickets = Vec::new();
    let mut ask = |salt: u64| {
        let request = GenerateRequest { ignore_end: true, salt, ..GenerateRequest::new(prompt("x"), 100) };
        engine.submit(request, Box::new(|_| ControlFlow::Continue(()))).map(|ticket| tickets.push(ticket))
    };
    while ask(1).is_ok() {}
    assert_eq!(ask(2), Ok(()));
    assert!(matches!(ask(1), Err(SubmitError::Full { .. })));
}

#[test]
fn a_step_that_fails_takes_only_its_own_requests() {
    let mut model = model(64);
    model.forward = Box::new(MockModel::new(257, 64, BLOCK_LEN).failing_in(0));
    let engine = Engine::start(model, EngineOptions::default()).unwrap();
    let request = GenerateRequest { ignore_end: true, ..GenerateRequest::new(prompt("x"), 3) };
    assert!(answer(&engine, request.clone()).failed.is_some());
    assert_eq!(answer(&engine, request).tokens[0].len(), 3);
}

/// A model that panics.
struct Broken;

impl Forward for Broken {
    fn vocab(&self) -> usize {
        257
    }

    fn forward_watched(&mut self, _: &Batch, _: &mut Watch<'_>) -> Result<ControlFlow<()>, ForwardError> {
        panic!("for the test")
    }

    fn logits(&self) -> &[f32] {
        &[]
    }
}

#[test]
fn a_model_that_breaks_is_not_used_again() {
    let engine =
        Engine::start(Model { forward: Box::new(Broken), ..model(64) }, EngineOptions::default()).unwrap();
    assert!(answer(&engine, GenerateRequest::new(prompt("x"), 3)).failed.is_some());
    let until = Instant::now() + PATIENCE;
    while engine.ended().is_none() {
        assert!(Instant::now() < until);
        std::thread::yield_now();
    }
    assert_eq!(engine.ended(), Some(End::Stopped));
    let refused =
        engine.submit(GenerateRequest::new(prompt("x"), 3), Box::new(|_| ControlFlow::Continue(())));
    assert_eq!(refused.unwrap_err(), SubmitError::Stopped);
}

#[test]
fn an_engine_that_goes_tells_those_who_wait() {
    let engine = engine(64);
    let request =
        GenerateRequest { ignore_end: true, max_tokens: 100, ..GenerateRequest::new(prompt("x"), 100) };
    let open: Vec<_> = (0..50).map(|_| send(&engine, request.clone())).collect();
    drop(engine);
    for (_ticket, events) in open {
        // A request that had not been taken in yet is told by its sink's end.
        let last = events.iter().last();
        assert!(matches!(last, None | Some(Event::Failed { .. } | Event::Done { .. })), "{last:?}");
    }
}

fn requests() -> impl Strategy<Value = Vec<GenerateRequest>> {
    let sampling = prop_oneof![
        Just(SamplingParams::greedy()),
        (any::<u64>(), 1..20u32, 0.5..1.0f32).prop_map(|(seed, top_k, top_p)| SamplingParams {
            seed: Some(seed),
            top_k,
            top_p,
            frequency_penalty: 0.3,
            ..SamplingParams::default()
        }),
    ];
    let constraint =
        prop_oneof![4 => Just(None), 1 => Just(Some(Constraint::Regex("[a-z ]{4,12}\\.".into())))];
    let request = (0..3usize, 1..60usize, 1..30usize, 1..4usize, sampling, constraint, 0..2u64).prop_map(
        |(family, len, max_tokens, n, sampling, constraint, salt)| GenerateRequest {
            prompt: (0..len as u32).map(|at| (at * 7 + family as u32 * (at / 17)) % 256).collect(),
            n,
            sampling,
            constraint,
            salt,
            logprobs: Some(2),
            ..GenerateRequest::new(Vec::new(), max_tokens)
        },
    );
    prop::collection::vec(request, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// The determinism contract: alone on a cold engine, or in a random crowd with other chunks, fewer blocks (and
    /// so preemptions), another order, warm prefixes, guesses ahead and a small model that is right, wrong or now this,
    /// now that: the same tokens, texts and log-probabilities.
    #[test]
    fn company_changes_nothing(
        requests in requests(),
        blocks in 30..80u32,
        step_tokens in 8..80usize,
        mixed_tokens in 1..40usize,
        running_max in 3..8usize,
        window in prop_oneof![Just(usize::MAX), Just(1)],
        draft in prop_oneof![Just(None), (prop_oneof![Just(0u64), Just(1), Just(3)], 8..80u32).prop_map(Some)],
    ) {
        let mock = |blocks| MockModel::new(257, blocks, BLOCK_LEN).forgetful(window);
        let model = |blocks| match draft {
            None => Model { forward: Box::new(mock(blocks)), ..model(blocks) },
            Some((astray, draft_blocks)) => Model {
                forward: Box::new(mock(blocks).pausing(Duration::from_micros(100))),
                ..with_draft(mock(draft_blocks).astray(astray), blocks, draft_blocks)
            },
        };
        let options = EngineOptions { draft_max: 0, ..EngineOptions::default() };
        let cold = || Engine::start(model(64), options).unwrap();
        let alone: Vec<Answer> = requests.iter().map(|request| answer(&cold(), request.clone())).collect();
        let options = EngineOptions { step_tokens, mixed_tokens, running_max, ..EngineOptions::default() };
        let crowd = Engine::start(model(blocks), options).unwrap();
        for round in 0..2 {
            let mut order: Vec<usize> = (0..requests.len()).collect();
            if round == 1 {
                order.reverse();
            }
            let open: Vec<_> = order.iter().map(|&nth| (nth, send(&crowd, requests[nth].clone()))).collect();
            for (nth, (_ticket, events)) in open {
                let mut got = collect(&events, requests[nth].n);
                got.usage.cached = 0;
                prop_assert_eq!(&got, &alone[nth]);
            }
        }
        settle(&crowd, 2 * requests.len() as u64);
    }
}

#[test]
fn an_engine_is_kept_as_long_as_is_said_last() {
    let engine = Engine::start(model(64), EngineOptions::default()).unwrap();
    assert_eq!(engine.time_left(), None);
    engine.keep(Some(Duration::from_secs(3600)));
    assert!(engine.time_left().unwrap() > Duration::from_secs(3000));
    answer(&engine, GenerateRequest::new(prompt("hello"), 5));
    engine.keep(None);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!((engine.time_left(), engine.ended()), (None, None));
    engine.keep(Some(Duration::ZERO));
    let begun = Instant::now();
    while engine.ended().is_none() {
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(engine.ended(), Some(End::Idle));
}

#[test]
fn an_idle_engine_ends_and_a_busy_one_does_not() {
    let idle_max = Duration::from_millis(300);
    let options = EngineOptions { idle_max, ..EngineOptions::default() };
    let engine = Engine::start(model(64), options).unwrap();
    for _ in 0..4 {
        std::thread::sleep(idle_max / 3);
        answer(&engine, GenerateRequest::new(prompt("hello"), 5));
    }
    let begun = Instant::now();
    while engine.ended().is_none() {
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(engine.ended(), Some(End::Idle));
    assert!(begun.elapsed() >= idle_max / 2);
    let refused =
        engine.submit(GenerateRequest::new(prompt("late"), 5), Box::new(|_| ControlFlow::Continue(())));
    assert_eq!(refused.unwrap_err(), SubmitError::Stopped);
}
