//! From a graph to a [`Plan`]: constants laid out, what belongs together found.

mod attribute;
mod builder;
mod constant;
mod group;
mod window;

use std::collections::{HashMap, HashSet};

use rten_onnx::onnx::{GraphProto, ModelProto, NodeProto};

use super::Plan;
use super::shaping::Shaping;
use super::view::{Room, Value, View};
use builder::Builder;
use constant::{constant, of_attribute};
use group::Group;

impl Plan {
    /// The network as a plan over `inputs`, if it is one of those that gain by it. `external` are the files that weights
    /// are kept in, by name.
    pub(in super::super) fn of(
        bytes: &[u8],
        external: &[(String, Vec<u8>)],
        inputs: &[&str],
        outputs: &[&str],
    ) -> Option<Plan> {
        let model = ModelProto::parse_buf(bytes).ok()?;
        let opset =
            model.opset_import.iter().filter(|set| own(set.domain.as_deref())).find_map(|set| set.version)?;
        let graph = model.graph.as_ref()?;
        let mut constants = HashMap::new();
        for tensor in &graph.initializer {
            constants.insert(tensor.name.as_deref()?, constant(tensor, external)?);
        }
        for node in &graph.node {
            if let (Some("Constant"), [output]) = (node.op_type.as_deref(), &node.output[..]) {
                constants.insert(output, of_attribute(node, external)?);
            }
        }
        // Old exporters give a constant its shape in the graph.
        for node in graph.node.iter().filter(|node| node.op_type.as_deref() == Some("Reshape")) {
            let inputs: Vec<Option<&Value>> =
                node.input.iter().map(|name| constants.get(name.as_str())).collect();
            if inputs.iter().all(Option::is_some)
                && let ([output], Some(value)) =
                    (&node.output[..], Shaping::Reshape.run(&inputs, &mut Room::default()))
            {
                constants.insert(output, value);
            }
        }
        let mut sources = HashMap::new();
        let mut uses: HashMap<&str, Vec<usize>> = HashMap::new();
        for (i, node) in graph.node.iter().enumerate() {
            for output in &node.output {
                sources.insert(output.as_str(), i);
            }
            for input in node.input.iter().filter(|name| !name.is_empty()) {
                uses.entry(input).or_default().push(i);
            }
        }
        let mut compiler =
            Compiler { graph, opset, constants, sources, uses, kept: outputs.iter().copied().collect() };
        compiler.kept.extend(inputs);
        compiler.compile(inputs, outputs)
    }
}

/// Whether a domain is ONNX's own.
fn own(domain: Option<&str>) -> bool {
    matches!(domain, None | Some("" | "ai.onnx"))
}

struct Compiler<'a> {
    graph: &'a GraphProto,
    opset: i64,
    constants: HashMap<&'a str, Value>,
    /// Which node makes a value.
    sources: HashMap<&'a str, usize>,
    /// Which nodes take a value.
    uses: HashMap<&'a str, Vec<usize>>,
    /// Values that must be there by their names.
    kept: HashSet<&'a str>,
}

impl<'a> Compiler<'a> {
    fn compile(&self, inputs: &[&'a str], outputs: &[&'a str]) -> Option<Plan> {
        let mut groups: HashMap<usize, Group<'a>> = HashMap::new();
        let mut taken: HashSet<usize> = HashSet::new();
        let (mut attends, mut convolves) = (false, false);
        for i in 0..self.graph.node.len() {
            let group = match self.op(i) {
                "MatMul" => self.attention(i).inspect(|_| attends = true).or_else(|| self.dense(i)),
                "Gemm" => self.dense(i),
                "ReduceMean" => self.normalisation(i),
                "Conv" => self.convolution(i).inspect(|_| convolves = true),
                "Add" => self.hard_swish_alone(i),
                _ => self.gelu_alone(i),
            };
            let Some(group) = group else { continue };
            if group.nodes.iter().all(|node| !taken.contains(node)) {
                taken.extend(&group.nodes);
                groups.insert(*group.nodes.last()?, group);
            }
        }
        // Functions that the general runtime computes faster, in networks that may be made of little else.
        let slow = (0..self.graph.node.len()).any(|i| matches!(self.op(i), "Exp" | "Sigmoid" | "Tanh"));
        if !attends && (slow || !convolves) {
            return None;
        }
        let mut builder = Builder::new(self, inputs)?;
        for (i, node) in self.graph.node.iter().enumerate() {
            match groups.remove(&i) {
                Some(group) => builder.add_group(group, node.output.first()?)?,
                None if taken.contains(&i)
                    || self.output(i).is_some_and(|name| self.constants.contains_key(name)) => {}
                None => builder.add_node(node)?,
            }
        }
        builder.finish(outputs)
    }

    fn node(&self, i: usize) -> Option<&'a NodeProto> {
        self.graph.node.get(i)
    }

    fn op(&self, i: usize) -> &'a str {
        self.node(i)
            .filter(|node| own(node.domain.as_deref()))
            .and_then(|n| n.op_type.as_deref())
            .unwrap_or_default()
    }

    fn input(&self, node: usize, i: usize) -> Option<&'a str> {
        self.node(node)?.input.get(i).map(String::as_str).filter(|name| !name.is_empty())
    }

    fn output(&self, node: usize) -> Option<&'a str> {
        self.node(node)?.output.first().map(String::as_str)
    }

    /// The only node that takes a value, if nobody else wants it.
    fn only_use(&self, name: &str) -> Option<usize> {
        match self.uses.get(name)?[..] {
            [node] if !self.kept.contains(name) => Some(node),
            _ => None,
        }
    }

    /// The node that makes a value for one other alone, if it is of this kind.
    fn source(&self, name: &str, op: &str) -> Option<usize> {
        let node = *self.sources.get(name)?;
        (self.op(node) == op && self.only_use(name).is_some()).then_some(node)
    }

    fn numbers(&self, name: &str) -> Option<&View> {
        self.constants.get(name)?.numbers()
    }

    /// A constant of one number.
    fn number(&self, name: &str) -> Option<f32> {
        let view = self.numbers(name)?;
        if view.len() == 1 { view.slice()?.first().copied() } else { None }
    }

    /// The two inputs of a node, the one that is a constant number second.
    fn with_number(&self, node: usize) -> Option<(&'a str, f32)> {
        let (a, b) = (self.input(node, 0)?, self.input(node, 1)?);
        self.number(b).map(|b| (a, b)).or_else(|| self.number(a).map(|a| (b, a)))
    }
}
