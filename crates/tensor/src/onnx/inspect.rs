//! [`Inspection`]: one careful walk over a model file before the runtime parses it.
//!
//! The runtime's parser allocates what a length claims and recurses as deep as a file nests; after this
//! walk both are bounded by the file. The walk also collects what the runtime does not tell: the
//! declared types, the operators, the files that weights are kept in.

use std::collections::{BTreeSet, HashMap};

use rten_onnx::onnx::DataType as Element;

use super::wire::{Fields, Held, Malformed};

/// Deepest nesting of graphs in graphs and of types in types.
const DEPTH_MAX: usize = 16;

/// Largest magnitude of a window size, stride, dilation or padding.
const WINDOW_MAX: i64 = 65_535;

/// Most messages in a file: the parser makes up to a kilobyte of each, however short it is.
const MESSAGES_MAX: usize = 1_000_000;

/// Most cells that padding may make of one cell.
const PADDED_CELLS_MAX: i64 = 1 << 24;

/// Most elements of a value whose size is written in the file.
const ELEMENTS_MAX: i64 = 1 << 30;

/// Longest chain of operators: the runtime plans by recursion.
const CHAIN_MAX: usize = 4_000;

/// What a model file says about itself.
#[derive(Debug, Default)]
pub(crate) struct Inspection {
    /// Declared inputs, initialised ones included.
    pub(crate) inputs: Vec<Port>,
    /// Declared outputs.
    pub(crate) outputs: Vec<Port>,
    /// Names of the constants of the main graph.
    pub(crate) initializers: BTreeSet<String>,
    /// Operators used anywhere, as `(domain, name)`.
    pub(crate) operators: BTreeSet<(String, String)>,
    /// Files that weights are kept in.
    pub(crate) external: BTreeSet<String>,
    /// Version of ONNX's own operators; 0 if it is not said.
    pub(crate) opset: i64,
    /// Whether a `Conv` leaves its window to be inferred from its weights.
    pub(crate) bare_conv: bool,
    has_graph: bool,
    messages: usize,
}

/// An input or output as declared.
#[derive(Debug, Default, Clone)]
pub(crate) struct Port {
    pub(crate) name: String,
    /// Element type, if it is a tensor.
    pub(crate) element: Option<Element>,
    /// Dimensions, if the rank is known.
    pub(crate) dims: Option<Vec<Extent>>,
}

/// A declared dimension.
#[derive(Debug, Default, Clone)]
pub(crate) enum Extent {
    /// Nothing is known.
    #[default]
    Unknown,
    /// A size of this name.
    Named(String),
    /// This size.
    Fixed(usize),
}

/// Why a file is refused.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) String);

impl From<Malformed> for Refused {
    fn from(_: Malformed) -> Self {
        Refused("it is damaged or cut short".to_owned())
    }
}

impl Inspection {
    /// Walks over the bytes of a `ModelProto`.
    pub(crate) fn of(bytes: &[u8]) -> Result<Inspection, Refused> {
        let mut inspection = Inspection::default();
        for field in Fields(bytes) {
            match field? {
                (7, held) => {
                    inspection.has_graph = true;
                    inspection.graph(held.bytes()?, true, 0)?;
                }
                (2 | 3 | 4 | 6, held) => {
                    held.text()?;
                }
                (8, held) => inspection.opset = inspection.opset.max(own_opset(held)?),
                _ => {}
            }
        }
        match inspection.has_graph {
            true if !inspection.outputs.is_empty() => Ok(inspection),
            true => Err(Refused("its graph has no outputs".to_owned())),
            false => Err(Refused("it has no graph".to_owned())),
        }
    }

    /// Whether the model uses one of the operators called `names`, in any domain.
    pub(crate) fn uses(&self, names: &[&str]) -> bool {
        self.operators.iter().any(|(_, name)| names.contains(&name.as_str()))
    }

    /// The name of the first dimension of an input, if it is named.
    pub(crate) fn batch_name(&self, input: &str) -> Option<&str> {
        let port = self.inputs.iter().find(|port| port.name == input)?;
        match port.dims.as_ref()?.first()? {
            Extent::Named(name) => Some(name),
            Extent::Fixed(_) | Extent::Unknown => None,
        }
    }

    fn graph(&mut self, bytes: &[u8], main: bool, depth: usize) -> Result<(), Refused> {
        if depth > DEPTH_MAX {
            return Err(Refused(format!("its graphs nest deeper than {DEPTH_MAX}")));
        }
        let mut chain = Chain::default();
        let mut sizes = Sizes::default();
        for field in Fields(bytes) {
            let (number, held) = field?;
            self.messages += 1;
            if self.messages > MESSAGES_MAX {
                return Err(Refused(format!("it has more than {MESSAGES_MAX} parts")));
            }
            match number {
                1 => {
                    self.node(held.bytes()?, depth)?;
                    chain.extend(held.bytes()?)?;
                    sizes.note_node(held.bytes()?)?;
                }
                5 => {
                    sizes.note_constant(held.bytes()?)?;
                    let name = self.tensor(held.bytes()?)?;
                    if main {
                        self.initializers.insert(name);
                    }
                }
                11..=13 => {
                    let port = port(held.bytes()?)?;
                    match number {
                        11 if main => self.inputs.push(port),
                        12 if main => self.outputs.push(port),
                        _ => {}
                    }
                }
                15 => return Err(Refused("it has sparse weights, which are not supported".to_owned())),
                _ => {}
            }
        }
        sizes.check()
    }

