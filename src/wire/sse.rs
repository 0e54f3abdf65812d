//! Event streams as a server sends them (WHATWG HTML, section 9.2, "Server-sent events").
//!
//! An event is a few lines with a blank one behind them. What comes from clients stands in `data` only, and there every
//! line of it gets a `data:` of its own, so that no text can end its event or begin another.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::close::{CloseInfo, CloseReason};
use super::cursor::Cursor;
use super::native;
use super::reply::Notice;
use crate::domain::{Record, RoomKey, Signal};

/// A line that clients pass over. Writing it shows whether somebody is still there.
pub const COMMENT: &[u8] = b":\n\n";

/// What each line of data begins with.
const DATA: &[u8] = b"data: ";

/// The lines of an event besides its data take about this much.
pub(super) const EVENT_BYTES: usize = 96;

/// Appends an event with the data that `write` appends. `name` and `id` are words of ours: they hold no line break.
fn put_event_with(out: &mut BytesMut, name: &str, id: Option<&str>, write: impl FnOnce(&mut BytesMut)) {
    put_named_with(out, Some(name), id, write);
}

fn put_named_with(out: &mut BytesMut, name: Option<&str>, id: Option<&str>, write: impl FnOnce(&mut BytesMut)) {
    out.reserve(EVENT_BYTES);
    if let Some(id) = id {
        put_line(out, b"id: ", id.as_bytes());
    }
    if let Some(name) = name {
        put_line(out, b"event: ", name.as_bytes());
    }
    out.put_slice(DATA);
    let start = out.len();
    write(out);
    // In JSON as we write it there is none; all of it is looked at, because that is quicker than to stop.
    if out[start..].iter().fold(0, |found, byte| found | u8::from((*byte == b'\r') | (*byte == b'\n'))) != 0 {
        let data = out.split_off(start);
        out.truncate(start - DATA.len());
        lines(&data).for_each(|line| put_line(out, DATA, line));
        out.put_u8(b'\n');
    } else {
        out.put_slice(b"\n\n");
    }
}

/// Appends an event without a name, which is a message to its reader, with the data that `write` appends.
pub(super) fn put_message_with(out: &mut BytesMut, id: Option<&str>, write: impl FnOnce(&mut BytesMut)) {
    put_named_with(out, None, id, write);
}

/// Appends a record of `room`; its id is the cursor behind it.
pub(super) fn put_record(out: &mut BytesMut, room: &RoomKey, record: &Record) {
    let id = Cursor::encode(room, record.position);
    put_event_with(out, "record", Some(&id), |out| native::record(&mut native::Json::to(out), room, record));
}

/// A notice as an event of its own name. The first of a stream says where it stands, so that it can be resumed
/// before anything has happened.
pub(super) fn notice(notice: &Notice) -> Bytes {
    let (name, id) = match notice {
        Notice::Streaming { room, at, .. } => ("hello", Some(Cursor::encode(room, *at).to_string())),
        Notice::StreamingAll { cursor, .. } => ("hello", Some(cursor.clone())),
        Notice::Gap { .. } => ("gap", None),
        Notice::UserUpdated(_) => ("user_updated", None),
        Notice::UserBlocked { .. } => ("user_blocked", None),
        Notice::Restarting { .. } => ("restarting", None),
        Notice::Hello { .. } => ("hello", None),
        Notice::Removed { .. } => ("removed", None),
        Notice::RoomGained { .. } => ("room_gained", None),
        Notice::RoomLost { .. } => ("room_lost", None),
        Notice::Signal { signal: Signal::Typing { .. }, .. } => ("typing", None),
        Notice::Signal { signal: Signal::Progress { .. }, .. } => ("progress", None),
        Notice::Signal { signal: Signal::Presence { .. }, .. } => ("presence", None),
        Notice::Signal { signal: Signal::Entered { .. }, .. } => ("entered", None),
        Notice::MessageHidden { .. } => ("message_hidden", None),
        Notice::InboxUpdated { .. } => ("inbox_updated", None),
        Notice::FollowFailed { .. } => ("follow_failed", None),
    };
    let mut out = BytesMut::new();
    put_event_with(&mut out, name, id.as_deref(), |out| native::notice(&mut native::Json::to(out), notice));
    out.freeze()
}

/// The last event of a stream. Who may come back is told to wait for `pause`, in the data and by `retry`, which
/// browsers obey.
pub(super) fn close(reason: CloseReason, pause: Duration) -> Bytes {
    let CloseInfo { code, name, reconnect, .. } = reason.info();
    let mut out = BytesMut::new();
    let mut data = format!(r#"{{"code":{code},"name":"{name}","reconnect":{reconnect}"#);
    if reconnect {
        let pause = pause.as_millis();
        put_line(&mut out, b"retry: ", pause.to_string().as_bytes());
        data.push_str(&format!(r#","retry_after_ms":{pause}"#));
    }
    data.push('}');
    put_event_with(&mut out, "close", None, |out| out.put_slice(data.as_bytes()));
    out.freeze()
}

pub(super) fn event(name: &str, id: Option<&str>, data: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    put_event_with(&mut out, name, id, |out| out.put_slice(data));
    out.freeze()
}

fn put_line(out: &mut BytesMut, field: &[u8], value: &[u8]) {
    out.put_slice(field);
    out.put_slice(value);
    out.put_u8(b'\n');
}

/// The lines of `data`, whose ends are CR LF, LF or CR.
fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let Some(end) = text.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else { return Some(text) };
        let (line, behind) = text.split_at(end);
        rest = Some(behind.strip_prefix(b"\r\n").unwrap_or(&behind[1..]));
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_lines_and_a_blank_one() {
        assert_eq!(&event("record", Some("c-1"), b"{}")[..], b"id: c-1\nevent: record\ndata: {}\n\n");
        assert_eq!(&event("removed", None, b"{}")[..], b"event: removed\ndata: {}\n\n");
    }

    #[test]
    fn no_line_break_in_the_data_ends_the_event() {
        let data = b"a\rb\nc\r\nd\n\ndata: e\r\rid: f\n";
        let lines = "data: a\ndata: b\ndata: c\ndata: d\ndata: \ndata: data: e\ndata: \ndata: id: f\ndata: \n";
        assert_eq!(event("record", None, data), format!("event: record\n{lines}\n"));
    }

    #[test]
    fn the_last_event_says_whether_and_when_to_come_back() {
        let pause = Duration::from_millis(1500);
        let restarting = r#"{"code":1012,"name":"restarting","reconnect":true,"retry_after_ms":1500}"#;
        assert_eq!(
            close(CloseReason::Restarting, pause),
            format!("retry: 1500\nevent: close\ndata: {restarting}\n\n").as_bytes()
        );
        let expired = r#"{"code":4403,"name":"token_expired","reconnect":false}"#;
        assert_eq!(close(CloseReason::TokenExpired, pause), format!("event: close\ndata: {expired}\n\n").as_bytes());
    }
}
