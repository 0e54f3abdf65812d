//! Event streams: the head of the answer, and what is behind its body.

use std::rc::Rc;
use std::sync::Arc;

use actix_web::HttpResponse;

use super::Edge;
use super::body::Body;
use super::kill::KillSwitch;
use super::problem::Problem;
use crate::actors::{ConnectionGuard, Link, TRAFFIC, streaming};
use crate::domain::{Principal, RoomName};
use crate::wire::From as Since;

/// Streams what happens in a room. `guard` is the stream's place among the connections that may be open.
pub async fn stream_room(
    edge: &Edge,
    kill: &KillSwitch,
    by: Principal,
    room: &RoomName,
    since: Since,
    guard: ConnectionGuard,
) -> Result<HttpResponse, Problem> {
    let link = Rc::new(Link::events(Box::new(kill.clone())));
    link.counts_as(guard);
    let opened = streaming::stream_room(&edge.worker, &link, Arc::clone(&edge.gate), by, room, since).await;
    opened.map_err(Problem::of)?;
    kill.keep();
    Ok(answer(edge, link))
}

/// Streams what happens in all rooms of `by`.
pub async fn stream_world(
    edge: &Edge,
    kill: &KillSwitch,
    by: Principal,
    since: Since,
    guard: ConnectionGuard,
) -> Result<HttpResponse, Problem> {
    let link = Rc::new(Link::events(Box::new(kill.clone())));
    link.counts_as(guard);
    let opened = streaming::stream_world(&edge.worker, &link, Arc::clone(&edge.gate), by, since).await;
    opened.map_err(Problem::of)?;
    kill.keep();
    Ok(answer(edge, link))
}

/// An answer whose body is what `link` is sent. The connection ends with it.
pub fn answer(edge: &Edge, link: Rc<Link>) -> HttpResponse {
    tracing::info!(target: TRAFFIC, authenticated = true, "connection opened");
    HttpResponse::Ok()
        .content_type("text/event-stream")
        // Neither kept nor changed on the way; compression would hold events back.
        .insert_header(("Cache-Control", "no-store, no-transform"))
        // nginx gathers what it passes on unless it is told not to (ngx_http_proxy_module, proxy_buffering).
        .insert_header(("X-Accel-Buffering", "no"))
        .force_close()
        .streaming(Body::of(link, Arc::clone(edge.worker.registry())))
}
