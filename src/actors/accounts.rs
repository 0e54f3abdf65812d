//! Hosts the accounts of all tenants: reads what is so, has the rules decide, writes, and ends what an ended login had.
//!
//! What is decided of a tenant is decided one after the other, under a lock that is held for reads and one commit. What
//! is secret comes here as a digest. An undertaking goes on to its end also when who asked for it has gone.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, Semaphore, mpsc};
use uuid::Uuid;

use super::auditing;
use super::excluding;
use super::failure::{commit_failed, read_failed};
use super::registry::{BUSY, Registry};
use super::revoking::TOKEN_LIFE_MAX;
use crate::domain::account::{
    self, Account, AccountRejection, Digest, INVITES_MAX, Invite, Login, Rank, Refreshing, Registration, Shown,
};
use crate::domain::command::{Administer, Reading};
use crate::domain::exclusion::Exclusion;
use crate::domain::revocation::Subject;
use crate::domain::{Deed, LoginId, Name, StreamId, TenantId, Timestamp, UserId};
use crate::store::rows::accounts as keys;
use crate::store::rows::{self, Row};
use crate::store::{Commit, Put, StoreError};
use crate::wire::{CloseReason, Refusal};

mod bans;
mod people;

/// How many undertakings about accounts wait or are under way at once; with more, `busy`.
const UNDER_WAY_MAX: usize = 1_024;

/// How long an undertaking waits for those of its tenant before it; then `busy`, with nothing done.
const TURN: Duration = Duration::from_secs(5);

/// How long somebody waits for an undertaking; then nobody knows what comes of it. More than a turn, a commit and the
/// end of connections take where nothing hangs.
const PATIENCE: Duration = Duration::from_secs(15);

/// Tenants share these: more than write at the same time.
const LOCKS: usize = 64;

/// How many rows are read at once.
const PAGE: usize = 1_000;

/// For how long a token is denied beyond its end: more than checkers' clocks and leeway make of it.
const DENIED_BEYOND_MS: i64 = 3 * 60_000;

/// How accounts are kept, as the operator decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    pub registration: Registration,
    /// How long a token lives.
    pub token_life: Duration,
    /// After this long without use a login is over.
    pub login_life: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            registration: Registration::Invited,
            token_life: Duration::from_secs(60 * 60),
            login_life: Duration::from_secs(30 * 24 * 60 * 60),
        }
    }
}

/// The accounts of all tenants.
pub struct Accounts {
    registry: Arc<Registry>,
    options: Options,
    hasher: RandomState,
    locks: [Mutex<()>; LOCKS],
    under_way: Semaphore,
    codes_asked: OnceLock<mpsc::Sender<CodeAsked>>,
}

/// That somebody wants a code for this account, be there one or not.
pub struct CodeAsked {
    pub tenant: TenantId,
    pub user: UserId,
}

/// Who asks for something that not everybody may.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum By {
    Operator,
    User(UserId),
}

impl By {
    /// As whom it is written down.
    fn user(&self) -> UserId {
        match self {
            Self::Operator => UserId::operator(),
            Self::User(user) => user.clone(),
        }
    }
}

/// A login that is to be.
pub struct NewLogin {
    pub id: LoginId,
    pub device: Option<Name>,
    pub tokens: Shown,
    /// How long its tokens are good, where that is another time than usual.
    pub tokens_for: Option<Duration>,
}

/// Which logins of an account end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    One(LoginId),
    AllBut(Option<LoginId>),
}

/// Part of a list, and whether there is more.
pub struct Part<T> {
    pub found: Vec<T>,
    pub more: bool,
}

/// The logins that end with a commit, each with when its last token does.
type Ended = Vec<(LoginId, Timestamp)>;

/// Whose tokens end with a commit, and until when they are denied.
type Denied = Vec<(Subject, Timestamp)>;

impl Accounts {
    pub fn new(registry: Arc<Registry>, options: Options) -> Arc<Self> {
        Arc::new(Self {
            registry,
            options,
            hasher: RandomState::new(),
            locks: std::array::from_fn(|_| Mutex::default()),
            under_way: Semaphore::new(UNDER_WAY_MAX),
            codes_asked: OnceLock::new(),
        })
    }

