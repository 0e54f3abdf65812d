//! Files over HTTP: sent in one request, fetched in one, or by a link where no header can be set.
//!
//! What comes and goes is handed on piece by piece, the next when the last has been taken: a transfer holds a few of them,
//! however large the file. Instead of a time for the whole each piece has one.

use std::sync::Arc;
use std::time::Duration;

use actix_web::body::{BoxBody, SizedStream};
use actix_web::http::header::{self, HeaderMap, HeaderName};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use uuid::Uuid;

use super::kill::{KillSwitch, REQUEST_HEAD};
use super::listener::Connection;
use super::problem::Problem;
use super::ranges::{self, Asked, Stretch};
use super::rest::refused;
use super::uploads::Checksum;
use super::visit::Visit;
use super::{Door, Edge, address, credentials};
use crate::actors::files::{Content, Upload, Wanted};
use crate::actors::{ConnectionGuard, Registry, asking, paging};
use crate::domain::file::Hash;
use crate::domain::{File, FileId, FileName, Principal, Purpose, Rejection, RoomName, Timestamp};
use crate::wire::Refusal;

/// So much is written to or read from the disk at once.
const PIECE_BYTES: usize = 64 * 1024;

/// For how long a link to a file is good.
const LINK: Duration = Duration::from_secs(5 * 60);

/// A browser may keep what it was shown, and asks each time whether it may still show it (RFC 9111, section 5.2.2.4): who is
/// removed from a room does not see it any more, nor does whoever uses the browser next.
const KEEP: &str = "private, no-cache";

/// By what else than the address an answer differs.
const VARY: &str = "Authorization, X-Auth-Token";

/// What a page may do that a file turned out to be after all: nothing (CSP level 3, section 6.4).
const POLICY: &str = "sandbox; default-src 'none'";

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// `POST /v1/files`: takes a file in one request.
pub async fn upload(request: HttpRequest, payload: web::Payload, edge: web::ThinData<Edge>) -> HttpResponse {
    match take(&request, payload, &edge).await {
        Ok(response) => response,
        Err(problem) => refused(&request, &problem),
    }
}

async fn take(request: &HttpRequest, mut payload: web::Payload, edge: &Edge) -> Result<HttpResponse, Problem> {
    let registry = edge.worker.registry();
    let by = credentials::principal(request, edge).await?;
    let connection = connection(request)?;
    let visit = Visit::command(request, edge, by)?;
    // Who sends a file holds a connection as who streams does.
    let _place = edge.door.admit(request, Some(visit.by()))?;
    connection.kill.allow(registry.limits().answer_timeout);
    let taken = async {
        registry.meters().user(&registry.limits().rates, visit.by())?;
        let said = said(request, "/v1/files", &["room", "name", "purpose"])?;
        let of = |name| said.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        let (size, expected) = (announced(request.headers())?, digest(request.headers())?);
        let (purpose, name) = (purpose(&visit, of("room"), of("purpose")).await?, file_name(of("name"))?);
        let mut upload = registry.files()?.begin(registry, visit.by(), Wanted { purpose, name, size }).await?;
        receive(&visit, connection, &mut payload, &mut upload, None).await?;
        let time = registry.limits().answer_timeout;
        connection.kill.while_working(time, upload.finish(registry.now(), expected)).await
    };
    let taken = taken.await;
    registry.metrics().uploaded(&taken);
    let file = taken.map_err(Problem::of)?;
    let response = HttpResponse::build(StatusCode::CREATED)
        .insert_header((header::LOCATION, format!("/v1/files/{}", file.id)))
        .json(described(&file));
    Ok(visit.end(response))
}

/// Takes what comes, a piece at a time. What had come when it ended badly has been written. What has a `checksum` is not
/// acknowledged before that has been looked at.
pub(super) async fn receive(
    visit: &Visit,
    connection: &Connection,
    payload: &mut web::Payload,
    upload: &mut Upload,
    mut checksum: Option<&mut Checksum>,
) -> Result<(), Refusal> {
    let registry = visit.worker().registry();
    let mut piece = BytesMut::new();
    loop {
        let (time, answer) = (registry.limits().body_deadline, registry.limits().answer_timeout);
        connection.kill.allow(time + answer);
        let filled = tokio::select! {
            biased;
            refusal = paging::gone(visit.link()) => Err(refusal),
            refusal = upload.gives_way() => Err(refusal),
            filled = tokio::time::timeout(time, fill(payload, &mut piece)) => {
                filled.unwrap_or_else(|_| Err(Refusal::body_too_slow()))
            }
        };
        visit.is_good()?;
        while !piece.is_empty() {
            let next = piece.split_to(piece.len().min(PIECE_BYTES)).freeze();
            if let Some(checksum) = &mut checksum {
                checksum.add(&next);
            }
            upload.write(next).await?;
        }
        if filled? == End::Reached {
            return Ok(());
        }
        if checksum.is_none() {
            upload.note_progress().await?;
        }
    }
}

