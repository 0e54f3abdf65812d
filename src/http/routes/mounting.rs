//! Mounts the routes, and answers for their addresses what no route does: OPTIONS, and methods that they do not take.

use std::future::ready;

use actix_web::http::{Method, header};
use actix_web::{HttpRequest, HttpResponse, web};

use super::files::UPLOADS;
use super::{Route, Serves, Verb, all};
use crate::http::problem::Problem;
use crate::http::{
    Edge, accounts, events, files, greeting, healthz, join, openapi, readyz, rest, tickets, uploads, world, ws,
};

/// Mounts every route, and says of each address which methods it takes.
pub fn mount(config: &mut web::ServiceConfig) {
    let mut paths: Vec<&'static str> = all().map(|route| route.path).collect();
    paths.dedup();
    // They are tried in their order, and most connections come for a socket.
    paths.sort_by_key(|path| !all().any(|route| route.path == *path && matches!(route.serves, Serves::Socket)));
    for path in paths {
        let mut resource = web::resource(path);
        let mut allowed = Vec::new();
        for route in all().filter(|route| route.path == path) {
            if matches!(route.serves, Serves::Socket | Serves::Events | Serves::World) {
                // What lasts has no beginning that could be asked for alone.
                allowed.push("GET");
                resource = resource.route(served(web::method(Method::GET), route));
                continue;
            }
            let method = route.verb.method();
            allowed.push(match route.verb {
                Verb::Get => "GET, HEAD",
                Verb::Post => "POST",
                Verb::Put => "PUT",
                Verb::Patch => "PATCH",
                Verb::Delete => "DELETE",
            });
            if route.verb == Verb::Get {
                // The same without its body (RFC 9110, section 9.3.2).
                resource = resource.route(served(web::method(Method::HEAD), route));
            }
            resource = resource.route(served(web::method(method), route));
        }
        let allowed = format!("{}, OPTIONS", allowed.join(", "));
        let refused = allowed.clone();
        resource = resource
            .route(web::method(Method::OPTIONS).to(move || ready(options(path, &allowed))))
            .default_service(web::to(move || ready(wrong_method(&refused))));
        config.service(resource);
    }
}

fn served(mounted: actix_web::Route, route: &'static Route) -> actix_web::Route {
    match route.serves {
        Serves::Command(kind) => {
            mounted.to(move |request: HttpRequest, payload: web::Payload, edge: web::ThinData<Edge>| {
                rest::answer(route, kind, request, payload, edge)
            })
        }
        Serves::Events => mounted.to(events::of_room),
        Serves::World => mounted.to(world::events),
        Serves::Tickets => mounted.to(tickets::make),
        Serves::Upload => mounted.to(files::upload),
        Serves::File => mounted.to(files::serve),
        Serves::Link => mounted.to(files::link),
        Serves::Tus(tus) => {
            mounted.to(move |request: HttpRequest, payload: web::Payload, edge: web::ThinData<Edge>| {
                uploads::answer(tus, request, payload, edge)
            })
        }
        Serves::Accounts(act) => {
            mounted.to(move |request: HttpRequest, payload: web::Payload, edge: web::ThinData<Edge>| {
                accounts::answer(route, act, request, payload, edge)
            })
        }
        Serves::Join(part) => mounted.to(move || ready(join::serve(part))),
        Serves::Socket => mounted.to(ws::open),
        Serves::Description => mounted.to(openapi::serve),
        Serves::Greeting => mounted.to(greeting),
        Serves::Alive => mounted.to(healthz),
        Serves::Ready => mounted.to(readyz),
    }
}

/// What an address takes (RFC 9110, section 9.3.7).
fn options(path: &str, allowed: &str) -> HttpResponse {
    let mut response = HttpResponse::NoContent().insert_header((header::ALLOW, allowed)).finish();
    if path.starts_with(UPLOADS) {
        uploads::describe(response.headers_mut());
    }
    response
}

pub fn wrong_method(allowed: &str) -> HttpResponse {
    Problem::method_not_allowed(allowed).response()
}
