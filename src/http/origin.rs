//! Web pages: which may talk to this server, and what a browser has to be told so that it lets them.
//!
//! A browser sends the page's origin with every WebSocket handshake, and with every request to another origin
//! (RFC 6454, section 7). Whoever sends none is no browser, and comes in by its token alone. Nothing is reflected that is
//! not in the operator's list, and no cookies are asked for (Fetch standard, section 3.2).

use std::sync::Arc;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse, web};
use arc_swap::ArcSwap;

use super::Edge;
use super::problem::Problem;
use crate::wire::Refusal;

/// The origins that web pages may come from. Without any, a page may talk to the server that it came from.
#[derive(Default)]
pub struct Origins(ArcSwap<Vec<String>>);

/// Why a text is no origin.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not an origin: scheme and host, and the port where it is not the usual one, as https://chat.example")]
pub struct OriginError(pub String);

/// How long a browser remembers what it may do, in seconds.
const PREFLIGHT_SECONDS: &str = "600";

const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";

/// What a page may send besides what every page may.
const REQUEST_HEADERS: &str = "Authorization, Content-Digest, Content-Type, Idempotency-Key, If-None-Match, If-Range, \
                               Last-Event-ID, Range, SB-Public-Key, Tus-Resumable, Upload-Checksum, Upload-Length, Upload-Metadata, \
                               Upload-Offset, X-Auth-Token";

/// What a page may read besides what every page may.
const RESPONSE_HEADERS: &str = "Accept-Ranges, Allow, Content-Disposition, Content-Length, Content-Range, ETag, Location, \
                                Retry-After, Tus-Extension, Tus-Resumable, Tus-Version, Upload-Expires, Upload-Length, \
                                Upload-Offset, WWW-Authenticate";

impl Origins {
    pub fn new(list: &[String]) -> Result<Self, OriginError> {
        let origins = Self::default();
        origins.set(list)?;
        Ok(origins)
    }

    /// From now on these hold. Connections that are open go on.
    pub fn set(&self, list: &[String]) -> Result<(), OriginError> {
        let list = list.iter().map(|text| canonical(text).ok_or_else(|| OriginError(text.clone())));
        self.0.store(Arc::new(list.collect::<Result<_, _>>()?));
        Ok(())
    }

    /// Whether a page of `origin` may talk to a server that it calls `host`.
    fn standing(&self, origin: &str, host: Option<&str>) -> Standing {
        let list = self.0.load();
        if list.iter().any(|known| known == origin) {
            return Standing::Listed;
        }
        // TLS may end before us, so the scheme is taken from the page.
        let own =
            origin.split_once("://").zip(host).and_then(|((scheme, _), host)| canonical(&format!("{scheme}://{host}")));
        let same = own.is_some() && canonical(origin) == own;
        if list.is_empty() && same { Standing::Same } else { Standing::Foreign }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// In the list: its browser is told so.
    Listed,
    /// The page came from this server, so its browser does not ask.
    Same,
    Foreign,
}

/// An origin as browsers write it (RFC 6454, section 6.2): in lower case, without the usual port.
fn canonical(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let usual = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return None,
    };
    let authority = authority.strip_suffix(usual).unwrap_or(authority);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        Some(_) | None => (authority, None),
    };
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let six = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good_host = match six {
        Some(six) => six.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(name),
    };
    let good_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number.to_string() == port));
    (good_host && good_port).then(|| format!("{scheme}://{authority}"))
}

/// Refuses pages of other origins, answers their browsers' questions, and tells those that may. Stands before every
/// route.
pub async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let origin = match origin_of(&request) {
        Ok(origin) => origin,
        Err(problem) => {
            let mut response = request.into_response(problem.response());
            always(&mut response);
            return Ok(response);
        }
    };
    let Some((origin, standing)) = origin else {
        let mut response = next.call(request).await?.map_into_boxed_body();
        always(&mut response);
        return Ok(response);
    };
    let asks =
        request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if asks && standing == Standing::Listed {
        request.into_response(preflight())
    } else {
        next.call(request).await?.map_into_boxed_body()
    };
    always(&mut response);
    if standing == Standing::Listed {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(RESPONSE_HEADERS));
    }
    Ok(response)
}

/// Where the page comes from that made the request, if one did; refused where it may not.
fn origin_of(request: &ServiceRequest) -> Result<Option<(HeaderValue, Standing)>, Problem> {
    let mut origins = request.headers().get_all(header::ORIGIN);
    let Some(origin) = origins.next() else { return Ok(None) };
    let refused = || Problem::of(Refusal::origin_refused());
    if origins.next().is_some() {
        return Err(refused());
    }
    let edge = request.app_data::<web::ThinData<Edge>>().ok_or_else(refused)?;
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    match edge.origins.standing(origin.to_str().map_err(|_| refused())?, host) {
        Standing::Foreign => Err(refused()),
        standing @ (Standing::Listed | Standing::Same) => Ok(Some((origin.clone(), standing))),
    }
}

fn preflight() -> HttpResponse {
    HttpResponse::build(StatusCode::NO_CONTENT)
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, METHODS))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS))
        .finish()
}

/// What every answer says: that it is another for another origin.
fn always(response: &mut ServiceResponse<BoxBody>) {
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_in_one_way() {
        let cases = [
            ("https://chat.example", Some("https://chat.example")),
            ("HTTPS://Chat.Example:443", Some("https://chat.example")),
            ("http://localhost:8080", Some("http://localhost:8080")),
            ("http://[::1]:80", Some("http://[::1]")),
            ("http://[::1]", Some("http://[::1]")),
        ];
        for (text, expected) in cases {
            assert_eq!(canonical(text).as_deref(), expected, "{text}");
        }
        let bad = [
            "null",
            "*",
            "chat.example",
            "https://",
            "https://*.example",
            "https://chat.example/",
            "https://chat.example/path",
            "https://ann@chat.example",
            "https://chat.example:99999",
            "https://chat.example:0443",
            "https://chat.example:",
            "ftp://chat.example",
            "https://chat example",
        ];
        for text in bad {
            assert_eq!(canonical(text), None, "{text}");
            assert!(Origins::new(&[text.to_owned()]).is_err(), "{text}");
        }
    }

    #[test]
    fn without_a_list_a_page_may_talk_to_where_it_came_from() {
        let origins = Origins::default();
        for origin in ["http://chat.example:8080", "https://chat.example:8080"] {
            assert_eq!(origins.standing(origin, Some("Chat.example:8080")), Standing::Same, "{origin}");
        }
        let foreign = ["http://chat.example", "http://chat.example:8081", "null", "ftp://chat.example:8080", ""];
        for origin in foreign {
            assert_eq!(origins.standing(origin, Some("chat.example:8080")), Standing::Foreign, "{origin}");
        }
        assert_eq!(origins.standing("https://chat.example", Some("chat.example:443")), Standing::Same);
        assert_eq!(origins.standing("https://chat.example", None), Standing::Foreign);
    }

    #[test]
    fn with_a_list_only_what_is_listed_may() {
        let origins = Origins::new(&["https://Chat.example:443".to_owned()]).unwrap();
        assert_eq!(origins.standing("https://chat.example", Some("other.example")), Standing::Listed);
        let foreign = ["https://other.example", "http://chat.example", "https://sub.chat.example", "null"];
        for origin in foreign {
            assert_eq!(origins.standing(origin, Some("other.example")), Standing::Foreign, "{origin}");
        }
    }
}
