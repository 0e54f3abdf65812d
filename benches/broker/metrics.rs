//! The server's own counters, read from the operator's socket as monitoring reads them.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::Outcome;
use crate::scene::Target;

/// All samples by name and labels; none of the limit, which counts nothing.
#[derive(Default)]
pub struct Metrics(HashMap<String, f64>);

impl Metrics {
    pub fn of(target: &Target) -> Outcome<Self> {
        let Target::Server { data, .. } = target else { return Ok(Self::default()) };
        let mut socket = UnixStream::connect(data.join("admin.sock"))?;
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        let samples = text.lines().filter(|line| line.starts_with("chinwag_"));
        Ok(Self(
            samples
                .filter_map(|line| line.rsplit_once(' '))
                .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
                .collect(),
        ))
    }

    /// By how much `name` has grown since `before`.
    pub fn since(&self, before: &Self, name: &str) -> f64 {
        let value = |metrics: &Self| metrics.0.get(name).copied().unwrap_or(0.0);
        value(self) - value(before)
    }

    /// What half of the values of the histogram `name` since `before` are below. Its buckets are coarse: within one the
    /// values are taken to lie evenly.
    pub fn median_since(&self, before: &Self, name: &str) -> f64 {
        let start = format!("{name}_bucket{{le=\"");
        let mut buckets: Vec<(f64, f64)> = self
            .0
            .keys()
            .filter_map(|series| series.strip_prefix(&start)?.strip_suffix("\"}"))
            .filter_map(|bound| Some((bound.parse().ok()?, self.since(before, &format!("{start}{bound}\"}}")))))
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let half = self.since(before, &format!("{name}_count")) / 2.0;
        let (mut from, mut below) = (0.0, 0.0);
        for (bound, count) in buckets {
            if count >= half && count > below {
                return from + (bound - from) * (half - below) / (count - below);
            }
            (from, below) = (bound, count);
        }
        from
    }
}
