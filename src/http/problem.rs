//! What a refused request is answered: a problem document (RFC 9457) with a stable code.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;

use crate::wire::Refusal;

/// A refusal with its place in HTTP.
#[derive(Debug, thiserror::Error)]
#[error("{refusal}")]
pub struct Problem {
    pub status: StatusCode,
    pub refusal: Refusal,
    /// Where the method is what was wrong: those that the address takes.
    allowed: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    retry: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        self.response()
    }
}

impl Problem {
    pub fn new(status: StatusCode, refusal: Refusal) -> Self {
        Self { status, refusal, allowed: None }
    }

    /// A refusal with the status that its code has.
    pub fn of(refusal: Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status, refusal)
    }

    pub fn unavailable(refusal: &Refusal) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, refusal.clone())
    }

    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, Refusal::route_not_found())
    }

    /// `allowed` are the methods that the address takes, in a list.
    pub fn method_not_allowed(allowed: &str) -> Self {
        let allowed = Some(allowed.to_owned());
        Self { allowed, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, Refusal::method_not_allowed()) }
    }

    pub fn response(&self) -> HttpResponse {
        let body = Body {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Refused"),
            status: self.status.as_u16(),
            code: self.refusal.code(),
            detail: self.refusal.message(),
            retry: self.refusal.retry().as_str(),
            retry_after_ms: self.refusal.retry_after_ms(),
            limit: self.refusal.limit(),
            until: self.refusal.until().map(|until| until.0),
            reason: self.refusal.reason(),
        };
        let text = serde_json::to_string(&body).expect("a struct of texts and numbers always serializes");
        let mut response = HttpResponse::build(self.status);
        if self.status == StatusCode::UPGRADE_REQUIRED {
            // RFC 6455, section 4.4.
            response.insert_header(("Sec-WebSocket-Version", "13"));
        }
        if let Some(allowed) = &self.allowed {
            // RFC 9110, section 15.5.6.
            response.insert_header(("Allow", allowed.as_str()));
        }
        if let Some(pause) = self.refusal.retry_after_ms() {
            // Whole seconds (RFC 9110, section 10.2.3), never before the time.
            response.insert_header(("Retry-After", pause.div_ceil(1000).to_string()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 6750, section 3.
            response.insert_header(("WWW-Authenticate", "Bearer"));
        }
        response.content_type("application/problem+json").body(text)
    }
}
