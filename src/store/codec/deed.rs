//! A deed as it lies on disk.

use serde::{Deserialize, Serialize};

use super::{Id, name, user};
use crate::domain::{Deed, Name, Timestamp, UserId};
use crate::store::StoreError;
use crate::store::rows::accounts::StoredRank;

#[derive(Serialize, Deserialize)]
pub(super) enum StoredDeed<'a> {
    #[serde(rename = "a")]
    AccountAdded {
        #[serde(borrow)]
        user: &'a str,
        rank: StoredRank,
    },
    #[serde(rename = "c")]
    AccountChanged { user: &'a str, rank: StoredRank, disabled: bool },
    #[serde(rename = "r")]
    ResetMade { user: &'a str },
    #[serde(rename = "i")]
    InviteMade { invite: Id, rank: StoredRank },
    #[serde(rename = "t")]
    InviteTakenBack { invite: Id },
    #[serde(rename = "b")]
    Banned { user: &'a str, until: Option<i64>, reason: Option<&'a str> },
    #[serde(rename = "u")]
    Unbanned { user: &'a str },
    #[serde(rename = "k")]
    TokensRevoked { user: Option<&'a str>, since: i64 },
}

impl<'a> StoredDeed<'a> {
    pub(super) fn of(deed: &'a Deed) -> Self {
        match deed {
            Deed::AccountAdded { user, rank } => Self::AccountAdded { user: user.as_str(), rank: (*rank).into() },
            Deed::AccountChanged { user, rank, disabled } => {
                Self::AccountChanged { user: user.as_str(), rank: (*rank).into(), disabled: *disabled }
            }
            Deed::ResetMade { user } => Self::ResetMade { user: user.as_str() },
            Deed::InviteMade { invite, rank } => Self::InviteMade { invite: Id(*invite), rank: (*rank).into() },
            Deed::InviteTakenBack { invite } => Self::InviteTakenBack { invite: Id(*invite) },
            Deed::Banned { user, until, reason } => Self::Banned {
                user: user.as_str(),
                until: until.map(|until| until.0),
                reason: reason.as_ref().map(Name::as_str),
            },
            Deed::Unbanned { user } => Self::Unbanned { user: user.as_str() },
            Deed::TokensRevoked { user, since } => {
                Self::TokensRevoked { user: user.as_ref().map(UserId::as_str), since: since.0 }
            }
        }
    }

    pub(super) fn into_domain(self) -> Result<Deed, StoreError> {
        Ok(match self {
            Self::AccountAdded { user: who, rank } => Deed::AccountAdded { user: user(who)?, rank: rank.into() },
            Self::AccountChanged { user: who, rank, disabled } => {
                Deed::AccountChanged { user: user(who)?, rank: rank.into(), disabled }
            }
            Self::ResetMade { user: who } => Deed::ResetMade { user: user(who)? },
            Self::InviteMade { invite, rank } => Deed::InviteMade { invite: invite.0, rank: rank.into() },
            Self::InviteTakenBack { invite } => Deed::InviteTakenBack { invite: invite.0 },
            Self::Banned { user: who, until, reason } => {
                Deed::Banned { user: user(who)?, until: until.map(Timestamp), reason: name(reason)? }
            }
            Self::Unbanned { user: who } => Deed::Unbanned { user: user(who)? },
            Self::TokensRevoked { user: who, since } => {
                Deed::TokensRevoked { user: who.map(user).transpose()?, since: Timestamp(since) }
            }
        })
    }
}
