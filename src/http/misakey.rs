//! Misakey's addresses: what its clients ask, under a prefix, and refused in its own words.

mod boxes;
mod failure;

use actix_web::{HttpRequest, HttpResponse, web};
use uuid::Uuid;

use self::failure::Failure;
use super::{Edge, credentials, ws};
use crate::actors::boxes as rooms;
use crate::domain::{RecordId, RoomId, RoomKey, RoomName};
use crate::wire::{From as Since, Refusal};

/// Where it is mounted.
const PREFIX: &str = "/misakey";

/// The event behind which a client goes on.
const SINCE: &str = "since";

/// Mounts the routes.
pub fn mount(config: &mut web::ServiceConfig) {
    config.service(web::scope(PREFIX).route("/boxes/{id}/events/ws", web::get().to(open)).configure(boxes::mount));
}

/// Opens a WebSocket on which the events of a box are sent.
async fn open(request: HttpRequest, payload: web::Payload, edge: web::ThinData<Edge>) -> HttpResponse {
    listen(&request, payload, &edge).await.unwrap_or_else(|failure| failure.answer(&request))
}

async fn listen(request: &HttpRequest, payload: web::Payload, edge: &Edge) -> Result<HttpResponse, Failure> {
    let room = box_id(request)?;
    let registry = edge.worker.registry();
    let token = credentials::in_query(request)?;
    let by = credentials::presented(request, edge, token.as_deref()).await?;
    let by = by.ok_or_else(Refusal::unauthenticated)?;
    if registry.draining() {
        return Err(Refusal::shutting_down().into());
    }
    let key = RoomKey { tenant: by.tenant.clone(), room };
    rooms::may_read(registry, &key, &by).await?;
    let since = since(request, edge, &key).await?;
    Ok(ws::open_box(request, payload, edge, by, &RoomName::Id(room), since).await?)
}

/// The box that the address names.
fn box_id(request: &HttpRequest) -> Result<RoomId, Failure> {
    let id = request.match_info().get("id").and_then(|id| Uuid::try_parse(id).ok());
    id.map(RoomId).ok_or_else(|| Failure::malformed_path("id"))
}

/// Where a client goes on that says behind which event it does: by the id of that, or by a cursor of the native protocol.
async fn since(request: &HttpRequest, edge: &Edge, key: &RoomKey) -> Result<Since, Failure> {
    let Some(since) = credentials::of_query(request, SINCE)? else { return Ok(Since::Now) };
    match Uuid::try_parse(&since) {
        Ok(event) => Ok(rooms::behind(edge.worker.registry(), key, RecordId(event)).await?),
        Err(_) => Ok(Since::Cursor(since)),
    }
}
