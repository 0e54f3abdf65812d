//! Accounts: who may log in, what a device is that has, and who may let others in.
//!
//! What is secret is known here by its digest alone, and the digests are made elsewhere. Each function decides one thing
//! from what is so now, and changes nothing that is kept.

mod person;

use std::fmt;

pub use person::{Mate, Person, Role as PersonRole};

use super::{LoginId, Name, Timestamp, UserId};

/// The shortest password, in bytes (NIST SP 800-63B, section 5.1.1.2).
pub const PASSWORD_BYTES_MIN: usize = 8;

/// The longest password, in bytes: nobody types more, and hashing it costs little.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// How many devices of one account are logged in at once; with one more, that which has not been used for longest ends.
pub const LOGINS_MAX: usize = 50;

/// How many invites of a tenant are open at once.
pub const INVITES_MAX: usize = 1_000;

/// How many accounts one invite makes at most.
pub const INVITE_USES_MAX: u32 = 1_000;

/// How long an invite is good at most, and for how long if nothing else is said.
pub const INVITE_LIFE_MAX_MS: i64 = 30 * 24 * 3_600_000;
pub const INVITE_LIFE_MS: i64 = 7 * 24 * 3_600_000;

/// How long the link is good by which the first owner comes.
pub const SETUP_LIFE_MS: i64 = 30 * 60_000;

/// How long a code is good that resets a password, and how often a wrong one may be shown meanwhile.
pub const RESET_LIFE_MS: i64 = 15 * 60_000;
pub const RESET_TRIES: u8 = 5;

/// What many choose first, and so what is tried first, of those that are long enough. A list made by hand, not a dictionary:
/// what stands against guessing is that it is slow, and counted.
const COMMON: &str = "\
    password 12345678 123456789 1234567890 qwertyuiop qwerty123 1q2w3e4r 1qaz2wsx 11111111 111111111 \
    00000000 88888888 87654321 987654321 baseball football superman trustno1 sunshine princess \
    starwars whatever iloveyou passw0rd password1 password123 p@ssw0rd jennifer corvette mercedes \
    maverick michelle computer internet samantha welcome1 letmein1 changeme administrator admin123 \
    qwer1234 abcd1234 abc12345 asdfghjkl zaq12wsx 1q2w3e4r5t q1w2e3r4 aa123456 12341234 11223344 \
    123123123 147258369 chinwag1";

/// The digest (SHA-256) of something random that is too long to be guessed.
pub type Digest = [u8; 32];

/// What an account may do to others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rank {
    Member,
    /// Invites, and sees and disables those below.
    Admin,
    /// Also decides who is an admin or an owner.
    Owner,
}

/// Somebody who may log in. The name is the user id.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    pub rank: Rank,
    pub disabled: bool,
    pub since: Timestamp,
    /// As the password hasher writes it (a PHC string); `None` for who has not chosen one yet.
    pub password: Option<String>,
    /// A code that sets another password.
    pub reset: Option<Reset>,
}

/// A digest is for nobody to read.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("rank", &self.rank).field("disabled", &self.disabled).finish_non_exhaustive()
    }
}

/// A code that sets another password.
#[derive(Clone, PartialEq, Eq)]
pub struct Reset {
    pub code: Digest,
    pub until: Timestamp,
    pub tries_left: u8,
}

/// A device that is logged in.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub user: UserId,
    /// What the device calls itself.
    pub device: Option<Name>,
    pub since: Timestamp,
    pub used: Timestamp,
    /// When the last of its tokens ends.
    pub tokens_until: Timestamp,
    /// Of what all refresh tokens of the login have in common: whoever shows it has had one of them.
    pub family: Digest,
    /// Of what only the latest has.
    pub latest: Digest,
}

/// Leave to make an account.
#[derive(Clone, PartialEq, Eq)]
pub struct Invite {
    pub code: Digest,
    pub by: UserId,
    pub rank: Rank,
    pub uses_left: u32,
    pub made: Timestamp,
    pub until: Timestamp,
}

/// Who may make an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Registration {
    /// Nobody but the operator.
    Off,
    /// Who has been invited.
    Invited,
    Open,
}

