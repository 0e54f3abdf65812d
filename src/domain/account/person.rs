//! Who registers with an address for mail, as StaticBackend's clients do.

use crate::domain::{AccountId, Mail, UserId};

/// What is known of such a user besides the account that logs in, whose name is the user's id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Person {
    pub mail: Mail,
    /// With whom it shares what is in collections.
    pub account: AccountId,
    pub role: Role,
}

/// What such a user is to its clients.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// Somebody of the account has registered it.
    Added,
    /// It has registered by itself, and the account with it.
    First,
    /// It answers for the tenant.
    Root,
}

impl Role {
    /// As these clients are told it.
    pub fn number(self) -> u8 {
        match self {
            Self::Added => 0,
            Self::First => 50,
            Self::Root => 100,
        }
    }
}

/// A person, as others of its account are shown it.
pub type Mate = (UserId, Person);
