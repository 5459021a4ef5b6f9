//! [`Evaluator`]: graphs with `ai.onnx.ml` nodes, as scikit-learn's and gradient boosting's exporters make them.
//!
//! The ONNX runtime has none of these operators, so such a graph is computed here as a whole, node after node in
//! the order of the file. What contradicts itself is refused at load, by node and attribute. Each row's arithmetic
//! is its own: its result does not depend on the rows beside it.

mod attributes;
mod columns;
mod layout;
mod missing;
mod pointwise;
mod ports;
mod predictors;
mod products;
mod reductions;
mod shapes;
mod support;
mod text;
mod transform;
mod trees;
mod value;

use std::collections::{HashMap, HashSet};

use rten_onnx::onnx::{GraphProto, ModelProto, NodeProto};

use crate::onnx::{Extent, InspectedPort, Inspection, LoadError, RunError, initializer_texts};
use crate::{Signature, Tensor, Tensors};
use attributes::Attributes;
use value::{Array, Value};

/// The domain of the operators that this module is for.
const DOMAIN: &str = "ai.onnx.ml";

/// Whether an operator makes its graph one for this module.
pub(crate) fn is_for(domain: &str, operator: &str) -> bool {
    domain == DOMAIN || matches!(operator, "StringNormalizer" | "TfIdfVectorizer" | "Tokenizer")
}

/// Most nodes of a graph.
const NODES_MAX: usize = 10_000;

/// What is wrong with a node.
#[derive(Debug)]
struct Fault(String);

impl Fault {
    fn new(text: impl Into<String>) -> Fault {
        Fault(text.into())
    }

    /// The same, of an attribute.
    fn of(self, attribute: &str) -> Fault {
        Fault(format!("attribute `{attribute}`: {}", self.0))
    }
}

/// What a node does.
type Run = Box<dyn Fn(&Inputs<'_>) -> Result<Vec<Value>, Fault> + Send + Sync>;

/// Makes that of a node's attributes.
type Build = fn(&Attributes<'_>) -> Result<Run, Fault>;

/// The inputs of a node, in its order.
struct Inputs<'a>(Vec<Option<&'a Value>>);

impl<'a> Inputs<'a> {
    fn get(&self, at: usize) -> Result<&'a Value, Fault> {
        self.maybe(at).ok_or_else(|| Fault::new(format!("input {at} is missing")))
    }

    fn maybe(&self, at: usize) -> Option<&'a Value> {
        self.0.get(at).copied().flatten()
    }

    fn given(&self) -> impl Iterator<Item = &'a Value> {
        self.0.iter().copied().flatten()
    }
}

/// Class labels.
#[derive(Debug, Clone, PartialEq)]
enum Labels {
    Text(Vec<String>),
    Int(Vec<i64>),
}

impl Labels {
    fn len(&self) -> usize {
        match self {
            Labels::Text(v) => v.len(),
            Labels::Int(v) => v.len(),
        }
    }

    fn array(&self) -> Array {
        match self {
            Labels::Text(v) => Array::Text(v.clone()),
            Labels::Int(v) => Array::I64(v.clone()),
        }
    }

    fn names(&self) -> Vec<String> {
        match self {
            Labels::Text(v) => v.clone(),
            Labels::Int(v) => v.iter().map(i64::to_string).collect(),
        }
    }
}

/// A node, ready to run.
struct Node {
    /// For errors: `scaler` (Scaler).
    title: String,
    run: Run,
    inputs: Vec<Option<usize>>,
    outputs: Vec<Option<usize>>,
    /// Values that no later node looks at.
    done: Vec<usize>,
}

/// A graph with `ai.onnx.ml` nodes.
pub(crate) struct Evaluator {
    nodes: Vec<Node>,
    constants: Vec<(usize, Value)>,
    /// How many values there are, each in a place of its own.
    places: usize,
    inputs: Vec<(usize, ports::Kind)>,
    outputs: Vec<usize>,
    signature: Signature,
    notes: Vec<String>,
    classes: Option<Vec<String>>,
    /// Inputs that may have values missing.
    missing: HashSet<String>,
}

impl std::fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evaluator").field("signature", &self.signature).finish_non_exhaustive()
    }
}

/// Gives every value of a graph a place.
#[derive(Default)]
struct Places<'a>(HashMap<&'a str, usize>);

