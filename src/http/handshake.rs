//! What has to be true of a WebSocket handshake before anything is started for it.
//!
//! actix-web-actors has checks of its own, which let an invalid key, old versions and any origin pass; these come
//! first.

use actix_web::HttpRequest;
use actix_web::http::{Method, StatusCode, Version, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::problem::Problem;
use crate::wire::{Dialect, Refusal};

/// What a handshake asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Handshake {
    pub dialect: Dialect,
    /// The sub-protocol to name in the answer, where one was offered.
    pub subprotocol: Option<&'static str>,
    /// The token that came as a sub-protocol.
    pub token: Option<String>,
}

/// The prefix of a sub-protocol that carries a token.
const BEARER: &str = "bearer.";

/// The most text that a list of sub-protocols may have: a token and two names.
const SUBPROTOCOLS_BYTES_MAX: usize = 9 * 1024;

/// Checks a handshake (RFC 6455, section 4.2.1) and reads what it asks for.
pub fn check(request: &HttpRequest) -> Result<Handshake, Problem> {
    if request.method() != Method::GET {
        return Err(Problem::method_not_allowed("GET, OPTIONS"));
    }
    let header = |name| single(request, name);
    // What follows the head are frames: a body would be read before or as them.
    if header(header::CONTENT_LENGTH)?.is_some_and(|bytes| bytes != "0") || header(header::TRANSFER_ENCODING)?.is_some()
    {
        return Err(refused(StatusCode::BAD_REQUEST, "a handshake has no body"));
    }
    let upgrade = header(header::UPGRADE)?;
    if !upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket")) {
        return Err(Problem::new(StatusCode::UPGRADE_REQUIRED, Refusal::upgrade_required()));
    }
    let connection = header(header::CONNECTION)?.unwrap_or_default();
    if !connection.split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade")) {
        return Err(refused(StatusCode::BAD_REQUEST, "the header Connection does not say Upgrade"));
    }
    if request.version() != Version::HTTP_11 {
        return Err(refused(StatusCode::BAD_REQUEST, "a WebSocket is opened with HTTP/1.1"));
    }
    if header(header::SEC_WEBSOCKET_VERSION)? != Some("13") {
        return Err(Problem::new(StatusCode::UPGRADE_REQUIRED, Refusal::upgrade_required()));
    }
    let key = header(header::SEC_WEBSOCKET_KEY)?.unwrap_or_default();
    if BASE64_STANDARD.decode(key).map(|key| key.len()) != Ok(16) {
        return Err(refused(StatusCode::BAD_REQUEST, "the header Sec-WebSocket-Key is not 16 bytes in base64"));
    }
    header(header::HOST)?.ok_or_else(|| refused(StatusCode::BAD_REQUEST, "the header Host is missing"))?;
    let offered = offered(request)?;
    let (dialect, subprotocol) = negotiate(&offered)?;
    let token = offered.iter().find_map(|name| name.strip_prefix(BEARER)).map(str::to_owned);
    Ok(Handshake { dialect, subprotocol, token })
}

/// A header that may be there once, as text.
fn single(request: &HttpRequest, name: header::HeaderName) -> Result<Option<&str>, Problem> {
    let mut values = request.headers().get_all(&name);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(refused(StatusCode::BAD_REQUEST, &format!("the header {name} is there twice")));
    }
    value.to_str().map(Some).map_err(|_| refused(StatusCode::BAD_REQUEST, &format!("the header {name} is not text")))
}

fn offered(request: &HttpRequest) -> Result<Vec<&str>, Problem> {
    let mut names = Vec::new();
    let mut bytes = 0;
    for value in request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL) {
        bytes += value.len();
        if bytes > SUBPROTOCOLS_BYTES_MAX {
            return Err(refused(StatusCode::BAD_REQUEST, "the header Sec-WebSocket-Protocol is too long"));
        }
        let value = value.to_str();
        let value = value.map_err(|_| refused(StatusCode::BAD_REQUEST, "Sec-WebSocket-Protocol is not text"))?;
        names.extend(value.split(',').map(str::trim).filter(|name| !name.is_empty()));
    }
    Ok(names)
}

/// The first sub-protocol offered that we speak; JSON where none but a token is offered.
fn negotiate(offered: &[&str]) -> Result<(Dialect, Option<&'static str>), Problem> {
    let names: Vec<_> = offered.iter().filter(|name| !name.starts_with(BEARER)).collect();
    if names.is_empty() {
        return Ok((Dialect::NativeJson, None));
    }
    let named = |name: &str| Dialect::ALL.into_iter().find(|dialect| dialect.subprotocol() == Some(name));
    match names.iter().find_map(|name| named(name)) {
        Some(dialect) => Ok((dialect, dialect.subprotocol())),
        None => Err(Problem::new(StatusCode::BAD_REQUEST, Refusal::subprotocol_unknown())),
    }
}

fn refused(status: StatusCode, why: &str) -> Problem {
    Problem::new(status, Refusal::bad_handshake(why))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn good() -> TestRequest {
        TestRequest::get()
            .insert_header((header::HOST, "chat.example"))
            .insert_header((header::UPGRADE, "websocket"))
            .insert_header((header::CONNECTION, "keep-alive, Upgrade"))
            .insert_header((header::SEC_WEBSOCKET_VERSION, "13"))
            .insert_header((header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="))
    }

    fn code_of(request: TestRequest) -> (u16, String) {
        match check(&request.to_http_request()) {
            Ok(_) => (101, String::new()),
            Err(problem) => (problem.status.as_u16(), problem.refusal.code().to_owned()),
        }
    }

    #[test]
    fn a_plain_handshake_speaks_json() {
        let handshake = check(&good().to_http_request()).ok().unwrap();
        assert_eq!(handshake, Handshake { dialect: Dialect::NativeJson, subprotocol: None, token: None });
    }

    #[test]
    fn the_sub_protocol_chooses_the_dialect_and_may_carry_the_token() {
        let offered = "bearer.abc.def.ghi, chinwag.v1.msgpack";
        let request = good().insert_header((header::SEC_WEBSOCKET_PROTOCOL, offered)).to_http_request();
        let handshake = check(&request).ok().unwrap();
        assert_eq!(handshake.dialect, Dialect::NativeMsgpack);
        assert_eq!(handshake.subprotocol, Some("chinwag.v1.msgpack"));
        assert_eq!(handshake.token.as_deref(), Some("abc.def.ghi"));
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        let bad = [
            (good().insert_header((header::UPGRADE, "h2c, websocket")), 426, "upgrade_required"),
            (good().insert_header((header::SEC_WEBSOCKET_VERSION, "8")), 426, "upgrade_required"),
            (good().insert_header((header::SEC_WEBSOCKET_KEY, "c2hvcnQ=")), 400, "bad_handshake"),
            (good().insert_header((header::CONNECTION, "close")), 400, "bad_handshake"),
            (good().append_header((header::HOST, "other.example")), 400, "bad_handshake"),
            (good().insert_header((header::SEC_WEBSOCKET_PROTOCOL, "graphql-ws")), 400, "subprotocol_unknown"),
            (good().insert_header((header::SEC_WEBSOCKET_PROTOCOL, " ".repeat(32 * 1024))), 400, "bad_handshake"),
        ];
        for (request, status, code) in bad {
            assert_eq!(code_of(request), (status, code.to_owned()));
        }
    }
}
