//! [`Blocks`]: a message's content as it grows, and the events that tell of it.

use serde_json::{Value, json};

use crate::ids;
use crate::language::{self, Piece};
use crate::stream::Frames;

/// A message's content as it grows.
#[derive(Default)]
pub(super) struct Blocks {
    /// Those that are whole.
    whole: Vec<Value>,
    /// The text that is being written.
    open: Option<String>,
}

impl Blocks {
    /// Takes the next part of the answer.
    pub(super) fn add(&mut self, piece: Piece, frames: &mut Frames) {
        match piece {
            Piece::Text(text) => self.add_text(&text, frames),
            Piece::Call { name, arguments } => self.add_call(&name, &arguments, frames),
        }
    }

    fn add_text(&mut self, text: &str, frames: &mut Frames) {
        let index = self.whole.len();
        let open = self.open.get_or_insert_with(|| {
            start(index, json!({"type": "text", "text": "", "citations": null}), frames);
            String::new()
        });
        open.push_str(text);
        delta(index, json!({"type": "text_delta", "text": text}), frames);
    }

    fn add_call(&mut self, name: &str, arguments: &str, frames: &mut Frames) {
        self.close(frames);
        let index = self.whole.len();
        let mut block = json!({"type": "tool_use", "id": ids::fresh("toolu_"), "name": name, "input": {}});
        start(index, block.clone(), frames);
        let input = Value::Object(language::arguments(arguments));
        delta(index, json!({"type": "input_json_delta", "partial_json": input.to_string()}), frames);
        stop(index, frames);
        block["input"] = input;
        self.whole.push(block);
    }

    /// Ends the text that is being written, if one is.
    pub(super) fn close(&mut self, frames: &mut Frames) {
        if let Some(text) = self.open.take() {
            stop(self.whole.len(), frames);
            self.whole.push(json!({"type": "text", "text": text, "citations": null}));
        }
    }

    /// All of it.
    pub(super) fn into_content(self) -> Value {
        self.whole.into()
    }
}

fn start(index: usize, block: Value, frames: &mut Frames) {
    let event = json!({"type": "content_block_start", "index": index, "content_block": block});
    frames.event("content_block_start", &event);
}

fn delta(index: usize, delta: Value, frames: &mut Frames) {
    let event = json!({"type": "content_block_delta", "index": index, "delta": delta});
    frames.event("content_block_delta", &event);
}

fn stop(index: usize, frames: &mut Frames) {
    frames.event("content_block_stop", &json!({"type": "content_block_stop", "index": index}));
}
