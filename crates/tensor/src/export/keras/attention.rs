//! Keras' attention layers: scores of a query's steps for a key's, and what these take of the values.

use formats::keras::{Array, Attention, Heads, Projection};

use super::super::writer::{Step, Value, Writer, int, ints, row_elements, shown};
use crate::Dim;

/// What masked steps score, or what is taken off their scores.
const FAR: f32 = 1e9;

/// Query, key and value, each `[steps, channels]`.
struct Taken {
    query: Value,
    key: Value,
    value: Value,
    looks: Looks,
}

/// Which steps of a query look at which of a key.
pub(super) struct Looks {
    /// Those that may, where it is said; of each head, where there is a dimension more.
    pub(super) allowed: Option<Value>,
    /// Whether none looks at a later one.
    pub(super) causal: bool,
    /// Whether the scores are given besides. Keras takes another way there.
    pub(super) scores: bool,
}

impl Writer {
    /// Applies `attention` to the query, the value and, where it is another, the key.
    pub(super) fn attention(&mut self, attention: &Attention, taken: Vec<Value>, mut looks: Looks) -> Step {
        let count = taken.len();
        let mut taken = taken.into_iter().map(|value| self.steps(value)).collect::<Result<Vec<_>, _>>()?;
        let key = if count == 3 { taken.pop() } else { taken.get(1).cloned() };
        let (Some(key), Ok([query, value])) = (key, <[Value; 2]>::try_from(taken)) else {
            return Err(format!("takes a query, a value and perhaps a key, not {count} values"));
        };
        looks.allowed = looks.allowed.map(|allowed| self.truths(allowed));
        let taken = Taken { query, key, value, looks };
        let each = match attention {
            Attention::Heads(heads) => heads.query.kernel.shape.get(1).map(|heads| Dim::Fixed(*heads)),
            Attention::Dot { .. } => None,
            Attention::Additive { .. } => taken.query.shape.last().copied(),
        };
        let scores = [taken.query.shape[0], taken.key.shape[0], each.unwrap_or(Dim::Fixed(1))];
        row_elements(&scores)?;
        self.sizes.add(&scores);
        let (name, width, shares) = match attention {
            Attention::Heads(heads) => self.heads(&taken, heads)?,
            _ if taken.looks.allowed.is_some() => return Err("takes no `attention_mask`".to_owned()),
            Attention::Dot { scale } => {
                let key = self.node("Transpose", &[&taken.key.name], vec![ints("perm", vec![0, 2, 1])]);
                let scores = self.node("MatMul", &[&taken.query.name, &key], vec![]);
                let scores = self.times(scores, &[*scale])?;
                self.plain(&taken, scores)
            }
            Attention::Additive { inner, outer } => {
                let scores = self.additive(&taken, *inner, outer)?;
                self.plain(&taken, scores)
            }
        };
        let heads = each.filter(|_| matches!(attention, Attention::Heads(_)));
        let shape = heads.into_iter().chain([taken.query.shape[0], taken.key.shape[0]]);
        self.parts = vec![Value::floats(shares, shape.collect())];
        let shape = vec![taken.query.shape[0], width];
        row_elements(&shape)?;
        self.at = Value { mask: taken.query.mask, ..Value::floats(name, shape) };
        Ok(())
    }

    /// A value as floats, `[steps, channels]`.
    fn steps(&mut self, value: Value) -> Result<Value, String> {
        self.at = value;
        self.become_plain();
        match self.at.shape.len() {
            2 => Ok(self.at.clone()),
            _ => Err(format!("takes [steps, channels], not {}", shown(&self.at.shape))),
        }
    }

