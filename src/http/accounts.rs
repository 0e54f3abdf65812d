//! Accounts over HTTP: registering, logging in, devices, passwords, invites.
//!
//! Requests alone, and no commands of a WebSocket: who asks for a token has no connection yet, and whose password or
//! logins change should not depend on one that this may end.

mod mail;

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use super::kill::Unread;
use super::listener::Connection;
use super::payload::{self, Expects};
use super::problem::Problem;
use super::routes::Route;
use super::visit::{self, Visit};
use super::{Edge, address, credentials};
use crate::actors::accounts::{Accounts, By, NewLogin, Which};
use crate::actors::{Address, Registry};
use crate::auth::codes::{self, NoRandomness, RefreshToken};
use crate::auth::passwords::{NotHashed, Password, Passwords};
use crate::auth::{Claims, Keyring};
use crate::domain::account::{self, Account, AccountRejection, INVITE_LIFE_MS, Invite, Rank};
use crate::domain::exclusion::TenantBan;
use crate::domain::{LoginId, Name, Principal, RoomId, TenantId, Timestamp, UserId};
use crate::wire::Refusal;

/// The largest body: names and passwords.
const BODY_BYTES_MAX: usize = 8 * 1024;

/// How many accounts are listed at once, if nothing else is asked.
const LIMIT: usize = 50;

/// What is asked about accounts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    Register,
    LogIn,
    Refresh,
    Reset,
    AskForCode,
    Logins,
    End,
    EndOthers,
    Password,
    List,
    Change,
    MakeReset,
    Invite,
    Invites,
    TakeBack,
    Ban,
    Unban,
    Bans,
}

/// Where somebody makes an account by an invite: what stands behind the `#` is never sent.
pub fn join_path(tenant: &TenantId, code: &str) -> String {
    if *tenant == TenantId::default_tenant() { format!("/join#{code}") } else { format!("/join#{code}@{tenant}") }
}

/// What makes accounts out of requests.
pub struct Reception {
    accounts: Arc<Accounts>,
    passwords: Arc<Passwords>,
    keyring: Keyring,
}

impl Act {
    pub fn needs_token(self) -> bool {
        match self {
            Self::Register | Self::LogIn | Self::Refresh | Self::Reset | Self::AskForCode => false,
            Self::Logins
            | Self::End
            | Self::EndOthers
            | Self::Password
            | Self::List
            | Self::Change
            | Self::MakeReset
            | Self::Invite
            | Self::Invites
            | Self::TakeBack
            | Self::Ban
            | Self::Unban
            | Self::Bans => true,
        }
    }

    /// Its name for programs that generate code.
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::LogIn => "log_in",
            Self::Refresh => "refresh",
            Self::Reset => "reset_password",
            Self::AskForCode => "ask_for_reset_code",
            Self::Logins => "logins",
            Self::End => "end_login",
            Self::EndOthers => "end_other_logins",
            Self::Password => "change_password",
            Self::List => "accounts",
            Self::Change => "change_account",
            Self::MakeReset => "make_reset_code",
            Self::Invite => "make_invite",
            Self::Invites => "invites",
            Self::TakeBack => "take_back_invite",
            Self::Ban => "ban_from_tenant",
            Self::Unban => "unban_from_tenant",
            Self::Bans => "bans_of_tenant",
        }
    }
}

/// Answers a request about accounts.
pub async fn answer(
    route: &'static Route,
    act: Act,
    request: HttpRequest,
    payload: web::Payload,
    edge: web::ThinData<Edge>,
) -> HttpResponse {
    let answered = async {
        let reception = edge.reception.clone().ok_or_else(Problem::not_found)?;
        if act.needs_token() {
            of_somebody(&reception, route, act, &request, payload, &edge).await
        } else {
            of_a_stranger(&reception, route, act, &request, payload, &edge).await.map_err(Problem::of)
        }
    };
    answered.await.unwrap_or_else(|problem: Problem| {
        let mut response = problem.response();
        if payload::is_announced(&request) {
            response.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
            response.extensions_mut().insert(Unread);
        }
        response
    })
}

