//! What time it is, as something that is handed in: the system's clock, or one that tests move.
//!
//! The rules and the token checks take a `Timestamp`; their hosts hold a [`Clock`] to ask for it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::domain::Timestamp;

/// Tells the time of day, which may jump, and the time that only goes on. For when to wake, use tokio's clock.
pub trait Clock: Send + Sync + 'static {
    /// The time of day.
    fn now(&self) -> Timestamp;

    /// The time by which to measure how long something took.
    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // A clock that stands before 1970 has not been set: that is the epoch to us.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(millis(since))
    }
}

/// A clock whose time of day stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicI64,
    /// By how much it has been moved on, in milliseconds.
    advanced: AtomicI64,
}

impl ManualClock {
    pub fn at(start: Timestamp) -> Self {
        Self { now: AtomicI64::new(start.0), advanced: AtomicI64::new(0) }
    }

    /// Lets `by` go by.
    pub fn advance(&self, by: Duration) {
        self.now.fetch_add(millis(by), Ordering::Relaxed);
        self.advanced.fetch_add(millis(by), Ordering::Relaxed);
    }

    /// Sets the time of day, forwards or backwards, while no time goes by.
    pub fn set(&self, to: Timestamp) {
        self.now.store(to.0, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }

    fn instant(&self) -> Instant {
        Instant::now() + Duration::from_millis(u64::try_from(self.advanced.load(Ordering::Relaxed)).unwrap_or(0))
    }
}

/// Eight random bytes, as a number.
pub fn random() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1.rotate_left(8)
}

/// Random bits for a uuid, of which those that carry version and variant are set by its maker.
pub fn random_wide() -> u128 {
    uuid::Uuid::new_v4().as_u128()
}

/// A name that nobody guesses (RFC 9562, section 5.4).
pub fn random_uuid() -> uuid::Uuid {
    uuid::Uuid::new_v4()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_stands_still_until_it_is_moved() {
        let clock = ManualClock::at(Timestamp(1_000));
        assert_eq!(clock.now(), Timestamp(1_000));
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.now(), Timestamp(3_000));
        clock.set(Timestamp(5));
        assert_eq!(clock.now(), Timestamp(5));
    }

    #[test]
    fn the_system_clock_counts_milliseconds_since_1970() {
        let year_2020 = Timestamp(1_577_836_800_000);
        assert!(SystemClock.now() > year_2020);
    }
}
