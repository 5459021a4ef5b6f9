//! [`Scores`]: what a network says to what its artifact declares that this means.

use formats::processing::Output;
use tensor::{Data, DataType, Dim, Signature, Tensor, Tensors};

use crate::predictions::{Form, Ranked};
use crate::runtime::RuntimeError;

/// Which output is told, and what is made of it.
pub(crate) struct Scores {
    /// Its name.
    name: String,
    /// How many labels its rows are scores of.
    labels: Option<usize>,
    softmax: bool,
}

impl Scores {
    /// As `output` says, of a network of this signature, with how the answers read; `None` where it says nothing.
    ///
    /// # Errors
    /// If the network has no such output, or another number of scores.
    pub(crate) fn new(output: Output, signature: &Signature) -> Result<Option<(Scores, Form)>, String> {
        if output.tensor.is_none() && output.labels.is_none() {
            return Ok(None);
        }
        let listed =
            signature.outputs.iter().take(8).map(|spec| format!("`{spec}`")).collect::<Vec<_>>().join(", ");
        let spec = match (&output.tensor, signature.outputs.as_slice()) {
            (Some(name), all) => all.iter().find(|spec| spec.name == *name),
            (None, [only]) => Some(only),
            (None, _) => return Err(format!("the network gives {listed}: say which as `output.tensor`")),
        };
        let named = output.tensor.as_deref().unwrap_or_default();
        let spec =
            spec.ok_or_else(|| format!("`{named}` is not an output of the network, which gives {listed}"))?;
        let labels = output.labels.as_ref().map(Vec::len);
        if let Some(labels) = labels {
            let width = spec.shape.iter().skip(1).try_fold(1usize, |n, dim| match dim {
                Dim::Fixed(k) => n.checked_mul(*k),
                Dim::Any => None,
            });
            if spec.data_type != DataType::F32 || width.is_some_and(|width| width != labels) {
                return Err(format!(
                    "there are {labels} labels, and the output `{spec}` is not as many scores"
                ));
            }
        }
        let form = match output.labels {
            Some(labels) => Form::Ranked(Ranked { labels, top_k: output.top_k }),
            None => Form::Tensors,
        };
        Ok(Some((Scores { name: spec.name.clone(), labels, softmax: output.softmax }, form)))
    }

    /// The one output that is told, a score a label where there are labels.
    pub(crate) fn of(&self, outputs: Tensors) -> Result<Tensors, RuntimeError> {
        let told = outputs.into_iter().find(|(name, _)| *name == self.name);
        let (name, tensor) =
            told.ok_or_else(|| RuntimeError::new(format!("the network gave no `{}`", self.name)))?;
        let Some(labels) = self.labels else { return Ok(vec![(name, tensor)]) };
        let (rows, width) = (tensor.rows(), tensor.row_len());
        let (_, data) = tensor.into_parts();
        let mut scores = match data {
            Data::F32(scores) if width == labels => scores,
            _ => {
                return Err(RuntimeError::new(format!(
                    "the network gave {width} scores for {labels} labels"
                )));
            }
        };
        if self.softmax {
            scores.chunks_exact_mut(labels.max(1)).for_each(softmax);
        }
        let tensor = Tensor::new(vec![rows, labels], Data::F32(scores));
        tensor.map(|tensor| vec![(name, tensor)]).map_err(|e| RuntimeError::new(e.to_string()))
    }

    /// The output's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// Shares of one that differ as much as the scores do.
fn softmax(scores: &mut [f32]) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0f64;
    for score in scores.iter_mut() {
        *score = (*score - largest).exp();
        sum += f64::from(*score);
    }
    scores.iter_mut().for_each(|score| *score = (f64::from(*score) / sum) as f32);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tensor::TensorSpec;

    use super::*;

    fn signature(outputs: &[(&str, &[Dim])]) -> Signature {
        let spec = |(name, shape): &(&str, &[Dim])| TensorSpec {
            name: (*name).into(),
            data_type: DataType::F32,
            shape: shape.to_vec(),
        };
        Signature { inputs: vec![], outputs: outputs.iter().map(spec).collect() }
    }

    fn labelled(labels: &[&str], softmax: bool) -> Output {
        let labels = Some(labels.iter().map(|l| (*l).to_owned()).collect());
        Output { labels, softmax, ..Output::default() }
    }

    #[test]
    fn scores_become_shares_of_one() {
        let own = signature(&[("y", &[Dim::Any, Dim::Fixed(2), Dim::Fixed(1)])]);
        let (scores, form) = Scores::new(labelled(&["a", "b"], true), &own).unwrap().unwrap();
        assert!(matches!(form, Form::Ranked(_)));
        let given = Tensor::new(vec![2, 2, 1], Data::F32(vec![1000.0, 1000.0, 0.0, 1.0])).unwrap();
        let told = scores.of(vec![("y".into(), given)]).unwrap();
        let values = told[0].1.as_f32().unwrap();
        assert_eq!((told[0].1.shape(), &values[..2]), (&[2, 2][..], &[0.5, 0.5][..]));
        assert!((values[3] - 0.731_058_6).abs() < 1e-6, "{values:?}");
    }

    #[test]
    fn what_does_not_fit_the_network_is_named() {
        let two = signature(&[("y", &[Dim::Any, Dim::Fixed(2)]), ("z", &[Dim::Any])]);
        let refusal = |output| Scores::new(output, &two).err().unwrap();
        assert!(refusal(labelled(&["a", "b"], false)).contains("say which as `output.tensor`"));
        let named =
            |tensor: &str, labels: &[&str]| Output { tensor: Some(tensor.into()), ..labelled(labels, false) };
        assert!(refusal(named("w", &["a"])).contains("`w` is not an output"));
        assert!(refusal(named("y", &["a"])).contains("1 labels, and the output `y: float32[?, 2]`"));
        assert!(Scores::new(named("y", &["a", "b"]), &two).unwrap().is_some());
        assert!(Scores::new(Output::default(), &two).unwrap().is_none());
    }
}