/// Why the rules of accounts said no.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AccountRejection {
    #[error("accounts cannot be made here without an invite, or not at all")]
    RegistrationClosed,
    #[error("the invite is not known, or has been used up, taken back or left too long")]
    InviteInvalid,
    #[error("somebody has this name already")]
    NameTaken,
    #[error("this name is the server's own")]
    NameReserved,
    #[error("a password has 8 to 1,024 bytes, is not the name, and none of those that everybody tries first")]
    PasswordRefused,
    #[error("there is no account of this name with this password")]
    LoginFailed,
    #[error("the account has been disabled; an administrator may enable it again")]
    AccountDisabled,
    #[error("the refresh token is not good, or not any more; log in again")]
    RefreshInvalid,
    #[error("the code is not the right one, or has been used, tried too often or left too long")]
    CodeInvalid,
    #[error("there is no such account")]
    AccountNotFound,
    #[error("there is no such login of yours")]
    LoginNotFound,
    #[error("there is no such invite")]
    InviteNotFound,
    #[error("your account may not do that here")]
    RankTooLow,
    #[error("nobody would be left who owns the server; make somebody else an owner first")]
    LastAccountOwner,
    #[error("as many invites are open as may be; take some back")]
    TooManyInvites,
    #[error("you are banned from the tenant")]
    TenantBanned,
    #[error("the user is not banned from the tenant")]
    BanNotFound,
    #[error("as many users are banned or disabled as may be; let some in again")]
    TooManyExclusions,
    #[error("codes are not sent from here; an administrator makes one")]
    ResetsOff,
}

impl AccountRejection {
    pub const ALL: [Self; 19] = [
        Self::RegistrationClosed,
        Self::InviteInvalid,
        Self::NameTaken,
        Self::NameReserved,
        Self::PasswordRefused,
        Self::LoginFailed,
        Self::AccountDisabled,
        Self::RefreshInvalid,
        Self::CodeInvalid,
        Self::AccountNotFound,
        Self::LoginNotFound,
        Self::InviteNotFound,
        Self::RankTooLow,
        Self::LastAccountOwner,
        Self::TooManyInvites,
        Self::TenantBanned,
        Self::BanNotFound,
        Self::TooManyExclusions,
        Self::ResetsOff,
    ];

    /// The code by which programs know it. It never changes its meaning.
    pub fn code(self) -> &'static str {
        match self {
            Self::RegistrationClosed => "registration_closed",
            Self::InviteInvalid => "invite_invalid",
            Self::NameTaken => "name_taken",
            Self::NameReserved => "name_reserved",
            Self::PasswordRefused => "password_refused",
            Self::LoginFailed => "login_failed",
            Self::AccountDisabled => "account_disabled",
            Self::RefreshInvalid => "refresh_invalid",
            Self::CodeInvalid => "code_invalid",
            Self::AccountNotFound => "account_not_found",
            Self::LoginNotFound => "login_not_found",
            Self::InviteNotFound => "invite_not_found",
            Self::RankTooLow => "rank_too_low",
            Self::LastAccountOwner => "last_account_owner",
            Self::TooManyInvites => "too_many_invites",
            Self::TenantBanned => "tenant_banned",
            Self::BanNotFound => "ban_not_found",
            Self::TooManyExclusions => "too_many_exclusions",
            Self::ResetsOff => "resets_off",
        }
    }
}

impl Rank {
    pub const ALL: [Self; 3] = [Self::Member, Self::Admin, Self::Owner];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rank| rank.as_str() == text)
    }
}

impl Account {
    pub fn new(rank: Rank, password: Option<String>, now: Timestamp) -> Self {
        Self { rank, disabled: false, since: now, password, reset: None }
    }

    /// Whether it decides about others, and reads what is decided so.
    pub fn administers(&self) -> bool {
        self.rank >= Rank::Admin && !self.disabled
    }