impl<'a> Places<'a> {
    fn add(&mut self, name: &'a str) -> Result<usize, LoadError> {
        let next = self.0.len();
        match self.0.insert(name, next) {
            None => Ok(next),
            Some(_) => Err(invalid(format!("value `{name}` is given twice"))),
        }
    }

    fn find(&self, name: &str, wanted_by: &str) -> Result<usize, LoadError> {
        let missing = || invalid(format!("{wanted_by}: value `{name}` is not there, or only computed later"));
        self.0.get(name).copied().ok_or_else(missing)
    }
}

impl Evaluator {
    /// The graph of a file that was inspected. `external` are the files that constants are kept in, by name.
    pub(crate) fn of(
        bytes: &[u8],
        inspection: &Inspection,
        external: &[(String, Vec<u8>)],
    ) -> Result<Evaluator, LoadError> {
        let model =
            ModelProto::parse_buf(bytes).map_err(|error| LoadError::NotOnnx { reason: error.to_string() })?;
        let opsets: HashMap<&str, i64> = model
            .opset_import
            .iter()
            .map(|opset| (domain(opset.domain.as_deref()), opset.version.unwrap_or_default()))
            .collect();
        let graph = model.graph.as_ref().ok_or_else(|| invalid("it has no graph".to_owned()))?;
        check_operators(graph)?;
        let mut places = Places::default();
        let mut texts = initializer_texts(bytes);
        let mut constants = Vec::new();
        for tensor in &graph.initializer {
            let name = tensor.name.as_deref().unwrap_or_default();
            let read = attributes::read_constant(tensor, texts.remove(name), external);
            let value = read.map_err(|fault| invalid(format!("constant `{name}`: {}", fault.0)))?;
            constants.push((places.add(name)?, value));
        }
        let ports = ports::Ports::of(inspection)?;
        let mut inputs = Vec::new();
        for (spec, kind) in ports.inputs.iter().zip(&ports.kinds) {
            inputs.push((places.add(&spec.name)?, *kind));
        }
        let mut nodes = Vec::with_capacity(graph.node.len());
        for proto in &graph.node {
            nodes.push(node(proto, &mut places, &opsets)?);
        }
        let find = |name: &String| places.find(name, "the graph's output");
        let outputs =
            inspection.outputs.iter().map(|port| find(&port.name)).collect::<Result<Vec<_>, _>>()?;
        let count = places.0.len();
        free(&mut nodes, &constants, &outputs, count);
        let classes = ports::classes(graph, &ports.outputs);
        let signature = Signature { inputs: ports.inputs, outputs: ports.outputs };
        Ok(Evaluator {
            nodes,
            constants,
            places: count,
            inputs,
            outputs,
            signature,
            notes: ports.notes,
            classes,
            missing: missing::inputs(graph),
        })
    }

    /// Whether values of an input may be missing, which is to say no numbers.
    pub(crate) fn takes_missing(&self, input: &str) -> bool {
        self.missing.contains(input)
    }

    pub(crate) fn signature(&self) -> &Signature {
        &self.signature
    }

    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The class labels, if the outputs are a label and a score for each class.
    pub(crate) fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }

    /// Runs the graph on inputs in the signature's order.
    pub(crate) fn run(&self, inputs: &[&Tensor]) -> Result<Tensors, RunError> {
        let mut values: Vec<Option<Value>> = vec![None; self.places];
        let mut constants: Vec<Option<&Value>> = vec![None; self.places];
        for (place, value) in &self.constants {
            if let Some(constant) = constants.get_mut(*place) {
                *constant = Some(value);
            }
        }
        for ((place, kind), tensor) in self.inputs.iter().zip(inputs) {
            let value = kind.value(tensor).map_err(|fault| failed("an input", fault))?;
            if let Some(slot) = values.get_mut(*place) {
                *slot = Some(value);
            }
        }
        for node in &self.nodes {
            let at = |place: usize| {
                values.get(place).and_then(Option::as_ref).or(constants.get(place).copied().flatten())
            };
            let inputs = Inputs(node.inputs.iter().map(|place| place.and_then(at)).collect());
            let outputs = (node.run)(&inputs).map_err(|fault| failed(&node.title, fault))?;
            for (place, output) in node.outputs.iter().zip(outputs) {
                if let Some(slot) = place.and_then(|place| values.get_mut(place)) {
                    *slot = Some(output);
                }
            }
            for &place in &node.done {
                if let Some(slot) = values.get_mut(place) {
                    *slot = None;
                }
            }
        }
        let mut outputs = Tensors::with_capacity(self.outputs.len());
        for (place, spec) in self.outputs.iter().zip(&self.signature.outputs) {
            let value =
                values.get(*place).and_then(Option::as_ref).or(constants.get(*place).copied().flatten());
            let value = value.ok_or_else(|| failed("the graph", Fault::new("an output was not computed")))?;
            let tensor = ports::tensor(value, spec).map_err(|fault| failed("an output", fault))?;
            outputs.push((spec.name.clone(), tensor));
        }
        if let Some(classes) = &self.classes
            && let Some((name, scores)) = outputs.iter().find(|(_, tensor)| tensor.as_f32().is_some())
            && scores.row_len() != classes.len()
        {
            let (scores, classes) = (scores.row_len(), classes.len());
            let fault = Fault::new(format!("`{name}` has {scores} scores for {classes} classes"));
            return Err(failed("the graph", fault));
        }
        Ok(outputs)
    }
}

