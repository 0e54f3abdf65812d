//! Who writes at the same time, and is worth waiting for: a sync costs a tenth of a millisecond of processor time and
//! more, whatever it takes with it.

use std::time::{Duration, Instant};

/// While several write, a group begins so long after the one before at the latest. With less, a thousand rooms with five
/// thousand messages a second would have most of their syncs for themselves; who waits longer notices it.
pub(super) const GATHER: Duration = Duration::from_millis(2);

/// How many times those who are known may come, where not all of them are known.
const OTHERS: usize = 2;

/// The group that was written last.
#[derive(Default)]
pub(super) struct Company {
    /// When it was taken.
    began: Option<Instant>,
    /// How many commits the next is to have.
    awaited: usize,
}

impl Company {
    /// How many commits the next group is to have, and until when it waits for them: as many as were in the last, for
    /// whoever has been answered comes again. Where others came while it was written there may be any number of them. So
    /// who writes alone, or to one stream after the other, waits for nobody.
    pub(super) fn awaited(&self, now: Instant) -> (usize, Instant) {
        let until = self.began.map_or(now, |began| began + GATHER);
        (if until > now { self.awaited } else { 1 }, until)
    }

    /// Notes that a group has been taken.
    pub(super) fn begin(&mut self, now: Instant) {
        (self.began, self.awaited) = (Some(now), 0);
    }

    /// Notes of how many commits it was, and how many are in line before any of these has been answered.
    pub(super) fn written(&mut self, commits: usize, in_line: usize) {
        self.awaited = if in_line == 0 { commits } else { OTHERS * (commits + in_line) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_writes_alone_waits_for_nobody() {
        let (mut company, now) = (Company::default(), Instant::now());
        assert_eq!(company.awaited(now).0, 1);
        for commit in 0..100 {
            let now = now + GATHER / 5 * commit;
            company.begin(now);
            company.written(1, 0);
            assert_eq!(company.awaited(now).0, 1);
        }
    }

    #[test]
    fn those_who_write_together_wait_for_each_other_and_for_no_longer_than_it_is_worth() {
        let (mut company, now) = (Company::default(), Instant::now());
        let until = now + GATHER;
        company.begin(now);
        company.written(1, 2);
        assert_eq!(company.awaited(now + GATHER / 2), (OTHERS * 3, until), "two came while one was written");
        company.written(3, 0);
        assert_eq!(company.awaited(now + GATHER / 2), (3, until), "all of them may come again");
        assert_eq!(company.awaited(until).0, 1, "their time is up");
    }
}