    /// Names what gives users the codes that they ask for themselves. Called once, before anybody connects.
    pub fn send_codes_by(&self, asked: mpsc::Sender<CodeAsked>) {
        let first = self.codes_asked.set(asked);
        debug_assert!(first.is_ok(), "somebody else gives them codes already");
    }

    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Somebody's account. One read, whether there is one or not.
    pub async fn account(&self, tenant: &TenantId, user: &UserId) -> Result<Option<Account>, Refusal> {
        let found = self.registry.store().get_all(&stream(tenant), &[&keys::account(user)]).await;
        let found = found.map_err(|error| read_failed(&error))?.into_iter().next().flatten();
        decoded(found)
    }

    /// Whether somebody may register, before anything dear is done for it.
    pub async fn may_register(&self, tenant: &TenantId, shown: Option<(Uuid, Digest)>) -> Result<(), Refusal> {
        let invite = self.invite(tenant, shown).await?;
        account::entrance(self.options.registration, self.shown(&invite, shown)?, self.now()).map(drop)?;
        Ok(())
    }

    /// Makes an account, and its first login.
    pub async fn register(
        self: &Arc<Self>,
        tenant: TenantId,
        user: UserId,
        password: String,
        shown: Option<(Uuid, Digest)>,
        login: NewLogin,
    ) -> Result<Rank, Refusal> {
        self.undertake(async move |accounts| {
            let _lock = accounts.lock(&tenant).await?;
            let invite = accounts.invite(&tenant, shown).await?;
            let taken = accounts.account(&tenant, &user).await?.is_some() || accounts.is_used(&tenant, &user).await?;
            let now = accounts.now();
            let registration = accounts.options.registration;
            let rank = account::register(registration, &user, taken, accounts.shown(&invite, shown)?, now)?;
            if accounts.registry.excluded(&tenant, &user).is_some() {
                // For how long and why is for who has shown to be the user.
                return Err(AccountRejection::TenantBanned.into());
            }
            let account = Account::new(rank, Some(password), now);
            let mut puts = vec![put(&tenant, keys::account(&user), &account)];
            puts.extend(accounts.opened(&tenant, &user, login));
            if let (Some(invite), Some((id, _))) = (invite, shown) {
                puts.push(changed(&tenant, keys::invite(id), invite.used().as_ref()));
            }
            if account.administers() {
                let comes = Administer { deed: None, reading: Some(reading(&user, &account)) };
                accounts.administer(&tenant, &By::User(user), comes, puts).await?.await?;
            } else {
                accounts.commit(&tenant, puts).await?;
            }
            Ok(rank)
        })
        .await
    }

    /// Makes an account without a password, for the operator; a code sets one.
    pub async fn add(
        self: &Arc<Self>,
        tenant: TenantId,
        user: UserId,
        rank: Rank,
        code: Digest,
    ) -> Result<Timestamp, Refusal> {
        self.undertake(async move |accounts| {
            let _lock = accounts.lock(&tenant).await?;
            let taken = accounts.account(&tenant, &user).await?.is_some();
            let now = accounts.now();
            account::register(Registration::Open, &user, taken, None, now)?;
            let account = Account::new(rank, None, now).to_reset(code, now);
            let puts = vec![put(&tenant, keys::account(&user), &account)];
            let reading = account.administers().then(|| reading(&user, &account));
            let added = Administer { deed: Some(Deed::AccountAdded { user, rank }), reading };
            accounts.administer(&tenant, &By::Operator, added, puts).await?.await?;
            Ok(Timestamp(now.0 + account::RESET_LIFE_MS))
        })
        .await
    }

    /// Logs a device in that has shown the password of which `verified` is the digest.
    pub async fn log_in(
        self: &Arc<Self>,
        tenant: TenantId,
        user: UserId,
        verified: String,
        login: NewLogin,
    ) -> Result<Rank, Refusal> {
        self.undertake(async move |accounts| {
            let lock = accounts.lock(&tenant).await?;
            let account = accounts.account(&tenant, &user).await?.ok_or(AccountRejection::LoginFailed)?;
            account.admits(&verified)?;
            accounts.lets_in(&tenant, &user)?;
            let logins = accounts.logins(&tenant, &user).await?;
            let out = account::crowded_out(&logins, accounts.now(), accounts.login_life_ms());
            let ended = ended(&logins, |id| out.contains(&id));
            let mut puts = accounts.opened(&tenant, &user, login);
            puts.extend(closed(&tenant, &user, &ended));
            accounts.commit_and_end(&tenant, puts, denied(&ended), lock).await?;
            Ok(account.rank)
        })
        .await
    }

