//! [`Forest`]: trees as one flat list of nodes, walked row after row.

use super::Fault;
use super::attributes::Attributes;

/// Most nodes of all trees together, and most trees.
const NODES_MAX: usize = 1 << 26;

/// What a node compares the feature with its threshold for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Leq,
    Lt,
    Gte,
    Gt,
    Eq,
    Neq,
    /// The feature is one of a set.
    Member,
    Leaf,
}

impl Mode {
    pub(super) fn named(name: &str) -> Option<Mode> {
        Some(match name {
            "BRANCH_LEQ" => Mode::Leq,
            "BRANCH_LT" => Mode::Lt,
            "BRANCH_GTE" => Mode::Gte,
            "BRANCH_GT" => Mode::Gt,
            "BRANCH_EQ" => Mode::Eq,
            "BRANCH_NEQ" => Mode::Neq,
            "LEAF" => Mode::Leaf,
            _ => return None,
        })
    }

    /// The mode of this number in `TreeEnsemble`.
    pub(super) fn numbered(number: u8) -> Option<Mode> {
        const MODES: [Mode; 7] =
            [Mode::Leq, Mode::Lt, Mode::Gte, Mode::Gt, Mode::Eq, Mode::Neq, Mode::Member];
        MODES.get(usize::from(number)).copied()
    }
}

/// A node. A leaf's `yes` and `no` are the range of its weights.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// What the feature is compared with, or the number of the set of a [`Mode::Member`].
    pub(super) threshold: f64,
    pub(super) feature: u32,
    pub(super) yes: u32,
    pub(super) no: u32,
    pub(super) mode: Mode,
    /// Whether a feature that is not a number goes to `yes`.
    pub(super) missing_yes: bool,
}

/// What a leaf adds to a target.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weight {
    pub(super) target: u32,
    pub(super) value: f64,
}

/// How the leaves that a row reaches make a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

impl Aggregate {
    pub(super) fn named(name: &str) -> Result<Aggregate, Fault> {
        Ok(match name {
            "SUM" => Aggregate::Sum,
            "AVERAGE" => Aggregate::Average,
            "MIN" => Aggregate::Min,
            "MAX" => Aggregate::Max,
            other => return Err(Fault::new(format!("attribute `aggregate_function` has no `{other}`"))),
        })
    }

    pub(super) fn numbered(number: i64) -> Result<Aggregate, Fault> {
        const ALL: [Aggregate; 4] = [Aggregate::Average, Aggregate::Sum, Aggregate::Min, Aggregate::Max];
        let found = usize::try_from(number).ok().and_then(|number| ALL.get(number).copied());
        found.ok_or_else(|| Fault::new(format!("attribute `aggregate_function` has no {number}")))
    }
}

/// Trees that together give a row its targets.
#[derive(Debug)]
pub(super) struct Forest {
    nodes: Vec<Node>,
    roots: Vec<u32>,
    weights: Vec<Weight>,
    sets: Vec<Vec<f64>>,
    aggregate: Aggregate,
    targets: usize,
    /// The least width of a row.
    features: usize,
}

impl Forest {
    /// # Errors
    /// If a node leads nowhere, a tree into itself or into another, or a leaf to no target.
    pub(super) fn new(
        nodes: Vec<Node>,
        roots: Vec<u32>,
        weights: Vec<Weight>,
        sets: Vec<Vec<f64>>,
        aggregate: Aggregate,
        targets: usize,
    ) -> Result<Forest, Fault> {
        if targets == 0 || targets > NODES_MAX {
            return Err(Fault::new(format!("it has {targets} targets")));
        }
        if let Some(weight) = weights.iter().find(|weight| weight.target as usize >= targets) {
            return Err(Fault::new(format!("a leaf adds to target {} of {targets}", weight.target)));
        }
        check_trees(&nodes, &roots)?;
        let branches = nodes.iter().filter(|node| node.mode != Mode::Leaf);
        let features = branches.map(|node| node.feature as usize + 1).max().unwrap_or(0);
        Ok(Forest { nodes, roots, weights, sets, aggregate, targets, features })
    }

