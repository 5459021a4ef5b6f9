//! [`Front`]: what becomes of texts before a graph, which takes numbers only.

use std::collections::HashMap;

use formats::keras::{Encoded, Lookup, Split, Words};

use crate::onnx::{RunError, check_inputs};
use crate::{Data, Dim, Tensor, TensorSpec, Tensors};

/// The inputs of a model some of whose texts, or integers, are looked up in vocabularies.
#[derive(Debug, Clone, PartialEq)]
pub struct Front {
    /// What the model takes.
    pub(crate) inputs: Vec<TensorSpec>,
    /// What the graph takes, by name: an input of the model as it is, or what a reader makes of it.
    pub(crate) given: Vec<(String, usize, Option<Reader>)>,
}

/// A vocabulary, ready to look up in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reader {
    words: Words,
    places: HashMap<String, i32>,
    /// Where words lie that are not known.
    unknown: i32,
    /// What is passed over where words are not given one by one.
    mask: Option<String>,
    output: Encoded,
}

impl Front {
    /// What the graph takes.
    pub(crate) fn read(&self, inputs: &[(String, Tensor)], batched: bool) -> Result<Tensors, RunError> {
        let specs: Vec<&TensorSpec> = self.inputs.iter().collect();
        let ordered = check_inputs(&specs, inputs, batched)?;
        let one = |(name, place, reader): &(String, usize, Option<Reader>)| {
            let missing = || RunError::Failed { reason: format!("`{name}` is not there") };
            let tensor = *ordered.get(*place).ok_or_else(missing)?;
            let tensor = match reader {
                Some(reader) => reader.read(tensor)?,
                None => tensor.clone(),
            };
            Ok((name.clone(), tensor))
        };
        self.given.iter().map(one).collect()
    }
}

impl Reader {
    pub(crate) fn new(lookup: &Lookup) -> Reader {
        let masked = i32::from(lookup.mask.is_some() && matches!(lookup.output, Encoded::Numbers { .. }));
        let mut places = HashMap::with_capacity(lookup.vocabulary.len() + 1);
        for (place, word) in lookup.vocabulary.iter().enumerate() {
            places.entry(word.clone()).or_insert(masked + 1 + place as i32);
        }
        if let Some(mask) = lookup.mask.as_ref().filter(|_| masked == 1) {
            places.insert(mask.clone(), 0);
        }
        let (words, output) = (lookup.words, lookup.output);
        Reader { words, places, unknown: masked, mask: lookup.mask.clone(), output }
    }

    /// One row of what it makes of one of `row`.
    pub(crate) fn shape(row: &[Dim], lookup: &Lookup) -> Result<Vec<Dim>, String> {
        let cut = lookup.words.split != Split::Nowhere;
        match (lookup.output, row) {
            (Encoded::Numbers { length: Some(length) }, [] | [Dim::Fixed(1)]) if cut => {
                Ok(vec![Dim::Fixed(length)])
            }
            (Encoded::Numbers { .. }, row) if !cut => Ok(row.to_vec()),
            (Encoded::Bag { width, .. }, [Dim::Fixed(1)]) if cut => Ok(vec![Dim::Fixed(width)]),
            (Encoded::Bag { width, .. }, [rest @ .., _]) if !cut => {
                Ok(rest.iter().copied().chain([Dim::Fixed(width)]).collect())
            }
            _ => Err("takes one text a row".to_owned()),
        }
    }