#[derive(PartialEq, Eq)]
enum End {
    Reached,
    Ahead,
}

/// Fills a piece, or as much of it as there is.
async fn fill(payload: &mut web::Payload, piece: &mut BytesMut) -> Result<End, Refusal> {
    while piece.len() < PIECE_BYTES {
        match payload.next().await {
            Some(Ok(chunk)) => piece.extend_from_slice(&chunk),
            Some(Err(_)) => return Err(Refusal::bad_request("the body ended before its end")),
            None => return Ok(End::Reached),
        }
    }
    Ok(End::Ahead)
}

/// What a file is for: for a room in which its sender may post, or an avatar.
pub(super) async fn purpose(visit: &Visit, room: Option<&str>, purpose: Option<&str>) -> Result<Purpose, Refusal> {
    match (room, purpose) {
        (None, Some("avatar")) => Ok(Purpose::Avatar),
        (Some(room), None | Some("attachment")) => {
            let room = RoomName::parse(room).map_err(|error| Refusal::bad_request(format!("room: {error}")))?;
            let room = asking::uploads_for(visit.worker(), visit.link(), visit.by(), &room).await?;
            Ok(Purpose::Attachment(room))
        }
        (Some(_) | None, Some(_)) | (None, None) => {
            Err(Refusal::bad_request("a file is for a `room`, or its `purpose` is `avatar`"))
        }
    }
}

pub(super) fn file_name(name: Option<&str>) -> Result<FileName, Refusal> {
    name.map_or_else(|| Ok(FileName::unnamed()), |name| FileName::new(name).map_err(Refusal::bad_request))
}

/// How large the body will be, where that is said.
fn announced(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = length.to_str().ok().and_then(|length| length.parse().ok());
    length.map(Some).ok_or_else(|| Refusal::bad_request("the header Content-Length is not a number"))
}

/// What the content has to be, where that is said (RFC 9530, section 2); other digests are passed over.
fn digest(headers: &HeaderMap) -> Result<Option<Hash>, Refusal> {
    let malformed = || Refusal::bad_request("the header Content-Digest cannot be read: sha-256=:BASE64:");
    for value in headers.get_all(CONTENT_DIGEST) {
        for member in value.to_str().map_err(|_| malformed())?.split(',') {
            let Some(encoded) = member.trim().strip_prefix("sha-256=") else { continue };
            let encoded = encoded.strip_prefix(':').and_then(|rest| rest.strip_suffix(':')).ok_or_else(malformed)?;
            let bytes = STANDARD.decode(encoded).map_err(|_| malformed())?;
            return bytes.try_into().map(|bytes| Some(Hash(bytes))).map_err(|_| malformed());
        }
    }
    Ok(None)
}

/// What its uploader is told of a file.
pub(super) fn described(file: &File) -> serde_json::Value {
    serde_json::json!({
        "id": file.id.to_string(),
        "name": file.name.as_str(),
        "media_type": file.media.as_str(),
        "size": file.size,
        "sha256": file.hash.to_string(),
        "at": file.at.0,
    })
}

