//! [`Declared`]: instances of a model made elsewhere to its network's tensors, as the artifact says.

mod image;
mod table;
mod text;

use std::borrow::Cow;
use std::path::Path;

use formats::Value;
use formats::processing::Input;
use formats::rows::{RowBlock, RowFault};
use tensor::features::{Cell, ColumnKind, InputColumn};
use tensor::{Data, DataType, Dim, Signature, Tensor, TensorSpec, Tensors};

use crate::error::PredictError;

pub(crate) use image::ImageInput;
use table::TableInput;
use text::TextInput;

/// The most bytes of tensors that one request may become: what a request brings may be far smaller.
const TENSOR_BYTES_MAX: usize = 256 << 20;

/// What stands between instances and a network.
pub(crate) struct Declared {
    columns: Vec<InputColumn>,
    step: Step,
}

enum Step {
    Image(ImageInput),
    Text(TextInput),
    Table(TableInput),
}

/// An input of the network while rows are added.
pub(crate) struct Filling {
    name: String,
    /// The shape of a row.
    row: Vec<usize>,
    data: Data,
}

impl Declared {
    /// As `input` says, with the files that it names in `directory`, for a network of this signature.
    ///
    /// # Errors
    /// If it does not fit the network, or a file cannot be used.
    pub(crate) fn new(input: Input, directory: &Path, signature: &Signature) -> Result<Self, String> {
        let column = |name: &str, kind| InputColumn { name: name.to_owned(), kind };
        Ok(match input {
            Input::Image(image) => {
                let columns = vec![column(&image.name, ColumnKind::Image)];
                Declared { columns, step: Step::Image(ImageInput::new(image, signature)?) }
            }
            Input::Text(text) => {
                let columns = vec![column(&text.name, ColumnKind::Text)];
                Declared { columns, step: Step::Text(TextInput::new(text, directory, signature)?) }
            }
            Input::Table(table) => {
                let kind =
                    |categories: bool| if categories { ColumnKind::Category } else { ColumnKind::Number };
                let columns = table.columns.iter().map(|c| column(&c.name, kind(c.categories.is_some())));
                let columns = columns.collect();
                Declared { columns, step: Step::Table(TableInput::new(table, signature)?) }
            }
        })
    }

    /// The columns that instances have.
    pub(crate) fn columns(&self) -> &[InputColumn] {
        &self.columns
    }

    /// How pictures become rows, if instances are these.
    pub(crate) fn image(&self) -> Option<&ImageInput> {
        match &self.step {
            Step::Image(image) => Some(image),
            _ => None,
        }
    }

    /// The cell of a column that says nothing.
    pub(crate) fn nothing_known(&self, place: usize) -> Value {
        match &self.step {
            Step::Table(table) => table.nothing_known(place),
            _ => Value::Text(String::new()),
        }
    }

    /// The network's tensors of instances, a row each.
    pub(crate) fn tensors(&self, instances: &[Value]) -> Result<Tensors, PredictError> {
        self.check_size(instances.len())?;
        let mut filling = self.filling();
        for (index, instance) in instances.iter().enumerate() {
            let cells = self.cells(instance);
            let added = cells.and_then(|cells| self.append(&cells, &mut filling));
            added.map_err(|message| PredictError::BadInstance { index, message })?;
        }
        finish(filling, instances.len())
    }

    /// The network's tensors of the good rows of a table, by the columns' names, and what is wrong with the others.
    pub(crate) fn table(&self, block: &RowBlock) -> Result<(Tensors, Vec<RowFault>), PredictError> {
        let place = |column: &InputColumn| {
            let name = &column.name;
            let missing = || PredictError::BadRequest {
                message: format!("column `{name}` is missing; the model takes {}", self.taken()),
            };
            block.column(name).ok_or_else(missing)
        };
        let places = self.columns.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        self.check_size(block.rows())?;
        let (mut filling, mut faults) = (self.filling(), Vec::new());
        for row in 0..block.rows() {
            let cell = |place: &usize| match block.cell(row, *place) {
                "" => Cell::Missing,
                text => Cell::Text(text),
            };
            let cells: Vec<Cell<'_>> = places.iter().map(cell).collect();
            if let Err(reason) = self.append(&cells, &mut filling) {
                faults.push(RowFault { row: block.row_number(row), reason });
            }
        }
        let rows = block.rows() - faults.len();
        Ok((finish(filling, rows)?, faults))
    }

    /// The most rows that may be made at a time.
    pub(crate) fn rows_max(&self) -> usize {
        (TENSOR_BYTES_MAX / self.row_bytes().max(1)).max(1)
    }

    fn row_bytes(&self) -> usize {
        self.filling().iter().map(|input| 4 * input.row.iter().product::<usize>()).sum()
    }

