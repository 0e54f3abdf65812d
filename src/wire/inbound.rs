//! Puts a client's messages together from whatever pieces arrive: through the [guard](super::guard), unmasked, joined
//! from their fragments, and checked to be UTF-8 where they say they are text.
//!
//! Memory follows what has come, not what was announced. The assembler knows no time and no command; the session that
//! hosts it answers pings and decodes.

use bytes::Bytes;

use super::close::CloseReason;
use super::guard::{FrameGuard, GuardError, Header, Kind, Limits, MASK_BYTES, Step};

/// A message or control frame of a client, complete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Incoming {
    /// Valid UTF-8.
    Text(Bytes),
    Binary(Bytes),
    Ping(Bytes),
    Pong(Bytes),
    /// With the client's code, where it gave one. Whatever comes after is dropped.
    Close(Option<u16>),
}

/// Why nothing more is read of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InboundError {
    #[error(transparent)]
    Frame(#[from] GuardError),
    #[error("a text is not UTF-8")]
    InvalidText,
    /// One byte long, or with a code that no endpoint may send (RFC 6455, section 7.4).
    #[error("the close frame is malformed")]
    BadClose,
}

impl InboundError {
    pub fn close_reason(self) -> CloseReason {
        match self {
            Self::Frame(error) => error.close_reason(),
            Self::InvalidText => CloseReason::InvalidText,
            Self::BadClose => CloseReason::ProtocolError,
        }
    }
}

/// Turns chunks into messages. After an error there is nothing more to be had from it.
#[derive(Debug)]
pub struct Assembler {
    guard: FrameGuard,
    /// Of the current frame; rotated so that it begins with the byte for what comes next.
    mask: [u8; MASK_BYTES],
    is_text: bool,
    data: Vec<u8>,
    /// The payload of a control frame, which may come between the fragments of a message.
    control: Vec<u8>,
    closed: bool,
    failed: Option<InboundError>,
}

/// Room is made for what has come and at most this much more.
const AHEAD_BYTES_MAX: usize = 4 * 1024;

impl Assembler {
    pub fn new(limits: Limits) -> Self {
        Self {
            guard: FrameGuard::new(limits),
            mask: [0; MASK_BYTES],
            is_text: false,
            data: Vec::new(),
            control: Vec::new(),
            closed: false,
            failed: None,
        }
    }

    /// Takes the next message off `chunk`; `None` when that is used up. To be called until then.
    pub fn next(&mut self, chunk: &mut &[u8]) -> Result<Option<Incoming>, InboundError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.closed {
            *chunk = &[];
            return Ok(None);
        }
        self.read(chunk).inspect_err(|error| {
            self.failed = Some(*error);
            self.data = Vec::new();
        })
    }

    /// Whether a frame, or a message of several, has begun and not ended.
    pub fn in_frame(&self) -> bool {
        self.guard.in_frame()
    }

    /// Holds from the next frame on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.guard.set_limits(limits);
    }

    /// Begins to count control frames anew.
    pub fn new_window(&mut self) {
        self.guard.new_window();
    }

    /// Does not count the control frame that has just been read: it was asked for.
    pub fn forgive_control_frame(&mut self) {
        self.guard.forgive_control_frame();
    }

    fn read(&mut self, chunk: &mut &[u8]) -> Result<Option<Incoming>, InboundError> {
        let mut in_control = self.guard.frame().is_some_and(|header| header.kind.is_control());
        while let Some(step) = self.guard.step(chunk)? {
            match step {
                Step::Begin(header) => {
                    in_control = header.kind.is_control();
                    self.begin(header);
                }
                Step::Payload(masked, left) => {
                    let into = if in_control { &mut self.control } else { &mut self.data };
                    append(into, masked, left, &mut self.mask);
                }
                Step::End(header) => {
                    if let Some(incoming) = self.end(header)? {
                        return Ok(Some(incoming));
                    }
                }
            }
        }
        Ok(None)
    }

    fn begin(&mut self, header: Header) {
        self.mask = header.mask;
        match header.kind {
            Kind::Text => self.is_text = true,
            Kind::Binary => self.is_text = false,
            Kind::Continuation | Kind::Close | Kind::Ping | Kind::Pong => {}
        }
    }

    fn end(&mut self, header: Header) -> Result<Option<Incoming>, InboundError> {
        Ok(Some(match header.kind {
            Kind::Continuation | Kind::Text | Kind::Binary if !header.last => return Ok(None),
            Kind::Continuation | Kind::Text | Kind::Binary => {
                let data = std::mem::take(&mut self.data);
                match self.is_text {
                    true if std::str::from_utf8(&data).is_err() => return Err(InboundError::InvalidText),
                    true => Incoming::Text(data.into()),
                    false => Incoming::Binary(data.into()),
                }
            }
            Kind::Ping => Incoming::Ping(std::mem::take(&mut self.control).into()),
            Kind::Pong => Incoming::Pong(std::mem::take(&mut self.control).into()),
            Kind::Close => {
                self.closed = true;
                Incoming::Close(close_code(&self.control)?)
            }
        }))
    }
}

