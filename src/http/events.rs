//! What happened in a room, over plain HTTP: one address that pages, waits, or streams.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use super::Edge;
use super::listener::Connection;
use super::problem::Problem;
use super::sse;
use super::visit::Visit;
use super::{address, credentials, rest};
use crate::actors::{asking, paging};
use crate::domain::RoomName;
use crate::wire::{Ask, Dialect, From as Since, Refusal, Reply};

/// The place after which a client that comes back wants to go on (WHATWG HTML, section 9.2.4).
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// How many records a page has where its client does not say, and at most: as in the history of a WebSocket.
pub(super) const PAGE_RECORDS: usize = 50;
const PAGE_RECORDS_MAX: usize = 100;

/// What stands behind the question mark. Names that are not known are passed over, as members of commands are.
#[derive(Deserialize)]
pub(super) struct Query {
    pub(super) after: Option<String>,
    pub(super) before: Option<String>,
    pub(super) limit: Option<String>,
    pub(super) wait: Option<String>,
}

/// Where it is.
const PATH: &str = "/v1/rooms/{room}/events";

/// Answers at that address.
pub async fn of_room(request: HttpRequest, edge: web::ThinData<Edge>) -> Result<HttpResponse, Problem> {
    let registry = edge.worker.registry();
    if registry.draining() {
        return Err(Problem::of(Refusal::shutting_down()));
    }
    let by = credentials::principal(&request, &edge).await?;
    let query = query(&request)?;
    let named = address::members(PATH, &[], request.uri().path(), "").map_err(Problem::of)?;
    let room = named.first().map_or("", |(_, room)| room);
    let room = RoomName::parse(room).map_err(|error| bad_request(format!("room: {error}")))?;
    let connection = request.conn_data::<Connection>().ok_or_else(|| Problem::of(Refusal::unavailable()))?;
    if takes_events(&request) {
        let since = resumed(&request)?.or(query.after.as_deref().map(since)).unwrap_or(Since::Now);
        if query.before.is_some() || query.limit.is_some() || query.wait.is_some() {
            return Err(bad_request("before, limit and wait are for pages, not for a stream"));
        }
        let guard = edge.door.admit(&request, Some(&by))?;
        return sse::stream_room(&edge, connection, by, &room, since, guard).await;
    }
    let visit = Visit::begin(&request, &edge, by)?;
    let limit = query.limit.as_deref().map_or(Ok(PAGE_RECORDS), limit)?;
    let wait = query.wait.as_deref().map(wait).transpose()?;
    let reply = match (query.after, query.before, wait) {
        (after, None, wait) => {
            let wait = wait.unwrap_or_default().min(registry.limits().poll_wait);
            // Who waits holds a connection as a stream does.
            let guard = (!wait.is_zero()).then(|| edge.door.admit(&request, Some(visit.by())));
            let _guard = guard.transpose()?;
            connection.kill.allow(wait + registry.limits().request);
            let since = after.as_deref().map_or(Since::Start, since);
            let page = paging::page(visit.worker(), visit.link(), visit.by(), &room, since, limit, wait);
            let page = connection.kill.while_there(page).await.unwrap_or_else(|| Err(Refusal::unavailable()));
            page.map_err(Problem::of)?
        }
        (None, before, None) => {
            let ask = Ask::History { room, before, limit };
            match asking::answer(visit.worker(), visit.link(), visit.by().clone(), ask).await {
                Reply::Refused(refusal) => return Err(Problem::of(refusal)),
                page => page,
            }
        }
        (Some(_), Some(_), _) | (None, Some(_), Some(_)) => {
            return Err(bad_request("before goes with neither after nor wait"));
        }
    };
    let body = Dialect::NativeJson.encode_body(&reply);
    Ok(visit.end(rest::json(StatusCode::OK, body)))
}

pub(super) fn query(request: &HttpRequest) -> Result<Query, Problem> {
    let query = web::Query::<Query>::from_query(request.query_string());
    query.map(web::Query::into_inner).map_err(|error| bad_request(format!("the query cannot be read: {error}")))
}

/// Whether an event stream is among what the client accepts (RFC 9110, section 12.5.1).
pub(super) fn takes_events(request: &HttpRequest) -> bool {
    let named = |value: &HeaderValue| {
        value.to_str().is_ok_and(|value| {
            value.split(',').any(|range| {
                range.split(';').next().is_some_and(|range| range.trim().eq_ignore_ascii_case("text/event-stream"))
            })
        })
    };
    request.headers().get_all(header::ACCEPT).any(named)
}

/// Where a client that was here before wants to go on. Only a cursor says that, and anything else is refused: a client
/// that took it for the beginning, or for now, would miss something or read it twice.
pub(super) fn resumed(request: &HttpRequest) -> Result<Option<Since>, Problem> {
    Ok(last_event_id(request)?.map(|cursor| Since::Cursor(cursor.to_owned())))
}

/// The id of the last event that a client had that comes back.
pub(super) fn last_event_id(request: &HttpRequest) -> Result<Option<&str>, Problem> {
    let mut ids = request.headers().get_all(LAST_EVENT_ID);
    let Some(id) = ids.next() else { return Ok(None) };
    match (id.to_str(), ids.next()) {
        (Ok(cursor), None) => Ok(Some(cursor)),
        (Ok(_) | Err(_), _) => Err(Problem::of(Refusal::cursor_invalid())),
    }
}

pub(super) fn since(text: &str) -> Since {
    match text {
        "start" => Since::Start,
        "now" => Since::Now,
        cursor => Since::Cursor(cursor.to_owned()),
    }
}

/// How many records a page has at most.
pub(super) fn limit(text: &str) -> Result<usize, Problem> {
    let limit = text.parse().ok().filter(|limit| (1..=PAGE_RECORDS_MAX).contains(limit));
    limit.ok_or_else(|| bad_request(format!("limit is a number from 1 to {PAGE_RECORDS_MAX}")))
}

/// A time in seconds, with or without their sign, or in milliseconds.
pub(super) fn wait(text: &str) -> Result<Duration, Problem> {
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, Duration::from_millis(1)),
        (None, Some(number)) => (number, Duration::from_secs(1)),
        (None, None) => (text, Duration::from_secs(1)),
    };
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse::<u32>().ok().filter(|_| digits);
    number.map(|number| unit * number).ok_or_else(|| bad_request("wait is a number of seconds, such as 25s"))
}

pub(super) fn bad_request(cause: impl std::fmt::Display) -> Problem {
    Problem::of(Refusal::bad_request(cause))
}