    /// The trees of the attributes that `TreeEnsembleClassifier` and `TreeEnsembleRegressor` share. `prefix`
    /// names the attributes of leaves: ids of trees, nodes and targets, and the weights.
    pub(super) fn read(
        attributes: &Attributes<'_>,
        leaves: Leaves<'_>,
        aggregate: Aggregate,
        targets: usize,
    ) -> Result<Forest, Fault> {
        let tree_ids = attributes.ints("nodes_treeids");
        let node_ids = attributes.ints("nodes_nodeids");
        let features = attributes.ints("nodes_featureids");
        let modes = attributes.texts("nodes_modes");
        let yes = attributes.ints("nodes_truenodeids");
        let no = attributes.ints("nodes_falsenodeids");
        let missing = attributes.ints("nodes_missing_value_tracks_true");
        let thresholds = attributes.floats_or_tensor("nodes_values", "nodes_values_as_tensor")?;
        attributes.floats("nodes_hitrates");
        attributes.tensor("nodes_hitrates_as_tensor")?;
        let count = tree_ids.len();
        if count == 0 || count > NODES_MAX {
            return Err(Fault::new(format!("it has {count} nodes")));
        }
        let agree = |name: &str, len: usize| match len == count {
            true => Ok(()),
            false => Err(Fault::new(format!("attribute `{name}` has {len} entries for {count} nodes"))),
        };
        agree("nodes_nodeids", node_ids.len())?;
        agree("nodes_featureids", features.len())?;
        agree("nodes_modes", modes.len())?;
        agree("nodes_truenodeids", yes.len())?;
        agree("nodes_falsenodeids", no.len())?;
        agree("nodes_values", thresholds.len())?;
        if !missing.is_empty() {
            agree("nodes_missing_value_tracks_true", missing.len())?;
        }
        let mut places = std::collections::HashMap::with_capacity(count);
        for (place, key) in tree_ids.iter().zip(node_ids).enumerate() {
            if places.insert(key, place as u32).is_some() {
                let (tree, node) = key;
                return Err(Fault::new(format!(
                    "attribute `nodes_nodeids`: tree {tree} has node {node} twice"
                )));
            }
        }
        let place = |tree: &i64, node: &i64, name: &str| {
            let lost = || Fault::new(format!("attribute `{name}`: tree {tree} has no node {node}"));
            places.get(&(tree, node)).copied().ok_or_else(lost)
        };
        let weights = leaves.read(count, place)?;
        let mut nodes = Vec::with_capacity(count);
        let columns = tree_ids.iter().zip(features).zip(modes).zip(yes.iter().zip(no)).zip(&thresholds);
        for (i, ((((tree, feature), mode), (yes, no)), &threshold)) in columns.enumerate() {
            let mode = Mode::named(mode)
                .ok_or_else(|| Fault::new(format!("attribute `nodes_modes` has an unknown `{mode}`")))?;
            let missing_yes = missing.get(i).is_some_and(|&tracks| tracks != 0);
            nodes.push(match mode {
                Mode::Leaf => {
                    let (start, end) = weights.ranges.get(i).copied().unwrap_or_default();
                    Node { threshold, feature: 0, yes: start, no: end, mode, missing_yes }
                }
                _ => Node {
                    threshold,
                    feature: u32::try_from(*feature).map_err(|_| {
                        Fault::new(format!("attribute `nodes_featureids`: {feature} is no feature"))
                    })?,
                    yes: place(tree, yes, "nodes_truenodeids")?,
                    no: place(tree, no, "nodes_falsenodeids")?,
                    mode,
                    missing_yes,
                },
            });
        }
        let roots = roots(&nodes, tree_ids)?;
        if check_trees(&nodes, &roots)? != count {
            return Err(Fault::new("attribute `nodes_truenodeids`: a tree leads into itself"));
        }
        Forest::new(nodes, roots, weights.sorted, Vec::new(), aggregate, targets)
    }

    /// Whether no weight is negative.
    pub(super) fn is_positive(&self) -> bool {
        self.weights.iter().all(|weight| weight.value >= 0.0)
    }

    /// The one target that all leaves add to, if there is only one.
    pub(super) fn only_target(&self) -> Option<u32> {
        let first = self.weights.first()?.target;
        self.weights.iter().all(|weight| weight.target == first).then_some(first)
    }

    /// The targets of each row of `width` features.
    pub(super) fn run(&self, rows: &[f64], count: usize, width: usize) -> Result<Vec<f64>, Fault> {
        if width < self.features {
            let needed = self.features;
            return Err(Fault::new(format!("its trees look at {needed} features, rows have {width}")));
        }
        let start = match self.aggregate {
            Aggregate::Sum | Aggregate::Average => 0.0,
            Aggregate::Min => f64::INFINITY,
            Aggregate::Max => f64::NEG_INFINITY,
        };
        super::value::elements(&[count, self.targets])?;
        let mut scores = vec![start; count * self.targets];
        for &root in &self.roots {
            for (row, scores) in rows.chunks_exact(width.max(1)).zip(scores.chunks_exact_mut(self.targets)) {
                for weight in self.leaf(root, row) {
                    let Some(score) = scores.get_mut(weight.target as usize) else { continue };
                    match self.aggregate {
                        Aggregate::Sum | Aggregate::Average => *score += weight.value,
                        Aggregate::Min => *score = score.min(weight.value),
                        Aggregate::Max => *score = score.max(weight.value),
                    }
                }
            }
        }
        match self.aggregate {
            Aggregate::Sum => {}
            Aggregate::Average => scores.iter_mut().for_each(|score| *score /= self.roots.len() as f64),
            Aggregate::Min | Aggregate::Max => {
                scores.iter_mut().filter(|score| score.is_infinite()).for_each(|score| *score = 0.0);
            }
        }
        Ok(scores)
    }

