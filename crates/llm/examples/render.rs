//! Renders a model's chat template, for the reference checks under `tests/llm`.
//!
//! `render MODEL`: each line of standard input is the template, the messages, the tools, each hexadecimal and the latter two
//! written as Jinja literals, and `1` when the answer begins. Each line of standard output is the rendered text in
//! hexadecimal and its tokens, or what went wrong.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::BufRead;

use formats::gguf::Gguf;
use formats::tokenizer::TokenizerSpec;
use llm::template::{ChatTemplate, Context, Message, ToolCall, Value};
use llm::tokenizer::Tokenizer;
use minijinja::{Environment, context};

fn main() {
    let model = std::env::args().nth(1).expect("render MODEL");
    let gguf = Gguf::open(model).expect("a GGUF file");
    let tokenizer =
        Tokenizer::new(&TokenizerSpec::from_gguf(&gguf).expect("a tokenizer")).expect("a tokenizer");
    for line in std::io::stdin().lock().lines().map(Result::unwrap) {
        let words: Vec<&str> = line.split(' ').collect();
        let [template, messages, tools, begins] = words[..] else { panic!("four words") };
        let messages: Vec<Message> =
            value(messages).try_iter().unwrap().map(|value| message(&value)).collect();
        let tools = value(tools).try_iter().unwrap().collect();
        let context = Context { tools, add_generation_prompt: begins == "1", ..Context::default() };
        let rendered = ChatTemplate::new(&text(template), &tokenizer)
            .and_then(|template| template.render(&messages, &context));
        match rendered {
            Ok(rendered) => {
                let hex: String = rendered.text().bytes().map(|byte| format!("{byte:02x}")).collect();
                let ids: Vec<String> = rendered.encode(&tokenizer).iter().map(u32::to_string).collect();
                println!("{hex} {}", ids.join(" "));
            }
            Err(error) => println!("error: {error}"),
        }
    }
}

fn message(value: &Value) -> Message {
    let field = |name| value.get_attr(name).unwrap().as_str().map(str::to_owned);
    let calls = value.get_attr("tool_calls").unwrap();
    let call = |call: Value| {
        let function = call.get_attr("function").unwrap();
        ToolCall {
            id: call.get_attr("id").unwrap().to_string(),
            name: function.get_attr("name").unwrap().to_string(),
            arguments: function.get_attr("arguments").unwrap(),
        }
    };
    Message {
        role: field("role").unwrap(),
        content: field("content"),
        reasoning: field("reasoning_content"),
        name: field("name"),
        tool_call_id: field("tool_call_id"),
        tool_calls: calls.try_iter().into_iter().flatten().map(call).collect(),
    }
}

fn value(hex: &str) -> Value {
    let source = text(hex);
    let environment = Environment::new();
    environment.compile_expression(&source).unwrap().eval(context!()).unwrap()
}

fn text(hex: &str) -> String {
    let bytes = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
    String::from_utf8(bytes.collect()).unwrap()
}