    /// A login goes on under a new refresh token, of which `next` is the digest. Says whose it is. A token of the login
    /// that is not its latest ends it.
    pub async fn refresh(
        self: &Arc<Self>,
        tenant: TenantId,
        id: LoginId,
        shown: Shown,
        next: Digest,
    ) -> Result<(UserId, Rank), Refusal> {
        self.undertake(async move |accounts| {
            let lock = accounts.lock(&tenant).await?;
            let invalid = || Refusal::from(AccountRejection::RefreshInvalid);
            let login: Login = accounts.row(&tenant, &keys::login(id)).await?.ok_or_else(invalid)?;
            let account = accounts.account(&tenant, &login.user).await?.ok_or_else(invalid)?;
            let (now, life) = (accounts.now(), accounts.login_life_ms());
            match login.refreshed(shown, next, now, accounts.tokens_until(), life) {
                Ok(_) if account.disabled => Err(AccountRejection::AccountDisabled.into()),
                Ok(login) => {
                    accounts.lets_in(&tenant, &login.user)?;
                    accounts.commit(&tenant, vec![put(&tenant, keys::login(id), &login)]).await?;
                    Ok((login.user, account.rank))
                }
                Err(Refreshing::Foreign) => Err(invalid()),
                Err(Refreshing::Ends) => {
                    tracing::warn!(login = %id, "a login has ended by a refresh token that was not its latest");
                    let ended = vec![(id, login.tokens_until)];
                    let puts = closed(&tenant, &login.user, &ended);
                    accounts.commit_and_end(&tenant, puts, denied(&ended), lock).await?;
                    Err(invalid())
                }
            }
        })
        .await
    }

    /// The devices of an account that are logged in.
    pub async fn logins(&self, tenant: &TenantId, user: &UserId) -> Result<Vec<(LoginId, Login)>, Refusal> {
        let store = self.registry.store();
        let stream = stream(tenant);
        let found = store.scan(&stream, &keys::logins_of(user), None, PAGE).await;
        let found = found.map_err(|error| read_failed(&error))?;
        let mut logins = Vec::with_capacity(found.len());
        for (key, _) in found {
            let id = keys::login_id_of(&key).map_err(|error| read_failed(&error))?;
            logins.extend(self.row(tenant, &keys::login(id)).await?.map(|login| (id, login)));
        }
        Ok(logins)
    }

    /// Ends logins of an account; when this returns nothing can reach their devices any more. Says how many.
    pub async fn end(self: &Arc<Self>, tenant: TenantId, user: UserId, which: Which) -> Result<usize, Refusal> {
        self.undertake(async move |accounts| {
            let lock = accounts.lock(&tenant).await?;
            let logins = accounts.logins(&tenant, &user).await?;
            let ended = ended(&logins, |id| which.is(id));
            if ended.is_empty() && matches!(which, Which::One(_)) {
                return Err(AccountRejection::LoginNotFound.into());
            }
            let count = ended.len();
            accounts.commit_and_end(&tenant, closed(&tenant, &user, &ended), denied(&ended), lock).await?;
            Ok(count)
        })
        .await
    }

    /// Sets another password in place of the one of which `verified` is the digest, and ends all logins but `keep`.
    pub async fn set_password(
        self: &Arc<Self>,
        tenant: TenantId,
        user: UserId,
        (verified, password): (String, String),
        keep: Option<LoginId>,
    ) -> Result<usize, Refusal> {
        self.undertake(async move |accounts| {
            let lock = accounts.lock(&tenant).await?;
            let account = accounts.account(&tenant, &user).await?.ok_or(AccountRejection::AccountNotFound)?;
            account.admits(&verified)?;
            let account = Account { password: Some(password), reset: None, ..account };
            accounts.change_and_end(&tenant, &user, &account, keep, lock).await
        })
        .await
    }

