//! [`Tally`]: tests passed and failed, read from what test runners print.

use std::ops::AddAssign;

/// How many passed and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    /// One check that is passed or failed as a whole.
    pub(crate) fn check(passed: bool) -> Self {
        Tally { passed: u64::from(passed), failed: u64::from(!passed) }
    }

    /// What one line of output says, if it is a summary: `test result: …` of Rust's test runner, or pytest's last
    /// line, `3 passed, 1 failed in 2.50s` with or without a frame.
    pub(crate) fn from_line(line: &str) -> Option<Tally> {
        let line = line.trim().trim_matches('=').trim();
        let counts = match line.strip_prefix("test result: ") {
            Some(rest) => rest.split_once(". ")?.1,
            None => line.rsplit_once(" in ").filter(|(_, time)| time.contains('s'))?.0,
        };
        let mut tally = Tally::default();
        let mut found = false;
        for part in counts.split([',', ';']) {
            let mut words = part.split_whitespace();
            let (Some(Ok(count)), Some(what)) = (words.next().map(str::parse::<u64>), words.next()) else {
                continue;
            };
            match what {
                "passed" | "xfailed" => tally.passed += count,
                "failed" | "error" | "errors" | "xpassed" => tally.failed += count,
                "skipped" => {}
                _ => continue,
            }
            found = true;
        }
        found.then_some(tally)
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_read() {
        for (line, passed, failed) in [
            (
                "test result: ok. 43 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.25s",
                43,
                0,
            ),
            ("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured", 1, 2),
            ("==== 1 failed, 3 passed, 2 skipped in 1.20s ====", 3, 1),
            ("5 passed, 1 warning in 61.20s (0:01:01)", 5, 0),
            ("2 errors in 0.10s", 0, 2),
        ] {
            assert_eq!(Tally::from_line(line), Some(Tally { passed, failed }), "{line}");
        }
    }

    #[test]
    fn other_lines_are_not() {
        for line in ["", "test a ... ok", "no tests ran in 0.01s", "3 apples in 5 baskets", "running 3 tests"]
        {
            assert_eq!(Tally::from_line(line), None, "{line}");
        }
    }
}
