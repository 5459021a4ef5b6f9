//! What the protocols that ask for embeddings share: from texts to the model's vectors.
//!
//! A protocol reads its request and finds the encoder ([`crate::language::find_encoder`]) inside
//! [`crate::language::prepared`], where [`Texts::of`] makes tokens; [`Texts::embed`] then waits for the vectors.

use http::StatusCode;
use llm::encoder::{Input, Makes};
use serde::Serialize;
use serving::{EmbedderRoute, InputError, TooLong};

use crate::Fault;
use crate::fields::invalid;
use crate::http::{App, Response, bytes_reply};
use crate::language::deadline;
use crate::metering;

/// Tokens of all texts of a request together: the number that OpenAI has.
const TOKENS_MAX: usize = 300_000;

/// One thing to be embedded.
#[derive(Debug)]
pub(crate) enum Text {
    /// A text; what looks like a control token in it is text.
    Plain(String),
    /// Its tokens, as the model's own tokenizer makes them.
    Tokens(Vec<u32>),
}

/// Texts on their way to the model.
pub(crate) struct Texts {
    route: EmbedderRoute,
    inputs: Vec<Input>,
    cut: Vec<bool>,
    dimensions: Option<usize>,
}

/// What became of one text.
pub(crate) struct Embedded {
    /// The text's vector.
    pub(crate) vector: Vec<f32>,
    /// Tokens that were read, those at the text's ends included.
    pub(crate) tokens: usize,
    /// Whether the text's end was left out.
    pub(crate) cut: bool,
}

impl Texts {
    /// The tokens of `texts`. Their vectors are to have `dimensions` numbers, or as many as the model makes. `field`
    /// names the list that the texts are in, `dimensions_field` that of the number.
    ///
    /// # Errors
    /// If a text is empty or does not fit, or the model makes no vectors, or none of so many numbers.
    pub(crate) fn of(
        route: EmbedderRoute,
        texts: Vec<Text>,
        too_long: TooLong,
        dimensions: Option<usize>,
        [field, dimensions_field]: [&str; 2],
    ) -> Result<Texts, Fault> {
        let read = || {
            let width = match route.embedder.makes() {
                Makes::Vectors(width) => width,
                Makes::Scores => {
                    return Err(not_made("scores of pairs of texts and no vectors", "/v1/rerank"));
                }
            };
            if let Some(asked) = dimensions.filter(|asked| *asked > width) {
                let message = format!("is {asked}; this model's vectors have {width} numbers");
                return Err(invalid(dimensions_field, message));
            }
            taken(
                texts.into_iter().map(|text| match text {
                    Text::Plain(text) if text.is_empty() => None,
                    Text::Plain(text) => Some(route.embedder.text(&text, too_long)),
                    Text::Tokens(tokens) if tokens.is_empty() => None,
                    Text::Tokens(tokens) => Some(route.embedder.tokens(tokens, too_long)),
                }),
                field,
            )
        };
        let (inputs, cut) = read().inspect_err(|_| route.count_bad_request())?;
        Ok(Texts { route, inputs, cut, dimensions })
    }

    /// Waits for the vectors, in the texts' order.
    ///
    /// # Errors
    /// If too much waits, time is up, or the model fails.
    pub(crate) async fn embed(self, app: &App) -> Result<Vec<Embedded>, Fault> {
        let tokens: Vec<usize> = self.inputs.iter().map(|input| input.tokens.len()).collect();
        let all = tokens.iter().sum();
        metering::reserve_tokens(app, &self.route.deployed, all)?;
        let vectors = self.route.run(self.inputs, deadline(app)).await?;
        metering::read(app, all);
        let parts = vectors.into_iter().zip(tokens).zip(self.cut);
        let embedded = |((mut vector, tokens), cut): ((Vec<f32>, usize), bool)| {
            if let Some(dimensions) = self.dimensions {
                shorten(&mut vector, dimensions);
            }
            Embedded { vector, tokens, cut }
        };
        Ok(parts.map(embedded).collect())
    }
}

/// The inputs that could be made, and which of them were cut; `None` stands for a text that is empty.
pub(crate) fn taken(
    made: impl Iterator<Item = Option<Result<(Input, bool), InputError>>>,
    field: &str,
) -> Result<(Vec<Input>, Vec<bool>), Fault> {
    let (mut inputs, mut cut, mut tokens) = (Vec::new(), Vec::new(), 0);
    for (index, made) in made.enumerate() {
        let path = format!("{field}[{index}]");
        let (input, was_cut) = match made {
            None => return Err(invalid(path, "is empty")),
            Some(Ok(made)) => made,
            Some(Err(error @ InputError::Token { .. })) => return Err(invalid(path, error.to_string())),
            Some(Err(error)) => {
                return Err(invalid(path, error.to_string()).because("context_length_exceeded"));
            }
        };
        tokens += input.tokens.len();
        if tokens > TOKENS_MAX {
            let message = format!("has more than {TOKENS_MAX} tokens in all: send them in several requests");
            return Err(invalid(field, message).because("max_tokens_per_request"));
        }
        inputs.push(input);
        cut.push(was_cut);
    }
    Ok((inputs, cut))
}

/// The fault that the model was made for something else.
pub(crate) fn not_made(makes: &str, instead: &str) -> Fault {
    let message = format!("this model makes {makes}: ask it at {instead}");
    Fault::invalid(message).about("model").because("unsupported_model")
}

/// Keeps the first numbers of a vector, and makes its length one again.
fn shorten(vector: &mut Vec<f32>, dimensions: usize) {
    if dimensions >= vector.len() {
        return;
    }
    vector.truncate(dimensions);
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
}

/// A reply of `value` in JSON, of which much is vectors.
pub(crate) fn vectors_reply(value: &impl Serialize, numbers: usize) -> Result<Response, Fault> {
    let mut bytes = Vec::with_capacity(512 + numbers * 13);
    serde_json::to_writer(&mut bytes, value).map_err(|e| Fault::internal("writing the reply", e))?;
    Ok(bytes_reply(StatusCode::OK, "application/json", bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_vector_has_length_one() {
        let mut vector = vec![3.0, 4.0, 12.0];
        shorten(&mut vector, 3);
        assert_eq!(vector, [3.0, 4.0, 12.0]);
        shorten(&mut vector, 2);
        assert_eq!(vector, [0.6, 0.8]);
        let mut nothing = vec![0.0, 1.0];
        shorten(&mut nothing, 1);
        assert_eq!(nothing, [0.0]);
    }
}
