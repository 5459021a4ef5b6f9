//! [`Items`]: a response's output as it grows, and the events that tell of it.

use serde_json::{Value, json};

use crate::ids;
use crate::language::Piece;
use crate::stream::Frames;

/// A response's output as it grows.
pub(super) struct Items {
    /// Those that are whole.
    output: Vec<Value>,
    /// The message that is being written.
    open: Option<Message>,
    /// Whether log-probabilities are wanted.
    ranked: bool,
    /// Those of tokens whose text is not told yet.
    ranks: Vec<Value>,
    /// The number of the next event.
    sequence: u64,
}

/// A message that is being written.
struct Message {
    id: String,
    text: String,
    ranks: Vec<Value>,
}

impl Items {
    /// No output yet.
    pub(super) fn new(ranked: bool) -> Items {
        Items { output: Vec::new(), open: None, ranked, ranks: Vec::new(), sequence: 0 }
    }

    /// Writes the event `name`, whose other fields are `event`'s.
    pub(super) fn tell(&mut self, frames: &mut Frames, name: &str, mut event: Value) {
        event["type"] = name.into();
        event["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        frames.event(name, &event);
    }

    /// Takes the log-probabilities of tokens.
    pub(super) fn rank(&mut self, ranks: impl Iterator<Item = Value>) {
        self.ranks.extend(ranks);
    }

    /// What is whole.
    pub(super) fn output(&self) -> Vec<Value> {
        self.output.clone()
    }

    /// Takes the next part of the answer.
    pub(super) fn add(&mut self, piece: Piece, frames: &mut Frames) {
        match piece {
            Piece::Text(text) => self.add_text(&text, frames),
            Piece::Call { name, arguments } => self.add_call(&name, &arguments, frames),
        }
    }

    fn add_text(&mut self, text: &str, frames: &mut Frames) {
        let index = self.output.len();
        if self.open.is_none() {
            let message = Message { id: ids::fresh("msg_"), text: String::new(), ranks: Vec::new() };
            let (id, item) = (message.id.clone(), message.item("in_progress", Vec::new()));
            self.open = Some(message);
            self.tell(frames, "response.output_item.added", json!({"output_index": index, "item": item}));
            let part = part("", Vec::new());
            let added = json!({"item_id": id, "output_index": index, "content_index": 0, "part": part});
            self.tell(frames, "response.content_part.added", added);
        }
        let ranks = std::mem::take(&mut self.ranks);
        let Some(message) = &mut self.open else { return };
        message.text.push_str(text);
        message.ranks.extend(ranks.iter().cloned());
        let delta = json!({
            "item_id": message.id, "output_index": index, "content_index": 0, "delta": text, "logprobs": ranks,
        });
        self.tell(frames, "response.output_text.delta", delta);
    }

    fn add_call(&mut self, name: &str, arguments: &str, frames: &mut Frames) {
        self.close("completed", frames);
        let (index, id, call_id) = (self.output.len(), ids::fresh("fc_"), ids::fresh("call_"));
        let item = |arguments: &str, status: &str| {
            json!({
                "type": "function_call", "id": id, "call_id": call_id, "name": name, "arguments": arguments,
                "status": status,
            })
        };
        let added = json!({"output_index": index, "item": item("", "in_progress")});
        self.tell(frames, "response.output_item.added", added);
        let delta = json!({"item_id": id, "output_index": index, "delta": arguments});
        self.tell(frames, "response.function_call_arguments.delta", delta);
        let done = json!({"item_id": id, "output_index": index, "name": name, "arguments": arguments});
        self.tell(frames, "response.function_call_arguments.done", done);
        let item = item(arguments, "completed");
        self.output.push(item.clone());
        self.tell(frames, "response.output_item.done", json!({"output_index": index, "item": item}));
    }

    /// Ends the message that is being written, if one is.
    pub(super) fn close(&mut self, status: &str, frames: &mut Frames) {
        let Some(mut message) = self.open.take() else { return };
        let index = self.output.len();
        message.ranks.append(&mut self.ranks);
        if !self.ranked {
            message.ranks.clear();
        }
        let part = part(&message.text, message.ranks.clone());
        let place = |more: Value| {
            let mut event = json!({"item_id": message.id, "output_index": index, "content_index": 0});
            if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
                event.extend(more);
            }
            event
        };
        let done = place(json!({"text": message.text, "logprobs": message.ranks}));
        let part_done = place(json!({"part": part}));
        let item = message.item(status, vec![part]);
        self.tell(frames, "response.output_text.done", done);
        self.tell(frames, "response.content_part.done", part_done);
        self.output.push(item.clone());
        self.tell(frames, "response.output_item.done", json!({"output_index": index, "item": item}));
    }
}

impl Message {
    fn item(&self, status: &str, content: Vec<Value>) -> Value {
        json!({"type": "message", "id": self.id, "status": status, "role": "assistant", "content": content})
    }
}

fn part(text: &str, ranks: Vec<Value>) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": ranks})
}
