//! Chinwag: a realtime chat and message broker in one binary, with its own durable log.
//!
//! `ARCHITECTURE.md` is the map. The folders' doors open one way: `domain` is used by `wire` and `store`, these by
//! `actors`, and all of them by `http`.

#![forbid(unsafe_code)]

pub mod actors;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod http;
pub mod logs;
pub mod metrics;
pub mod outgoing;
pub mod platform;
pub mod reset_hook;
pub mod server;
pub mod service;
pub mod store;
pub mod tls;
pub mod wire;
