//! The native protocol as a client speaks it: what it says and what it hears, in JSON.
//!
//! Shapes of the client's own: the server's are in `wire`, and the two meet only on the wire. What a client does not
//! know it passes over, so that it goes on working with newer servers.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// The WebSocket sub-protocol of these frames.
pub const SUBPROTOCOL: &str = "chinwag.v1.json";

/// What the server's first frame calls the protocol.
pub const PROTOCOL: &str = "chinwag.v1";

/// A command. Its `id` comes back in the one reply to it.
#[derive(Serialize, Debug)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Command<'a> {
    Create { id: &'a str, kind: &'a str, alias: &'a str },
    Join { id: &'a str, room: &'a str },
    Follow { id: &'a str, room: &'a str, from: &'a str },
    Post { id: &'a str, room: &'a str, client_id: &'a str, content: &'a RawValue },
}

impl Command<'_> {
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("strings and checked JSON always serialize")
    }
}

/// A frame from the server.
#[derive(Debug)]
pub enum Heard {
    Hello(Hello),
    /// The reply to the command `id`; without one, to a frame that the server could not read.
    Reply {
        id: Option<String>,
        outcome: Result<Answer, Refusal>,
    },
    Record(Record),
    Removed(Removed),
    FollowFailed(FollowFailed),
    /// Nothing that concerns these clients.
    Other,
}

#[derive(Deserialize, Debug)]
pub struct Hello {
    pub protocol: String,
    #[serde(rename = "heartbeat_ms", deserialize_with = "milliseconds")]
    pub heartbeat: Duration,
    /// An event stream does not say it: without a token there is none.
    #[serde(default)]
    pub authenticated: bool,
}

/// The result of a command; what it holds depends on the command.
#[derive(Debug)]
pub struct Answer(String);

/// The result of `post`.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Posted {
    pub seq: u64,
    pub record: String,
    pub num: u64,
    pub at: i64,
}

/// The result of `create` and `join`.
#[derive(Deserialize, Debug)]
pub struct Entered {
    pub room: String,
}

/// The result of `follow`.
#[derive(Deserialize, Debug)]
pub struct Followed {
    pub room: String,
    pub cursor: String,
    pub head: u64,
}

/// Why the server did not do what it was asked.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub code: String,
    /// Over HTTP it is the `detail` of a problem document.
    #[serde(alias = "detail")]
    pub message: String,
    #[serde(default)]
    retry: Retry,
    #[serde(default)]
    retry_after_ms: Option<u64>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "snake_case")]
enum Retry {
    /// After a while, because the server cannot now.
    Later,
    /// The same again, because what became of it is not known.
    Same,
    #[default]
    #[serde(other)]
    No,
}

/// A record, ready to be printed.
#[derive(Debug)]
pub struct Record {
    pub room: String,
    pub seq: u64,
    pub cursor: String,
    /// The record as one JSON object: as it came, but for `type`, and with `seq` first.
    pub line: String,
}

#[derive(Deserialize, Debug)]
pub struct Removed {
    pub room: String,
    pub reason: String,
}

#[derive(Deserialize, Debug)]
pub struct FollowFailed {
    pub error: Refusal,
}

impl Hello {
    /// How long the server may say nothing, not even a heartbeat, until it counts as gone: two of them and a half may be
    /// late.
    pub fn patience(&self) -> Duration {
        self.heartbeat.mul_f64(2.5).max(Duration::from_millis(100))
    }
}

impl Answer {
    /// The answer that is this text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }
}

impl Refusal {
    /// Whether the same command may do later.
    pub fn is_passing(&self) -> bool {
        match self.retry {
            Retry::Later | Retry::Same => true,
            Retry::No => matches!(&*self.code, "busy" | "unavailable" | "storage_full" | "shutting_down"),
        }
    }

    /// How long the server asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after_ms.map(Duration::from_millis)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl Heard {
    pub fn decode(text: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Kind<'a> {
            #[serde(rename = "type", borrow)]
            kind: Cow<'a, str>,
        }

        #[derive(Deserialize)]
        struct Reply {
            id: Option<String>,
            ok: bool,
            error: Option<Refusal>,
        }

        let Kind { kind } = serde_json::from_str(text)?;
        Ok(match &*kind {
            "hello" => Self::Hello(serde_json::from_str(text)?),
            "reply" => {
                let Reply { id, ok, error } = serde_json::from_str(text)?;
                let outcome = match (ok, error) {
                    (true, _) => Ok(Answer(text.to_owned())),
                    (false, Some(refusal)) => Err(refusal),
                    (false, None) => return Err(serde::de::Error::missing_field("error")),
                };
                Self::Reply { id, outcome }
            }
            "record" => Self::Record(Record::decode(text)?),
            "removed" => Self::Removed(serde_json::from_str(text)?),
            "follow_failed" => Self::FollowFailed(serde_json::from_str(text)?),
            _ => Self::Other,
        })
    }
}

