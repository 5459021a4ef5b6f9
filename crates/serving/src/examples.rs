//! [`Examples`]: instances of a training set, found again by the vectors that a model makes of them. Those nearest to
//! another instance explain what the model makes of that.

use std::sync::Arc;
use std::time::Instant;

use analysis::Neighbours;
use formats::Value;
use llm::encoder::Makes;

use crate::embedder::{Embedder, InputError, TooLong};
use crate::error::{PredictError, ServeError};
use crate::model::Model;
use crate::predictions::Predictions;

/// Examples with their vectors.
#[derive(Debug)]
pub struct Examples {
    ids: Vec<String>,
    vectors: Neighbours,
    /// The model's output that the vectors are; its only float output where none is named.
    output: Option<String>,
}

/// An example near an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct NearExample {
    /// What the training set calls it.
    pub id: String,
    /// The Euclidean distance between their vectors.
    pub distance: f64,
}

/// Vectors of instances; and the predictions, of a model that predicts.
#[derive(Debug, Clone)]
pub struct Vectors {
    /// One an instance, in order.
    pub vectors: Vec<Vec<f32>>,
    /// The model's answers to the same instances.
    pub predictions: Option<Predictions>,
}

impl Examples {
    /// Examples called `ids`, of vectors of `width` numbers one after another; `None` if these do not fit each other.
    pub fn new(ids: Vec<String>, width: usize, vectors: Vec<f32>, output: Option<String>) -> Option<Self> {
        let vectors = Neighbours::new(width, vectors)?;
        (ids.len() == vectors.len()).then_some(Examples { ids, vectors, output })
    }

    /// The output that the vectors are, where one is named.
    pub fn output(&self) -> Option<&str> {
        self.output.as_deref()
    }

    /// The `count` examples nearest to each of `vectors`, the nearest first.
    ///
    /// # Errors
    /// If the vectors have another width, or the time is up.
    pub(crate) fn nearest(
        &self,
        vectors: &[Vec<f32>],
        count: usize,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<NearExample>>, PredictError> {
        let width = self.vectors.width();
        if let Some(other) = vectors.iter().find(|vector| vector.len() != width) {
            let found = other.len();
            let message = format!(
                "the model makes {found} numbers of an instance, and had made {width} of each example"
            );
            return Err(PredictError::Failed { message });
        }
        let nearest = self.vectors.nearest(vectors, count, stop).ok_or(PredictError::Stopped)?;
        let named = |of: Vec<analysis::Neighbour>| {
            let found = of.into_iter().filter_map(|neighbour| {
                let id = self.ids.get(neighbour.place)?.clone();
                Some(NearExample { id, distance: neighbour.distance })
            });
            found.collect()
        };
        Ok(nearest.into_iter().map(named).collect())
    }
}

impl Model {
    /// The vector that the model makes of each instance, which `project` gives: of an encoder, of texts; of one that predicts, the row of its
    /// float output `output`, or of the first one.
    ///
    /// # Errors
    /// The first instance that does not fit, by its index; or the model's failure.
    pub async fn vectors(
        self: &Arc<Self>,
        project: &str,
        instances: Vec<Value>,
        output: Option<&str>,
        deadline: Instant,
    ) -> Result<Vectors, ServeError> {
        if let Some(embedder) = self.embedder() {
            let vectors = of_texts(embedder, project, &instances, deadline).await?;
            return Ok(Vectors { vectors, predictions: None });
        }
        let (model, output) = (Arc::clone(self), output.map(str::to_owned));
        let work = tokio::task::spawn_blocking(move || {
            let predictions = model.predict(&instances)?;
            let vectors = predictions.vectors(output.as_deref()).ok_or_else(|| {
                let message = match &output {
                    Some(name) => format!("the model has no float output `{name}`, one row an instance"),
                    None => "the model has no float output, one row an instance".to_owned(),
                };
                PredictError::BadRequest { message }
            })?;
            Ok(Vectors { vectors, predictions: Some(predictions) })
        });
        match tokio::time::timeout_at(deadline.into(), work).await {
            Ok(Ok(result)) => result.map_err(|error: PredictError| error.into()),
            Ok(Err(_)) => Err(ServeError::Failed { message: "the model stopped on a defect".to_owned() }),
            Err(_) => Err(ServeError::DeadlineExceeded),
        }
    }
}

/// The vectors of texts: of instances that are texts, or objects with one text.
async fn of_texts(
    embedder: &Arc<Embedder>,
    project: &str,
    instances: &[Value],
    deadline: Instant,
) -> Result<Vec<Vec<f32>>, ServeError> {
    if embedder.makes() == Makes::Scores {
        let message = "the model judges pairs of texts, and makes no vectors".to_owned();
        return Err(ServeError::BadRequest { message });
    }
    let input = |(index, instance): (usize, &Value)| {
        let text = match instance {
            Value::Text(text) => Some(text),
            Value::Record(fields) => match fields.as_slice() {
                [(_, Value::Text(text))] => Some(text),
                _ => None,
            },
            _ => None,
        };
        let bad = |message: String| ServeError::BadInstance { index, message };
        let text = text.ok_or_else(|| bad(format!("expected a text, found {}", instance.kind())))?;
        let input = embedder.text(text, TooLong::Refuse);
        input.map(|(input, _)| input).map_err(|error: InputError| bad(error.to_string()))
    };
    let inputs = instances.iter().enumerate().map(input).collect::<Result<Vec<_>, _>>()?;
    embedder.run(project, inputs, deadline).await
}
