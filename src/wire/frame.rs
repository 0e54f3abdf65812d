//! WebSocket frames as a server sends them: whole and unmasked (RFC 6455, section 5).
//!
//! Appending to one buffer frames a batch contiguously, so that it is shared and written as one piece. Knows nothing
//! of what the payloads say; what clients send is read by [`super::inbound`].

use bytes::{BufMut, Bytes, BytesMut};

/// What a frame is. Only those that a server sends (RFC 6455, section 11.8): nothing is ever sent in fragments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opcode {
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// The most payload a close, ping or pong frame may have (RFC 6455, section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// The longest header of a frame without a mask: two bytes and a 64-bit length.
pub const HEADER_BYTES_MAX: usize = 10;

const FIN: u8 = 0x80;

impl Opcode {
    fn bits(self) -> u8 {
        match self {
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }
}

/// Frames `payload`.
pub fn frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES_MAX + payload.len());
    put_frame(&mut out, opcode, payload);
    out.freeze()
}

/// Appends `payload`, framed, to `out`. The payload of a control frame is at most [`CONTROL_BYTES_MAX`] long.
pub fn put_frame(out: &mut BytesMut, opcode: Opcode, payload: &[u8]) {
    out.reserve(HEADER_BYTES_MAX + payload.len());
    put_header(out, opcode, payload.len());
    out.put_slice(payload);
}

/// As [`put_frame`], of a payload in pieces.
pub fn put_frame_of(out: &mut BytesMut, opcode: Opcode, pieces: &[&[u8]]) {
    let bytes = pieces.iter().map(|piece| piece.len()).sum();
    out.reserve(HEADER_BYTES_MAX + bytes);
    put_header(out, opcode, bytes);
    pieces.iter().for_each(|piece| out.put_slice(piece));
}

/// As [`put_frame`], of a payload that `write` appends. Room is kept for the header that most messages have, those of
/// 126 bytes to 64 KiB; behind another one the payload is moved.
pub fn put_frame_with(out: &mut BytesMut, opcode: Opcode, write: impl FnOnce(&mut BytesMut)) {
    const KEPT: usize = 4;
    let start = out.len();
    out.put_slice(&[0; KEPT]);
    write(out);
    let payload = start + KEPT..out.len();
    let (header, bytes) = header(opcode, payload.len());
    if bytes != KEPT {
        out.resize(start + bytes.max(KEPT) + payload.len(), 0);
        out.copy_within(payload.clone(), start + bytes);
        out.truncate(start + bytes + payload.len());
    }
    out[start..start + bytes].copy_from_slice(&header[..bytes]);
}

/// The payload of a frame that [`put_frame`] made.
pub fn payload(framed: &[u8]) -> &[u8] {
    let header = match framed.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        Some(_) | None => 2,
    };
    framed.get(header..).unwrap_or_default()
}

/// Takes the first frame off those that [`put_frame`] has put behind one another; `None` where there is none, or one
/// that closes.
pub fn take(framed: &mut Bytes) -> Option<Bytes> {
    let all = payload(framed);
    let header = framed.len() - all.len();
    let bytes = match (header, framed.get(1), framed.get(2..header)) {
        (2, Some(short), _) => usize::from(*short),
        (4, _, Some([high, low])) => usize::from(u16::from_be_bytes([*high, *low])),
        (10, _, Some(long)) => usize::try_from(u64::from_be_bytes(long.try_into().ok()?)).ok()?,
        _ => return None,
    };
    if framed.first() == Some(&(FIN | Opcode::Close.bits())) || bytes > all.len() {
        return None;
    }
    Some(framed.split_to(header + bytes).slice(header..))
}

/// Frames a ping whose pong proves that everything sent before it has arrived; `token` comes back in it.
pub fn ping(token: u64) -> Bytes {
    frame(Opcode::Ping, &token.to_be_bytes())
}

