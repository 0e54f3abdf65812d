//! What a client is told when something is refused, and the one table of all codes.
//!
//! A code never changes its meaning. `docs/errors.md` shows the same table, and a test compares them. Sockets and REST
//! use the same codes.

use std::fmt;
use std::time::Duration;

use crate::domain::account::AccountRejection;
use crate::domain::exclusion::TenantBan;
use crate::domain::{Name, Rejection, Timestamp};

use super::cursor::CursorError;

/// A refusal: a code for programs, a sentence for people, and whether to try again.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    code: &'static str,
    status: u16,
    message: String,
    retry: Retry,
    retry_after_ms: Option<u64>,
    /// Which limit has been reached, by its name in the configuration.
    limit: Option<&'static str>,
    ban: Option<Box<BanTold>>,
}

/// What who is banned from a tenant is told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct BanTold {
    until: Option<Timestamp>,
    reason: Option<Name>,
}

/// Whether sending the same again helps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retry {
    /// It will be refused again.
    No,
    /// It may have happened already: send the same again, with the same `client_id` where there was one, now or
    /// after having connected again.
    Same,
    /// It has not happened, and may succeed later.
    Later,
}

/// What a code means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CodeInfo {
    pub code: &'static str,
    /// What it is over HTTP (RFC 9110, section 15).
    pub status: u16,
    pub meaning: &'static str,
    pub retry: Retry,
}

impl Retry {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Same => "same",
            Self::Later => "later",
        }
    }
}

/// What is asked to wait where nothing better is known.
const PAUSE: Duration = Duration::from_secs(1);

/// A cause that the client is told of should not fill a frame with what the client sent.
const MESSAGE_BYTES_MAX: usize = 240;

