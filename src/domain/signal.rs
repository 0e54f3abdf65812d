//! What is told to those who follow a room now, and never recorded.

use uuid::Uuid;

use super::{Alias, Presence, Seq, Timestamp, UserId};

/// Something that holds for the moment. A later one of the same kind and user takes the place of an earlier one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Signal {
    /// `user` is writing a message, or does no longer.
    Typing { user: UserId, typing: bool },
    /// How far `user` has got.
    Progress { user: UserId, delivered_to: Seq, read_to: Seq },
    /// Whether `user`, a member, is there; who is not was, at `last_seen`.
    Presence { user: UserId, presence: Option<Presence>, last_seen: Option<Timestamp> },
    /// `user` has begun to listen to `channel` by a connection that the others know by `handle`, which opens nothing.
    Entered { user: UserId, channel: Alias, handle: Uuid },
}

impl Signal {
    /// Whom it is about.
    pub fn user(&self) -> &UserId {
        match self {
            Self::Typing { user, .. }
            | Self::Progress { user, .. }
            | Self::Presence { user, .. }
            | Self::Entered { user, .. } => user,
        }
    }

    /// Of which connection it tells, where it does not tell of all that its user has.
    pub fn handle(&self) -> Option<Uuid> {
        match self {
            Self::Entered { handle, .. } => Some(*handle),
            Self::Typing { .. } | Self::Progress { .. } | Self::Presence { .. } => None,
        }
    }

    /// Whether it takes back what may have been told before: then nobody must be left believing that.
    pub fn ends_another(&self) -> bool {
        match self {
            Self::Typing { typing, .. } => !typing,
            Self::Progress { .. } | Self::Presence { .. } | Self::Entered { .. } => false,
        }
    }

    /// Which kind of signal it is, as a number of its own.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Typing { .. } => 0,
            Self::Progress { .. } => 1,
            Self::Presence { .. } => 2,
            Self::Entered { .. } => 3,
        }
    }
}