    fn heads(
        &mut self,
        taken: &Taken,
        Heads { query, key, value, output, blank }: &Heads,
    ) -> Result<(String, Dim, String), String> {
        let &[_, _, width] = query.kernel.shape.as_slice() else { return Err("has no heads".to_owned()) };
        let &[heads, own, outputs] = output.kernel.shape.as_slice() else {
            return Err("has no heads".to_owned());
        };
        let seen = self.projected(&taken.query, query, [0, 2, 1, 3])?;
        let keys = self.projected(&taken.key, key, [0, 2, 3, 1])?;
        let values = self.projected(&taken.value, value, [0, 2, 1, 3])?;
        let seen = self.times(seen, &[1.0 / (width as f32).sqrt()])?;
        let mut scores = self.node("MatMul", &[&seen, &keys], vec![]);
        let mut allowed = None;
        let (rows, columns) = (self.integers("axes", &[1, 3]), self.integers("axes", &[1, 2]));
        for (mask, axes) in
            [(&taken.query.mask, &rows), (&taken.value.mask, &columns), (&taken.key.mask, &columns)]
        {
            if let Some(mask) = mask {
                let mask = self.node("Unsqueeze", &[mask, axes], vec![]);
                allowed = Some(self.both(allowed, mask));
            }
        }
        if taken.looks.causal {
            let earlier = self.earlier(taken);
            allowed = Some(self.both(allowed, earlier));
        }
        if let Some(given) = &taken.looks.allowed {
            let given = self.of_each_head(given, heads)?;
            allowed = Some(self.both(allowed, given));
        }
        if let Some(allowed) = &allowed {
            let far = self.scalar("far", -FAR);
            scores = self.node("Where", &[allowed, &scores, &far], vec![]);
        }
        let mut shares = self.node("Softmax", &[&scores], vec![int("axis", -1)]);
        if let Some(allowed) = allowed.filter(|_| *blank || taken.looks.scores) {
            let zero = self.scalar("zero", 0.0);
            shares = self.node("Where", &[&allowed, &shares, &zero], vec![]);
        }
        let mixed = self.node("MatMul", &[&shares, &values], vec![]);
        let mixed = self.node("Transpose", &[&mixed], vec![ints("perm", vec![0, 2, 1, 3])]);
        let joined = heads.checked_mul(own).ok_or("is too large")?;
        let dims = self.integers("shape", &[0, 0, joined as i64]);
        let mixed = self.node("Reshape", &[&mixed, &dims], vec![]);
        let name = self.weighted(&mixed, output, joined, outputs)?;
        Ok((name, Dim::Fixed(outputs), shares))
    }

    /// Which steps may look at which, for each of `heads`.
    fn of_each_head(&mut self, allowed: &Value, heads: usize) -> Result<String, String> {
        match allowed.shape.as_slice() {
            [_, _] => {
                let axis = self.integers("axis", &[1]);
                Ok(self.node("Unsqueeze", &[&allowed.name, &axis], vec![]))
            }
            [Dim::Fixed(of), _, _] if *of == 1 || *of == heads => Ok(allowed.name.clone()),
            other => Err(format!(
                "takes an `attention_mask` of [steps of the query, steps of the key], not {}",
                shown(other)
            )),
        }
    }

    /// `value` weighted for each head, its dimensions batch, steps, heads and width in the order `perm`.
    fn projected(
        &mut self,
        value: &Value,
        projection: &Projection,
        perm: [i64; 4],
    ) -> Result<String, String> {
        let &[inputs, heads, width] = projection.kernel.shape.as_slice() else {
            return Err("has no heads".to_owned());
        };
        if value.shape.last() != Some(&Dim::Fixed(inputs)) {
            return Err(format!("takes {inputs} channels, not rows of shape {}", shown(&value.shape)));
        }
        let wide = heads.checked_mul(width).ok_or("is too large")?;
        row_elements(&[value.shape[0], Dim::Fixed(wide)])?;
        let all = self.weighted(&value.name, projection, inputs, wide)?;
        let dims = self.integers("shape", &[0, 0, heads as i64, width as i64]);
        let split = self.node("Reshape", &[&all, &dims], vec![]);
        Ok(self.node("Transpose", &[&split], vec![ints("perm", perm.to_vec())]))
    }

