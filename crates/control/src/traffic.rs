//! Traffic splits: percent by deployed model id, one entry for each, that sums to 100, or to 0 when
//! nothing takes traffic.

use std::collections::BTreeMap;

use crate::{Error, Result};

/// Percent by deployed model id.
pub(crate) type Split = BTreeMap<String, u32>;

/// What a client calls the model that it is just deploying.
const NEW: &str = "0";

/// The split over `ids` that a client asked for: those not named get 0.
///
/// # Errors
/// If it names a model that is not deployed, or sums to neither 100 nor 0.
pub(crate) fn over(ids: &[&str], asked: &Split) -> Result<Split> {
    if let Some(id) = asked.keys().find(|id| !ids.contains(&id.as_str())) {
        return Err(Error::invalid(format!(
            "traffic_split names {id:?}, which is not deployed here; the deployed models are {}",
            listed(ids)
        )));
    }
    let sum: u64 = asked.values().map(|percent| u64::from(*percent)).sum();
    if sum != 100 && sum != 0 {
        let shares: Vec<String> = asked.iter().map(|(id, percent)| format!("{id:?}: {percent}")).collect();
        return Err(Error::invalid(format!(
            "traffic_split must sum to 100, not {sum}: {{{}}}; models that are not named get 0",
            shares.join(", ")
        )));
    }
    Ok(ids.iter().map(|id| ((*id).to_owned(), asked.get(*id).copied().unwrap_or(0))).collect())
}

fn listed(ids: &[&str]) -> String {
    if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
}

/// The split once `new` is deployed beside `ids`. Unless `asked` says otherwise the first takes all and a
/// later one nothing.
///
/// # Errors
/// As [`over`]; `asked` calls the new one `"0"`.
pub(crate) fn deployed(ids: &[&str], present: &Split, new: &str, asked: Option<&Split>) -> Result<Split> {
    let Some(asked) = asked.filter(|asked| !asked.is_empty()) else {
        let mut split: Split = ids.iter().map(|id| share(present, id)).collect();
        split.insert(new.to_owned(), if ids.is_empty() { 100 } else { 0 });
        return Ok(split);
    };
    let with_new: Vec<&str> = ids.iter().copied().chain([NEW]).collect();
    let mut split = over(&with_new, asked)?;
    let percent = split.remove(NEW).unwrap_or(0);
    split.insert(new.to_owned(), percent);
    Ok(split)
}

/// The split once `gone` is undeployed and `ids` stay. Unless `asked` says otherwise, what it had is
/// spread over those that stay in proportion to what they have.
///
/// # Errors
/// As [`over`]; `asked` may still name the one that goes, with 0.
pub(crate) fn undeployed(ids: &[&str], present: &Split, gone: &str, asked: Option<&Split>) -> Result<Split> {
    let Some(asked) = asked.filter(|asked| !asked.is_empty()) else {
        return Ok(rescaled(&ids.iter().map(|id| share(present, id)).collect()));
    };
    let mut asked = asked.clone();
    if asked.get(gone) == Some(&0) {
        asked.remove(gone);
    }
    over(ids, &asked)
}

fn share(present: &Split, id: &str) -> (String, u32) {
    (id.to_owned(), present.get(id).copied().unwrap_or(0))
}

