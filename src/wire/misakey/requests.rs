//! What Misakey's clients ask by requests, and what they are answered besides events.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{EventView, Sealed, Sender, Time};
use crate::domain::boxes::{ACCESS_BYTES_MAX, Restriction};
use crate::domain::{FileId, Name, RecordId};

/// The longest title, in characters.
const TITLE_CHARACTERS_MAX: usize = 50;

/// The longest public key, in bytes: many times what theirs have.
const PUBLIC_KEY_BYTES_MAX: usize = 1024;

/// The most changes of one batch.
const BATCH_MAX: usize = 100;

/// What is wrong with a body: a member, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{member} is {how}")]
pub struct Malformed {
    pub member: &'static str,
    pub how: &'static str,
}

impl Malformed {
    const BODY: Self = Self::invalid("body", "malformed");

    const fn invalid(member: &'static str, how: &'static str) -> Self {
        Self { member, how }
    }

    const fn required(member: &'static str) -> Self {
        Self::invalid(member, "required")
    }

    const fn misshapen(member: &'static str) -> Self {
        Self::invalid(member, "malformed")
    }
}

/// A box to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewBox {
    pub public_key: Arc<str>,
    pub title: Name,
}

impl NewBox {
    pub fn read(body: &[u8]) -> Result<Self, Malformed> {
        #[derive(Deserialize)]
        struct Body {
            public_key: Option<String>,
            title: Option<String>,
        }
        let Body { public_key, title } = serde_json::from_slice(body).map_err(|_| Malformed::BODY)?;
        let public_key = public_key.filter(|key| !key.is_empty()).ok_or(Malformed::required("public_key"))?;
        if public_key.len() > PUBLIC_KEY_BYTES_MAX || BASE64_URL_SAFE_NO_PAD.decode(&public_key).is_err() {
            return Err(Malformed::misshapen("public_key"));
        }
        let title = title.filter(|title| !title.is_empty()).ok_or(Malformed::required("title"))?;
        let short = title.chars().count() <= TITLE_CHARACTERS_MAX;
        let title = Name::new(&title).ok().filter(|_| short).ok_or(Malformed::misshapen("title"))?;
        Ok(Self { public_key: public_key.into(), title })
    }
}

/// An event to be posted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Posting {
    Join,
    Said(Said),
}

/// By who is in the box.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    Close,
    Text(Sealed),
    File(Sealed, FileId),
    Edit(RecordId, Sealed),
    Delete(RecordId),
    Leave,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    content: Option<Value>,
    #[serde(default)]
    referrer_id: Option<String>,
}

impl Event {
    fn referrer(&self) -> Result<RecordId, Malformed> {
        let id = self.referrer_id.as_deref().ok_or(Malformed::required("referrer_id"))?;
        Uuid::try_parse(id).map(RecordId).map_err(|_| Malformed::misshapen("referrer_id"))
    }

    /// The text under this name in what the event holds.
    fn text(&self, name: &'static str) -> Result<String, Malformed> {
        let content = self.content.as_ref().filter(|content| !content.is_null());
        let content = content.ok_or(Malformed::required("content"))?;
        let content = content.as_object().ok_or(Malformed::misshapen("content"))?;
        match content.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            Some(Value::String(_) | Value::Null) | None => Err(Malformed::required(name)),
            Some(_) => Err(Malformed::misshapen(name)),
        }
    }

    fn sealed(&self, encrypted: &'static str, public_key: &'static str) -> Result<Sealed, Malformed> {
        Ok(Sealed { encrypted: self.text(encrypted)?, public_key: self.text(public_key)? })
    }
}

impl Posting {
    pub fn read(body: &[u8]) -> Result<Self, Malformed> {
        let event: Event = serde_json::from_slice(body).map_err(|_| Malformed::BODY)?;
        match event.kind.as_deref().ok_or(Malformed::required("type"))? {
            "member.join" => Ok(Self::Join),
            kind => Said::of(kind, &event).map(Self::Said),
        }
    }
}

impl Said {
    fn of(kind: &str, event: &Event) -> Result<Self, Malformed> {
        match kind {
            "state.lifecycle" if event.text("state")? == "closed" => Ok(Self::Close),
            "state.lifecycle" => Err(Malformed::invalid("state", "invalid")),
            // Their documentation has either name.
            "msg.text" | "msg.txt" => Ok(Self::Text(event.sealed("encrypted", "public_key")?)),
            "msg.file" => {
                let file = Uuid::try_parse(&event.text("encrypted_file_id")?);
                let file = file.map_err(|_| Malformed::misshapen("encrypted_file_id"))?;
                Ok(Self::File(event.sealed("encrypted", "public_key")?, FileId(file)))
            }
            "msg.edit" => Ok(Self::Edit(event.referrer()?, event.sealed("new_encrypted", "new_public_key")?)),
            "msg.delete" => Ok(Self::Delete(event.referrer()?)),
            "member.leave" => Ok(Self::Leave),
            _ => Err(Malformed::invalid("type", "invalid")),
        }
    }
}

/// A change of who is let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AccessEvent {
    Add(Restriction, Arc<str>),
    /// By the event that it was added by.
    Remove(RecordId),
}

/// Reads a batch of changes of who is let in.
pub fn read_batch(body: &[u8]) -> Result<Vec<AccessEvent>, Malformed> {
    #[derive(Deserialize)]
    struct Batch {
        batch_type: Option<String>,
        #[serde(default)]
        events: Vec<Event>,
    }
    let Batch { batch_type, events } = serde_json::from_slice(body).map_err(|_| Malformed::BODY)?;
    if batch_type.ok_or(Malformed::required("batch_type"))? != "accesses" {
        return Err(Malformed::invalid("batch_type", "invalid"));
    }
    if events.is_empty() {
        return Err(Malformed::required("events"));
    }
    if events.len() > BATCH_MAX {
        return Err(Malformed::invalid("events", "invalid"));
    }
    events.iter().map(AccessEvent::of).collect()
}