/// `GET /v1/files/{file}`: a file, or a part of it, for who may read it.
pub async fn serve(request: HttpRequest, edge: web::ThinData<Edge>) -> Result<HttpResponse, Problem> {
    let registry = edge.worker.registry();
    let said = said(&request, "/v1/files/{file}", &["room", "link"]).map_err(Problem::of)?;
    let of = |name| said.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    let id = || file_id(of("file")).map_err(Problem::of);
    let (by, policy) = match of("link") {
        Some(link) => (linked(&request, registry, id()?, link)?, "cross-origin"),
        None => (credentials::principal(&request, &edge).await?, "same-origin"),
    };
    let id = id()?;
    let connection = connection(&request)?;
    let mut visit = Visit::begin(&request, &edge, by)?;
    let file = readable(&visit, id, of("room")).await.map_err(Problem::of)?;
    let etag = format!("\"{}\"", file.hash);
    if ranges::is_known(request.headers(), &etag) {
        let mut response = HttpResponse::NotModified();
        response.insert_header((header::ETAG, etag)).insert_header((header::CACHE_CONTROL, KEEP));
        return Ok(visit.end(response.insert_header((header::VARY, VARY)).finish()));
    }
    let only_head = request.method() == Method::HEAD;
    let asked = if only_head { Asked::Whole } else { ranges::asked(request.headers(), file.size, &etag) };
    let mut response = HttpResponse::Ok();
    let stretch = match asked {
        Asked::Whole => Stretch { from: 0, to: file.size },
        Asked::Part(stretch) => {
            let place = format!("bytes {}-{}/{}", stretch.from, stretch.to - 1, file.size);
            response.status(StatusCode::PARTIAL_CONTENT).insert_header((header::CONTENT_RANGE, place));
            stretch
        }
        Asked::Nothing => {
            let mut response = Problem::of(Refusal::range_unsatisfiable()).response();
            let place = format!("bytes */{}", file.size).parse().expect("digits and plain words");
            response.headers_mut().insert(header::CONTENT_RANGE, place);
            return Ok(response);
        }
    };
    response
        .insert_header((header::CONTENT_TYPE, file.media.as_str()))
        .insert_header((header::CONTENT_DISPOSITION, disposition(&file)))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((header::ETAG, etag))
        .insert_header((header::CACHE_CONTROL, KEEP))
        .insert_header((header::VARY, VARY))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((RESOURCE_POLICY, policy));
    let body = if only_head {
        BoxBody::new(SizedStream::new(file.size, stream::empty::<Result<Bytes, Refusal>>()))
    } else {
        let place = edge.door.admit(&request, Some(visit.by()))?;
        let content = registry.files().map_err(Problem::of)?.open_content(&file).await.map_err(Problem::of)?;
        // Before anything of the file is handed over: a removal until now has cut the connection, or is seen here.
        visit.is_good().map_err(Problem::of)?;
        let head = visit.show(response.finish());
        return Ok(head.set_body(BoxBody::new(sent(visit, connection.kill.clone(), place, content, stretch))));
    };
    Ok(visit.end(response.body(body)))
}

async fn readable(visit: &Visit, id: FileId, room: Option<&str>) -> Result<File, Refusal> {
    let registry = visit.worker().registry();
    registry.meters().user(&registry.limits().rates, visit.by())?;
    let room = match room {
        Some(room) => {
            let room = RoomName::parse(room).map_err(|error| Refusal::bad_request(format!("room: {error}")))?;
            Some(registry.look_up(visit.by(), registry.find(visit.by(), &room)).await?.room)
        }
        None => None,
    };
    let file = registry.files()?.readable(visit.by(), id, room).await?;
    visit.is_good()?;
    Ok(file)
}

/// What is left to be sent of a file.
struct Sending {
    visit: Visit,
    kill: KillSwitch,
    _place: ConnectionGuard,
    content: Arc<Content>,
    left: Stretch,
}

/// The bytes of a file, read as they are taken. Ends badly when its reader may not go on: the client sees that it has not
/// got all.
fn sent(
    visit: Visit,
    kill: KillSwitch,
    place: ConnectionGuard,
    content: Content,
    left: Stretch,
) -> SizedStream<impl futures_util::Stream<Item = Result<Bytes, Refusal>>> {
    let sending = Sending { visit, kill, _place: place, content: Arc::new(content), left };
    let pieces = stream::unfold(sending, async |mut sending| {
        let piece = sending.next().await?;
        Some((piece, sending))
    });
    SizedStream::new(left.len(), pieces)
}

impl Sending {
    async fn next(&mut self) -> Option<Result<Bytes, Refusal>> {
        let registry = self.visit.worker().registry();
        if self.left.len() == 0 {
            let time = registry.limits().request;
            // As behind any other answer.
            self.kill.allow(time + REQUEST_HEAD);
            return None;
        }
        // Until the next piece is asked for, which is when this one has nearly been taken.
        let time = registry.limits().slow_consumer;
        self.kill.allow(time);
        let piece = self.piece().await;
        if piece.is_err() {
            // There is no other way to say that this is not all; and what has been handed over does not leave any more.
            self.visit.link().cut();
        }
        Some(piece)
    }

    async fn piece(&mut self) -> Result<Bytes, Refusal> {
        self.visit.is_good()?;
        if self.visit.link().closed().is_some() {
            return Err(Refusal::shutting_down());
        }
        let bytes = usize::try_from(self.left.len()).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let files = self.visit.worker().registry().files()?;
        let piece = files.read(Arc::clone(&self.content), self.left.from, bytes).await?;
        self.left.from += bytes as u64;
        Ok(piece)
    }
}

