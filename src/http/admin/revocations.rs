//! What the operator revokes.

use actix_web::{HttpResponse, web};
use serde::Deserialize;

use crate::actors::revoking::{TOKEN_LIFE_MAX, revocation};
use crate::auth::{IdentityOptions, LIFETIME_MAX};
use crate::domain::revocation::Subject;
use crate::domain::{Revocation, TenantId, Timestamp, TokenId, UserId};
use crate::http::Desk;
use crate::http::problem::Problem;
use crate::wire::Refusal;

/// The largest body of a request: ids have a few hundred bytes.
pub const BODY_BYTES_MAX: usize = 16 * 1024;

const _: () = {
    let longest = LIFETIME_MAX.saturating_add(IdentityOptions::LEEWAY_MAX.saturating_mul(2));
    assert!(TOKEN_LIFE_MAX.as_secs() >= longest.as_secs(), "a revocation outlives every token that it concerns");
};

/// What is to be revoked: a token by its id; or a user's or a tenant's tokens that were issued up to `since`, in
/// milliseconds since 1970, or up to now.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    token: Option<String>,
    user: Option<String>,
    tenant: Option<String>,
    since: Option<i64>,
}

impl Asked {
    fn subject(&self) -> Result<Subject, String> {
        let tenant = |text: &str| TenantId::new(text).map_err(|error| error.to_string());
        match (&self.token, &self.user, &self.tenant) {
            (Some(token), None, None) if self.since.is_none() => {
                TokenId::new(token).map(Subject::Token).map_err(|error| error.to_string())
            }
            (None, Some(user), named) => {
                let tenant = named.as_deref().map_or_else(|| Ok(TenantId::default_tenant()), tenant)?;
                UserId::new(user).map(|user| Subject::User(tenant, user)).map_err(|error| error.to_string())
            }
            (None, None, Some(named)) => tenant(named).map(Subject::Tenant),
            (Some(_), _, _) => Err("a token is named by its id alone".to_owned()),
            (None, None, None) => Err("one of token, user and tenant is needed".to_owned()),
        }
    }
}

/// Revokes, and answers when nothing that stood on it can send anything any more.
pub async fn revoke(desk: web::ThinData<Desk>, body: web::Bytes) -> HttpResponse {
    let refused = |cause: String| Problem::of(Refusal::bad_request(cause)).response();
    let asked = match serde_json::from_slice::<Asked>(&body) {
        Ok(asked) => asked,
        Err(error) => return refused(error.to_string()),
    };
    let subject = match asked.subject() {
        Ok(subject) => subject,
        Err(cause) => return refused(cause),
    };
    let Some(revocation) = revocation(desk.registry.now(), asked.since.map(Timestamp), TOKEN_LIFE_MAX) else {
        return refused("since lies ahead".to_owned());
    };
    match desk.registry.revoke(subject.clone(), revocation).await {
        Ok(done) => {
            tracing::info!(?subject, connections = done.connections, "tokens were revoked");
            let mut shown = shown(&subject, done.revocation);
            shown["connections"] = done.connections.into();
            HttpResponse::Ok().json(shown)
        }
        Err(refusal) => Problem::of(refusal).response(),
    }
}

pub async fn list(desk: web::ThinData<Desk>) -> HttpResponse {
    let list = desk.registry.revocations();
    let list: Vec<_> = list.iter().map(|(subject, revocation)| shown(subject, *revocation)).collect();
    HttpResponse::Ok().json(serde_json::json!({ "revocations": list }))
}

fn shown(subject: &Subject, revocation: Revocation) -> serde_json::Value {
    let mut shown = match subject {
        Subject::Token(token) => serde_json::json!({ "token": token.as_str() }),
        Subject::Login(login) => serde_json::json!({ "login": login.to_string() }),
        Subject::User(tenant, user) => serde_json::json!({ "tenant": tenant.as_str(), "user": user.as_str() }),
        Subject::Tenant(tenant) => serde_json::json!({ "tenant": tenant.as_str() }),
    };
    shown["since"] = revocation.since.0.into();
    shown["until"] = revocation.until.0.into();
    shown
}