/// Unmasks `masked` (RFC 6455, section 5.3) behind what has come before; `left` bytes of the frame are yet to come.
fn append(into: &mut Vec<u8>, masked: &[u8], left: u64, mask: &mut [u8; MASK_BYTES]) {
    if into.capacity() - into.len() < masked.len() {
        let ahead = usize::try_from(left).unwrap_or(usize::MAX).min(AHEAD_BYTES_MAX);
        into.reserve_exact(masked.len() + ahead);
    }
    let from = into.len();
    into.extend_from_slice(masked);
    // Sixteen bytes at once become one instruction.
    let (blocks, rest) = into[from..].as_chunks_mut::<16>();
    let keys: [u8; 16] = std::array::from_fn(|at| mask[at % MASK_BYTES]);
    for block in blocks {
        *block = std::array::from_fn(|at| block[at] ^ keys[at]);
    }
    for (byte, key) in rest.iter_mut().zip(keys) {
        *byte ^= key;
    }
    mask.rotate_left(masked.len() % MASK_BYTES);
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, InboundError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(InboundError::BadClose) };
    };
    let code = u16::from_be_bytes(*code);
    // Section 7.4: 1004 to 1006 and 1015 are never sent, and the rest below 3000 is not assigned.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(InboundError::BadClose);
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(InboundError::InvalidText);
    }
    Ok(Some(code))
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]
mod tests {
    use super::*;

    #[test]
    fn the_masked_example_of_the_rfc_comes_out() {
        // RFC 6455, section 5.7.
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(read(&[&hello]), Ok(vec![Incoming::Text("Hello".into())]));
    }

    #[test]
    fn fragments_are_joined_and_a_ping_between_them_comes_first() {
        let parts = [client(0x01, b"hel"), client(0x89, b"beat"), client(0x80, b"lo")].concat();
        let expected = vec![Incoming::Ping("beat".into()), Incoming::Text("hello".into())];
        assert_eq!(read(&[&parts]), Ok(expected));
    }

    #[test]
    fn a_character_may_be_split_between_fragments_but_must_be_whole_in_the_end() {
        let whole = [client(0x01, &[0xc3]), client(0x80, &[0xa9])].concat();
        assert_eq!(read(&[&whole]), Ok(vec![Incoming::Text("é".into())]));
        let broken = [client(0x01, &[0xc3]), client(0x80, b"x")].concat();
        assert_eq!(read(&[&broken]), Err(InboundError::InvalidText));
        assert_eq!(InboundError::InvalidText.close_reason(), CloseReason::InvalidText);
        let cut = [client(0x01, &[0xc3]), client(0x80, b"")].concat();
        assert_eq!(read(&[&cut]), Err(InboundError::InvalidText));
    }

    #[test]
    fn binary_may_be_anything() {
        assert_eq!(read(&[&client(0x82, &[0xff, 0])]), Ok(vec![Incoming::Binary(vec![0xff, 0].into())]));
    }

    #[test]
    fn nothing_is_read_after_a_close() {
        let frames = [client(0x88, &[0x03, 0xe8]), client(0x81, b"late")].concat();
        assert_eq!(read(&[&frames]), Ok(vec![Incoming::Close(Some(1000))]));
        assert_eq!(read(&[&client(0x88, b"")]), Ok(vec![Incoming::Close(None)]));
    }

    #[test]
    fn a_malformed_close_is_refused() {
        for payload in [&[0x03][..], &1005_u16.to_be_bytes(), &999_u16.to_be_bytes(), &5000_u16.to_be_bytes()] {
            assert_eq!(read(&[&client(0x88, payload)]), Err(InboundError::BadClose), "{payload:?}");
        }
        assert_eq!(read(&[&client(0x88, &[0x03, 0xe8, 0xff])]), Err(InboundError::InvalidText));
    }

    #[test]
    fn memory_follows_what_has_come_not_what_was_announced() {
        let mut assembler = Assembler::new(Limits::AUTHENTICATED);
        let mut chunk = &client(0x82, &[7; 0xffff])[..20];
        assert_eq!(assembler.next(&mut chunk), Ok(None));
        assert!(assembler.in_frame());
        assert!(assembler.data.capacity() <= 20 + AHEAD_BYTES_MAX);
    }

    fn read(chunks: &[&[u8]]) -> Result<Vec<Incoming>, InboundError> {
        let mut assembler = Assembler::new(Limits::AUTHENTICATED);
        let mut incoming = Vec::new();
        for mut chunk in chunks.iter().copied() {
            while let Some(next) = assembler.next(&mut chunk)? {
                incoming.push(next);
            }
        }
        Ok(incoming)
    }

    fn client(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let mut frame = match payload.len() {
            short @ 0..=125 => vec![first, 0x80 | short as u8],
            long => [&[first, 0x80 | 126][..], &(long as u16).to_be_bytes()].concat(),
        };
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        frame
    }
}
