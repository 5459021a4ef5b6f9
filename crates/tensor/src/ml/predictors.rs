//! Nodes that predict: trees and linear models, as classifiers and as regressors.

use super::attributes::Attributes;
use super::transform::{Transform, highest};
use super::trees::{Aggregate, Forest, Leaves, Mode, Node, Weight};
use super::value::{Array, Value};
use super::{Fault, Inputs, Labels, Run};

pub(super) fn tree_classifier(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let labels = class_labels(attributes, "classlabels_strings", "classlabels_int64s")?;
    let leaves = Leaves {
        prefix: "class",
        tree_ids: attributes.ints("class_treeids"),
        node_ids: attributes.ints("class_nodeids"),
        targets: attributes.ints("class_ids"),
        weights: attributes.floats_or_tensor("class_weights", "class_weights_as_tensor")?,
    };
    let classes = labels.len();
    let forest = Forest::read(attributes, leaves, Aggregate::Sum, classes)?;
    let base = base_values(attributes, classes)?;
    let transform = Transform::of(attributes)?;
    let single = forest.only_target().filter(|_| classes == 2);
    let complement = forest.is_positive();
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let (rows, width, x) = table(inputs)?;
        let mut scores = forest.run(&x, rows, width)?;
        let mut chosen = Vec::with_capacity(rows);
        for row in scores.chunks_exact_mut(classes) {
            match single {
                // Only one of two classes has weights: the other has what is left.
                Some(target) => {
                    let base = base.get(1).or(base.first()).copied().unwrap_or(0.0);
                    let score = row.get(target as usize).copied().unwrap_or(0.0) + base;
                    let least = if complement && transform == Transform::None { 0.5 } else { 0.0 };
                    chosen.push(usize::from(score > least));
                    row.copy_from_slice(&transform.pair(score, complement));
                }
                None => {
                    row.iter_mut().zip(&base).for_each(|(score, base)| *score += base);
                    chosen.push(highest(row));
                    transform.apply(row);
                }
            }
        }
        classified(rows, &chosen, &labels, scores, classes)
    }))
}

pub(super) fn tree_regressor(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let targets = targets(attributes, "n_targets")?;
    let leaves = Leaves {
        prefix: "target",
        tree_ids: attributes.ints("target_treeids"),
        node_ids: attributes.ints("target_nodeids"),
        targets: attributes.ints("target_ids"),
        weights: attributes.floats_or_tensor("target_weights", "target_weights_as_tensor")?,
    };
    let aggregate = Aggregate::named(attributes.text("aggregate_function")?.unwrap_or("SUM"))?;
    let forest = Forest::read(attributes, leaves, aggregate, targets)?;
    let base = base_values(attributes, targets)?;
    let transform = Transform::of(attributes)?;
    Ok(regression(forest, targets, base, transform, false))
}

