//! StaticBackend's addresses: what its clients ask, under a prefix, and in its own words.

pub mod channels;
mod documents;
mod people;

use std::collections::BTreeMap;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName};
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, HttpRequest, HttpResponse, web};

use super::kill::Unread;
use super::problem::Problem;
use super::{Edge, payload};
use crate::domain::{Rejection, TenantId};
use crate::wire::Refusal;
use crate::wire::staticbackend::documents::Malformed;

/// Where it is mounted.
pub const PREFIX: &str = "/staticbackend";

/// What tells tenants apart before anybody has said who it is.
const PUBLIC_KEY: HeaderName = HeaderName::from_static("sb-public-key");

/// The same in an address, and in a cookie.
const PUBLIC_KEY_QUERY: &str = "sbpk";
const PUBLIC_KEY_COOKIE: &str = "pk";

/// Which public key is which tenant's. It opens nothing: whoever has it has to say who it is all the same.
#[derive(Clone, Default, Debug)]
pub struct PublicKeys(BTreeMap<String, TenantId>);

impl PublicKeys {
    pub fn new(keys: impl IntoIterator<Item = (String, TenantId)>) -> Self {
        Self(keys.into_iter().collect())
    }
}

/// Mounts the routes.
pub fn mount(config: &mut web::ServiceConfig) {
    let addresses = web::scope(PREFIX).configure(channels::mount).configure(documents::mount).configure(people::mount);
    config.service(addresses.wrap(from_fn(ended)));
}

/// Behind a refusal of a request whose body may not have been read the connection ends.
async fn ended<B: MessageBody>(request: ServiceRequest, next: Next<B>) -> Result<ServiceResponse<B>, Error> {
    let mut answered = next.call(request).await?;
    let is_refused = answered.response().error().is_some_and(|error| error.as_error::<Plain>().is_some());
    if is_refused && payload::is_announced(answered.request()) {
        let response = answered.response_mut();
        response.head_mut().set_connection_type(ConnectionType::Close);
        response.extensions_mut().insert(Unread);
    }
    Ok(answered)
}

/// The tenant whose public key the request shows; nobody's is refused.
fn tenant(request: &HttpRequest, edge: &Edge) -> Result<TenantId, Plain> {
    shown(request, edge)?.ok_or_else(Plain::no_public_key)
}

/// The same, where a request may come without one.
fn shown(request: &HttpRequest, edge: &Edge) -> Result<Option<TenantId>, Plain> {
    let Some(key) = public_key(request) else { return Ok(None) };
    edge.public_keys.0.get(&key).cloned().map(Some).ok_or_else(Plain::no_public_key)
}

fn public_key(request: &HttpRequest) -> Option<String> {
    if let Some(key) = request.headers().get(PUBLIC_KEY) {
        return key.to_str().ok().map(str::to_owned);
    }
    let query = web::Query::<Vec<(String, String)>>::from_query(request.query_string()).ok()?.into_inner();
    let named = query.into_iter().find(|(name, _)| name == PUBLIC_KEY_QUERY).map(|(_, key)| key);
    named.or_else(|| cookie(request, PUBLIC_KEY_COOKIE))
}

/// A cookie of this name (RFC 6265, section 4.2).
fn cookie(request: &HttpRequest, name: &str) -> Option<String> {
    let pairs = request.headers().get_all(header::COOKIE).filter_map(|cookies| cookies.to_str().ok());
    let mut pairs = pairs.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
}

/// A refusal as these clients read it: a text.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Plain {
    status: StatusCode,
    text: String,
}

impl Plain {
    fn no_token() -> Self {
        Self { status: StatusCode::UNAUTHORIZED, text: "missing authorization HTTP header".to_owned() }
    }

    fn no_root() -> Self {
        Self { status: StatusCode::UNAUTHORIZED, text: "invalid StaticBackend root token".to_owned() }
    }

    fn bad(text: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, text }
    }

    fn no_public_key() -> Self {
        Self { status: StatusCode::UNAUTHORIZED, text: "invalid StaticBackend public key".to_owned() }
    }
}

impl From<Problem> for Plain {
    fn from(problem: Problem) -> Self {
        let text = problem.refusal.to_string();
        Self { status: problem.status, text }
    }
}

impl From<Malformed> for Plain {
    fn from(Malformed(why): Malformed) -> Self {
        Self::bad(why)
    }
}

impl From<Rejection> for Plain {
    fn from(rejection: Rejection) -> Self {
        Refusal::from(rejection).into()
    }
}

impl From<Refusal> for Plain {
    fn from(refusal: Refusal) -> Self {
        Problem::of(refusal).into()
    }
}

impl actix_web::ResponseError for Plain {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::build(self.status).content_type("text/plain; charset=utf-8").body(self.text.clone())
    }
}
