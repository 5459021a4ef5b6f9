//! A configuration to nodes: sequences and graphs of layers, networks within networks laid out flat.

use std::collections::HashMap;

use super::call::{Call, reference, text};
use super::read::{self, COUNT_MAX, Source};
use super::weights::{Budget, member, snake};
use super::{Elements, Input, KerasError, Layer, Model, Named, Node, Output, Place, operation};
use crate::Value;
use crate::hdf5::{File, Group};
use crate::spec::SpecError;
use crate::spec::fields::count_of;

/// The most layers of a network, and the most applications of them.
const LAYERS_MAX: usize = 4096;
pub(super) const NODES_MAX: usize = 16_384;
/// The most layers that look up words, and bytes of all these words.
const LOOKUPS_MAX: usize = 64;
pub(super) const WORDS_BYTES_MAX: usize = 32 << 20;
/// How deep networks lie within networks.
const DEPTH_MAX: usize = 16;
/// The most dimensions of an input.
const RANK_MAX: usize = 8;

/// Reads the network that `config` describes, with the weights in `file`.
pub(super) fn read(config: &Value, file: &File<'_>, words: &Words<'_>) -> Result<Model, KerasError> {
    let root = file.root()?;
    let mut builder = Builder {
        model: Model { inputs: Vec::new(), layers: Vec::new(), nodes: Vec::new(), outputs: Vec::new() },
        budget: Budget(file.byte_count()),
        words,
        lookups: 0,
        words_left: WORDS_BYTES_MAX,
        listed: 0,
        applied: 0,
    };
    let place = Within { group: Some(&root), path: "", depth: 0 };
    let network = builder.network("the model", config, &place)?;
    builder.finish(&network)?;
    Ok(builder.model)
}

/// A network whose layers have been read.
struct Network<'v> {
    /// For messages.
    at: String,
    form: Form<'v>,
}

enum Form<'v> {
    Sequence { input: Option<Input>, items: Vec<Item<'v>> },
    Graph(Graph<'v>),
}

struct Graph<'v> {
    layers: HashMap<String, Item<'v>>,
    inputs: Vec<(&'v str, Option<Input>)>,
    outputs: Vec<(String, Reference<'v>)>,
}

/// One of the layers of a network.
struct Item<'v> {
    name: String,
    /// For messages: its name and its class.
    at: String,
    value: &'v Value,
    applied: Applied<'v>,
}

/// What stands in a network: a layer, or another network.
enum Applied<'v> {
    Input,
    Layer(usize),
    Network(Box<Network<'v>>),
    /// One of `keras.ops`, by its class.
    Operation(&'v str),
}

/// The output of a layer's application.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Reference<'v> {
    pub(super) layer: &'v str,
    pub(super) node: usize,
    /// Which of the values that it gives.
    pub(super) tensor: usize,
}

/// What a layer is applied to.
struct Taken {
    inputs: Vec<Place>,
    masks: Vec<Option<Place>>,
    allowed: Option<Place>,
    causal: bool,
    scores: bool,
}

impl Taken {
    fn one(place: Place) -> Taken {
        Taken { inputs: vec![place], masks: Vec::new(), allowed: None, causal: false, scores: false }
    }
}

/// Gives the words that lie beside the layer at a path, if any do, or says why it cannot.
pub(super) type Words<'w> = dyn Fn(&str) -> Result<Option<String>, KerasError> + 'w;

/// Where the parts of a network are.
struct Within<'a, 'b> {
    group: Option<&'b Group<'a>>,
    /// The same, as names of files have it.
    path: &'b str,
    depth: usize,
}

struct Builder<'w> {
    model: Model,
    budget: Budget,
    words: &'w Words<'w>,
    /// Layers that look up words, and how many bytes of these may still be read.
    lookups: usize,
    words_left: usize,
    /// Layers in the lists of all networks.
    listed: usize,
    /// How often something has been applied.
    applied: usize,
}

