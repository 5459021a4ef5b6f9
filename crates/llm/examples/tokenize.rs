//! Runs the tokenizer of a model file (GGUF or `tokenizer.json`) on lines of text, for the reference checks under `tests/llm`.
//!
//! `tokenize MODEL encode|parse|split|decode [--pre RULE]`: each line of standard input is a hexadecimal UTF-8 text, or for
//! `decode` token numbers; each line of standard output is token numbers, the ends of pieces, or hexadecimal text.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufWriter, Write};

use formats::gguf::Gguf;
use formats::tokenizer::{TokenizerKind, TokenizerSpec};
use llm::tokenizer::{PreTokenizer, Special, Tokenizer};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, action, rest @ ..] = &arguments[..] else { panic!("tokenize MODEL ACTION [--pre RULE]") };
    let rule = rest.iter().position(|argument| argument == "--pre").map(|at| rest[at + 1].clone());
    let mut out = BufWriter::new(std::io::stdout().lock());
    let lines = std::io::stdin().lock().lines().map(Result::unwrap);
    if action == "split" {
        let rule = PreTokenizer::named(&rule.expect("--pre")).expect("a rule");
        for line in lines {
            let ends: Vec<_> =
                rule.split(&text(&line)).into_iter().map(|piece| piece.end.to_string()).collect();
            writeln!(out, "{}", ends.join(" ")).unwrap();
        }
        return;
    }
    let mut spec = spec(model);
    if let (Some(rule), TokenizerKind::Bpe { pre, .. }) = (rule, &mut spec.kind) {
        *pre = rule;
    }
    let tokenizer = Tokenizer::new(&spec).expect("a tokenizer");
    for line in lines {
        let answer = match action.as_str() {
            "encode" => numbers(&tokenizer.encode(&text(&line), Special::AsText)),
            "parse" => numbers(&tokenizer.encode(&text(&line), Special::Parse)),
            "decode" => {
                let ids: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
                tokenizer.decode(&ids).bytes().map(|byte| format!("{byte:02x}")).collect()
            }
            action => panic!("no action {action}"),
        };
        writeln!(out, "{answer}").unwrap();
    }
}

fn spec(path: &str) -> TokenizerSpec {
    if path.ends_with(".json") {
        let json = std::fs::read(path).expect("a file");
        return TokenizerSpec::from_json(&json, None, None).expect("a tokenizer");
    }
    TokenizerSpec::from_gguf(&Gguf::open(path).expect("a GGUF file")).expect("a tokenizer")
}

fn numbers(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

fn text(line: &str) -> String {
    let bytes = line
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
    String::from_utf8(bytes.collect()).unwrap()
}
