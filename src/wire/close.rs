//! Why a connection is closed, in one table: the number alone tells a client whether to come back.
//!
//! The numbers below 4000 are those of RFC 6455, section 7.4.1, and its registry; the others are ours and never change
//! their meaning. `docs/protocols/native.md` shows the same table, and a test compares them.

use bytes::{Bytes, BytesMut};

use super::frame::{self, Opcode};

/// Why a connection is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    Normal,
    ProtocolError,
    UnsupportedData,
    InvalidText,
    TooBig,
    Internal,
    Restarting,
    BadFrame,
    Unauthenticated,
    TokenRevoked,
    TokenExpired,
    TenantBanned,
    SlowConsumer,
    HeartbeatMissed,
    LimitReached,
}

/// What a client may know of a [`CloseReason`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CloseInfo {
    pub code: u16,
    pub name: &'static str,
    /// Whether the client should connect again and resume from its cursors.
    pub reconnect: bool,
    pub meaning: &'static str,
}

impl CloseReason {
    pub const ALL: [Self; 15] = [
        Self::Normal,
        Self::ProtocolError,
        Self::UnsupportedData,
        Self::InvalidText,
        Self::TooBig,
        Self::Internal,
        Self::Restarting,
        Self::BadFrame,
        Self::Unauthenticated,
        Self::TokenRevoked,
        Self::TokenExpired,
        Self::TenantBanned,
        Self::SlowConsumer,
        Self::HeartbeatMissed,
        Self::LimitReached,
    ];

    pub fn info(self) -> CloseInfo {
        match self {
            Self::Normal => info(1000, "normal", false, "the client asked for it"),
            Self::ProtocolError => {
                info(1002, "protocol_error", false, "a frame was not one of RFC 6455, unmasked or compressed")
            }
            Self::UnsupportedData => {
                info(1003, "unsupported_data", false, "a kind of frame that the sub-protocol does not speak")
            }
            Self::InvalidText => info(1007, "invalid_text", false, "a text that is not UTF-8"),
            Self::TooBig => info(1009, "too_big", false, "a frame or message larger than the limit"),
            Self::Internal => info(1011, "internal", true, "the server has failed"),
            Self::Restarting => info(1012, "restarting", true, "the server restarts"),
            Self::BadFrame => info(
                4400,
                "bad_frame",
                false,
                "too many frames that could not be understood, or one that did not come to its end in time",
            ),
            Self::Unauthenticated => {
                info(4401, "unauthenticated", false, "the token is no good, or none came within 10 seconds")
            }
            Self::TokenRevoked => info(
                4401,
                "token_revoked",
                false,
                "the token has been revoked; whoever may get a new one connects with it",
            ),
            Self::TokenExpired => {
                info(4403, "token_expired", false, "the token has expired; connect with a new one and resume")
            }
            Self::TenantBanned => info(
                4406,
                "tenant_banned",
                false,
                "the user has been banned from the tenant; what refuses the next connection says for how long",
            ),
            Self::SlowConsumer => info(4408, "slow_consumer", true, "the client did not read what was sent"),
            Self::HeartbeatMissed => info(4409, "heartbeat_missed", true, "nothing was heard of the client"),
            Self::LimitReached => info(
                4429,
                "limit_reached",
                true,
                "as many connections are open as a limit allows, or too many tokens were no good; the reply to `auth` \
                 says which, and when to come back",
            ),
        }
    }

    /// Encodes the close frame, whose text is the reason's name.
    pub fn frame(self) -> Bytes {
        let mut out = BytesMut::new();
        self.put_frame(&mut out);
        out.freeze()
    }

    /// Appends the close frame to `out`.
    pub fn put_frame(self, out: &mut BytesMut) {
        let CloseInfo { code, name, .. } = self.info();
        let payload = [&code.to_be_bytes(), name.as_bytes()].concat();
        frame::put_frame(out, Opcode::Close, &payload);
    }
}

const fn info(code: u16, name: &'static str, reconnect: bool, meaning: &'static str) -> CloseInfo {
    CloseInfo { code, name, reconnect, meaning }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_close_frame_carries_code_and_name() {
        assert_eq!(&CloseReason::SlowConsumer.frame()[..], b"\x88\x0f\x11\x38slow_consumer");
    }

    #[test]
    fn every_close_frame_is_short_enough_and_a_code_alone_tells_whether_to_come_back() {
        let names: BTreeSet<_> = CloseReason::ALL.iter().map(|it| it.info().name).collect();
        assert_eq!(names.len(), CloseReason::ALL.len());
        let codes: BTreeSet<_> = CloseReason::ALL.iter().map(|it| it.info().code).collect();
        let answers: BTreeSet<_> = CloseReason::ALL.iter().map(|it| (it.info().code, it.info().reconnect)).collect();
        assert_eq!(codes.len(), answers.len());
        assert!(CloseReason::ALL.iter().all(|it| it.info().name.len() + 2 <= frame::CONTROL_BYTES_MAX));
    }
}
