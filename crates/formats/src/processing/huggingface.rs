//! What `transformers` writes beside a model, as [`Processing`].

use super::image::{SIDES, filter_of_pillow, numbers};
use super::output::{LABELS_MAX, checked};
use super::{Channels, Filter, Image, Input, Layout, Orientation, Output, Resize, Text};
use crate::Value;
use crate::spec::SpecError;
use crate::spec::fields::{Fields, count_of};

/// Fields that say where the file comes from, or what a program does beside.
const WITHOUT_EFFECT: &[&str] = &[
    "_valid_processor_keys",
    "processor_class",
    "auto_map",
    "device",
    "disable_grouping",
    "input_data_format",
    "return_tensors",
    "default_to_square",
];

/// Processors whose one number for `size` stands for both sides.
const SQUARE: &[&str] = &["ViT", "DeiT", "Beit"];
/// Processors whose one number for `size` stands for the shorter side.
const SHORTEST: &[&str] = &["CLIP", "MobileNetV1", "MobileNetV2", "LevitImage", "Bit"];

/// Reads `preprocessor_config.json`.
pub(super) fn image(value: &Value) -> Result<Input, SpecError> {
    let mut fields = Fields::keras("", value)?;
    let kind = fields.text("image_processor_type")?.or(fields.text("feature_extractor_type")?);
    let kind = kind.unwrap_or_default();
    let mut flag = |name, usual| fields.flag(name).map(|flag| flag.unwrap_or(usual));
    let (resizes, crops) = (flag("do_resize", true)?, flag("do_center_crop", false)?);
    let (rescales, normalizes) = (flag("do_rescale", true)?, flag("do_normalize", true)?);
    fields.only("do_convert_rgb", &[Value::Bool(true), Value::Bool(false)])?;
    fields.only("do_pad", &[Value::Bool(false)])?;
    fields.only("data_format", &[Value::Text("channels_first".to_owned())])?;
    // Of ConvNeXt, which crops a share of small pictures in its own way.
    if kind.starts_with("ConvNext") {
        return Err(fields.error("image_processor_type", format!("`{kind}` is not supported: {INSTEAD}")));
    }
    fields.ignore(WITHOUT_EFFECT);
    let resize = size(&mut fields, "size", kind)?;
    let crop = match size(&mut fields, "crop_size", "ViT")? {
        Some(Resize::Exact(size)) if crops => Some(size),
        Some(Resize::Shortest(_)) if crops => {
            return Err(fields.error("crop_size", "expected height and width"));
        }
        _ => None,
    };
    let filter = match fields.count("resample", 0, 5)? {
        None => Filter::Bilinear,
        Some(number) => filter_of_pillow(number).ok_or_else(|| fields.error("resample", "is no filter"))?,
    };
    let factor = fields.number("rescale_factor", 1e-9, 1e9)?.unwrap_or(1.0 / 255.0);
    let (mean, std) = (numbers(&mut fields, "image_mean")?, numbers(&mut fields, "image_std")?);
    let normalizing = |list: Vec<f64>| if normalizes { list } else { Vec::new() };
    fields.finish()?;
    let image = Image {
        name: "image".to_owned(),
        input: None,
        orientation: Orientation::Ignored,
        channels: Channels::Rgb,
        resize: resize.filter(|_| resizes),
        filter,
        crop,
        rescale: if rescales { factor } else { 1.0 },
        mean: normalizing(mean),
        std: normalizing(std),
        layout: Layout::Nchw,
    };
    image.checked("").map(Input::Image)
}

const INSTEAD: &str = "say what is done in a `processing.yaml` beside the model";

/// A size in one of the three forms that there are.
fn size(fields: &mut Fields<'_>, name: &'static str, kind: &str) -> Result<Option<Resize>, SpecError> {
    let at = fields.at(name);
    let Some(value) = fields.take(name) else { return Ok(None) };
    let (min, max) = SIDES;
    if let Value::Number(_) = value {
        let side = count_of(&at, value, min, max)?;
        let is = |kinds: &[&str]| kinds.iter().any(|known| kind.starts_with(known));
        return match (is(SQUARE), is(SHORTEST)) {
            (true, _) => Ok(Some(Resize::Exact([side, side]))),
            (_, true) => Ok(Some(Resize::Shortest(side))),
            _ => Err(SpecError::new(
                at,
                "one number does not say which side it is: write {\"shortest_edge\": …}, or \"height\" and \"width\"",
            )),
        };
    }
    let mut inner = Fields::keras(at.clone(), value)?;
    let shortest = inner.count("shortest_edge", min, max)?;
    let (height, width) = (inner.count("height", min, max)?, inner.count("width", min, max)?);
    inner.finish()?;
    match (shortest, height, width) {
        (Some(side), None, None) => Ok(Some(Resize::Shortest(side))),
        (None, Some(height), Some(width)) => Ok(Some(Resize::Exact([height, width]))),
        _ => Err(SpecError::new(at, "expected `shortest_edge`, or `height` and `width`")),
    }
}

/// What `config.json` says of a classifier: its labels, in the order of its scores. `None` where there are none.
pub(super) fn output(config: &Value) -> Result<Option<Output>, SpecError> {
    let Some(Value::Record(named)) = config.get("id2label") else { return Ok(None) };
    let at = "id2label";
    if named.len() > LABELS_MAX {
        return Err(SpecError::new(at, format!("{} labels are beyond {LABELS_MAX}", named.len())));
    }
    let mut labels = vec![String::new(); named.len()];
    for (id, label) in named {
        let place = id.parse().ok().and_then(|place: usize| labels.get_mut(place));
        match (place, label) {
            (Some(place), Value::Text(label)) => place.clone_from(label),
            _ => return Err(SpecError::new(at, format!("`{id}` is no place among {}", named.len()))),
        }
    }
    let several = Value::Text("multi_label_classification".to_owned());
    if config.get("problem_type") == Some(&several) {
        return Err(SpecError::new(
            "problem_type",
            format!("several labels at once are not supported: {INSTEAD}"),
        ));
    }
    let labels = Some(checked(at, labels)?);
    Ok(Some(Output { labels, softmax: true, ..Output::default() }))
}

/// Whether `config.json` is that of a model which tells texts apart.
pub(super) fn classifies_texts(config: &Value) -> bool {
    let Some(Value::List(names)) = config.get("architectures") else { return false };
    names.iter().any(|name| matches!(name, Value::Text(name) if name.ends_with("ForSequenceClassification")))
}

/// How the texts of such a model become tokens: as many as its positions allow, up to what is usual.
pub(super) fn text(config: &Value) -> Input {
    let mut text = Text::default();
    if let Some(Value::Number(positions)) = config.get("max_position_embeddings") {
        text.max_length = text.max_length.min((*positions as usize).max(2));
    }
    Input::Text(text)
}