impl Record {
    fn decode(text: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Place {
            room: String,
            seq: u64,
            cursor: String,
        }

        let Place { room, seq, cursor } = serde_json::from_str(text)?;
        let Members(members) = serde_json::from_str(text)?;
        let mut line = format!("{{\"seq\":{seq}");
        for (name, value) in members {
            if name == "seq" || name == "type" {
                continue;
            }
            line.push(',');
            line.push_str(&serde_json::to_string(&name).expect("a string always serializes"));
            line.push(':');
            line.push_str(value.get());
        }
        line.push('}');
        Ok(Self { room, seq, cursor, line })
    }
}

/// An object's members, in the order in which they came.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_printed_as_it_came_but_for_its_type_and_seq_first() {
        let text = r#"{"type":"record","room":"r","seq":5,"cursor":"c","id":"i","num":12,"at":7,"author":"ann",
            "event":"message_posted","content":{"b":1.50,"a":[ ]},"new\n":null}"#;
        let Heard::Record(record) = Heard::decode(text).unwrap() else { panic!("a record") };
        assert_eq!((record.room.as_str(), record.seq, record.cursor.as_str()), ("r", 5, "c"));
        assert_eq!(
            record.line,
            r#"{"seq":5,"room":"r","cursor":"c","id":"i","num":12,"at":7,"author":"ann","event":"message_posted","content":{"b":1.50,"a":[ ]},"new\n":null}"#
        );
    }

    #[test]
    fn a_reply_is_an_answer_or_a_refusal() {
        let text = r#"{"type":"reply","id":"7","ok":true,"room":"r","seq":1,"cursor":"c","record":"i","num":2,"at":3}"#;
        let Heard::Reply { id, outcome } = Heard::decode(text).unwrap() else { panic!("a reply") };
        assert_eq!(id.as_deref(), Some("7"));
        let posted: Posted = outcome.unwrap().read().unwrap();
        assert_eq!(posted, Posted { seq: 1, record: "i".to_owned(), num: 2, at: 3 });

        let text =
            r#"{"type":"reply","id":null,"ok":false,"error":{"code":"bad_request","message":"no","retry":"no"}}"#;
        let Heard::Reply { id, outcome } = Heard::decode(text).unwrap() else { panic!("a reply") };
        assert_eq!(id, None);
        assert_eq!(outcome.unwrap_err().to_string(), "no (bad_request)");

        assert!(Heard::decode(r#"{"type":"reply","id":"7","ok":false}"#).is_err());
    }

    #[test]
    fn a_refusal_says_whether_to_come_again() {
        let refusal = |text: &str| serde_json::from_str::<Refusal>(text).unwrap();
        let later = refusal(r#"{"code":"x","message":"","retry":"later","retry_after_ms":40}"#);
        assert!(later.is_passing());
        assert_eq!(later.retry_after(), Some(Duration::from_millis(40)));
        assert!(refusal(r#"{"code":"x","message":"","retry":"same"}"#).is_passing());
        assert!(refusal(r#"{"code":"busy","message":""}"#).is_passing());
        assert!(!refusal(r#"{"code":"x","message":"","retry":"no"}"#).is_passing());
        assert!(!refusal(r#"{"code":"x","message":"","retry":"word of tomorrow"}"#).is_passing());
    }

    #[test]
    fn what_is_not_known_is_passed_over() {
        assert!(matches!(Heard::decode(r#"{"type":"weather","is":"fine"}"#), Ok(Heard::Other)));
        assert!(Heard::decode(r#"{"kind":"weather"}"#).is_err());
        assert!(Heard::decode("[]").is_err());
    }

    #[test]
    fn commands_are_written_as_the_protocol_says() {
        let content = RawValue::from_string(r#"{"text":"hi"}"#.to_owned()).unwrap();
        let post = Command::Post { id: "1", room: "r", client_id: "c", content: &content };
        assert_eq!(post.encode(), r#"{"type":"post","id":"1","room":"r","client_id":"c","content":{"text":"hi"}}"#);
        let follow = Command::Follow { id: "2", room: "r", from: "now" };
        assert_eq!(follow.encode(), r#"{"type":"follow","id":"2","room":"r","from":"now"}"#);
    }
}