/// `TreeEnsemble`, which stands for both from version 5 on: leaves and branches are listed apart.
pub(super) fn tree_ensemble(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let targets = targets(attributes, "n_targets")?;
    let aggregate = Aggregate::numbered(attributes.int("aggregate_function")?.unwrap_or(1))?;
    let transform = match attributes.int("post_transform")?.unwrap_or(0) {
        0 => Transform::None,
        1 => Transform::Softmax,
        2 => Transform::Logistic,
        3 => Transform::SoftmaxZero,
        4 => Transform::Probit,
        other => return Err(Fault::new(format!("attribute `post_transform` has no {other}"))),
    };
    let floats = |name| {
        let required = || Fault::new(format!("attribute `{name}` is missing"));
        attributes.tensor(name)?.ok_or_else(required)?.floats()
    };
    let splits = floats("nodes_splits")?;
    let modes = attributes.tensor("nodes_modes")?.map_or(Ok(Vec::new()), |modes| modes.ints())?;
    let members = attributes.tensor("membership_values")?.map_or(Ok(Vec::new()), |v| v.floats())?;
    let features = attributes.ints("nodes_featureids");
    let (yes, no) = (attributes.ints("nodes_truenodeids"), attributes.ints("nodes_falsenodeids"));
    let (yes_leaf, no_leaf) = (attributes.ints("nodes_trueleafs"), attributes.ints("nodes_falseleafs"));
    let missing = attributes.ints("nodes_missing_value_tracks_true");
    attributes.tensor("nodes_hitrates")?;
    let leaf_targets = attributes.ints("leaf_targetids");
    let leaf_weights = floats("leaf_weights")?;
    let roots = attributes.ints("tree_roots");
    let branches = splits.len();
    for (name, len) in [
        ("nodes_modes", modes.len()),
        ("nodes_featureids", features.len()),
        ("nodes_truenodeids", yes.len()),
        ("nodes_falsenodeids", no.len()),
        ("nodes_trueleafs", yes_leaf.len()),
        ("nodes_falseleafs", no_leaf.len()),
        ("nodes_missing_value_tracks_true", if missing.is_empty() { branches } else { missing.len() }),
    ] {
        if len != branches {
            let text = format!("attribute `{name}` has {len} entries for {branches} nodes");
            return Err(Fault::new(text));
        }
    }
    if leaf_targets.len() != leaf_weights.len() {
        let (ids, weights) = (leaf_targets.len(), leaf_weights.len());
        return Err(Fault::new(format!("attribute `leaf_targetids` has {ids} entries for {weights} leaves")));
    }
    // Sets are separated by what is not a number.
    let sets: Vec<Vec<f64>> =
        members.split(|member| member.is_nan()).filter(|set| !set.is_empty()).map(<[f64]>::to_vec).collect();
    let mut next_set = 0.0;
    // Leaves come after the branches.
    let place = |id: i64, leaf: bool, name: &str| {
        let (first, count) = if leaf { (branches, leaf_weights.len()) } else { (0, branches) };
        let found = usize::try_from(id).ok().filter(|&id| id < count).map(|id| (first + id) as u32);
        found.ok_or_else(|| Fault::new(format!("attribute `{name}`: {id} is none of {count}")))
    };
    let mut nodes = Vec::with_capacity(branches + leaf_weights.len());
    for i in 0..branches {
        let at = |of: &[i64]| of.get(i).copied().unwrap_or_default();
        let number = modes.get(i).and_then(|&mode| u8::try_from(mode).ok());
        let mode = number
            .and_then(Mode::numbered)
            .ok_or_else(|| Fault::new("attribute `nodes_modes` has an unknown mode"))?;
        let mut threshold = splits.get(i).copied().unwrap_or_default();
        if mode == Mode::Member {
            threshold = next_set;
            next_set += 1.0;
        }
        let no_feature =
            |_| Fault::new(format!("attribute `nodes_featureids`: {} is no feature", at(features)));
        nodes.push(Node {
            threshold,
            feature: u32::try_from(at(features)).map_err(no_feature)?,
            yes: place(at(yes), at(yes_leaf) != 0, "nodes_truenodeids")?,
            no: place(at(no), at(no_leaf) != 0, "nodes_falsenodeids")?,
            mode,
            missing_yes: at(missing) != 0,
        });
    }
    if next_set as usize != sets.len() {
        let text = format!("attribute `membership_values` has {} sets for {next_set} nodes", sets.len());
        return Err(Fault::new(text));
    }
    let mut weights = Vec::with_capacity(leaf_weights.len());
    for (i, (&target, &value)) in leaf_targets.iter().zip(&leaf_weights).enumerate() {
        let no_target = |_| Fault::new(format!("attribute `leaf_targetids`: {target} is no target"));
        weights.push(Weight { target: u32::try_from(target).map_err(no_target)?, value });
        let (yes, no) = (i as u32, i as u32 + 1);
        nodes.push(Node { threshold: 0.0, feature: 0, yes, no, mode: Mode::Leaf, missing_yes: false });
    }
    // A tree of one leaf is a branch to it both ways.
    for node in nodes.iter_mut().filter(|node| node.mode != Mode::Leaf && node.yes == node.no) {
        if node.yes as usize >= branches {
            let leaf = node.yes - branches as u32;
            (node.mode, node.yes, node.no) = (Mode::Leaf, leaf, leaf + 1);
        }
    }
    let roots = roots.iter().map(|&root| place(root, false, "tree_roots")).collect::<Result<Vec<_>, _>>()?;
    let forest = Forest::new(nodes, roots, weights, sets, aggregate, targets)?;
    Ok(regression(forest, targets, Vec::new(), transform, true))
}

fn regression(forest: Forest, targets: usize, base: Vec<f64>, transform: Transform, alike: bool) -> Run {
    Box::new(move |inputs: &Inputs<'_>| {
        let (rows, width, x) = table(inputs)?;
        let mut scores = forest.run(&x, rows, width)?;
        for row in scores.chunks_exact_mut(targets) {
            row.iter_mut().zip(&base).for_each(|(score, base)| *score += base);
            transform.apply(row);
        }
        let array = if alike { inputs.get(0)?.array.alike(scores) } else { Array::narrow(scores) };
        Ok(vec![Value::new(vec![rows, targets], array)?])
    })
}

pub(super) fn linear_classifier(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let labels = class_labels(attributes, "classlabels_strings", "classlabels_ints")?;
    let classes = labels.len();
    let transform = Transform::of(attributes)?;
    // Read for its name alone: other runtimes do not look at it either.
    attributes.int("multi_class")?;
    let coefficients = attributes.floats("coefficients");
    let intercepts = attributes.floats("intercepts");
    let targets = match (intercepts.len(), classes) {
        (1, 2) => 1,
        (0, _) => classes,
        (n, _) if n == classes => classes,
        (n, _) => {
            return Err(Fault::new(format!("attribute `intercepts` has {n} entries for {classes} classes")));
        }
    };
    let linear = Linear::new(coefficients, intercepts, targets)?;
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let (rows, width, x) = table(inputs)?;
        let raw = linear.run(&x, rows, width)?;
        let mut chosen = Vec::with_capacity(rows);
        let mut scores = Vec::with_capacity(rows * classes);
        for row in raw.chunks_exact(targets) {
            match row {
                [score] if classes == 2 => {
                    chosen.push(usize::from(*score > 0.0));
                    scores.extend(transform.pair(*score, true));
                }
                row => {
                    let mut row = row.to_vec();
                    chosen.push(highest(&row));
                    transform.apply(&mut row);
                    scores.extend(row);
                }
            }
        }
        classified(rows, &chosen, &labels, scores, classes)
    }))
}

