//! [`Graph`]: an encoder that is an ONNX graph, beside the files that say how texts become its tokens and its numbers
//! a vector.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use formats::safetensors::{Config, Description};
use llm::encoder::{Input, Makes, Pooler};
use llm::tokenizer::Tokenizer;
use tensor::{Data, DataType, Dim, OnnxModel, RunError, Signature, Tensor, TensorSpec};

use crate::artifact::LoadError;

/// Tokens that a text may have where its files allow more: what lies between the layers grows with their square.
const TOKENS_MAX: usize = 2048;
/// Tokens that a text may have where no file says.
const TOKENS_UNSAID: usize = 512;
/// Families that count positions from the number after that of their padding, which is 1.
const COUNT_FROM_TWO: [&str; 5] = ["roberta", "xlm-roberta", "camembert", "mpnet", "longformer"];

/// A graph that takes tokens.
#[derive(Debug)]
pub(super) struct Graph {
    network: OnnxModel,
    about: Arc<About>,
}

/// How a graph is asked, and read.
#[derive(Debug)]
pub(super) struct About {
    takes: Vec<(String, Takes)>,
    output: String,
    gives: Gives,
    threads: usize,
}

/// What an input of the graph is about the tokens of a text.
#[derive(Debug, Clone, Copy)]
enum Takes {
    /// Which they are.
    Tokens,
    /// That they all count.
    Mask,
    /// Which text they are of.
    Segments,
    /// The same, of a model that does not tell texts apart.
    OneSegment,
    /// Where they stand.
    Positions,
}

impl Takes {
    fn named(name: &str) -> Option<Takes> {
        match name {
            "input_ids" => Some(Takes::Tokens),
            "attention_mask" => Some(Takes::Mask),
            "token_type_ids" => Some(Takes::Segments),
            "position_ids" => Some(Takes::Positions),
            _ => None,
        }
    }
}

/// What the graph gives of a text.
#[derive(Debug)]
enum Gives {
    /// A vector of so many numbers for each token.
    Tokens { pooler: Pooler, width: usize },
    /// One vector.
    Text { pooler: Pooler, width: usize },
    /// How well two texts go together.
    Score,
}

/// A graph that is an encoder's, with what its files say.
pub(crate) struct Encodes {
    pub(super) tokenizer: Tokenizer,
    pub(super) tokens_max: usize,
    takes: Vec<(String, Takes)>,
    output: String,
    gives: Gives,
}

impl Encodes {
    /// What the files in `dir`, or those beside the graph's own `file`, say of a graph of this signature. None where
    /// there are no such files, or the graph does something else than an encoder.
    pub(crate) fn read(dir: &Path, file: &Path, signature: &Signature) -> Result<Option<Encodes>, LoadError> {
        let places = [Some(dir), file.parent()];
        let Some(place) = places.into_iter().flatten().find(|place| Description::is_at(place)) else {
            return Ok(None);
        };
        let (Some(mut takes), Some((output, shape))) = (takes(signature), gives(signature)) else {
            return Ok(None);
        };
        let wrong = |source| LoadError::Language { file: "config.json".into(), source: Box::new(source) };
        let Description { config, tokenizer, sentence } =
            Description::read(place).map_err(|error| wrong(error.into()))?;
        let tokenizer =
            Tokenizer::new(&tokenizer).map_err(|error| wrong(llm::LoadError::Tokenizer(error.into())))?;
        let (tokens, rows) = (tokenizer.vocab_len(), config.vocab_size.map_or(usize::MAX, |n| n as usize));
        if tokens > rows {
            let message = format!("its tokenizer has {tokens} tokens, its embedding {rows}");
            return Err(wrong(llm::LoadError::Shape(message)));
        }
        if config.type_vocab_size.is_some_and(|kinds| kinds < 2) {
            let segments = takes.iter_mut().filter(|(_, takes)| matches!(takes, Takes::Segments));
            segments.for_each(|(_, takes)| *takes = Takes::OneSegment);
        }
        let pooler = Pooler::new(sentence.pooling, sentence.normalize).map_err(wrong)?;
        let width = |dim: Dim| match dim {
            Dim::Fixed(width) if width > 0 => Ok(width),
            _ => config.hidden_size.filter(|&width| width > 0).map(|width| width as usize).ok_or_else(|| {
                let wanted = "the width of its vectors, which the graph leaves open".to_owned();
                wrong(llm::LoadError::Metadata { key: "hidden_size".to_owned(), wanted })
            }),
        };
        let gives = match shape {
            Shape::Tokens(dim) => Gives::Tokens { pooler, width: width(dim)? },
            Shape::Text(dim) => Gives::Text { pooler, width: width(dim)? },
            Shape::Score => Gives::Score,
        };
        let tokens_max = tokens_max(&config, sentence.tokens_max);
        if tokens_max < 2 {
            let message = format!("texts of {tokens_max} tokens; 2 are their ends");
            return Err(wrong(llm::LoadError::Shape(message)));
        }
        Ok(Some(Encodes { tokenizer, tokens_max, takes, output, gives }))
    }