impl Builder<'_> {
    /// Reads the layers of the network `value`, which is at `place`.
    fn network<'v>(
        &mut self,
        at: &str,
        value: &'v Value,
        place: &Within<'_, '_>,
    ) -> Result<Network<'v>, SpecError> {
        let wrong = |message: String| SpecError::new(at, message);
        let class = text(value, "class_name").unwrap_or_default();
        if !is_network(class) || !text(value, "module").is_none_or(of_keras) {
            return Err(wrong(format!(
                "`{class}` is not supported: only Sequential and Functional models are, of Keras' own layers; export \
                 it with `model.export(\"model.onnx\", format=\"onnx\")` and import that file"
            )));
        }
        let config = value.get("config").unwrap_or(&Value::Null);
        let layers = match config.get("layers") {
            Some(Value::List(layers)) => layers.as_slice(),
            _ => return Err(wrong("its `layers` cannot be read".to_owned())),
        };
        self.listed += layers.len();
        if place.depth > DEPTH_MAX || self.listed > LAYERS_MAX {
            return Err(wrong(format!(
                "it is within more than {DEPTH_MAX} networks, or these have more than {LAYERS_MAX} layers, the limits"
            )));
        }
        let weights = member(at, place.group, "layers")?;
        let path = format!("{}layers/", place.path);
        let place = Within { group: weights.as_ref(), path: &path, depth: place.depth };
        let mut counts = HashMap::new();
        let items = layers.iter().map(|layer| self.item(at, layer, &place, &mut counts));
        let items = items.collect::<Result<Vec<_>, _>>()?;
        let form = match class {
            "Sequential" => sequence(at, config, items)?,
            _ => Form::Graph(graph(at, config, items)?),
        };
        Ok(Network { at: at.to_owned(), form })
    }

    /// Reads one of the layers of a network `within`, whose layers are at `place`, the nth of its class.
    fn item<'v>(
        &mut self,
        within: &str,
        value: &'v Value,
        place: &Within<'_, '_>,
        counts: &mut HashMap<String, usize>,
    ) -> Result<Item<'v>, SpecError> {
        let class = text(value, "class_name");
        let class = class.ok_or_else(|| SpecError::new(within, "a layer of it has no `class_name`"))?;
        let config = value.get("config").unwrap_or(&Value::Null);
        let given = text(value, "name").or(text(config, "name")).filter(|name| !name.is_empty());
        // What Keras calls the first of a class to which nobody gave a name.
        let name = given.map_or_else(|| snake(class), str::to_owned);
        let at = format!("layer `{name}` ({class})");
        let module = text(value, "module").unwrap_or("keras.layers");
        let applied = match class {
            _ if module.starts_with("keras.src.ops") => Applied::Operation(class),
            "InputLayer" => Applied::Input,
            _ => {
                let nth = counts.entry(snake(class)).or_default();
                let saved = if *nth == 0 { snake(class) } else { format!("{}_{nth}", snake(class)) };
                *nth += 1;
                let own = member(&at, place.group, &saved)?;
                let path = format!("{}{saved}/", place.path);
                let own = Within { group: own.as_ref(), path: &path, depth: place.depth + 1 };
                match class {
                    _ if is_network(class) => Applied::Network(Box::new(self.network(&at, value, &own)?)),
                    _ if !of_keras(module) => return Err(read::unknown(&at)),
                    _ => Applied::Layer(self.layer(&at, class, config, &own)?),
                }
            }
        };
        Ok(Item { name, at, value, applied })
    }

    /// The words that lie beside the layer at `path`.
    fn words_at(&mut self, at: &str, path: &str) -> Result<Option<String>, SpecError> {
        self.lookups += 1;
        if self.lookups > LOOKUPS_MAX {
            let message = format!("more than {LOOKUPS_MAX} layers look up words, the limit");
            return Err(SpecError::new(at, message));
        }
        let words = (self.words)(path).map_err(|error| SpecError::new(at, format!("its words: {error}")))?;
        let left = self.words_left.checked_sub(words.as_ref().map_or(0, String::len));
        self.words_left = left.ok_or_else(|| {
            let message = format!("the words of all layers pass {WORDS_BYTES_MAX} bytes, the limit");
            SpecError::new(at, message)
        })?;
        Ok(words)
    }

    fn layer(
        &mut self,
        at: &str,
        class: &str,
        config: &Value,
        place: &Within<'_, '_>,
    ) -> Result<usize, SpecError> {
        let looks_up = matches!(class, "StringLookup" | "IntegerLookup" | "TextVectorization");
        let words = if looks_up { self.words_at(at, place.path)? } else { None };
        let vocabulary = words.as_deref();
        let source = Source { at: at.to_owned(), class, config, group: place.group, vocabulary };
        let layer = read::read(&source, &mut self.budget)?;
        self.model.layers.push(Named { name: at.to_owned(), layer });
        Ok(self.model.layers.len() - 1)
    }

    /// Applies the whole network to inputs of its own.
    fn finish(&mut self, network: &Network<'_>) -> Result<(), SpecError> {
        let inputs = match &network.form {
            Form::Sequence { input, .. } => input.iter().cloned().collect(),
            Form::Graph(graph) => {
                let own = |(_, input): &(&str, Option<Input>)| input.clone();
                graph.inputs.iter().filter_map(own).collect::<Vec<_>>()
            }
        };
        if inputs.is_empty() {
            return Err(SpecError::new(
                &network.at,
                "it has no inputs: call it on an example before it is saved",
            ));
        }
        let places: Vec<Place> = (0..inputs.len()).collect();
        self.model.inputs = inputs;
        self.model.outputs = self.apply(network, &places)?;
        Ok(())
    }

    /// Adds the nodes of `network` over `inputs`.
    fn apply(&mut self, network: &Network<'_>, inputs: &[Place]) -> Result<Vec<Output>, SpecError> {
        match &network.form {
            Form::Sequence { items, .. } => {
                let mut place = *single(&network.at, inputs)?;
                let mut name = "output".to_owned();
                for item in items {
                    place = *single(&item.at, &self.apply_one(item, &Value::Null, Taken::one(place))?)?;
                    name.clone_from(&item.name);
                }
                Ok(vec![Output { name, place }])
            }
            Form::Graph(graph) => self.apply_graph(&network.at, graph, inputs),
        }
    }

    /// Applies `item`, as `node` of the configuration says, to what it takes; gives the first value of a layer, all of a
    /// network.
    fn apply_one(&mut self, item: &Item<'_>, node: &Value, taken: Taken) -> Result<Vec<Place>, SpecError> {
        let at = &item.at;
        self.applied += 1;
        if self.applied > NODES_MAX {
            let message = format!("the model applies layers more than {NODES_MAX} times, the limit");
            return Err(SpecError::new(at, message));
        }
        let layer = match &item.applied {
            Applied::Layer(layer) => *layer,
            Applied::Operation(class) => {
                let config = item.value.get("config").unwrap_or(&Value::Null);
                let layer = operation::read(at, class, config, node)?;
                self.model.layers.push(Named { name: at.clone(), layer });
                self.model.layers.len() - 1
            }
            Applied::Network(network) => {
                let outputs = self.apply(network, &taken.inputs)?;
                return Ok(outputs.into_iter().map(|output| output.place).collect());
            }
            Applied::Input => return Err(SpecError::new(at, "an input cannot be applied")),
        };
        Ok(vec![self.node(layer, taken)])
    }

    /// Adds an application of a layer; gives the place of its value.
    fn node(&mut self, layer: usize, taken: Taken) -> Place {
        let Taken { inputs, masks, allowed, causal, scores } = taken;
        self.model.nodes.push(Node { layer, inputs, masks, allowed, causal, scores });
        self.model.inputs.len() + self.model.nodes.len() - 1
    }

    /// What `item` gave besides the value at `place`.
    fn part(&mut self, item: &Item<'_>, place: Place, number: usize) -> Result<Place, SpecError> {
        if !matches!(item.applied, Applied::Layer(_)) {
            return Err(SpecError::new(&item.at, format!("it gives no value number {number}")));
        }
        self.model.layers.push(Named { name: item.at.clone(), layer: Layer::Part { number } });
        Ok(self.node(self.model.layers.len() - 1, Taken::one(place)))
    }

    /// Adds the nodes that the graph's outputs need, each after what it takes.
    fn apply_graph(
        &mut self,
        at: &str,
        graph: &Graph<'_>,
        inputs: &[Place],
    ) -> Result<Vec<Output>, SpecError> {
        if inputs.len() != graph.inputs.len() {
            let (found, wanted) = (inputs.len(), graph.inputs.len());
            return Err(SpecError::new(at, format!("it takes {wanted} inputs, not {found}")));
        }
        let mut done: HashMap<Reference<'_>, Option<Place>> = HashMap::new();
        for ((name, _), place) in graph.inputs.iter().zip(inputs) {
            done.insert(Reference { layer: name, node: 0, tensor: 0 }, Some(*place));
        }
        let mut open: Vec<Reference<'_>> =
            graph.outputs.iter().rev().map(|(_, reference)| *reference).collect();
        while let Some(&next) = open.last() {
            if matches!(done.get(&next), Some(Some(_))) {
                open.pop();
                continue;
            }
            let call = graph.call(at, next)?;
            let missing: Vec<_> =
                call.needs().filter(|need| !matches!(done.get(need), Some(Some(_)))).collect();
            if missing.is_empty() {
                let place = |reference: &Reference<'_>| done.get(reference).copied().flatten();
                let item = graph.layers.get(next.layer).ok_or_else(|| lost(at, next.layer))?;
                let given = match place(&Reference { tensor: 0, ..next }) {
                    Some(first) => vec![first],
                    None => {
                        let inputs = call.inputs.iter().filter_map(place).collect();
                        let masks = call.masks.iter().map(|mask| mask.as_ref().and_then(place)).collect();
                        let allowed = call.allowed.as_ref().and_then(place);
                        self.apply_one(
                            item,
                            call.node,
                            Taken { inputs, masks, allowed, causal: call.causal, scores: call.scores },
                        )?
                    }
                };
                for (tensor, place) in given.iter().enumerate() {
                    done.insert(Reference { tensor, ..next }, Some(*place));
                }
                if next.tensor >= given.len() {
                    let first = given.first().ok_or_else(|| lost(at, next.layer))?;
                    done.insert(next, Some(self.part(item, *first, next.tensor)?));
                }
                open.pop();
            } else if done.insert(next, None).is_some() {
                // Seen before, and still waiting for itself.
                let message = format!("its layers form a circle at `{}`", next.layer);
                return Err(SpecError::new(at, message));
            } else {
                open.extend(missing);
            }
        }
        let output = |(name, reference): &(String, Reference<'_>)| {
            let place = done.get(reference).copied().flatten().ok_or_else(|| lost(at, reference.layer))?;
            Ok(Output { name: name.clone(), place })
        };
        graph.outputs.iter().map(output).collect()
    }
}

