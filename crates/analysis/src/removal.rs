//! What is lost when players are left out: one at a time, and the strongest together.

use crate::random::Random;
use crate::shapley::{Attribution, Coalition, Error};

/// Leave-one-out values: what the output loses when a player alone is absent. Costs `players + 2` evaluations. Unlike
/// Shapley values they need not add up: of two players that say the same, neither is missed.
/// [`Attribution::approximation_error`] says how far they are from it.
///
/// # Errors
/// As [`crate::shapley::sampled`].
pub fn leave_one_out<E>(
    players: usize,
    mut evaluate: impl FnMut(&[Coalition]) -> Result<Vec<f64>, E>,
) -> Result<Attribution, Error<E>> {
    let everybody = Coalition::all(players);
    let mut coalitions = vec![everybody.clone(), Coalition::none(players)];
    coalitions.extend((0..players).map(|player| everybody.without(&[player])));
    let outputs = checked(&coalitions, &mut evaluate)?;
    let (instance_output, baseline_output) = (outputs[0], outputs[1]);
    let values: Vec<f64> = outputs[2..].iter().map(|without| instance_output - without).collect();
    Ok(Attribution {
        approximation_error: crate::completeness_gap(&values, instance_output, baseline_output),
        standard_errors: vec![0.0; players],
        values,
        instance_output,
        baseline_output,
        evaluations: coalitions.len(),
    })
}

/// How far attributions can be trusted: what the output loses without the players that they call strongest, beside what it
/// loses without as many players drawn at random (the deletion metric of Petsiuk et al., 2018, at one depth).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deletion {
    /// Players left out: a fifth of them, at least one.
    pub removed: usize,
    /// What the output lost without the strongest.
    pub loss: f64,
    /// What it lost on average without the random ones.
    pub random_loss: f64,
}

/// Random sets that are compared with.
const RANDOM_SETS: usize = 5;

/// Makes the deletion test of `values`, whose greatest are the strongest, for an output that is `instance_output` with
/// everybody. The same seed draws the same players. `None` without players.
///
/// # Errors
/// As [`crate::shapley::sampled`].
pub fn deletion<E>(
    values: &[f64],
    instance_output: f64,
    seed: u64,
    mut evaluate: impl FnMut(&[Coalition]) -> Result<Vec<f64>, E>,
) -> Result<Option<Deletion>, Error<E>> {
    let players = values.len();
    if players == 0 {
        return Ok(None);
    }
    let removed = players.div_ceil(5);
    let mut order: Vec<usize> = (0..players).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let everybody = Coalition::all(players);
    let mut coalitions = vec![everybody.without(&order[..removed])];
    let mut random = Random::new(seed);
    for _ in 0..RANDOM_SETS {
        random.shuffle(&mut order);
        coalitions.push(everybody.without(&order[..removed]));
    }
    let outputs = checked(&coalitions, &mut evaluate)?;
    let random_output = outputs[1..].iter().sum::<f64>() / RANDOM_SETS as f64;
    Ok(Some(Deletion {
        removed,
        loss: instance_output - outputs[0],
        random_loss: instance_output - random_output,
    }))
}

/// The outputs, one for each coalition and all finite.
fn checked<E>(
    coalitions: &[Coalition],
    evaluate: &mut impl FnMut(&[Coalition]) -> Result<Vec<f64>, E>,
) -> Result<Vec<f64>, Error<E>> {
    let outputs = evaluate(coalitions).map_err(Error::Evaluation)?;
    if outputs.len() != coalitions.len() {
        return Err(Error::Length { asked: coalitions.len(), answered: outputs.len() });
    }
    if outputs.iter().any(|output| !output.is_finite()) {
        return Err(Error::NotFinite);
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::convert::Infallible;

    use super::*;

    /// Players add their own number; the last two say the same.
    fn output(coalitions: &[Coalition]) -> Result<Vec<f64>, Infallible> {
        let of = |set: &Coalition| {
            let own: f64 = (0..4).filter(|&player| set.contains(player)).map(|player| player as f64).sum();
            own + f64::from(set.contains(4) || set.contains(5)) * 10.0
        };
        Ok(coalitions.iter().map(of).collect())
    }

    #[test]
    fn what_is_missed_is_what_nobody_else_says() {
        let found = leave_one_out(6, output).unwrap();
        assert_eq!(found.values, [0.0, 1.0, 2.0, 3.0, 0.0, 0.0]);
        assert_eq!((found.instance_output, found.baseline_output, found.evaluations), (16.0, 0.0, 8));
        assert_eq!(found.approximation_error, 10.0 / 16.0);
    }

    #[test]
    fn the_strongest_are_missed_more_than_others() {
        let test = deletion(&[0.0, 1.0, 2.0, 3.0, 0.5, 0.25], 16.0, 7, output).unwrap().unwrap();
        assert_eq!((test.removed, test.loss), (2, 5.0));
        assert!((0.0..=5.0).contains(&test.random_loss), "{test:?}");
        assert_eq!(deletion(&[], 1.0, 0, output).unwrap(), None);
    }

    #[test]
    fn outputs_that_are_none_are_errors() {
        let short = |_: &[Coalition]| Ok::<_, Infallible>(vec![1.0]);
        assert!(matches!(leave_one_out(3, short), Err(Error::Length { asked: 5, answered: 1 })));
        let infinite = |sets: &[Coalition]| Ok::<_, Infallible>(vec![f64::NAN; sets.len()]);
        assert!(matches!(leave_one_out(3, infinite), Err(Error::NotFinite)));
    }
}