    /// Makes a code that sets another password, for `by` to hand over; says until when it is good.
    pub async fn to_reset(
        self: &Arc<Self>,
        by: By,
        tenant: TenantId,
        user: UserId,
        code: Digest,
    ) -> Result<Timestamp, Refusal> {
        self.undertake(async move |accounts| {
            let _lock = accounts.lock(&tenant).await?;
            let account = accounts.account(&tenant, &user).await?.ok_or(AccountRejection::AccountNotFound)?;
            account::may(accounts.rank(&tenant, &by).await?, account.rank)?;
            let now = accounts.now();
            let puts = vec![put(&tenant, keys::account(&user), &account.to_reset(code, now))];
            accounts.commit_by(&tenant, &by, Deed::ResetMade { user }, puts).await?;
            Ok(Timestamp(now.0 + account::RESET_LIFE_MS))
        })
        .await
    }

    /// Has somebody be given a code for an account, if there is such an account; that is found out later.
    pub fn ask_for_code(&self, tenant: TenantId, user: UserId) -> Result<(), Refusal> {
        let asked = self.codes_asked.get().ok_or(AccountRejection::ResetsOff)?;
        if let Some(refusal) = self.registry.unready() {
            return Err(refusal);
        }
        asked.try_send(CodeAsked { tenant, user }).map_err(|_| Refusal::busy(TURN))
    }

    /// Makes a code that sets another password, which the user is to have; says until when it is good. `None` where
    /// nobody could come in with it.
    pub async fn own_reset(
        self: &Arc<Self>,
        tenant: TenantId,
        user: UserId,
        code: Digest,
    ) -> Result<Option<Timestamp>, Refusal> {
        self.undertake(async move |accounts| {
            let _lock = accounts.lock(&tenant).await?;
            let account = accounts.account(&tenant, &user).await?;
            let Some(account) = account.filter(|account| !account.disabled) else { return Ok(None) };
            if accounts.lets_in(&tenant, &user).is_err() {
                return Ok(None);
            }
            let now = accounts.now();
            accounts.commit(&tenant, vec![put(&tenant, keys::account(&user), &account.to_reset(code, now))]).await?;
            Ok(Some(Timestamp(now.0 + account::RESET_LIFE_MS)))
        })
        .await
    }

    /// Sets another password for who shows the code, and ends all logins. Each try is written, also of an account that is
    /// not there, so that all take equally long.
    pub async fn reset(
        self: &Arc<Self>,
        tenant: TenantId,
        user: UserId,
        code: Digest,
        password: String,
    ) -> Result<usize, Refusal> {
        self.undertake(async move |accounts| {
            let lock = accounts.lock(&tenant).await?;
            let now = accounts.now();
            let account = accounts.account(&tenant, &user).await?;
            match account.map(|account| account.reset_by(code, password, now)) {
                Some(Ok(account)) => accounts.change_and_end(&tenant, &user, &account, None, lock).await,
                Some(Err(tried)) => {
                    accounts.commit(&tenant, vec![put(&tenant, keys::account(&user), &tried)]).await?;
                    Err(AccountRejection::CodeInvalid.into())
                }
                None => {
                    accounts.commit(&tenant, vec![put(&tenant, keys::TRIED.into(), &now)]).await?;
                    Err(AccountRejection::CodeInvalid.into())
                }
            }
        })
        .await
    }

    /// Changes the rank or the standing of an account; one that is disabled has no logins any more.
    pub async fn change(
        self: &Arc<Self>,
        by: By,
        tenant: TenantId,
        user: UserId,
        (rank, disabled): (Option<Rank>, Option<bool>),
    ) -> Result<Account, Refusal> {
        self.undertake_anyway(async move |accounts| {
            let lock = accounts.lock(&tenant).await?;
            let their = accounts.rank(&tenant, &by).await?;
            account::may(their, Rank::Member)?;
            let before = accounts.account(&tenant, &user).await?.ok_or(AccountRejection::AccountNotFound)?;
            let owners =
                if accounts.owns(&tenant, &user, &before) { accounts.owners(&tenant).await? } else { usize::MAX };
            let account = before.changed(their, rank, disabled, owners)?;
            let (rank, disabled) = (account.rank, account.disabled);
            let deed = (account != before).then(|| Deed::AccountChanged { user: user.clone(), rank, disabled });
            // Also where nothing changes: it may be asked again because it was not known to hold.
            let changed = Administer { deed, reading: Some(reading(&user, &account)) };
            if disabled {
                accounts.disable(&tenant, &user, &account, (&by, changed), lock).await?;
            } else {
                accounts.enable(&tenant, &user, &account, (&by, changed), lock).await?;
            }
            Ok(account)
        })
        .await
    }

