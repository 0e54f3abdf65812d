//! The cursor: a place in a room, as an opaque text that clients keep and hand back.
//!
//! It holds `(epoch, seq)`, a tag of the room, so that the cursor of another room is recognised, and a checksum, so
//! that a mangled one is. It is no secret and grants nothing: whoever makes one up reads what it may read anyway.

use std::ops::Deref;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::world_cursor;
use crate::domain::{Epoch, Position, RoomKey, Seq};

/// Encodes and parses cursors: one byte of version, four of tag, epoch and seq as varints, two of checksum, in URL-safe
/// base64 without padding. Usually 15 to 20 characters.
#[derive(Clone, Copy, Debug)]
pub struct Cursor;

/// Why a text is not a cursor of this room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CursorError {
    /// Not a cursor at all, or of a version that is not known.
    #[error("this is not a cursor")]
    Invalid,
    #[error("this is the cursor of another room")]
    Foreign,
    /// It was given out before the log was restored or repaired. Only a cursor of everything is told so here; of a room
    /// it depends on what the log holds.
    #[error("this cursor is from before the log was restored")]
    EpochChanged,
}

/// In the high nibble of the first byte; the low nibble is zero.
const VERSION: u8 = 1 << 4;
const TAG_BYTES: usize = 4;
const CHECK_BYTES: usize = 2;
/// A varint of 64 bits takes at most this many bytes.
const VARINT_BYTES_MAX: usize = 10;
const BYTES_MAX: usize = 1 + TAG_BYTES + 2 * VARINT_BYTES_MAX + CHECK_BYTES;
/// The longest text of [`BYTES_MAX`] bytes: four characters for three bytes.
const TEXT_BYTES_MAX: usize = BYTES_MAX.div_ceil(3) * 4;
/// No record is beyond: a record's id holds 40 bits of its seq.
pub(super) const SEQ_MAX: u64 = (1 << 40) - 1;

/// The text of a cursor. Dereferences to it.
#[derive(Clone, Copy)]
pub struct CursorText {
    text: [u8; TEXT_BYTES_MAX],
    bytes: usize,
}

impl Deref for CursorText {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(&self.text[..self.bytes]).expect("the alphabet of base64 is ASCII")
    }
}