impl<'v> Item<'v> {
    /// Application number `place`, as the configuration has it.
    fn node(&self, place: usize) -> Option<&'v Value> {
        let Some(Value::List(nodes)) = self.value.get("inbound_nodes") else { return None };
        nodes.get(place)
    }

    /// `reference` to one of its applications where these are counted from 1, as those of a graph are: number 0 is the
    /// graph as it was first made, of its own inputs.
    fn counted_from_one<'r>(&self, reference: Reference<'r>) -> Reference<'r> {
        match &self.applied {
            Applied::Network(network) if matches!(network.form, Form::Graph(_)) => {
                Reference { node: reference.node.saturating_sub(1), ..reference }
            }
            _ => reference,
        }
    }
}

impl<'v> Graph<'v> {
    /// What the application `reference` takes.
    fn call(&self, at: &str, reference: Reference<'v>) -> Result<Call<'v>, SpecError> {
        let item = self.layers.get(reference.layer).ok_or_else(|| lost(at, reference.layer))?;
        let node = item.node(reference.node).ok_or_else(|| lost(at, reference.layer))?;
        let mut call = Call::read(&item.at, node, matches!(item.applied, Applied::Operation(_)))?;
        let attention = ["Attention", "AdditiveAttention", "MultiHeadAttention"];
        if let Value::List(_) = node {
            // As Keras 2 writes it.
            for input in &mut call.inputs {
                let item = self.layers.get(input.layer);
                *input = item.map_or(*input, |item| item.counted_from_one(*input));
            }
        }
        if call.masks.len() > 1 && !text(item.value, "class_name").is_some_and(|c| attention.contains(&c)) {
            // Of those of several inputs, merging takes no notice.
            call.masks.clear();
        }
        Ok(call)
    }
}

/// The layers of a sequence and what it takes, where it says that.
fn sequence<'v>(at: &str, config: &Value, items: Vec<Item<'v>>) -> Result<Form<'v>, SpecError> {
    let (inputs, items): (Vec<_>, Vec<_>) =
        items.into_iter().partition(|item| matches!(item.applied, Applied::Input));
    let input = match (inputs.first(), config.get("build_input_shape")) {
        (Some(first), _) => Some(input_of(first)?),
        (None, Some(shape)) => {
            Some(Input { name: "input".to_owned(), shape: row_shape(at, shape)?, elements: Elements::Floats })
        }
        (None, None) => None,
    };
    Ok(Form::Sequence { input, items })
}

