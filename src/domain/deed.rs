//! What somebody decides about others in a tenant, as its audit room has it.

use uuid::Uuid;

use super::account::Rank;
use super::{Name, Timestamp, UserId};

/// What an admin, an owner or the operator has decided about others in a tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Deed {
    AccountAdded {
        user: UserId,
        rank: Rank,
    },
    /// What it is from then on.
    AccountChanged {
        user: UserId,
        rank: Rank,
        disabled: bool,
    },
    /// A code with which `user` sets another password.
    ResetMade {
        user: UserId,
    },
    InviteMade {
        invite: Uuid,
        rank: Rank,
    },
    InviteTakenBack {
        invite: Uuid,
    },
    /// Without `until` for good.
    Banned {
        user: UserId,
        until: Option<Timestamp>,
        reason: Option<Name>,
    },
    Unbanned {
        user: UserId,
    },
    /// Of a user, or of everybody in the tenant: those that were issued up to `since`.
    TokensRevoked {
        user: Option<UserId>,
        since: Timestamp,
    },
}