impl Refusal {
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Its status over HTTP.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Which limit has been reached, by its name in the configuration.
    pub fn limit(&self) -> Option<&'static str> {
        self.limit
    }

    /// When the ban ends by itself that it tells of.
    pub fn until(&self) -> Option<Timestamp> {
        self.ban.as_ref()?.until
    }

    /// Why somebody is banned, as who banned has said it.
    pub fn reason(&self) -> Option<&str> {
        Some(self.ban.as_ref()?.reason.as_ref()?.as_str())
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn retry(&self) -> Retry {
        self.retry
    }

    pub fn retry_after_ms(&self) -> Option<u64> {
        self.retry_after_ms
    }

    /// `cause` says what is wrong with what the client sent.
    pub fn bad_request(cause: impl fmt::Display) -> Self {
        Self { message: shortened(cause.to_string()), ..Self::of(BAD_REQUEST) }
    }

    /// `kind` is what the client wrote.
    pub fn unknown_command(kind: &str) -> Self {
        Self { message: shortened(format!("there is no command {kind:?}")), ..Self::of(UNKNOWN_COMMAND) }
    }

    pub fn too_deep() -> Self {
        Self::of(TOO_DEEP)
    }

    pub fn unauthenticated() -> Self {
        Self::of(UNAUTHENTICATED)
    }

    pub fn token_invalid() -> Self {
        Self::of(TOKEN_INVALID)
    }

    pub fn token_expired() -> Self {
        Self::of(TOKEN_EXPIRED)
    }

    pub fn ticket_invalid() -> Self {
        Self::of(TICKET_INVALID)
    }

    pub fn token_revoked() -> Self {
        Self::of(TOKEN_REVOKED)
    }

    /// What who is banned from a tenant is told at `now`, while the ban holds.
    pub fn tenant_banned(ban: &TenantBan, now: Timestamp) -> Self {
        let refusal = Self::from(AccountRejection::TenantBanned);
        let told = BanTold { until: ban.until, reason: ban.reason.clone() };
        let refusal = Self { ban: Some(Box::new(told)), ..refusal };
        let Some(until) = ban.until else { return refusal };
        let wait = u64::try_from(until.0.saturating_sub(now.0)).unwrap_or(0);
        Self { retry: Retry::Later, ..refusal }.after(Duration::from_millis(wait))
    }

    pub fn already_authenticated() -> Self {
        Self::of(ALREADY_AUTHENTICATED)
    }

    pub fn cursor_invalid() -> Self {
        Self::of(CURSOR_INVALID)
    }

    pub fn cursor_foreign() -> Self {
        Self::of(CURSOR_FOREIGN)
    }

    pub fn epoch_changed() -> Self {
        Self::of(EPOCH_CHANGED)
    }

    pub fn not_following() -> Self {
        Self::of(NOT_FOLLOWING)
    }

    pub fn follow_mixed() -> Self {
        Self::of(FOLLOW_MIXED)
    }

    pub fn too_many_follows() -> Self {
        Self::of(TOO_MANY_FOLLOWS)
    }

    /// `after` is when there should be room again.
    pub fn busy(after: Duration) -> Self {
        Self::of(BUSY).after(after)
    }

    pub fn unavailable() -> Self {
        Self::of(UNAVAILABLE).after(PAUSE)
    }

    pub fn storage_full() -> Self {
        Self::of(STORAGE_FULL).after(30 * PAUSE)
    }

    pub fn shutting_down() -> Self {
        Self::of(SHUTTING_DOWN).after(PAUSE)
    }

    /// `after` is when the room is tried again.
    pub fn room_shut(after: Duration) -> Self {
        Self::of(ROOM_SHUT).after(after)
    }

    pub fn query_too_broad() -> Self {
        Self::of(QUERY_TOO_BROAD)
    }

    pub fn command_refused() -> Self {
        Self::of(COMMAND_REFUSED)
    }

    pub fn internal() -> Self {
        Self::of(INTERNAL)
    }

    pub fn origin_refused() -> Self {
        Self::of(ORIGIN_REFUSED)
    }

    /// `cause` says what is wrong with the handshake.
    pub fn bad_handshake(cause: impl fmt::Display) -> Self {
        Self { message: shortened(cause.to_string()), ..Self::of(BAD_HANDSHAKE) }
    }

    pub fn subprotocol_unknown() -> Self {
        Self::of(SUBPROTOCOL_UNKNOWN)
    }

    pub fn upgrade_required() -> Self {
        Self::of(UPGRADE_REQUIRED)
    }

    pub fn route_not_found() -> Self {
        Self::of(ROUTE_NOT_FOUND)
    }

    pub fn method_not_allowed() -> Self {
        Self::of(METHOD_NOT_ALLOWED)
    }

    pub fn media_type_unsupported() -> Self {
        Self::of(MEDIA_TYPE_UNSUPPORTED)
    }

    pub fn body_too_large() -> Self {
        Self::of(BODY_TOO_LARGE)
    }

    pub fn body_too_slow() -> Self {
        Self::of(BODY_TOO_SLOW)
    }

    /// `limit` is the name of the limit in the configuration; `after` is when there is room again.
    pub fn rate_limited(limit: &'static str, after: Duration) -> Self {
        let message = format!("more was asked than the limit {limit} allows; slow down");
        Self { message, limit: Some(limit), ..Self::of(RATE_LIMITED).after(after) }
    }

    /// `limit` is the name of the limit in the configuration.
    pub fn too_many_connections(limit: &'static str) -> Self {
        let message = format!("as many connections are open as the limit {limit} allows; close one first");
        Self { message, limit: Some(limit), ..Self::of(TOO_MANY_CONNECTIONS).after(PAUSE) }
    }

    /// `limit` is the name of the limit in the configuration.
    pub fn too_many_rooms(limit: &'static str) -> Self {
        Self { limit: Some(limit), ..Self::of(TOO_MANY_ROOMS) }
    }

    /// `limit` is the name of the limit in the configuration.
    pub fn file_too_large(limit: &'static str) -> Self {
        Self { limit: Some(limit), ..Self::of(FILE_TOO_LARGE) }
    }

    /// `limit` is the name of the limit in the configuration.
    pub fn quota_reached(limit: &'static str) -> Self {
        Self { limit: Some(limit), ..Self::of(QUOTA_REACHED) }
    }

    /// `limit` is the name of the limit in the configuration.
    pub fn too_many_uploads(limit: &'static str) -> Self {
        Self { limit: Some(limit), ..Self::of(TOO_MANY_UPLOADS).after(PAUSE) }
    }

    pub fn digest_mismatch() -> Self {
        Self::of(DIGEST_MISMATCH)
    }

    /// `offset` is how much of the upload there is.
    pub fn offset_mismatch(offset: u64) -> Self {
        let message = format!("the upload goes on at {offset}, and this is for another place");
        Self { message, ..Self::of(OFFSET_MISMATCH) }
    }

    pub fn tus_version() -> Self {
        Self::of(TUS_VERSION)
    }

    pub fn link_invalid() -> Self {
        Self::of(LINK_INVALID)
    }

    pub fn range_unsatisfiable() -> Self {
        Self::of(RANGE_UNSATISFIABLE)
    }

    /// Whether it says that a token is none of ours, as one that is guessed is not.
    pub fn is_of_a_bad_token(&self) -> bool {
        [TOKEN_INVALID.code, UNAUTHENTICATED.code].contains(&self.code)
    }

    fn of(CodeInfo { code, status, meaning, retry }: CodeInfo) -> Self {
        Self { code, status, message: meaning.to_owned(), retry, retry_after_ms: None, limit: None, ban: None }
    }

    fn after(self, pause: Duration) -> Self {
        Self { retry_after_ms: Some(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)), ..self }
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        // Only another command changes what the rules answer, or time where they say how much.
        let info = CODES.iter().find(|info| info.code == rejection.code());
        let info = *info.expect("a test holds every code of the rules to be in the table");
        let refusal = Self { message: rejection.to_string(), ..Self::of(info) };
        match rejection.wait_ms() {
            Some(wait) => Self { retry: Retry::Later, ..refusal }.after(Duration::from_millis(wait)),
            None => refusal,
        }
    }
}

