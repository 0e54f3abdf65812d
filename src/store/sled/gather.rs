//! Who writes at the same time, and is worth waiting for: a sync costs a tenth of a millisecond of processor time and
//! more, whatever it takes with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// While several streams write, a group begins so long after the one before at the latest. With less, a thousand rooms
/// with five thousand messages a second would have most of their syncs for themselves; who waits longer notices it.
pub(super) const GATHER: Duration = Duration::from_millis(1);

/// The streams that wrote of late.
#[derive(Default)]
pub(super) struct Company {
    streams: HashMap<Arc<[u8]>, Instant>,
    /// When the last group was taken.
    began: Option<Instant>,
}

impl Company {
    /// How many commits the next group is to have, and how long it waits for them: as many as streams have written of
    /// late, because each has one commit under way and comes again when it has been answered. Who writes alone is not
    /// waited with.
    pub(super) fn awaited(&self, now: Instant) -> (usize, Instant) {
        let until = self.began.map_or(now, |began| began + GATHER);
        (if until > now { self.streams.len().max(1) } else { 1 }, until)
    }

    /// Notes who came with a group.
    pub(super) fn came(&mut self, streams: impl Iterator<Item = Arc<[u8]>>, now: Instant) {
        self.streams.retain(|_, wrote| now.duration_since(*wrote) < 2 * GATHER);
        self.streams.extend(streams.map(|stream| (stream, now)));
        self.began = Some(now);
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
            company.came(streams(&["alone"]), now);
            assert_eq!(company.awaited(now).0, 1);
        }
    }

    #[test]
    fn those_who_write_together_wait_for_each_other_and_for_no_longer_than_it_is_worth() {
        let (mut company, now) = (Company::default(), Instant::now());
        company.came(streams(&["one"]), now);
        company.came(streams(&["another", "third"]), now + GATHER / 2);
        let until = now + GATHER / 2 + GATHER;
        assert_eq!(company.awaited(now + GATHER), (3, until));
        assert_eq!(company.awaited(until).0, 1, "their time is up");
        // Two of them have gone.
        for later in 1..5 {
            company.came(streams(&["one"]), now + GATHER * later);
        }
        assert_eq!(company.awaited(now + GATHER * 4).0, 1);
    }

    fn streams(names: &[&'static str]) -> impl Iterator<Item = Arc<[u8]>> {
        names.iter().map(|name| Arc::from(name.as_bytes()))
    }
}