    /// Whether a device may log in that has shown the password of which `verified` is the digest: what was verified is
    /// the account's still.
    pub fn admits(&self, verified: &str) -> Result<(), AccountRejection> {
        match &self.password {
            Some(password) if password == verified && self.disabled => Err(AccountRejection::AccountDisabled),
            Some(password) if password == verified => Ok(()),
            Some(_) | None => Err(AccountRejection::LoginFailed),
        }
    }

    /// The account with a code that sets another password; the one before is none any more.
    pub fn to_reset(&self, code: Digest, now: Timestamp) -> Self {
        let until = Timestamp(now.0.saturating_add(RESET_LIFE_MS));
        Self { reset: Some(Reset { code, until, tries_left: RESET_TRIES }), ..self.clone() }
    }

    /// The account with the password that somebody sets who shows `code`; with a rejection, the account as it is after
    /// the try, which counts.
    pub fn reset_by(&self, code: Digest, password: String, now: Timestamp) -> Result<Self, Self> {
        match &self.reset {
            Some(reset) if reset.code == code && now < reset.until && !self.disabled => {
                Ok(Self { password: Some(password), reset: None, ..self.clone() })
            }
            Some(reset) if reset.tries_left > 1 => {
                let reset = Some(Reset { tries_left: reset.tries_left - 1, ..reset.clone() });
                Err(Self { reset, ..self.clone() })
            }
            Some(_) | None => Err(Self { reset: None, ..self.clone() }),
        }
    }

    /// The account with another rank or standing, as `by` may decide; `None` is the operator. `owners` are those of the
    /// tenant who are not disabled.
    pub fn changed(
        &self,
        by: Option<Rank>,
        rank: Option<Rank>,
        disabled: Option<bool>,
        owners: usize,
    ) -> Result<Self, AccountRejection> {
        let changed =
            Self { rank: rank.unwrap_or(self.rank), disabled: disabled.unwrap_or(self.disabled), ..self.clone() };
        may(by, self.rank)?;
        may(by, changed.rank)?;
        if by == Some(Rank::Admin) && changed.rank != self.rank {
            return Err(AccountRejection::RankTooLow);
        }
        let owned = |account: &Self| account.rank == Rank::Owner && !account.disabled;
        if owned(self) && !owned(&changed) && owners <= 1 {
            return Err(AccountRejection::LastAccountOwner);
        }
        Ok(changed)
    }
}

/// Whether `by`, or the operator, may do something to an account of this rank, or make one: an admin to members, an
/// owner to all.
pub fn may(by: Option<Rank>, to: Rank) -> Result<(), AccountRejection> {
    match by {
        None | Some(Rank::Owner) => Ok(()),
        Some(Rank::Admin) if to == Rank::Member => Ok(()),
        Some(Rank::Admin | Rank::Member) => Err(AccountRejection::RankTooLow),
    }
}

/// Whether `by`, or the operator, may ban somebody of the rank `to`, or take such a ban back: nobody may who does not
/// rank higher. `owners` are those of the tenant who may come in.
pub fn may_ban(by: Option<Rank>, to: Rank, owners: usize) -> Result<(), AccountRejection> {
    match by {
        None if to == Rank::Owner && owners <= 1 => Err(AccountRejection::LastAccountOwner),
        None => Ok(()),
        Some(by) if by >= Rank::Admin && by > to => Ok(()),
        Some(Rank::Member | Rank::Admin | Rank::Owner) => Err(AccountRejection::RankTooLow),
    }
}

/// Whether `by`, or the operator, may take back or replace a ban that somebody made who was of the rank `of` then, or
/// the operator.
pub fn may_lift(by: Option<Rank>, of: Option<Rank>) -> Result<(), AccountRejection> {
    match (by, of) {
        (None, _) => Ok(()),
        (Some(by), Some(of)) if by >= of => Ok(()),
        (Some(_), _) => Err(AccountRejection::RankTooLow),
    }
}

