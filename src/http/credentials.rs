//! Who asks: the one place where requests that are no WebSocket handshakes say who they come from.

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderName};

use super::Edge;
use super::problem::Problem;
use crate::domain::Principal;
use crate::wire::Refusal;

/// For clients that cannot set `Authorization`.
const AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// Who asks, by the token in `Authorization: Bearer` (RFC 6750, section 2.1) or `X-Auth-Token`.
pub async fn principal(request: &HttpRequest, edge: &Edge) -> Result<Principal, Problem> {
    let token = token(request)?.ok_or_else(|| Problem::of(Refusal::unauthenticated()))?;
    edge.gate.admit(token, edge.worker.registry().now()).await.map_err(Problem::of)
}

/// The token that comes with a request, if one does. Two that differ are refused: whoever reads a log, or stands
/// between, might have looked at the other.
fn token(request: &HttpRequest) -> Result<Option<&str>, Problem> {
    let named = match single(request, &header::AUTHORIZATION)? {
        Some(authorization) => {
            let token = bearer(Some(authorization));
            Some(token.ok_or_else(|| Problem::of(Refusal::bad_request("Authorization has to say Bearer")))?)
        }
        None => None,
    };
    match (named, single(request, &AUTH_TOKEN)?) {
        (Some(one), Some(other)) if one != other => {
            Err(Problem::of(Refusal::bad_request("Authorization and X-Auth-Token hold different tokens")))
        }
        (named, other) => Ok(named.or(other)),
    }
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
            let found = token(&request).map_err(|problem| problem.refusal.code());
            assert_eq!(found, expected, "{headers:?}");
        }
    }
}
