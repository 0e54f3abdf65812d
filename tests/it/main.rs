//! The broker as its clients see it: a real server on loopback, real sockets, and a log that fails when it is told to.

mod accounts;
mod bad_input;
mod bans;
mod blocks;
mod conversations;
mod edits;
mod event_streams;
mod files;
mod flaws;
mod forwards;
#[allow(dead_code, reason = "shared with the tests that have a process of their own")]
mod harness;
mod history;
mod identity;
mod inbox;
mod keep_alive;
mod kicks;
mod lifecycle;
mod limits;
mod listening;
mod mutes;
mod paging;
mod pins;
mod platform;
mod presence;
mod profiles;
mod protocol;
mod reactions;
mod requests;
mod rest;
mod returning;
mod review;
mod rights;
mod rooms;
mod rules;
mod secrecy;
mod signals;
mod slow_mode;
#[path = "../support/mod.rs"]
mod support;
mod switching;
mod taking_over;
mod tenants;
mod threads;
mod tls;
mod worlds;
