//! Uploads in several requests, which go on where they were broken off: tus 1.0.0, the core and its extensions creation,
//! expiration, checksum and termination (<https://tus.io/protocols/resumable-upload>).
//!
//! An upload that is complete is a file, and has the same id.

use std::time::{Duration, UNIX_EPOCH};

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue, HttpDate};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::files::{connection, file_id, file_name, purpose, receive, said};
use super::problem::Problem;
use super::rest::refused;
use super::visit::Visit;
use super::{Edge, credentials};
use crate::actors::Registry;
use crate::actors::files::{Came, Wanted};
use crate::domain::Timestamp;
use crate::wire::Refusal;

const VERSION: &str = "1.0.0";
const EXTENSIONS: &str = "creation,expiration,checksum,termination";
const ALGORITHMS: &str = "sha1,sha256";

const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");
const TUS_EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
const TUS_CHECKSUM: HeaderName = HeaderName::from_static("tus-checksum-algorithm");
const TUS_MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
const UPLOAD_CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");

/// What the body of a part says to be.
const PART: &str = "application/offset+octet-stream";

/// What can be asked of uploads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tus {
    /// `POST /v1/uploads`.
    Create,
    /// `HEAD` or `GET /v1/uploads/{upload}`.
    Came,
    /// `PATCH /v1/uploads/{upload}`.
    GoOn,
    /// `DELETE /v1/uploads/{upload}`.
    GiveUp,
}

/// Answers what is asked of uploads.
pub async fn answer(tus: Tus, request: HttpRequest, payload: web::Payload, edge: web::ThinData<Edge>) -> HttpResponse {
    let answered = async {
        let by = credentials::principal(&request, &edge).await?;
        let visit = Visit::command(&request, &edge, by)?;
        let registry = visit.worker().registry();
        connection(&request)?.kill.allow(registry.limits().answer_timeout);
        let done = async {
            if request.headers().get(TUS_RESUMABLE).is_none_or(|version| version != VERSION) {
                return Err(Refusal::tus_version());
            }
            registry.meters().user(&registry.limits().rates, visit.by())?;
            match tus {
                Tus::Create => create(&visit, &request).await,
                Tus::Came => came(&visit, &request).await,
                Tus::GiveUp => give_up(&visit, &request).await,
                Tus::GoOn => go_on(&visit, &request, payload, &edge).await,
            }
        };
        done.await.map(|response| visit.end(response)).map_err(problem)
    };
    let mut response = answered.await.unwrap_or_else(|problem| refused(&request, &problem));
    describe(response.headers_mut());
    response
}

/// Says in the answer to an `OPTIONS` what is spoken here.
pub fn describe(headers: &mut HeaderMap) {
    headers.insert(TUS_RESUMABLE, HeaderValue::from_static(VERSION));
    headers.insert(TUS_VERSION, HeaderValue::from_static(VERSION));
    headers.insert(TUS_EXTENSION, HeaderValue::from_static(EXTENSIONS));
    headers.insert(TUS_CHECKSUM, HeaderValue::from_static(ALGORITHMS));
}

async fn create(visit: &Visit, request: &HttpRequest) -> Result<HttpResponse, Refusal> {
    let registry = visit.worker().registry();
    let size = number(request.headers(), &UPLOAD_LENGTH)?;
    if size == 0 {
        return Err(Refusal::bad_request("a file has at least one byte"));
    }
    let said = metadata(request.headers())?;
    let of = |names: &[&str]| said.iter().find(|(key, _)| names.contains(&&**key)).map(|(_, value)| value.as_str());
    let purpose = purpose(visit, of(&["room"]), of(&["purpose"])).await?;
    let wanted = Wanted { purpose, name: file_name(of(&["filename", "name"]))?, size: Some(size) };
    let upload = registry.files()?.create(registry, visit.by(), wanted, size).await?;
    let mut response = HttpResponse::Created();
    response.insert_header((header::LOCATION, format!("/v1/uploads/{}", upload.id)));
    response.insert_header((TUS_MAX_SIZE, registry.limits().files.bytes_max.to_string()));
    Ok(response.insert_header((UPLOAD_EXPIRES, expires(registry, upload.at))).finish())
}

async fn came(visit: &Visit, request: &HttpRequest) -> Result<HttpResponse, Refusal> {
    let registry = visit.worker().registry();
    let said = said(request, "/v1/uploads/{upload}", &[])?;
    let id = file_id(said.first().map(|(_, id)| id.as_str()))?;
    if request.method() == Method::HEAD {
        // Its client is about to go on.
        registry.files()?.take_over(visit.by(), id).await?;
    }
    let Came { offset, size, at } = registry.files()?.came(visit.by(), id).await?;
    let mut response = HttpResponse::Ok();
    response.insert_header((UPLOAD_OFFSET, offset.to_string())).insert_header((UPLOAD_LENGTH, size.to_string()));
    if let Some(at) = at {
        response.insert_header((UPLOAD_EXPIRES, expires(registry, at)));
    }
    Ok(response.json(serde_json::json!({ "offset": offset, "size": size, "complete": at.is_none() })))
}