impl Login {
    /// The login with a new refresh token, for who shows one of it.
    pub fn refreshed(
        &self,
        shown: Shown,
        next: Digest,
        now: Timestamp,
        tokens_until: Timestamp,
        life_ms: i64,
    ) -> Result<Self, Refreshing> {
        if self.family != shown.family {
            return Err(Refreshing::Foreign);
        }
        // Of two who have the same token one has stolen it, and nobody knows which (RFC 9700, section 4.14.2).
        if self.latest != shown.latest || self.is_over(now, life_ms) {
            return Err(Refreshing::Ends);
        }
        Ok(Self { latest: next, used: now, tokens_until: tokens_until.max(self.tokens_until), ..self.clone() })
    }

    /// Whether it has not been used for too long.
    pub fn is_over(&self, now: Timestamp, life_ms: i64) -> bool {
        now.0.saturating_sub(self.used.0) >= life_ms
    }
}

/// Of what a refresh token says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    pub family: Digest,
    pub latest: Digest,
}

/// Why a login is not refreshed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refreshing {
    /// The token was never one of this login, so that changes nothing.
    Foreign,
    /// The login is over: its latest refresh token is another one, or has waited too long.
    Ends,
}

impl Invite {
    pub fn new(code: Digest, by: UserId, rank: Rank, uses: u32, now: Timestamp, life_ms: i64) -> Self {
        let (uses_left, life) = (uses.clamp(1, INVITE_USES_MAX), life_ms.clamp(1, INVITE_LIFE_MAX_MS));
        Self { code, by, rank, uses_left, made: now, until: Timestamp(now.0.saturating_add(life)) }
    }

    pub fn is_open(&self, now: Timestamp) -> bool {
        self.uses_left > 0 && now < self.until
    }

    /// The invite after one more account has been made of it; `None` when that was the last.
    pub fn used(&self) -> Option<Self> {
        let uses_left = self.uses_left.saturating_sub(1);
        (uses_left > 0).then(|| Self { uses_left, ..self.clone() })
    }
}

/// The rank with which somebody may register, who shows an invite or not. `taken` says whether somebody has the name.
pub fn register(
    registration: Registration,
    name: &UserId,
    taken: bool,
    invite: Option<(&Invite, Digest)>,
    now: Timestamp,
) -> Result<Rank, AccountRejection> {
    let rank = entrance(registration, invite, now)?;
    if name.is_reserved() {
        return Err(AccountRejection::NameReserved);
    }
    if taken { Err(AccountRejection::NameTaken) } else { Ok(rank) }
}

/// Whether somebody may register at all, whatever the name; and with which rank.
pub fn entrance(
    registration: Registration,
    invite: Option<(&Invite, Digest)>,
    now: Timestamp,
) -> Result<Rank, AccountRejection> {
    match (registration, invite) {
        (Registration::Off, _) | (Registration::Invited, None) => Err(AccountRejection::RegistrationClosed),
        (Registration::Open, None) => Ok(Rank::Member),
        (Registration::Invited | Registration::Open, Some((invite, shown))) => {
            if invite.code == shown && invite.is_open(now) {
                Ok(invite.rank)
            } else {
                Err(AccountRejection::InviteInvalid)
            }
        }
    }
}

/// Whether `name` may have this password.
pub fn check_password(name: &UserId, password: &str) -> Result<(), AccountRejection> {
    let bytes = password.len();
    let common = COMMON.split(' ').any(|common| common.eq_ignore_ascii_case(password));
    if !(PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&bytes)
        || common
        || password.eq_ignore_ascii_case(name.as_str())
    {
        return Err(AccountRejection::PasswordRefused);
    }
    Ok(())
}

/// Which logins end with one more: those that have not been used for longest, and those that are over.
pub fn crowded_out(logins: &[(LoginId, Login)], now: Timestamp, life_ms: i64) -> Vec<LoginId> {
    let mut alive: Vec<_> = logins.iter().filter(|(_, login)| !login.is_over(now, life_ms)).collect();
    alive.sort_by_key(|(_, login)| login.used);
    let beyond = alive.len().saturating_sub(LOGINS_MAX - 1);
    let over = logins.iter().filter(|(_, login)| login.is_over(now, life_ms));
    over.chain(alive.into_iter().take(beyond)).map(|(id, _)| *id).collect()
}

#[cfg(test)]
mod tests;
