//! What an operator's monitoring reads, on the operator's socket and wherever else it is mounted. Never on the listener
//! that clients reach.

use std::time::Duration;

use actix_web::{HttpResponse, web};

use super::Desk;
use crate::actors::Registry;
use crate::actors::relay::TakeCensus;
use crate::metrics::{Census, Sample};

/// How long the threads have to say what their connections hold; one that is too busy is left out.
const CENSUS: Duration = Duration::from_secs(1);

/// OpenMetrics 1.0, section "Overall structure"; Prometheus reads it since version 2.5.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers with everything that is counted.
pub async fn metrics(desk: web::ThinData<Desk>) -> HttpResponse {
    HttpResponse::Ok().content_type(OPEN_METRICS).body(text(&desk.registry).await)
}

/// Mounts the address of the metrics, for a listener of its own.
pub fn mount(config: &mut web::ServiceConfig) {
    config.route("/metrics", web::get().to(metrics)).default_service(web::to(super::unknown));
}

async fn text(registry: &Registry) -> String {
    let relays = registry.relays().into_iter().filter_map(|relay| registry.relay(relay));
    let asked = relays.map(|relay| tokio::time::timeout(CENSUS, relay.send(TakeCensus)));
    let mut census = Census::default();
    for counted in futures_util::future::join_all(asked).await.into_iter().flatten().flatten() {
        census.add(counted);
    }
    let sample = Sample {
        rooms_awake: registry.rooms_awake(),
        inboxes: registry.inboxes_awake(),
        files: registry.files().map_or((0, 0), |files| files.figures()),
        unauthenticated: registry.connections().strangers(),
        census,
    };
    let store = registry.store();
    registry.metrics().text(&sample, &store.figures(), &store.health())
}
