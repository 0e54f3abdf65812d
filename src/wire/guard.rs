//! The frame guard: reads the headers of a client's WebSocket frames, in whatever pieces they arrive, and refuses what
//! must not be read on (RFC 6455, sections 5.1 to 5.5).
//!
//! A length is refused as soon as it has been announced, before a byte of the payload has come, so nobody makes the
//! server hold what it will not take. The guard keeps no payload and knows no time: its host counts how long
//! [`FrameGuard::in_frame`] stays true and says when a new window for control frames begins. The payloads are put
//! together by [`super::inbound`].

use super::close::CloseReason;
use super::frame::CONTROL_BYTES_MAX;

/// How much a client may send at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The payload of one frame.
    pub frame_bytes_max: u64,
    /// The frames of one message.
    pub fragments_max: usize,
    /// The payload of all frames of one message.
    pub message_bytes_max: u64,
    /// The close, ping and pong frames between two calls of [`FrameGuard::new_window`].
    pub control_frames_max: usize,
}

impl Limits {
    /// What a client whose token has been verified may send.
    pub const AUTHENTICATED: Self =
        Self { frame_bytes_max: 64 * 1024, fragments_max: 64, message_bytes_max: 256 * 1024, control_frames_max: 20 };

    /// What anybody may send: a token, and little more.
    pub const BEFORE_AUTH: Self =
        Self { frame_bytes_max: 4 * 1024, message_bytes_max: 4 * 1024, ..Self::AUTHENTICATED };

    /// What a client may send that nobody listens to: as much as the sockets of Misakey's boxes took.
    pub const LISTENER: Self = Self { frame_bytes_max: 8 * 1024, message_bytes_max: 8 * 1024, ..Self::AUTHENTICATED };
}

/// Why a client's frame is not read on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GuardError {
    /// Section 5.2; the first of the three would mean compression, which is never negotiated.
    #[error("a reserved bit is set")]
    ReservedBits,
    #[error("the opcode is reserved")]
    ReservedOpcode,
    #[error("the frame is not masked")]
    Unmasked,
    #[error("a control frame is fragmented")]
    FragmentedControl,
    #[error("a control frame is longer than 125 bytes")]
    LongControl,
    #[error("a frame continues nothing")]
    LoneContinuation,
    #[error("a message begins inside another")]
    Interleaved,
    #[error("a length is not in the fewest bytes that hold it")]
    LengthNotMinimal,
    #[error("a length has 64 bits")]
    LengthTopBit,
    #[error("the frame is too big")]
    FrameTooBig,
    #[error("the message is too big")]
    MessageTooBig,
    #[error("the message has too many fragments")]
    TooManyFragments,
    #[error("too many control frames")]
    TooManyControlFrames,
}

impl GuardError {
    pub fn close_reason(self) -> CloseReason {
        match self {
            Self::ReservedBits
            | Self::ReservedOpcode
            | Self::Unmasked
            | Self::FragmentedControl
            | Self::LongControl
            | Self::LoneContinuation
            | Self::Interleaved
            | Self::LengthNotMinimal
            | Self::LengthTopBit
            | Self::TooManyControlFrames => CloseReason::ProtocolError,
            Self::FrameTooBig | Self::MessageTooBig | Self::TooManyFragments => CloseReason::TooBig,
        }
    }
}

/// Reads headers and counts. Once it has refused a frame, it refuses everything after it in the same way.
#[derive(Clone, Debug)]
pub struct FrameGuard {
    limits: Limits,
    /// What has come of the current header: its first `have` bytes.
    header: [u8; HEADER_BYTES_MAX],
    have: usize,
    /// The frame whose payload is being read, and how much of it is still to come.
    frame: Option<(Header, u64)>,
    /// What has been announced of the message whose last fragment has not begun.
    message: Option<Announced>,
    control_frames: usize,
    failed: Option<GuardError>,
}