/// The layers of a graph by name, and its ends.
fn graph<'v>(at: &str, config: &'v Value, items: Vec<Item<'v>>) -> Result<Graph<'v>, SpecError> {
    let (mut layers, mut named) = (HashMap::new(), HashMap::new());
    for item in items {
        if matches!(item.applied, Applied::Input) {
            named.insert(item.name.clone(), input_of(&item)?);
        }
        if let Some(twice) = layers.insert(item.name.clone(), item) {
            return Err(SpecError::new(at, format!("two of its layers are called `{}`", twice.name)));
        }
    }
    let ends = |side: &str| {
        let missing = || SpecError::new(at, format!("its `{side}` cannot be read"));
        let mut ends = Vec::new();
        references(config.get(side).ok_or_else(missing)?, None, &mut ends).ok_or_else(missing)?;
        Ok::<_, SpecError>(ends)
    };
    let inputs = ends("input_layers")?;
    let inputs =
        inputs.into_iter().map(|(_, reference)| (reference.layer, named.get(reference.layer).cloned()));
    let mut outputs: Vec<(String, Reference<'_>)> = Vec::new();
    for (key, reference) in ends("output_layers")? {
        let item = layers.get(reference.layer);
        let reference = item.map_or(reference, |item| item.counted_from_one(reference));
        let name = key.unwrap_or(reference.layer).to_owned();
        let same = outputs
            .iter()
            .filter(|(other, _)| *other == name || other.starts_with(&format!("{name}:")))
            .count();
        outputs.push((if same > 0 { format!("{name}:{same}") } else { name }, reference));
    }
    Ok(Graph { layers, inputs: inputs.collect(), outputs })
}

/// Adds `[layer, node, tensor]`, alone, in lists or under names, to `found`.
fn references<'v>(
    value: &'v Value,
    key: Option<&'v str>,
    found: &mut Vec<(Option<&'v str>, Reference<'v>)>,
) -> Option<()> {
    match value {
        Value::List(list) => match reference(list) {
            Some(one) => found.push((key, one)),
            None => list.iter().try_for_each(|value| references(value, key, found))?,
        },
        Value::Record(fields) => {
            fields.iter().try_for_each(|(name, value)| references(value, Some(name), found))?;
        }
        _ => return None,
    }
    Some(())
}

