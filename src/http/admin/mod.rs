//! What the operator asks of a running server: a socket in the data directory, for whoever may read that.
//!
//! It is a Unix socket of mode 0600 and not a port, so that it needs no key of its own, cannot be reached from another
//! machine or a web page, and works wherever the command line can see the data directory.

mod accounts;
mod revocations;
mod rooms;

use actix_web::{HttpResponse, web};

use crate::http::Desk;
use crate::http::problem::Problem;

/// The name of the socket in the data directory.
pub const SOCKET: &str = "admin.sock";

/// Mounts the routes of the operator's socket.
pub fn mount(config: &mut web::ServiceConfig) {
    config
        .route("/health", web::get().to(health))
        .route("/metrics", web::get().to(super::metrics::metrics))
        .service(
            web::resource("/revocations")
                .app_data(web::PayloadConfig::new(revocations::BODY_BYTES_MAX))
                .route(web::get().to(revocations::list))
                .route(web::post().to(revocations::revoke))
                .default_service(web::to(|| std::future::ready(super::routes::wrong_method("GET, POST")))),
        )
        .route("/tenants/{tenant}/rooms", web::get().to(rooms::list))
        .route("/tenants/{tenant}/rooms/{room}", web::get().to(rooms::show))
        .route("/tenants/{tenant}/rooms/{room}/archive", web::post().to(rooms::archive))
        .route("/tenants/{tenant}/rooms/{room}/audit", web::get().to(rooms::audit))
        .route("/tenants/{tenant}/audit", web::get().to(rooms::audit_of_tenant))
        .route("/tenants/{tenant}/accounts", web::get().to(accounts::list))
        .route("/tenants/{tenant}/accounts", web::post().to(accounts::add))
        .route("/tenants/{tenant}/accounts/{user}", web::post().to(accounts::change))
        .route("/tenants/{tenant}/accounts/{user}/reset", web::post().to(accounts::reset))
        .route("/tenants/{tenant}/bans", web::get().to(accounts::bans))
        .route("/tenants/{tenant}/bans", web::post().to(accounts::ban))
        .route("/tenants/{tenant}/bans/{user}/revoke", web::post().to(accounts::unban))
        .route("/tenants/{tenant}/invites", web::get().to(accounts::invites))
        .route("/tenants/{tenant}/invites", web::post().to(accounts::invite))
        .route("/tenants/{tenant}/invites/{invite}/revoke", web::post().to(accounts::take_back))
        .default_service(web::to(super::unknown));
}

/// Whether commands are taken now.
async fn health(desk: web::ThinData<Desk>) -> HttpResponse {
    match desk.registry.unready() {
        None => HttpResponse::Ok().json(serde_json::json!({"status": "ready"})),
        Some(refusal) => Problem::unavailable(&refusal).response(),
    }
}
