//! Event streams: the head of the answer, and what is behind its body.

use std::rc::Rc;
use std::sync::Arc;

use actix_web::HttpResponse;

use super::Edge;
use super::carrier::Carrier;
use super::listener::Connection;
use super::problem::Problem;
use crate::actors::{ConnectionGuard, Link, streaming};
use crate::domain::{Principal, RoomName};
use crate::wire::{Dialect, From as Since};

/// Streams what happens in a room. `guard` is the stream's place among the connections that may be open.
pub async fn stream_room(
    edge: &Edge,
    connection: &Connection,
    by: Principal,
    room: &RoomName,
    since: Since,
    guard: ConnectionGuard,
) -> Result<HttpResponse, Problem> {
    let link = Rc::new(Link::events(Dialect::NativeSse, Box::new(connection.kill.clone())));
    link.counts_as(guard);
    let opened = streaming::stream_room(&edge.worker, &link, Arc::clone(&edge.gate), by, room, since).await;
    opened.map_err(Problem::of)?;
    Ok(answer(edge, connection, link))
}

/// Streams what happens in all rooms of `by`.
pub async fn stream_world(
    edge: &Edge,
    connection: &Connection,
    by: Principal,
    since: Since,
    guard: ConnectionGuard,
) -> Result<HttpResponse, Problem> {
    let link = Rc::new(Link::events(Dialect::NativeSse, Box::new(connection.kill.clone())));
    link.counts_as(guard);
    let opened = streaming::stream_world(&edge.worker, &link, Arc::clone(&edge.gate), by, since).await;
    opened.map_err(Problem::of)?;
    Ok(answer(edge, connection, link))
}

/// An answer behind which comes what `link` is sent, until the connection ends.
pub(super) fn answer(edge: &Edge, connection: &Connection, link: Rc<Link>) -> HttpResponse {
    let head = HttpResponse::Ok()
        .content_type("text/event-stream")
        // Neither kept nor changed on the way; compression would hold events back.
        .insert_header(("Cache-Control", "no-store, no-transform"))
        // nginx gathers what it passes on unless it is told not to (ngx_http_proxy_module, proxy_buffering).
        .insert_header(("X-Accel-Buffering", "no"))
        .force_close()
        .finish();
    Carrier::take_over(head, connection, link, Arc::clone(edge.worker.registry()))
}
