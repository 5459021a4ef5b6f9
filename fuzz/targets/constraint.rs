//! JSON schemas, regular expressions and grammars that a client sends.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use llm::{Compiler, Constraint};

static COMPILER: LazyLock<Option<Compiler>> =
    LazyLock::new(|| fuzz::bytes_tokenizer().map(|tokenizer| Compiler::new(Arc::new(tokenizer))));

fuzz_target!(|source: &str| {
    let Some(compiler) = &*COMPILER else { return };
    let mut chars = source.chars();
    let constraint = match chars.next() {
        Some('r') => Constraint::Regex(chars.collect()),
        Some('g') => Constraint::Lark(chars.collect()),
        _ => Constraint::JsonSchema(source.to_owned()),
    };
    let Ok(mut follower) = compiler.compile(&constraint) else { return };
    for byte in "{\"a\": [1, -2.5e3, \"x\"]}".bytes() {
        if follower.is_complete() || follower.mask().is_err() || follower.accept(byte.into()).is_err() {
            break;
        }
    }
});
