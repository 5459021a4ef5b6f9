//! [`Game`]: an instance as players that may be left out.

use std::ops::Range;

use analysis::shapley::Coalition;
use formats::Value;
use tensor::features::{ColumnKind, InputColumn};
use tensor::{Data, Tensor, Tensors};

use super::areas::Areas;
use super::front::Front;
use super::request::{Attribution, Explain, cut};
use super::{bad_baseline, bad_request, mismatch, no_rows};
use crate::declared::Declared;
use crate::error::PredictError;
use crate::model::Model;
use crate::plan::empty;

/// The most parts of an instance that are told apart.
const PLAYERS_MAX: usize = 4096;
/// The most tokens of a text that are told apart.
const TOKENS_MAX: usize = 1024;

/// An instance and its baseline, part by part.
pub(super) enum Game<'a> {
    /// Of a model that takes columns: these, and tokens within texts.
    Columns { front: &'a dyn Front, parts: Vec<Column> },
    /// Of a model made elsewhere that takes pictures: areas of one.
    Areas(Areas<'a>),
    /// Of another model: elements of its inputs.
    Elements { parts: Vec<Elements> },
}

/// A column of the instance.
pub(super) struct Column {
    name: String,
    own: Value,
    baseline: Value,
    /// The tokens of a text that takes part token by token.
    tokens: Option<Vec<Range<usize>>>,
    players: Range<usize>,
}

/// An input of a model made elsewhere.
pub(super) struct Elements {
    name: String,
    /// One row.
    own: Tensor,
    baseline: Data,
    /// The tokens of the only text.
    tokens: Option<Vec<Range<usize>>>,
    players: Range<usize>,
}

impl<'a> Game<'a> {
    /// The parts of `instance`, whose bound row is `inputs`.
    pub(super) fn new(
        model: &'a Model,
        instance: &Value,
        inputs: &Tensors,
        explain: &Explain,
    ) -> Result<Self, PredictError> {
        let picture = model.declared.as_ref().and_then(Declared::image);
        let game = match (&model.trained, &model.declared, picture) {
            (Some(trained), ..) => columns(trained, instance, explain)?,
            (None, Some(_), Some(image)) => Game::Areas(Areas::new(image, inputs, explain)?),
            (None, Some(declared), None) => columns(declared, instance, explain)?,
            (None, None, _) => elements(model, inputs, explain)?,
        };
        let players = game.players();
        if players > PLAYERS_MAX {
            return Err(bad_request(format!(
                "the instance has {players} parts; sampled Shapley values are computed for at most {PLAYERS_MAX}"
            )));
        }
        Ok(game)
    }

    pub(super) fn players(&self) -> usize {
        match self {
            Game::Columns { parts, .. } => parts.last().map_or(0, |p| p.players.end),
            Game::Areas(areas) => areas.count(),
            Game::Elements { parts } => parts.last().map_or(0, |p| p.players.end),
        }
    }

    /// The model's inputs, one row per coalition.
    pub(super) fn inputs(&self, coalitions: &[Coalition]) -> Result<Tensors, PredictError> {
        match self {
            Game::Areas(areas) => areas.inputs(coalitions),
            Game::Columns { front, parts } => {
                let instance = |c| Value::List(parts.iter().map(|part| part.value(*front, c)).collect());
                front.tensors(&coalitions.iter().map(instance).collect::<Vec<_>>())
            }
            Game::Elements { parts } => {
                parts.iter().map(|p| Ok((p.name.clone(), p.tensor(coalitions)?))).collect()
            }
        }
    }

    /// The players' values by column or input.
    pub(super) fn attributions(&self, values: &[f64]) -> Result<Vec<Attribution>, PredictError> {
        let attribution =
            |name: &String, text: &str, tokens: &Option<Vec<Range<usize>>>, players: &Range<usize>| {
                Attribution {
                    feature: name.clone(),
                    tokens: tokens.clone().map(|ranges| cut(text, ranges)),
                    values: values.get(players.clone()).unwrap_or_default().to_vec(),
                    heat_map: None,
                }
            };
        Ok(match self {
            Game::Areas(areas) => vec![areas.attribution(values)?],
            Game::Columns { parts, .. } => {
                parts.iter().map(|p| attribution(&p.name, text(&p.own), &p.tokens, &p.players)).collect()
            }
            Game::Elements { parts } => parts
                .iter()
                .map(|p| attribution(&p.name, only_text(p.own.data()), &p.tokens, &p.players))
                .collect(),
        })
    }
}

/// One value per column that stands for nothing known, or as the request says.
pub(super) fn baseline_cells(front: &dyn Front, explain: &Explain) -> Result<Vec<Value>, PredictError> {
    let columns = front.columns();
    explain.check_baselines(&columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>())?;
    let cell = |(place, column): (usize, &InputColumn)| match explain.baseline(&column.name) {
        Some(asked) => asked.clone(),
        None => front.nothing_known(place),
    };
    Ok(columns.iter().enumerate().map(cell).collect())
}

fn columns<'a>(front: &'a dyn Front, instance: &Value, explain: &Explain) -> Result<Game<'a>, PredictError> {
    let baselines = baseline_cells(front, explain)?;
    front.tensors(&[Value::List(baselines.clone())]).map_err(bad_baseline)?;
    let mut start = 0;
    let mut parts = Vec::with_capacity(baselines.len());
    for (place, (column, baseline)) in front.columns().iter().zip(baselines).enumerate() {
        let own = cell(front, instance, place);
        let by_token = column.kind == ColumnKind::Text && text(&baseline).is_empty();
        let tokens = if by_token { Some(bounded(front.text_tokens(text(&own)))?) } else { None };
        let players = start..start + tokens.as_ref().map_or(1, Vec::len);
        start = players.end;
        parts.push(Column { name: column.name.clone(), own, baseline, tokens, players });
    }
    Ok(Game::Columns { front, parts })
}

