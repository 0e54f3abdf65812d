//! As much of RFC 6455 as load and limit need: no fragments, no extensions, one mask.

/// A constant, because nobody has to be protected from anybody here; not zero, so that the server has to work for it.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub const TEXT: u8 = 0x1;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// What the header of a frame says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub opcode: u8,
    pub mask: Option<[u8; 4]>,
    /// Of the header itself.
    pub bytes: usize,
    pub payload: usize,
}

/// Reads the header that `input` begins with, if all of it is there.
pub fn header(input: &[u8]) -> Option<Header> {
    let (&first, &second) = (input.first()?, input.get(1)?);
    let (payload, mut bytes) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(input.get(2..4)?.try_into().ok()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(input.get(2..10)?.try_into().ok()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    let mask = if second & 0x80 == 0 {
        None
    } else {
        let mask = input.get(bytes..bytes + 4)?.try_into().ok()?;
        bytes += 4;
        Some(mask)
    };
    Some(Header { opcode: first & 0x0f, mask, bytes, payload })
}

/// Adds a client's frame to `out`.
pub fn put_masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    put_header(out, opcode, payload.len(), 0x80);
    out.extend(MASK);
    let from = out.len();
    out.extend_from_slice(payload);
    unmask(&mut out[from..], MASK);
}

/// Adds the header of a frame of `payload` bytes to `out`; `masked` is the bit that says whether a mask follows.
pub fn put_header(out: &mut Vec<u8>, opcode: u8, payload: usize, masked: u8) {
    out.push(0x80 | opcode);
    match payload {
        0..126 => out.push(masked | u8::try_from(payload).expect("it is below 126")),
        126..=0xffff => {
            out.push(masked | 126);
            out.extend(u16::try_from(payload).expect("it is at most 0xffff").to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend((payload as u64).to_be_bytes());
        }
    }
}

pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for (byte, key) in payload.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}
