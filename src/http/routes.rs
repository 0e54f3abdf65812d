//! Every address there is, in one table: it mounts the routes, and the description that clients can read is made of it.
//!
//! A route is one method of one address. What is not in the table is not served.

use std::future::ready;

use actix_web::http::{Method, header};
use actix_web::{HttpRequest, HttpResponse, web};

use super::accounts::Act;
use super::join::{self, Part};
use super::problem::Problem;
use super::uploads::{self, Tus};
use super::{Edge, accounts, events, files, greeting, healthz, openapi, readyz, rest, tickets, world, ws};
use crate::wire::Kind;

/// One method of one address.
#[derive(Debug)]
pub struct Route {
    pub verb: Verb,
    /// With its places in braces; each is a member of the command.
    pub path: &'static str,
    pub serves: Serves,
    pub summary: &'static str,
    /// The members that its query may have.
    pub query: &'static [Query],
    pub body: Option<&'static Body>,
    /// What it is answered when it goes well: the status, and the shape of the body.
    pub success: &'static [(u16, Shape)],
    /// The codes by which it may be refused, besides those of [`EVERYWHERE`] and [`WITH_TOKEN`].
    pub codes: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// What carries a route out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Serves {
    /// The command of the native protocol whose twin it is.
    Command(Kind),
    /// What happened in a room: pages, or a stream.
    Events,
    /// What happened in all rooms of a user: pages, or a stream.
    World,
    /// A ticket for who cannot set a header.
    Tickets,
    /// Takes a file.
    Upload,
    File,
    /// Where a browser finds a file that it can set no header for.
    Link,
    /// Uploads in several requests.
    Tus(Tus),
    /// What is asked about accounts.
    Accounts(Act),
    /// Where somebody with a link makes an account.
    Join(Part),
    Socket,
    Description,
    Greeting,
    Alive,
    Ready,
}

/// A member of a query; none has to be there.
#[derive(Debug)]
pub struct Query {
    pub name: &'static str,
    pub about: &'static str,
    /// Of a number.
    pub most: Option<u32>,
}

/// The body of a request.
#[derive(Debug)]
pub struct Body {
    pub required: bool,
    /// The name of its shape.
    pub shape: &'static str,
    pub example: &'static str,
}

/// The body of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// An object, by the name of its shape.
    Json(&'static str),
    Text,
    /// A file, or a part of it.
    Bytes,
    Empty,
    /// A page of records as an object of this shape, or an event stream for who accepts one.
    Events(&'static str),
    /// The connection becomes a WebSocket.
    Socket,
}

impl Verb {
    pub fn method(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
            Self::Patch => Method::PATCH,
            Self::Delete => Method::DELETE,
        }
    }
}

impl Route {
    pub fn query_names(&self) -> Vec<&'static str> {
        self.query.iter().map(|query| query.name).collect()
    }

    /// The commands of the native protocol that it stands for.
    pub fn commands(&self) -> Vec<Kind> {
        match self.serves {
            Serves::Command(kind) => vec![kind],
            // A stream is a follow, and closing it ends that.
            Serves::Events => vec![Kind::Follow, Kind::Unfollow, Kind::History],
            Serves::World => vec![Kind::FollowAll, Kind::UnfollowAll],
            Serves::Tickets
            | Serves::Upload
            | Serves::File
            | Serves::Link
            | Serves::Tus(_)
            | Serves::Accounts(_)
            | Serves::Join(_)
            | Serves::Socket
            | Serves::Description
            | Serves::Greeting
            | Serves::Alive
            | Serves::Ready => Vec::new(),
        }
    }

    /// Whether it asks for a token.
    pub fn needs_token(&self) -> bool {
        match self.serves {
            Serves::Command(_)
            | Serves::Events
            | Serves::World
            | Serves::Tickets
            | Serves::Upload
            | Serves::File
            | Serves::Link
            | Serves::Tus(_) => true,
            Serves::Accounts(act) => act.needs_token(),
            Serves::Join(_)
            | Serves::Socket
            | Serves::Description
            | Serves::Greeting
            | Serves::Alive
            | Serves::Ready => false,
        }
    }
}

/// By what any route may be refused.
pub const EVERYWHERE: &[&str] = &["method_not_allowed", "origin_refused"];

/// By what a route that asks for a token may be refused.
pub const WITH_TOKEN: &[&str] = &[
    "bad_request",
    "unauthenticated",
    "token_invalid",
    "token_expired",
    "token_revoked",
    "tenant_banned",
    "account_disabled",
    "rate_limited",
    "unavailable",
];

const PAGE: Query = Query { name: "limit", about: "how many at most, 1 to 100", most: Some(100) };
const INBOX_PAGE: Query = Query { name: "limit", about: "how many at most, 1 to 5000", most: Some(5_000) };

/// What a room's rules may answer to a command.
macro_rules! of_a_room {
    ($($more:literal),* $(,)?) => {
        &["room_not_found", "busy", "storage_full", "shutting_down", "room_shut", "command_refused", $($more),*]
    };
}

/// What a body may be refused for.
macro_rules! with_body {
    ($($more:literal),* $(,)?) => {
        of_a_room!["media_type_unsupported", "body_too_large", "body_too_slow", "too_deep", $($more),*]
    };
}

/// What undertakings about accounts may be refused for.
macro_rules! of_accounts {
    ($($more:literal),* $(,)?) => {
        &["route_not_found", "busy", "storage_full", "shutting_down", $($more),*]
    };
}