impl Column {
    fn value(&self, front: &dyn Front, coalition: &Coalition) -> Value {
        match &self.tokens {
            Some(_) => {
                let keep: Vec<bool> = self.players.clone().map(|p| coalition.contains(p)).collect();
                Value::Text(front.text_from_mask(text(&self.own), &keep))
            }
            None if coalition.contains(self.players.start) => self.own.clone(),
            None => self.baseline.clone(),
        }
    }
}

/// The value of column `place` in an instance that is known to fit.
pub(super) fn cell(front: &dyn Front, instance: &Value, place: usize) -> Value {
    let columns = front.columns();
    match instance {
        Value::Record(_) => {
            columns.get(place).and_then(|c| instance.get(&c.name)).cloned().unwrap_or(Value::Null)
        }
        Value::Numbers(_) | Value::List(_) => nth(instance, &mut { place }).unwrap_or(Value::Null),
        only => only.clone(),
    }
}

/// The leaf number `left` of nested lists.
fn nth(value: &Value, left: &mut usize) -> Option<Value> {
    match value {
        Value::Numbers(numbers) => {
            let found = numbers.get(*left).map(|n| Value::Number(*n));
            *left = left.saturating_sub(numbers.len());
            found
        }
        Value::List(values) => values.iter().find_map(|v| nth(v, left)),
        leaf if *left == 0 => Some(leaf.clone()),
        _ => {
            *left -= 1;
            None
        }
    }
}

/// What stands for nothing known of an input of a model made elsewhere, or as the request says; one row.
pub(super) fn baseline_elements(
    model: &Model,
    place: usize,
    name: &str,
    own: &Tensor,
    explain: &Explain,
) -> Result<Tensor, PredictError> {
    let baseline = match explain.baseline(name) {
        Some(asked) => model.bind_input(place, asked).map_err(bad_baseline)?,
        None => zeros(own.data()),
    };
    if baseline.len() != own.data().len() || baseline.data_type() != own.data().data_type() {
        let (asked, own) = (baseline.len(), own.data().len());
        return Err(bad_request(format!(
            "the baseline of `{name}` has {asked} elements, the instance {own}"
        )));
    }
    Tensor::new(own.shape().to_vec(), baseline).map_err(mismatch)
}

