//! Commands as plain requests, for who has no WebSocket.

use serde_json::{Value, json};

use super::device::Answer;
use crate::support::listeners::Http;

/// Asks on a connection that is kept; `Gone` when it breaks.
pub async fn ask(http: &mut Http, command: &Value) -> Answer {
    let (method, path) = twin(command);
    let body = match method {
        "GET" => None,
        _ if bodiless(command) => None,
        _ => Some(body(command)),
    };
    let Ok(answer) = http.request(method, &path, body.as_ref()).await else { return Answer::Gone };
    let Ok(value) = serde_json::from_str::<Value>(&answer.body) else { return Answer::Gone };
    if answer.status < 300 {
        return Answer::Done(value);
    }
    let code = value["code"].as_str().unwrap_or_default().to_owned();
    Answer::Refused { code, after: value["retry_after_ms"].as_u64() }
}

/// The request of a command: docs/protocols/native.md, "Commands as requests".
fn twin(command: &Value) -> (&'static str, String) {
    let part = |member: &str| escaped(command[member].as_str().unwrap_or_default());
    let room = part("room");
    let of_user = |list: &str| format!("/v1/rooms/{room}/{list}/{}", part("user"));
    let of_message = |what: &str| format!("/v1/rooms/{room}/messages/{}{what}", part("message"));
    let page = |path: String| match (command["limit"].as_u64(), command["after"].as_str()) {
        (Some(limit), Some(after)) => format!("{path}?limit={limit}&after={}", escaped(after)),
        (Some(limit), None) => format!("{path}?limit={limit}"),
        (None, _) => path,
    };
    match command["type"].as_str().expect("a command has a type") {
        "create" => ("POST", "/v1/rooms".to_owned()),
        "join" => ("POST", format!("/v1/rooms/{room}/join")),
        "leave" => ("POST", format!("/v1/rooms/{room}/leave")),
        "update" => ("PATCH", format!("/v1/rooms/{room}")),
        "invite" => ("PUT", of_user("members")),
        "kick" => ("DELETE", of_user("members")),
        "role" => ("PUT", format!("{}/role", of_user("members"))),
        "rights" => ("PUT", format!("{}/rights", of_user("members"))),
        "rules_update" => ("PATCH", format!("/v1/rooms/{room}/rules")),
        "ban" => ("PUT", of_user("bans")),
        "unban" => ("DELETE", of_user("bans")),
        "mute" => ("PUT", of_user("mutes")),
        "unmute" => ("DELETE", of_user("mutes")),
        "post" => ("POST", format!("/v1/rooms/{room}/messages")),
        "edit" => ("PUT", of_message("")),
        "delete" => ("DELETE", of_message("")),
        "react" => ("PUT", of_message(&format!("/reactions/{}", part("emoji")))),
        "unreact" => ("DELETE", of_message(&format!("/reactions/{}", part("emoji")))),
        "pin" => ("PUT", of_message("/pin")),
        "unpin" => ("DELETE", of_message("/pin")),
        "hide" => ("PUT", of_message("/hidden")),
        "unhide" => ("DELETE", of_message("/hidden")),
        "typing" => ("PUT", format!("/v1/rooms/{room}/typing")),
        "inbox_update" => ("PATCH", format!("/v1/rooms/{room}/inbox")),
        "settings_update" => ("PATCH", "/v1/me/settings".to_owned()),
        "room" => ("GET", format!("/v1/rooms/{room}")),
        "profile_update" => ("PATCH", "/v1/me/profile".to_owned()),
        "users" => {
            let users = command["users"].as_array().into_iter().flatten().filter_map(Value::as_str);
            ("GET", format!("/v1/users?users={}", users.map(escaped).collect::<Vec<_>>().join(",")))
        }
        "members" => ("GET", page(format!("/v1/rooms/{room}/members"))),
        "mutes" => ("GET", page(format!("/v1/rooms/{room}/mutes"))),
        "bans" => ("GET", page(format!("/v1/rooms/{room}/bans"))),
        "hidden" => ("GET", page(format!("/v1/rooms/{room}/hidden"))),
        "presences" => ("GET", page(format!("/v1/rooms/{room}/presence"))),
        "readers" => ("GET", page(of_message("/readers"))),
        "inbox" => ("GET", format!("/v1/inbox?limit=5000&archived={}", command["archived"] == true)),
        "pins" => match command["before"].as_str() {
            Some(before) => ("GET", format!("/v1/rooms/{room}/pins?limit=50&before={}", escaped(before))),
            None => ("GET", format!("/v1/rooms/{room}/pins?limit=50")),
        },
        other => panic!("{other} has no request here"),
    }
}

fn bodiless(command: &Value) -> bool {
    let kind = command["type"].as_str().unwrap_or_default();
    matches!(kind, "join" | "leave" | "react" | "unreact" | "pin" | "unpin" | "hide" | "unhide" | "unban" | "unmute")
}

fn body(command: &Value) -> Value {
    let mut body = command.clone();
    if let Some(members) = body.as_object_mut() {
        for said in ["type", "id", "room", "user", "emoji"] {
            members.remove(said);
        }
        if command["type"] != "post" {
            members.remove("message");
        }
    }
    if body.is_null() { json!({}) } else { body }
}

/// Percent-encoded (RFC 3986, section 2.1).
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