    fn node(&mut self, bytes: &[u8], depth: usize) -> Result<(), Refused> {
        let (mut op, mut domain, mut windowed) = ("", "", false);
        for field in Fields(bytes) {
            let (number, held) = field?;
            match number {
                1..=3 => drop(held.text()?),
                4 => op = held.text()?,
                5 => {
                    self.messages += 1;
                    windowed |= self.attribute(held.bytes()?, depth)?;
                }
                7 => domain = held.text()?,
                _ => {}
            }
        }
        self.bare_conv |= op == "Conv" && !windowed;
        let operator = (domain.to_owned(), op.to_owned());
        self.operators.insert(operator);
        Ok(())
    }

    /// Returns whether the attribute is `kernel_shape`.
    fn attribute(&mut self, bytes: &[u8], depth: usize) -> Result<bool, Refused> {
        let (mut name, mut ints) = ("", Vec::new());
        for field in Fields(bytes) {
            let (number, held) = field?;
            match number {
                1 => name = held.text()?,
                4 | 9 => drop(held.bytes()?),
                5 | 10 => drop(self.tensor(held.bytes()?)?),
                6 | 11 => self.graph(held.bytes()?, false, depth + 1)?,
                8 => held.ints(|i| ints.push(i))?,
                _ => {}
            }
        }
        let window = matches!(name, "kernel_shape" | "strides" | "dilations" | "pads" | "output_padding");
        if window && let Some(extreme) = ints.iter().find(|i| i.saturating_abs() > WINDOW_MAX) {
            return Err(Refused(format!("an attribute `{name}` of {extreme} is beyond {WINDOW_MAX}")));
        }
        if name == "pads" && padded_cells(&ints) > PADDED_CELLS_MAX {
            return Err(Refused(format!("its padding of {ints:?} cells is beyond measure")));
        }
        Ok(name == "kernel_shape")
    }

    /// Returns the name of the tensor.
    fn tensor(&mut self, bytes: &[u8]) -> Result<String, Refused> {
        let (mut name, mut elements) = ("", Some(1i64));
        for field in Fields(bytes) {
            let (number, held) = field?;
            match number {
                1 => held.ints(|d| elements = elements.and_then(|n| n.checked_mul(d)).filter(|&n| n >= 0))?,
                8 => name = held.text()?,
                9 => drop(held.bytes()?),
                13 => self.external_entry(held.bytes()?)?,
                _ => {}
            }
        }
        match elements {
            Some(_) => Ok(name.to_owned()),
            None => Err(Refused(format!("tensor `{name}` has an impossible shape"))),
        }
    }

    fn external_entry(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let (mut key, mut value) = ("", "");
        for field in Fields(bytes) {
            match field? {
                (1, held) => key = held.text()?,
                (2, held) => value = held.text()?,
                _ => {}
            }
        }
        if key == "location" {
            self.external.insert(value.to_owned());
        }
        Ok(())
    }
}

/// What padding, all that is before the axes and then all after, makes of one cell. The sizes are bounded.
fn padded_cells(pads: &[i64]) -> i64 {
    let (before, after) = pads.split_at(pads.len() / 2);
    before.iter().zip(after).fold(1i64, |cells, (b, a)| cells.saturating_mul(1 + b.max(&0) + a.max(&0)))
}

/// Constants that say how large a value shall be. One that is computed escapes; the runtime has no limit.
#[derive(Default)]
struct Sizes<'a> {
    /// Names of values that are the size of another.
    used: Vec<&'a str>,
    /// Short lists of integers, and how many elements a value of this size has.
    known: HashMap<&'a str, i64>,
}

impl<'a> Sizes<'a> {
    fn note_node(&mut self, node: &'a [u8]) -> Result<(), Refused> {
        let (mut op, mut inputs) = ("", Vec::new());
        for field in Fields(node) {
            match field? {
                (1, held) => inputs.push(held.text()?),
                (4, held) => op = held.text()?,
                _ => {}
            }
        }
        let place = match op {
            "ConstantOfShape" => 0,
            "Expand" | "Tile" => 1,
            "Resize" => 3,
            _ => return Ok(()),
        };
        self.used.extend(inputs.get(place));
        Ok(())
    }