    fn read(&self, tensor: &Tensor) -> Result<Tensor, RunError> {
        let own;
        let texts = match tensor.data() {
            Data::Text(texts) => texts,
            Data::I32(numbers) => {
                own = numbers.iter().map(i32::to_string).collect();
                &own
            }
            Data::F32(_) => {
                return Err(RunError::Failed { reason: "numbers cannot be looked up".to_owned() });
            }
        };
        let cut = self.words.split != Split::Nowhere;
        let (mut shape, data) = match self.output {
            Encoded::Numbers { length: Some(length) } if cut => {
                let padded = |text: &String| {
                    let mut places = self.places_of(text);
                    places.resize(length, 0);
                    places
                };
                let rows = tensor.shape().first().copied().unwrap_or(1);
                (vec![rows, length], Data::I32(texts.iter().flat_map(padded).collect()))
            }
            Encoded::Numbers { .. } => {
                let place = |text: &String| self.place(&self.normal(text));
                (tensor.shape().to_vec(), Data::I32(texts.iter().map(place).collect()))
            }
            Encoded::Bag { counted, width } => {
                let together = if cut { 1 } else { tensor.shape().last().copied().unwrap_or(1).max(1) };
                let mut shape = tensor.shape().to_vec();
                if let Some(last) = shape.last_mut() {
                    *last = width;
                }
                let bag = |texts: &[String]| {
                    let mut bag = vec![0f32; width];
                    for place in texts.iter().flat_map(|text| self.places_of(text)) {
                        if let Some(seen) = usize::try_from(place).ok().and_then(|place| bag.get_mut(place)) {
                            *seen = if counted { *seen + 1.0 } else { 1.0 };
                        }
                    }
                    bag
                };
                (shape, Data::F32(texts.chunks(together).flat_map(bag).collect()))
            }
        };
        if shape.is_empty() {
            shape = vec![1];
        }
        Tensor::new(shape, data).map_err(|error| RunError::Failed { reason: error.to_string() })
    }

    /// The places of the words of a text.
    fn places_of(&self, text: &str) -> Vec<i32> {
        let normal = self.normal(text);
        let place = |word: &str| match (&self.mask, self.output) {
            (Some(mask), Encoded::Bag { .. }) if mask == word => None,
            _ => Some(self.place(word)),
        };
        match self.words.split {
            Split::Nowhere => place(&normal).into_iter().collect(),
            Split::Whitespace => normal.split_ascii_whitespace().filter_map(place).collect(),
            Split::Letters => {
                let mut buffer = [0; 4];
                normal.chars().filter_map(|letter| place(letter.encode_utf8(&mut buffer))).collect()
            }
        }
    }

    fn place(&self, word: &str) -> i32 {
        self.places.get(word).copied().unwrap_or(self.unknown)
    }

    /// A text as the layer wants it. Small letters and punctuation are those of ASCII, as TensorFlow has it.
    fn normal(&self, text: &str) -> String {
        let mut text = if self.words.lower { text.to_ascii_lowercase() } else { text.to_owned() };
        if self.words.strip {
            text.retain(|letter| !letter.is_ascii_punctuation());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lookup(words: Words, mask: Option<&str>, output: Encoded) -> Lookup {
        let vocabulary = ["bee", "honey"].map(str::to_owned).to_vec();
        Lookup { words, vocabulary, mask: mask.map(str::to_owned), output, integers: false }
    }

    fn read(lookup: &Lookup, texts: &[&str]) -> Tensor {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Reader::new(lookup).read(&Tensor::new(vec![texts.len(), 1], Data::Text(texts)).unwrap()).unwrap()
    }

    #[test]
    fn texts_become_numbers() {
        let words = Words { lower: true, strip: true, split: Split::Whitespace };
        let numbers = lookup(words, Some(""), Encoded::Numbers { length: Some(3) });
        let made = read(&numbers, &["A Bee's honey!", "honey, honey; bee. bee", ""]);
        assert_eq!(made.shape(), [3, 3]);
        assert_eq!(made.data(), &Data::I32(vec![1, 1, 3, 3, 3, 2, 0, 0, 0]));
        let bag = lookup(words, Some(""), Encoded::Bag { counted: true, width: 3 });
        assert_eq!(read(&bag, &["bee bee wax"]).as_f32().unwrap(), [1.0, 2.0, 0.0]);
        let plain = lookup(Words::default(), None, Encoded::Numbers { length: None });
        assert_eq!(read(&plain, &["bee", "Bee", "honey"]).data(), &Data::I32(vec![1, 0, 2]));
    }
}
