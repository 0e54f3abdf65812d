//! What happens in all rooms of a user, over plain HTTP: one address that pages, waits, or streams.

use actix_web::{HttpRequest, HttpResponse, web};

use super::Edge;
use super::credentials;
use super::events::{bad_request, query, resumed, since, takes_events};
use super::kill::KillSwitch;
use super::problem::Problem;
use super::sse;
use crate::wire::{From as Since, Refusal};

/// `GET /v1/events`.
pub async fn events(request: HttpRequest, edge: web::ThinData<Edge>) -> Result<HttpResponse, Problem> {
    if edge.worker.registry().draining() {
        return Err(Problem::of(Refusal::shutting_down()));
    }
    let by = credentials::principal(&request, &edge).await?;
    let query = query(&request)?;
    let kill = request.conn_data::<KillSwitch>().ok_or_else(|| Problem::of(Refusal::unavailable()))?;
    if takes_events(&request) {
        let since = resumed(&request)?.or(query.after.as_deref().map(since)).unwrap_or(Since::Now);
        if query.before.is_some() || query.limit.is_some() || query.wait.is_some() {
            return Err(bad_request("before, limit and wait are for pages, not for a stream"));
        }
        let guard = edge.door.admit(&request, Some(&by))?;
        return sse::stream_world(&edge, kill, by, since, guard).await;
    }
    Err(Problem::not_found())
}
