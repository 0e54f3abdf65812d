//! The broker as its clients see it: a real server on loopback, real sockets, and a log that fails when it is told to.

mod bad_input;
mod conversations;
#[allow(dead_code, reason = "shared with the tests that have a process of their own")]
mod harness;
mod kicks;
mod lifecycle;
mod protocol;
mod requests;
mod rest;
mod review;
mod rooms;
mod tenants;
