//! Explanations: what each part of an instance contributed to one output.

mod areas;
mod front;
mod game;
mod request;

use formats::Value;
use tensor::features::ColumnShare;
use tensor::{Data, Tensor, Tensors};

use analysis::{completeness_gap, integrated_gradients, shapley};

use crate::batcher::Run;
use crate::bind::value_bytes;
use crate::error::PredictError;
use crate::model::{Model, Trained};
use crate::predictions::{Form, Predictions, Ranked, highest};
use crate::rows::{byte_count, slice};
use game::Game;

pub use request::{Attribution, Explain, Explanation, Method};

/// Coalitions or gradient points that go through the model at a time, and their bytes.
const BATCH_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 16 << 20;

impl Model {
    /// Explains instances, each by itself: the same instance gets the same explanation whatever the others
    /// are. See [`Explain`] for what can be asked.
    ///
    /// # Errors
    /// If an instance or the request does not fit the model, or the model fails.
    pub fn explain(&self, instances: &[Value], explain: &Explain) -> Result<Vec<Explanation>, PredictError> {
        Ok(self.explain_until(instances, explain, &|| false)?.1)
    }

    /// As [`Model::explain`], with the predictions that are explained; ends early once `stop` says so.
    pub(crate) fn explain_until(
        &self,
        instances: &[Value],
        explain: &Explain,
        stop: &dyn Fn() -> bool,
    ) -> Result<(Predictions, Vec<Explanation>), PredictError> {
        let method = explain.method()?;
        let inputs = self.bind(instances)?;
        let predictions = self.predict_tensors(&inputs)?;
        let mut explanations = Vec::with_capacity(instances.len());
        for (index, instance) in instances.iter().enumerate() {
            let one = One { model: self, index, instance, inputs: row(&inputs, index)?, explain, stop };
            let target = self.target(&predictions, index, explain.output.as_deref())?;
            explanations.push(match method {
                Method::SampledShapley { path_count } => one.shapley(target, path_count)?,
                Method::IntegratedGradients { step_count } => one.integrated_gradients(target, step_count)?,
            });
        }
        Ok((predictions, explanations))
    }

    /// Which output of row `index` is explained: the one asked for, or the highest score.
    fn target(
        &self,
        predictions: &Predictions,
        index: usize,
        asked: Option<&str>,
    ) -> Result<Target, PredictError> {
        let (tensor, width) = self.explained_output()?;
        let best = || predictions.scores(index).map_or(0, highest);
        let element = match (self.form(), asked) {
            (Form::Value, _) | (_, None) => best(),
            (Form::Classes(labels) | Form::Ranked(Ranked { labels, .. }), Some(label)) => {
                labels.iter().position(|l| l == label).ok_or_else(|| {
                    let known =
                        labels.iter().take(20).map(|l| format!("`{l}`")).collect::<Vec<_>>().join(", ");
                    bad_request(format!(
                        "the model has no class `{label}` to explain; its classes are {known}"
                    ))
                })?
            }
            (Form::Tensors, Some(index)) => {
                index.parse().ok().filter(|i| width.is_none_or(|width| *i < width)).ok_or_else(|| {
                    bad_request(format!("`{index}` is not the index of an output of the model"))
                })?
            }
        };
        let name = self.labels().and_then(|labels| labels.get(element)).cloned();
        Ok(Target { tensor, element, name })
    }

    /// The first float output, and how many elements a row of it has if the signature says.
    fn explained_output(&self) -> Result<(usize, Option<usize>), PredictError> {
        if self.tells_scores() {
            return Ok((0, self.labels().map(<[String]>::len)));
        }
        let outputs = &self.signature().outputs;
        let place = outputs.iter().position(|o| o.data_type == tensor::DataType::F32);
        let place = place
            .ok_or_else(|| bad_request("the model has no float output that could be explained".into()))?;
        let width = outputs[place].shape.iter().skip(1).try_fold(1usize, |n, dim| match dim {
            tensor::Dim::Fixed(k) => n.checked_mul(*k),
            tensor::Dim::Any => None,
        });
        Ok((place, width.filter(|_| !outputs[place].shape.is_empty())))
    }
}

