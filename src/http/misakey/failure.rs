//! Refusals in the words of the original: a code, a sentence, and which part of the request is wrong.

use std::collections::BTreeMap;

use actix_web::http::{ConnectionType, StatusCode};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use crate::actors::boxes::{Barred, Unchanged};
use crate::http::kill::Unread;
use crate::http::payload;
use crate::http::problem::Problem;
use crate::wire::Refusal;
use crate::wire::misakey::requests::Malformed;

/// A refusal as these clients read it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{desc}")]
pub struct Failure {
    status: StatusCode,
    code: &'static str,
    desc: String,
    origin: &'static str,
    details: BTreeMap<&'static str, String>,
    /// In seconds.
    retry_after: Option<u64>,
}

#[derive(Serialize)]
struct Body<'a> {
    code: &'a str,
    desc: &'a str,
    origin: &'a str,
    details: &'a BTreeMap<&'static str, String>,
}

impl Failure {
    fn new(status: StatusCode, origin: &'static str, desc: impl Into<String>) -> Self {
        let code = code(status);
        Self { status, code, desc: desc.into(), origin, details: BTreeMap::new(), retry_after: None }
    }

    fn with(mut self, detail: &'static str, value: &str) -> Self {
        self.details.insert(detail, value.to_owned());
        self
    }

    /// A part of the path that is none.
    pub fn malformed_path(part: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "path", "the address names no such thing").with(part, "malformed")
    }

    /// A part of the query that is none.
    pub fn malformed_query(part: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "query", format!("{part} cannot be read")).with(part, "malformed")
    }

    /// What only who has made the box may do.
    pub fn not_admin() -> Self {
        Self::forbidden("only the admin of the box may do that")
    }

    pub fn admin_leaves() -> Self {
        Self::forbidden("admin can't leave their own box")
    }

    pub fn not_a_text() -> Self {
        Self::forbidden("only texts can be edited")
    }

    /// The count of somebody else.
    pub fn not_yours() -> Self {
        Self::forbidden("it is not yours").with("identity_id", "forbidden")
    }

    fn forbidden(desc: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "not_defined", desc)
    }

    /// The answer to a request whose body may not have been read: then the connection ends behind it.
    pub fn answer(&self, request: &HttpRequest) -> HttpResponse {
        use actix_web::ResponseError;
        let mut response = self.error_response();
        if payload::is_announced(request) {
            response.head_mut().set_connection_type(ConnectionType::Close);
            response.extensions_mut().insert(Unread);
        }
        response
    }
}

/// What the original calls a status; those that it does not have are called so by us.
fn code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "bad_request",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        405 => "method_not_allowed",
        409 => "conflict",
        410 => "gone",
        413 => "request_entity_too_large",
        415 | 422 => "unprocessable_entity",
        429 => "too_many_requests",
        426 => "upgrade_required",
        503 => "unavailable",
        _ => "internal",
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let Problem { status, refusal, .. } = Problem::of(refusal);
        let said = |origin| Self::new(status, origin, refusal.to_string());
        let mut failure = match refusal.code() {
            "unauthenticated" => said("headers").with("Authorization", "required"),
            "token_expired" => said("headers").with("Authorization", "expired"),
            _ if status == StatusCode::UNAUTHORIZED => said("headers").with("Authorization", "invalid"),
            "room_archived" => {
                Self::new(StatusCode::CONFLICT, "not_defined", "box is closed.").with("lifecycle", "conflict")
            }
            "already_member" => Self::new(StatusCode::CONFLICT, "not_defined", "already box member"),
            "message_deleted" => Self::new(StatusCode::GONE, "not_defined", refusal.to_string()),
            "not_author" => Self::new(StatusCode::FORBIDDEN, "not_defined", "can only edit own messages"),
            "room_not_found" => Barred::NoAccess.into(),
            "not_member" => Barred::NotMember.into(),
            "content_size" => said("body").with("content", "invalid"),
            "bad_request" => said("body"),
            "cursor_invalid" | "cursor_foreign" | "epoch_changed" => said("query").with("since", "invalid"),
            _ => said("not_defined"),
        };
        failure.retry_after = refusal.retry_after_ms().map(|ms| ms.div_ceil(1000));
        failure
    }
}

impl From<Barred> for Failure {
    fn from(barred: Barred) -> Self {
        match barred {
            Barred::NoAccess => Self::forbidden("you may not come into this box").with("reason", "no_access"),
            Barred::NotMember => Self::forbidden("you are not in this box").with("reason", "not_member"),
            Barred::Closed => Self::forbidden("box is closed.").with("reason", "closed"),
            Barred::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<Unchanged> for Failure {
    fn from(unchanged: Unchanged) -> Self {
        match unchanged {
            Unchanged::NoSuchAccess => {
                let desc = "there is no such access";
                Self::new(StatusCode::NOT_FOUND, "body", desc).with("referrer_id", "not_found")
            }
            Unchanged::ThereAlready => {
                let desc = "there is such an access already";
                Self::new(StatusCode::CONFLICT, "body", desc).with("content", "conflict")
            }
            Unchanged::TooMany => {
                let desc = "the box has as many accesses as it may";
                Self::new(StatusCode::CONFLICT, "not_defined", desc).with("events", "conflict")
            }
            Unchanged::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        let Malformed { member, how } = malformed;
        Self::new(StatusCode::BAD_REQUEST, "body", malformed.to_string()).with(member, how)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let status = problem.status;
        let failure = Self::from(problem.refusal);
        // A handshake is refused with more than one status for the same reason.
        if failure.code == code(status) { failure } else { Self { status, code: code(status), ..failure } }
    }
}

impl actix_web::ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let Self { code, desc, origin, details, .. } = self;
        let body = serde_json::to_string(&Body { code, desc, origin, details }).expect("texts always serialize");
        let mut response = HttpResponse::build(self.status);
        if let Some(seconds) = self.retry_after {
            response.insert_header(("Retry-After", seconds.to_string()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header(("WWW-Authenticate", "Bearer"));
        }
        if self.status == StatusCode::UPGRADE_REQUIRED {
            response.insert_header(("Sec-WebSocket-Version", "13"));
        }
        response.content_type("application/json").body(body)
    }
}
