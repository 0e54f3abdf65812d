//! What happens in all rooms of a user, over plain HTTP: one address that pages, waits, or streams.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use super::Edge;
use super::credentials;
use super::events::{PAGE_RECORDS, bad_request, limit, query, resumed, since, takes_events, wait};
use super::listener::Connection;
use super::problem::Problem;
use super::rest;
use super::sse;
use super::visit::Visit;
use crate::actors::world;
use crate::wire::{From as Since, Refusal, world_page};

/// `GET /v1/events`.
pub async fn events(request: HttpRequest, edge: web::ThinData<Edge>) -> Result<HttpResponse, Problem> {
    if edge.worker.registry().draining() {
        return Err(Problem::of(Refusal::shutting_down()));
    }
    let by = credentials::principal(&request, &edge).await?;
    let query = query(&request)?;
    let connection = request.conn_data::<Connection>().ok_or_else(|| Problem::of(Refusal::unavailable()))?;
    if takes_events(&request) {
        let since = resumed(&request)?.or(query.after.as_deref().map(since)).unwrap_or(Since::Now);
        if query.before.is_some() || query.limit.is_some() || query.wait.is_some() {
            return Err(bad_request("before, limit and wait are for pages, not for a stream"));
        }
        let guard = edge.door.admit(&request, Some(&by))?;
        return sse::stream_world(&edge, connection, by, since, guard).await;
    }
    if query.before.is_some() {
        return Err(bad_request("before is for a single room"));
    }
    let visit = Visit::begin(&request, &edge, by)?;
    let limit = query.limit.as_deref().map_or(Ok(PAGE_RECORDS), limit)?;
    let wait = query.wait.as_deref().map(wait).transpose()?.unwrap_or_default();
    let wait = wait.min(edge.worker.registry().limits().poll_wait);
    // Who waits holds a connection as a stream does.
    let guard = (!wait.is_zero()).then(|| edge.door.admit(&request, Some(visit.by())));
    let _guard = guard.transpose()?;
    connection.kill.allow(wait + edge.worker.registry().limits().request);
    let since = query.after.as_deref().map_or(Since::Start, since);
    let page = world::page(visit.worker(), visit.link(), visit.by().clone(), since, limit, wait);
    let page = connection.kill.while_there(page).await.unwrap_or_else(|| Err(Refusal::unavailable()));
    let page = page.map_err(Problem::of)?;
    let body = world_page(&page.records, &page.notices, &page.cursor, page.complete);
    Ok(visit.end(rest::json(StatusCode::OK, body)))
}
