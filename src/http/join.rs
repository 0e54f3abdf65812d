//! The page on which somebody who has a link makes an account. The invite is in the fragment of the address, which no
//! browser sends, so it is in no log.

use actix_web::HttpResponse;
use actix_web::http::header;

/// The page and what belongs to it, each under an address of its own, so that nothing in the page is carried out that did
/// not come from here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    Page,
    Script,
    Style,
}

/// Nothing from elsewhere, nothing in a frame of others, and no form that is sent without the script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

pub fn serve(part: Part) -> HttpResponse {
    let (kind, text) = match part {
        Part::Page => ("text/html; charset=utf-8", include_str!("join/page.html")),
        Part::Script => ("text/javascript; charset=utf-8", include_str!("join/page.js")),
        Part::Style => ("text/css; charset=utf-8", include_str!("join/page.css")),
    };
    HttpResponse::Ok().content_type(kind).insert_header((header::CONTENT_SECURITY_POLICY, POLICY)).body(text)
}
