//! The edges: what arrives by HTTP is checked and carried to the actors.
//!
//! Routes, the WebSocket handshake, error bodies. Nothing is decided here, and the store and the rules of rooms are
//! not known here.

pub mod access;
pub mod admin;
mod body;
mod credentials;
pub mod door;
mod events;
mod handshake;
mod kill;
pub mod metrics;
pub mod origin;
mod problem;
mod sse;
pub mod tickets;
mod visit;
mod world;
mod ws;

use std::rc::Rc;
use std::sync::Arc;

use actix_web::{HttpResponse, web};

pub use door::Door;
pub use kill::{REQUEST_HEAD, timed};

use crate::actors::{Gate, Worker};
use origin::Origins;
use problem::Problem;
use tickets::Tickets;

/// What every handler of a worker thread has at hand.
#[derive(Clone)]
pub struct Edge {
    pub worker: Rc<Worker>,
    pub gate: Arc<dyn Gate>,
    pub door: Door,
    pub tickets: Arc<Tickets>,
    pub origins: Arc<Origins>,
}

/// Mounts the routes of the native protocol.
pub fn mount(config: &mut web::ServiceConfig) {
    config
        .route("/v1/ws", web::route().to(ws::open))
        .service(page("/v1/events").route(web::get().to(world::events)))
        .service(
            web::resource("/v1/tickets")
                .route(web::post().to(tickets::make))
                .default_service(web::to(tickets::only_post)),
        )
        .service(page("/v1/rooms/{room}/events").route(web::get().to(events::of_room)))
        .service(page("/healthz").route(web::get().to(healthz)))
        .service(page("/readyz").route(web::get().to(readyz)))
        .service(page("/").route(web::get().to(greeting)))
        .default_service(web::to(unknown));
}

/// An address that is read with GET.
fn page(path: &str) -> actix_web::Resource {
    web::resource(path).default_service(web::to(wrong_method))
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

async fn wrong_method() -> HttpResponse {
    Problem::method_not_allowed().response()
}