/// One output element of every row.
#[derive(Debug, Clone)]
struct Target {
    /// Which output tensor.
    tensor: usize,
    /// Which element of its rows.
    element: usize,
    /// The class, if the model names it.
    name: Option<String>,
}

impl Target {
    fn of(&self, outputs: &Tensors) -> Result<Vec<f64>, PredictError> {
        let missing =
            || PredictError::Failed { message: "the model did not give the output to explain".into() };
        let (_, tensor) = outputs.get(self.tensor).ok_or_else(missing)?;
        let width = tensor.row_len();
        if self.element >= width {
            return Err(bad_request(format!("the model has no output {}; a row has {width}", self.element)));
        }
        let scores = tensor.as_f32().ok_or_else(missing)?;
        Ok(scores.iter().skip(self.element).step_by(width).map(|v| f64::from(*v)).collect())
    }
}

/// One instance to explain.
struct One<'a> {
    model: &'a Model,
    index: usize,
    instance: &'a Value,
    /// Its row of the model's inputs.
    inputs: Tensors,
    explain: &'a Explain,
    stop: &'a dyn Fn() -> bool,
}

impl One<'_> {
    fn shapley(&self, target: Target, path_count: u32) -> Result<Explanation, PredictError> {
        let game = Game::new(self.model, self.instance, &self.inputs, self.explain);
        let game = game.map_err(|e| self.at_this_instance(e))?;
        let options = shapley::Options {
            paths: path_count as usize,
            seed: self.explain.seed,
            batch_max: self.batch_max(),
        };
        let result = shapley::sampled(game.players(), &options, |coalitions| {
            self.go_on()?;
            target.of(&self.model.run(&game.inputs(coalitions)?)?)
        });
        let values = result.map_err(|e| match e {
            shapley::Error::Evaluation(e) => e,
            other => PredictError::Failed { message: other.to_string() },
        })?;
        Ok(Explanation {
            output_index: target.element,
            output_name: target.name,
            baseline_output: values.baseline_output,
            instance_output: values.instance_output,
            attributions: game.attributions(&values.values)?,
            approximation_error: values.approximation_error,
        })
    }

    fn integrated_gradients(&self, target: Target, step_count: u32) -> Result<Explanation, PredictError> {
        let gradients =
            self.model.gradients.as_ref().ok_or_else(|| {
                bad_request("this model has no gradients; use sampled Shapley for it".into())
            })?;
        let (name, own) = self.inputs.first().ok_or_else(no_rows)?;
        let baseline = match &self.model.trained {
            Some(trained) => self.baseline_features(trained)?,
            None => {
                self.explain.check_baselines(&[name])?;
                game::baseline_elements(self.model, 0, name, own, self.explain)?
            }
        };
        let point = gradients.points(own)?;
        let (from, to) = (floats(&gradients.points(&baseline)?)?, floats(&point)?);
        let options = integrated_gradients::Options {
            steps: step_count as usize,
            batch_max: self.batch_max(),
            ..integrated_gradients::Options::default()
        };
        let result = integrated_gradients::attributions(&to, &from, &options, |points| {
            self.go_on()?;
            let mut shape = point.shape().to_vec();
            if let Some(rows) = shape.first_mut() {
                *rows = points.len();
            }
            let values = points.values().iter().map(|v| *v as f32).collect();
            let points = Tensor::new(shape, Data::F32(values)).map_err(mismatch)?;
            floats(&gradients.at(own, &points, target.element)?)
        });
        let values = result.map_err(|e| match e {
            integrated_gradients::Error::Gradients(e) => e,
            other => PredictError::Failed { message: other.to_string() },
        })?;
        let output = |inputs: &Tensors| {
            let outputs = target.of(&self.model.run(inputs)?)?;
            outputs.first().copied().ok_or_else(no_rows)
        };
        let instance_output = output(&self.inputs)?;
        let baseline_output = output(&vec![(name.clone(), baseline)])?;
        let approximation_error = completeness_gap(&values, instance_output, baseline_output);
        let values = per_input(&values, own.row_len());
        let attributions = match &self.model.trained {
            Some(trained) => self.shared_out(trained, &values)?,
            None => vec![Attribution { feature: name.clone(), tokens: None, heat_map: None, values }],
        };
        Ok(Explanation {
            output_index: target.element,
            output_name: target.name,
            baseline_output,
            instance_output,
            approximation_error,
            attributions,
        })
    }

    /// The feature values that stand for nothing known, or those of the baseline asked for.
    fn baseline_features(&self, trained: &Trained) -> Result<Tensor, PredictError> {
        if self.explain.baselines.is_empty() {
            return trained.features.baseline().map_err(|e| PredictError::Failed { message: e.message });
        }
        let cells = game::baseline_cells(trained, self.explain)?;
        let tensors = trained.tensors(&[Value::List(cells)]).map_err(bad_baseline)?;
        tensors.into_iter().next().map(|(_, tensor)| tensor).ok_or_else(no_rows)
    }

    /// Attributions of feature values given back to columns and tokens.
    fn shared_out(&self, trained: &Trained, values: &[f64]) -> Result<Vec<Attribution>, PredictError> {
        let shares = trained
            .features
            .share(self.instance, values)
            .map_err(|e| PredictError::BadInstance { index: self.index, message: e.message })?;
        let attribution = |(place, share): (usize, ColumnShare)| {
            let own = game::cell(trained, self.instance, place);
            let tokens = share.tokens.map(|ranges| request::cut(game::text(&own), ranges));
            Attribution { feature: share.column, tokens, values: share.values, heat_map: None }
        };
        Ok(shares.into_iter().enumerate().map(attribution).collect())
    }

    fn batch_max(&self) -> usize {
        let row_bytes = byte_count(&self.inputs) + value_bytes(self.instance);
        (BATCH_BYTES_MAX / row_bytes.max(1)).clamp(1, BATCH_MAX)
    }

    fn at_this_instance(&self, e: PredictError) -> PredictError {
        match e {
            PredictError::BadInstance { message, .. } => {
                PredictError::BadInstance { index: self.index, message }
            }
            other => other,
        }
    }

    fn go_on(&self) -> Result<(), PredictError> {
        if (self.stop)() { Err(PredictError::Stopped) } else { Ok(()) }
    }
}

