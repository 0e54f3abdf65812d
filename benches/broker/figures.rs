//! Numbers: what is counted becomes what is shown.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Within each power of two as many buckets: a latency is kept to one part in 64.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.ilog2();

#[expect(clippy::cast_precision_loss, reason = "what is shown has four digits")]
pub fn float(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "what is shown has four digits")]
pub fn nanos(time: Duration) -> f64 {
    time.as_nanos() as f64
}

pub fn micros(time: Duration) -> f64 {
    nanos(time) / 1e3
}

/// How long things took, in microseconds. Takes no memory per value.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Times {
    counts: Vec<u64>,
    total: u64,
    sum: Duration,
}

impl Times {
    pub fn add(&mut self, time: Duration) {
        let bucket = bucket(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX) / 100);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.sum += time;
    }

    /// In microseconds.
    pub fn mean(&self) -> f64 {
        micros(self.sum) / float(self.total)
    }

    /// What so many in a thousand stay below, in microseconds.
    pub fn below(&self, thousandths: u64) -> f64 {
        let rank = (self.total * thousandths).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return float(floor(bucket as u64 + 1)) / 10.0;
            }
        }
        f64::NAN
    }

    pub fn median(&self) -> f64 {
        self.below(500)
    }

    pub fn p99(&self) -> f64 {
        self.below(990)
    }
}

/// The bucket of so many tenths of a microsecond.
fn bucket(tenths: u64) -> usize {
    let bucket = if tenths < STEPS {
        tenths
    } else {
        let power = tenths.ilog2() - STEP_BITS;
        STEPS * u64::from(power) + (tenths >> power)
    };
    usize::try_from(bucket).expect("there are fewer than 64 * 64 buckets")
}

/// The least that a bucket holds.
fn floor(bucket: u64) -> u64 {
    if bucket < 2 * STEPS {
        return bucket;
    }
    let power = bucket / STEPS - 1;
    (bucket % STEPS + STEPS) << power
}