    pub(super) fn makes(&self) -> Makes {
        match self.gives {
            Gives::Tokens { width, .. } | Gives::Text { width, .. } => Makes::Vectors(width),
            Gives::Score => Makes::Scores,
        }
    }

    /// The graph itself, and what makes texts of tokens.
    pub(super) fn with(self, network: OnnxModel) -> (Tokenizer, Graph) {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let Encodes { tokenizer, takes, output, gives, .. } = self;
        (tokenizer, Graph::new(network, Arc::new(About { takes, output, gives, threads })))
    }
}

/// Tokens that a text may have.
fn tokens_max(config: &Config, asked: Option<u32>) -> usize {
    let before = if COUNT_FROM_TWO.contains(&config.model_type.as_str()) { 2 } else { 0 };
    let positions = config.max_position_embeddings.map(|positions| positions.saturating_sub(before));
    let said = [positions, asked].into_iter().flatten().min().map(|max| max as usize);
    said.unwrap_or(TOKENS_UNSAID).min(TOKENS_MAX)
}

/// What the inputs are, if they are all about the tokens of texts of any length.
fn takes(signature: &Signature) -> Option<Vec<(String, Takes)>> {
    let known = |spec: &TensorSpec| {
        let open = matches!(spec.shape[..], [Dim::Any | Dim::Fixed(1), Dim::Any]);
        let takes = Takes::named(&spec.name).filter(|_| open && spec.data_type == DataType::I32);
        takes.map(|takes| (spec.name.clone(), takes))
    };
    let takes: Vec<_> = signature.inputs.iter().map(known).collect::<Option<_>>()?;
    takes.iter().any(|(_, takes)| matches!(takes, Takes::Tokens)).then_some(takes)
}

/// The shape of what a graph gives, with the dimension of its vectors.
enum Shape {
    Tokens(Dim),
    Text(Dim),
    Score,
}

/// The output that counts, and its shape, by the names that exporters give.
fn gives(signature: &Signature) -> Option<(String, Shape)> {
    let floats = || signature.outputs.iter().filter(|spec| spec.data_type == DataType::F32);
    let named = |name: &str| floats().find(|spec| spec.name == name);
    let only = || floats().next().filter(|spec| floats().count() == 1 && spec.name != "logits");
    let vector = |spec: &TensorSpec| match spec.shape[..] {
        [_, width] => Some((spec.name.clone(), Shape::Text(width))),
        [_, _, width] => Some((spec.name.clone(), Shape::Tokens(width))),
        _ => None,
    };
    let vectors = || {
        named("sentence_embedding")
            .or_else(|| named("last_hidden_state"))
            .or_else(|| named("token_embeddings"))
            .or_else(only)
    };
    if let Some(found) = vectors().and_then(vector) {
        return Some(found);
    }
    let score = named("logits").filter(|spec| matches!(spec.shape[..], [_, Dim::Fixed(1)]))?;
    Some((score.name.clone(), Shape::Score))
}

impl Graph {
    /// The graph `network`, which is asked as `about` says.
    pub(super) fn new(network: OnnxModel, about: Arc<About>) -> Graph {
        Graph { network, about }
    }

    /// How it is asked.
    pub(super) fn about(&self) -> Arc<About> {
        Arc::clone(&self.about)
    }

    /// What it makes of each text. Each is computed by itself, several at once.
    pub(super) fn run(&self, texts: &[Input]) -> Result<Vec<Vec<f32>>, String> {
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Vec<f32>)>, String> {
            let mut made = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(text) = texts.get(at) else { return Ok(made) };
                made.push((at, self.one(text)?));
            }
        };
        let mut made = thread::scope(|scope| {
            let others: Vec<_> =
                (1..self.about.threads.min(texts.len())).map(|_| scope.spawn(work)).collect();
            let mut made = work()?;
            for other in others {
                made.extend(other.join().map_err(|_| "the model stopped on a defect".to_owned())??);
            }
            Ok::<_, String>(made)
        })?;
        made.sort_by_key(|(at, _)| *at);
        Ok(made.into_iter().map(|(_, vector)| vector).collect())
    }

    fn one(&self, text: &Input) -> Result<Vec<f32>, String> {
        if text.tokens.is_empty() {
            return Err("a text without a token has no vector".to_owned());
        }
        let inputs = self.about.takes.iter().map(|(name, takes)| Ok((name.clone(), tensor(*takes, text)?)));
        let inputs = inputs.collect::<Result<Vec<_>, tensor::ShapeError>>().map_err(|e| e.to_string())?;
        let outputs = self.network.run(&inputs).map_err(|error: RunError| error.to_string())?;
        let numbers = outputs.iter().find(|(name, _)| *name == self.about.output);
        let numbers = numbers.and_then(|(_, tensor)| tensor.as_f32()).unwrap_or_default();
        let wanted = match self.about.gives {
            Gives::Tokens { width, .. } => width * text.tokens.len(),
            Gives::Text { width, .. } => width,
            Gives::Score => 1,
        };
        if numbers.len() != wanted {
            let found = numbers.len();
            return Err(format!("the graph gives {found} numbers for a text where {wanted} are expected"));
        }
        Ok(match &self.about.gives {
            Gives::Tokens { pooler, width } => pooler.vector(numbers, *width),
            Gives::Text { pooler, width } => pooler.vector(numbers, *width),
            Gives::Score => numbers.to_vec(),
        })
    }
}