impl AccessEvent {
    fn of(event: &Event) -> Result<Self, Malformed> {
        match event.kind.as_deref().ok_or(Malformed::required("type"))? {
            "access.add" => {
                let (kind, value) = (event.text("restriction_type")?, event.text("value")?);
                let restriction = Restriction::ALL.into_iter().find(|restriction| restriction.as_str() == kind);
                let restriction = restriction.ok_or(Malformed::invalid("restriction_type", "invalid"))?;
                if value.len() > ACCESS_BYTES_MAX {
                    return Err(Malformed::misshapen("value"));
                }
                Ok(Self::Add(restriction, value.into()))
            }
            "access.rm" => Ok(Self::Remove(event.referrer()?)),
            _ => Err(Malformed::invalid("type", "invalid")),
        }
    }
}

/// Whose count of what is new is to begin again.
pub fn read_ack(body: &[u8]) -> Result<String, Malformed> {
    #[derive(Deserialize)]
    struct Body {
        identity_id: Option<String>,
    }
    let Body { identity_id } = serde_json::from_slice(body).map_err(|_| Malformed::BODY)?;
    identity_id.ok_or(Malformed::required("identity_id"))
}

/// A box as clients see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BoxView {
    pub id: String,
    pub server_created_at: Time,
    pub public_key: Arc<str>,
    pub title: String,
    pub lifecycle: &'static str,
    /// How many events are new; in lists alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events_count: Option<u32>,
    pub creator: Sender,
    pub last_event: Option<EventView>,
}

/// What may be known of a box by whoever knows of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PublicView {
    pub title: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_body_is_said_by_its_member() {
        let id = "7eea6625-54c1-41eb-8296-d6c19976ae8a";
        let sealed = Sealed { encrypted: "e".to_owned(), public_key: "k".to_owned() };
        let event = RecordId(Uuid::try_parse(id).unwrap());
        let file = FileId(event.0);
        for (body, expected) in [
            (
                r#"{"type":"msg.text","content":{"encrypted":"e","public_key":"k"}}"#.to_owned(),
                Ok(Posting::Said(Said::Text(sealed.clone()))),
            ),
            (
                r#"{"type":"msg.txt","content":{"encrypted":"e","public_key":"k"}}"#.to_owned(),
                Ok(Posting::Said(Said::Text(sealed.clone()))),
            ),
            (
                format!(
                    r#"{{"type":"msg.file","content":{{"encrypted":"e","public_key":"k","encrypted_file_id":"{id}"}}}}"#
                ),
                Ok(Posting::Said(Said::File(sealed.clone(), file))),
            ),
            (
                format!(
                    r#"{{"type":"msg.edit","content":{{"new_encrypted":"e","new_public_key":"k"}},"referrer_id":"{id}"}}"#
                ),
                Ok(Posting::Said(Said::Edit(event, sealed))),
            ),
            (format!(r#"{{"type":"msg.delete","referrer_id":"{id}"}}"#), Ok(Posting::Said(Said::Delete(event)))),
            (r#"{"type":"member.join"}"#.to_owned(), Ok(Posting::Join)),
            (r#"{"type":"member.leave","content":null}"#.to_owned(), Ok(Posting::Said(Said::Leave))),
            (r#"{"type":"state.lifecycle","content":{"state":"closed"}}"#.to_owned(), Ok(Posting::Said(Said::Close))),
            ("nonsense".to_owned(), Err(("body", "malformed"))),
            ("{}".to_owned(), Err(("type", "required"))),
            (r#"{"type":"create"}"#.to_owned(), Err(("type", "invalid"))),
            (r#"{"type":"member.kick"}"#.to_owned(), Err(("type", "invalid"))),
            (r#"{"type":"msg.text"}"#.to_owned(), Err(("content", "required"))),
            (r#"{"type":"msg.text","content":7}"#.to_owned(), Err(("content", "malformed"))),
            (r#"{"type":"msg.text","content":{"public_key":"k"}}"#.to_owned(), Err(("encrypted", "required"))),
            (
                r#"{"type":"msg.text","content":{"encrypted":7,"public_key":"k"}}"#.to_owned(),
                Err(("encrypted", "malformed")),
            ),
            (r#"{"type":"msg.delete"}"#.to_owned(), Err(("referrer_id", "required"))),
            (r#"{"type":"msg.delete","referrer_id":"7"}"#.to_owned(), Err(("referrer_id", "malformed"))),
            (r#"{"type":"state.lifecycle","content":{"state":"open"}}"#.to_owned(), Err(("state", "invalid"))),
        ] {
            let expected = expected.map_err(|(member, how)| Malformed { member, how });
            assert_eq!(Posting::read(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn a_new_box_has_a_key_in_base64_without_padding_and_a_title_of_up_to_50_characters() {
        let read = |key: &str, title: &str| {
            NewBox::read(serde_json::json!({"public_key": key, "title": title}).to_string().as_bytes())
        };
        assert!(read("a-_b", &"ü".repeat(50)).is_ok());
        for (key, title, member, how) in [
            ("", "Papers", "public_key", "required"),
            ("a+b=", "Papers", "public_key", "malformed"),
            ("a-_b", "", "title", "required"),
            ("a-_b", &"ü".repeat(51), "title", "malformed"),
        ] {
            assert_eq!(read(key, title), Err(Malformed { member, how }), "{key} {title}");
        }
    }
}