    fn weighted(
        &mut self,
        x: &str,
        by: &Projection,
        inputs: usize,
        outputs: usize,
    ) -> Result<String, String> {
        let kernel = self.weights("kernel", &[inputs, outputs], &by.kernel.values)?;
        let product = self.node("MatMul", &[x, &kernel], vec![]);
        let Some(bias) = &by.bias else { return Ok(product) };
        let bias = self.weights("bias", &[outputs], &bias.values)?;
        Ok(self.node("Add", &[&product, &bias], vec![]))
    }

    /// `sum(outer * tanh(inner * (query + key)))`
    fn additive(&mut self, taken: &Taken, inner: f32, outer: &[f32]) -> Result<String, String> {
        let channels = taken.query.shape[1];
        if outer.len() != 1 && channels != Dim::Fixed(outer.len()) {
            return Err(format!(
                "its scale has {} values for rows of {}",
                outer.len(),
                shown(&taken.query.shape)
            ));
        }
        let (query, key) = (self.integers("axis", &[2]), self.integers("axis", &[1]));
        let query = self.node("Unsqueeze", &[&taken.query.name, &query], vec![]);
        let key = self.node("Unsqueeze", &[&taken.key.name, &key], vec![]);
        let sum = self.node("Add", &[&query, &key], vec![]);
        let sum = self.times(sum, &[inner])?;
        let bent = self.node("Tanh", &[&sum], vec![]);
        let bent = self.times(bent, outer)?;
        let last = self.integers("axis", &[-1]);
        Ok(self.node("ReduceSum", &[&bent, &last], vec![int("keepdims", 0)]))
    }

    /// What scores `[query's steps, key's steps]` take of the value.
    fn plain(&mut self, taken: &Taken, mut scores: String) -> (String, Dim, String) {
        let mut allowed = None;
        if let Some(mask) = &taken.value.mask {
            let axis = self.integers("axis", &[1]);
            allowed = Some(self.node("Unsqueeze", &[mask, &axis], vec![]));
        }
        if taken.looks.causal {
            let earlier = self.earlier(taken);
            allowed = Some(self.both(allowed, earlier));
        }
        if let Some(allowed) = allowed {
            let far = self.scalar("far", FAR);
            let lower = self.node("Sub", &[&scores, &far], vec![]);
            scores = self.node("Where", &[&allowed, &scores, &lower], vec![]);
        }
        let shares = self.node("Softmax", &[&scores], vec![int("axis", -1)]);
        let mut mixed = self.node("MatMul", &[&shares, &taken.value.name], vec![]);
        if let Some(mask) = &taken.query.mask {
            let (last, zero) = (self.integers("axis", &[-1]), self.scalar("zero", 0.0));
            let counts = self.node("Unsqueeze", &[mask, &last], vec![]);
            mixed = self.node("Where", &[&counts, &mixed, &zero], vec![]);
        }
        (mixed, taken.value.shape[1], shares)
    }

    /// Which of the key's steps are none of a later time than the query's, `[query's steps, key's steps]`.
    fn earlier(&mut self, taken: &Taken) -> String {
        let (now, then) = (self.places(&taken.query.name), self.places(&taken.key.name));
        let last = self.integers("axis", &[-1]);
        let now = self.node("Unsqueeze", &[&now, &last], vec![]);
        self.node("GreaterOrEqual", &[&now, &then], vec![])
    }

    /// What both allow.
    fn both(&mut self, one: Option<String>, other: String) -> String {
        match one {
            Some(one) => self.node("And", &[&one, &other], vec![]),
            None => other,
        }
    }

    /// The value called `name` times one number, or times one for each channel.
    fn times(&mut self, name: String, by: &[f32]) -> Result<String, String> {
        if by == [1.0] {
            return Ok(name);
        }
        let by = self.weights("scale", &[by.len()], by)?;
        Ok(self.node("Mul", &[&name, &by], vec![]))
    }
}

/// The kernels of an attention.
pub(super) fn kernels(attention: &Attention) -> Vec<&Array> {
    match attention {
        Attention::Heads(heads) => [&heads.query, &heads.key, &heads.value, &heads.output]
            .map(|projection| &projection.kernel)
            .to_vec(),
        _ => Vec::new(),
    }
}