/// How a browser treats a file, and what it calls one that is kept: in ASCII for those that know no better, and as it is
/// (RFC 6266, section 4; RFC 8187, section 3.2).
fn disposition(file: &File) -> String {
    let how = if file.media.is_shown() { "inline" } else { "attachment" };
    let name = file.name.as_str();
    let plain: String = name
        .chars()
        .map(|c| if (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '\\' | '%') { c } else { '_' })
        .collect();
    let mut coded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            coded.push(char::from(byte));
        } else {
            coded.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("{how}; filename=\"{plain}\"; filename*=UTF-8''{coded}")
}

/// `GET /v1/files/{file}/link`: where a browser finds a file for a while that it can set no header for.
pub async fn link(request: HttpRequest, edge: web::ThinData<Edge>) -> Result<HttpResponse, Problem> {
    let registry = edge.worker.registry();
    let by = credentials::principal(&request, &edge).await?;
    let said = said(&request, "/v1/files/{file}/link", &["room"]).map_err(Problem::of)?;
    let of = |name| said.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    let id = file_id(of("file")).map_err(Problem::of)?;
    let visit = Visit::begin(&request, &edge, by)?;
    readable(&visit, id, of("room")).await.map_err(Problem::of)?;
    let good = i64::try_from(LINK.as_millis()).expect("five minutes fit");
    // Nor is it good for longer than the token.
    let until = registry.now().0.saturating_add(good).min(visit.by().expires_at.0);
    let by = Principal { expires_at: Timestamp(until), ..visit.by().clone() };
    let path = format!("/v1/files/{id}?link={}", registry.sealer().seal_link(id, &by));
    Ok(visit.end(HttpResponse::Ok().json(serde_json::json!({ "path": path, "expires_at": until }))))
}

/// On whose rights a link stands.
fn linked(request: &HttpRequest, registry: &Registry, id: FileId, link: &str) -> Result<Principal, Problem> {
    let by = registry.sealer().open_link(id, link).filter(|by| by.expires_at > registry.now());
    let by = by.ok_or_else(|| Problem::of(Refusal::link_invalid()))?;
    if let Some(refusal) = registry.denied(&by) {
        return Err(Problem::of(refusal));
    }
    Door::known(request);
    Ok(by)
}

pub(super) fn connection(request: &HttpRequest) -> Result<&Connection, Problem> {
    request.conn_data::<Connection>().ok_or_else(|| Problem::of(Refusal::unavailable()))
}

/// What the address says, by name.
pub(super) fn said(
    request: &HttpRequest,
    pattern: &'static str,
    known: &[&'static str],
) -> Result<Vec<(&'static str, String)>, Refusal> {
    address::members(pattern, known, request.uri().path(), request.query_string())
}

/// One that cannot be an id is that of no file.
pub(super) fn file_id(text: Option<&str>) -> Result<FileId, Refusal> {
    let id = text.and_then(|text| Uuid::try_parse(text).ok());
    id.map(FileId).ok_or_else(|| Rejection::FileNotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{MediaType, TenantId, UserId};

    #[test]
    fn a_name_is_told_in_both_ways_and_breaks_out_of_neither() {
        for (name, media, expected) in [
            ("a b.png", "image/png", "inline; filename=\"a b.png\"; filename*=UTF-8''a%20b.png"),
            ("Über.pdf", "application/pdf", "attachment; filename=\"_ber.pdf\"; filename*=UTF-8''%C3%9Cber.pdf"),
            ("\";x=\"", "text/plain", "attachment; filename=\"_;x=_\"; filename*=UTF-8''%22%3Bx%3D%22"),
            ("%41'*", "text/plain", "attachment; filename=\"_41'*\"; filename*=UTF-8''%2541%27%2A"),
        ] {
            let file = File {
                id: FileId(Uuid::nil()),
                tenant: TenantId::default_tenant(),
                owner: UserId::new("ann").unwrap(),
                purpose: Purpose::Avatar,
                hash: Hash([0; 32]),
                size: 1,
                media: MediaType::new(media).unwrap(),
                name: FileName::new(name).unwrap(),
                at: Timestamp(0),
            };
            assert_eq!(disposition(&file), expected);
        }
    }

    #[test]
    fn a_digest_is_read_from_among_others() {
        let headers = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_DIGEST, value.parse().unwrap());
            headers
        };
        let hash = Hash([7; 32]);
        let good = format!("sha-512=:AAAA:, sha-256=:{}:", STANDARD.encode(hash.0));
        assert_eq!(digest(&headers(&good)), Ok(Some(hash)));
        assert_eq!(digest(&headers("md5=:AAAA:")), Ok(None));
        assert_eq!(digest(&HeaderMap::new()), Ok(None));
        for bad in ["sha-256=AAAA", "sha-256=:AAAA:", "sha-256=:%:", "sha-256=:"] {
            assert!(digest(&headers(bad)).is_err(), "{bad}");
        }
    }
}