/// A request of who has no token yet.
async fn of_a_stranger(
    reception: &Reception,
    route: &'static Route,
    act: Act,
    request: &HttpRequest,
    payload: web::Payload,
    edge: &Edge,
) -> Result<HttpResponse, Refusal> {
    let (registry, address) = (edge.worker.registry(), edge.door.address(request));
    let body = body(route, request, payload, edge).await?;
    let counted = Counted { registry, address };
    match act {
        Act::Register => reception.register(&counted, read(&body)?).await,
        Act::LogIn => reception.log_in(&counted, read(&body)?).await,
        Act::Refresh => reception.refresh(&counted, read(&body)?).await,
        Act::Reset => reception.reset(&counted, read(&body)?).await,
        Act::AskForCode => reception.ask_for_code(&counted, &read(&body)?),
        Act::Logins
        | Act::End
        | Act::EndOthers
        | Act::Password
        | Act::List
        | Act::Change
        | Act::MakeReset
        | Act::Invite
        | Act::Invites
        | Act::TakeBack
        | Act::Ban
        | Act::Unban
        | Act::Bans => Err(Refusal::unauthenticated()),
    }
}

/// A request of who shows a token. A revocation finds it, unless it is that of the request's own login.
async fn of_somebody(
    reception: &Reception,
    route: &'static Route,
    act: Act,
    request: &HttpRequest,
    payload: web::Payload,
    edge: &Edge,
) -> Result<HttpResponse, Problem> {
    let by = credentials::principal(request, edge).await?;
    let members = address::members(route.path, &route.query_names(), request.uri().path(), request.query_string());
    let members = members.map_err(Problem::of)?;
    let place = |name: &str| members.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str());
    if act == Act::End {
        if payload::is_announced(request) {
            return Err(Problem::of(Refusal::bad_request("this request has no body")));
        }
        let login = match place("login") {
            Some("current") => by.login.ok_or_else(|| Problem::of(AccountRejection::LoginNotFound.into()))?,
            Some(id) => LoginId(uuid(id).map_err(Problem::of)?),
            None => return Err(Problem::not_found()),
        };
        if by.login == Some(login) {
            visit::depart(request, &by);
            return reception.end(&by, Which::One(login)).await.map_err(Problem::of);
        }
        let visit = Visit::command(request, edge, by)?;
        let ended = reception.end(visit.by(), Which::One(login)).await.map_err(Problem::of)?;
        return Ok(visit.end(ended));
    }
    let visit = Visit::command(request, edge, by)?;
    let answered = async {
        let body = body(route, request, payload, edge).await?;
        visit.is_good()?;
        let (by, registry) = (visit.by(), edge.worker.registry());
        let counted = Counted { registry, address: edge.door.address(request) };
        registry.meters().user(&registry.limits().rates, by)?;
        match act {
            Act::Logins => reception.logins(by).await,
            Act::EndOthers => reception.end(by, Which::AllBut(by.login)).await,
            Act::Password => reception.password(&counted, by, read(&body)?).await,
            Act::List => reception.list(by, place("after"), place("limit")).await,
            Act::Change => {
                // Who gives up his own rank is let go of by the tenant's audit room.
                let own = place("user") == Some(by.user.as_str());
                let _leaving = own.then(|| visit.leaving(RoomId::audit_of_tenant(&by.tenant)));
                reception.change(by, place("user"), read(&body)?).await
            }
            Act::MakeReset => reception.make_reset(by, place("user")).await,
            Act::Invite => reception.invite(by, read(&body)?).await,
            Act::Invites => reception.invites(by).await,
            Act::TakeBack => reception.take_back(by, place("invite")).await,
            Act::Ban => reception.ban(by, read(&body)?).await,
            Act::Unban => reception.unban(by, place("user")).await,
            Act::Bans => reception.bans(by, place("after"), place("limit")).await,
            Act::Register | Act::LogIn | Act::Refresh | Act::Reset | Act::AskForCode | Act::End => {
                Err(Refusal::route_not_found())
            }
        }
    };
    let response = answered.await.map_err(Problem::of)?;
    // Its login may have been ended meanwhile by somebody else.
    visit.is_good().map_err(Problem::of)?;
    Ok(visit.end(response))
}

/// Where a request comes from, to count what goes wrong.
pub struct Counted<'a> {
    pub registry: &'a Registry,
    pub address: Address,
}