impl From<AccountRejection> for Refusal {
    fn from(rejection: AccountRejection) -> Self {
        let info = CODES.iter().find(|info| info.code == rejection.code());
        Self::of(*info.expect("a test holds every code of the rules to be in the table"))
    }
}

impl From<CursorError> for Refusal {
    fn from(error: CursorError) -> Self {
        match error {
            CursorError::Invalid => Self::cursor_invalid(),
            CursorError::Foreign => Self::cursor_foreign(),
            CursorError::EpochChanged => Self::epoch_changed(),
        }
    }
}

fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push_str("...");
    }
    message
}

const BAD_REQUEST: CodeInfo = no("bad_request", 400, "the frame or request is not of the documented form");
const UNKNOWN_COMMAND: CodeInfo = no("unknown_command", 400, "there is no command of this type");
const TOO_DEEP: CodeInfo = no("too_deep", 400, "objects and arrays are nested more than 32 deep");
const UNAUTHENTICATED: CodeInfo = no(
    "unauthenticated",
    401,
    "this needs a token: `Authorization: Bearer <jwt>`, or over a WebSocket the command `auth`",
);
const TOKEN_INVALID: CodeInfo = no("token_invalid", 401, "the token cannot be verified");
const TOKEN_EXPIRED: CodeInfo = no("token_expired", 401, "the token has expired; a new one is needed");
const TOKEN_REVOKED: CodeInfo = no("token_revoked", 401, "the token has been revoked; a new one is needed");
const TICKET_INVALID: CodeInfo =
    no("ticket_invalid", 401, "the ticket has been used, is too old, or was made for another web page");
const ALREADY_AUTHENTICATED: CodeInfo =
    no("already_authenticated", 409, "this connection has another user; open another one for this token");
const CURSOR_INVALID: CodeInfo = no("cursor_invalid", 400, "this is not a cursor of this server");
const CURSOR_FOREIGN: CodeInfo = no(
    "cursor_foreign",
    400,
    "this cursor is for something else: a room's is good for that room, a world's for the whole world",
);
const EPOCH_CHANGED: CodeInfo = no(
    "epoch_changed",
    410,
    "the log was restored or repaired and no longer holds what this cursor stands after; read `history` again",
);
const NOT_FOLLOWING: CodeInfo = no("not_following", 409, "this connection does not follow the room");
const FOLLOW_MIXED: CodeInfo =
    no("follow_mixed", 409, "a connection follows single rooms or all of them, not both; unfollow first");
