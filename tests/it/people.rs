//! Users of StaticBackend's clients: who register with an address for mail and share an account.

use chinwag::actors::accounts::Options;
use chinwag::domain::account::Registration;
use serde_json::{Value, json};

use crate::harness::{Setup, TestServer, patiently};
use crate::support::listeners::{Answer, Http};

#[tokio::test]
async fn who_registers_has_an_account_of_its_own_and_adds_others_to_it() {
    let server = open_to(Registration::Open);
    let ann = registered(&server, "Ann@example.org").await;
    let me = ask(&server, "GET", "/me", &ann, None).await.ok();
    assert_eq!((&me["email"], &me["role"]), (&json!("ann@example.org"), &json!(50)));
    let bob = json!({"email": "bob@example.org", "password": "a long password"});
    let added = ask(&server, "POST", "/account/users", &ann, Some(&bob)).await.ok();
    assert_eq!((&added["accountId"], &added["role"]), (&me["accountId"], &json!(0)));
    let mates = ask(&server, "GET", "/account/users", &ann, None).await.ok();
    let mails: Vec<_> = mates.as_array().unwrap().iter().map(|mate| mate["email"].as_str().unwrap()).collect();
    assert!(mails.len() == 2 && mails.contains(&"ann@example.org") && mails.contains(&"bob@example.org"), "{mails:?}");
    let bob: String = serde_json::from_value(ask(&server, "POST", "/login", "", Some(&bob)).await.ok()).unwrap();
    let cas = json!({"email": "cas@example.org", "password": "a long password"});
    assert_eq!(ask(&server, "POST", "/account/users", &bob, Some(&cas)).await.status, 403, "who was added adds nobody");
    let other = registered(&server, "zoe@example.org").await;
    let theirs = ask(&server, "GET", "/account/users", &other, None).await.ok();
    assert_eq!(theirs.as_array().unwrap().len(), 1, "nobody of another account");
}

#[tokio::test]
async fn what_is_refused_is_so_in_the_words_of_the_original() {
    let server = open_to(Registration::Open);
    registered(&server, "ann@example.org").await;
    let body = |mail: &str, password: &str| json!({"email": mail, "password": password});
    let cases = [
        ("/register", body("ANN@example.org", "another password"), 500, "invalid email"),
        ("/register", body("no address", "a long password"), 400, "invalid email"),
        ("/login", body("ann@example.org", "another password"), 401, "invalid email/password"),
        ("/login", body("nobody@example.org", "a long password"), 401, "invalid email/password"),
        ("/login", json!({"email": 7}), 400, "invalid body"),
    ];
    for (path, body, status, text) in cases {
        let answer = ask(&server, "POST", path, "", Some(&body)).await;
        assert_eq!((answer.status, &*answer.body), (status, text), "{path} {body}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    assert_eq!(ask(&server, "GET", "/me", "", None).await.body, "missing authorization HTTP header");
    assert_eq!(ask(&server, "GET", "/email?e=Ann@Example.org", "", None).await.ok(), json!(true));
    assert_eq!(ask(&server, "GET", "/email?e=bob@example.org", "", None).await.ok(), json!(false));
}

#[tokio::test]
async fn nobody_registers_where_that_is_for_the_invited() {
    let server = open_to(Registration::Invited);
    let body = json!({"email": "ann@example.org", "password": "a long password"});
    let answer = ask(&server, "POST", "/register", "", Some(&body)).await;
    assert!(answer.status == 403 && answer.body.starts_with("registration_closed"), "{answer:?}");
    assert_eq!(ask(&server, "GET", "/email?e=ann@example.org", "", None).await.ok(), json!(false));
}

fn open_to(registration: Registration) -> TestServer {
    TestServer::with(Setup { accounts: Options { registration, ..Options::default() }, ..Setup::default() })
}

async fn registered(server: &TestServer, mail: &str) -> String {
    let body = json!({"email": mail, "password": "a long password"});
    serde_json::from_value(ask(server, "POST", "/register", "", Some(&body)).await.ok()).unwrap()
}

async fn ask(server: &TestServer, method: &str, path: &str, token: &str, body: Option<&Value>) -> Answer {
    let mut http = Http::connect(server.address, token).await.unwrap();
    if token.is_empty() {
        http.anonymous();
    }
    let key = if path.contains('?') { "&sbpk=pk" } else { "?sbpk=pk" };
    patiently(http.request(method, &format!("/staticbackend{path}{key}"), body)).await.unwrap()
}

#[tokio::test]
async fn who_is_called_as_an_account_is_not_of_it() {
    let server = open_to(Registration::Open);
    let ann = registered(&server, "ann@example.org").await;
    let account = ask(&server, "GET", "/me", &ann, None).await.ok()["accountId"].as_str().unwrap().to_owned();
    let created = ask(&server, "POST", "/db/tasks_770_", &ann, Some(&json!({"name": "ours"}))).await;
    assert_eq!((created.status, &created.json()["accountId"]), (201, &json!(account)));
    let namesake = server.token(&account);
    let found = ask(&server, "GET", "/db/tasks_770_", &namesake, None).await.ok();
    assert_eq!((&found["total"], &found["results"]), (&json!(0), &json!(null)));
}
