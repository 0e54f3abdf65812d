//! How long to wait before trying again.

use std::time::Duration;

/// Waits that double, up to a bound, each drawn at random, so that a thousand clients of a server that comes back do
/// not come back in the same moment.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    pub const LEAST: Duration = Duration::from_millis(100);
    pub const MOST: Duration = Duration::from_secs(5);

    /// The wait after one more failure: between [`Self::LEAST`] and a bound that doubles each time. `random` is any
    /// number; it decides where in between.
    pub fn after_failure(&mut self, random: u32) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let doubled = Self::LEAST.saturating_mul(1 << self.failures.min(16));
        let spread = doubled.min(Self::MOST) - Self::LEAST;
        Self::LEAST + spread.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// Something worked: the next failure is a first one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A number for [`Backoff::after_failure`].
pub fn random() -> u32 {
    // Without randomness the waits are the longest: slower, and as right.
    getrandom::u32().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_a_tenth_of_a_second_to_five() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..8).map(|_| backoff.after_failure(u32::MAX).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.after_failure(u32::MAX).as_millis(), 200);
    }

    #[test]
    fn chance_spreads_the_waits_and_never_leaves_the_bounds() {
        let mut backoff = Backoff::default();
        for failures in 0..100_u32 {
            let wait = backoff.after_failure(failures.wrapping_mul(0x9e37_79b9));
            assert!((Backoff::LEAST..=Backoff::MOST).contains(&wait), "{wait:?}");
        }
        assert_eq!(backoff.after_failure(0), Backoff::LEAST);
        assert_eq!(backoff.after_failure(u32::MAX), Backoff::MOST);
        let middle = backoff.after_failure(u32::MAX / 2);
        assert!(Backoff::LEAST < middle && middle < Backoff::MOST);
    }
}