/// The token of the [`ping`] that a pong's `payload` answers; `None` for a pong to something else.
pub fn pong_token(payload: &[u8]) -> Option<u64> {
    payload.try_into().ok().map(u64::from_be_bytes)
}

fn put_header(out: &mut BytesMut, opcode: Opcode, payload_bytes: usize) {
    let (header, bytes) = header(opcode, payload_bytes);
    out.put_slice(&header[..bytes]);
}

/// A header, and how many bytes it has: the length in the fewest that hold it, as section 5.2 demands.
fn header(opcode: Opcode, payload_bytes: usize) -> ([u8; HEADER_BYTES_MAX], usize) {
    let mut header = [0; HEADER_BYTES_MAX];
    header[0] = FIN | opcode.bits();
    let bytes = match (u8::try_from(payload_bytes), u16::try_from(payload_bytes)) {
        (Ok(short @ 0..=125), _) => {
            header[1] = short;
            2
        }
        (_, Ok(long)) => {
            header[1] = 126;
            header[2..4].copy_from_slice(&long.to_be_bytes());
            4
        }
        (_, Err(_)) => {
            header[1] = 127;
            header[2..].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
            HEADER_BYTES_MAX
        }
    };
    (header, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_takes_the_fewest_bytes_that_hold_it() {
        let header = |payload_bytes: usize| {
            let framed = frame(Opcode::Binary, &vec![7; payload_bytes]);
            framed[..framed.len() - payload_bytes].to_vec()
        };
        assert_eq!(header(0), [0x82, 0]);
        assert_eq!(header(125), [0x82, 125]);
        assert_eq!(header(126), [0x82, 126, 0, 126]);
        assert_eq!(header(0xffff), [0x82, 126, 0xff, 0xff]);
        assert_eq!(header(0x1_0000), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn the_examples_of_the_rfc_come_out() {
        // RFC 6455, section 5.7.
        assert_eq!(&frame(Opcode::Text, b"Hello")[..], b"\x81\x05Hello");
        assert_eq!(&frame(Opcode::Ping, b"Hello")[..], b"\x89\x05Hello");
    }

    #[test]
    fn a_batch_is_framed_in_one_piece() {
        let mut out = BytesMut::new();
        put_frame(&mut out, Opcode::Text, b"{}");
        put_frame(&mut out, Opcode::Text, b"[]");
        assert_eq!(&out[..], b"\x81\x02{}\x81\x02[]");
    }

    #[test]
    fn a_payload_that_is_written_behind_its_header_is_framed_as_one_that_was_there_before() {
        for bytes in [0_u32, 1, 125, 126, 0xffff, 0x1_0000] {
            let payload: Vec<u8> = (0..bytes).map(|at| at.to_le_bytes()[0]).collect();
            let (mut written, mut framed) = (BytesMut::from(&b"before"[..]), BytesMut::from(&b"before"[..]));
            put_frame_with(&mut written, Opcode::Text, |out| out.put_slice(&payload));
            put_frame(&mut framed, Opcode::Text, &payload);
            assert_eq!(written, framed, "{bytes}");
        }
    }

    #[test]
    fn a_batch_is_taken_apart_again() {
        let payloads = [0, 1, 125, 126, 0xffff, 0x1_0000].map(|bytes| vec![b'x'; bytes]);
        let mut out = BytesMut::new();
        payloads.iter().for_each(|payload| put_frame(&mut out, Opcode::Text, payload));
        put_frame(&mut out, Opcode::Close, b"..");
        let mut framed = out.freeze();
        let taken: Vec<_> = std::iter::from_fn(|| take(&mut framed)).collect();
        assert_eq!(taken, payloads);
        assert_eq!(take(&mut Bytes::from_static(b"\x81\x05Hel")), None);
    }

    #[test]
    fn a_pong_gives_the_token_of_its_ping_back() {
        let framed = ping(0x0123_4567_89ab_cdef);
        assert_eq!(pong_token(&framed[2..]), Some(0x0123_4567_89ab_cdef));
        assert_eq!(pong_token(b"beat"), None);
    }
}
