//! Accounts and invites as the operator makes them.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::actors::accounts::By;
use crate::auth::codes;
use crate::domain::account::{INVITE_LIFE_MS, Rank};
use crate::domain::{TenantId, Timestamp, UserId};
use crate::http::Desk;
use crate::http::accounts::{ban_shown, banned_as, invited, join_path, named_reason, shown};
use crate::http::problem::Problem;
use crate::wire::Refusal;

/// The most accounts of one page.
const PAGE_MAX: usize = 1000;

#[derive(Deserialize)]
pub struct Page {
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    name: String,
    rank: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    rank: Option<String>,
    disabled: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    rank: String,
    uses: u32,
    life_ms: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ban {
    user: String,
    until: Option<i64>,
    reason: Option<String>,
}

/// `GET /tenants/{tenant}/accounts`
pub async fn list(desk: web::ThinData<Desk>, path: web::Path<String>, page: web::Query<Page>) -> HttpResponse {
    let listed = async {
        let after = page.after.as_deref().map(user).transpose()?;
        let limit = page.limit.unwrap_or(100).clamp(1, PAGE_MAX);
        let part = desk.accounts.list(&By::Operator, &tenant(&path)?, after.as_ref(), limit).await?;
        let after = part.found.last().filter(|_| part.more).map(|(user, _)| user.as_str());
        let accounts: Vec<_> = part.found.iter().map(|(user, account)| shown(user, account)).collect();
        Ok(HttpResponse::Ok().json(json!({ "accounts": accounts, "after": after })))
    };
    answered(listed.await)
}

/// `POST /tenants/{tenant}/accounts`
pub async fn add(desk: web::ThinData<Desk>, path: web::Path<String>, add: web::Json<Add>) -> HttpResponse {
    let added = async {
        let (user, rank) = (user(&add.name)?, rank(&add.rank)?);
        let (code, digest) = codes::reset().map_err(|_| Refusal::unavailable())?;
        let until = desk.accounts.add(tenant(&path)?, user.clone(), rank, digest).await?;
        Ok(HttpResponse::Ok().json(json!({ "user": user.as_str(), "code": code, "expires_at": until.0 })))
    };
    answered(added.await)
}

/// `POST /tenants/{tenant}/accounts/{user}`
pub async fn change(
    desk: web::ThinData<Desk>,
    path: web::Path<(String, String)>,
    change: web::Json<Change>,
) -> HttpResponse {
    let changed = async {
        let user = user(&path.1)?;
        let change = (change.rank.as_deref().map(rank).transpose()?, change.disabled);
        let account = desk.accounts.change(By::Operator, tenant(&path.0)?, user.clone(), change).await?;
        Ok(HttpResponse::Ok().json(shown(&user, &account)))
    };
    answered(changed.await)
}

/// `POST /tenants/{tenant}/accounts/{user}/reset`
pub async fn reset(desk: web::ThinData<Desk>, path: web::Path<(String, String)>) -> HttpResponse {
    let made = async {
        let user = user(&path.1)?;
        let (code, digest) = codes::reset().map_err(|_| Refusal::unavailable())?;
        let until = desk.accounts.to_reset(By::Operator, tenant(&path.0)?, user.clone(), digest).await?;
        Ok(HttpResponse::Ok().json(json!({ "user": user.as_str(), "code": code, "expires_at": until.0 })))
    };
    answered(made.await)
}

/// `GET /tenants/{tenant}/invites`
pub async fn invites(desk: web::ThinData<Desk>, path: web::Path<String>) -> HttpResponse {
    let listed = async {
        let invites = desk.accounts.invites(&By::Operator, &tenant(&path)?).await?;
        let invites: Vec<_> = invites.iter().map(|(id, invite)| invited(*id, invite)).collect();
        Ok(HttpResponse::Ok().json(json!({ "invites": invites })))
    };
    answered(listed.await)
}

/// `POST /tenants/{tenant}/invites`
pub async fn invite(desk: web::ThinData<Desk>, path: web::Path<String>, asked: web::Json<Invite>) -> HttpResponse {
    let made = async {
        let rank = rank(&asked.rank)?;
        let (id, code, digest) = codes::invite().map_err(|_| Refusal::unavailable())?;
        let much = (asked.uses, asked.life_ms.unwrap_or(INVITE_LIFE_MS));
        let tenant = tenant(&path)?;
        let invite = desk.accounts.invite_to(By::Operator, tenant.clone(), (id, digest), rank, much).await?;
        let mut body = invited(id, &invite);
        body["path"] = join_path(&tenant, &code).into();
        body["code"] = code.into();
        Ok(HttpResponse::Ok().json(body))
    };
    answered(made.await)
}

/// `POST /tenants/{tenant}/invites/{invite}/revoke`
pub async fn take_back(desk: web::ThinData<Desk>, path: web::Path<(String, String)>) -> HttpResponse {
    let taken = async {
        let id = Uuid::try_parse(&path.1).map_err(Refusal::bad_request)?;
        desk.accounts.take_back(By::Operator, tenant(&path.0)?, id).await?;
        Ok(HttpResponse::Ok().json(json!({ "invite": id.to_string() })))
    };
    answered(taken.await)
}

/// `GET /tenants/{tenant}/bans`
pub async fn bans(desk: web::ThinData<Desk>, path: web::Path<String>, page: web::Query<Page>) -> HttpResponse {
    let listed = async {
        let after = page.after.as_deref().map(user).transpose()?;
        let limit = page.limit.unwrap_or(100).clamp(1, PAGE_MAX);
        let part = desk.accounts.bans(&By::Operator, &tenant(&path)?, after.as_ref(), limit).await?;
        let after = part.found.last().filter(|_| part.more).map(|(user, _)| user.as_str());
        let bans: Vec<_> = part.found.iter().map(|(user, ban)| ban_shown(user, ban)).collect();
        Ok(HttpResponse::Ok().json(json!({ "bans": bans, "after": after })))
    };
    answered(listed.await)
}

/// `POST /tenants/{tenant}/bans`
pub async fn ban(desk: web::ThinData<Desk>, path: web::Path<String>, asked: web::Json<Ban>) -> HttpResponse {
    let banned = async {
        let (user, reason) = (user(&asked.user)?, named_reason(asked.reason.as_deref())?);
        let until = asked.until.map(Timestamp);
        let banned = desk.accounts.ban(By::Operator, tenant(&path)?, user.clone(), until, reason).await?;
        Ok(HttpResponse::Ok().json(banned_as(&user, &banned)))
    };
    answered(banned.await)
}

/// `POST /tenants/{tenant}/bans/{user}/revoke`
pub async fn unban(desk: web::ThinData<Desk>, path: web::Path<(String, String)>) -> HttpResponse {
    let unbanned = async {
        let user = user(&path.1)?;
        desk.accounts.unban(By::Operator, tenant(&path.0)?, user.clone()).await?;
        Ok(HttpResponse::Ok().json(json!({ "user": user.as_str() })))
    };
    answered(unbanned.await)
}

fn tenant(text: &str) -> Result<TenantId, Refusal> {
    TenantId::new(text).map_err(Refusal::bad_request)
}

fn user(text: &str) -> Result<UserId, Refusal> {
    UserId::new(text).map_err(Refusal::bad_request)
}

fn rank(text: &str) -> Result<Rank, Refusal> {
    Rank::parse(text).ok_or_else(|| Refusal::bad_request("a rank is member, admin or owner"))
}

fn answered(answer: Result<HttpResponse, Refusal>) -> HttpResponse {
    answer.unwrap_or_else(|refusal| Problem::of(refusal).response())
}