/// The same, where nobody has said yet who it is.
macro_rules! stranger {
    ($($more:literal),* $(,)?) => {
        of_accounts![
            "bad_request", "media_type_unsupported", "body_too_large", "body_too_slow", "rate_limited", "unavailable",
            $($more),*
        ]
    };
}

const NO_QUERY: &[Query] = &[];

/// Where uploads in several requests are.
const UPLOADS: &str = "/v1/uploads";

const OF_ROOM: Query = Query { name: "room", about: "a room in which it has been attached", most: None };

/// By what an upload may be refused.
macro_rules! of_an_upload {
    ($($more:literal),* $(,)?) => {
        &[
            "file_too_large",
            "quota_reached",
            "too_many_uploads",
            "too_many_connections",
            "storage_full",
            "shutting_down",
            $($more),*
        ]
    };
}

/// Every route there is.
pub const ROUTES: &[Route] = &[
    Route {
        verb: Verb::Get,
        path: "/v1/me",
        serves: Serves::Command(Kind::Auth),
        summary: "Who the token says you are",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Me"))],
        codes: &[],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/rooms",
        serves: Serves::Command(Kind::Rooms),
        summary: "Your rooms and invitations",
        query: &[Query { name: "after", about: "the uuid of the room after which the page starts", most: None }, PAGE],
        body: None,
        success: &[(200, Shape::Json("Rooms"))],
        codes: &[],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/rooms",
        serves: Serves::Command(Kind::Create),
        summary: "Create a room",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "Create",
            example: r#"{"kind":"channel","alias":"lobby","name":"The lobby","members":[{"user":"bob"}]}"#,
        }),
        success: &[(201, Shape::Json("Created"))],
        codes: with_body!["room_exists", "alias_required", "not_a_pair", "room_full", "blocked"],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/rooms/{room}",
        serves: Serves::Command(Kind::Room),
        summary: "What a room is, and what you are in it",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Room"))],
        codes: &["room_not_found", "not_member"],
    },
    Route {
        verb: Verb::Patch,
        path: "/v1/rooms/{room}",
        serves: Serves::Command(Kind::Update),
        summary: "Change the name of a room, whether it shows what its messages said before they were edited, and its slow mode",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "Update",
            example: r#"{"name":"The foyer","edit_history":true,"slow_mode_ms":0,"history":"all","keep_ms":0}"#,
        }),
        success: &[(200, Shape::Json("Changed"))],
        codes: with_body!["not_member", "forbidden", "kind_forbids", "room_archived"],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/rooms/{room}/archive",
        serves: Serves::Command(Kind::Archive),
        summary: "Archive a room: from then on it can be read, not changed",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Changed"))],
        codes: of_a_room!["not_member", "forbidden", "kind_forbids", "room_archived"],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/rooms/{room}/join",
        serves: Serves::Command(Kind::Join),
        summary: "Join a room",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Joined"))],
        codes: of_a_room!["already_member", "kind_forbids", "banned", "room_full", "room_archived"],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/rooms/{room}/leave",
        serves: Serves::Command(Kind::Leave),
        summary: "Leave a room",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Changed"))],
        codes: of_a_room!["not_member", "kind_forbids", "forbidden", "last_owner", "room_archived"],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/rooms/{room}/events",
        serves: Serves::Events,
        summary: "What happened in a room: a page, a page that is waited for, or a stream",
        query: &[
            Query { name: "after", about: "a cursor, `start` or `now`", most: None },
            Query { name: "before", about: "a cursor: the page before it", most: None },
            PAGE,
            Query { name: "wait", about: "how long to wait where there is nothing yet, such as 25s", most: None },
        ],
        body: None,
        success: &[(200, Shape::Events("Page"))],
        codes: &[
            "room_not_found",
            "not_member",
            "cursor_invalid",
            "cursor_foreign",
            "epoch_changed",
            "ticket_invalid",
            "too_many_connections",
            "shutting_down",
        ],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/events",
        serves: Serves::World,
        summary: "What happened in all of your rooms: a page, a page that is waited for, or a stream",
        query: &[
            Query { name: "after", about: "a cursor of this address, `start` or `now`", most: None },
            PAGE,
            Query { name: "wait", about: "how long to wait where there is nothing yet, such as 25s", most: None },
        ],
        body: None,
        success: &[(200, Shape::Events("WorldPage"))],
        codes: &[
            "cursor_invalid",
            "cursor_foreign",
            "epoch_changed",
            "too_many_follows",
            "ticket_invalid",
            "too_many_connections",
            "shutting_down",
        ],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/tickets",
        serves: Serves::Tickets,
        summary: "Make a ticket: good once, for half a minute, as `?ticket=` where no header can be set",
        query: NO_QUERY,
        body: None,
        success: &[(201, Shape::Json("Ticket"))],
        codes: &["busy"],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/files",
        serves: Serves::Upload,
        summary: "Upload a file in one request: its bytes are the body",
        query: &[
            Query {
                name: "room",
                about: "the room that it is to be attached in; you have to be able to post there",
                most: None,
            },
            Query { name: "name", about: "what it is called, at most 255 bytes", most: None },
            Query { name: "purpose", about: "`avatar`, in place of a room: a picture that stands for you", most: None },
        ],
        body: None,
        success: &[(201, Shape::Json("File"))],
        codes: of_an_upload![
            "room_not_found",
            "not_member",
            "forbidden",
            "muted",
            "blocked",
            "room_archived",
            "body_too_slow",
            "digest_mismatch",
            "not_a_picture"
        ],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/files/{file}",
        serves: Serves::File,
        summary: "A file, or a range of it, for who is a member of a room in which it is attached",
        query: &[
            OF_ROOM,
            Query { name: "link", about: "in place of a token: of a link that was asked for", most: None },
        ],
        body: None,
        success: &[(200, Shape::Bytes), (206, Shape::Bytes), (304, Shape::Empty)],
        codes: &[
            "file_not_found",
            "room_not_found",
            "range_unsatisfiable",
            "link_invalid",
            "too_many_connections",
            "shutting_down",
        ],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/files/{file}/link",
        serves: Serves::Link,
        summary: "Where a browser finds the file for five minutes without a header, as for the source of a picture",
        query: &[OF_ROOM],
        body: None,
        success: &[(200, Shape::Json("Link"))],
        codes: &["file_not_found", "room_not_found", "shutting_down"],
    },
    Route {
        verb: Verb::Post,
        path: UPLOADS,
        serves: Serves::Tus(Tus::Create),
        summary: "Make an upload that comes in several requests, by tus 1.0.0",
        query: NO_QUERY,
        body: None,
        success: &[(201, Shape::Empty)],
        codes: of_an_upload![
            "room_not_found",
            "not_member",
            "forbidden",
            "muted",
            "blocked",
            "room_archived",
            "tus_version",
            "busy"
        ],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/uploads/{upload}",
        serves: Serves::Tus(Tus::Came),
        summary: "How much of an upload there is; tus asks with HEAD",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Upload"))],
        codes: &["file_not_found", "tus_version"],
    },
    Route {
        verb: Verb::Patch,
        path: "/v1/uploads/{upload}",
        serves: Serves::Tus(Tus::GoOn),
        summary: "Go on with an upload; when it is complete, it is a file of the same id",
        query: NO_QUERY,
        body: None,
        success: &[(204, Shape::Empty)],
        codes: of_an_upload![
            "file_not_found",
            "offset_mismatch",
            "media_type_unsupported",
            "tus_version",
            "body_too_slow",
            "not_a_picture",
            "busy"
        ],
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/uploads/{upload}",
        serves: Serves::Tus(Tus::GiveUp),
        summary: "Give up an upload",
        query: NO_QUERY,
        body: None,
        success: &[(204, Shape::Empty)],
        codes: &["file_not_found", "tus_version", "busy", "storage_full"],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/rooms/{room}/members",
        serves: Serves::Command(Kind::Members),
        summary: "Who is in a room",
        query: &[Query { name: "after", about: "the user id after which the page starts", most: None }, PAGE],
        body: None,
        success: &[(200, Shape::Json("Members"))],
        codes: &["room_not_found", "not_member"],
    },
    Route {
        verb: Verb::Put,
        path: "/v1/rooms/{room}/members/{user}",
        serves: Serves::Command(Kind::Invite),
        summary: "Invite somebody, or add a member where the kind of room has it so",
        query: NO_QUERY,
        body: Some(&Body { required: false, shape: "Invite", example: r#"{"role":"guest"}"# }),
        success: &[(200, Shape::Json("Changed"))],
        codes: with_body![
            "not_member",
            "forbidden",
            "kind_forbids",
            "already_member",
            "user_banned",
            "blocked",
            "room_full",
            "room_archived"
        ],
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/rooms/{room}/members/{user}",
        serves: Serves::Command(Kind::Kick),
        summary: "Remove a member; answered when nothing of the room can reach the user any more",
        query: &[Query { name: "reason", about: "why, for everybody to read", most: None }],
        body: Some(&Body { required: false, shape: "Kick", example: r#"{"reason":"spam"}"# }),
        success: &[(200, Shape::Json("Changed"))],
        codes: with_body!["not_member", "forbidden", "kind_forbids", "no_such_member", "last_owner", "room_archived"],
    },
    Route {
        verb: Verb::Put,
        path: "/v1/rooms/{room}/members/{user}/role",
        serves: Serves::Command(Kind::Role),
        summary: "Change what a member may do",
        query: NO_QUERY,
        body: Some(&Body { required: true, shape: "ChangeRole", example: r#"{"role":"admin"}"# }),
        success: &[(200, Shape::Json("Changed"))],
        codes: with_body!["not_member", "forbidden", "kind_forbids", "no_such_member", "last_owner", "room_archived"],
    },
    Route {
        verb: Verb::Put,
        path: "/v1/rooms/{room}/members/{user}/rights",
        serves: Serves::Command(Kind::Rights),
        summary: "Decide what a member may do, whatever the role says; takes the place of what was decided before",
        query: NO_QUERY,
        body: Some(&Body { required: true, shape: "ChangeRights", example: r#"{"allow":["pin"],"deny":["post"]}"# }),
        success: &[(200, Shape::Json("Changed"))],
        codes: with_body![
            "not_member",
            "forbidden",
            "kind_forbids",
            "no_such_member",
            "too_many_rights",
            "room_archived"
        ],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/rooms/{room}/rules",
        serves: Serves::Command(Kind::Rules),
        summary: "What may not be said in a room, for who may change it",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Rules"))],
        codes: &["room_not_found", "not_member", "forbidden", "kind_forbids"],
    },
    Route {
        verb: Verb::Patch,
        path: "/v1/rooms/{room}/rules",
        serves: Serves::Command(Kind::RulesUpdate),
        summary: "Change what may not be said in a room; what is not named stays as it is",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "ChangeRules",
            example: r#"{"words":["spam"],"links":"listed","hosts":["example.org"]}"#,
        }),
        success: &[(200, Shape::Json("Changed"))],
        codes: with_body!["not_member", "forbidden", "kind_forbids", "room_archived"],
    },
    Route {
        verb: Verb::Put,
        path: "/v1/rooms/{room}/bans/{user}",
        serves: Serves::Command(Kind::Ban),
        summary: "Ban somebody, member or not; answered when nothing of the room can reach the user any more",
        query: NO_QUERY,
        body: Some(&Body { required: false, shape: "Ban", example: r#"{"until":4102444800000,"reason":"spam"}"# }),
        success: &[(200, Shape::Json("Changed"))],
        codes: with_body!["not_member", "forbidden", "kind_forbids", "ends_too_soon", "too_many_bans", "room_archived"],
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/rooms/{room}/bans/{user}",
        serves: Serves::Command(Kind::Unban),
        summary: "Take back a ban",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Changed"))],
        codes: of_a_room!["not_member", "forbidden", "kind_forbids", "room_archived"],
    },
    Route {
        verb: Verb::Put,
        path: "/v1/rooms/{room}/mutes/{user}",
        serves: Serves::Command(Kind::Mute),
        summary: "Mute a member, who can read then and not write",
        query: NO_QUERY,
        body: Some(&Body { required: false, shape: "Mute", example: r#"{"until":4102444800000}"# }),
        success: &[(200, Shape::Json("Changed"))],
        codes: with_body![
            "not_member",
            "forbidden",
            "kind_forbids",
            "no_such_member",
            "ends_too_soon",
            "too_many_mutes",
            "room_archived"
        ],
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/rooms/{room}/mutes/{user}",
        serves: Serves::Command(Kind::Unmute),
        summary: "Take back a mute",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Changed"))],
        codes: of_a_room!["not_member", "forbidden", "kind_forbids", "room_archived"],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/rooms/{room}/bans",
        serves: Serves::Command(Kind::Bans),
        summary: "Who is banned from a room, for who may ban",
        query: &[Query { name: "after", about: "the user id after which the page starts", most: None }, PAGE],
        body: None,
        success: &[(200, Shape::Json("Bans"))],
        codes: &["room_not_found", "not_member", "forbidden", "kind_forbids"],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/rooms/{room}/mutes",
        serves: Serves::Command(Kind::Mutes),
        summary: "Who is muted in a room, for who may mute",
        query: &[Query { name: "after", about: "the user id after which the page starts", most: None }, PAGE],
        body: None,
        success: &[(200, Shape::Json("Mutes"))],
        codes: &["room_not_found", "not_member", "forbidden", "kind_forbids"],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/rooms/{room}/messages",
        serves: Serves::Command(Kind::Post),
        summary: "Post a message",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "Post",
            example: r#"{"content":{"text":"@bob look"},"reply_to":"0192f0c1-2345-7abc-8def-000000000004","mentions":["bob"],"attachments":["0192f0c1-2345-7abc-8def-0000000000f1"],"client_id":"c-1"}"#,
        }),
        success: &[(201, Shape::Json("Published")), (200, Shape::Json("Published"))],
        codes: with_body![
            "not_member",
            "forbidden",
            "muted",
            "blocked",
            "slow_mode",
            "kind_forbids",
            "content_size",
            "client_id_reused",
            "room_archived",
            "message_not_found",
            "message_deleted",
            "no_such_member",
            "too_many_mentions",
            "file_not_found",
            "too_many_attachments",
        ],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/rooms/{room}/messages/{message}/thread",
        serves: Serves::Command(Kind::Thread),
        summary: "The replies of the thread that began with a message",
        query: &[Query { name: "after", about: "the cursor after which the page starts", most: None }, PAGE],
        body: None,
        success: &[(200, Shape::Json("Thread"))],
        codes: of_a_room!["not_member", "message_not_found", "cursor_invalid", "cursor_foreign", "epoch_changed"],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/rooms/{room}/messages/{message}/readers",
        serves: Serves::Command(Kind::Readers),
        summary: "To how many members a message has come, how many have read it, and how far each has got",
        query: &[Query { name: "after", about: "the user after whom the page starts", most: None }, PAGE],
        body: None,
        success: &[(200, Shape::Json("Readers"))],
        codes: of_a_room!["not_member", "message_not_found", "message_deleted"],
    },
    Route {
        verb: Verb::Put,
        path: "/v1/rooms/{room}/typing",
        serves: Serves::Command(Kind::Typing),
        summary: "Say that you are writing a message; it holds for six seconds",
        query: NO_QUERY,
        body: Some(&Body { required: false, shape: "Typing", example: r#"{"typing":true}"# }),
        success: &[(200, Shape::Json("Signaled"))],
        codes: with_body!["not_member", "forbidden", "muted", "blocked", "room_archived"],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/rooms/{room}/presence",
        serves: Serves::Command(Kind::Presences),
        summary: "Who of a room is there",
        query: &[Query { name: "after", about: "the user after whom the page starts", most: None }, PAGE],
        body: None,
        success: &[(200, Shape::Json("Presences"))],
        codes: &["room_not_found", "not_member"],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/me/settings",
        serves: Serves::Command(Kind::Settings),
        summary: "What you have decided for all rooms",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Settings"))],
        codes: &[],
    },
    Route {
        verb: Verb::Patch,
        path: "/v1/me/settings",
        serves: Serves::Command(Kind::SettingsUpdate),
        summary: "Decide something for all rooms",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "Settings",
            example: r#"{"private_reading":true,"contacts":"nobody","invisible":false}"#,
        }),
        success: &[(200, Shape::Json("Settings"))],
        codes: &[
            "media_type_unsupported",
            "body_too_large",
            "body_too_slow",
            "too_deep",
            "busy",
            "storage_full",
            "shutting_down",
        ],
    },
    Route {
        verb: Verb::Patch,
        path: "/v1/me/profile",
        serves: Serves::Command(Kind::ProfileUpdate),
        summary: "Say who you are",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "Profile",
            example: r#"{"name":"Ann","avatar":null,"about":"away on Fridays","email":"ann@example.org","telephone":"+4930123456","fields":{"pronouns":"she"}}"#,
        }),
        success: &[(200, Shape::Json("User"))],
        codes: &[
            "media_type_unsupported",
            "body_too_large",
            "body_too_slow",
            "too_deep",
            "busy",
            "storage_full",
            "shutting_down",
        ],
    },
    Route {
        verb: Verb::Put,
        path: "/v1/me/blocks/{user}",
        serves: Serves::Command(Kind::Block),
        summary: "Block a user: nothing more is said between the two of you",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Blocked"))],
        codes: &["too_many_blocks", "busy", "storage_full", "shutting_down"],
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/me/blocks/{user}",
        serves: Serves::Command(Kind::Unblock),
        summary: "Take back a block",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Blocked"))],
        codes: &["busy", "storage_full", "shutting_down"],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/me/blocks",
        serves: Serves::Command(Kind::Blocks),
        summary: "Whom you have blocked",
        query: &[Query { name: "after", about: "the user after whom the page starts", most: None }, PAGE],
        body: None,
        success: &[(200, Shape::Json("Blocks"))],
        codes: &[],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/users",
        serves: Serves::Command(Kind::Users),
        summary: "Who users are",
        query: &[Query { name: "users", about: "1 to 100 user ids, between commas", most: None }],
        body: None,
        success: &[(200, Shape::Json("Users"))],
        codes: &[],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/users/find",
        serves: Serves::Command(Kind::FindUsers),
        summary: "Users by the SHA-256 of their e-mail addresses or telephone numbers, of those who allow it",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "FindUsers",
            example: r#"{"hashes":["438c4c7afe600cdf1e455c369bec76dc970fc8ca463447c7b387a347f3c79331"]}"#,
        }),
        success: &[(200, Shape::Json("FoundUsers"))],
        codes: &["media_type_unsupported", "body_too_large", "body_too_slow", "too_deep"],
    },
    Route {
        verb: Verb::Put,
        path: "/v1/me/presence",
        serves: Serves::Command(Kind::Presence),
        summary: "Say whether you are there; it holds for a minute",
        query: NO_QUERY,
        body: Some(&Body { required: true, shape: "Presence", example: r#"{"presence":"away"}"# }),
        success: &[(200, Shape::Json("Presence"))],
        codes: &["media_type_unsupported", "body_too_large", "body_too_slow", "too_deep"],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/rooms/{room}/messages/{message}/report",
        serves: Serves::Command(Kind::Report),
        summary: "Have a message seen by those who answer for the room",
        query: NO_QUERY,
        body: Some(&Body { required: false, shape: "Report", example: r#"{"reason":"spam"}"# }),
        success: &[(200, Shape::Json("Reported"))],
        codes: with_body!["not_member", "message_not_found", "message_deleted", "kind_forbids"],
    },
    Route {
        verb: Verb::Put,
        path: "/v1/rooms/{room}/reports/{report}",
        serves: Serves::Command(Kind::ResolveReport),
        summary: "Say that a report has been seen to, in an audit room",
        query: NO_QUERY,
        body: Some(&Body { required: false, shape: "ResolveReport", example: r#"{"note":"kicked"}"# }),
        success: &[(200, Shape::Json("Changed"))],
        codes: with_body!["not_member", "report_not_found", "kind_forbids"],
    },
    Route {
        verb: Verb::Put,
        path: "/v1/rooms/{room}/messages/{message}/hidden",
        serves: Serves::Command(Kind::Hide),
        summary: "Have a message shown to you no more; nobody else is told",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Hidden"))],
        codes: of_a_room!["not_member", "message_not_found"],
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/rooms/{room}/messages/{message}/hidden",
        serves: Serves::Command(Kind::Unhide),
        summary: "Have a message shown to you again",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Hidden"))],
        codes: of_a_room!["not_member", "message_not_found"],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/rooms/{room}/hidden",
        serves: Serves::Command(Kind::Hidden),
        summary: "The messages of a room that you do not want to see",
        query: &[Query { name: "after", about: "the message after which the page starts", most: None }, PAGE],
        body: None,
        success: &[(200, Shape::Json("Hidden"))],
        codes: &["room_not_found", "not_member"],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/inbox",
        serves: Serves::Command(Kind::Inbox),
        summary: "Your rooms, the one with the latest message first, with what you have not read",
        query: &[
            Query { name: "archived", about: "`true`: those that you have put away", most: None },
            Query { name: "after", about: "the `after` of the page before", most: None },
            INBOX_PAGE,
        ],
        body: None,
        success: &[(200, Shape::Json("Inbox"))],
        codes: &[],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/inbox/changes",
        serves: Serves::Command(Kind::InboxChanges),
        summary: "What has changed in your inbox since a cursor of it",
        query: &[Query { name: "since", about: "a cursor of your inbox", most: None }, INBOX_PAGE],
        body: None,
        success: &[(200, Shape::Json("InboxChanges"))],
        codes: &["cursor_invalid", "cursor_foreign", "epoch_changed"],
    },
    Route {
        verb: Verb::Patch,
        path: "/v1/rooms/{room}/inbox",
        serves: Serves::Command(Kind::InboxUpdate),
        summary: "Say how far you have read, and what a room is to you",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "InboxUpdate",
            example: r#"{"delivered_to":12,"read_to":9,"muted_until":null,"pinned":true,"archived":false,"draft":"what I was about"}"#,
        }),
        success: &[(200, Shape::Json("InboxEntry"))],
        codes: with_body!["not_member", "not_there_yet", "content_size"],
    },
    Route {
        verb: Verb::Put,
        path: "/v1/rooms/{room}/messages/{message}",
        serves: Serves::Command(Kind::Edit),
        summary: "Edit a message of yours",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "Edit",
            example: r#"{"content":{"text":"hello all"},"mentions":[],"client_id":"c-2"}"#,
        }),
        success: &[(200, Shape::Json("Published"))],
        codes: with_body![
            "not_member",
            "forbidden",
            "muted",
            "blocked",
            "kind_forbids",
            "content_size",
            "client_id_reused",
            "message_not_found",
            "message_deleted",
            "not_author",
            "too_many_edits",
            "room_archived",
            "no_such_member",
            "too_many_mentions",
        ],
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/rooms/{room}/messages/{message}",
        serves: Serves::Command(Kind::Delete),
        summary: "Delete a message and erase what it said",
        query: NO_QUERY,
        body: Some(&Body { required: false, shape: "Delete", example: r#"{"client_id":"c-3"}"# }),
        success: &[(200, Shape::Json("Published"))],
        codes: with_body![
            "not_member",
            "forbidden",
            "kind_forbids",
            "client_id_reused",
            "message_not_found",
            "message_deleted",
            "room_archived",
        ],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/rooms/{room}/messages/{message}/edits",
        serves: Serves::Command(Kind::Edits),
        summary: "What a message has said, one edit after the other",
        query: &[Query { name: "after", about: "the cursor after which the page starts", most: None }, PAGE],
        body: None,
        success: &[(200, Shape::Json("Edits"))],
        codes: of_a_room![
            "not_member",
            "edits_hidden",
            "message_not_found",
            "message_deleted",
            "cursor_invalid",
            "cursor_foreign",
            "epoch_changed"
        ],
    },
    Route {
        verb: Verb::Put,
        path: "/v1/rooms/{room}/messages/{message}/reactions/{emoji}",
        serves: Serves::Command(Kind::React),
        summary: "React to a message",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Changed"))],
        codes: of_a_room![
            "not_member",
            "forbidden",
            "muted",
            "blocked",
            "kind_forbids",
            "message_not_found",
            "message_deleted",
            "room_archived",
            "too_many_reactions"
        ],
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/rooms/{room}/messages/{message}/reactions/{emoji}",
        serves: Serves::Command(Kind::Unreact),
        summary: "Take a reaction back",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Changed"))],
        codes: of_a_room![
            "not_member",
            "forbidden",
            "kind_forbids",
            "message_not_found",
            "message_deleted",
            "room_archived"
        ],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/rooms/{room}/messages/{message}/reactions/{emoji}",
        serves: Serves::Command(Kind::Reactions),
        summary: "Who has reacted to a message so",
        query: &[Query { name: "after", about: "the user after whom the page starts", most: None }, PAGE],
        body: None,
        success: &[(200, Shape::Json("Reactions"))],
        codes: of_a_room!["not_member", "message_not_found", "message_deleted"],
    },
    Route {
        verb: Verb::Put,
        path: "/v1/rooms/{room}/messages/{message}/pin",
        serves: Serves::Command(Kind::Pin),
        summary: "Pin a message",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Changed"))],
        codes: of_a_room![
            "not_member",
            "forbidden",
            "kind_forbids",
            "message_not_found",
            "message_deleted",
            "room_archived",
            "too_many_pins"
        ],
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/rooms/{room}/messages/{message}/pin",
        serves: Serves::Command(Kind::Unpin),
        summary: "Take a message from those that are pinned",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Changed"))],
        codes: of_a_room![
            "not_member",
            "forbidden",
            "kind_forbids",
            "message_not_found",
            "message_deleted",
            "room_archived"
        ],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/rooms/{room}/pins",
        serves: Serves::Command(Kind::Pins),
        summary: "The messages that are pinned in a room",
        query: &[Query { name: "before", about: "the cursor before which the page starts", most: None }, PAGE],
        body: None,
        success: &[(200, Shape::Json("Pins"))],
        codes: of_a_room!["not_member", "cursor_invalid", "cursor_foreign", "epoch_changed"],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/accounts",
        serves: Serves::Accounts(Act::Register),
        summary: "Make an account, and log in",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "Register",
            example: r#"{"name":"ann","password":"correct horse","invite":"q83vEjRWeJA","device":"phone"}"#,
        }),
        success: &[(201, Shape::Json("LoggedIn"))],
        codes: stranger![
            "registration_closed",
            "invite_invalid",
            "name_taken",
            "name_reserved",
            "password_refused",
            "tenant_banned"
        ],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/accounts",
        serves: Serves::Accounts(Act::List),
        summary: "The accounts of the tenant, for admins and owners",
        query: &[Query { name: "after", about: "the name after which the page starts", most: None }, PAGE],
        body: None,
        success: &[(200, Shape::Json("Accounts"))],
        codes: of_accounts!["rank_too_low"],
    },
    Route {
        verb: Verb::Patch,
        path: "/v1/accounts/{user}",
        serves: Serves::Accounts(Act::Change),
        summary: "Disable an account, or change its rank; one that is disabled is logged out everywhere",
        query: NO_QUERY,
        body: Some(&Body { required: true, shape: "ChangeAccount", example: r#"{"rank":"admin","disabled":false}"# }),
        success: &[(200, Shape::Json("Account"))],
        codes: of_accounts![
            "media_type_unsupported",
            "body_too_large",
            "body_too_slow",
            "rank_too_low",
            "account_not_found",
            "last_account_owner",
            "too_many_exclusions"
        ],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/accounts/{user}/reset",
        serves: Serves::Accounts(Act::MakeReset),
        summary: "Make a code that sets another password, for an admin to hand over",
        query: NO_QUERY,
        body: None,
        success: &[(201, Shape::Json("ResetCode"))],
        codes: of_accounts!["rank_too_low", "account_not_found"],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/logins",
        serves: Serves::Accounts(Act::LogIn),
        summary: "Log in",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "LogIn",
            example: r#"{"name":"ann","password":"correct horse","device":"phone"}"#,
        }),
        success: &[(201, Shape::Json("LoggedIn"))],
        codes: stranger!["login_failed", "account_disabled", "tenant_banned"],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/logins/refresh",
        serves: Serves::Accounts(Act::Refresh),
        summary: "Get another token, and another refresh token in place of this one",
        query: NO_QUERY,
        body: Some(&Body { required: true, shape: "Refresh", example: r#"{"refresh":"AZr8SQ"}"# }),
        success: &[(200, Shape::Json("LoggedIn"))],
        codes: stranger!["refresh_invalid", "account_disabled", "tenant_banned"],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/me/logins",
        serves: Serves::Accounts(Act::Logins),
        summary: "The devices on which you are logged in",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Logins"))],
        codes: of_accounts![],
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/me/logins",
        serves: Serves::Accounts(Act::EndOthers),
        summary: "End all of your logins but this one; answered when nothing can reach those devices any more",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Ended"))],
        codes: of_accounts![],
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/me/logins/{login}",
        serves: Serves::Accounts(Act::End),
        summary: "End a login of yours; `current` is this one: log out",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Ended"))],
        codes: of_accounts!["login_not_found"],
    },
    Route {
        verb: Verb::Put,
        path: "/v1/me/password",
        serves: Serves::Accounts(Act::Password),
        summary: "Change your password, and end all of your other logins",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "ChangePassword",
            example: r#"{"password":"correct horse","new_password":"battery staple"}"#,
        }),
        success: &[(200, Shape::Json("Ended"))],
        codes: of_accounts![
            "media_type_unsupported",
            "body_too_large",
            "body_too_slow",
            "login_failed",
            "password_refused",
            "account_not_found"
        ],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/resets",
        serves: Serves::Accounts(Act::Reset),
        summary: "Set another password with a code, and end all of your logins",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "Reset",
            example: r#"{"name":"ann","code":"ABCD-EFGH-JKMN","password":"battery staple"}"#,
        }),
        success: &[(200, Shape::Json("Ended"))],
        codes: stranger!["code_invalid", "password_refused"],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/resets/codes",
        serves: Serves::Accounts(Act::AskForCode),
        summary: "Have a code sent that sets another password; answered alike whether there is such an account or not",
        query: NO_QUERY,
        body: Some(&Body { required: true, shape: "AskForCode", example: r#"{"name":"ann"}"# }),
        success: &[(202, Shape::Json("Done"))],
        codes: stranger!["resets_off"],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/invites",
        serves: Serves::Accounts(Act::Invite),
        summary: "Invite whoever has the code that is answered",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "MakeInvite",
            example: r#"{"rank":"member","uses":1,"life_ms":604800000}"#,
        }),
        success: &[(201, Shape::Json("MadeInvite"))],
        codes: of_accounts![
            "media_type_unsupported",
            "body_too_large",
            "body_too_slow",
            "rank_too_low",
            "too_many_invites"
        ],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/invites",
        serves: Serves::Accounts(Act::Invites),
        summary: "The invites that are open, for admins and owners",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Invites"))],
        codes: of_accounts!["rank_too_low"],
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/invites/{invite}",
        serves: Serves::Accounts(Act::TakeBack),
        summary: "Take an invite back",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Done"))],
        codes: of_accounts!["rank_too_low", "invite_not_found"],
    },
    Route {
        verb: Verb::Post,
        path: "/v1/bans",
        serves: Serves::Accounts(Act::Ban),
        summary: "Ban a user from the tenant; answered when nothing can reach the user any more",
        query: NO_QUERY,
        body: Some(&Body {
            required: true,
            shape: "BanFromTenant",
            example: r#"{"user":"mallory","until":4102444800000,"reason":"spam"}"#,
        }),
        success: &[(201, Shape::Json("Banned"))],
        codes: of_accounts![
            "media_type_unsupported",
            "body_too_large",
            "body_too_slow",
            "rank_too_low",
            "last_account_owner",
            "name_reserved",
            "ends_too_soon",
            "too_many_exclusions"
        ],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/bans",
        serves: Serves::Accounts(Act::Bans),
        summary: "Who is banned from the tenant, for admins and owners",
        query: &[Query { name: "after", about: "the user after whom the page starts", most: None }, PAGE],
        body: None,
        success: &[(200, Shape::Json("TenantBans"))],
        codes: of_accounts!["rank_too_low"],
    },
    Route {
        verb: Verb::Delete,
        path: "/v1/bans/{user}",
        serves: Serves::Accounts(Act::Unban),
        summary: "Let a user who is banned from the tenant in again",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Done"))],
        codes: of_accounts!["rank_too_low", "ban_not_found"],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/ws",
        serves: Serves::Socket,
        summary: "Open a WebSocket, on which all commands and what happens in rooms travel",
        query: NO_QUERY,
        body: None,
        success: &[(101, Shape::Socket)],
        codes: &[
            "bad_handshake",
            "subprotocol_unknown",
            "token_invalid",
            "token_expired",
            "token_revoked",
            "tenant_banned",
            "account_disabled",
            "ticket_invalid",
            "bad_request",
            "unauthenticated",
            "rate_limited",
            "too_many_connections",
            "upgrade_required",
            "shutting_down",
            "unavailable",
        ],
    },
    Route {
        verb: Verb::Get,
        path: "/v1/openapi.json",
        serves: Serves::Description,
        summary: "This description",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Json("Description"))],
        codes: &[],
    },
    Route {
        verb: Verb::Get,
        path: "/join",
        serves: Serves::Join(Part::Page),
        summary: "The page on which somebody with an invite makes an account",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Text)],
        codes: &[],
    },
    Route {
        verb: Verb::Get,
        path: "/setup",
        serves: Serves::Join(Part::Page),
        summary: "The same page, for the first owner",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Text)],
        codes: &[],
    },
    Route {
        verb: Verb::Get,
        path: "/join.js",
        serves: Serves::Join(Part::Script),
        summary: "The script of that page",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Text)],
        codes: &[],
    },
    Route {
        verb: Verb::Get,
        path: "/join.css",
        serves: Serves::Join(Part::Style),
        summary: "The looks of that page",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Text)],
        codes: &[],
    },
    Route {
        verb: Verb::Get,
        path: "/healthz",
        serves: Serves::Alive,
        summary: "Whether the process answers",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Text)],
        codes: &[],
    },
    Route {
        verb: Verb::Get,
        path: "/readyz",
        serves: Serves::Ready,
        summary: "Whether commands are taken now",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Text)],
        codes: &["shutting_down", "storage_full", "unavailable"],
    },
    Route {
        verb: Verb::Get,
        path: "/",
        serves: Serves::Greeting,
        summary: "Which server this is",
        query: NO_QUERY,
        body: None,
        success: &[(200, Shape::Text)],
        codes: &[],
    },
];

