#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::quota::{Limited, TrainingLease};
use crate::usage::Amount;
use crate::{ReportBy, Role};

const RESOURCE: &str = "projects/p/locations/l/models/m";

fn principal(project: &str, key: &str) -> Arc<Principal> {
    Arc::new(Principal { key_id: key.into(), project: project.into(), role: Role::Invoker, models: None })
}

fn output(tokens: u64) -> Amount {
    Amount { output_tokens: tokens, ..Amount::default() }
}

fn open(directory: &Path, limits: QuotaLimits) -> Arc<Books> {
    let limits = vec![(QuotaScope::Project("p".into()), limits)];
    // A unit of money for each token of an answer.
    let price = Price { output_million: Money(1_000_000), ..Price::default() };
    Arc::new(Books::open(directory, limits, vec![(ANY_MODEL.into(), price)], &[]).unwrap())
}

fn total(books: &Books) -> Amount {
    let wanted = Wanted { first: Day::MIN, last: Day::MAX, project: None, by: vec![ReportBy::Key] };
    books.report(&[], &wanted).unwrap().total
}

fn refusal<T>(result: std::result::Result<T, impl Into<NotAdmitted>>) -> Limited {
    match result.map(drop).map_err(Into::into) {
        Err(NotAdmitted::Exceeded(exceeded)) => exceeded.limit,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn every_limit_refuses_by_its_name_and_what_was_not_used_goes_back() {
    let directory = tempfile::tempdir().unwrap();
    let limits = QuotaLimits {
        requests_per_minute: Some(4),
        tokens_per_minute: Some(100),
        concurrent_requests: Some(2),
        monthly_budget: Some(Money(150)),
        ..QuotaLimits::default()
    };
    let books = open(directory.path(), limits);
    let p = principal("p", "k");
    let (first, second) = (books.admit(&p).unwrap(), books.admit(&p).unwrap());
    assert_eq!(refusal(books.admit(&p)), Limited::Concurrent(2));
    first.reserve(RESOURCE, "m", output(60)).unwrap();
    let refused = second.reserve(RESOURCE, "m", output(60)).unwrap_err();
    assert!(matches!(refused.limit, Limited::Tokens { limit: 100, asked: 60, .. }), "{refused}");
    assert!(refused.retry_after.unwrap() > Duration::from_secs(10), "{refused}");
    assert_eq!(second.reserve(RESOURCE, "m", output(101)).unwrap_err().retry_after, None);
    first.record(output(10));
    drop(first);
    second.reserve(RESOURCE, "m", output(90)).unwrap();
    second.record(output(90));
    drop(second);
    let rates = books.admit(&p).unwrap().rates();
    assert_eq!((rates.requests.unwrap().left, rates.requests.unwrap().limit), (1, 4));
    assert_eq!(rates.tokens.unwrap().left, 0);
    drop(books.admit(&p).unwrap());
    assert_eq!(refusal(books.admit(&p)), Limited::Requests(4));
    books.set_limits(
        QuotaScope::Project("p".into()),
        QuotaLimits { monthly_budget: Some(Money(150)), ..QuotaLimits::default() },
    );
    let third = books.admit(&p).unwrap();
    assert_eq!(refusal(third.reserve(RESOURCE, "m", output(51))), Limited::Budget(Money(150)));
    third.reserve(RESOURCE, "m", output(50)).unwrap();
    assert_eq!(refusal(books.admit(&p)), Limited::Budget(Money(150)));
    third.record(output(50));
    assert_eq!(
        total(&books),
        Amount { requests: 3, output_tokens: 150, cost: Money(150), ..Amount::default() }
    );
}

#[test]
fn what_was_used_counts_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let limits = QuotaLimits {
        requests_per_minute: Some(3),
        tokens_per_minute: Some(1000),
        monthly_budget: Some(Money(100)),
        ..QuotaLimits::default()
    };
    let books = open(directory.path(), limits);
    let meter = books.admit(&principal("p", "k")).unwrap();
    meter.reserve(RESOURCE, "m", output(80)).unwrap();
    meter.record(output(70));
    drop((meter, books));
    let books = open(directory.path(), limits);
    assert_eq!(books.spent(&QuotaScope::Project("p".into())), Money(70));
    assert_eq!(books.spent(&QuotaScope::Key("k".into())), Money(70));
    let meter = books.admit(&principal("p", "other")).unwrap();
    let rates = meter.rates();
    assert!(rates.requests.unwrap().left <= 2 && rates.tokens.unwrap().left < 1000, "{rates:?}");
    assert_eq!(refusal(meter.reserve(RESOURCE, "m", output(31))), Limited::Budget(Money(100)));
    meter.reserve(RESOURCE, "m", output(30)).unwrap();
}

#[test]
fn a_key_of_all_projects_is_bound_by_the_project_of_what_it_asks() {
    let directory = tempfile::tempdir().unwrap();
    let limits = QuotaLimits { concurrent_requests: Some(1), ..QuotaLimits::default() };
    let books = open(directory.path(), limits);
    let first = books.admit(&principal("*", "k")).unwrap();
    let second = books.admit(&principal("*", "k")).unwrap();
    first.reserve(RESOURCE, "m", output(1)).unwrap();
    assert_eq!(refusal(second.reserve(RESOURCE, "m", output(1))), Limited::Concurrent(1));
    second.reserve("projects/q/locations/l/models/m", "m", output(1)).unwrap();
    drop(first);
    drop(books.admit(&principal("p", "k")).unwrap());
}

#[test]
fn training_is_had_by_the_minute_of_the_month_and_what_was_not_used_goes_back() {
    let directory = tempfile::tempdir().unwrap();
    let limits = QuotaLimits { training_minutes: Some(1), ..QuotaLimits::default() };
    let books = open(directory.path(), limits);
    let project = QuotaScope::Project("p".into());
    let meter = |project: &str| Arc::new(books.meter(project, "m"));
    let meters: Vec<_> = (0..6).map(|_| meter("p")).collect();
    let leases: Vec<_> = meters.iter().map(|meter| TrainingLease::take(meter.clone()).unwrap()).collect();
    // All of the minute is reserved.
    let refused = meter("p").check_training();
    assert_eq!(refused.map_err(|exceeded| exceeded.limit), Err(Limited::Training(1)));
    assert!(TrainingLease::take(meter("p")).is_err());
    meter("q").check_training().unwrap();
    drop(leases);
    // Begun seconds count.
    meters.iter().for_each(|meter| meter.written(&meter.due().unwrap().amount));
    drop(meters);
    assert_eq!(books.trained(&project), 6);
    let rest = meter("p");
    assert_eq!(rest.reserve_training(60), Ok(54));
    rest.count_training(54);
    rest.written(&rest.due().unwrap().amount);
    let refused = TrainingLease::take(meter("p")).err().unwrap();
    assert!(refused.retry_after.unwrap() > Duration::from_secs(1), "{refused}");
    // The month after is another.
    let later = Day::today().month_end().begin_ms();
    let allowance = books.find(&project).unwrap();
    assert_eq!(allowance.reserve_training(60, &Price::default(), later).unwrap().training, 60);
}

#[test]
fn jobs_reserve_what_they_take_and_are_refused_beyond_the_budget() {
    let directory = tempfile::tempdir().unwrap();
    let limits = QuotaLimits { monthly_budget: Some(Money(1000)), ..QuotaLimits::default() };
    let books = open(directory.path(), limits);
    let price = Price { rows_thousand: Money(1000), training_minute: Money(600), ..Price::default() };
    books.set_price("m", Some(price));
    let project = QuotaScope::Project("p".into());
    let (batch, training) = (books.meter("p", "m"), books.meter("p", "m"));
    batch.reserve_rows(600).unwrap();
    assert_eq!(batch.reserve_rows(401).map_err(|exceeded| exceeded.limit), Err(Limited::Budget(Money(1000))));
    // As many seconds as can be paid.
    assert_eq!(training.reserve_training(60), Ok(40));
    assert!(training.reserve_training(1).is_err() && books.meter("p", "m").check_rows().is_err());
    // Rows that could not be predicted are not paid.
    batch.count_rows(600, 500);
    assert_eq!(books.spent(&project), Money(0));
    let due = batch.due().unwrap();
    assert_eq!((due.amount.rows, due.amount.cost), (500, Money(500)));
    batch.written(&due.amount);
    assert_eq!((batch.due(), books.spent(&project)), (None, Money(500)));
    training.count_training(3);
    training.written(&training.due().unwrap().amount);
    assert_eq!(books.spent(&project), Money(530));
    drop((batch, training));
    books.meter("p", "m").reserve_rows(470).unwrap();
    assert!(books.meter("p", "m").reserve_rows(471).is_err());
    // What is free is never refused.
    books.set_limits(project, QuotaLimits { monthly_budget: Some(Money(1)), ..limits });
    books.set_price("m", Some(Price::default()));
    books.meter("p", "m").reserve_rows(1_000_000).unwrap();
    assert_eq!(books.meter("p", "m").reserve_training(60), Ok(60));
}

#[test]
fn room_is_refused_beyond_the_limit_and_asked_anew_when_something_has_arrived() {
    let directory = tempfile::tempdir().unwrap();
    let limits = QuotaLimits { stored_bytes: Some(100), ..QuotaLimits::default() };
    let allowance = open(directory.path(), limits).find(&QuotaScope::Project("p".into())).unwrap();
    let (limit, as_of) = allowance.stored_limit();
    assert_eq!(limit, Some(100));
    assert_eq!(allowance.reserve_stored(40, 50, as_of), Some(Ok(())));
    let refused = allowance.reserve_stored(11, 50, as_of).unwrap().unwrap_err();
    assert_eq!(refused.limit, Limited::Stored { limit: 100, stored: 90, asked: 11 });
    assert_eq!(allowance.reserve_stored(10, 50, as_of), Some(Ok(())));
    // What was on its way is where it lies now: 50 is not true any more.
    allowance.release_stored(40);
    assert_eq!(allowance.reserve_stored(10, 50, as_of), None);
    let (_, as_of) = allowance.stored_limit();
    assert!(allowance.reserve_stored(1, 90, as_of).unwrap().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Many at once, of whom some leave at any point: what was told is what is in the ledger, the budget is never
    /// exceeded, and at the end nothing is reserved any more.
    #[test]
    fn the_ledger_holds_what_was_told_and_never_more_than_the_budget(
        budget in 0u64..3000,
        plans in prop::collection::vec(prop::collection::vec((1u64..60, 0u64..60, 0u8..4), 20..60), 4..9),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let limits = QuotaLimits {
            monthly_budget: Some(Money(budget)),
            concurrent_requests: Some(6),
            ..QuotaLimits::default()
        };
        let books = open(directory.path(), limits);
        let (told, requests) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for (key, plan) in plans.iter().enumerate() {
                let (books, told, requests) = (&books, &told, &requests);
                let principal = principal("p", &format!("k{key}"));
                scope.spawn(move || {
                    for (reserved, used, ends) in plan {
                        let Ok(meter) = books.admit(&principal) else { continue };
                        if meter.reserve(RESOURCE, "m", output(*reserved)).is_err() || *ends == 0 {
                            continue;
                        }
                        // A stream: in two parts, of which the second may not be had.
                        let mut used = (*used).min(*reserved);
                        if *ends == 1 && meter.reserve(RESOURCE, "m", output(*reserved)).is_ok() {
                            used *= 2;
                        }
                        meter.record(output(used));
                        told.fetch_add(used, Ordering::Relaxed);
                        requests.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let sum = total(&books);
        prop_assert_eq!(sum.output_tokens, told.load(Ordering::Relaxed));
        prop_assert_eq!(sum.requests, requests.load(Ordering::Relaxed));
        prop_assert!(sum.cost.0 <= budget);
        prop_assert_eq!(books.spent(&QuotaScope::Project("p".into())), sum.cost);
        if sum.cost.0 < budget {
            let rest = books.admit(&principal("p", "k")).unwrap();
            prop_assert!(rest.reserve(RESOURCE, "m", output(budget - sum.cost.0)).is_ok());
        }
        drop(books);
        let again = open(directory.path(), limits);
        prop_assert_eq!(total(&again), sum);
        prop_assert_eq!(again.spent(&QuotaScope::Project("p".into())), sum.cost);
    }
}
