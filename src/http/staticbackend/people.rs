//! Users: registering, logging in, who one is, who is of one's account.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Plain, tenant};
use crate::auth::passwords::Password;
use crate::domain::account::{AccountRejection, Mate};
use crate::domain::{Mail, Principal};
use crate::http::accounts::{Counted, Reception};
use crate::http::payload::{self, Expects};
use crate::http::problem::Problem;
use crate::http::rest::json;
use crate::http::visit::Visit;
use crate::http::{Edge, credentials};
use crate::wire::Refusal;

/// The largest body: an address and a password.
const BODY_BYTES_MAX: usize = 4 * 1024;

#[derive(Deserialize)]
struct Credentials {
    email: String,
    password: Password,
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    e: String,
}

pub fn mount(config: &mut web::ServiceConfig) {
    config
        .route("/register", web::post().to(register))
        .route("/login", web::post().to(log_in))
        .route("/email", web::get().to(has_mail))
        .route("/me", web::get().to(me))
        .route("/account/users", web::get().to(mates))
        .route("/account/users", web::post().to(add));
}

async fn register(
    request: HttpRequest,
    payload: web::Payload,
    edge: web::ThinData<Edge>,
) -> Result<HttpResponse, Plain> {
    let tenant = tenant(&request, &edge)?;
    let (mail, password) = shown(&request, payload, &edge).await?;
    let token = reception(&edge)?.register_with_mail(&counted(&request, &edge), tenant, mail, password).await;
    Ok(answer(&json!(token.map_err(of_mail)?)))
}

async fn log_in(request: HttpRequest, payload: web::Payload, edge: web::ThinData<Edge>) -> Result<HttpResponse, Plain> {
    let tenant = tenant(&request, &edge)?;
    let (mail, password) = shown(&request, payload, &edge).await?;
    let token = reception(&edge)?.log_in_with_mail(&counted(&request, &edge), tenant, &mail, password).await;
    Ok(answer(&json!(token.map_err(of_mail)?)))
}

/// Whether somebody has registered with an address: as in the original anybody may ask, as often as anybody may fail to
/// log in.
async fn has_mail(request: HttpRequest, edge: web::ThinData<Edge>) -> Result<HttpResponse, Plain> {
    let tenant = tenant(&request, &edge)?;
    let asked = web::Query::<Asked>::from_query(request.query_string()).map_err(Refusal::bad_request)?;
    counted(&request, &edge).may_ask()?;
    let known = match Mail::new(&asked.e) {
        Ok(mail) => reception(&edge)?.has_mail(&tenant, &mail).await?,
        Err(_) => false,
    };
    Ok(answer(&json!(known)))
}

async fn me(request: HttpRequest, edge: web::ThinData<Edge>) -> Result<HttpResponse, Plain> {
    let visit = Visit::begin(&request, &edge, somebody(&request, &edge).await?)?;
    let person = reception(&edge)?.person(visit.by()).await?;
    let told = answer(&told(&(visit.by().user.clone(), person)));
    Ok(visit.end(told))
}

async fn mates(request: HttpRequest, edge: web::ThinData<Edge>) -> Result<HttpResponse, Plain> {
    let visit = Visit::begin(&request, &edge, somebody(&request, &edge).await?)?;
    let mates = reception(&edge)?.mates(visit.by()).await?;
    let told: Vec<_> = mates.iter().map(told).collect();
    Ok(visit.end(answer(&json!(told))))
}

async fn add(request: HttpRequest, payload: web::Payload, edge: web::ThinData<Edge>) -> Result<HttpResponse, Plain> {
    let visit = Visit::command(&request, &edge, somebody(&request, &edge).await?)?;
    let (mail, password) = shown(&request, payload, &edge).await?;
    visit.is_good()?;
    let added = reception(&edge)?.add_with_mail(&counted(&request, &edge), visit.by(), mail, password).await;
    let told = answer(&told(&added.map_err(of_mail)?));
    Ok(visit.end(told))
}

/// Who asks, which has to be of the tenant of the public key.
pub(super) async fn somebody(request: &HttpRequest, edge: &Edge) -> Result<Principal, Plain> {
    let tenant = tenant(request, edge)?;
    let by = credentials::presented(request, edge, None).await?.ok_or_else(Plain::no_token)?;
    if by.tenant == tenant { Ok(by) } else { Err(Refusal::token_invalid().into()) }
}

fn reception(edge: &Edge) -> Result<&Reception, Plain> {
    edge.reception.as_deref().ok_or_else(|| Problem::not_found().into())
}

fn counted<'a>(request: &HttpRequest, edge: &'a Edge) -> Counted<'a> {
    Counted { registry: edge.worker.registry(), address: edge.door.address(request) }
}

async fn shown(request: &HttpRequest, payload: web::Payload, edge: &Edge) -> Result<(Mail, Password), Plain> {
    let time = edge.worker.registry().limits().request;
    let body = payload::read(request, payload, Expects::Json, BODY_BYTES_MAX, time, || Ok(())).await?;
    let Credentials { email, password } =
        serde_json::from_slice(&body).map_err(|_| Plain::bad("invalid body".to_owned()))?;
    let mail = Mail::new(&email).map_err(|_| Plain::bad("invalid email".to_owned()))?;
    Ok((mail, password))
}

/// A refusal about an address, in the words of the original where it has some.
fn of_mail(refusal: Refusal) -> Plain {
    let (status, text) = match refusal.code() {
        code if code == AccountRejection::LoginFailed.code() => (StatusCode::UNAUTHORIZED, "invalid email/password"),
        code if code == AccountRejection::NameTaken.code() => (StatusCode::INTERNAL_SERVER_ERROR, "invalid email"),
        _ => return refusal.into(),
    };
    Plain { status, text: text.to_owned() }
}

fn told((user, person): &Mate) -> Value {
    json!({
        "accountId": person.account.as_str(),
        "id": user.as_str(),
        "userId": user.as_str(),
        "email": person.mail.as_str(),
        "role": person.role.number(),
    })
}

fn answer(value: &Value) -> HttpResponse {
    json(StatusCode::OK, value.to_string().into())
}
