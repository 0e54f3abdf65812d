//! The edges: what arrives by HTTP is checked and carried to the actors.
//!
//! Routes, the WebSocket handshake, error bodies. Nothing is decided here, and the store and the rules of rooms are
//! not known here.

pub mod access;
pub mod accounts;
mod address;
pub mod admin;
mod carrier;
mod credentials;
pub mod door;
mod events;
mod files;
mod handshake;
mod join;
mod kill;
pub mod listener;
pub mod metrics;
mod misakey;
mod openapi;
pub mod origin;
mod payload;
mod problem;
mod ranges;
mod rest;
pub mod routes;
mod socket;
mod sse;
pub mod staticbackend;
pub mod tickets;
mod uploads;
mod visit;
mod world;
mod ws;

use std::rc::Rc;
use std::sync::Arc;

use actix_web::http::header;
use actix_web::middleware::DefaultHeaders;
use actix_web::{HttpResponse, web};

pub use door::Door;
use kill::timed;
pub use kill::{REQUEST_HEAD, prepare};

use crate::actors::accounts::Accounts;
use crate::actors::{Gate, Registry, Worker};
use origin::Origins;
use problem::Problem;
use staticbackend::PublicKeys;
use tickets::Tickets;

/// What every handler of a worker thread has at hand.
#[derive(Clone)]
pub struct Edge {
    pub worker: Rc<Worker>,
    pub gate: Arc<dyn Gate>,
    pub door: Door,
    pub tickets: Arc<Tickets>,
    pub origins: Arc<Origins>,
    /// Of StaticBackend's clients.
    pub public_keys: Arc<PublicKeys>,
    /// `None` where the server takes no tokens of its own.
    pub reception: Option<Arc<accounts::Reception>>,
}

/// What every handler of the operator's socket, and that of the metrics, has at hand.
#[derive(Clone)]
pub struct Desk {
    pub registry: Arc<Registry>,
    pub accounts: Arc<Accounts>,
}

/// Mounts the routes of the native protocol.
pub fn mount(config: &mut web::ServiceConfig) {
    config
        .app_data(web::ThinData(openapi::Description::default()))
        .configure(routes::mount)
        .configure(staticbackend::mount)
        .configure(misakey::mount)
        .default_service(web::to(unknown));
}

/// What every answer says, unless it says otherwise: that nobody keeps it, guesses what it is, or tells others from
/// which address it came, in which a ticket may stand (Fetch, sections 3.6 and 3.7; RFC 9111, section 5.2.2.5).
pub fn headers() -> DefaultHeaders {
    DefaultHeaders::new()
        .add((header::CACHE_CONTROL, "no-store"))
        .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .add((header::REFERRER_POLICY, "no-referrer"))
}

/// Alive: the process answers.
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n")
}

/// Ready: commands are taken now.
async fn readyz(edge: web::ThinData<Edge>) -> HttpResponse {
    match edge.worker.registry().unready() {
        None => HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ready\n"),
        Some(refusal) => Problem::unavailable(&refusal).response(),
    }
}

async fn greeting() -> HttpResponse {
    let text = concat!("Chinwag ", env!("CARGO_PKG_VERSION"), ". Clients connect to /v1/ws.\n");
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(text)
}

async fn unknown() -> HttpResponse {
    Problem::not_found().response()
}