const TOO_MANY_FOLLOWS: CodeInfo = no("too_many_follows", 409, "this connection follows as many rooms as it may");
const BUSY: CodeInfo = later("busy", 503, "too much is under way; slow down");
const UNAVAILABLE: CodeInfo =
    same("unavailable", 503, "the outcome is not known: the command may or may not have been recorded");
const RATE_LIMITED: CodeInfo =
    later("rate_limited", 429, "more was asked than the limit that is named allows; slow down");
const TOO_MANY_CONNECTIONS: CodeInfo =
    later("too_many_connections", 429, "as many connections are open as the limit that is named allows");
const TOO_MANY_ROOMS: CodeInfo =
    no("too_many_rooms", 409, "the tenant has as many rooms as the limit that is named allows");
const STORAGE_FULL: CodeInfo =
    later("storage_full", 507, "the server has no space left to record anything; reading goes on");
const SHUTTING_DOWN: CodeInfo = same("shutting_down", 503, "the server restarts; connect again");
const ROOM_SHUT: CodeInfo = later("room_shut", 503, "the room has failed too often and is shut for a while");
const QUERY_TOO_BROAD: CodeInfo = no(
    "query_too_broad",
    422,
    "more documents would have to be looked at, or answered, than one request may have; ask for fewer, or by an index",
);
const COMMAND_REFUSED: CodeInfo =
    no("command_refused", 409, "this command has made the room fail and is not tried again");
const INTERNAL: CodeInfo = same("internal", 500, "the server has failed at this; it has been logged");
const ORIGIN_REFUSED: CodeInfo = no("origin_refused", 403, "web pages of this origin may not connect");
const BAD_HANDSHAKE: CodeInfo = no("bad_handshake", 400, "the WebSocket handshake is not that of RFC 6455");
const SUBPROTOCOL_UNKNOWN: CodeInfo =
    no("subprotocol_unknown", 400, "none of the offered sub-protocols is spoken here");
const UPGRADE_REQUIRED: CodeInfo = no("upgrade_required", 426, "this address speaks WebSocket only");
const ROUTE_NOT_FOUND: CodeInfo = no("route_not_found", 404, "there is nothing at this address");
const METHOD_NOT_ALLOWED: CodeInfo =
    no("method_not_allowed", 405, "this address does not take requests of this method");
const MEDIA_TYPE_UNSUPPORTED: CodeInfo = no(
    "media_type_unsupported",
    415,
    "a body has to be JSON: `Content-Type: application/json`, in UTF-8 and not compressed; for uploads see there",
);
const BODY_TOO_LARGE: CodeInfo = no("body_too_large", 413, "the body is larger than the limit");
const BODY_TOO_SLOW: CodeInfo = later("body_too_slow", 408, "the body did not come to its end in time");

const FILE_TOO_LARGE: CodeInfo = no("file_too_large", 413, "the file is larger than the limit that is named");
const QUOTA_REACHED: CodeInfo =
    no("quota_reached", 409, "the tenant's files take as much room as the limit that is named allows");
const TOO_MANY_UPLOADS: CodeInfo =
    later("too_many_uploads", 429, "as many uploads are under way as the limit that is named allows");
const DIGEST_MISMATCH: CodeInfo = no("digest_mismatch", 422, "what came is not what its digest says");
const OFFSET_MISMATCH: CodeInfo =
    no("offset_mismatch", 409, "the upload goes on at another place; ask where with HEAD");
const TUS_VERSION: CodeInfo =
    no("tus_version", 412, "this address speaks tus 1.0.0: the header `Tus-Resumable: 1.0.0` has to be there");
