//! Waiting for many sockets at once.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::Outcome;

/// As many as a busy loop may find at once: fewer would cut the rounds of the limit short.
const EVENTS: usize = 16 * 1024;

pub fn events() -> Vec<epoll::Event> {
    Vec::with_capacity(EVENTS)
}

/// Replaces `events` by what has happened; by nothing when `limit` is over.
pub fn wait(epoll: impl AsFd, events: &mut Vec<epoll::Event>, limit: Option<Duration>) -> Outcome<()> {
    let limit = limit.map(Timespec::try_from).transpose().map_err(|_| "longer than any wait")?;
    events.clear();
    match epoll::wait(epoll, spare_capacity(events), limit.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
