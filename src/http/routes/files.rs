//! Files: sent at once or in several requests, fetched and linked to.

use super::{NO_QUERY, Query, Route, Serves, Shape, Verb};
use crate::http::uploads::Tus;

/// Where uploads in several requests are.
pub const UPLOADS: &str = "/v1/uploads";

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

pub const ROUTES: &[Route] = &[
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
];
