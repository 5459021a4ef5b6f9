//! [`Denials`]: refused requests, counted, so that a flood of them fills no disk.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use super::entry::{Entry, Event};
use crate::{Role, Timestamp};

/// Kinds of refusals that are told apart between two writings.
const KINDS_MAX: usize = 64;
/// Entries about refusals on one day (UTC), after which only their number is written.
const ENTRIES_A_DAY: u32 = 10_000;

/// Why and to whom something was refused: what is alike is counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Denial {
    /// The HTTP status: 401 for no valid key, 403 for one that may not.
    pub status: u16,
    /// The key's public part, if it is one.
    pub key: Option<String>,
    /// What the key's holder may do.
    pub role: Option<Role>,
    /// The key's project.
    pub project: Option<String>,
    /// Where the request came from.
    pub from: Option<IpAddr>,
    /// Which route, or that there is none.
    pub what: String,
}

/// Refused requests that are not written yet.
#[derive(Default)]
pub(super) struct Denials {
    counts: HashMap<Denial, u64>,
    /// Those that found no room there.
    others: u64,
    day: i64,
    written: u32,
}

impl Denials {
    pub(super) fn count(&mut self, mut denial: Denial) {
        denial.from = denial.from.map(network);
        if self.counts.len() < KINDS_MAX || self.counts.contains_key(&denial) {
            *self.counts.entry(denial).or_default() += 1;
        } else {
            self.others += 1;
        }
    }

    /// What is to be written, and is not waiting here any more.
    pub(super) fn take(&mut self, now: Timestamp) -> Vec<Entry> {
        let day = now.as_second() / 86_400;
        if day != self.day {
            (self.day, self.written) = (day, 0);
        }
        let mut entries = Vec::new();
        let mut others = std::mem::take(&mut self.others);
        for (denial, count) in self.counts.drain() {
            if self.written >= ENTRIES_A_DAY {
                others += count;
                continue;
            }
            self.written += 1;
            let Denial { status, key, role, project, from, what } = denial;
            entries.push(Entry {
                status: Some(status),
                key,
                role,
                project,
                from,
                what: Some(what),
                count: Some(count),
                ..Entry::new(Event::Denied)
            });
        }
        if others > 0 {
            entries.push(Entry { count: Some(others), ..Entry::new(Event::Denied) });
        }
        entries
    }
}

/// An address of IPv6 stands for its network of 64 bits, which is one customer's.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn denial(from: u32) -> Denial {
        let from = Some(IpAddr::V4(from.into()));
        Denial { status: 401, key: None, role: None, project: None, from, what: "GET /x".to_owned() }
    }

    #[test]
    fn a_flood_is_a_few_entries_that_count_all_of_it() {
        let mut denials = Denials::default();
        let now = Timestamp::from_second(86_400 * 20_000).unwrap();
        let (mut entries, mut counted) = (0, 0);
        for round in 0..400 {
            for i in 0..10_000 {
                denials.count(denial(i % 1000 + round));
            }
            let taken = denials.take(now);
            assert!(taken.len() <= KINDS_MAX + 1);
            entries += taken.len();
            counted += taken.iter().filter_map(|entry| entry.count).sum::<u64>();
        }
        assert_eq!(counted, 400 * 10_000);
        assert!(entries <= ENTRIES_A_DAY as usize + 400, "{entries}");
        // The next day has room again.
        denials.count(denial(1));
        let tomorrow = Timestamp::from_second(86_400 * 20_001).unwrap();
        assert_eq!(denials.take(tomorrow).first().and_then(|entry| entry.from), denial(1).from);
        assert!(denials.take(tomorrow).is_empty());
    }

    #[test]
    fn one_customers_addresses_are_one() {
        let mut denials = Denials::default();
        for last in 0..1000_u128 {
            let from = Some(IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) + last)));
            denials.count(Denial { from, ..denial(0) });
        }
        assert_eq!(denials.take(Timestamp::UNIX_EPOCH).len(), 1);
    }
}