impl Cursor {
    /// The cursor of `position` in `room`.
    pub fn encode(room: &RoomKey, position: Position) -> CursorText {
        let mut bytes = [0; BYTES_MAX];
        let mut end = 0;
        let mut put = |part: &[u8]| {
            bytes[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        };
        put(&[VERSION]);
        put(&tag(room));
        put_varint(&mut put, position.epoch.0);
        put_varint(&mut put, position.seq.0);
        let check = check(&bytes[..end]);
        bytes[end..end + CHECK_BYTES].copy_from_slice(&check);
        let mut text = [0; TEXT_BYTES_MAX];
        let written = URL_SAFE_NO_PAD.encode_slice(&bytes[..end + CHECK_BYTES], &mut text);
        CursorText { text, bytes: written.expect("the longest fits") }
    }

    /// Reads a cursor back, provided that it is one of `room`. Only what [`Cursor::encode`] writes is understood.
    pub fn parse(text: &str, room: &RoomKey) -> Result<Position, CursorError> {
        if world_cursor::looks_sealed(text) {
            return Err(CursorError::Foreign);
        }
        let body = Self::body(text).ok_or(CursorError::Invalid)?;
        let rest = body.strip_prefix(&[VERSION]).ok_or(CursorError::Invalid)?;
        let (found, mut rest) = rest.split_first_chunk::<TAG_BYTES>().ok_or(CursorError::Invalid)?;
        let epoch = varint(&mut rest).ok_or(CursorError::Invalid)?;
        let seq = varint(&mut rest).filter(|seq| *seq <= SEQ_MAX).ok_or(CursorError::Invalid)?;
        if !rest.is_empty() {
            return Err(CursorError::Invalid);
        }
        if *found != tag(room) {
            return Err(CursorError::Foreign);
        }
        Ok(Position { epoch: Epoch(epoch), seq: Seq(seq) })
    }

    /// Whether this is the cursor of some room.
    pub(super) fn is_one(text: &str) -> bool {
        Self::body(text).is_some_and(|body| body.first() == Some(&VERSION))
    }

    /// What is before the checksum, if that fits.
    fn body(text: &str) -> Option<Vec<u8>> {
        let mut bytes = (text.len() <= TEXT_BYTES_MAX).then(|| URL_SAFE_NO_PAD.decode(text).ok())??;
        let (body, sum) = bytes.split_last_chunk::<CHECK_BYTES>()?;
        let (end, whole) = (body.len(), *sum == check(body));
        bytes.truncate(end);
        whole.then_some(bytes)
    }
}

/// 32 bits that tell rooms apart, also those of the same id in two tenants.
fn tag(room: &RoomKey) -> [u8; TAG_BYTES] {
    let tenant = crc32c::crc32c(room.tenant.as_str().as_bytes());
    crc32c::crc32c_append(tenant, room.room.0.as_bytes()).to_be_bytes()
}

fn check(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let [a, b, ..] = crc32c::crc32c(bytes).to_be_bytes();
    [a, b]
}

/// LEB128: seven bits a byte, the lowest first, the top bit saying that more follow.
pub(super) fn put_varint(put: &mut impl FnMut(&[u8]), mut value: u64) {
    while value >= 0x80 {
        put(&[value.to_le_bytes()[0] | 0x80]);
        value >>= 7;
    }
    put(&[value.to_le_bytes()[0]]);
}

/// Takes one varint off `bytes`; `None` for one that is cut off, too large, or longer than it has to be.
pub(super) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let low = u64::from(byte & 0x7f);
        if (low << shift) >> shift != low {
            return None;
        }
        value |= low << shift;
        if byte & 0x80 == 0 {
            let minimal = byte != 0 || shift == 0;
            return minimal.then_some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{RoomId, TenantId, Timestamp};
    use proptest::prelude::*;

    #[test]
    fn an_ordinary_cursor_is_short() {
        let position = Position { epoch: Epoch(3), seq: Seq(1_000_000) };
        assert_eq!(Cursor::encode(&room(1), position).len(), 15);
        let epoch_of_milliseconds = Position { epoch: Epoch(1_700_000_000_000), seq: Seq(1_000_000) };
        assert!(Cursor::encode(&room(1), epoch_of_milliseconds).len() <= 24);
    }

    #[test]
    fn the_cursor_of_another_room_or_tenant_is_foreign() {
        let cursor = Cursor::encode(&room(1), Position { epoch: Epoch(1), seq: Seq(5) });
        assert_eq!(Cursor::parse(&cursor, &room(2)), Err(CursorError::Foreign));
        let elsewhere = RoomKey { tenant: TenantId::new("elsewhere").unwrap(), ..room(1) };
        assert_eq!(Cursor::parse(&cursor, &elsewhere), Err(CursorError::Foreign));
    }

    #[test]
    fn only_the_canonical_text_is_a_cursor() {
        let cursor = Cursor::encode(&room(1), Position { epoch: Epoch(1), seq: Seq(5) });
        let cursor = &*cursor;
        for text in [format!("{cursor}="), format!(" {cursor}"), cursor.to_lowercase() + "A", String::new()] {
            assert_eq!(Cursor::parse(&text, &room(1)), Err(CursorError::Invalid), "{text}");
        }
        // The same numbers, the seq in two bytes where one holds it, with a checksum that fits.
        let mut long = vec![VERSION];
        long.extend(tag(&room(1)));
        long.extend([1, 0x85, 0]);
        long.extend(check(&long));
        assert_eq!(Cursor::parse(&URL_SAFE_NO_PAD.encode(long), &room(1)), Err(CursorError::Invalid));
    }

    #[test]
    fn a_seq_that_no_record_can_have_is_refused() {
        let beyond = Position { epoch: Epoch(1), seq: Seq(SEQ_MAX + 1) };
        assert_eq!(Cursor::parse(&Cursor::encode(&room(1), beyond), &room(1)), Err(CursorError::Invalid));
    }

    #[test]
    fn no_single_wrong_character_goes_unnoticed() {
        let cursor = Cursor::encode(&room(1), Position { epoch: Epoch(3), seq: Seq(1_000_000) });
        for at in 0..cursor.len() {
            for with in ('a'..='z').chain('A'..='Z').chain('0'..='9').chain(['-', '_']) {
                let mangled = format!("{}{with}{}", &cursor[..at], &cursor[at + 1..]);
                assert_eq!(Cursor::parse(&mangled, &room(1)).is_ok(), mangled == *cursor, "{mangled}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_cursor_is_read_back_as_it_was(id: u128, epoch: u64, seq in 0..=SEQ_MAX) {
            let position = Position { epoch: Epoch(epoch), seq: Seq(seq) };
            prop_assert_eq!(Cursor::parse(&Cursor::encode(&room(id), position), &room(id)), Ok(position));
        }
    }

    fn room(id: u128) -> RoomKey {
        RoomKey { tenant: TenantId::default_tenant(), room: RoomId::new(Timestamp(0), id) }
    }
}
