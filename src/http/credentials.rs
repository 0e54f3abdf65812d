//! Who asks: the one place where requests say who they come from.
//!
//! By a token in a header, in a sub-protocol of a WebSocket handshake, or by a ticket in the address. A token in the
//! address is not looked at, because addresses are written into logs and histories; but for the sockets of Misakey's boxes,
//! whose clients know no other way. No log of ours has addresses.

use actix_web::http::Method;
use actix_web::http::header::{self, HeaderName};
use actix_web::{HttpRequest, web};

use super::problem::Problem;
use super::{Door, Edge};
use crate::domain::Principal;
use crate::wire::Refusal;

/// For clients that cannot set `Authorization`.
const AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// What a ticket is called in a query.
const TICKET: &str = "ticket";

/// What a token is called in the query of a socket of Misakey's boxes.
const ACCESS_TOKEN: &str = "access_token";

/// Who asks; nobody is refused.
pub async fn principal(request: &HttpRequest, edge: &Edge) -> Result<Principal, Problem> {
    presented(request, edge, None).await?.ok_or_else(|| Problem::of(Refusal::unauthenticated()))
}

/// Who asks, if anybody says so: by the token in `Authorization: Bearer` (RFC 6750, section 2.1), in `X-Auth-Token`,
/// or the one that was `offered` as a sub-protocol; or by a ticket.
pub async fn presented(
    request: &HttpRequest,
    edge: &Edge,
    offered: Option<&str>,
) -> Result<Option<Principal>, Problem> {
    let presented = shown(request, edge, offered).await?;
    if presented.is_some() {
        Door::known(request);
    }
    Ok(presented)
}

async fn shown(request: &HttpRequest, edge: &Edge, offered: Option<&str>) -> Result<Option<Principal>, Problem> {
    let registry = edge.worker.registry();
    match (token(request, offered)?, ticket(request)?) {
        (Some(_), Some(_)) => Err(several()),
        (Some(token), None) => edge.door.authenticate(token, edge.door.address(request)).await.map(Some),
        (None, Some(ticket)) => {
            let origin = single(request, &header::ORIGIN)?;
            let principal = edge.tickets.redeem(&ticket, origin, registry.instant()).map_err(Problem::of)?;
            if let Some(refusal) = registry.denied(&principal) {
                return Err(Problem::of(refusal));
            }
            if principal.expires_at <= registry.now() {
                return Err(Problem::of(Refusal::token_expired()));
            }
            Ok(Some(principal))
        }
        (None, None) => Ok(None),
    }
}

/// The token in the address of a socket of Misakey's boxes, where there is one.
pub fn in_query(request: &HttpRequest) -> Result<Option<String>, Problem> {
    of_query(request, ACCESS_TOKEN)
}

/// The token that comes with a request, if one does.
fn token<'a>(request: &'a HttpRequest, offered: Option<&'a str>) -> Result<Option<&'a str>, Problem> {
    let named = match single(request, &header::AUTHORIZATION)? {
        Some(authorization) => {
            let token = bearer(Some(authorization));
            Some(token.ok_or_else(|| Problem::of(Refusal::bad_request("Authorization has to say Bearer")))?)
        }
        None => None,
    };
    let mut tokens = [named, single(request, &AUTH_TOKEN)?, offered].into_iter().flatten();
    let token = tokens.next();
    if tokens.any(|other| Some(other) != token) { Err(several()) } else { Ok(token) }
}

/// Two that differ are refused: whoever reads a log, or stands between, might have looked at the other.
fn several() -> Problem {
    Problem::of(Refusal::bad_request("the request says twice who it comes from, and not the same"))
}

/// The ticket in the address, where one is taken: for what a browser opens without being able to set headers.
fn ticket(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let path = request.path();
    let opens = path == "/v1/ws" || path.ends_with("/events") || path.ends_with("/events/ws");
    if request.method() != Method::GET || !opens {
        return Ok(None);
    }
    of_query(request, TICKET)
}

/// What stands in the address under `name`, once at most.
pub fn of_query(request: &HttpRequest, name: &str) -> Result<Option<String>, Problem> {
    let query = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
    let query = query.map_err(|_| Problem::of(Refusal::bad_request("the query cannot be read")))?;
    let mut found = query.into_inner().into_iter().filter(|(known, _)| known == name).map(|(_, value)| value);
    let value = found.next();
    if found.next().is_some() { Err(several()) } else { Ok(value) }
}

/// The token of `Authorization: Bearer`.
pub fn bearer(authorization: Option<&str>) -> Option<&str> {
    let (scheme, token) = authorization?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// A header that may be there once, as text.
fn single<'a>(request: &'a HttpRequest, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let refused = |why| Problem::of(Refusal::bad_request(format!("the header {name} {why}")));
    let mut values = request.headers().get_all(name);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(refused("is there twice"));
    }
    value.to_str().map(Some).map_err(|_| refused("is not text"))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_token_comes_in_either_header_and_one_token_only() {
        let (both, twice, basic) = (Err("bad_request"), Err("bad_request"), Err("bad_request"));
        let cases: [(&[(&str, &str)], Result<Option<&str>, &str>); 7] = [
            (&[], Ok(None)),
            (&[("Authorization", "Bearer a.b.c")], Ok(Some("a.b.c"))),
            (&[("X-Auth-Token", "a.b.c")], Ok(Some("a.b.c"))),
            (&[("Authorization", "bearer a.b.c"), ("X-Auth-Token", "a.b.c")], Ok(Some("a.b.c"))),
            (&[("Authorization", "Bearer a.b.c"), ("X-Auth-Token", "d.e.f")], both),
            (&[("X-Auth-Token", "a.b.c"), ("X-Auth-Token", "a.b.c")], twice),
            (&[("Authorization", "Basic YTpi")], basic),
        ];
        for (headers, expected) in cases {
            let request = headers.iter().fold(TestRequest::get(), |request, header| request.append_header(*header));
            let request = request.to_http_request();
            let found = token(&request, None).map_err(|problem| problem.refusal.code());
            assert_eq!(found, expected, "{headers:?}");
        }
    }
}