    /// Refuses more rows than fit, before one is made.
    fn check_size(&self, rows: usize) -> Result<(), PredictError> {
        let max = self.rows_max();
        match rows <= max {
            true => Ok(()),
            false => Err(PredictError::BadRequest {
                message: format!(
                    "{rows} instances of {} bytes each for the network are more than {TENSOR_BYTES_MAX} bytes; send \
                     at most {max} at a time",
                    self.row_bytes()
                ),
            }),
        }
    }

    fn filling(&self) -> Vec<Filling> {
        match &self.step {
            Step::Image(image) => vec![image.filling()],
            Step::Text(text) => text.filling(),
            Step::Table(table) => vec![table.filling()],
        }
    }

    /// Adds a row, or leaves the inputs as they were.
    fn append(&self, cells: &[Cell<'_>], filling: &mut [Filling]) -> Result<(), String> {
        let only = cells.first().copied().unwrap_or(Cell::Missing);
        let name = self.columns.first().map_or("", |column| &column.name);
        match &self.step {
            Step::Image(image) => image.append(only, filling),
            Step::Text(text) => text.append(only, filling),
            Step::Table(table) => return table.append(cells, filling),
        }
        .map_err(|message| format!("`{name}`: {message}"))
    }

    /// The cells of an instance in the columns' order: an object by name, a list in order, or the one cell itself.
    fn cells<'a>(&self, instance: &'a Value) -> Result<Vec<Cell<'a>>, String> {
        let count = self.columns.len();
        let known = |name: &String| self.columns.iter().any(|column| column.name == *name);
        match instance {
            Value::Record(fields) if fields.iter().any(|(name, _)| known(name)) || !self.is_picture() => {
                if let Some((name, _)) = fields.iter().find(|(name, _)| !known(name)) {
                    let name: String = name.chars().take(80).collect();
                    return Err(format!(
                        "field `{name}` is not an input of the model, which takes {}",
                        self.taken()
                    ));
                }
                let cell = |column: &InputColumn| {
                    let missing = || format!("field `{}` is missing", column.name);
                    instance.get(&column.name).map(Cell::from).ok_or_else(missing)
                };
                self.columns.iter().map(cell).collect()
            }
            Value::List(list) if list.len() == count => Ok(list.iter().map(Cell::from).collect()),
            Value::Numbers(list) if list.len() == count => {
                Ok(list.iter().map(|n| Cell::Number(*n)).collect())
            }
            Value::List(_) | Value::Numbers(_) => {
                Err(format!("expected a list of {count}: {}", self.taken()))
            }
            only if count == 1 => Ok(vec![Cell::from(only)]),
            other => Err(format!("expected an object with {}, found {}", self.taken(), other.kind())),
        }
    }

    fn is_picture(&self) -> bool {
        matches!(self.step, Step::Image(_))
    }

    /// The columns, a few by name.
    fn taken(&self) -> String {
        const SHOWN: usize = 8;
        let names: Vec<String> = self.columns.iter().take(SHOWN).map(|c| format!("`{}`", c.name)).collect();
        let more = self.columns.len().saturating_sub(SHOWN);
        let tail = if more > 0 { Cow::Owned(format!(" and {more} more")) } else { Cow::Borrowed("") };
        format!("{}{tail}", names.join(", "))
    }
}

fn finish(filling: Vec<Filling>, rows: usize) -> Result<Tensors, PredictError> {
    let tensor = |input: Filling| {
        let shape = std::iter::once(rows).chain(input.row).collect();
        let tensor = Tensor::new(shape, input.data);
        let tensor =
            tensor.map_err(|e| PredictError::Failed { message: format!("`{}`: {e}", input.name) })?;
        Ok((input.name, tensor))
    };
    filling.into_iter().map(tensor).collect()
}

/// The input called `name`, or the only one.
fn find<'a>(signature: &'a Signature, name: Option<&str>) -> Result<&'a TensorSpec, String> {
    let listed =
        || signature.inputs.iter().take(8).map(|spec| format!("`{spec}`")).collect::<Vec<_>>().join(", ");
    match (signature.inputs.as_slice(), name) {
        ([only], None) => Ok(only),
        ([only], Some(name)) if only.name == name => Ok(only),
        ([_], Some(name)) => {
            Err(format!("`{name}` is not an input of the network, which takes {}", listed()))
        }
        _ => Err(format!("the network takes {}: one input can be made, not several", listed())),
    }
}

/// Whether an input takes rows of this shape, of numbers.
fn takes(spec: &TensorSpec, row: &[usize]) -> Result<(), String> {
    let fits = |(dim, n): (&Dim, &usize)| *dim == Dim::Any || *dim == Dim::Fixed(*n);
    let sized = spec.shape.len() == row.len() + 1 && spec.shape.iter().skip(1).zip(row).all(fits);
    match sized && spec.data_type != DataType::Text {
        true => Ok(()),
        false => Err(format!("it makes rows of shape {row:?}, which the input `{spec}` does not take")),
    }
}

#[cfg(test)]
mod tests;