impl Counted<'_> {
    /// Whether a password or a code may be tried.
    fn may_try(&self, tenant: &TenantId, user: &UserId) -> Result<(), Refusal> {
        let meters = self.registry.meters();
        meters.may_try_token(self.address)?;
        meters.may_try_password(tenant, user)?;
        meters.log_in(&self.registry.limits().rates, self.address)
    }

    /// Whether something may be asked that could be used for guessing.
    pub fn may_ask(&self) -> Result<(), Refusal> {
        let meters = self.registry.meters();
        meters.may_try_token(self.address)?;
        meters.log_in(&self.registry.limits().rates, self.address)
    }

    fn failed(&self, tenant: &TenantId, user: &UserId) {
        self.registry.meters().bad_password(&self.registry.limits().rates, self.address, tenant, user);
    }
}

#[derive(Deserialize)]
struct Register {
    name: String,
    password: Password,
    invite: Option<String>,
    device: Option<String>,
    tenant: Option<String>,
}

#[derive(Deserialize)]
struct LogIn {
    name: String,
    password: Password,
    device: Option<String>,
    tenant: Option<String>,
}

#[derive(Deserialize)]
struct Refresh {
    refresh: String,
}

#[derive(Deserialize)]
struct Reset {
    name: String,
    code: String,
    password: Password,
    tenant: Option<String>,
}

#[derive(Deserialize)]
struct AskForCode {
    name: String,
    tenant: Option<String>,
}

#[derive(Deserialize)]
struct ChangePassword {
    password: Password,
    new_password: Password,
}

#[derive(Deserialize)]
struct Change {
    rank: Option<String>,
    disabled: Option<bool>,
}

#[derive(Deserialize)]
struct MakeInvite {
    rank: Option<String>,
    uses: Option<u32>,
    life_ms: Option<i64>,
}

#[derive(Deserialize)]
struct Ban {
    user: String,
    until: Option<i64>,
    reason: Option<String>,
}

impl Reception {
    pub fn new(accounts: Arc<Accounts>, keyring: Keyring) -> Self {
        Self { accounts, passwords: Passwords::new(), keyring }
    }

    async fn register(&self, counted: &Counted<'_>, asked: Register) -> Result<HttpResponse, Refusal> {
        let (tenant, user) = who(asked.tenant.as_deref(), &asked.name)?;
        counted.may_try(&tenant, &user)?;
        let invite = match asked.invite.as_deref().map(codes::read_invite) {
            Some(None) => return Err(AccountRejection::InviteInvalid.into()),
            Some(Some(shown)) => Some(shown),
            None => None,
        };
        account::check_password(&user, asked.password.as_str())?;
        let (token, login) = new_login(&tenant, asked.device.as_deref())?;
        if let Err(refusal) = self.accounts.may_register(&tenant, invite).await {
            // Codes are too long to be guessed; who tries is none the less counted.
            counted.failed(&tenant, &user);
            return Err(refusal);
        }
        let password = self.hash(asked.password).await?;
        let rank = self.accounts.register(tenant, user.clone(), password, invite, login).await?;
        self.logged_in(counted.registry, StatusCode::CREATED, &token, &user, rank)
    }

    async fn log_in(&self, counted: &Counted<'_>, asked: LogIn) -> Result<HttpResponse, Refusal> {
        let (tenant, user) = who(asked.tenant.as_deref(), &asked.name)?;
        let (token, login) = new_login(&tenant, asked.device.as_deref())?;
        let verified = self.verify(counted, &tenant, &user, asked.password).await?;
        let rank = self.accounts.log_in(tenant, user.clone(), verified, login).await?;
        self.logged_in(counted.registry, StatusCode::CREATED, &token, &user, rank)
    }

    async fn refresh(&self, counted: &Counted<'_>, asked: Refresh) -> Result<HttpResponse, Refusal> {
        counted.registry.meters().may_try_token(counted.address)?;
        let refused = |refusal: Refusal| {
            let is_guess = refusal.code() == AccountRejection::RefreshInvalid.code();
            if is_guess {
                counted.registry.meters().bad_token(&counted.registry.limits().rates, counted.address);
            }
            refusal
        };
        let old = RefreshToken::parse(&asked.refresh);
        let old = old.ok_or_else(|| refused(AccountRejection::RefreshInvalid.into()))?;
        let next = old.next().map_err(no_randomness)?;
        let refreshed = self.accounts.refresh(old.tenant.clone(), old.login, old.shown(), next.shown().latest).await;
        let (user, rank) = refreshed.map_err(refused)?;
        self.logged_in(counted.registry, StatusCode::OK, &next, &user, rank)
    }

