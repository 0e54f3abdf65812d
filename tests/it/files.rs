//! Files: uploaded in one request or in several, attached, read by who may, and collected when nothing refers to them.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chinwag::actors::Limits;
use chinwag::actors::files::{Collected, Wanted};
use chinwag::actors::limits;
use chinwag::clock::{Clock, ManualClock, SystemClock};
use chinwag::domain::file::Hash;
use chinwag::domain::{File, FileId, FileName, MediaType, Principal, Purpose, StreamId, TenantId, Timestamp, UserId};
use chinwag::store::memory::MemoryStore;
use chinwag::store::rows::{self, Filed, Row};
use chinwag::store::{Commit, Put};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use uuid::Uuid;

use crate::harness::{Client, Setup, TestServer, create_channel, eventually, join, kick, patiently, post, temporary};
use crate::requests::{Answer, Request};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR and the rest of a picture";

/// The SHA-256 of `hello`.
const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

#[tokio::test]
async fn a_file_is_uploaded_attached_and_read_by_the_members_of_its_room() {
    let (server, mut ann, mut bob) = lobby().await;
    let mut zoe = server.client("zoe").await;
    zoe.ask(create_channel("attic")).await;
    let made = upload(&server, "ann", "room=lobby&name=a%20map.png", PNG).await;
    assert_eq!(made.status, 201, "{made:?}");
    let file = made.json();
    let id = file["id"].as_str().unwrap().to_owned();
    assert_eq!(made.header("location"), format!("/v1/files/{id}"));
    assert_eq!((&file["name"], &file["media_type"]), (&json!("a map.png"), &json!("image/png")));
    assert_eq!(file["size"], PNG.len());

    // Before it is attached it is its uploader's alone.
    assert_eq!(fetch(&server, "ann", &id).await.body, PNG);
    assert_eq!(fetch(&server, "bob", &id).await.code(), "file_not_found");

    bob.ask(json!({ "type": "follow", "room": "lobby", "from": "now" })).await;
    ann.ask(attach("lobby", &[&id])).await;
    let record = bob.record().await;
    let attachment = json!({ "id": id, "name": "a map.png", "media_type": "image/png", "size": PNG.len() });
    assert_eq!((&record["attachments"], &record["content"]), (&json!([attachment]), &json!({})));
    let history = bob.ask(json!({ "type": "history", "room": "lobby" })).await;
    assert_eq!(history["records"].as_array().unwrap().last().unwrap()["attachments"], json!([attachment]));

    let got = fetch(&server, "bob", &id).await;
    assert_eq!((got.status, got.body.as_slice()), (200, PNG));
    for (name, value) in [
        ("content-type", "image/png"),
        ("content-length", &PNG.len().to_string()),
        ("content-disposition", "inline; filename=\"a map.png\"; filename*=UTF-8''a%20map.png"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox; default-src 'none'"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "private, no-cache"),
        ("accept-ranges", "bytes"),
    ] {
        assert_eq!(got.header(name), value, "{name}");
    }
    assert!(got.header("vary").contains("Authorization, X-Auth-Token"), "{got:?}");
    assert_eq!(fetch(&server, "zoe", &id).await.code(), "file_not_found");
    let elsewhere = server.token_in("theirs", "ann", Duration::from_secs(60));
    let theirs = Request::new("GET", &format!("/v1/files/{id}")).token(&elsewhere).send(&server).await;
    assert_eq!((theirs.status, theirs.code()), (404, "file_not_found".to_owned()));
    assert_eq!(Request::new("GET", &format!("/v1/files/{id}")).send(&server).await.status, 401);

    // Named or not, a room helps nobody who is not in it.
    for (user, room, status) in [("bob", "lobby", 200), ("bob", "attic", 404), ("zoe", "lobby", 404)] {
        let path = format!("/v1/files/{id}?room={room}");
        let answer = Request::new("GET", &path).token(&server.token(user)).send(&server).await;
        assert_eq!(answer.status, status, "{user} in {room}");
    }
}

#[tokio::test]
async fn a_file_is_attached_by_its_uploader_where_it_was_meant_for() {
    let (server, mut ann, mut bob) = lobby().await;
    ann.ask(create_channel("attic")).await;
    let id = uploaded(&server, "ann", "room=lobby", b"hello").await;
    let avatar = uploaded(&server, "ann", "purpose=avatar", PNG).await;
    let nobody = "0192f0c1-2345-7abc-8def-0000000000f1";
    assert_eq!(bob.refused(attach("lobby", &[&id])).await, "file_not_found");
    assert_eq!(ann.refused(attach("attic", &[&id])).await, "file_not_found");
    assert_eq!(ann.refused(attach("lobby", &[&id, nobody])).await, "file_not_found");
    assert_eq!(ann.refused(attach("lobby", &[&avatar])).await, "file_not_found");
    assert_eq!(ann.refused(attach("nowhere", &[&id])).await, "room_not_found");
    assert_eq!(ann.refused(attach("lobby", &[&*id; 11])).await, "too_many_attachments");
    for attachments in [json!("x"), json!(["x"]), json!([7]), json!([])] {
        let ask = json!({ "type": "post", "room": "lobby", "attachments": attachments });
        assert_eq!(ann.refused(ask).await, "bad_request", "{attachments}");
    }
    let mut both = attach("lobby", &[&id]);
    both["forward"] = json!({ "room": "lobby", "message": nobody });
    assert_eq!(ann.refused(both).await, "bad_request");

    // Sent again it is the same message, over either transport, and another file makes it another.
    let mut first = attach("lobby", &[&id]);
    first["client_id"] = json!("c-1");
    let posted = ann.ask(first.clone()).await;
    let again = json!({ "attachments": [id], "client_id": "c-1" });
    let again = Request::new("POST", "/v1/rooms/lobby/messages").token(&server.token("ann")).json(&again).send(&server);
    let again = again.await;
    assert_eq!((again.status, &again.json()["record"]), (200, &posted["record"]));
    first["attachments"] = json!([uploaded(&server, "ann", "room=lobby", b"other").await]);
    assert_eq!(ann.refused(first).await, "client_id_reused");
}

#[tokio::test]
async fn who_may_not_post_may_not_upload() {
    let (server, mut ann, _bob) = lobby().await;
    let create = json!({ "type": "create", "kind": "group", "members": [{ "user": "vic", "role": "viewer" }] });
    let group = ann.ask(create).await["room"].as_str().unwrap().to_owned();
    let mut vic = server.client("vic").await;
    vic.ask(join(&group)).await;
    ann.ask(json!({ "type": "mute", "room": "lobby", "user": "bob" })).await;
    for (user, room, code) in [
        ("vic", &*group, "forbidden"),
        ("zoe", &group, "room_not_found"),
        ("zoe", "lobby", "not_member"),
        ("zoe", "nowhere", "room_not_found"),
        ("bob", "lobby", "muted"),
    ] {
        let answer = upload(&server, user, &format!("room={room}"), b"hello").await;
        assert_eq!(answer.code(), code, "{user} in {room}");
    }
    ann.ask(json!({ "type": "archive", "room": "lobby" })).await;
    assert_eq!(upload(&server, "ann", "room=lobby", b"hello").await.code(), "room_archived");
    assert_eq!(kept(&server), 0);
}

#[tokio::test]
async fn what_an_upload_says_is_looked_at_before_anything_is_kept() {
    let (server, _ann, _bob) = lobby().await;
    for query in [
        "",
        "room=lobby&purpose=avatar",
        "room=lobby&purpose=theft",
        "purpose=attachment",
        "room=lobby&name=..%2F..%2Fsecrets%2Ftoken",
        "room=lobby&name=a%5Cb",
        "room=lobby&name=gpj.%E2%80%AEexe",
        "room=lobby&name=a%0D%0AX-Bad%3A%201",
        "room=lobby&name=%00",
        "room=lobby&name=%FF",
        "room=lobby&name=",
        "room=no%20room",
        &format!("room=lobby&name={}", "n".repeat(256)),
    ] {
        let answer = upload(&server, "ann", query, b"hello").await;
        assert_eq!((answer.status, answer.code()), (400, "bad_request".to_owned()), "{query}");
    }
    let empty = upload(&server, "ann", "room=lobby", b"").await;
    assert_eq!(empty.code(), "bad_request");
    let long = format!("POST /v1/files?room=lobby&name={} HTTP/1.1\r\nHost: x\r\n", "n".repeat(1 << 20));
    let mut answer = Vec::new();
    let _ = patiently(server.raw(&long).await.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", answer.escape_ascii());
    assert_eq!((kept(&server), incoming(&server)), (0, 0));
}

#[tokio::test]
async fn a_file_is_served_as_what_it_is_and_not_as_what_it_is_called() {
    let (server, _ann, _bob) = lobby().await;
    let page = b"<!DOCTYPE html><script>alert(1)</script>";
    let svg = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>";
    for (content, kind) in [
        (&page[..], "application/octet-stream"),
        (svg, "text/plain; charset=utf-8"),
        (b"alert(1)", "text/plain; charset=utf-8"),
        (b"\x01\x02\x03", "application/octet-stream"),
        (b"%PDF-1.7\n", "application/pdf"),
    ] {
        let token = server.token("ann");
        let sent = Request::new("POST", "/v1/files?room=lobby&name=x.png").token(&token);
        let sent = sent.header("Content-Type", "image/png").body(content).send(&server).await;
        let got = fetch(&server, "ann", sent.json()["id"].as_str().unwrap()).await;
        assert_eq!(got.header("content-type"), kind);
        assert!(got.header("content-disposition").starts_with("attachment; "), "{got:?}");
        assert_eq!((got.header("x-content-type-options"), got.body.as_slice()), ("nosniff", content));
    }
    for content in [&page[..], svg, b"%PDF-1.7\n"] {
        assert_eq!(upload(&server, "ann", "purpose=avatar", content).await.code(), "not_a_picture");
    }
    let avatar = uploaded(&server, "ann", "purpose=avatar", PNG).await;
    assert_eq!(fetch(&server, "zoe", &avatar).await.body, PNG, "an avatar is for all of the tenant");
    let elsewhere = server.token_in("theirs", "ann", Duration::from_secs(60));
    let theirs = Request::new("GET", &format!("/v1/files/{avatar}")).token(&elsewhere).send(&server).await;
    assert_eq!(theirs.code(), "file_not_found");
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_all_of_it_is_read() {
    let server = limited(|files| files.bytes_max = 100_000, |_| {});
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let head = |more: &str| {
        let token = server.token("ann");
        format!("POST /v1/files?room=lobby HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{more}\r\n")
    };
    // Announced: nothing of it has been sent yet.
    let mut announced = server.raw(&head("Content-Length: 100001\r\n")).await;
    assert_eq!(next_code(&mut announced).await, "file_too_large");
    // Not announced: the end never comes.
    let mut dripping = server.raw(&head("Transfer-Encoding: chunked\r\n")).await;
    let chunk = [b"2710\r\n".as_slice(), &[b'x'; 10_000], b"\r\n"].concat();
    for _ in 0..14 {
        let _ = dripping.write_all(&chunk).await;
    }
    assert_eq!(next_code(&mut dripping).await, "file_too_large");
    assert_eq!(upload(&server, "ann", "room=lobby", &[b'x'; 100_000]).await.status, 201);
    let large = [PNG, &vec![0; 2 << 20]].concat();
    assert_eq!(upload(&server, "ann", "purpose=avatar", &large).await.code(), "file_too_large");
    drop((announced, dripping));
    eventually("what was refused is thrown away", || incoming(&server) == 0).await;
    assert_eq!(kept(&server), 1);
}

#[tokio::test]
async fn a_digest_holds_an_upload_to_its_content() {
    let (server, _ann, _bob) = lobby().await;
    let send = |digest: String| {
        let request = Request::new("POST", "/v1/files?room=lobby").token(&server.token("ann"));
        request.header("Content-Digest", &digest).body(b"hello").send(&server)
    };
    let right = hex(HELLO);
    let good = send(format!("sha-256=:{}:", STANDARD.encode(&right))).await;
    assert_eq!((good.status, &good.json()["sha256"]), (201, &json!(HELLO)));
    let wrong = send(format!("sha-256=:{}:", STANDARD.encode([7; 32]))).await;
    assert_eq!((wrong.status, wrong.code()), (422, "digest_mismatch".to_owned()));
    assert_eq!(send("sha-256=nonsense".to_owned()).await.code(), "bad_request");
    eventually("what was refused is thrown away", || incoming(&server) == 0).await;
    assert_eq!(kept(&server), 1);
}

#[tokio::test]
async fn the_same_content_is_kept_once_and_counts_for_each_upload() {
    let server = limited(|_| {}, |tenant| tenant.file_bytes = Some(12));
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    let first = uploaded(&server, "ann", "room=lobby", b"hello").await;
    let second = uploaded(&server, "bob", "room=lobby", b"hello").await;
    assert_ne!(first, second);
    assert_eq!(kept(&server), 1);
    let beyond = upload(&server, "bob", "room=lobby", b"hello").await;
    assert_eq!((beyond.status, beyond.code()), (409, "quota_reached".to_owned()));
    assert_eq!(beyond.json()["limit"], "tenant.files_mb");
    let token = server.token("bob");
    let chunked = format!(
        "POST /v1/files?room=lobby HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\
         \r\n5\r\nhello\r\n0\r\n\r\n"
    );
    assert_eq!(next_code(&mut server.raw(&chunked).await).await, "quota_reached");
    // What was refused is not counted.
    uploaded(&server, "ann", "room=lobby", b"he").await;
    assert_eq!(create(&server, "ann", "lobby", 1).await.code(), "quota_reached");
    let registry = Arc::clone(&server.registry);
    assert_eq!(registry.files().unwrap().figures(), (12, 0));
}

#[tokio::test]
async fn a_range_of_a_file_is_sent_and_what_is_known_is_not_sent_again() {
    let (server, _ann, _bob) = lobby().await;
    let id = uploaded(&server, "ann", "room=lobby", b"hello").await;
    let get = |headers: &[(&str, &str)]| {
        let request = Request::new("GET", &format!("/v1/files/{id}")).token(&server.token("ann"));
        headers.iter().fold(request, |request, (name, value)| request.header(name, value)).send(&server)
    };
    let etag = format!("\"{HELLO}\"");
    for (range, place, body) in [
        ("bytes=0-1", "bytes 0-1/5", &b"he"[..]),
        ("bytes=1-3", "bytes 1-3/5", b"ell"),
        ("bytes=3-", "bytes 3-4/5", b"lo"),
        ("bytes=-2", "bytes 3-4/5", b"lo"),
        ("bytes=0-99", "bytes 0-4/5", b"hello"),
    ] {
        let part = get(&[("Range", range), ("If-Range", &etag)]).await;
        assert_eq!((part.status, part.header("content-range"), part.body.as_slice()), (206, place, body), "{range}");
        assert_eq!(part.header("content-length"), body.len().to_string());
    }
    let beyond = get(&[("Range", "bytes=5-")]).await;
    assert_eq!((beyond.code(), beyond.status), ("range_unsatisfiable".to_owned(), 416));
    assert_eq!(beyond.header("content-range"), "bytes */5");
    let other = get(&[("Range", "bytes=0-1"), ("If-Range", "\"other\"")]).await;
    assert_eq!((other.status, other.body.as_slice()), (200, &b"hello"[..]));
    let known = get(&[("If-None-Match", &etag)]).await;
    assert_eq!((known.status, known.header("etag"), known.body.len()), (304, &*etag, 0));
    assert_eq!(known.header("cache-control"), "private, no-cache");
    let head = Request::new("HEAD", &format!("/v1/files/{id}")).token(&server.token("ann")).send(&server).await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "5", 0));
}

#[tokio::test]
async fn an_upload_in_parts_goes_on_where_it_was_broken_off_also_after_a_restart() {
    let (store, files) = (MemoryStore::new(), temporary());
    let setup = || {
        let store = Arc::new(store.in_epoch(MemoryStore::EPOCH));
        Setup { store, files: Arc::clone(&files), ..Setup::default() }
    };
    let mut server = TestServer::with(setup());
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let options = Request::new("OPTIONS", "/v1/uploads").send(&server).await;
    assert_eq!((options.status, options.header("tus-version")), (204, "1.0.0"));
    assert_eq!(options.header("tus-extension"), "creation,expiration,checksum,termination");

    let made = create(&server, "ann", "lobby", 12).await;
    assert_eq!((made.status, made.header("tus-resumable")), (201, "1.0.0"), "{made:?}");
    assert!(!made.header("upload-expires").is_empty());
    let place = made.header("location").to_owned();
    let id = place.strip_prefix("/v1/uploads/").unwrap().to_owned();
    assert_eq!(offset(&server, &place).await, 0);
    let part = patch(&server, "ann", &place, 0, b"hello").await;
    assert_eq!((part.status, part.header("upload-offset")), (204, "5"));
    assert_eq!(fetch(&server, "ann", &id).await.code(), "file_not_found", "it is no file yet");

    // Broken off in the middle: what had come counts.
    let token = server.token("ann");
    let head = format!(
        "PATCH {place} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nTus-Resumable: 1.0.0\r\n\
         Content-Type: application/offset+octet-stream\r\nUpload-Offset: 5\r\nContent-Length: 7\r\n\r\n, w"
    );
    drop(server.raw(&head).await);
    // A `HEAD` would break it off before anything of it has been read.
    let came = async || {
        let request = Request::new("GET", &place).token(&token).header("Tus-Resumable", "1.0.0");
        request.send(&server).await.header("upload-offset").to_owned()
    };
    let all = async {
        while came().await != "8" {
            tokio::task::yield_now().await;
        }
    };
    patiently(all).await;
    server.stop();
    let mut server = TestServer::with(setup());
    assert_eq!(offset(&server, &place).await, 8);
    let wrong = patch(&server, "ann", &place, 5, b", world").await;
    assert_eq!((wrong.status, wrong.code()), (409, "offset_mismatch".to_owned()));
    assert_eq!(patch(&server, "bob", &place, 8, b"orld").await.code(), "file_not_found");
    assert_eq!(patch(&server, "ann", &place, 8, b"orld, and more").await.code(), "bad_request");
    let last = patch(&server, "ann", &place, 8, b"orld").await;
    assert_eq!((last.status, last.header("upload-offset")), (204, "12"), "{last:?}");
    assert_eq!(offset(&server, &place).await, 12);
    let got = fetch(&server, "ann", &id).await;
    assert_eq!((got.body.as_slice(), got.header("content-type")), (&b"hello, world"[..], "text/plain; charset=utf-8"));
    assert!(got.header("content-disposition").contains("filename=\"a map.png\""), "{got:?}");
    assert_eq!((incoming(&server), kept(&server)), (0, 1));
    let mut ann = server.client("ann").await;
    ann.ask(attach("lobby", &[&id])).await;
    server.stop();
    let server = TestServer::with(setup());
    assert_eq!(fetch(&server, "ann", &id).await.body, b"hello, world");
    assert_eq!(server.registry.files().unwrap().figures(), (12, 0));
}

#[tokio::test]
async fn an_upload_in_parts_is_a_file_also_when_it_is_broken_off_behind_its_last_byte() {
    let (server, _ann, _bob) = lobby().await;
    let token = server.token("ann");
    for length in [7, 70_000] {
        let content = vec![b'x'; length];
        let place = create(&server, "ann", "lobby", length as u64).await.header("location").to_owned();
        let head = format!(
            "PATCH {place} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nTus-Resumable: 1.0.0\r\n\
             Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\nContent-Length: {}\r\n\r\n",
            length + 1
        );
        let mut begun = server.raw(&head).await;
        begun.write_all(&content).await.unwrap();
        drop(begun);
        let id = place.strip_prefix("/v1/uploads/").unwrap();
        let files = server.registry.files().unwrap();
        eventually("it has come", || files.figures().0 >= length as u64).await;
        let got = fetch(&server, "ann", id).await;
        assert_eq!((got.status, got.body), (200, content));
    }
}

#[tokio::test]
async fn an_upload_in_parts_keeps_to_its_protocol() {
    let server = limited(|files| files.uploads_per_user = 2, |_| {});
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let token = server.token("ann");
    let ask = |method: &str, path: &str| Request::new(method, path).token(&token);
    let plain = ask("POST", "/v1/uploads").header("Upload-Length", "5").send(&server).await;
    assert_eq!((plain.status, plain.code(), plain.header("tus-version")), (412, "tus_version".to_owned(), "1.0.0"));
    let tus = |method: &str, path: &str| ask(method, path).header("Tus-Resumable", "1.0.0");
    for length in ["0", "-1", "x", "", "99999999999999999999999"] {
        let answer = tus("POST", "/v1/uploads").header("Upload-Length", length).send(&server).await;
        assert_eq!(answer.code(), "bad_request", "{length}");
    }
    let large = tus("POST", "/v1/uploads").header("Upload-Length", "99999999999");
    let large = large.header("Upload-Metadata", &metadata("lobby")).send(&server).await;
    assert_eq!(large.code(), "file_too_large");
    assert_eq!(create(&server, "zoe", "lobby", 5).await.code(), "not_member");

    let place = create(&server, "ann", "lobby", 10).await.header("location").to_owned();
    let other = create(&server, "ann", "lobby", 10).await.header("location").to_owned();
    let third = create(&server, "ann", "lobby", 10).await;
    assert_eq!(
        (third.code(), &third.json()["limit"]),
        ("too_many_uploads".to_owned(), &json!("files.uploads_per_user"))
    );
    assert_eq!(upload(&server, "ann", "room=lobby", b"hello").await.code(), "too_many_uploads");
    let given_up = tus("DELETE", &other).send(&server).await;
    assert_eq!(given_up.status, 204);
    assert_eq!(tus("HEAD", &other).send(&server).await.status, 404);
    assert_eq!(upload(&server, "ann", "room=lobby", b"hello").await.status, 201);

    let part = |checksum: &str| {
        let part = tus("PATCH", &place).header("Content-Type", "application/offset+octet-stream");
        part.header("Upload-Offset", "0").header("Upload-Checksum", checksum).body(b"hello").send(&server)
    };
    let wrong = part(&format!("sha256 {}", STANDARD.encode([7; 32]))).await;
    assert_eq!((wrong.status, wrong.header("tus-resumable")), (460, "1.0.0"));
    assert_eq!(offset(&server, &place).await, 0, "what is not what it says is not taken");
    assert_eq!(part("md5 AAAA").await.code(), "bad_request");
    let right = part(&format!("sha1 {}", STANDARD.encode(hex("aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d")))).await;
    assert_eq!((right.status, right.header("upload-offset")), (204, "5"), "{right:?}");
    let typed = tus("PATCH", &place).header("Upload-Offset", "5").body(b"x").send(&server).await;
    assert_eq!((typed.status, typed.code()), (415, "media_type_unsupported".to_owned()));
    for nowhere in ["/v1/uploads/nonsense", "/v1/uploads/0192f0c1-2345-7abc-8def-0000000000f1"] {
        assert_eq!(tus("HEAD", nowhere).send(&server).await.status, 404, "{nowhere}");
    }
}

#[tokio::test]
async fn who_is_removed_reads_no_file_any_more_and_what_is_under_way_is_cut() {
    let (server, mut ann, mut bob) = lobby().await;
    let content: Vec<u8> = (0..16 << 20).map(|index: u32| (index % 251) as u8).collect();
    let id = uploaded(&server, "ann", "room=lobby", &content).await;
    ann.ask(attach("lobby", &[&id])).await;
    assert_eq!(fetch(&server, "bob", &id).await.body, content);

    let request = |user: &str| {
        let token = server.token(user);
        format!("GET /v1/files/{id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n")
    };
    let mut stopped = slow(&server, &request("bob")).await;
    let mut begun = vec![0; 64 * 1024];
    patiently(stopped.read_exact(&mut begun)).await.unwrap();
    ann.ask(kick(&json!("lobby"), "bob")).await;
    let mut rest = Vec::new();
    let ended = patiently(stopped.read_to_end(&mut rest)).await;
    assert!(begun.len() + rest.len() < content.len() / 2, "{} bytes after the kick, then {ended:?}", rest.len());
    assert_eq!(fetch(&server, "bob", &id).await.code(), "file_not_found");
    bob.ask(join("lobby")).await;
    assert_eq!(fetch(&server, "bob", &id).await.status, 200);
    ann.ask(json!({ "type": "ban", "room": "lobby", "user": "bob" })).await;
    assert_eq!(fetch(&server, "bob", &id).await.code(), "file_not_found");
}

#[tokio::test]
async fn who_reads_a_room_from_the_join_on_reads_no_file_of_before() {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    ann.ask(json!({ "type": "update", "room": "lobby", "history": "join" })).await;
    let id = uploaded(&server, "ann", "room=lobby", b"hello").await;
    ann.ask(attach("lobby", &[&id])).await;
    bob.ask(join("lobby")).await;
    assert_eq!(fetch(&server, "bob", &id).await.code(), "file_not_found");
    ann.ask(attach("lobby", &[&id])).await;
    assert_eq!(fetch(&server, "bob", &id).await.status, 200);
}

#[tokio::test]
async fn a_link_shows_a_file_without_a_header_for_as_long_as_its_maker_may_read_it() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = TestServer::with(Setup { clock: Arc::clone(&clock) as _, ..Setup::default() });
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    let id = uploaded(&server, "ann", "room=lobby", PNG).await;
    ann.ask(attach("lobby", &[&id])).await;
    let ask =
        |user: &str| Request::new("GET", &format!("/v1/files/{id}/link")).token(&server.token(user)).send(&server);
    assert_eq!(ask("zoe").await.code(), "file_not_found");
    let link = ask("bob").await.json();
    let path = link["path"].as_str().unwrap().to_owned();
    for _ in 0..2 {
        let shown = open_link(&server, &path).await;
        assert_eq!((shown.status, shown.body.as_slice()), (200, PNG));
        assert_eq!(shown.header("cross-origin-resource-policy"), "cross-origin");
    }
    let other = uploaded(&server, "ann", "room=lobby", b"other").await;
    for bad in [path.replace(&id, &other), format!("/v1/files/{id}?link="), format!("{path}x")] {
        assert_eq!(open_link(&server, &bad).await.code(), "link_invalid", "{bad}");
    }
    ann.ask(kick(&json!("lobby"), "bob")).await;
    assert_eq!(open_link(&server, &path).await.code(), "file_not_found");
    bob.ask(join("lobby")).await;
    assert_eq!(open_link(&server, &path).await.status, 200);
    clock.advance(Duration::from_secs(5 * 60));
    assert_eq!(open_link(&server, &path).await.code(), "link_invalid");
}

