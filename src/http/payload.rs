//! The body of a request, read whole within its bounds.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::{self, Bytes, BytesMut};
use futures_util::StreamExt;

use crate::wire::Refusal;

/// A body may grow so large without being counted: many times what people write.
const UNCOUNTED_BYTES: usize = 16 * 1024;

/// Whether a request has a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expects {
    Nothing,
    /// It may say more, and need not.
    Perhaps,
    Json,
}

/// Reads the body of a request, at most `bytes_max` of it, in at most `time`. Empty where there is none and none has to be.
/// Before it takes more than a little, `grown` says whether it may, and what that returns is held until the end.
pub async fn read<Place>(
    request: &HttpRequest,
    mut payload: web::Payload,
    expects: Expects,
    bytes_max: usize,
    time: Duration,
    grown: impl FnOnce() -> Result<Place, Refusal>,
) -> Result<Bytes, Refusal> {
    let headers = request.headers();
    let length = announced(headers)?;
    match (expects, is_announced(request)) {
        (Expects::Nothing, true) => return Err(Refusal::bad_request("this request has no body")),
        (Expects::Nothing | Expects::Perhaps, false) => return Ok(Bytes::new()),
        (Expects::Json, false) => return Err(Refusal::bad_request("the body is missing")),
        (Expects::Perhaps | Expects::Json, true) => {}
    }
    if !is_json(headers) {
        return Err(Refusal::media_type_unsupported());
    }
    if length.is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(Refusal::body_too_large());
    }
    let whole = async {
        let (mut body, mut grown, mut _place) = (BytesMut::new(), Some(grown), None);
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| Refusal::bad_request("the body ended before its end"))?;
            if body.len() + chunk.len() > bytes_max {
                return Err(Refusal::body_too_large());
            }
            if body.len() + chunk.len() > UNCOUNTED_BYTES
                && let Some(grown) = grown.take()
            {
                _place = Some(grown()?);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    let body = tokio::time::timeout(time, whole).await.map_err(|_| Refusal::body_too_slow())??;
    if body.is_empty() && expects == Expects::Json {
        return Err(Refusal::bad_request("the body is missing"));
    }
    Ok(body)
}

/// Whether a request says that a body follows its head (RFC 9112, section 6).
pub fn is_announced(request: &HttpRequest) -> bool {
    let headers = request.headers();
    headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
        || headers.contains_key(header::TRANSFER_ENCODING)
}

/// How long the body will be, where that is said.
fn announced(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = length.to_str().ok().and_then(|length| length.parse().ok());
    length.map(Some).ok_or_else(|| Refusal::bad_request("the header Content-Length is not a number"))
}

/// Whether the body says to be JSON (RFC 8259, section 11) as it is: in UTF-8, and not compressed.
fn is_json(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let plain = text(header::CONTENT_ENCODING).is_none_or(|encoding| encoding.eq_ignore_ascii_case("identity"));
    let Some(kind) = text(header::CONTENT_TYPE) else { return false };
    let mut parts = kind.split(';').map(str::trim);
    let json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    let utf8 = parts.filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
        !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
    });
    plain && json && utf8
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn json_is_known_by_its_type() {
        for (kind, known) in [
            ("application/json", true),
            ("Application/JSON; charset=UTF-8", true),
            ("application/json;charset=\"utf-8\"", true),
            ("application/json; charset=latin1", false),
            ("application/jsonp", false),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
        ] {
            let request = TestRequest::post().insert_header((header::CONTENT_TYPE, kind)).to_http_request();
            assert_eq!(is_json(request.headers()), known, "{kind}");
        }
        let packed = TestRequest::post()
            .insert_header((header::CONTENT_TYPE, "application/json"))
            .insert_header((header::CONTENT_ENCODING, "gzip"));
        assert!(!is_json(packed.to_http_request().headers()));
    }
}
