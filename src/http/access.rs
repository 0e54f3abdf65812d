//! A log line for each request that has been answered. The route stands for the address: what a client put into it,
//! and its query, are in no log.

use std::time::Instant;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;

use crate::actors::TRAFFIC;

/// Logs what is answered. A stream or a WebSocket is answered when it begins.
pub async fn log(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let began = Instant::now();
    let response = next.call(request).await?;
    let request = response.request();
    let (method, route) = (request.method().as_str(), request.match_pattern());
    let (route, status) = (route.as_deref().unwrap_or("none"), response.status().as_u16());
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(target: TRAFFIC, method, route, status, took_ms, "request served");
    Ok(response)
}
