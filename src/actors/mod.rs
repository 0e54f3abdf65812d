//! The hosts: actors that carry out what the rules decide, in order, and bring it to those who follow.
//!
//! A room is an actor, and so are a user's inbox, a tenant's directory, a connection's session and, per worker thread,
//! the relay between rooms and connections. They know the rules, the dialects and the [`Store`](crate::store::Store)
//! trait; they know no HTTP, no socket and no particular store.

pub mod accounts;
pub mod asking;
pub mod auditing;
mod batch;
mod beside;
mod blocking;
pub mod boxes;
pub mod channels;
pub mod connections;
mod digests;
pub mod directory;
pub mod documents;
mod excluding;
pub mod failure;
pub mod files;
pub mod inbox;
pub mod limits;
pub mod link;
pub mod outbox;
mod overview;
pub mod pages;
pub mod paging;
mod presences;
pub mod profiles;
mod projection;
pub mod rates;
mod reading;
pub mod registry;
pub mod relay;
pub mod retention;
pub mod revoking;
pub mod room;
pub mod session;
pub mod signals;
pub mod sockets;
pub mod streaming;
pub mod survey;
mod turns;
pub mod worker;
pub mod world;

pub use connections::{Address, ConnectionGuard, Seat};
pub use limits::Limits;
pub use link::{Cut, Kind, Link};
pub use outbox::{Outbox, Sink};
pub use registry::Registry;
pub use session::{Admission, Arrived, Gate, SessionActor};
pub use worker::Worker;

/// The target of log lines about single connections and requests, of which there may be many.
pub const TRAFFIC: &str = "chinwag::traffic";
