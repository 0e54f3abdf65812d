//! Conversations: one text file per exchange, held against the dialect alone and against a real server.
//!
//! A line `ann> FRAME` is what ann sends, `ann< FRAME` what comes next for her of that type; `id` is left out. In a frame
//! `"*"` stands for anything, and `"$name"` for a value that has to be the same wherever it stands.

use std::collections::BTreeMap;
use std::fs;

use chinwag::wire::Dialect;
use serde_json::{Map, Value};

use crate::harness::{Client, TestServer};

#[tokio::test]
async fn every_conversation_goes_as_it_is_written() {
    let mut count = 0;
    for (name, text) in files() {
        for subprotocol in ["chinwag.v1.json", "chinwag.v1.msgpack"] {
            play(&name, &text, subprotocol).await;
            count += 1;
        }
    }
    assert!(count >= 6, "only {count}");
}

#[test]
fn every_command_of_a_conversation_is_understood_by_the_dialect_alone() {
    for (name, text) in files() {
        for (who, sends, frame) in lines(&text).filter(|(_, sends, _)| *sends) {
            let mut frame = frame.clone();
            frame["id"] = "1".into();
            let nil = uuid::Uuid::nil().to_string();
            fill(&mut frame, &|_| Value::String(nil.clone()));
            let decoded = Dialect::NativeJson.decode(frame.to_string().as_bytes());
            assert!(decoded.is_ok() && sends, "{name}, {who}: {frame} is {decoded:?}");
        }
    }
}

async fn play(name: &str, text: &str, subprotocol: &str) {
    let server = TestServer::start();
    let mut clients: BTreeMap<&str, Client> = BTreeMap::new();
    let mut bound: BTreeMap<String, Value> = BTreeMap::new();
    for (who, sends, mut frame) in lines(text) {
        if !clients.contains_key(who) {
            let client = server.client_with(&server.token(who), Some(subprotocol)).await;
            clients.insert(who, client);
        }
        let client = clients.get_mut(who).expect("it has just been made");
        if sends {
            fill(&mut frame, &|name| bound.get(name).cloned().expect("a name is bound before it is used"));
            client.send(frame).await;
        } else {
            let kind = frame["type"].as_str().expect("every frame has a type");
            let mut came = client.next_of(&[kind]).await;
            if kind == "reply" {
                came.as_object_mut().expect("a frame is an object").remove("id");
            }
            assert!(matches(&frame, &came, &mut bound), "{name}, {subprotocol}: {who} got {came}\ninstead of {frame}");
        }
    }
}

/// Compares, and binds the names that stand for the first time.
fn matches(expected: &Value, came: &Value, bound: &mut BTreeMap<String, Value>) -> bool {
    match (expected, came) {
        (Value::String(any), _) if any == "*" => true,
        (Value::String(name), _) if name.starts_with('$') => {
            bound.entry(name.clone()).or_insert_with(|| came.clone()) == came
        }
        (Value::Object(expected), Value::Object(came)) => {
            let same = |(name, value): (&String, &Value)| came.get(name).is_some_and(|it| matches(value, it, bound));
            expected.len() == came.len() && expected.iter().all(same)
        }
        (Value::Array(expected), Value::Array(came)) => {
            expected.len() == came.len() && expected.iter().zip(came).all(|(value, it)| matches(value, it, bound))
        }
        _ => expected == came,
    }
}

/// Puts values in the place of names.
fn fill(frame: &mut Value, value_of: &impl Fn(&str) -> Value) {
    match frame {
        Value::String(name) if name.starts_with('$') => *frame = value_of(name),
        Value::Object(members) => Map::values_mut(members).for_each(|value| fill(value, value_of)),
        Value::Array(items) => items.iter_mut().for_each(|value| fill(value, value_of)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Who, whether it is sent, and what.
fn lines(text: &str) -> impl Iterator<Item = (&str, bool, Value)> {
    let said = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    said.map(|line| {
        let (who, frame) = line.split_once([' ']).expect("who, and what");
        let sends = who.ends_with('>');
        assert!(sends || who.ends_with('<'), "{line}");
        (&who[..who.len() - 1], sends, serde_json::from_str(frame).unwrap_or_else(|error| panic!("{error}: {line}")))
    })
}

fn files() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conversations/native");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())).collect()
}