/// Mounts every route, and says of each address which methods it takes.
pub fn mount(config: &mut web::ServiceConfig) {
    let mut paths: Vec<&'static str> = ROUTES.iter().map(|route| route.path).collect();
    paths.dedup();
    // They are tried in their order, and most connections come for a socket.
    paths.sort_by_key(|path| !ROUTES.iter().any(|route| route.path == *path && matches!(route.serves, Serves::Socket)));
    for path in paths {
        let mut resource = web::resource(path);
        let mut allowed = Vec::new();
        for route in ROUTES.iter().filter(|route| route.path == path) {
            if matches!(route.serves, Serves::Socket | Serves::Events | Serves::World) {
                // What lasts has no beginning that could be asked for alone.
                allowed.push("GET");
                resource = resource.route(served(web::method(Method::GET), route));
                continue;
            }
            let method = route.verb.method();
            allowed.push(match route.verb {
                Verb::Get => "GET, HEAD",
                Verb::Post => "POST",
                Verb::Put => "PUT",
                Verb::Patch => "PATCH",
                Verb::Delete => "DELETE",
            });
            if route.verb == Verb::Get {
                // The same without its body (RFC 9110, section 9.3.2).
                resource = resource.route(served(web::method(Method::HEAD), route));
            }
            resource = resource.route(served(web::method(method), route));
        }
        let allowed = format!("{}, OPTIONS", allowed.join(", "));
        let refused = allowed.clone();
        resource = resource
            .route(web::method(Method::OPTIONS).to(move || ready(options(path, &allowed))))
            .default_service(web::to(move || ready(wrong_method(&refused))));
        config.service(resource);
    }
}

