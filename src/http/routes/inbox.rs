//! What rooms are to one user.

use super::codes::{of_a_room, with_body};
use super::{Body, NO_QUERY, PAGE, Query, Route, Serves, Shape, Verb};
use crate::wire::Kind;

const INBOX_PAGE: Query = Query { name: "limit", about: "how many at most, 1 to 5000", most: Some(5_000) };

pub const ROUTES: &[Route] = &[
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
];
