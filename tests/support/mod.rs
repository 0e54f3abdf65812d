//! What the tests that break the real server share: a broker as a process, clients that never give up, and a ledger
//! that remembers what they were promised.
//!
//! Knows the product only from outside: its command line and its native protocol. None of the crate's own types are
//! used, so that a mistake in them cannot hide itself.

#![allow(dead_code, reason = "each test uses its part of this")]

pub mod broker;
pub mod clients;
pub mod ledger;
pub mod listeners;
pub mod random;
pub mod switching;
pub mod wire;

use std::time::Duration;

/// Waits until `done` says so; an error, with `what`, when that takes longer than `within`.
pub async fn eventually(what: &str, within: Duration, mut done: impl FnMut() -> bool) -> Result<(), String> {
    let waited = tokio::time::timeout(within, async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.map_err(|_| format!("not within {} s: {what}", within.as_secs()))
}

/// A number from the environment, or `default`.
pub fn sized_by(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text:?}")),
        Err(_) => default,
    }
}