/// What the header of a frame said, and passed the checks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// No fragment follows.
    pub(super) last: bool,
    pub(super) payload_bytes: u64,
    pub(super) mask: [u8; MASK_BYTES],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// The next thing in a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step<'a> {
    Begin(Header),
    /// A piece of the payload, still masked, and how much of it is yet to come.
    Payload(&'a [u8], u64),
    End(Header),
}

#[derive(Clone, Copy, Debug)]
struct Announced {
    fragments: usize,
    bytes: u64,
}

pub(super) const MASK_BYTES: usize = 4;
/// Two bytes, a 64-bit length and a mask.
const HEADER_BYTES_MAX: usize = 2 + 8 + MASK_BYTES;

impl FrameGuard {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            header: [0; HEADER_BYTES_MAX],
            have: 0,
            frame: None,
            message: None,
            control_frames: 0,
            failed: None,
        }
    }

    /// Reads the headers in `chunk`. Every byte the client sends has to pass here, in order.
    pub fn inspect(&mut self, mut chunk: &[u8]) -> Result<(), GuardError> {
        while self.step(&mut chunk)?.is_some() {}
        Ok(())
    }

    /// Whether a frame, or a message of several, has begun and not ended.
    pub fn in_frame(&self) -> bool {
        self.have > 0 || self.frame.is_some() || self.message.is_some()
    }

    /// Holds from the next header on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Holds from the next header on.
    pub fn set_frame_bytes_max(&mut self, frame_bytes_max: u64) {
        self.limits.frame_bytes_max = frame_bytes_max;
    }

    /// Begins to count control frames anew.
    pub fn new_window(&mut self) {
        self.control_frames = 0;
    }

    /// Takes back the count of one control frame: it was asked for.
    pub fn forgive_control_frame(&mut self) {
        self.control_frames = self.control_frames.saturating_sub(1);
    }

    /// The frame that has begun and not ended.
    pub(super) fn frame(&self) -> Option<Header> {
        self.frame.map(|(header, _)| header)
    }

    /// Takes the next thing off `chunk`; `None` when it is used up.
    pub(super) fn step<'a>(&mut self, chunk: &mut &'a [u8]) -> Result<Option<Step<'a>>, GuardError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let Some((header, left)) = &mut self.frame else {
            return self.read_header(chunk).inspect_err(|error| self.failed = Some(*error));
        };
        if *left == 0 {
            let header = *header;
            self.frame = None;
            return Ok(Some(Step::End(header)));
        }
        if chunk.is_empty() {
            return Ok(None);
        }
        let here = usize::try_from(*left).unwrap_or(usize::MAX).min(chunk.len());
        let (piece, rest) = chunk.split_at(here);
        *chunk = rest;
        *left -= here as u64;
        Ok(Some(Step::Payload(piece, *left)))
    }

    /// Reads up to one header, checking each part of it once it is there.
    fn read_header<'a>(&mut self, chunk: &mut &'a [u8]) -> Result<Option<Step<'a>>, GuardError> {
        if !self.fill(2, chunk) {
            return Ok(None);
        }
        let [first, second, ..] = self.header;
        let (kind, last) = self.kind(first, second)?;
        let length_end = match second & 0x7f {
            126 => 2 + 2,
            127 => 2 + 8,
            _ => 2,
        };
        if !self.fill(length_end, chunk) {
            return Ok(None);
        }
        let payload_bytes = self.payload_bytes(second & 0x7f)?;
        let announced = self.admit(kind, payload_bytes)?;
        if !self.fill(length_end + MASK_BYTES, chunk) {
            return Ok(None);
        }
        let mut mask = [0; MASK_BYTES];
        mask.copy_from_slice(&self.header[length_end..length_end + MASK_BYTES]);
        let header = Header { kind, last, payload_bytes, mask };
        self.have = 0;
        self.frame = Some((header, payload_bytes));
        match announced {
            Some(announced) => self.message = (!last).then_some(announced),
            None => self.control_frames += 1,
        }
        Ok(Some(Step::Begin(header)))
    }

    /// Reads on until the header has `want` bytes; says whether it has.
    fn fill(&mut self, want: usize, chunk: &mut &[u8]) -> bool {
        let missing = want.saturating_sub(self.have).min(chunk.len());
        let (part, rest) = chunk.split_at(missing);
        self.header[self.have..self.have + missing].copy_from_slice(part);
        self.have += missing;
        *chunk = rest;
        self.have >= want
    }

    fn kind(&self, first: u8, second: u8) -> Result<(Kind, bool), GuardError> {
        if first & 0x70 != 0 {
            return Err(GuardError::ReservedBits);
        }
        let last = first & 0x80 != 0;
        let kind = match first & 0x0f {
            0x0 if self.message.is_none() => return Err(GuardError::LoneContinuation),
            0x1 | 0x2 if self.message.is_some() => return Err(GuardError::Interleaved),
            0x0 => Kind::Continuation,
            0x1 => Kind::Text,
            0x2 => Kind::Binary,
            0x8 => Kind::Close,
            0x9 => Kind::Ping,
            0xa => Kind::Pong,
            _ => return Err(GuardError::ReservedOpcode),
        };
        if second & 0x80 == 0 {
            return Err(GuardError::Unmasked);
        }
        if kind.is_control() && !last {
            return Err(GuardError::FragmentedControl);
        }
        if kind.is_control() && usize::from(second & 0x7f) > CONTROL_BYTES_MAX {
            return Err(GuardError::LongControl);
        }
        Ok((kind, last))
    }

    fn payload_bytes(&self, short: u8) -> Result<u64, GuardError> {
        let [_, _, a, b, c, d, e, f, g, h, ..] = self.header;
        let (length, least) = match short {
            126 => (u64::from(u16::from_be_bytes([a, b])), 126),
            127 => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 0x1_0000),
            short => (u64::from(short), 0),
        };
        if length > i64::MAX as u64 {
            return Err(GuardError::LengthTopBit);
        }
        if length < least {
            return Err(GuardError::LengthNotMinimal);
        }
        Ok(length)
    }

    /// Whether a frame of this kind and length is within the limits; for a data frame, what its message has announced
    /// with it.
    fn admit(&self, kind: Kind, payload_bytes: u64) -> Result<Option<Announced>, GuardError> {
        if kind.is_control() {
            let full = self.control_frames >= self.limits.control_frames_max;
            return if full { Err(GuardError::TooManyControlFrames) } else { Ok(None) };
        }
        if payload_bytes > self.limits.frame_bytes_max {
            return Err(GuardError::FrameTooBig);
        }
        let before = self.message.unwrap_or(Announced { fragments: 0, bytes: 0 });
        if before.fragments >= self.limits.fragments_max {
            return Err(GuardError::TooManyFragments);
        }
        let bytes = before.bytes.saturating_add(payload_bytes);
        if bytes > self.limits.message_bytes_max {
            return Err(GuardError::MessageTooBig);
        }
        Ok(Some(Announced { fragments: before.fragments + 1, bytes }))
    }
}

