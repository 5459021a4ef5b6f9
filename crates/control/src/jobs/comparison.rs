//! [`Pairs`]: the errors of two versions on the same rows, and what is written of them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use analysis::{Comparison, Difference, Figure, REPLICATES, RowError, Verdict};
use serde_json::{Value, json};

use super::evaluation::Errors;
use crate::{Against, Error, Result};

/// Pairs up the errors of two versions. Used by several threads at once.
#[derive(Default)]
pub(super) struct Pairs {
    /// Comparisons that no thread is using.
    idle: Mutex<Vec<Comparison>>,
}

impl Pairs {
    /// Counts the rows of one chunk of input `input` that both versions have predicted.
    pub(super) fn observe(&self, input: usize, first: &Errors, second: &Errors) -> Result<()> {
        let mut others = second.iter().peekable();
        let pairs = first.iter().filter_map(|(row, error)| {
            while others.next_if(|(other, _)| other < row).is_some() {}
            others.next_if(|(other, _)| other == row).map(|(_, other)| (*row, *error, *other))
        });
        let mut pairs = pairs.peekable();
        let Some((_, error, _)) = pairs.peek() else { return Ok(()) };
        let empty = match error {
            RowError::Classes { .. } => Comparison::of_classes,
            RowError::Value(_) => Comparison::of_values,
        };
        let mut comparison = self.idle().pop().unwrap_or_else(empty);
        for (row, first, second) in pairs {
            let number = (input as u64).rotate_right(16) ^ row;
            if !comparison.observe(number, first, second) {
                return Err(Error::invalid(
                    "one of the two versions answers scores of classes and the other a number, so they cannot be compared",
                ));
            }
        }
        self.idle().push(comparison);
        Ok(())
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Comparison>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the pairs say of a version beside the version `against`.
pub(super) fn json(against: &Against, pairs: Pairs) -> Result<Value> {
    let parts = pairs.idle.into_inner().unwrap_or_else(PoisonError::into_inner);
    let all = parts.into_iter().reduce(|mut all, part| {
        all.merge(part);
        all
    });
    let Some(metrics) = all.and_then(|all| all.metrics()) else {
        return Err(Error::invalid("no row could be predicted by both versions, so they cannot be compared"));
    };
    let mut json = json!({
        "against": format!("{}@{}", against.model, against.version),
        "rowCount": metrics.rows,
        "figures": metrics.differences.iter().map(difference_json).collect::<Vec<_>>(),
        "resamplings": REPLICATES,
        "verdict": match metrics.verdict {
            Verdict::FirstIsBetter => "better",
            Verdict::SecondIsBetter => "worse",
            Verdict::Undecided => "undecided",
        },
    });
    if let Some(test) = metrics.mc_nemar {
        json["mcNemar"] = json!({
            "onlyThisRight": test.only_first_right,
            "onlyAgainstRight": test.only_second_right,
            "pValue": test.p_value,
        });
    }
    Ok(json)
}

fn difference_json(difference: &Difference) -> Value {
    let (low, high) = difference.interval;
    json!({
        "figure": match difference.figure {
            Figure::Accuracy => "accuracy",
            Figure::LogLoss => "logLoss",
            Figure::RootMeanSquaredError => "rootMeanSquaredError",
            Figure::MeanAbsoluteError => "meanAbsoluteError",
        },
        "value": difference.first,
        "against": difference.second,
        "difference": difference.first - difference.second,
        "interval": {"confidence": 0.95, "low": low, "high": high},
    })
}