    /// The weights of the leaf that a row reaches. Every tree was walked at load: this ends.
    fn leaf(&self, root: u32, row: &[f64]) -> &[Weight] {
        let mut at = root;
        while let Some(node) = self.nodes.get(at as usize) {
            let x = row.get(node.feature as usize).copied().unwrap_or(f64::NAN);
            let yes = match node.mode {
                Mode::Leaf => {
                    return self.weights.get(node.yes as usize..node.no as usize).unwrap_or_default();
                }
                Mode::Leq => x <= node.threshold,
                Mode::Lt => x < node.threshold,
                Mode::Gte => x >= node.threshold,
                Mode::Gt => x > node.threshold,
                Mode::Eq => x == node.threshold,
                Mode::Neq => x != node.threshold,
                Mode::Member => self.sets.get(node.threshold as usize).is_some_and(|set| set.contains(&x)),
            };
            at = if yes || (node.missing_yes && x.is_nan()) { node.yes } else { node.no };
        }
        &[]
    }
}

/// The first node of each tree: the one that no other leads to.
fn roots(nodes: &[Node], tree_ids: &[i64]) -> Result<Vec<u32>, Fault> {
    let mut led_to = vec![false; nodes.len()];
    for node in nodes.iter().filter(|node| node.mode != Mode::Leaf) {
        for child in [node.yes, node.no] {
            if let Some(led_to) = led_to.get_mut(child as usize) {
                *led_to = true;
            }
        }
    }
    let mut roots = Vec::new();
    let mut with_root = std::collections::HashSet::new();
    for (place, (tree, _)) in tree_ids.iter().zip(&led_to).enumerate().filter(|(_, (_, led_to))| !**led_to) {
        if !with_root.insert(tree) {
            return Err(Fault::new(format!("tree {tree} has several first nodes")));
        }
        roots.push(place as u32);
    }
    match tree_ids.iter().find(|tree| !with_root.contains(tree)) {
        Some(tree) => Err(Fault::new(format!("tree {tree} has no first node: it leads into itself"))),
        None => Ok(roots),
    }
}

/// Walks all trees, and counts their nodes: one may be reached once.
fn check_trees(nodes: &[Node], roots: &[u32]) -> Result<usize, Fault> {
    let mut count = 0;
    let mut seen = vec![false; nodes.len()];
    let mut open = roots.to_vec();
    while let Some(place) = open.pop() {
        let (Some(node), Some(seen)) = (nodes.get(place as usize), seen.get_mut(place as usize)) else {
            return Err(Fault::new(format!("a branch leads to node {place} of {}", nodes.len())));
        };
        if std::mem::replace(seen, true) {
            return Err(Fault::new(format!("several branches lead to node {place}: it is no tree")));
        }
        count += 1;
        if node.mode != Mode::Leaf {
            open.extend([node.yes, node.no]);
        }
    }
    Ok(count)
}

/// Where the attributes of leaves are.
pub(super) struct Leaves<'a> {
    pub(super) prefix: &'static str,
    pub(super) tree_ids: &'a [i64],
    pub(super) node_ids: &'a [i64],
    pub(super) targets: &'a [i64],
    pub(super) weights: Vec<f64>,
}

/// Weights in the order of their nodes, and each node's range of them.
struct Sorted {
    sorted: Vec<Weight>,
    ranges: Vec<(u32, u32)>,
}

impl Leaves<'_> {
    fn read(
        &self,
        nodes: usize,
        place: impl Fn(&i64, &i64, &str) -> Result<u32, Fault>,
    ) -> Result<Sorted, Fault> {
        let (prefix, count) = (self.prefix, self.weights.len());
        let lengths = [self.tree_ids.len(), self.node_ids.len(), self.targets.len()];
        if count > NODES_MAX || lengths.iter().any(|&len| len != count) {
            let text = format!("attributes `{prefix}_*` have {lengths:?} entries for {count} weights");
            return Err(Fault::new(text));
        }
        let mut placed = Vec::with_capacity(count);
        let ids = self.tree_ids.iter().zip(self.node_ids).zip(self.targets).zip(&self.weights);
        for (((tree, node), target), &value) in ids {
            let no_target = |_| Fault::new(format!("attribute `{prefix}_ids`: {target} is no target"));
            let target = u32::try_from(*target).map_err(no_target)?;
            placed.push((place(tree, node, prefix)?, Weight { target, value }));
        }
        placed.sort_by_key(|(place, _)| *place);
        let mut ranges = vec![(0, 0); nodes];
        for (i, (place, _)) in placed.iter().enumerate() {
            if let Some((start, end)) = ranges.get_mut(*place as usize) {
                if *end == 0 {
                    *start = i as u32;
                }
                *end = i as u32 + 1;
            }
        }
        Ok(Sorted { sorted: placed.into_iter().map(|(_, weight)| weight).collect(), ranges })
    }
}
