//! What the requests about accounts, invites and bans get for input that is wrong or hostile, comes twice or too late.

use chinwag::http::routes::{self, Route, Serves};
use serde_json::{Value, json};

use crate::accounts::{PASSWORD, log_in, open, owner, refused, register, send, text};
use crate::harness::{PATIENCE, TestServer, patiently};

/// Of a request: what is sent, and the code of the answer; `None` where it is carried out.
type Row<'a> = (&'a str, &'a str, Value, Option<&'a str>);

#[tokio::test]
async fn every_body_that_is_none_is_refused_before_anything_is_done() {
    let server = open();
    let owner = owner(&server).await;
    let large = format!(r#"{{"name":"{}"}}"#, "a".repeat(9 * 1024));
    let mut walked = 0;
    for route in routes::all().filter(|route| matches!(route.serves, Serves::Accounts(_))) {
        let Some(body) = route.body else {
            let (_, code) = raw(&server, route, &owner, "application/json", b"{}".to_vec()).await;
            assert!(route.verb == routes::Verb::Get || code == "bad_request", "{} {code}", route.path);
            continue;
        };
        walked += 1;
        let twice = format!("{},{}", body.example.strip_suffix('}').unwrap(), &body.example[1..]);
        for (sent, expected) in [
            (large.as_bytes(), "body_too_large"),
            (b"", "bad_request"),
            (b"{", "bad_request"),
            (b"[]", "bad_request"),
            (b"7", "bad_request"),
            (b"null", "bad_request"),
            (b"\"text\"", "bad_request"),
            (b"{\"name\":\"\xff\xfe\"}", "bad_request"),
            (b"{\"name\":\"\xed\xa0\x80\"}", "bad_request"),
            (twice.as_bytes(), "bad_request"),
            (b"{} {}", "bad_request"),
        ] {
            let (status, code) = raw(&server, route, &owner, "application/json", sent.to_vec()).await;
            let shown = String::from_utf8_lossy(&sent[..sent.len().min(60)]).into_owned();
            assert_eq!(code, expected, "{:?} {} {shown} was answered {status}", route.verb, route.path);
        }
        let (_, code) = raw(&server, route, &owner, "text/plain", body.example.into()).await;
        assert_eq!(code, "media_type_unsupported", "{}", route.path);
    }
    assert_eq!(walked, 9, "a route whose body is not looked at");
    assert_eq!(send(&server, "GET", "/v1/accounts", Some(&owner), &Value::Null).await.1["accounts"][1], Value::Null);
}

#[tokio::test]
async fn what_is_not_of_its_form_is_refused_and_the_same_again_is_told_apart() {
    let server = open();
    let (owner, _) = (owner(&server).await, register(&server, "ann").await);
    let (_, invite) = send(&server, "POST", "/v1/invites", Some(&owner), &json!({})).await;
    let taken_back = format!("/v1/invites/{}", text(&invite["invite"]));
    let with = |name: &str, more: Value| {
        let mut body = json!({ "name": name, "password": PASSWORD });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let long = "n".repeat(129);
    let bad = Some("bad_request");
    let rows: Vec<Row> = vec![
        ("POST", "/v1/accounts", with("a b", json!({})), bad),
        ("POST", "/v1/accounts", with("", json!({})), bad),
        ("POST", "/v1/accounts", with("an\u{0}n", json!({})), bad),
        ("POST", "/v1/accounts", with("an\u{202e}n", json!({})), bad),
        ("POST", "/v1/accounts", with(&long, json!({})), bad),
        ("POST", "/v1/accounts", with("bob", json!({ "device": "x\ny" })), bad),
        ("POST", "/v1/accounts", with("bob", json!({ "device": "x".repeat(201) })), bad),
        ("POST", "/v1/accounts", with("bob", json!({ "tenant": "a/b" })), bad),
        ("POST", "/v1/accounts", with("bob", json!({ "invite": 7 })), bad),
        ("POST", "/v1/accounts", with("bob", json!({ "invite": "\u{202e}" })), Some("invite_invalid")),
        ("POST", "/v1/accounts", json!({ "name": "bob", "password": ["x"] }), bad),
        ("POST", "/v1/accounts", json!({ "name": "bob", "password": "x".repeat(1025) }), Some("password_refused")),
        ("POST", "/v1/accounts", with("ann", json!({})), Some("name_taken")),
        ("POST", "/v1/logins", with("ann", json!({ "password": 7 })), bad),
        ("POST", "/v1/logins", with("an\u{0}n", json!({})), bad),
        ("POST", "/v1/logins", with("ann", json!({ "password": "\u{0}\u{202e}" })), Some("login_failed")),
        ("POST", "/v1/logins", with("ann", json!({ "device": "" })), bad),
        ("POST", "/v1/logins/refresh", json!({ "refresh": null }), bad),
        ("POST", "/v1/logins/refresh", json!({ "refresh": "\u{202e}" }), Some("refresh_invalid")),
        ("POST", "/v1/logins/refresh", json!({ "refresh": "A".repeat(4096) }), Some("refresh_invalid")),
        ("POST", "/v1/resets", with("ann", json!({ "code": 7 })), bad),
        ("POST", "/v1/resets", with("ann", json!({ "code": "\u{0}\u{202e}".repeat(100) })), Some("code_invalid")),
        ("POST", "/v1/resets/codes", json!({ "name": "an\u{202e}n" }), bad),
        ("POST", "/v1/resets/codes", json!({ "name": ["ann"] }), bad),
        ("GET", "/v1/accounts?limit=0", Value::Null, bad),
        ("GET", "/v1/accounts?limit=101", Value::Null, bad),
        ("GET", "/v1/accounts?limit=-1", Value::Null, bad),
        ("GET", "/v1/accounts?limit=1&limit=2", Value::Null, bad),
        ("GET", "/v1/accounts?after=a%20b", Value::Null, bad),
        ("GET", "/v1/accounts?after=%ff", Value::Null, bad),
        ("PATCH", "/v1/accounts/a%20b", json!({ "rank": "admin" }), bad),
        ("PATCH", "/v1/accounts/%E2%80%AEann", json!({ "rank": "admin" }), bad),
        ("PATCH", "/v1/accounts/%ff", json!({ "rank": "admin" }), bad),
        ("PATCH", "/v1/accounts/nobody", json!({ "rank": "admin" }), Some("account_not_found")),
        ("PATCH", "/v1/accounts/ann", json!({ "rank": "king" }), bad),
        ("PATCH", "/v1/accounts/ann", json!({ "disabled": "yes" }), bad),
        ("PATCH", "/v1/accounts/ann", json!({ "rank": "admin" }), None),
        ("PATCH", "/v1/accounts/ann", json!({ "rank": "admin" }), None),
        ("PATCH", "/v1/accounts/ann", json!({ "rank": "member" }), None),
        ("POST", "/v1/accounts/nobody/reset", Value::Null, Some("account_not_found")),
        ("POST", "/v1/accounts/an%00n/reset", Value::Null, bad),
        ("DELETE", "/v1/me/logins/7", Value::Null, bad),
        ("DELETE", "/v1/me/logins/00000000-0000-0000-0000-000000000000", Value::Null, Some("login_not_found")),
        ("PUT", "/v1/me/password", json!({ "password": PASSWORD }), bad),
        ("PUT", "/v1/me/password", json!({ "password": PASSWORD, "new_password": 7 }), bad),
        ("PUT", "/v1/me/password", json!({ "password": PASSWORD, "new_password": "short" }), Some("password_refused")),
        ("POST", "/v1/invites", json!({ "rank": "king" }), bad),
        ("POST", "/v1/invites", json!({ "uses": -1 }), bad),
        ("POST", "/v1/invites", json!({ "uses": 1.5 }), bad),
        ("POST", "/v1/invites", json!({ "life_ms": "7" }), bad),
        ("DELETE", "/v1/invites/7", Value::Null, bad),
        ("DELETE", &taken_back, Value::Null, None),
        ("DELETE", &taken_back, Value::Null, Some("invite_not_found")),
        ("POST", "/v1/bans", json!({}), bad),
        ("POST", "/v1/bans", json!({ "user": "a b" }), bad),
        ("POST", "/v1/bans", json!({ "user": "an\u{0}n" }), bad),
        ("POST", "/v1/bans", json!({ "user": "\u{202e}ann" }), bad),
        ("POST", "/v1/bans", json!({ "user": long }), bad),
        ("POST", "/v1/bans", json!({ "user": ["ann"] }), bad),
        ("POST", "/v1/bans", json!({ "user": "ann", "until": "tomorrow" }), bad),
        ("POST", "/v1/bans", json!({ "user": "ann", "until": 1.5 }), bad),
        ("POST", "/v1/bans", json!({ "user": "ann", "until": 1e30 }), bad),
        ("POST", "/v1/bans", json!({ "user": "ann", "until": i64::MIN }), Some("ends_too_soon")),
        ("POST", "/v1/bans", json!({ "user": "ann", "reason": "" }), bad),
        ("POST", "/v1/bans", json!({ "user": "ann", "reason": "x\u{0}" }), bad),
        ("POST", "/v1/bans", json!({ "user": "ann", "reason": "x\ny" }), bad),
        ("POST", "/v1/bans", json!({ "user": "ann", "reason": "r".repeat(201) }), bad),
        ("DELETE", "/v1/bans/ann", Value::Null, Some("ban_not_found")),
        ("POST", "/v1/bans", json!({ "user": "ann", "until": i64::MAX }), None),
        ("POST", "/v1/bans", json!({ "user": "ann", "reason": "again" }), None),
        ("DELETE", "/v1/bans/ann", Value::Null, None),
        ("DELETE", "/v1/bans/ann", Value::Null, Some("ban_not_found")),
        ("DELETE", "/v1/bans/a%20b", Value::Null, bad),
        ("DELETE", "/v1/bans/%ff", Value::Null, bad),
        ("GET", "/v1/bans?limit=0", Value::Null, bad),
        ("GET", "/v1/bans?limit=101", Value::Null, bad),
        ("GET", "/v1/bans?after=%E2%80%AE", Value::Null, bad),
        ("GET", "/v1/bans?limit=x", Value::Null, bad),
    ];
    for (method, path, body, code) in rows {
        let (status, answer) = send(&server, method, path, Some(&owner), &body).await;
        match code {
            Some(code) => assert_eq!(answer["code"], code, "{method} {path} {body} was answered {status} {answer}"),
            None => assert!(status < 300, "{method} {path} {body} was answered {status} {answer}"),
        }
    }
    log_in(&server, "ann", PASSWORD).await;
    refused(&server, "POST", "/v1/bans", None, &json!({ "user": "ann" }), "unauthenticated").await;
}

/// The status and the code of what is answered to `body`; of somebody who may do it.
async fn raw(server: &TestServer, route: &Route, by: &Value, kind: &str, body: Vec<u8>) -> (u16, String) {
    let path = route.path.replace("{user}", "nobody").replace("{login}", "00000000-0000-0000-0000-000000000000");
    let path = path.replace("{invite}", "00000000-0000-0000-0000-000000000000");
    let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
    let request =
        client.request(route.verb.method().as_str().parse().unwrap(), format!("http://{}{path}", server.address));
    let token = if route.needs_token() { Some(text(&by["token"])) } else { None };
    let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
    let answer = patiently(request.header("content-type", kind).body(body).send()).await.unwrap();
    let (status, body) = (answer.status().as_u16(), answer.text().await.unwrap());
    let problem: Value = serde_json::from_str(&body).unwrap_or_default();
    (status, problem["code"].as_str().unwrap_or_default().to_owned())
}
