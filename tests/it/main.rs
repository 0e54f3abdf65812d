//! The broker as its clients see it: a real server on loopback, real sockets, and a log that fails when it is told to.

mod bad_input;
mod conversations;
mod event_streams;
mod flaws;
#[allow(dead_code, reason = "shared with the tests that have a process of their own")]
mod harness;
mod identity;
mod kicks;
mod lifecycle;
mod limits;
mod listeners;
mod protocol;
mod review;
mod rooms;
mod secrecy;
mod tls;
mod worlds;
