//! [`ColumnShare`]: what of a network's input attributions belongs to a column of the rows.

use std::ops::Range;

use super::FeatureStep;
use super::bind::Instance;
use super::step::Step;
use super::tokens::Scratch;

/// The attributions of one input column.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnShare {
    /// The column.
    pub column: String,
    /// For a text: its tokens, as byte ranges.
    pub tokens: Option<Vec<Range<usize>>>,
    /// One value per token of a text, one per number of an image (row by row, channels innermost), otherwise one.
    pub values: Vec<f64>,
}

/// Shares for all columns, in their order.
pub(crate) fn columns(
    step: &FeatureStep,
    instance: &Instance<'_>,
    attributions: &[f64],
) -> Result<Vec<ColumnShare>, String> {
    if attributions.len() != step.width {
        return Err(format!("{} attributions for {} inputs", attributions.len(), step.width));
    }
    let blank = |name: &String| ColumnShare { column: name.clone(), tokens: None, values: vec![0.0] };
    let mut shares: Vec<ColumnShare> = step.columns.iter().map(|c| blank(&c.name)).collect();
    let mut rest = attributions;
    let mut scratch = Scratch::default();
    for part in &step.steps {
        let (own, after) = rest.split_at(part.width());
        rest = after;
        match part {
            Step::Numeric { columns, .. } | Step::Pixels { columns, .. } => {
                for (column, value) in columns.iter().zip(own) {
                    shares[*column].values[0] += value;
                }
            }
            Step::Blank { .. } => {}
            Step::Categorical { column, .. } => shares[*column].values[0] += own.iter().sum::<f64>(),
            Step::Image { column, .. } => shares[*column].values = own.to_vec(),
            Step::Evidence { column, .. } | Step::Terms { column, .. } | Step::Sequence { column, .. } => {
                let text = part.text(&step.columns, instance.cell(*column))?;
                let values = part.share(text, own, &mut scratch);
                let share = &mut shares[*column];
                if share.tokens.is_none() {
                    share.tokens = part.tokenizer().map(|t| t.spans(text).collect());
                    share.values = values;
                } else {
                    share.values.iter_mut().zip(values).for_each(|(sum, v)| *sum += v);
                }
            }
        }
    }
    Ok(shares)
}

/// Splits each column's attribution over tokens in proportion to what they added to it; a column to
/// which none added is split evenly, so that the sum is kept. `added` is `[tokens][columns]`.
pub(crate) fn by_contribution(added: &[Vec<f32>], attributions: &[f64]) -> Vec<f64> {
    let mut shares = vec![0.0; added.len()];
    for (column, attribution) in attributions.iter().enumerate() {
        let part = |token: &Vec<f32>| f64::from(token.get(column).copied().unwrap_or(0.0));
        let total: f64 = added.iter().map(part).sum();
        // Below this a quotient would only magnify rounding.
        let even = total.abs() <= 1e-6 * added.iter().map(|t| part(t).abs()).sum::<f64>();
        for (share, token) in shares.iter_mut().zip(added) {
            *share += if even { attribution / added.len() as f64 } else { attribution * part(token) / total };
        }
    }
    shares
}