#[tokio::test]
async fn a_file_that_nothing_refers_to_is_collected_after_its_time_and_no_sooner() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let keep = Duration::from_secs(10 * 60);
    let mut limits = Limits::lifted();
    (limits.files.keep_unreferenced, limits.files.keep_unfinished) = (keep, keep);
    let server = TestServer::with(Setup { clock: Arc::clone(&clock) as _, limits, ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    ann.ask(create_channel("attic")).await;
    let attached = uploaded(&server, "ann", "room=lobby", b"attached").await;
    let forwarded = uploaded(&server, "ann", "room=lobby", b"forwarded").await;
    let loose = uploaded(&server, "ann", "room=lobby", b"loose").await;
    let twin = uploaded(&server, "ann", "room=lobby", b"loose").await;
    let first = ann.ask(attach("lobby", &[&attached, &forwarded])).await["record"].clone();
    let second = ann.ask(attach("lobby", &[&forwarded, &twin])).await["record"].clone();
    let moved = json!({ "type": "post", "room": "attic", "forward": { "room": "lobby", "message": second } });
    let moved = ann.ask(moved).await["record"].clone();
    ann.ask(json!({ "type": "follow", "room": "attic", "from": "start" })).await;
    let shown = loop {
        let record = ann.record().await;
        if record["event"] == "message_posted" {
            break record;
        }
    };
    assert_eq!(shown["attachments"].as_array().unwrap().len(), 2, "{shown}");
    ann.ask(json!({ "type": "archive", "room": "attic" })).await;
    let place = create(&server, "ann", "lobby", 100).await.header("location").to_owned();
    assert_eq!(kept(&server), 3);

    assert_eq!(collect(&server).await, Collected::default());
    clock.advance(keep);
    assert_eq!(patch(&server, "ann", &place, 0, b"").await.status, 204, "nothing of it came");
    // The upload that does not go on, too; what has the same content stays.
    assert_eq!(collect(&server).await, Collected { files: 1, uploads: 1, ..Collected::default() });
    assert_eq!((fetch(&server, "ann", &loose).await.status, fetch(&server, "ann", &twin).await.status), (404, 200));
    assert_eq!(kept(&server), 3);
    for message in [&first, &second] {
        ann.ask(json!({ "type": "delete", "room": "lobby", "message": message })).await;
    }
    // From now on nothing refers to the first, and its time begins. The others are in an archived room.
    assert_eq!(collect(&server).await, Collected::default());
    assert_eq!(fetch(&server, "ann", &attached).await.status, 200);
    clock.advance(keep - Duration::from_millis(1));
    assert_eq!(collect(&server).await, Collected::default());
    clock.advance(Duration::from_millis(1));
    assert_eq!(collect(&server).await, Collected { files: 1, ..Collected::default() });
    assert_eq!(fetch(&server, "ann", &attached).await.code(), "file_not_found");
    assert_eq!(fetch(&server, "ann", &forwarded).await.body, b"forwarded");
    assert_eq!(kept(&server), 2);
    let figures = server.registry.files().unwrap().figures();
    assert_eq!(figures.0, (b"forwarded".len() + b"loose".len()) as u64);
    assert_ne!(moved, Value::Null);
}

#[tokio::test]
async fn who_comes_back_goes_on_with_an_upload_although_the_connection_of_before_is_there() {
    let (server, _ann, _bob) = lobby().await;
    let place = create(&server, "ann", "lobby", 10).await.header("location").to_owned();
    let token = server.token("ann");
    let head = format!(
        "PATCH {place} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nTus-Resumable: 1.0.0\r\n\
         Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\nContent-Length: 10\r\n\r\nhel"
    );
    let mut before = server.raw(&head).await;
    let came = |method: &str| Request::new(method, &place).token(&token).header("Tus-Resumable", "1.0.0").send(&server);
    eventually("it comes in", || server.registry.files().unwrap().figures().1 == 1).await;
    assert_eq!(came("GET").await.header("upload-offset"), "0", "it is left alone");
    assert_eq!(came("HEAD").await.header("upload-offset"), "3");
    assert_eq!(next_code(&mut before).await, "busy");
    let mut before = server.raw(&head.replace("Offset: 0", "Offset: 3").replace("hel", "lo")).await;
    eventually("it comes in", || server.registry.files().unwrap().figures().1 == 1).await;
    // It does not know that more has come.
    assert_eq!(patch(&server, "ann", &place, 3, b"lo").await.code(), "offset_mismatch");
    assert_eq!(next_code(&mut before).await, "busy");
    assert_eq!(patch(&server, "ann", &place, 5, b", you").await.status, 204);
    let got = fetch(&server, "ann", place.strip_prefix("/v1/uploads/").unwrap()).await;
    assert_eq!(got.body, b"hello, you");
}

#[tokio::test]
async fn an_avatar_stays_while_something_says_that_it_is_one() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let mut limits = Limits::lifted();
    limits.files.keep_unreferenced = Duration::from_secs(60);
    let server = TestServer::with(Setup { clock: Arc::clone(&clock) as _, limits, ..Setup::default() });
    server.client("ann").await.ask(create_channel("lobby")).await;
    let (worn, old) = (picture(&server, 1).await, picture(&server, 2).await);
    let document = uploaded(&server, "ann", "room=lobby", b"no picture").await;
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    let wear = |file: &str| json!({ "type": "profile_update", "avatar": format!("/v1/files/{file}") });
    for (client, other) in [(&mut bob, &worn), (&mut ann, &document)] {
        assert_eq!(client.refused(wear(other)).await, "file_not_found");
    }
    let shown = ann.ask(wear(&worn)).await["avatar"].clone();
    assert_eq!(bob.ask(json!({ "type": "users", "users": ["ann"] })).await["users"][0]["avatar"], shown);
    assert_eq!(fetch(&server, "bob", shown.as_str().unwrap().strip_prefix("/v1/files/").unwrap()).await.status, 200);
    clock.advance(Duration::from_secs(60));
    assert_eq!(collect(&server).await.files, 2);
    assert_eq!((fetch(&server, "bob", &worn).await.status, fetch(&server, "bob", &old).await.status), (200, 404));
    let another = picture(&server, 3).await;
    ann.ask(wear(&another)).await;
    assert_eq!(collect(&server).await.files, 0);
    clock.advance(Duration::from_secs(60));
    assert_eq!(collect(&server).await.files, 1);
    assert_eq!((fetch(&server, "bob", &worn).await.status, fetch(&server, "bob", &another).await.status), (404, 200));
}