    async fn reset(&self, counted: &Counted<'_>, asked: Reset) -> Result<HttpResponse, Refusal> {
        let (tenant, user) = who(asked.tenant.as_deref(), &asked.name)?;
        counted.may_try(&tenant, &user)?;
        account::check_password(&user, asked.password.as_str())?;
        let password = self.hash(asked.password).await?;
        let code = codes::read_reset(&asked.code);
        let reset = self.accounts.reset(tenant.clone(), user.clone(), code, password).await;
        let ended = reset.inspect_err(|refusal| {
            if refusal.code() == AccountRejection::CodeInvalid.code() {
                counted.failed(&tenant, &user);
            }
        })?;
        Ok(ok(&json!({ "ended": ended })))
    }

    /// Looks at no account, so that the answer says nothing of any.
    fn ask_for_code(&self, counted: &Counted<'_>, asked: &AskForCode) -> Result<HttpResponse, Refusal> {
        let (tenant, user) = who(asked.tenant.as_deref(), &asked.name)?;
        counted.may_try(&tenant, &user)?;
        counted.registry.meters().ask_for_code(&counted.registry.limits().rates, &tenant, &user)?;
        self.accounts.ask_for_code(tenant, user)?;
        Ok(HttpResponse::Accepted().json(json!({})))
    }

    async fn logins(&self, by: &Principal) -> Result<HttpResponse, Refusal> {
        let mut logins = self.accounts.logins(&by.tenant, &by.user).await?;
        logins.sort_by_key(|(_, login)| std::cmp::Reverse(login.used));
        let shown: Vec<_> = logins
            .iter()
            .map(|(id, login)| {
                json!({
                    "login": id.to_string(),
                    "device": login.device.as_ref().map(Name::as_str),
                    "since": login.since.0,
                    "used": login.used.0,
                    "current": by.login == Some(*id),
                })
            })
            .collect();
        Ok(ok(&json!({ "logins": shown })))
    }

    async fn end(&self, by: &Principal, which: Which) -> Result<HttpResponse, Refusal> {
        let ended = self.accounts.end(by.tenant.clone(), by.user.clone(), which).await?;
        Ok(ok(&json!({ "ended": ended })))
    }

    async fn password(
        &self,
        counted: &Counted<'_>,
        by: &Principal,
        asked: ChangePassword,
    ) -> Result<HttpResponse, Refusal> {
        account::check_password(&by.user, asked.new_password.as_str())?;
        let verified = self.verify(counted, &by.tenant, &by.user, asked.password).await?;
        let password = self.hash(asked.new_password).await?;
        let passwords = (verified, password);
        let ended = self.accounts.set_password(by.tenant.clone(), by.user.clone(), passwords, by.login).await?;
        Ok(ok(&json!({ "ended": ended })))
    }

    async fn list(&self, by: &Principal, after: Option<&str>, limit: Option<&str>) -> Result<HttpResponse, Refusal> {
        let (after, limit) = page(after, limit)?;
        let part = self.accounts.list(&asking(by), &by.tenant, after.as_ref(), limit).await?;
        let after = part.found.last().filter(|_| part.more).map(|(user, _)| user.as_str());
        let shown: Vec<_> = part.found.iter().map(|(user, account)| shown(user, account)).collect();
        Ok(ok(&json!({ "accounts": shown, "after": after })))
    }

    async fn change(&self, by: &Principal, user: Option<&str>, asked: Change) -> Result<HttpResponse, Refusal> {
        let user = named(user)?;
        let rank = asked.rank.as_deref().map(rank).transpose()?;
        let changed = (rank, asked.disabled);
        let account = self.accounts.change(asking(by), by.tenant.clone(), user.clone(), changed).await?;
        Ok(ok(&shown(&user, &account)))
    }

    async fn make_reset(&self, by: &Principal, user: Option<&str>) -> Result<HttpResponse, Refusal> {
        let user = named(user)?;
        let (code, digest) = codes::reset().map_err(no_randomness)?;
        let until = self.accounts.to_reset(asking(by), by.tenant.clone(), user.clone(), digest).await?;
        let body = json!({ "user": user.as_str(), "code": code, "expires_at": until.0 });
        Ok(HttpResponse::build(StatusCode::CREATED).json(body))
    }