pub(super) fn linear_regressor(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let targets = targets(attributes, "targets")?;
    let transform = Transform::of(attributes)?;
    let linear = Linear::new(attributes.floats("coefficients"), attributes.floats("intercepts"), targets)?;
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let (rows, width, x) = table(inputs)?;
        let mut scores = linear.run(&x, rows, width)?;
        scores.chunks_exact_mut(targets).for_each(|row| transform.apply(row));
        Ok(vec![Value::new(vec![rows, targets], Array::narrow(scores))?])
    }))
}

/// A coefficient for each feature, target after target, and intercepts.
struct Linear {
    coefficients: Vec<f64>,
    intercepts: Vec<f64>,
    width: usize,
}

impl Linear {
    fn new(coefficients: &[f32], intercepts: &[f32], targets: usize) -> Result<Linear, Fault> {
        let count = coefficients.len();
        if count == 0 || !count.is_multiple_of(targets) {
            let text = format!("attribute `coefficients` has {count} entries for {targets} targets");
            return Err(Fault::new(text));
        }
        if !matches!(intercepts.len(), 0) && intercepts.len() != targets {
            let text =
                format!("attribute `intercepts` has {} entries for {targets} targets", intercepts.len());
            return Err(Fault::new(text));
        }
        let wide = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let mut intercepts = wide(intercepts);
        intercepts.resize(targets, 0.0);
        Ok(Linear { coefficients: wide(coefficients), intercepts, width: count / targets })
    }

    fn run(&self, x: &[f64], rows: usize, width: usize) -> Result<Vec<f64>, Fault> {
        if width != self.width {
            return Err(Fault::new(format!("it takes rows of {} features, not {width}", self.width)));
        }
        super::value::elements(&[rows, self.intercepts.len()])?;
        let mut scores = Vec::with_capacity(rows * self.intercepts.len());
        for row in x.chunks_exact(width) {
            for (of_target, intercept) in self.coefficients.chunks_exact(width).zip(&self.intercepts) {
                scores.push(row.iter().zip(of_target).map(|(x, c)| x * c).sum::<f64>() + intercept);
            }
        }
        Ok(scores)
    }
}

/// The first input as rows of float64.
pub(super) fn table(inputs: &Inputs<'_>) -> Result<(usize, usize, Vec<f64>), Fault> {
    let value = inputs.get(0)?;
    let (rows, width) = value.table();
    if width == 0 {
        return Err(Fault::new("its rows have no features"));
    }
    Ok((rows, width, value.floats()?))
}

/// A label and the scores of each row.
pub(super) fn classified(
    rows: usize,
    chosen: &[usize],
    labels: &Labels,
    scores: Vec<f64>,
    classes: usize,
) -> Result<Vec<Value>, Fault> {
    let label = Value::new(vec![rows], labels.array().pick(chosen)?)?;
    Ok(vec![label, Value::new(vec![rows, classes], Array::narrow(scores))?])
}

pub(super) fn class_labels(
    attributes: &Attributes<'_>,
    texts: &'static str,
    ints: &'static str,
) -> Result<Labels, Fault> {
    let missing = || Fault::new(format!("neither attribute `{texts}` nor `{ints}` has labels"));
    attributes.labels(texts, ints)?.ok_or_else(missing)
}

/// Most targets of a regressor.
const TARGETS_MAX: i64 = 1 << 20;

fn targets(attributes: &Attributes<'_>, name: &'static str) -> Result<usize, Fault> {
    match attributes.int(name)?.unwrap_or(1) {
        targets @ 1..=TARGETS_MAX => Ok(targets as usize),
        other => Err(Fault::new(format!("attribute `{name}` is {other}, not 1 to {TARGETS_MAX}"))),
    }
}

fn base_values(attributes: &Attributes<'_>, targets: usize) -> Result<Vec<f64>, Fault> {
    let mut base = attributes.floats_or_tensor("base_values", "base_values_as_tensor")?;
    match base.len() {
        0 => {}
        n if n == targets => {}
        // For all targets, or of the second of two classes.
        1 if targets == 2 => {}
        1 => base.resize(targets, base.first().copied().unwrap_or(0.0)),
        n => {
            return Err(Fault::new(format!("attribute `base_values` has {n} entries for {targets} targets")));
        }
    }
    Ok(base)
}