/// What an input layer says.
fn input_of(item: &Item<'_>) -> Result<Input, SpecError> {
    let at = &item.at;
    let config = item.value.get("config").unwrap_or(&Value::Null);
    for option in ["sparse", "ragged"] {
        if config.get(option) == Some(&Value::Bool(true)) {
            return Err(SpecError::new(at, format!("`{option}` inputs are not supported")));
        }
    }
    let shape = config.get("batch_shape").or(config.get("batch_input_shape"));
    let shape = row_shape(at, shape.ok_or_else(|| SpecError::new(at, "it has no `batch_shape`"))?)?;
    let elements = match text(config, "dtype") {
        None | Some("float32" | "float64" | "float16" | "bfloat16") => Elements::Floats,
        Some("string") => Elements::Texts,
        Some("int8" | "int16" | "int32" | "int64" | "uint8" | "uint16" | "uint32" | "uint64" | "bool") => {
            Elements::Integers
        }
        Some(other) => return Err(SpecError::new(at, format!("inputs of type `{other}` are not supported"))),
    };
    Ok(Input { name: item.name.clone(), shape, elements })
}

/// A shape without its first dimension, the batch.
fn row_shape(at: &str, value: &Value) -> Result<Vec<Option<usize>>, SpecError> {
    let dims = match value {
        Value::List(list) => list.clone(),
        Value::Numbers(numbers) => numbers.iter().map(|n| Value::Number(*n)).collect(),
        _ => Vec::new(),
    };
    let Some((_, row)) = dims.split_first().filter(|(_, row)| row.len() <= RANK_MAX) else {
        return Err(SpecError::new(at, format!("its shape must have 1 to {} dimensions", RANK_MAX + 1)));
    };
    let dim = |value: &Value| match value {
        Value::Null => Ok(None),
        value => count_of(at, value, 1, COUNT_MAX).map(Some),
    };
    row.iter().map(dim).collect()
}

fn is_network(class: &str) -> bool {
    matches!(class, "Sequential" | "Functional" | "Model")
}

/// Whether a class of this module is Keras' own.
fn of_keras(module: &str) -> bool {
    module == "keras" || module.starts_with("keras.")
}

fn single<'s, T>(at: &str, list: &'s [T]) -> Result<&'s T, SpecError> {
    match list {
        [only] => Ok(only),
        _ => Err(SpecError::new(at, "it must take and give one value each")),
    }
}

fn lost(at: &str, layer: &str) -> SpecError {
    SpecError::new(at, format!("it speaks of `{layer}`, which is not there"))
}