    async fn invite(&self, by: &Principal, asked: MakeInvite) -> Result<HttpResponse, Refusal> {
        let rank = asked.rank.as_deref().map_or(Ok(Rank::Member), rank)?;
        let (id, code, digest) = codes::invite().map_err(no_randomness)?;
        let much = (asked.uses.unwrap_or(1), asked.life_ms.unwrap_or(INVITE_LIFE_MS));
        let invite = self.accounts.invite_to(asking(by), by.tenant.clone(), (id, digest), rank, much).await?;
        let mut body = invited(id, &invite);
        body["path"] = join_path(&by.tenant, &code).into();
        body["code"] = code.into();
        Ok(HttpResponse::build(StatusCode::CREATED).json(body))
    }

    async fn invites(&self, by: &Principal) -> Result<HttpResponse, Refusal> {
        let invites = self.accounts.invites(&asking(by), &by.tenant).await?;
        let invites: Vec<_> = invites.iter().map(|(id, invite)| invited(*id, invite)).collect();
        Ok(ok(&json!({ "invites": invites })))
    }

    async fn take_back(&self, by: &Principal, invite: Option<&str>) -> Result<HttpResponse, Refusal> {
        let id = uuid(invite.unwrap_or_default())?;
        self.accounts.take_back(asking(by), by.tenant.clone(), id).await?;
        Ok(ok(&json!({})))
    }

    async fn ban(&self, by: &Principal, asked: Ban) -> Result<HttpResponse, Refusal> {
        let (user, reason) = (named(Some(&asked.user))?, named_reason(asked.reason.as_deref())?);
        let until = asked.until.map(Timestamp);
        let banned = self.accounts.ban(asking(by), by.tenant.clone(), user.clone(), until, reason).await?;
        Ok(HttpResponse::build(StatusCode::CREATED).json(banned_as(&user, &banned)))
    }

    async fn unban(&self, by: &Principal, user: Option<&str>) -> Result<HttpResponse, Refusal> {
        self.accounts.unban(asking(by), by.tenant.clone(), named(user)?).await?;
        Ok(ok(&json!({})))
    }

    async fn bans(&self, by: &Principal, after: Option<&str>, limit: Option<&str>) -> Result<HttpResponse, Refusal> {
        let (after, limit) = page(after, limit)?;
        let part = self.accounts.bans(&asking(by), &by.tenant, after.as_ref(), limit).await?;
        let after = part.found.last().filter(|_| part.more).map(|(user, _)| user.as_str());
        let shown: Vec<_> = part.found.iter().map(|(user, ban)| ban_shown(user, ban)).collect();
        Ok(ok(&json!({ "bans": shown, "after": after })))
    }

    /// The digest of the account's password, if this is it. Who has no account waits as long.
    async fn verify(
        &self,
        counted: &Counted<'_>,
        tenant: &TenantId,
        user: &UserId,
        password: Password,
    ) -> Result<String, Refusal> {
        counted.may_try(tenant, user)?;
        let known = self.accounts.account(tenant, user).await?.and_then(|account| account.password);
        let verified = self.passwords.verify(password, known).await.map_err(not_hashed)?;
        verified.ok_or_else(|| {
            counted.failed(tenant, user);
            AccountRejection::LoginFailed.into()
        })
    }

    async fn hash(&self, password: Password) -> Result<String, Refusal> {
        self.passwords.hash(password).await.map_err(not_hashed)
    }

    /// What a device is given that is logged in.
    fn logged_in(
        &self,
        registry: &Registry,
        status: StatusCode,
        refresh: &RefreshToken,
        user: &UserId,
        rank: Rank,
    ) -> Result<HttpResponse, Refusal> {
        let (now, lifetime) = (registry.now(), self.accounts.options().token_life);
        let claims = Claims {
            tenant: refresh.tenant.clone(),
            user: user.clone(),
            issued_at: now,
            lifetime,
            id: Uuid::new_v4(),
            login: Some(refresh.login),
        };
        let token = self.keyring.mint(&claims).map_err(|_| Refusal::internal())?;
        let lifetime = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000);
        let expires_at = now.0.div_euclid(1000).saturating_mul(1000).saturating_add(lifetime);
        Ok(HttpResponse::build(status).json(json!({
            "user": user.as_str(),
            "tenant": refresh.tenant.as_str(),
            "rank": rank.as_str(),
            "login": refresh.login.to_string(),
            "token": token,
            "expires_at": expires_at,
            "refresh": refresh.text(),
        })))
    }
}

