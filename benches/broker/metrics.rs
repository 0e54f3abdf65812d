//! The server's own counters, read from the operator's socket as monitoring reads them.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::Outcome;
use crate::scene::Target;

/// All that has neither labels nor buckets, by name; nothing of the limit, which counts nothing.
#[derive(Default)]
pub struct Metrics(HashMap<String, f64>);

impl Metrics {
    pub fn of(target: &Target) -> Outcome<Self> {
        let Target::Server { data, .. } = target else { return Ok(Self::default()) };
        let mut socket = UnixStream::connect(data.join("admin.sock"))?;
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        let samples = text.lines().filter(|line| line.starts_with("chinwag_") && !line.contains('{'));
        Ok(Self(
            samples
                .filter_map(|line| line.split_once(' '))
                .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
                .collect(),
        ))
    }

    /// By how much `name` has grown since `before`.
    pub fn since(&self, before: &Self, name: &str) -> f64 {
        let value = |metrics: &Self| metrics.0.get(name).copied().unwrap_or(0.0);
        value(self) - value(before)
    }
}
