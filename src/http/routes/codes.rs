//! The codes by which many routes may be refused, so that each route names its own besides.

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

/// What a room's rules may answer to a command.
macro_rules! of_a_room {
    ($($more:literal),* $(,)?) => {
        &["room_not_found", "busy", "storage_full", "shutting_down", "room_shut", "command_refused", $($more),*]
    };
}

/// What a body may be refused for.
macro_rules! with_body {
    ($($more:literal),* $(,)?) => {
        $crate::http::routes::codes::of_a_room![
            "media_type_unsupported", "body_too_large", "body_too_slow", "too_deep",
            $($more),*
        ]
    };
}

pub(super) use {of_a_room, with_body};