async fn body(
    route: &'static Route,
    request: &HttpRequest,
    payload: web::Payload,
    edge: &Edge,
) -> Result<Bytes, Refusal> {
    let (time, answer) = {
        let limits = edge.worker.registry().limits();
        (limits.body_deadline, limits.answer_timeout)
    };
    if let Some(Connection { kill, .. }) = request.conn_data::<Connection>() {
        kill.allow(time + answer);
    }
    let expects = if route.body.is_some() { Expects::Json } else { Expects::Nothing };
    payload::read(request, payload, expects, BODY_BYTES_MAX, time, || Ok(())).await
}

/// What a body says. What is wrong with it is told without a word of it.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    // The reader would pass over what it need not understand.
    let body = std::str::from_utf8(body).map_err(|_| Refusal::bad_request("the body is not UTF-8"))?;
    serde_json::from_str(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Refusal::bad_request(format!("the body is not of the documented form, at line {line}, column {column}"))
    })
}

fn who(tenant: Option<&str>, name: &str) -> Result<(TenantId, UserId), Refusal> {
    let tenant = tenant.map_or_else(|| Ok(TenantId::default_tenant()), TenantId::new).map_err(Refusal::bad_request)?;
    Ok((tenant, UserId::new(name).map_err(Refusal::bad_request)?))
}

fn new_login(tenant: &TenantId, device: Option<&str>) -> Result<(RefreshToken, NewLogin), Refusal> {
    let device = device.map(Name::new).transpose().map_err(Refusal::bad_request)?;
    let token = RefreshToken::first(tenant.clone()).map_err(no_randomness)?;
    let login = NewLogin { id: token.login, device, tokens: token.shown(), tokens_for: None };
    Ok((token, login))
}

fn page(after: Option<&str>, limit: Option<&str>) -> Result<(Option<UserId>, usize), Refusal> {
    let after = after.map(UserId::new).transpose().map_err(Refusal::bad_request)?;
    let limit = limit.map(str::parse).transpose().map_err(Refusal::bad_request)?.unwrap_or(LIMIT);
    if (1..=100).contains(&limit) {
        Ok((after, limit))
    } else {
        Err(Refusal::bad_request("`limit` is between 1 and 100"))
    }
}

pub fn named_reason(reason: Option<&str>) -> Result<Option<Name>, Refusal> {
    reason.map(Name::new).transpose().map_err(Refusal::bad_request)
}

fn named(user: Option<&str>) -> Result<UserId, Refusal> {
    UserId::new(user.unwrap_or_default()).map_err(Refusal::bad_request)
}

fn rank(text: &str) -> Result<Rank, Refusal> {
    Rank::parse(text).ok_or_else(|| Refusal::bad_request("`rank` is member, admin or owner"))
}

fn uuid(text: &str) -> Result<Uuid, Refusal> {
    Uuid::try_parse(text).map_err(Refusal::bad_request)
}

fn asking(by: &Principal) -> By {
    By::User(by.user.clone())
}

/// An account as others are shown it.
pub fn shown(user: &UserId, account: &Account) -> Value {
    json!({
        "user": user.as_str(),
        "rank": account.rank.as_str(),
        "disabled": account.disabled,
        "since": account.since.0,
    })
}

/// A ban as those are shown it who may take it back.
pub fn ban_shown(user: &UserId, ban: &TenantBan) -> Value {
    json!({
        "user": user.as_str(),
        "by": ban.by.as_str(),
        "at": ban.at.0,
        "until": ban.until.map(|until| until.0),
        "reason": ban.reason.as_ref().map(Name::as_str),
    })
}

/// The same, with how many connections it has ended.
pub fn banned_as(user: &UserId, (ban, connections): &(TenantBan, usize)) -> Value {
    let mut shown = ban_shown(user, ban);
    shown["connections"] = (*connections).into();
    shown
}

/// An invite as those are shown it who may take it back: without its code, which nobody has but who was given it.
pub fn invited(id: Uuid, invite: &Invite) -> Value {
    json!({
        "invite": id.to_string(),
        "by": invite.by.as_str(),
        "rank": invite.rank.as_str(),
        "uses_left": invite.uses_left,
        "expires_at": invite.until.0,
    })
}

fn ok(body: &Value) -> HttpResponse {
    HttpResponse::Ok().json(body)
}

fn no_randomness(_: NoRandomness) -> Refusal {
    Refusal::unavailable()
}

fn not_hashed(why: NotHashed) -> Refusal {
    match why {
        NotHashed::Busy(after) => Refusal::busy(after),
        NotHashed::Failed => Refusal::internal(),
    }
}