fn served(mounted: actix_web::Route, route: &'static Route) -> actix_web::Route {
    match route.serves {
        Serves::Command(kind) => {
            mounted.to(move |request: HttpRequest, payload: web::Payload, edge: web::ThinData<Edge>| {
                rest::answer(route, kind, request, payload, edge)
            })
        }
        Serves::Events => mounted.to(events::of_room),
        Serves::World => mounted.to(world::events),
        Serves::Tickets => mounted.to(tickets::make),
        Serves::Upload => mounted.to(files::upload),
        Serves::File => mounted.to(files::serve),
        Serves::Link => mounted.to(files::link),
        Serves::Tus(tus) => {
            mounted.to(move |request: HttpRequest, payload: web::Payload, edge: web::ThinData<Edge>| {
                uploads::answer(tus, request, payload, edge)
            })
        }
        Serves::Accounts(act) => {
            mounted.to(move |request: HttpRequest, payload: web::Payload, edge: web::ThinData<Edge>| {
                accounts::answer(route, act, request, payload, edge)
            })
        }
        Serves::Join(part) => mounted.to(move || ready(join::serve(part))),
        Serves::Socket => mounted.to(ws::open),
        Serves::Description => mounted.to(openapi::serve),
        Serves::Greeting => mounted.to(greeting),
        Serves::Alive => mounted.to(healthz),
        Serves::Ready => mounted.to(readyz),
    }
}

/// What an address takes (RFC 9110, section 9.3.7).
fn options(path: &str, allowed: &str) -> HttpResponse {
    let mut response = HttpResponse::NoContent().insert_header((header::ALLOW, allowed)).finish();
    if path.starts_with(UPLOADS) {
        uploads::describe(response.headers_mut());
    }
    response
}

pub fn wrong_method(allowed: &str) -> HttpResponse {
    Problem::method_not_allowed(allowed).response()
}