const LINK_INVALID: CodeInfo = no("link_invalid", 401, "the link is too old, or is for another file");
const RANGE_UNSATISFIABLE: CodeInfo = no("range_unsatisfiable", 416, "the file has no bytes in this range");

/// Every code there is: first what the rules refuse, then the rest.
pub const CODES: &[CodeInfo] = &[
    no("room_not_found", 404, "there is no such room, or you may not know that there is"),
    no("room_exists", 409, "a room of this name or for this pair exists already"),
    no("room_archived", 409, "the room is archived: it can be read, not changed"),
    no("alias_required", 422, "a channel needs an alias"),
    no("not_a_pair", 422, "a direct room is between exactly two different users"),
    no("not_member", 403, "you are not a member of this room; join it first"),
    no("already_member", 409, "the user is a member already"),
    no("forbidden", 403, "your role in this room does not allow that"),
    no("kind_forbids", 403, "this kind of room does not allow that"),
    no("no_such_member", 404, "the user is not a member of this room"),
    no("banned", 403, "you are banned from this room"),
    no("user_banned", 409, "the user is banned from this room"),
    no("too_many_bans", 409, "a room has at most 10,000 bans"),
    no("muted", 403, "you are muted in this room: you can read, not write"),
    later("slow_mode", 429, "this room is in slow mode: your next message has to wait"),
    no("word_not_allowed", 422, "the message has a word that is not allowed here"),
    no("link_not_allowed", 422, "the message has a link that is not allowed here"),
    no("too_many_mutes", 409, "a room has at most 10,000 mutes"),
    no("too_many_rights", 409, "in a room the rights of at most 10,000 users differ from what their roles allow"),
    no("blocked", 403, "one of you has blocked the other"),
    no("too_many_blocks", 409, "a user blocks at most 1,000 others"),
    no("ends_too_soon", 422, "the time at which it is to end is not later than now"),
    no("last_owner", 409, "the room would be left without an owner; make somebody else an owner first"),
    no("room_full", 409, "the room has as many members as it may have"),
    no("message_not_found", 404, "there is no such message in this room"),
    no("message_deleted", 410, "the message has been deleted"),
    no("not_author", 403, "only the author of a message may edit it"),
    no("too_many_edits", 409, "the message has been edited as often as it may be"),
    no("edits_hidden", 403, "this room does not show what its messages said before they were edited"),
    no("too_many_mentions", 409, "a message mentions at most 50 users"),
    no("too_many_reactions", 409, "a user reacts to a message in at most 10 ways, and all together in at most 20"),
    no("not_there_yet", 409, "the room has not come so far: there is no record of this seq yet"),
    no("too_many_pins", 409, "a room has at most 50 pinned messages"),
    no("content_size", 413, "the content is empty or larger than 32768 bytes"),
    no("file_not_found", 404, "there is no such file, or it is not yours to use here"),
    no("too_many_attachments", 409, "a message has at most 10 attachments"),
    no("report_not_found", 404, "there is no such report in this room"),
    no("document_not_found", 404, "there is no such document, or it is not yours to see"),
    no("document_size", 413, "a document has at most 61440 bytes as JSON in a string, and 16 levels"),
    no("too_many_documents", 413, "a change is of at most 1,000 documents, which have 2 MiB together"),
    no("too_many_indexes", 409, "a collection finds its documents by at most 16 paths, of 1 to 200 bytes"),
    no("not_a_number", 422, "the field holds no number to which that can be added"),
    no("not_a_picture", 422, "an avatar has to be a picture: PNG, JPEG, GIF, WebP, AVIF or BMP"),
    no("client_id_reused", 409, "this client id was used already for something else"),
    no("registration_closed", 403, "accounts cannot be made here without an invite, or not at all"),
    no("invite_invalid", 403, "the invite is not known, or has been used up, taken back or left too long"),
    no("name_taken", 409, "somebody has this name already"),
    no("name_reserved", 422, "this name is the server's own"),
    no(
        "password_refused",
        422,
        "a password has 8 to 1,024 bytes, is not the name, and none of those that everybody tries first",
    ),
    no("login_failed", 401, "there is no account of this name with this password"),
    no("account_disabled", 403, "the account has been disabled; an administrator may enable it again"),
    no("refresh_invalid", 401, "the refresh token is not good, or not any more; log in again"),
    no("code_invalid", 403, "the code is not the right one, or has been used, tried too often or left too long"),
    no("account_not_found", 404, "there is no such account"),
    no("login_not_found", 404, "there is no such login of yours"),
    no("invite_not_found", 404, "there is no such invite"),
    no("rank_too_low", 403, "your account may not do that here"),
    no("last_account_owner", 409, "nobody would be left who owns the server; make somebody else an owner first"),
    no("too_many_invites", 409, "as many invites are open as may be; take some back"),
    no("tenant_banned", 403, "you are banned from the tenant"),
    no("ban_not_found", 404, "the user is not banned from the tenant"),
    no("too_many_exclusions", 409, "as many users are banned or disabled as may be; let some in again"),
    no("resets_off", 403, "codes are not sent from here; an administrator makes one"),
    BAD_REQUEST,
    UNKNOWN_COMMAND,
    TOO_DEEP,
    UNAUTHENTICATED,
    TOKEN_INVALID,
    TOKEN_EXPIRED,
    TOKEN_REVOKED,
    TICKET_INVALID,
    ALREADY_AUTHENTICATED,
    CURSOR_INVALID,
    CURSOR_FOREIGN,
    EPOCH_CHANGED,
    NOT_FOLLOWING,
    FOLLOW_MIXED,
    TOO_MANY_FOLLOWS,
    BUSY,
    UNAVAILABLE,
    RATE_LIMITED,
    TOO_MANY_CONNECTIONS,
    TOO_MANY_ROOMS,
    STORAGE_FULL,
    SHUTTING_DOWN,
    ROOM_SHUT,
    QUERY_TOO_BROAD,
    COMMAND_REFUSED,
    INTERNAL,
    ORIGIN_REFUSED,
    BAD_HANDSHAKE,
    SUBPROTOCOL_UNKNOWN,
    UPGRADE_REQUIRED,
    ROUTE_NOT_FOUND,
    METHOD_NOT_ALLOWED,
    MEDIA_TYPE_UNSUPPORTED,
    BODY_TOO_LARGE,
    BODY_TOO_SLOW,
    FILE_TOO_LARGE,
    QUOTA_REACHED,
    TOO_MANY_UPLOADS,
    DIGEST_MISMATCH,
    OFFSET_MISMATCH,
    TUS_VERSION,
    LINK_INVALID,
    RANGE_UNSATISFIABLE,
];

