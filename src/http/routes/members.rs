//! Members of a room: who they are, what they may do, and what they do just now.

use super::codes::with_body;
use super::{Body, NO_QUERY, PAGE, Query, Route, Serves, Shape, Verb};
use crate::wire::Kind;

pub const ROUTES: &[Route] = &[
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
];
