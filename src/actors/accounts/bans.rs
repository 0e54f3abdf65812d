//! Bans from a tenant: who may, and how they are made, taken back and forgotten.

use std::sync::Arc;

use super::{Accounts, By, Part};
use crate::actors::excluding;
use crate::domain::account::{self, Account, AccountRejection, Rank};
use crate::domain::exclusion::{Exclusion, TenantBan};
use crate::domain::{Deed, Name, Rejection, TenantId, Timestamp, UserId};
use crate::wire::{CloseReason, Refusal};

impl Accounts {
    /// Bans a user of the tenant, who need not have an account, in place of a ban from before. When this returns with
    /// `Ok`, it is on disk, and nothing reaches the user any more. Says how many connections it ended. Where the disk
    /// refuses or does not answer, the user is kept out all the same, but for no longer than this process lives.
    pub async fn ban(
        self: &Arc<Self>,
        by: By,
        tenant: TenantId,
        user: UserId,
        until: Option<Timestamp>,
        reason: Option<Name>,
    ) -> Result<(TenantBan, usize), Refusal> {
        self.undertake_anyway(async move |accounts| {
            let lock = accounts.lock(&tenant).await?;
            if user.is_reserved() {
                return Err(AccountRejection::NameReserved.into());
            }
            let rank = accounts.may_ban(&tenant, &by, &user).await?;
            let now = accounts.now();
            if until.is_some_and(|until| until <= now) {
                return Err(Rejection::EndsTooSoon.into());
            }
            let deed = Deed::Banned { user: user.clone(), until, reason: reason.clone() };
            let ban = TenantBan { by: by.user(), at: now, rank, until, reason };
            let exclusion = Exclusion { ban: Some(ban.clone()), ..accounts.exclusion(&tenant, &user)? };
            accounts.registry.exclude(&tenant, &user, &exclusion);
            let puts = vec![excluding::put(&tenant, &user, &exclusion)];
            let written = async {
                let written = accounts.commit_by(&tenant, &by, deed, puts).await;
                drop(lock);
                written
            };
            // At the same time: a disk that hangs must not keep the user's connections open.
            let ended = accounts.registry.end_excluded(&tenant, &user, CloseReason::TenantBanned);
            let (written, ended) = tokio::join!(written, ended);
            written?;
            Ok((ban, ended?))
        })
        .await
    }

    /// Takes a ban back, of those that `by` could have made.
    pub async fn unban(self: &Arc<Self>, by: By, tenant: TenantId, user: UserId) -> Result<(), Refusal> {
        self.undertake(async move |accounts| {
            let _lock = accounts.lock(&tenant).await?;
            accounts.may_ban(&tenant, &by, &user).await?;
            let known = accounts.known_exclusion(&tenant, &user);
            if known.ban(accounts.now()).is_none() {
                return Err(AccountRejection::BanNotFound.into());
            }
            let exclusion = Exclusion { ban: None, ..known };
            let puts = vec![excluding::put(&tenant, &user, &exclusion)];
            accounts.commit_by(&tenant, &by, Deed::Unbanned { user: user.clone() }, puts).await?;
            accounts.registry.exclude(&tenant, &user, &exclusion);
            Ok(())
        })
        .await
    }

    /// The bans of a tenant that hold, in the order of the users' ids, for admins and owners.
    pub async fn bans(
        &self,
        by: &By,
        tenant: &TenantId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Part<(UserId, TenantBan)>, Refusal> {
        account::may(self.rank(tenant, by).await?, Rank::Member)?;
        let (exclusions, now) = (self.registry.exclusions(), self.now());
        let behind = exclusions.in_tenant(tenant).filter(|(user, _)| after.is_none_or(|after| *user > after));
        let holding = behind.filter_map(|(user, exclusion)| Some((user.clone(), exclusion.ban(now)?.clone())));
        let mut found: Vec<_> = holding.take(limit + 1).collect();
        let more = found.len() > limit;
        found.truncate(limit);
        Ok(Part { found, more })
    }

    /// Removes the bans that have ended by themselves; says why some could not be, if so.
    pub async fn forget_bans(self: &Arc<Self>) -> Result<(), Refusal> {
        let mut refused = Ok(());
        for (tenant, user) in self.registry.exclusions().outlived(self.now()) {
            let forgotten = self
                .undertake(async move |accounts| {
                    let _lock = accounts.lock(&tenant).await?;
                    let known = accounts.known_exclusion(&tenant, &user);
                    // The user may have been banned again meanwhile.
                    if known.ban(accounts.now()).is_some() {
                        return Ok(());
                    }
                    let exclusion = Exclusion { ban: None, ..known };
                    accounts.commit(&tenant, vec![excluding::put(&tenant, &user, &exclusion)]).await?;
                    accounts.registry.exclude(&tenant, &user, &exclusion);
                    Ok(())
                })
                .await;
            refused = refused.and(forgotten);
        }
        refused
    }

    /// Refuses who may not decide whether `user` is banned; says what rank the decision has.
    async fn may_ban(&self, tenant: &TenantId, by: &By, user: &UserId) -> Result<Option<Rank>, Refusal> {
        let by = self.rank(tenant, by).await?;
        account::may(by, Rank::Member)?;
        if let Some(ban) = self.known_exclusion(tenant, user).ban(self.now()) {
            account::may_lift(by, ban.rank)?;
        }
        let account = self.account(tenant, user).await?;
        let rank = account.as_ref().map_or(Rank::Member, |account| account.rank);
        account::may_ban(by, rank, usize::MAX)?;
        // All accounts are looked at to count the owners: for nobody who is refused anyway.
        if let Some(account) = account.filter(|account| self.owns(tenant, user, account)) {
            account::may_ban(by, account.rank, self.owners(tenant).await?)?;
        }
        Ok(by)
    }

    /// Whether somebody is an owner, and can do something about it.
    pub(super) fn owns(&self, tenant: &TenantId, user: &UserId, account: &Account) -> bool {
        account.rank == Rank::Owner && !account.disabled && self.registry.excluded(tenant, user).is_none()
    }

    pub(super) fn known_exclusion(&self, tenant: &TenantId, user: &UserId) -> Exclusion {
        self.registry.exclusions().of(tenant, user).cloned().unwrap_or_default()
    }

    /// What keeps a user out, who may be excluded.
    pub(super) fn exclusion(&self, tenant: &TenantId, user: &UserId) -> Result<Exclusion, Refusal> {
        let exclusions = self.registry.exclusions();
        match exclusions.of(tenant, user) {
            Some(known) => Ok(known.clone()),
            None if exclusions.has_room(tenant) => Ok(Exclusion::default()),
            None => Err(AccountRejection::TooManyExclusions.into()),
        }
    }
}