    fn note_constant(&mut self, tensor: &'a [u8]) -> Result<(), Refused> {
        const LONGEST: usize = 16;
        let (mut name, mut element, mut values) = ("", 0, Vec::new());
        for field in Fields(tensor) {
            match field? {
                (2, held) => element = held.int()?,
                (7, held) => held.ints(|i| values.push(i))?,
                (8, held) => name = held.text()?,
                (9, held) => {
                    let (raw, _) = held.bytes()?.as_chunks::<8>();
                    values.extend(raw.iter().take(LONGEST + 1).map(|&bytes| i64::from_le_bytes(bytes)));
                }
                _ => {}
            }
        }
        if element == i64::from(Element::INT64.0) && values.len() <= LONGEST {
            let elements = values.iter().fold(1i64, |n, &size| n.saturating_mul(size.max(1)));
            self.known.insert(name, elements);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Refused> {
        let sizes = self.used.iter().filter_map(|name| Some((name, self.known.get(name)?)));
        match sizes.into_iter().find(|(_, elements)| **elements > ELEMENTS_MAX) {
            Some((name, elements)) => Err(Refused(format!(
                "its value of size `{name}` has {elements} elements, beyond {ELEMENTS_MAX}"
            ))),
            None => Ok(()),
        }
    }
}

/// The longest chain of operators that leads to each value of a graph.
#[derive(Default)]
struct Chain<'a>(HashMap<&'a str, usize>);

impl<'a> Chain<'a> {
    /// Adds an operator, which must come after those that it depends on.
    fn extend(&mut self, node: &'a [u8]) -> Result<(), Refused> {
        let (mut length, mut outputs) = (1, Vec::new());
        for field in Fields(node) {
            match field? {
                (1, held) => length = length.max(1 + self.before(held.text()?)),
                (2, held) => outputs.push(held.text()?),
                _ => {}
            }
        }
        if length > CHAIN_MAX {
            return Err(Refused(format!("more than {CHAIN_MAX} operators depend on one another")));
        }
        for output in outputs.into_iter().filter(|name| !name.is_empty()) {
            if self.0.insert(output, length).is_some() {
                return Err(Refused(format!(
                    "value `{output}` is computed twice, or used before it is computed"
                )));
            }
        }
        Ok(())
    }

    /// The chain that leads to `value`. One that is not computed yet must not be computed later.
    fn before(&mut self, value: &'a str) -> usize {
        *self.0.entry(value).or_insert(0)
    }
}

fn port(bytes: &[u8]) -> Result<Port, Refused> {
    let mut port = Port::default();
    for field in Fields(bytes) {
        match field? {
            (1, held) => port.name = held.text()?.to_owned(),
            (2, held) => port_type(held.bytes()?, &mut port, 0)?,
            _ => {}
        }
    }
    Ok(port)
}

/// Reads a `TypeProto`, and walks through types within types.
fn port_type(bytes: &[u8], port: &mut Port, depth: usize) -> Result<(), Refused> {
    if depth > DEPTH_MAX {
        return Err(Refused(format!("its types nest deeper than {DEPTH_MAX}")));
    }
    for field in Fields(bytes) {
        match field? {
            (1, held) => {
                for field in Fields(held.bytes()?) {
                    match field? {
                        (1, held) if depth == 0 => port.element = Some(Element(held.int()? as i32)),
                        (2, held) => port.dims = Some(dims(held.bytes()?)?),
                        _ => {}
                    }
                }
            }
            (4, held) => {
                for field in Fields(held.bytes()?) {
                    if let (1, held) = field? {
                        port_type(held.bytes()?, port, depth + 1)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn dims(bytes: &[u8]) -> Result<Vec<Extent>, Refused> {
    let mut dims = Vec::new();
    for field in Fields(bytes) {
        let (1, held) = field? else { continue };
        let mut extent = Extent::Unknown;
        for field in Fields(held.bytes()?) {
            match field? {
                // Exporters write -1 and 0 for sizes that they do not know.
                (1, held) => match usize::try_from(held.int()?) {
                    Ok(size) if size > 0 => extent = Extent::Fixed(size),
                    _ => extent = Extent::Unknown,
                },
                (2, held) => match held.text()? {
                    "" => {}
                    name => extent = Extent::Named(name.to_owned()),
                },
                _ => {}
            }
        }
        dims.push(extent);
    }
    Ok(dims)
}

/// The version of an `OperatorSetIdProto`, or 0 if it is about other operators than ONNX's own.
fn own_opset(held: Held<'_>) -> Result<i64, Refused> {
    let (mut domain, mut version) = ("", 0);
    for field in Fields(held.bytes()?) {
        match field? {
            (1, held) => domain = held.text()?,
            (2, held) => version = held.int()?,
            _ => {}
        }
    }
    Ok(if matches!(domain, "" | "ai.onnx") { version } else { 0 })
}

/// The strings of constants by the constants' names, of a file that was inspected: the parser leaves them out.
pub(crate) fn initializer_texts(bytes: &[u8]) -> HashMap<String, Vec<String>> {
    let held = |bytes, wanted| {
        let all = Fields(bytes).filter_map(move |field| field.ok().filter(|(number, _)| *number == wanted));
        all.filter_map(|(_, held): (u64, Held<'_>)| held.bytes().ok())
    };
    let mut all = HashMap::new();
    for tensor in held(bytes, 7).flat_map(|graph| held(graph, 5)) {
        let texts: Vec<String> =
            held(tensor, 6).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
        if let (false, Some(name)) = (texts.is_empty(), held(tensor, 8).next()) {
            all.insert(String::from_utf8_lossy(name).into_owned(), texts);
        }
    }
    all
}