    /// Accounts in the order of their names, for admins and owners.
    pub async fn list(
        &self,
        by: &By,
        tenant: &TenantId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Part<(UserId, Account)>, Refusal> {
        account::may(self.rank(tenant, by).await?, Rank::Member)?;
        let found = self.scan(tenant, keys::ACCOUNTS, after.map(keys::account), limit + 1).await?;
        let more = found.len() > limit;
        let named = found.iter().take(limit).map(|(key, row)| Ok((keys::user_of(key)?, Account::decode(row)?)));
        let found = named.collect::<Result<_, StoreError>>().map_err(|error| read_failed(&error))?;
        Ok(Part { found, more })
    }

    /// Makes an invite to the rank, with which `by` may make accounts.
    pub async fn invite_to(
        self: &Arc<Self>,
        by: By,
        tenant: TenantId,
        (id, code): (Uuid, Digest),
        rank: Rank,
        (uses, life_ms): (u32, i64),
    ) -> Result<Invite, Refusal> {
        self.undertake(async move |accounts| {
            let _lock = accounts.lock(&tenant).await?;
            account::may(accounts.rank(&tenant, &by).await?, rank)?;
            let now = accounts.now();
            let (open, over): (Vec<_>, Vec<_>) =
                accounts.all_invites(&tenant).await?.into_iter().partition(|(_, invite)| invite.is_open(now));
            if open.len() >= INVITES_MAX {
                return Err(AccountRejection::TooManyInvites.into());
            }
            let invite = Invite::new(code, by.user(), rank, uses, now, life_ms);
            let mut puts = vec![put(&tenant, keys::invite(id), &invite)];
            puts.extend(over.into_iter().map(|(id, _)| changed::<Invite>(&tenant, keys::invite(id), None)));
            accounts.commit_by(&tenant, &by, Deed::InviteMade { invite: id, rank }, puts).await?;
            Ok(invite)
        })
        .await
    }

    /// Makes the invite by which the first owner comes: the server does so by itself, and nobody has decided it.
    pub async fn invite_first(
        self: &Arc<Self>,
        tenant: TenantId,
        (id, code): (Uuid, Digest),
        life_ms: i64,
    ) -> Result<(), Refusal> {
        self.undertake(async move |accounts| {
            let _lock = accounts.lock(&tenant).await?;
            let invite = Invite::new(code, UserId::operator(), Rank::Owner, 1, accounts.now(), life_ms);
            accounts.commit(&tenant, vec![put(&tenant, keys::invite(id), &invite)]).await
        })
        .await
    }

    /// The invites that are open, for who may invite.
    pub async fn invites(&self, by: &By, tenant: &TenantId) -> Result<Vec<(Uuid, Invite)>, Refusal> {
        account::may(self.rank(tenant, by).await?, Rank::Member)?;
        let now = self.now();
        Ok(self.all_invites(tenant).await?.into_iter().filter(|(_, invite)| invite.is_open(now)).collect())
    }

    /// Takes an invite back, of those that `by` could have made.
    pub async fn take_back(self: &Arc<Self>, by: By, tenant: TenantId, id: Uuid) -> Result<(), Refusal> {
        self.undertake(async move |accounts| {
            let _lock = accounts.lock(&tenant).await?;
            let rank = accounts.rank(&tenant, &by).await?;
            account::may(rank, Rank::Member)?;
            let invite: Invite =
                accounts.row(&tenant, &keys::invite(id)).await?.ok_or(AccountRejection::InviteNotFound)?;
            account::may(rank, invite.rank)?;
            let puts = vec![changed::<Invite>(&tenant, keys::invite(id), None)];
            accounts.commit_by(&tenant, &by, Deed::InviteTakenBack { invite: id }, puts).await
        })
        .await
    }

    // ---- what these have in common

    fn now(&self) -> Timestamp {
        self.registry.now()
    }

    fn login_life_ms(&self) -> i64 {
        millis(self.options.login_life)
    }

    /// When a token ends that is made now.
    fn tokens_until(&self) -> Timestamp {
        Timestamp(self.now().0.saturating_add(millis(self.options.token_life)))
    }

    /// Carries something out on its own, to its end, within the bound of all. Who asks waits for a while; what takes longer
    /// goes on.
    async fn undertake<T: 'static>(
        self: &Arc<Self>,
        what: impl AsyncFnOnce(&Self) -> Result<T, Refusal> + 'static,
    ) -> Result<T, Refusal> {
        if let Some(refusal) = self.registry.unready() {
            return Err(refusal);
        }
        self.undertake_anyway(what).await
    }

