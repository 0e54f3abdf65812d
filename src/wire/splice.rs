//! A record's frame is made once and shared by all who follow its room; for who follows a world, the cursor of that
//! world is put into a copy of it.
//!
//! Each function knows the shape of the frames that its notation has, and nothing of what a record says.

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::{self, Opcode};

/// The name of the member.
const WORLD: &str = "world";

/// Appends a text frame with a JSON object as one whose object has the member `world`, too.
pub fn json(out: &mut BytesMut, framed: &[u8], cursor: &str) {
    let object = frame::payload(framed);
    let open = object.strip_suffix(b"}").unwrap_or(object);
    frame::put_frame_of(out, Opcode::Text, &[open, b",\"", WORLD.as_bytes(), b"\":\"", cursor.as_bytes(), b"\"}"]);
}

/// An object as it was before [`json`] put the cursor in, and the cursor; `None` for one that has none.
pub fn split(object: &Bytes) -> Option<(Bytes, String)> {
    let open = object.strip_suffix(b"\"}")?;
    let cursor = open.iter().rposition(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')))? + 1;
    let rest = open[..cursor].strip_suffix(b",\"world\":\"")?;
    let text = std::str::from_utf8(&open[cursor..]).ok()?;
    Some(([rest, b"}"].concat().into(), text.to_owned()))
}

/// Appends a binary frame with a MessagePack map of at least one entry as one whose map has one more (MessagePack
/// specification, "map format family", "str format family").
pub fn msgpack(out: &mut BytesMut, framed: &[u8], cursor: &str) {
    let map = frame::payload(framed);
    let (entries, rest) = match map {
        [short @ 0x80..=0x8f, rest @ ..] => (u16::from(short & 0x0f), rest),
        [0xde, high, low, rest @ ..] => (u16::from_be_bytes([*high, *low]), rest),
        // A record has a dozen entries.
        _ => return out.put_slice(framed),
    };
    let ([high, low], short) = ((entries + 1).to_be_bytes(), 0x80 | u8::try_from(entries + 1).unwrap_or(0));
    let head: &[u8] = if entries < 15 { &[short] } else { &[0xde, high, low] };
    let name = [0xa0 | u8::try_from(WORLD.len()).unwrap_or(0)];
    let bytes = u16::try_from(cursor.len()).unwrap_or(0).to_be_bytes();
    let text = [0xda, bytes[0], bytes[1]];
    frame::put_frame_of(out, Opcode::Binary, &[head, rest, &name, WORLD.as_bytes(), &text, cursor.as_bytes()]);
}

/// Appends an event whose first line is its id with that cursor in its place: coming back goes on in the world.
pub fn event(out: &mut BytesMut, event: &[u8], cursor: &str) {
    let end = event.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let (id, rest) = event.split_at(end);
    out.reserve(4 + cursor.len() + 1 + rest.len());
    out.put_slice(b"id: ");
    out.put_slice(cursor.as_bytes());
    out.put_u8(b'\n');
    // One without an id keeps its first line.
    out.put_slice(if id.starts_with(b"id: ") { rest } else { event });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_one_member_more() {
        for length in [1, 80, 200, 70_000] {
            let object = format!(r#"{{"type":"record","text":"{}"}}"#, "x".repeat(length));
            let mut out = BytesMut::new();
            json(&mut out, &frame::frame(Opcode::Text, object.as_bytes()), "cursor-1");
            let read: serde_json::Value = serde_json::from_slice(frame::payload(&out)).unwrap();
            assert_eq!((&read["world"], &read["type"]), (&"cursor-1".into(), &"record".into()));
            let (before, cursor) = split(&Bytes::copy_from_slice(frame::payload(&out))).unwrap();
            assert_eq!((&before[..], &*cursor), (object.as_bytes(), "cursor-1"));
            assert_eq!(split(&before), None);
            let again = frame::frame(Opcode::Text, frame::payload(&out));
            assert_eq!(again, out, "its header says its length");
        }
    }

    #[test]
    fn an_event_has_another_id() {
        let mut out = BytesMut::new();
        event(&mut out, b"id: room-1\nevent: record\ndata: id: room-1\n\n", "world-1");
        assert_eq!(&out[..], b"id: world-1\nevent: record\ndata: id: room-1\n\n");
    }

    #[test]
    fn a_map_has_one_entry_more_whatever_its_length_takes() {
        for entries in [1_u64, 14, 15, 16, 300] {
            let map: std::collections::BTreeMap<String, u64> = (0..entries).map(|n| (n.to_string(), n)).collect();
            let cursor = "c".repeat(300);
            let mut out = BytesMut::new();
            msgpack(&mut out, &frame::frame(Opcode::Binary, &rmp_serde::to_vec(&map).unwrap()), &cursor);
            let read: serde_json::Value = rmp_serde::from_slice(frame::payload(&out)).unwrap();
            assert_eq!(read["world"], cursor);
            assert_eq!(read.as_object().unwrap().len() as u64, entries + 1);
            assert_eq!(read["0"], 0);
        }
    }
}
