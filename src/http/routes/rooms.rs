//! Rooms: which there are, what they are, who comes and goes.

use super::codes::{of_a_room, with_body};
use super::{Body, NO_QUERY, PAGE, Query, Route, Serves, Shape, Verb};
use crate::wire::Kind;

pub const ROUTES: &[Route] = &[
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
];