fn node<'a>(
    proto: &'a NodeProto,
    places: &mut Places<'a>,
    opsets: &HashMap<&str, i64>,
) -> Result<Node, LoadError> {
    let title = title(proto);
    let of = domain(proto.domain.as_deref());
    let build = build(of, proto.op_type.as_deref().unwrap_or_default());
    let build = build.ok_or_else(|| LoadError::UnsupportedOperators { operators: vec![operator(proto)] })?;
    let attributes = Attributes::of(proto, opsets.get(of).copied().unwrap_or_default());
    let run = build(&attributes).and_then(|run| attributes.finish().map(|()| run));
    let run = run.map_err(|fault| invalid(format!("node {title}: {}", fault.0)))?;
    let find = |name: &'a String| match name.as_str() {
        "" => Ok(None),
        name => places.find(name, &format!("node {title}")).map(Some),
    };
    let inputs = proto.input.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let add = |name: &'a String| match name.as_str() {
        "" => Ok(None),
        name => places.add(name).map(Some),
    };
    let outputs = proto.output.iter().map(add).collect::<Result<Vec<_>, _>>()?;
    Ok(Node { title, run, inputs, outputs, done: Vec::new() })
}

/// Notes at each node which values no later one looks at.
fn free(nodes: &mut [Node], constants: &[(usize, Value)], outputs: &[usize], places: usize) {
    let mut needed = vec![false; places];
    let kept = constants.iter().map(|(place, _)| place).chain(outputs);
    for &place in kept {
        if let Some(needed) = needed.get_mut(place) {
            *needed = true;
        }
    }
    for node in nodes.iter_mut().rev() {
        for &place in node.inputs.iter().chain(&node.outputs).flatten() {
            if let Some(needed) = needed.get_mut(place)
                && !std::mem::replace(needed, true)
            {
                node.done.push(place);
            }
        }
    }
}

/// Refuses graphs that are too large or use operators that are not here.
fn check_operators(graph: &GraphProto) -> Result<(), LoadError> {
    if graph.node.len() > NODES_MAX {
        return Err(invalid(format!("it has {} nodes, more than {NODES_MAX}", graph.node.len())));
    }
    let known = |node: &&NodeProto| {
        build(domain(node.domain.as_deref()), node.op_type.as_deref().unwrap_or_default()).is_some()
    };
    let mut operators: Vec<String> = graph.node.iter().filter(|node| !known(node)).map(operator).collect();
    operators.sort();
    operators.dedup();
    match operators.is_empty() {
        true => Ok(()),
        false => Err(LoadError::UnsupportedOperators { operators }),
    }
}

/// The domain by one of its names.
fn domain(name: Option<&str>) -> &str {
    match name {
        None | Some("ai.onnx") => "",
        Some(name) => name,
    }
}

fn operator(node: &NodeProto) -> String {
    let name = node.op_type.as_deref().unwrap_or_default();
    match domain(node.domain.as_deref()) {
        "" => name.to_owned(),
        domain => format!("{name} ({domain})"),
    }
}

fn title(node: &NodeProto) -> String {
    let name = node.name.as_deref().filter(|name| !name.is_empty());
    let name = name.or(node.output.first().map(String::as_str)).unwrap_or_default();
    format!("`{name}` ({})", node.op_type.as_deref().unwrap_or_default())
}

fn invalid(reason: String) -> LoadError {
    LoadError::Invalid { reason }
}

fn failed(title: &str, fault: Fault) -> RunError {
    RunError::Failed { reason: format!("{title}: {}", fault.0) }
}

