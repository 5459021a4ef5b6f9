//! [`Areas`]: a picture as areas that may be left out.

use analysis::shapley::Coalition;
use analysis::superpixels;
use tensor::vision::heat_map;
use tensor::{Data, Tensor, Tensors};

use super::request::{Attribution, Explain};
use super::{bad_request, mismatch, no_rows};
use crate::declared::ImageInput;
use crate::error::PredictError;

/// About how many areas are told apart.
const AREAS: usize = 49;

/// A picture as the network sees it, cut into areas. One that is left out takes the picture's mean colour.
pub(super) struct Areas<'a> {
    image: &'a ImageInput,
    /// The picture's row.
    own: Vec<f32>,
    /// The row of nothing but its mean colour.
    mean: Vec<f32>,
    /// The picture: red, green, blue.
    seen: Vec<u8>,
    /// The number of each pixel's area.
    areas: Vec<u32>,
    count: usize,
}

impl<'a> Areas<'a> {
    pub(super) fn new(
        image: &'a ImageInput,
        inputs: &Tensors,
        explain: &Explain,
    ) -> Result<Self, PredictError> {
        if let Some((name, _)) = explain.baselines.first() {
            return Err(bad_request(format!(
                "a baseline is given for `{name}`; what a picture shows is measured from its mean colour: leave it out"
            )));
        }
        let own = match inputs.first().map(|(_, tensor)| tensor.data()) {
            Some(Data::F32(own)) => own.clone(),
            Some(Data::I32(own)) => own.iter().map(|n| *n as f32).collect(),
            Some(Data::Text(_)) | None => return Err(no_rows()),
        };
        let [height, width] = image.pixels.size();
        let seen = image.pixels.seen(&own);
        let (areas, count) = superpixels(&seen, width, height, AREAS);
        let mean = mean_of(image, &own, areas.len());
        Ok(Areas { image, own, mean, seen, areas, count })
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The network's input, a row for each coalition.
    pub(super) fn inputs(&self, coalitions: &[Coalition]) -> Result<Tensors, PredictError> {
        let mut rows = Vec::with_capacity(coalitions.len() * self.own.len());
        for coalition in coalitions {
            let start = rows.len();
            rows.extend_from_slice(&self.own);
            for (pixel, area) in self.areas.iter().enumerate() {
                if coalition.contains(*area as usize) {
                    continue;
                }
                for place in self.image.pixels.places(pixel) {
                    if let (Some(to), Some(mean)) = (rows.get_mut(start + place), self.mean.get(place)) {
                        *to = *mean;
                    }
                }
            }
        }
        let shape = std::iter::once(coalitions.len()).chain(self.image.pixels.shape()).collect();
        let tensor = Tensor::new(shape, self.image.data(rows)).map_err(mismatch)?;
        Ok(vec![(self.image.input.clone(), tensor)])
    }

    /// What each area contributed, and the picture that shows it.
    pub(super) fn attribution(&self, values: &[f64]) -> Result<Attribution, PredictError> {
        let [_, width] = self.image.pixels.size();
        let drawn = heat_map(&self.seen, width, &self.areas, values);
        let drawn = drawn.map_err(|message| PredictError::Failed { message })?;
        Ok(Attribution {
            feature: self.image.name.clone(),
            tokens: None,
            values: values.to_vec(),
            heat_map: Some(drawn),
        })
    }
}

/// A row whose every pixel is the mean of those in `own`.
fn mean_of(image: &ImageInput, own: &[f32], pixels: usize) -> Vec<f32> {
    let mut sums: Vec<f64> = Vec::new();
    for pixel in 0..pixels {
        for (channel, place) in image.pixels.places(pixel).enumerate() {
            if channel == sums.len() {
                sums.push(0.0);
            }
            sums[channel] += f64::from(own.get(place).copied().unwrap_or_default());
        }
    }
    let mut mean = vec![0.0; own.len()];
    for pixel in 0..pixels {
        for (sum, place) in sums.iter().zip(image.pixels.places(pixel)) {
            if let Some(to) = mean.get_mut(place) {
                *to = (sum / pixels as f64) as f32;
            }
        }
    }
    mean
}