fn row(inputs: &Tensors, index: usize) -> Result<Tensors, PredictError> {
    slice(inputs, index..index + 1).map_err(mismatch)
}

/// The values of the points that stand for each of `inputs` inputs, summed: an id's vector counts as one.
fn per_input(values: &[f64], inputs: usize) -> Vec<f64> {
    values.chunks((values.len() / inputs.max(1)).max(1)).map(|own| own.iter().sum()).collect()
}

fn floats(tensor: &Tensor) -> Result<Vec<f64>, PredictError> {
    let numbers = tensor
        .as_f32()
        .ok_or_else(|| PredictError::Failed { message: "the network's points are no numbers".into() })?;
    Ok(numbers.iter().map(|v| f64::from(*v)).collect())
}

fn bad_request(message: String) -> PredictError {
    PredictError::BadRequest { message }
}

fn bad_baseline(e: PredictError) -> PredictError {
    match e {
        PredictError::BadInstance { message, .. } => bad_request(format!("the baseline: {message}")),
        other => other,
    }
}

fn mismatch(e: tensor::ShapeError) -> PredictError {
    PredictError::Failed { message: format!("rows of the model's tensors differ: {e}") }
}

fn no_rows() -> PredictError {
    PredictError::Failed { message: "the model gave no rows".into() }
}

#[cfg(test)]
mod tests;