/// What builds the node of an operator.
fn build(domain: &str, operator: &str) -> Option<Build> {
    Some(match (domain, operator) {
        (DOMAIN, "ArrayFeatureExtractor") => columns::feature_extractor,
        (DOMAIN, "Binarizer") => columns::binarizer,
        (DOMAIN, "CategoryMapper") => columns::category_mapper,
        (DOMAIN, "FeatureVectorizer") => columns::feature_vectorizer,
        (DOMAIN, "Imputer") => columns::imputer,
        (DOMAIN, "LabelEncoder") => columns::label_encoder,
        (DOMAIN, "LinearClassifier") => predictors::linear_classifier,
        (DOMAIN, "LinearRegressor") => predictors::linear_regressor,
        (DOMAIN, "Normalizer") => columns::normalizer,
        (DOMAIN, "OneHotEncoder") => columns::one_hot,
        (DOMAIN, "SVMClassifier") => support::classifier,
        (DOMAIN, "SVMRegressor") => support::regressor,
        (DOMAIN, "Scaler") => columns::scaler,
        (DOMAIN, "TreeEnsemble") => predictors::tree_ensemble,
        (DOMAIN, "TreeEnsembleClassifier") => predictors::tree_classifier,
        (DOMAIN, "TreeEnsembleRegressor") => predictors::tree_regressor,
        (DOMAIN, "ZipMap") => ports::zip_map,
        ("com.microsoft", "Tokenizer") => text::tokenizer,
        ("", "Abs") => pointwise::abs,
        ("", "Add" | "Sum") => pointwise::add,
        ("", "And") => pointwise::and,
        ("", "ArgMax") => reductions::arg_max,
        ("", "ArgMin") => reductions::arg_min,
        ("", "Cast") => shapes::cast,
        ("", "Ceil") => pointwise::ceil,
        ("", "Clip") => pointwise::clip,
        ("", "Concat") => shapes::concat,
        ("", "Constant") => shapes::constant,
        ("", "Div") => pointwise::div,
        ("", "Equal") => pointwise::equal,
        ("", "Exp") => pointwise::exp,
        ("", "Flatten") => shapes::flatten,
        ("", "Floor") => pointwise::floor,
        ("", "Gather") => shapes::gather,
        ("", "Gemm") => products::gemm,
        ("", "Greater") => pointwise::greater,
        ("", "GreaterOrEqual") => pointwise::greater_or_equal,
        ("", "Identity") => shapes::identity,
        ("", "IsNaN") => pointwise::is_nan,
        ("", "Less") => pointwise::less,
        ("", "LessOrEqual") => pointwise::less_or_equal,
        ("", "Log") => pointwise::log,
        ("", "LogSoftmax") => reductions::log_soft_max,
        ("", "MatMul") => products::mat_mul,
        ("", "Max") => pointwise::max,
        ("", "Min") => pointwise::min,
        ("", "Mul") => pointwise::mul,
        ("", "Neg") => pointwise::neg,
        ("", "Not") => pointwise::not,
        ("", "Or") => pointwise::or,
        ("", "Pow") => pointwise::pow,
        ("", "Reciprocal") => pointwise::reciprocal,
        ("", "ReduceL1") => reductions::reduce_l1,
        ("", "ReduceL2") => reductions::reduce_l2,
        ("", "ReduceLogSumExp") => reductions::reduce_log_sum_exp,
        ("", "ReduceMax") => reductions::reduce_max,
        ("", "ReduceMean") => reductions::reduce_mean,
        ("", "ReduceMin") => reductions::reduce_min,
        ("", "ReduceSum") => reductions::reduce_sum,
        ("", "ReduceSumSquare") => reductions::reduce_sum_square,
        ("", "Relu") => pointwise::relu,
        ("", "Reshape") => shapes::reshape,
        ("", "Shape") => shapes::shape,
        ("", "Sigmoid") => pointwise::sigmoid,
        ("", "Sign") => pointwise::sign,
        ("", "Softmax") => reductions::soft_max,
        ("", "Sqrt") => pointwise::sqrt,
        ("", "Squeeze") => shapes::squeeze,
        ("", "StringNormalizer") => text::normalizer,
        ("", "Sub") => pointwise::sub,
        ("", "Tanh") => pointwise::tanh,
        ("", "TfIdfVectorizer") => text::counts,
        ("", "Transpose") => shapes::transpose,
        ("", "Unsqueeze") => shapes::unsqueeze,
        ("", "Where") => pointwise::choose,
        _ => return None,
    })
}