fn tensor(takes: Takes, text: &Input) -> Result<Tensor, tensor::ShapeError> {
    let len = text.tokens.len();
    let of = |value: &dyn Fn(usize) -> usize| (0..len).map(|at| value(at) as i32).collect();
    let values: Vec<i32> = match takes {
        Takes::Tokens => text.tokens.iter().map(|&token| token as i32).collect(),
        Takes::Mask => vec![1; len],
        Takes::OneSegment => vec![0; len],
        Takes::Segments => of(&|at| usize::from(at >= text.second_from)),
        Takes::Positions => of(&|at| at),
    };
    Tensor::new(vec![1, len], Data::I32(values))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn spec(name: &str, data_type: DataType, shape: &[Dim]) -> TensorSpec {
        TensorSpec { name: name.to_owned(), data_type, shape: shape.to_vec() }
    }

    fn inputs(names: &[&str], length: Dim) -> Option<usize> {
        let inputs = names.iter().map(|name| spec(name, DataType::I32, &[Dim::Any, length])).collect();
        takes(&Signature { inputs, outputs: Vec::new() }).map(|takes| takes.len())
    }

    #[test]
    fn graphs_of_tokens_are_known_by_their_inputs() {
        assert_eq!(inputs(&["input_ids", "attention_mask", "token_type_ids"], Dim::Any), Some(3));
        assert_eq!(inputs(&["input_ids"], Dim::Any), Some(1));
        assert_eq!(inputs(&["input_ids"], Dim::Fixed(128)), None);
        assert_eq!(inputs(&["input_ids", "pixel_values"], Dim::Any), None);
        assert_eq!(inputs(&["attention_mask"], Dim::Any), None);
    }

    #[test]
    fn what_a_graph_gives_is_known_by_names_and_shapes() {
        let of = |outputs: &[(&str, &[Dim])]| {
            let outputs = outputs.iter().map(|(name, shape)| spec(name, DataType::F32, shape)).collect();
            let found = gives(&Signature { inputs: Vec::new(), outputs })?;
            let kind = match found.1 {
                Shape::Tokens(_) => "tokens",
                Shape::Text(_) => "text",
                Shape::Score => "score",
            };
            Some((found.0, kind))
        };
        let (vector, states) = ([Dim::Any, Dim::Fixed(8)], [Dim::Any, Dim::Any, Dim::Fixed(8)]);
        let both: [(&str, &[Dim]); 2] = [("token_embeddings", &states), ("sentence_embedding", &vector)];
        assert_eq!(of(&both), Some(("sentence_embedding".to_owned(), "text")));
        let pooled: [(&str, &[Dim]); 2] = [("last_hidden_state", &states), ("pooler_output", &vector)];
        assert_eq!(of(&pooled), Some(("last_hidden_state".to_owned(), "tokens")));
        assert_eq!(of(&[("embedding", &vector)]), Some(("embedding".to_owned(), "text")));
        assert_eq!(of(&[("logits", &[Dim::Any, Dim::Fixed(1)])]), Some(("logits".to_owned(), "score")));
        assert_eq!(of(&[("logits", &vector)]), None);
        assert_eq!(of(&[("logits", &states)]), None);
    }

    #[test]
    fn a_text_is_as_long_as_every_file_allows() {
        let config = |model_type: &str, max_position_embeddings: Option<u32>| Config {
            model_type: model_type.to_owned(),
            max_position_embeddings,
            ..Config::default()
        };
        assert_eq!(tokens_max(&config("bert", Some(512)), Some(256)), 256);
        assert_eq!(tokens_max(&config("xlm-roberta", Some(514)), Some(8192)), 512);
        assert_eq!(tokens_max(&config("t5", None), None), TOKENS_UNSAID);
        assert_eq!(tokens_max(&config("bert", Some(8192)), None), TOKENS_MAX);
    }
}