    /// The same also where nothing can be written: for what keeps somebody out in memory before it is on disk.
    async fn undertake_anyway<T: 'static>(
        self: &Arc<Self>,
        what: impl AsyncFnOnce(&Self) -> Result<T, Refusal> + 'static,
    ) -> Result<T, Refusal> {
        let accounts = Arc::clone(self);
        let undertaking = actix::spawn(async move {
            let Ok(_place) = accounts.under_way.try_acquire() else { return Err(Refusal::busy(BUSY)) };
            what(&accounts).await
        });
        match tokio::time::timeout(PATIENCE, undertaking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Refusal::unavailable()),
        }
    }

    async fn lock(&self, tenant: &TenantId) -> Result<tokio::sync::MutexGuard<'_, ()>, Refusal> {
        let lock = self.hasher.hash_one(tenant) % LOCKS as u64;
        let lock = &self.locks[usize::try_from(lock).expect("less than a length")];
        tokio::time::timeout(TURN, lock.lock()).await.map_err(|_| Refusal::busy(BUSY))
    }

    /// Whether somebody who has shown to be `user` may come in.
    fn lets_in(&self, tenant: &TenantId, user: &UserId) -> Result<(), Refusal> {
        self.registry.excluded(tenant, user).map_or(Ok(()), Err)
    }

    async fn row<R: Row>(&self, tenant: &TenantId, key: &[u8]) -> Result<Option<R>, Refusal> {
        let found = self.registry.store().get(&stream(tenant), key).await;
        decoded(found.map_err(|error| read_failed(&error))?)
    }

    async fn scan(
        &self,
        tenant: &TenantId,
        prefix: &[u8],
        after: Option<Bytes>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Refusal> {
        let found = self.registry.store().scan(&stream(tenant), prefix, after.as_deref(), limit).await;
        found.map_err(|error| read_failed(&error))
    }

    async fn invite(&self, tenant: &TenantId, shown: Option<(Uuid, Digest)>) -> Result<Option<Invite>, Refusal> {
        let Some((id, _)) = shown else { return Ok(None) };
        let Some(invite) = self.row::<Invite>(tenant, &keys::invite(id)).await? else { return Ok(None) };
        if invite.by == UserId::operator() {
            return Ok(Some(invite));
        }
        // It is worth what its maker may do now, who may have been banned meanwhile, disabled, or made less.
        match self.rank(tenant, &By::User(invite.by.clone())).await {
            Ok(rank) => Ok(Some(invite).filter(|invite| account::may(rank, invite.rank).is_ok())),
            Err(refusal) if refusal.code() == AccountRejection::RankTooLow.code() => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// What is shown, beside what there is; somebody who shows what there is not is no better off than with nothing.
    fn shown<'a>(
        &self,
        invite: &'a Option<Invite>,
        shown: Option<(Uuid, Digest)>,
    ) -> Result<Option<(&'a Invite, Digest)>, Refusal> {
        match (invite, shown) {
            (Some(invite), Some((_, code))) => Ok(Some((invite, code))),
            (None, Some(_)) if self.options.registration != Registration::Off => {
                Err(AccountRejection::InviteInvalid.into())
            }
            (_, None) | (None, Some(_)) => Ok(None),
        }
    }

    async fn all_invites(&self, tenant: &TenantId) -> Result<Vec<(Uuid, Invite)>, Refusal> {
        // Those that are over go with the next that is made, so there are never many more.
        let found = self.scan(tenant, keys::INVITES, None, 2 * INVITES_MAX).await?;
        let invites = found.iter().map(|(key, row)| Ok((keys::invite_id_of(key)?, Invite::decode(row)?)));
        invites.collect::<Result<_, StoreError>>().map_err(|error| read_failed(&error))
    }

    /// Whether somebody without an account has rooms under this name: by a token of the operator's, or of an issuer.
    async fn is_used(&self, tenant: &TenantId, user: &UserId) -> Result<bool, Refusal> {
        let stream = StreamId::User(tenant.clone(), user.clone());
        let found = self.registry.store().scan(&stream, rows::PLACES, None, 1).await;
        Ok(!found.map_err(|error| read_failed(&error))?.is_empty())
    }

    /// What `by` is; `None` for the operator, who may do everything.
    async fn rank(&self, tenant: &TenantId, by: &By) -> Result<Option<Rank>, Refusal> {
        let By::User(user) = by else { return Ok(None) };
        match self.account(tenant, user).await? {
            Some(account) if !account.disabled && self.lets_in(tenant, user).is_ok() => Ok(Some(account.rank)),
            Some(_) | None => Err(AccountRejection::RankTooLow.into()),
        }
    }

    async fn owners(&self, tenant: &TenantId) -> Result<usize, Refusal> {
        let (mut owners, mut after) = (0, None);
        loop {
            let found = self.scan(tenant, keys::ACCOUNTS, after, PAGE).await?;
            for (key, row) in &found {
                let user = keys::user_of(key).map_err(|error| read_failed(&error))?;
                let account = Account::decode(row).map_err(|error| read_failed(&error))?;
                owners += usize::from(self.owns(tenant, &user, &account));
            }
            match found.into_iter().last() {
                Some((last, _)) => after = Some(last),
                None => return Ok(owners),
            }
        }
    }

    fn opened(&self, tenant: &TenantId, user: &UserId, login: NewLogin) -> Vec<Put> {
        let NewLogin { id, device, tokens, tokens_for } = login;
        let now = self.now();
        let login = Login {
            user: user.clone(),
            device,
            since: now,
            used: now,
            tokens_until: tokens_for
                .map_or_else(|| self.tokens_until(), |time| Timestamp(now.0.saturating_add(millis(time)))),
            family: tokens.family,
            latest: tokens.latest,
        };
        let of = Put { under: stream(tenant), key: keys::login_of(user, id), value: Some(Bytes::new()) };
        vec![put(tenant, keys::login(id), &login), of]
    }

    async fn commit(&self, tenant: &TenantId, puts: Vec<Put>) -> Result<(), Refusal> {
        let commit =
            Commit { stream: stream(tenant), expected: None, records: Vec::new(), puts, erase: Vec::new(), trim: None };
        self.registry.store().commit(commit).await.map_err(commit_failed)
    }

    /// Writes what somebody has decided about others, and that it was decided. Nobody comes to decide, or does no longer.
    async fn commit_by(&self, tenant: &TenantId, by: &By, deed: Deed, puts: Vec<Put>) -> Result<(), Refusal> {
        self.administer(tenant, by, Administer { deed: Some(deed), reading: None }, puts).await?.await
    }

    /// The same for everything by which somebody comes to decide about others, or may do so no longer: all of it goes
    /// through the tenant's audit room. Called under the tenant's lock, which may be given back when this returns: `puts` are
    /// on disk then, and the future waits for those who have been let go of.
    async fn administer(
        &self,
        tenant: &TenantId,
        by: &By,
        what: Administer,
        puts: Vec<Put>,
    ) -> Result<impl Future<Output = Result<(), Refusal>> + use<>, Refusal> {
        auditing::administer(&self.registry, tenant, by.user(), what, puts).await
    }

    /// Writes an account that is disabled, and ends all that its user has: the logins, and tokens from elsewhere.
    async fn disable(
        &self,
        tenant: &TenantId,
        user: &UserId,
        account: &Account,
        (by, changed): (&By, Administer),
        lock: tokio::sync::MutexGuard<'_, ()>,
    ) -> Result<(), Refusal> {
        let exclusion = Exclusion { disabled: true, ..self.exclusion(tenant, user)? };
        let ended = ended(&self.logins(tenant, user).await?, |_| true);
        let mut puts = closed(tenant, user, &ended);
        puts.push(put(tenant, keys::account(user), account));
        puts.push(excluding::put(tenant, user, &exclusion));
        let mut denied = denied(&ended);
        let until = Timestamp(self.now().0.saturating_add(millis(TOKEN_LIFE_MAX)));
        denied.push((Subject::User(tenant.clone(), user.clone()), until));
        let written = self.registry.deny(&denied)?;
        self.registry.exclude(tenant, user, &exclusion);
        let committed = async {
            let committed = self.administer(tenant, by, changed, puts).await;
            drop(lock);
            committed?.await
        };
        // The logins' connections are among the user's, and so are those of tokens that say to be of later.
        let ended = self.registry.end_excluded(tenant, user, CloseReason::TokenRevoked);
        let (written, committed, ended) = tokio::join!(written, committed, ended);
        written.and(committed).and(ended.map(drop))
    }

    /// Writes an account that is not disabled, or not any more.
    async fn enable(
        &self,
        tenant: &TenantId,
        user: &UserId,
        account: &Account,
        (by, changed): (&By, Administer),
        lock: tokio::sync::MutexGuard<'_, ()>,
    ) -> Result<(), Refusal> {
        let known = self.known_exclusion(tenant, user);
        let exclusion = Exclusion { disabled: false, ..known.clone() };
        let mut puts = vec![put(tenant, keys::account(user), account)];
        if known != exclusion {
            puts.push(excluding::put(tenant, user, &exclusion));
        }
        let told = self.administer(tenant, by, changed, puts).await?;
        self.registry.exclude(tenant, user, &exclusion);
        drop(lock);
        told.await
    }

    /// Writes an account, and ends its logins but `keep`.
    async fn change_and_end(
        &self,
        tenant: &TenantId,
        user: &UserId,
        account: &Account,
        keep: Option<LoginId>,
        lock: tokio::sync::MutexGuard<'_, ()>,
    ) -> Result<usize, Refusal> {
        let ended = ended(&self.logins(tenant, user).await?, |id| Which::AllBut(keep).is(id));
        let mut puts = closed(tenant, user, &ended);
        puts.push(put(tenant, keys::account(user), account));
        let count = ended.len();
        self.commit_and_end(tenant, puts, denied(&ended), lock).await?;
        Ok(count)
    }

    /// Writes, with the denial of what ends; gives the lock back, and waits until what stood on that has gone.
    async fn commit_and_end(
        &self,
        tenant: &TenantId,
        puts: Vec<Put>,
        denied: Denied,
        lock: tokio::sync::MutexGuard<'_, ()>,
    ) -> Result<(), Refusal> {
        let now = self.now();
        // Of the others every token has ended by itself.
        let alive: Denied = denied.into_iter().filter(|(_, until)| *until > now).collect();
        if alive.is_empty() {
            return self.commit(tenant, puts).await;
        }
        let denied = self.registry.deny(&alive)?;
        let (denied, committed) = tokio::join!(denied, self.commit(tenant, puts));
        denied.and(committed)?;
        drop(lock);
        self.registry.end_denied(&alive).await
    }
}

impl Which {
    fn is(self, id: LoginId) -> bool {
        match self {
            Self::One(one) => one == id,
            Self::AllBut(keep) => keep != Some(id),
        }
    }
}

fn reading(user: &UserId, account: &Account) -> Reading {
    Reading { user: user.clone(), reads: account.administers() }
}

fn ended(logins: &[(LoginId, Login)], is: impl Fn(LoginId) -> bool) -> Ended {
    logins.iter().filter(|(id, _)| is(*id)).map(|(id, login)| (*id, login.tokens_until)).collect()
}

fn denied(ended: &Ended) -> Denied {
    let until = |until: &Timestamp| Timestamp(until.0.saturating_add(DENIED_BEYOND_MS));
    ended.iter().map(|(id, time)| (Subject::Login(*id), until(time))).collect()
}

fn closed(tenant: &TenantId, user: &UserId, ended: &Ended) -> Vec<Put> {
    let keys = ended.iter().flat_map(|(id, _)| [keys::login(*id), keys::login_of(user, *id)]);
    keys.map(|key| Put { under: stream(tenant), key, value: None }).collect()
}

fn put(tenant: &TenantId, key: Bytes, row: &impl Row) -> Put {
    changed(tenant, key, Some(row))
}

fn changed<R: Row>(tenant: &TenantId, key: Bytes, row: Option<&R>) -> Put {
    Put { under: stream(tenant), key, value: row.map(Row::encode) }
}

fn decoded<R: Row>(found: Option<Bytes>) -> Result<Option<R>, Refusal> {
    found.map(|row| R::decode(&row)).transpose().map_err(|error| read_failed(&error))
}

fn stream(tenant: &TenantId) -> StreamId {
    StreamId::Accounts(tenant.clone())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
