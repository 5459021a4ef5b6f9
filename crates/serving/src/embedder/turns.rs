//! [`Turns`]: whose text an encoder computes next.

use std::collections::VecDeque;

/// Requests that have texts left: projects take turns, and in each its requests do.
#[derive(Default)]
pub(super) struct Turns {
    lines: VecDeque<Line>,
}

/// The requests of one project; never none.
struct Line {
    project: String,
    requests: VecDeque<u64>,
}

impl Turns {
    /// Lets a request of `project` wait for its turn, behind all others of the project.
    pub(super) fn add(&mut self, project: &str, request: u64) {
        match self.lines.iter_mut().find(|line| line.project == project) {
            Some(line) => line.requests.push_back(request),
            None => {
                let line = Line { project: project.to_owned(), requests: VecDeque::from([request]) };
                self.lines.push_back(line);
            }
        }
    }

    /// The request whose turn it is.
    pub(super) fn next(&self) -> Option<u64> {
        self.lines.front().and_then(|line| line.requests.front()).copied()
    }

    /// Ends its turn. It has others later if it `goes_on`.
    pub(super) fn end(&mut self, goes_on: bool) {
        let Some(mut line) = self.lines.pop_front() else { return };
        let request = line.requests.pop_front();
        line.requests.extend(request.filter(|_| goes_on));
        if !line.requests.is_empty() {
            self.lines.push_back(line);
        }
    }

    /// Forgets a request.
    pub(super) fn remove(&mut self, request: u64) {
        for line in &mut self.lines {
            line.requests.retain(|other| *other != request);
        }
        self.lines.retain(|line| !line.requests.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(turns: &mut Turns, count: usize, goes_on: bool) -> Vec<u64> {
        let turn = |_| {
            let next = turns.next();
            turns.end(goes_on);
            next
        };
        (0..count).filter_map(turn).collect()
    }

    #[test]
    fn projects_take_turns_however_many_requests_one_has() {
        let mut turns = Turns::default();
        (1..=3).for_each(|request| turns.add("many", request));
        turns.add("one", 10);
        assert_eq!(take(&mut turns, 7, true), [1, 10, 2, 10, 3, 10, 1]);
        turns.add("late", 20);
        assert_eq!(take(&mut turns, 4, true), [10, 2, 20, 10]);
        turns.remove(10);
        turns.remove(20);
        assert_eq!(take(&mut turns, 9, false), [3, 1, 2]);
        assert_eq!(turns.next(), None);
    }
}