const fn no(code: &'static str, status: u16, meaning: &'static str) -> CodeInfo {
    CodeInfo { code, status, meaning, retry: Retry::No }
}

const fn same(code: &'static str, status: u16, meaning: &'static str) -> CodeInfo {
    CodeInfo { code, status, meaning, retry: Retry::Same }
}

const fn later(code: &'static str, status: u16, meaning: &'static str) -> CodeInfo {
    CodeInfo { code, status, meaning, retry: Retry::Later }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_rules_is_in_the_table_and_no_code_is_there_twice() {
        let codes: std::collections::BTreeSet<_> = CODES.iter().map(|info| info.code).collect();
        assert_eq!(codes.len(), CODES.len());
        for rejection in Rejection::ALL {
            let refusal = Refusal::from(rejection);
            let info = CODES.iter().find(|info| info.code == refusal.code()).expect("the rules' codes are listed");
            assert_eq!(refusal.retry(), info.retry);
        }
    }

    #[test]
    fn every_code_of_the_rules_of_accounts_is_in_the_table_with_its_sentence() {
        for rejection in AccountRejection::ALL {
            assert_eq!(Refusal::from(rejection).message(), rejection.to_string());
        }
    }

    #[test]
    fn a_refusal_does_not_repeat_a_frame_full_of_text() {
        let refusal = Refusal::bad_request("é".repeat(10_000));
        assert!(refusal.message().len() <= MESSAGE_BYTES_MAX + 3);
    }
}