async fn give_up(visit: &Visit, request: &HttpRequest) -> Result<HttpResponse, Refusal> {
    let registry = visit.worker().registry();
    let said = said(request, "/v1/uploads/{upload}", &[])?;
    let id = file_id(said.first().map(|(_, id)| id.as_str()))?;
    registry.files()?.give_up(visit.by(), id).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn go_on(
    visit: &Visit,
    request: &HttpRequest,
    mut payload: web::Payload,
    edge: &Edge,
) -> Result<HttpResponse, Refusal> {
    let registry = visit.worker().registry();
    let connection = connection(request).map_err(|problem| problem.refusal)?;
    let _place = edge.door.admit(request, Some(visit.by())).map_err(|problem| problem.refusal)?;
    let said = said(request, "/v1/uploads/{upload}", &[])?;
    let id = file_id(said.first().map(|(_, id)| id.as_str()))?;
    if request.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind != PART) {
        return Err(Refusal::media_type_unsupported());
    }
    let offset = number(request.headers(), &UPLOAD_OFFSET)?;
    let mut checksum = Checksum::read(request.headers())?;
    let mut upload = registry.files()?.go_on(registry, visit.by(), id, offset).await?;
    let mut received = receive(visit, connection, &mut payload, &mut upload, checksum.as_mut()).await;
    let time = registry.limits().answer_timeout;
    connection.kill.allow(time);
    if let Some(checksum) = checksum {
        received = received.and_then(|()| checksum.matches());
        if received.is_err() {
            upload.rewind().await?;
        }
    }
    let at = upload.heard(offset, registry.now());
    let offset = upload.bytes();
    let mut response = HttpResponse::NoContent();
    // Also where its request ended badly behind the last byte.
    if upload.is_complete() {
        let finished = connection.kill.while_working(time, upload.finish(registry.now(), None)).await;
        registry.metrics().uploaded(&finished);
        finished?;
        received?;
    } else {
        // Also of what was broken off: that is what the client goes on with.
        upload.acknowledge().await?;
        received?;
        response.insert_header((UPLOAD_EXPIRES, expires(registry, at)));
    }
    Ok(response.insert_header((UPLOAD_OFFSET, offset.to_string())).finish())
}

/// What a part of an upload has to be.
pub(super) struct Checksum {
    so_far: Context,
    expected: Vec<u8>,
}

impl Checksum {
    fn read(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let Some(value) = headers.get(&UPLOAD_CHECKSUM) else { return Ok(None) };
        let malformed = || Refusal::bad_request("the header Upload-Checksum cannot be read: ALGORITHM BASE64");
        let (name, expected) = value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or_else(malformed)?;
        let algorithm = match name {
            // Against mistakes of the line, not against anybody; the protocol asks for it.
            "sha1" => &SHA1_FOR_LEGACY_USE_ONLY,
            "sha256" => &SHA256,
            _ => return Err(Refusal::bad_request("the checksum has to be sha1 or sha256")),
        };
        let expected = STANDARD.decode(expected).map_err(|_| malformed())?;
        Ok(Some(Self { so_far: Context::new(algorithm), expected }))
    }

    pub(super) fn add(&mut self, piece: &[u8]) {
        self.so_far.update(piece);
    }

    fn matches(self) -> Result<(), Refusal> {
        let same = self.so_far.finish().as_ref() == self.expected;
        if same { Ok(()) } else { Err(Refusal::digest_mismatch()) }
    }
}

/// The protocol has a status of its own for a checksum that does not match.
fn problem(refusal: Refusal) -> Problem {
    if refusal.code() == Refusal::digest_mismatch().code() {
        return Problem::new(StatusCode::from_u16(460).expect("three digits"), refusal);
    }
    Problem::of(refusal)
}

fn expires(registry: &Registry, at: Timestamp) -> String {
    let at = u64::try_from(at.0).unwrap_or_default();
    let until = UNIX_EPOCH + Duration::from_millis(at) + registry.limits().files.keep_unfinished;
    HttpDate::from(until).to_string()
}

/// A number that has to be there.
fn number(headers: &HeaderMap, name: &HeaderName) -> Result<u64, Refusal> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    let digits = value.filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|value| value.parse().ok());
    number.ok_or_else(|| Refusal::bad_request(format!("the header {name} has to be a number")))
}

/// What a client says of a file: pairs of a word and a text in base64, which may be missing.
fn metadata(headers: &HeaderMap) -> Result<Vec<(String, String)>, Refusal> {
    let malformed = || Refusal::bad_request("the header Upload-Metadata cannot be read: KEY BASE64, KEY BASE64");
    let Some(value) = headers.get(&UPLOAD_METADATA) else { return Ok(Vec::new()) };
    let pairs = value.to_str().map_err(|_| malformed())?.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let read = |pair: &str| {
        let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
        let value = STANDARD.decode(value.trim()).ok().and_then(|value| String::from_utf8(value).ok());
        Ok((key.to_owned(), value.ok_or_else(malformed)?))
    };
    pairs.map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_of_a_file_is_read() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(UPLOAD_METADATA, value.parse().unwrap());
            metadata(&headers)
        };
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            read("filename d29ybGQucG5n, is_confidential"),
            Ok(vec![pair("filename", "world.png"), pair("is_confidential", "")])
        );
        assert_eq!(read(""), Ok(Vec::new()));
        for bad in ["filename %", "filename /w==", "filename a b"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