#[tokio::test]
async fn so_many_uploads_come_in_at_once_and_none_on_a_full_disk() {
    let store = MemoryStore::new();
    let faults = store.faults();
    let mut limits = Limits::lifted();
    limits.files.uploads = 1;
    let server = TestServer::with(Setup { store: Arc::new(store), limits, ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let place = create(&server, "ann", "lobby", 5).await.header("location").to_owned();
    let token = server.token("ann");
    let head = format!(
        "POST /v1/files?room=lobby HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 5\r\n\r\nhel"
    );
    let begun = server.raw(&head).await;
    let coming = || server.registry.files().unwrap().figures().1;
    eventually("it comes in", || coming() == 1).await;
    let beyond = upload(&server, "ann", "room=lobby", b"hello").await;
    assert_eq!((beyond.code(), &beyond.json()["limit"]), ("too_many_uploads".to_owned(), &json!("files.uploads")));
    assert_eq!(patch(&server, "ann", &place, 0, b"hello").await.code(), "too_many_uploads");
    drop(begun);
    eventually("it has gone", || coming() == 0).await;
    faults.fill();
    assert_eq!(upload(&server, "ann", "room=lobby", b"hello").await.code(), "storage_full");
    assert_eq!(create(&server, "ann", "lobby", 5).await.code(), "storage_full");
    assert_eq!(patch(&server, "ann", &place, 0, b"hello").await.code(), "storage_full");
    faults.clear();
    assert_eq!(upload(&server, "ann", "room=lobby", b"hello").await.status, 201);
    assert_eq!(patch(&server, "ann", &place, 0, b"hello").await.status, 204);
}

#[tokio::test]
async fn space_that_an_upload_has_announced_is_given_to_nobody_else() {
    let free = Arc::new(AtomicU64::new(100));
    let figure = Arc::clone(&free);
    let server =
        TestServer::with(Setup { free: Some(Arc::new(move || figure.load(Ordering::SeqCst))), ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let mut begun = server.raw(&upload_head(&server.token("ann"), "Content-Length: 60")).await;
    let coming = || server.registry.files().unwrap().figures().1;
    eventually("it comes in", || coming() == 1).await;
    let full = upload(&server, "ann", "room=lobby", &[7; 60]).await;
    assert_eq!(full.code(), "storage_full", "sixty bytes are on their way, and a hundred are free");
    assert_eq!(create(&server, "ann", "lobby", 60).await.code(), "storage_full");
    assert_eq!(upload(&server, "ann", "room=lobby", &[7; 40]).await.status, 201);
    // Nothing is kept for what may never come.
    let place = create(&server, "ann", "lobby", 40).await.header("location").to_owned();
    assert_eq!(upload(&server, "ann", "room=lobby", &[8; 40]).await.status, 201);
    begun.write_all(&[7; 60]).await.unwrap();
    assert_eq!(next_answer(&mut begun).await.status, 201);
    eventually("it is there", || coming() == 0).await;
    assert_eq!(patch(&server, "ann", &place, 0, &[9; 40]).await.status, 204);
    for size in [101, 100] {
        let answer = upload(&server, "ann", "room=lobby", &vec![1; size]).await;
        assert_eq!(answer.status, if size > 100 { 507 } else { 201 }, "nothing is reserved any more");
    }
    free.store(59, Ordering::SeqCst);
    let broken_off = server.raw(&upload_head(&server.token("ann"), "Content-Length: 50")).await;
    eventually("it comes in", || coming() == 1).await;
    drop(broken_off);
    eventually("it has gone", || coming() == 0).await;
    assert_eq!(upload(&server, "ann", "room=lobby", &[2; 59]).await.status, 201);
}

#[tokio::test]
async fn an_upload_that_the_disk_has_no_room_for_leaves_nothing_behind() {
    let free = Arc::new(AtomicU64::new(1 << 20));
    let figure = Arc::clone(&free);
    let server =
        TestServer::with(Setup { free: Some(Arc::new(move || figure.load(Ordering::SeqCst))), ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let head = upload_head(&server.token("ann"), "Transfer-Encoding: chunked");
    let mut begun = server.raw(&head).await;
    // As much as is written at once.
    let piece = [b"10000\r\n", &[7; 0x10000][..], b"\r\n"].concat();
    begun.write_all(&piece).await.unwrap();
    let folder = server.files.path().join("files/incoming");
    let came = || fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum::<u64>();
    eventually("some of it has come", || came() == 0x10000).await;
    free.store(0, Ordering::SeqCst);
    begun.write_all(&piece).await.unwrap();
    assert_eq!(next_code(&mut begun).await, "storage_full");
    eventually("nothing is left of it", || incoming(&server) == 0).await;
    ann.ask(post("lobby", "the log goes on")).await;
    free.store(1 << 20, Ordering::SeqCst);
    assert_eq!(upload(&server, "ann", "room=lobby", b"hello").await.status, 201);
}

#[tokio::test]
async fn no_tenant_takes_the_places_of_the_others() {
    let mut limits = Limits::lifted();
    limits.files.uploads = 4;
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    server.client("ann").await.ask(create_channel("lobby")).await;
    let zoe = server.token_in("other", "zoe", Duration::from_secs(60));
    server.client_with(&zoe, Some("chinwag.v1.json")).await.ask(create_channel("lobby")).await;
    let ann = server.token("ann");
    let head = |token: &str| upload_head(token, "Content-Length: 5");
    let coming = || server.registry.files().unwrap().figures().1;
    let (_first, _second) = (server.raw(&head(&ann)).await, server.raw(&head(&ann)).await);
    eventually("who is alone has more than a quarter", || coming() == 2).await;
    let _others = server.raw(&head(&zoe)).await;
    eventually("there is a place for another", || coming() == 3).await;
    let beyond = upload(&server, "ann", "room=lobby", b"hello").await;
    assert_eq!((beyond.code(), &beyond.json()["limit"]), ("too_many_uploads".to_owned(), &json!("files.uploads")));
}

#[tokio::test]
async fn uploads_whose_answers_were_lost_lock_nobody_out() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let mut limits = Limits::lifted();
    limits.files.uploads_per_user = 2;
    let server = TestServer::with(Setup { clock: Arc::clone(&clock) as _, limits, ..Setup::default() });
    server.client("ann").await.ask(create_channel("lobby")).await;
    let begun = create(&server, "ann", "lobby", 10).await.header("location").to_owned();
    assert_eq!(patch(&server, "ann", &begun, 0, b"hello").await.status, 204);
    let lost = create(&server, "ann", "lobby", 10).await.header("location").to_owned();
    clock.advance(Duration::from_secs(59));
    assert_eq!(create(&server, "ann", "lobby", 10).await.code(), "too_many_uploads", "it may be about to begin");
    clock.advance(Duration::from_secs(1));
    let another = create(&server, "ann", "lobby", 10).await;
    assert_eq!(another.status, 201);
    assert_eq!(patch(&server, "ann", &lost, 0, b"hello").await.code(), "file_not_found");
    assert_eq!(patch(&server, "ann", &begun, 5, b"hello").await.status, 204);
    // The same for an upload in one request.
    create(&server, "ann", "lobby", 10).await;
    clock.advance(Duration::from_secs(60));
    assert_eq!(upload(&server, "ann", "room=lobby", b"hello").await.status, 201);
}

#[tokio::test]
async fn a_round_of_collecting_looks_at_a_bounded_number_of_files() {
    let server = TestServer::start();
    let filed = |number: u128| {
        let file = File {
            id: FileId(Uuid::from_u128(number)),
            tenant: TenantId::default_tenant(),
            owner: UserId::new("ann").unwrap(),
            purpose: Purpose::Avatar,
            hash: Hash([7; 32]),
            size: 1,
            media: MediaType::unknown(),
            name: FileName::unnamed(),
            at: Timestamp(0),
        };
        let value = Some(Filed { file, loose_since: Some(Timestamp(0)) }.encode());
        Put { under: StreamId::Files, key: rows::file(FileId(Uuid::from_u128(number))), value }
    };
    let damaged =
        Put { under: StreamId::Files, key: rows::file(FileId(Uuid::from_u128(0))), value: Some(Bytes::new()) };
    let puts = std::iter::once(damaged).chain((1..=1_030).map(filed)).collect();
    let commit =
        Commit { stream: StreamId::Files, expected: None, records: Vec::new(), puts, erase: Vec::new(), trim: None };
    server.registry.store().commit(commit).await.unwrap();
    // What is damaged is told of, and does not keep the others.
    let files = server.registry.files().unwrap();
    assert!(files.collect(server.registry.limits().files, server.registry.now()).await.is_err());
    let rest = files.collect(server.registry.limits().files, server.registry.now()).await;
    assert_eq!(rest, Ok(Collected { files: 7, ..Collected::default() }));
}

#[tokio::test]
async fn what_comes_and_goes_at_the_same_time_is_whole_while_it_is_there() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let limits = limits::Files { keep_unreferenced: Duration::ZERO, ..server.registry.limits().files };
    let files = Arc::clone(server.registry.files().unwrap());
    let come_and_go = async {
        let (mut attached, mut late) = (0, 0);
        for round in 0..60 {
            let content: &[u8] = if round % 2 == 0 { b"hello" } else { b"hello, you" };
            let id = uploaded(&server, "ann", "room=lobby", content).await;
            let posted = ann.try_ask(attach("lobby", &[&id])).await;
            if posted["ok"] != true {
                assert_eq!(posted["error"]["code"], "file_not_found");
                late += 1;
                continue;
            }
            assert_eq!(fetch(&server, "ann", &id).await.body, content, "in round {round}");
            ann.ask(json!({ "type": "delete", "room": "lobby", "message": posted["record"] })).await;
            attached += 1;
        }
        (attached, late)
    };
    let collect = async {
        loop {
            files.collect(limits, server.registry.now()).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (attached, late) = tokio::select! {
        counts = come_and_go => counts,
        () = collect => unreachable!("it goes on for ever"),
    };
    assert!(attached > 0, "{late} times it was collected first");
    for _ in 0..2 {
        files.collect(limits, server.registry.now()).await.unwrap();
    }
    assert_eq!((kept(&server), files.figures()), (0, (0, 0)));
}

#[tokio::test]
async fn a_file_is_not_collected_while_a_message_with_it_is_on_its_way_to_the_disk() {
    let (store, clock) = (MemoryStore::new(), Arc::new(ManualClock::at(SystemClock.now())));
    let faults = store.faults();
    let mut limits = Limits::lifted();
    limits.files.keep_unreferenced = Duration::from_secs(60);
    let setup = Setup { store: Arc::new(store), clock: Arc::clone(&clock) as _, limits, ..Setup::default() };
    let server = TestServer::with(setup);
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let id = uploaded(&server, "ann", "room=lobby", b"hello").await;
    clock.advance(Duration::from_secs(60));
    faults.hold();
    let posting = ann.send(attach("lobby", &[&id])).await;
    eventually("the message is being written", || faults.held() == 1).await;
    assert_eq!(patiently(collect(&server)).await, Collected::default());
    faults.release();
    assert_eq!(ann.reply(&posting).await["ok"], true);
    assert_eq!(collect(&server).await, Collected::default());
    assert_eq!(fetch(&server, "ann", &id).await.body, b"hello");
}

#[tokio::test]
async fn what_is_being_made_a_file_becomes_one_also_when_nobody_waits_for_it() {
    let store = MemoryStore::new();
    let faults = store.faults();
    let server = TestServer::with(Setup { store: Arc::new(store), ..Setup::default() });
    let (registry, by) = (Arc::clone(&server.registry), principal("ann"));
    let files = registry.files().unwrap();
    let wanted = Wanted { purpose: Purpose::Avatar, name: FileName::unnamed(), size: Some(PNG.len() as u64) };
    let whole = files.begin(&registry, &by, wanted.clone()).await.unwrap();
    let made = files.create(&registry, &by, wanted, PNG.len() as u64).await.unwrap();
    let parts = files.go_on(&registry, &by, made.id, 0).await.unwrap();
    for mut upload in [whole, parts] {
        let id = upload.id();
        upload.write(Bytes::from_static(PNG)).await.unwrap();
        faults.hold();
        let mut finishing = Box::pin(upload.finish(registry.now(), None));
        tokio::select! {
            biased;
            _ = &mut finishing => panic!("the commit is held"),
            () = eventually("it is being committed", || faults.held() == 1) => {}
        }
        drop(finishing);
        faults.release();
        eventually("nobody writes to it", || files.figures().1 == usize::from(id != made.id)).await;
        let got = fetch(&server, "ann", &id.to_string()).await;
        assert_eq!((got.status, got.body.as_slice()), (200, PNG));
        assert_eq!(files.came(&by, id).await.unwrap().at, None);
    }
    assert_eq!((kept(&server), incoming(&server)), (1, 0));
}

#[tokio::test]
async fn what_is_being_acknowledged_is_also_when_nobody_waits_for_it() {
    let store = MemoryStore::new();
    let faults = store.faults();
    let server = TestServer::with(Setup { store: Arc::new(store), ..Setup::default() });
    let (registry, by) = (Arc::clone(&server.registry), principal("ann"));
    let files = registry.files().unwrap();
    let wanted = Wanted { purpose: Purpose::Avatar, name: FileName::unnamed(), size: None };
    let made = files.create(&registry, &by, wanted, 10).await.unwrap();
    let mut upload = files.go_on(&registry, &by, made.id, 0).await.unwrap();
    upload.write(Bytes::from_static(b"hello")).await.unwrap();
    faults.hold();
    tokio::select! {
        biased;
        _ = upload.acknowledge() => panic!("the commit is held"),
        () = eventually("it is being committed", || faults.held() == 1) => {}
    }
    drop(upload);
    let too_early = files.go_on(&registry, &by, made.id, 0).await;
    assert_eq!(too_early.err().map(|refusal| refusal.code()), Some("busy"));
    faults.release();
    files.take_over(&by, made.id).await.unwrap();
    assert_eq!(files.came(&by, made.id).await.unwrap().offset, 5);
}

#[tokio::test]
async fn an_upload_may_take_its_time_as_long_as_it_goes_on() {
    let mut limits = Limits::lifted();
    limits.body_deadline = Duration::from_millis(400);
    limits.request = Duration::from_millis(400);
    limits.answer_timeout = Duration::from_millis(800);
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let (pieces, piece) = (6, vec![7; 64 * 1024]);
    let head = format!(
        "POST /v1/files?room=lobby HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n",
        server.token("ann"),
        pieces * piece.len()
    );
    let began = std::time::Instant::now();
    let mut steady = server.raw(&head).await;
    for _ in 0..pieces {
        tokio::time::sleep(Duration::from_millis(200)).await;
        steady.write_all(&piece).await.unwrap();
    }
    let made = next_answer(&mut steady).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert!(began.elapsed() > Duration::from_secs(1));
    let mut stopped = server.raw(&head).await;
    stopped.write_all(&piece[..100]).await.unwrap();
    assert_eq!(next_code(&mut stopped).await, "body_too_slow");
    eventually("nothing is left of it", || incoming(&server) == 0).await;
    assert_eq!(server.registry.files().unwrap().figures().1, 0);
}

#[tokio::test]
async fn a_transfer_ends_with_the_token_that_it_began_with() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let limits = Limits { sweep: Duration::from_millis(50), ..Limits::lifted() };
    let server = TestServer::with(Setup { clock: Arc::clone(&clock) as _, limits, ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let content = vec![7; 16 << 20];
    let id = uploaded(&server, "ann", "room=lobby", &content).await;
    let get =
        format!("GET /v1/files/{id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", server.token("ann"));
    let mut getting = slow(&server, &get).await;
    patiently(getting.read_exact(&mut [0; 1024])).await.unwrap();
    let token = server.token("ann");
    let post = format!(
        "POST /v1/files?room=lobby HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 200000\r\n\r\n"
    );
    let mut posting = server.raw(&post).await;
    posting.write_all(&[7; 100_000]).await.unwrap();
    eventually("it comes in", || incoming(&server) == 1).await;
    clock.advance(Duration::from_secs(3700));
    posting.write_all(&[7; 99_000]).await.unwrap();
    assert_eq!(next_code(&mut posting).await, "token_expired");
    let mut rest = Vec::new();
    let ended = patiently(getting.read_to_end(&mut rest)).await;
    assert!(rest.len() < content.len() / 2, "{} bytes came, then {ended:?}", rest.len());
    eventually("nothing is left of it", || incoming(&server) == 0).await;
}

#[tokio::test]
async fn what_a_kill_leaves_behind_is_found_and_thrown_away() {
    let (store, files) = (MemoryStore::new(), temporary());
    let setup = || {
        let store = Arc::new(store.in_epoch(MemoryStore::EPOCH));
        Setup { store, files: Arc::clone(&files), ..Setup::default() }
    };
    let mut server = TestServer::with(setup());
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let id = uploaded(&server, "ann", "room=lobby", b"hello").await;
    let folder = server.files.path().join("files");
    server.stop();
    // Committed, and killed before it was put in its place.
    let content = folder.join("content/2c").join(HELLO);
    fs::rename(&content, folder.join("incoming").join(&id)).unwrap();
    // Begun and never committed, and content whose row has been removed.
    fs::write(folder.join("incoming/0192f0c1-2345-7abc-8def-0000000000f1"), b"half").unwrap();
    fs::create_dir_all(folder.join("content/00")).unwrap();
    fs::write(folder.join("content/00").join("00".repeat(32)), b"nobody's").unwrap();
    let server = TestServer::with(setup());
    assert_eq!((incoming(&server), kept(&server)), (0, 2));
    assert_eq!(fetch(&server, "ann", &id).await.body, b"hello");
    let mut leftovers = 0;
    for _ in 0..16 {
        leftovers += collect(&server).await.leftovers;
    }
    assert_eq!((leftovers, kept(&server)), (1, 1));
    assert_eq!(fetch(&server, "ann", &id).await.body, b"hello");
}

async fn lobby() -> (TestServer, Client, Client) {
    let server = TestServer::start();
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    ann.ask(create_channel("lobby")).await;
    bob.ask(join("lobby")).await;
    (server, ann, bob)
}

fn limited(files: impl FnOnce(&mut limits::Files), tenant: impl FnOnce(&mut limits::TenantLimits)) -> TestServer {
    let mut limits = Limits { sweep: Duration::from_millis(50), ..Limits::lifted() };
    files(&mut limits.files);
    tenant(&mut limits.tenant);
    TestServer::with(Setup { limits, ..Setup::default() })
}

async fn upload(server: &TestServer, user: &str, query: &str, content: &[u8]) -> Answer {
    let request = Request::new("POST", &format!("/v1/files?{query}")).token(&server.token(user));
    request.body(content).send(server).await
}

pub async fn uploaded(server: &TestServer, user: &str, query: &str, content: &[u8]) -> String {
    let answer = upload(server, user, query, content).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn fetch(server: &TestServer, user: &str, id: &str) -> Answer {
    Request::new("GET", &format!("/v1/files/{id}")).token(&server.token(user)).send(server).await
}

async fn picture(server: &TestServer, number: u8) -> String {
    uploaded(server, "ann", "purpose=avatar", &[PNG, &[number]].concat()).await
}

async fn open_link(server: &TestServer, path: &str) -> Answer {
    Request::new("GET", path).send(server).await
}

pub fn principal(user: &str) -> Principal {
    Principal {
        tenant: TenantId::default_tenant(),
        user: UserId::new(user).unwrap(),
        token: None,
        login: None,
        issued_at: Timestamp(0),
        expires_at: Timestamp(i64::MAX),
    }
}

fn attach(room: &str, files: &[&str]) -> Value {
    json!({ "type": "post", "room": room, "attachments": files })
}

/// The head of an upload in one request, of which nothing has been sent yet.
fn upload_head(token: &str, length: &str) -> String {
    format!("POST /v1/files?room=lobby HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{length}\r\n\r\n")
}

fn metadata(room: &str) -> String {
    format!("room {}, filename {}, filetype aW1hZ2UvcG5n", STANDARD.encode(room), STANDARD.encode("a map.png"))
}

async fn create(server: &TestServer, user: &str, room: &str, size: u64) -> Answer {
    let request = Request::new("POST", "/v1/uploads").token(&server.token(user)).header("Tus-Resumable", "1.0.0");
    let request = request.header("Upload-Length", &size.to_string()).header("Upload-Metadata", &metadata(room));
    request.send(server).await
}

async fn patch(server: &TestServer, user: &str, place: &str, offset: u64, part: &[u8]) -> Answer {
    let request = Request::new("PATCH", place).token(&server.token(user)).header("Tus-Resumable", "1.0.0");
    let request = request.header("Content-Type", "application/offset+octet-stream");
    request.header("Upload-Offset", &offset.to_string()).body(part).send(server).await
}

async fn offset(server: &TestServer, place: &str) -> u64 {
    let request = Request::new("HEAD", place).token(&server.token("ann")).header("Tus-Resumable", "1.0.0");
    let answer = request.send(server).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"), "{answer:?}");
    answer.header("upload-offset").parse().unwrap()
}

async fn collect(server: &TestServer) -> Collected {
    let limits = server.registry.limits().files;
    server.registry.files().unwrap().collect(limits, server.registry.now()).await.unwrap()
}

/// The code of the next answer on a connection that stays open.
async fn next_code(stream: &mut TcpStream) -> String {
    next_answer(stream).await.code()
}

/// The next answer in JSON on a connection that stays open.
async fn next_answer(stream: &mut TcpStream) -> Answer {
    let mut answer = Vec::new();
    while Answer::parse(&answer).is_none_or(|answer| serde_json::from_slice::<Value>(&answer.body).is_err()) {
        let mut more = [0; 4096];
        let read = patiently(stream.read(&mut more)).await.expect("an answer");
        assert_ne!(read, 0, "{}", answer.escape_ascii());
        answer.extend_from_slice(&more[..read]);
    }
    Answer::parse(&answer).expect("it is one")
}

/// A connection of which the kernel takes little before it is read.
async fn slow(server: &TestServer, head: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// How many different contents are on disk.
fn kept(server: &TestServer) -> usize {
    let shards = fs::read_dir(server.files.path().join("files/content")).unwrap();
    shards.map(|shard| listed(shard.unwrap().path())).sum()
}

/// Of how many uploads something is on disk.
fn incoming(server: &TestServer) -> usize {
    listed(server.files.path().join("files/incoming"))
}

fn listed(folder: PathBuf) -> usize {
    fs::read_dir(folder).unwrap().count()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
