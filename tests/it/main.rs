//! The broker as its clients see it: a real server on loopback, real sockets, and a log that fails when it is told to.

mod bad_input;
mod conversations;
mod event_streams;
#[allow(dead_code, reason = "shared with the tests that have a process of their own")]
mod harness;
mod keep_alive;
mod kicks;
mod lifecycle;
mod listeners;
mod paging;
mod protocol;
mod review;
mod rooms;
mod worlds;
