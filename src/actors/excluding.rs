//! Who may not come into a tenant: a list in memory that every token meets, and rows that it is read from at the start.
//!
//! The accounts decide who is in the list, and write its rows; this only knows how to have it heeded. As with revocations
//! the list comes first, then what stands on it ends.

use std::sync::Arc;

use super::registry::Registry;
use crate::domain::account::AccountRejection;
use crate::domain::exclusion::{Exclusion, Exclusions};
use crate::domain::revocation::Subject;
use crate::domain::{Revocation, StreamId, TenantId, Timestamp, UserId};
use crate::store::rows::{self, Row};
use crate::store::{Put, StoreError};
use crate::wire::{CloseReason, Refusal};

/// How many rows are read at once.
const PAGE: usize = 1_000;

impl Registry {
    /// Why a user may not come in, whatever the token.
    pub fn excluded(&self, tenant: &TenantId, user: &UserId) -> Option<Refusal> {
        let (exclusions, now) = (self.exclusions.load(), self.now());
        let exclusion = exclusions.of(tenant, user)?;
        match exclusion.ban(now) {
            Some(ban) => Some(Refusal::tenant_banned(ban, now)),
            None if exclusion.disabled => Some(AccountRejection::AccountDisabled.into()),
            None => None,
        }
    }

    /// Everybody who may not come in.
    pub fn exclusions(&self) -> Arc<Exclusions> {
        self.exclusions.load_full()
    }

    /// Reads who was excluded before this process began. Nobody may be let in before.
    pub async fn load_exclusions(&self) -> Result<(), StoreError> {
        let mut list = Exclusions::default();
        let mut after = None;
        loop {
            let page = self.store().scan(&StreamId::Server, rows::EXCLUSIONS, after.as_deref(), PAGE).await?;
            for (key, value) in &page {
                let (tenant, user) = rows::excluded_of(key)?;
                list.put(&tenant, &user, Exclusion::decode(value)?);
            }
            if page.len() < PAGE {
                break;
            }
            after = page.into_iter().next_back().map(|(key, _)| key);
        }
        self.exclusions.store(Arc::new(list));
        Ok(())
    }

    /// What keeps a user out from now on; nothing, where that is nothing.
    pub(super) fn exclude(&self, tenant: &TenantId, user: &UserId, exclusion: &Exclusion) {
        self.exclusions.rcu(|list| {
            let mut list = Exclusions::clone(list);
            list.put(tenant, user, exclusion.clone());
            list
        });
    }

    /// Ends every connection of a user who is excluded, whenever its token was issued; returns how many, when they are
    /// gone.
    pub(super) async fn end_excluded(
        &self,
        tenant: &TenantId,
        user: &UserId,
        why: CloseReason,
    ) -> Result<usize, Refusal> {
        let subject = Subject::User(tenant.clone(), user.clone());
        let whenever = Revocation { since: Timestamp(i64::MAX), until: Timestamp(i64::MAX) };
        self.end_connections(&subject, whenever, why).await
    }
}

/// The row of what keeps a user out.
pub(super) fn put(tenant: &TenantId, user: &UserId, exclusion: &Exclusion) -> Put {
    let value = (*exclusion != Exclusion::default()).then(|| exclusion.encode());
    Put { under: StreamId::Server, key: rows::exclusion(tenant, user), value }
}

/// What a connection is closed with that is refused so.
pub(super) fn closing(refusal: &Refusal) -> CloseReason {
    if refusal.code() == AccountRejection::TenantBanned.code() {
        CloseReason::TenantBanned
    } else {
        CloseReason::TokenRevoked
    }
}