/// Shares in the same proportion that sum to 100: each is rounded down, then what is missing goes to the
/// largest remainders. All 0 stays so.
fn rescaled(split: &Split) -> Split {
    let sum: u64 = split.values().map(|percent| u64::from(*percent)).sum();
    if sum == 0 {
        return split.clone();
    }
    // Shares are at most 100 each, so that none of this overflows.
    let exact = |percent: &u32| u64::from(*percent) * 100;
    let mut scaled: Split =
        split.iter().map(|(id, p)| (id.clone(), u32::try_from(exact(p) / sum).unwrap_or(0))).collect();
    let missing = 100u32.saturating_sub(scaled.values().sum()) as usize;
    let mut by_remainder: Vec<&String> = split.keys().collect();
    by_remainder.sort_by_key(|id| std::cmp::Reverse(split.get(*id).map_or(0, |p| exact(p) % sum)));
    for id in by_remainder.into_iter().take(missing) {
        *scaled.entry(id.clone()).or_default() += 1;
    }
    scaled
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn split(shares: &[(&str, u32)]) -> Split {
        shares.iter().map(|(id, percent)| ((*id).to_owned(), *percent)).collect()
    }

    #[test]
    fn the_first_takes_all_and_later_ones_nothing() {
        let first = deployed(&[], &Split::new(), "7", None).unwrap();
        assert_eq!(first, split(&[("7", 100)]));
        let second = deployed(&["7"], &first, "8", None).unwrap();
        assert_eq!(second, split(&[("7", 100), ("8", 0)]));
        let asked = split(&[("7", 90), ("0", 10)]);
        assert_eq!(deployed(&["7"], &first, "8", Some(&asked)).unwrap(), split(&[("7", 90), ("8", 10)]));
        assert_eq!(deployed(&["7"], &first, "8", Some(&Split::new())).unwrap(), second);
    }

    #[test]
    fn what_went_is_spread_in_proportion() {
        let present = split(&[("1", 50), ("2", 30), ("3", 20)]);
        assert_eq!(undeployed(&["2", "3"], &present, "1", None).unwrap(), split(&[("2", 60), ("3", 40)]));
        assert_eq!(undeployed(&["1", "2"], &present, "3", None).unwrap(), split(&[("1", 63), ("2", 37)]));
        assert_eq!(undeployed(&[], &present, "3", None).unwrap(), Split::new());
        // As Google's client library asks when the one that goes had everything.
        let idle = split(&[("1", 100), ("2", 0)]);
        assert_eq!(undeployed(&["2"], &idle, "1", Some(&split(&[("2", 0)]))).unwrap(), split(&[("2", 0)]));
        assert_eq!(
            undeployed(&["2"], &idle, "1", Some(&split(&[("1", 0), ("2", 100)]))).unwrap(),
            split(&[("2", 100)])
        );
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let error = over(&["1", "2"], &split(&[("1", 60), ("2", 30)])).unwrap_err();
        assert_eq!(
            error.message,
            "traffic_split must sum to 100, not 90: {\"1\": 60, \"2\": 30}; models that are not named get 0"
        );
        let error = over(&["1", "2"], &split(&[("3", 100)])).unwrap_err();
        assert_eq!(
            error.message,
            "traffic_split names \"3\", which is not deployed here; the deployed models are 1, 2"
        );
        assert!(over(&["1"], &split(&[("1", u32::MAX)])).is_err());
    }

    fn sound(split: &Split, ids: &[String]) -> bool {
        let sum: u32 = split.values().sum();
        (sum == 100 || sum == 0) && split.keys().eq(ids.iter())
    }

    proptest! {
        /// Whatever is asked in whatever order, the split stays sound, and a refusal changes nothing.
        #[test]
        fn splits_stay_sound(steps in prop::collection::vec(
            (0u8..3, 0usize..6, prop::option::of(prop::collection::vec(0u32..120, 0..6))), 0..30)) {
            let (mut ids, mut present): (Vec<String>, Split) = (Vec::new(), Split::new());
            for (number, (what, at, shares)) in steps.into_iter().enumerate() {
                let asked = shares.map(|shares| {
                    let names = ids.iter().cloned().chain([NEW.to_owned()]);
                    names.zip(shares).collect::<Split>()
                });
                let old: Vec<&str> = ids.iter().map(String::as_str).collect();
                match what {
                    0 => {
                        let new = format!("{:03}", number + 1);
                        if let Ok(split) = deployed(&old, &present, &new, asked.as_ref()) {
                            (present, ids) = (split, ids.into_iter().chain([new]).collect());
                        }
                    }
                    1 if at < ids.len() => {
                        let gone = ids[at].clone();
                        let stay: Vec<&str> = old.into_iter().filter(|id| *id != gone).collect();
                        if let Ok(split) = undeployed(&stay, &present, &gone, asked.as_ref()) {
                            present = split;
                            ids.remove(at);
                        }
                    }
                    _ => {
                        if let Ok(split) = over(&old, &asked.unwrap_or_default()) {
                            present = split;
                        }
                    }
                }
                prop_assert!(sound(&present, &ids), "{present:?} over {ids:?}");
            }
        }
    }
}