fn elements<'a>(model: &'a Model, inputs: &Tensors, explain: &Explain) -> Result<Game<'a>, PredictError> {
    explain.check_baselines(&inputs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())?;
    let mut start = 0;
    let mut parts = Vec::with_capacity(inputs.len());
    for (place, (name, own)) in inputs.iter().enumerate() {
        let (_, baseline) = baseline_elements(model, place, name, own, explain)?.into_parts();
        let by_token =
            own.data().len() == 1 && matches!(own.data(), Data::Text(_)) && only_text(&baseline).is_empty();
        let tokens = if by_token { Some(bounded(words(only_text(own.data())))?) } else { None };
        let players = start..start + tokens.as_ref().map_or(own.data().len(), Vec::len);
        start = players.end;
        parts.push(Elements { name: name.clone(), own: own.clone(), baseline, tokens, players });
    }
    Ok(Game::Elements { parts })
}

impl Elements {
    fn tensor(&self, coalitions: &[Coalition]) -> Result<Tensor, PredictError> {
        let mut data = empty(self.own.data().data_type(), self.own.data().len() * coalitions.len());
        for coalition in coalitions {
            self.append(coalition, &mut data).ok_or_else(no_rows)?;
        }
        let mut shape = self.own.shape().to_vec();
        if let Some(rows) = shape.first_mut() {
            *rows = coalitions.len();
        }
        Tensor::new(shape, data).map_err(mismatch)
    }

    fn append(&self, coalition: &Coalition, data: &mut Data) -> Option<()> {
        if let (Some(tokens), Data::Text(all)) = (&self.tokens, &mut *data) {
            let text = only_text(self.own.data());
            let kept = tokens.iter().zip(self.players.clone()).filter(|(_, p)| coalition.contains(*p));
            let kept: Vec<&str> = kept.filter_map(|(range, _)| text.get(range.clone())).collect();
            all.push(kept.join(" "));
            return Some(());
        }
        for (element, player) in self.players.clone().enumerate() {
            let from = if coalition.contains(player) { self.own.data() } else { &self.baseline };
            match (&mut *data, from) {
                (Data::F32(all), Data::F32(v)) => all.push(*v.get(element)?),
                (Data::I32(all), Data::I32(v)) => all.push(*v.get(element)?),
                (Data::Text(all), Data::Text(v)) => all.push(v.get(element)?.clone()),
                _ => return None,
            }
        }
        Some(())
    }
}

fn bounded(tokens: Vec<Range<usize>>) -> Result<Vec<Range<usize>>, PredictError> {
    if tokens.len() <= TOKENS_MAX {
        return Ok(tokens);
    }
    let message =
        format!("the text has {} tokens; explanations take at most {TOKENS_MAX}: shorten it", tokens.len());
    // The caller knows which instance this is.
    Err(PredictError::BadInstance { index: 0, message })
}

/// Runs of anything but white space.
pub(super) fn words(text: &str) -> Vec<Range<usize>> {
    let start = text.as_ptr() as usize;
    text.split_whitespace()
        .map(|word| {
            let at = word.as_ptr() as usize - start;
            at..at + word.len()
        })
        .collect()
}

fn zeros(data: &Data) -> Data {
    match data {
        Data::F32(v) => Data::F32(vec![0.0; v.len()]),
        Data::I32(v) => Data::I32(vec![0; v.len()]),
        Data::Text(v) => Data::Text(vec![String::new(); v.len()]),
    }
}

pub(super) fn text(value: &Value) -> &str {
    match value {
        Value::Text(text) => text,
        _ => "",
    }
}

fn only_text(data: &Data) -> &str {
    match data {
        Data::Text(v) => v.first().map_or("", String::as_str),
        _ => "",
    }
}