impl Kind {
    pub(super) fn is_control(self) -> bool {
        match self {
            Self::Close | Self::Ping | Self::Pong => true,
            Self::Continuation | Self::Text | Self::Binary => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_over_the_limit_is_refused_before_the_payload_and_the_mask_have_come() {
        let mut announced = vec![0x82, 0x80 | 127];
        announced.extend((1_u64 << 30).to_be_bytes());
        assert_eq!(guard().inspect(&announced), Err(GuardError::FrameTooBig));
        assert_eq!(GuardError::FrameTooBig.close_reason(), CloseReason::TooBig);
    }

    #[test]
    fn a_million_empty_fragments_end_at_the_limit() {
        let mut guard = guard();
        guard.inspect(&[0x02, 0x80, 0, 0, 0, 0]).unwrap();
        let refused = (1..1_000_000).find(|_| guard.inspect(&[0x00, 0x80, 0, 0, 0, 0]).is_err());
        assert_eq!(refused, Some(64));
        assert_eq!(guard.inspect(&[0x80, 0x80, 0, 0, 0, 0]), Err(GuardError::TooManyFragments));
    }

    #[test]
    fn what_the_rfc_forbids_is_refused() {
        let refusals: &[(&[u8], GuardError)] = &[
            (&[0x81, 0x05], GuardError::Unmasked),
            (&[0xc1, 0x85], GuardError::ReservedBits),
            (&[0x91, 0x85], GuardError::ReservedBits),
            (&[0x83, 0x85], GuardError::ReservedOpcode),
            (&[0x8b, 0x85], GuardError::ReservedOpcode),
            (&[0x09, 0x80], GuardError::FragmentedControl),
            (&[0x89, 0x80 | 126], GuardError::LongControl),
            (&[0x80, 0x80], GuardError::LoneContinuation),
            (&[0x01, 0x80, 0, 0, 0, 0, 0x01, 0x80], GuardError::Interleaved),
            (&[0x82, 0x80 | 126, 0, 125], GuardError::LengthNotMinimal),
            (&[0x82, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], GuardError::LengthNotMinimal),
            (&[0x82, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0], GuardError::LengthTopBit),
        ];
        for (bytes, error) in refusals {
            assert_eq!(guard().inspect(bytes), Err(*error), "{bytes:02x?} whole");
            let mut guard = guard();
            let first = bytes.iter().find_map(|byte| guard.inspect(&[*byte]).err());
            assert_eq!(first, Some(*error), "{bytes:02x?} byte by byte");
        }
    }

    #[test]
    fn fragments_together_stay_below_the_limit_of_a_message() {
        let mut guard = FrameGuard::new(Limits { message_bytes_max: 10, ..Limits::AUTHENTICATED });
        guard.inspect(&[0x02, 0x86, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(guard.inspect(&[0x80, 0x85]), Err(GuardError::MessageTooBig));
    }

    #[test]
    fn control_frames_are_counted_per_window_and_may_come_between_fragments() {
        let mut guard = FrameGuard::new(Limits { control_frames_max: 2, ..Limits::AUTHENTICATED });
        let ping = [0x89, 0x80, 0, 0, 0, 0];
        guard.inspect(&[0x01, 0x80, 0, 0, 0, 0]).unwrap();
        guard.inspect(&[ping, ping].concat()).unwrap();
        guard.new_window();
        guard.inspect(&[ping, ping].concat()).unwrap();
        guard.inspect(&[0x80, 0x80, 0, 0, 0, 0]).unwrap();
        assert_eq!(guard.inspect(&ping), Err(GuardError::TooManyControlFrames));
    }

    #[test]
    fn a_frame_lasts_from_its_first_byte_to_the_end_of_its_message() {
        let mut guard = guard();
        assert!(!guard.in_frame());
        for byte in [0x01, 0x81, 0, 0, 0, 0, b'a'] {
            guard.inspect(&[byte]).unwrap();
            assert!(guard.in_frame());
        }
        guard.inspect(&[0x80, 0x80, 0, 0, 0]).unwrap();
        assert!(guard.in_frame());
        guard.inspect(&[0]).unwrap();
        assert!(!guard.in_frame());
    }

    #[test]
    fn the_limit_can_be_raised_between_frames() {
        let mut guard = FrameGuard::new(Limits::BEFORE_AUTH);
        let announced = [0x82, 0x80 | 126, 0x40, 0];
        assert_eq!(guard.clone().inspect(&announced), Err(GuardError::FrameTooBig));
        guard.set_limits(Limits::AUTHENTICATED);
        assert_eq!(guard.inspect(&announced), Ok(()));
    }

    fn guard() -> FrameGuard {
        FrameGuard::new(Limits::AUTHENTICATED)
    }
}
