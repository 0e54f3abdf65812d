//! The description of all routes that programs can read (OpenAPI 3.1), made of the table that mounts them.
//!
//! The shapes of bodies are described here once more, because what is read and written is described by code that no
//! schema can be derived from; tests hold what is really answered against them.

use std::collections::{BTreeMap, BTreeSet};

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use serde_json::Value;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathsBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, ComponentsBuilder, ObjectBuilder, Schema, SchemaType, Type,
};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, ResponseBuilder};

use super::join::Part;
use super::rest::{IDEMPOTENCY_KEY, json, takes_client_id};
use super::routes::{self, EVERYWHERE, Route, Serves, Shape, Verb, WITH_TOKEN};
use super::uploads::Tus;
use crate::domain::account::{INVITE_LIFE_MAX_MS, INVITE_USES_MAX, Rank};
use crate::domain::event::MENTIONS_MAX;
use crate::domain::file::ATTACHMENTS_MAX;
use crate::domain::inbox::DRAFT_BYTES_MAX;
use crate::domain::policy::{History, KEEP_MAX_MS, SLOW_MODE_MAX_MS};
use crate::domain::rules::{HOST_BYTES_MAX, HOSTS_MAX, Links, WORD_BYTES_MAX, WORDS_MAX};
use crate::domain::{Audience, Capability, ClientId, Name, Role, RoomKind, UserId};
use crate::wire::Kind;
use crate::wire::refusal::CODES;

/// What the name of the security scheme is in the description.
const BEARER: &str = "bearer";

/// Answers with the description.
pub async fn serve(description: web::ThinData<Description>) -> HttpResponse {
    json(StatusCode::OK, description.0.0)
}

/// The description as it is sent. Made once per thread.
#[derive(Clone)]
pub struct Description(Bytes);

impl Default for Description {
    fn default() -> Self {
        let text = serde_json::to_vec(&document()).expect("texts, numbers and maps with names of text");
        Self(text.into())
    }
}

fn document() -> OpenApi {
    let mut paths = PathsBuilder::new();
    for route in routes::all() {
        let item = utoipa::openapi::PathItem::new(method(route.verb), operation(route));
        paths = paths.path(route.path, item);
    }
    let mut components = ComponentsBuilder::new();
    for (name, schema) in schemas() {
        components = components.schema(name, schema);
    }
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
    let bearer = bearer.description(Some("The same token may come in the header X-Auth-Token."));
    let components = components.security_scheme(BEARER, SecurityScheme::Http(bearer.build()));
    let about = "Realtime chat and message broker. A command that changes something has been synced to disk when it \
                 is answered.";
    OpenApiBuilder::new()
        .info(InfoBuilder::new().title("Chinwag").version(env!("CARGO_PKG_VERSION")).description(Some(about)).build())
        .paths(paths.build())
        .components(Some(components.build()))
        .build()
}

fn method(verb: Verb) -> HttpMethod {
    match verb {
        Verb::Get => HttpMethod::Get,
        Verb::Post => HttpMethod::Post,
        Verb::Put => HttpMethod::Put,
        Verb::Patch => HttpMethod::Patch,
        Verb::Delete => HttpMethod::Delete,
    }
}

fn operation(route: &'static Route) -> OperationBuilder {
    let mut operation = OperationBuilder::new().summary(Some(route.summary)).operation_id(Some(name(route)));
    let commands: Vec<_> = route.commands().into_iter().map(Kind::as_str).collect();
    if !commands.is_empty() {
        operation = operation.extensions(Some(ExtensionsBuilder::new().add("x-commands", commands).build()));
    }
    if route.needs_token() {
        operation = operation.security(SecurityRequirement::new(BEARER, Vec::<String>::new()));
    }
    for place in route.path.split('/').filter_map(|place| place.strip_prefix('{')?.strip_suffix('}')) {
        let parameter = ParameterBuilder::new().name(place).parameter_in(ParameterIn::Path).required(Required::True);
        operation = operation.parameter(parameter.description(Some(about_place(place))).schema(Some(text())));
    }
    for query in route.query {
        let parameter = ParameterBuilder::new().name(query.name).parameter_in(ParameterIn::Query);
        let schema = query.most.map_or_else(text, |most| integer().minimum(Some(1)).maximum(Some(most)));
        let parameter = parameter.required(Required::False).description(Some(query.about)).schema(Some(schema));
        operation = operation.parameter(parameter);
    }
    if let Serves::Command(kind) = route.serves
        && takes_client_id(kind)
    {
        let parameter = ParameterBuilder::new().name(IDEMPOTENCY_KEY).parameter_in(ParameterIn::Header);
        let about = "the client id, for sending again; the same as `client_id` of the body";
        operation =
            operation.parameter(parameter.required(Required::False).description(Some(about)).schema(Some(text())));
    }
    if matches!(route.serves, Serves::Events | Serves::World) {
        let parameter = ParameterBuilder::new().name("Last-Event-ID").parameter_in(ParameterIn::Header);
        let about = "the cursor after which a stream goes on; it wins over `after`";
        operation =
            operation.parameter(parameter.required(Required::False).description(Some(about)).schema(Some(text())));
    }
    if let Some(body) = route.body {
        let example: Value = serde_json::from_str(body.example).expect("a test reads every example");
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(body.shape))).example(Some(example));
        let required = if body.required { Required::True } else { Required::False };
        let described = RequestBodyBuilder::new().content("application/json", content.build()).required(Some(required));
        operation = operation.request_body(Some(described.build()));
    }
    if let Some(kind) = raw_body(route) {
        let content = ContentBuilder::new().schema(Some(binary())).build();
        let described = RequestBodyBuilder::new().content(kind, content).required(Some(Required::True));
        operation = operation.request_body(Some(described.build()));
    }
    for (name, about, required) in headers(route) {
        let parameter = ParameterBuilder::new().name(*name).parameter_in(ParameterIn::Header);
        let required = if *required { Required::True } else { Required::False };
        operation = operation.parameter(parameter.required(required).description(Some(*about)).schema(Some(text())));
    }
    for (status, shape) in route.success {
        operation = operation.response(status.to_string(), success(*status, *shape));
    }
    for (status, codes) in refusals(route) {
        let list = codes.iter().map(|code| format!("`{code}`")).collect::<Vec<_>>().join(", ");
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response = ResponseBuilder::new().description(format!("refused: {list}"));
        let response = response.content("application/problem+json", content);
        operation = operation.response(status.to_string(), response.build());
    }
    operation
}

/// What the body of a route is that takes bytes as they are.
fn raw_body(route: &Route) -> Option<&'static str> {
    match route.serves {
        Serves::Upload => Some("application/octet-stream"),
        Serves::Tus(Tus::GoOn) => Some("application/offset+octet-stream"),
        Serves::Tus(Tus::Create | Tus::Came | Tus::GiveUp)
        | Serves::File
        | Serves::Link
        | Serves::Command(_)
        | Serves::Accounts(_)
        | Serves::Join(_)
        | Serves::Events
        | Serves::World
        | Serves::Tickets
        | Serves::Socket
        | Serves::Description
        | Serves::Greeting
        | Serves::Alive
        | Serves::Ready => None,
    }
}

/// The headers that files and uploads are about: name, meaning, whether they have to be there.
fn headers(route: &Route) -> &'static [(&'static str, &'static str, bool)] {
    const VERSION: (&str, &str, bool) = ("Tus-Resumable", "1.0.0", true);
    match route.serves {
        Serves::Upload => {
            &[("Content-Digest", "the SHA-256 of the file (RFC 9530); with another it is refused", false)]
        }
        Serves::File => &[
            ("Range", "one range of bytes (RFC 9110)", false),
            ("If-Range", "the ETag of the file that the range is of", false),
            ("If-None-Match", "the ETag of what you have", false),
        ],
        Serves::Tus(Tus::Create) => &[
            VERSION,
            ("Upload-Length", "how large the file will be", true),
            ("Upload-Metadata", "`room` or `purpose`, and `filename`, in base64", true),
        ],
        Serves::Tus(Tus::GoOn) => &[
            VERSION,
            ("Upload-Offset", "where the body belongs", true),
            ("Upload-Checksum", "the `sha1` or `sha256` of the body, in base64", false),
        ],
        Serves::Tus(Tus::Came | Tus::GiveUp) => &[VERSION],
        Serves::Link
        | Serves::Command(_)
        | Serves::Accounts(_)
        | Serves::Join(_)
        | Serves::Events
        | Serves::World
        | Serves::Tickets
        | Serves::Socket
        | Serves::Description
        | Serves::Greeting
        | Serves::Alive
        | Serves::Ready => &[],
    }
}

/// A name for programs that generate code: the command's, or the last word of the address.
fn name(route: &Route) -> String {
    match route.serves {
        Serves::Command(kind) => kind.as_str().to_owned(),
        Serves::Events => "events".to_owned(),
        Serves::World => "all_events".to_owned(),
        Serves::Tickets => "ticket".to_owned(),
        Serves::Upload => "upload".to_owned(),
        Serves::File => "file".to_owned(),
        Serves::Link => "file_link".to_owned(),
        Serves::Tus(Tus::Create) => "upload_create".to_owned(),
        Serves::Tus(Tus::Came) => "upload_state".to_owned(),
        Serves::Tus(Tus::GoOn) => "upload_go_on".to_owned(),
        Serves::Tus(Tus::GiveUp) => "upload_give_up".to_owned(),
        Serves::Accounts(act) => act.name().to_owned(),
        Serves::Join(part) => match (part, route.path) {
            (Part::Page, "/setup") => "setup_page".to_owned(),
            (Part::Page, _) => "join_page".to_owned(),
            (Part::Script, _) => "join_script".to_owned(),
            (Part::Style, _) => "join_style".to_owned(),
        },
        Serves::Socket => "websocket".to_owned(),
        Serves::Description => "openapi".to_owned(),
        Serves::Greeting => "greeting".to_owned(),
        Serves::Alive => "healthz".to_owned(),
        Serves::Ready => "readyz".to_owned(),
    }
}

fn about_place(place: &str) -> &'static str {
    match place {
        "room" => "the room's uuid, num or alias; `alias:NAME` is always the alias",
        "user" => "a user id",
        "login" => "the id of a login, or `current`",
        "invite" => "the id of an invite",
        "emoji" => "an emoji, or a word of at most 64 bytes without spaces, percent-encoded",
        "file" => "the id of a file",
        "upload" => "the id of an upload",
        "message" => "the id of the record by which the message was posted",
        "report" => "the id of the record of the audit room by which the message was reported",
        _ => "",
    }
}

fn success(status: u16, shape: Shape) -> utoipa::openapi::Response {
    let response = ResponseBuilder::new();
    match shape {
        Shape::Json(name) => {
            let about = match (status, name) {
                (200, "Published") => "recorded; with `duplicate`, it had been before",
                (201, _) => "made, and on disk",
                _ => "done",
            };
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(name))).build();
            let response = response.description(about).content("application/json", content);
            if name == "Created" {
                let place = HeaderBuilder::new().schema(Some(text())).description(Some("the address of the room"));
                return response.header("Location", place.build()).build();
            }
            response.build()
        }
        Shape::Events(page) => {
            let page = ContentBuilder::new().schema(Some(Ref::from_schema_name(page))).build();
            let stream = ContentBuilder::new().schema(Some(text())).build();
            let response = response.description("a page, or a stream of server-sent events for who accepts one");
            response.content("application/json", page).content("text/event-stream", stream).build()
        }
        Shape::Text => {
            let content = ContentBuilder::new().schema(Some(text())).build();
            response.description("a word").content("text/plain", content).build()
        }
        Shape::Bytes => {
            let content = ContentBuilder::new().schema(Some(binary())).build();
            response.description("the file, or the part that was asked for").content("*/*", content).build()
        }
        Shape::Empty => response.description("done; what there is to say is in the headers").build(),
        Shape::Socket => response.description("the connection is a WebSocket from now on").build(),
    }
}

/// The codes by which a route may be refused, by their status.
fn refusals(route: &Route) -> BTreeMap<u16, BTreeSet<&'static str>> {
    let with_token = if route.needs_token() { WITH_TOKEN } else { &[] };
    let codes = EVERYWHERE.iter().chain(with_token).chain(route.codes);
    let mut refusals: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for code in codes {
        let info = CODES.iter().find(|info| info.code == *code).expect("a test builds the description");
        refusals.entry(info.status).or_default().insert(info.code);
    }
    refusals
}

/// Every shape of a body.
fn schemas() -> Vec<(&'static str, RefOr<Schema>)> {
    let about = "an object of yours with at least one member, at most 32 KiB";
    let content =
        || object().additional_properties(Some(AdditionalProperties::FreeForm(true))).description(Some(about));
    let client_id = || text().max_length(Some(ClientId::BYTES_MAX));
    let place = |shape: ObjectBuilder| {
        let shape = needed(shape, "room", uuid());
        let shape = needed(shape, "seq", integer());
        let shape = needed(shape, "cursor", text());
        needed(shape, "at", millis())
    };
    let invitee = needed(object(), "user", user()).property("role", role());
    let listed = needed(needed(object(), "room", uuid()), "kind", kind());
    let listed = needed(needed(listed, "role", role()), "standing", standing());
    let member = needed(needed(needed(object(), "user", user()), "role", role()), "joined", uuid());
    let member = member.property("allow", ArrayBuilder::new().items(capability()));
    let member = member.property("deny", ArrayBuilder::new().items(capability()));
    let member = member.property("muted", needed(object(), "until", or_null(millis())));
    let me = needed(needed(needed(object(), "user", user()), "tenant", text()), "expires_at", millis());
    let room = needed(needed(needed(object(), "room", uuid()), "kind", kind()), "num", integer());
    let room = needed(needed(room, "alias", or_null(text())), "name", or_null(name_text()));
    let room = needed(needed(room, "created_at", millis()), "archived", flag());
    let room = needed(needed(room, "edit_history", flag()), "slow_mode_ms", integer());
    let room = needed(needed(room, "history", history()), "keep_ms", integer());
    let room = needed(needed(room, "role", or_null(role())), "standing", or_null(standing()));
    let room = needed(needed(room, "head", or_null(integer())), "cursor", or_null(text()));
    let room = needed_list(room, "capabilities", capability()).property("audit", uuid()).property("audits", uuid());
    let created = needed(needed(place(object()), "num", integer()), "alias", or_null(text()));
    let published = needed(needed(place(object()), "record", uuid()), "num", integer());
    let published = published.property("duplicate", flag());
    let record = || object().additional_properties(Some(AdditionalProperties::FreeForm(true)));
    let page = needed_list(needed(object(), "room", uuid()), "records", record());
    let page = page.property("cursor", text()).property("before", or_null(text()));
    let page = page.property("head", integer()).property("complete", flag());
    let thread = needed(needed(object(), "room", uuid()), "thread", uuid());
    let thread = needed_list(thread, "records", record());
    let tally = needed(needed(object(), "message", uuid()), "emoji", text());
    let tally = needed(tally, "count", integer());
    let tally = needed(tally, "mine", flag()).build();
    let version = |shape: ObjectBuilder| {
        let shape = needed(needed(needed(shape, "seq", integer()), "at", millis()), "content", record());
        shape.property("mentions", ArrayBuilder::new().items(user()))
    };
    let edited = version(needed(object(), "message", uuid())).build();
    let edits = needed(needed(object(), "room", uuid()), "message", uuid());
    let edits = needed(needed_list(edits, "versions", version(object())), "after", or_null(text()));
    let beside = |shape: ObjectBuilder| {
        let edited = ArrayBuilder::new().items(edited.clone());
        shape.property("reactions", ArrayBuilder::new().items(tally.clone())).property("edited", edited)
    };
    let (thread, page) = (beside(thread), beside(page));
    let reactions = needed(needed(needed(object(), "room", uuid()), "message", uuid()), "emoji", text());
    let reactions = needed_list(needed(reactions, "count", integer()), "users", user());
    let pinned = needed(needed(needed(object(), "message", uuid()), "by", user()), "at", millis());
    let pins = needed_list(needed_list(needed(object(), "room", uuid()), "pins", pinned), "records", record());
    let pins = needed(beside(pins), "before", or_null(text()));
    let mentioning = |shape: ObjectBuilder| {
        let mentions = ArrayBuilder::new().items(user()).max_items(Some(MENTIONS_MAX));
        shape.property("mentions", mentions).property("client_id", client_id())
    };
    let reader = needed(needed(object(), "user", user()), "delivered_to", integer());
    let readers = needed(needed(needed(object(), "room", uuid()), "message", uuid()), "members", integer());
    let readers = needed(needed(readers, "delivered", integer()), "read", integer());
    let readers = needed_list(readers, "users", needed(reader, "read_to", integer()));
    let hidden = needed_list(needed(object(), "room", uuid()), "messages", uuid());
    let present = needed(needed(object(), "user", user()), "presence", presence()).property("last_seen", millis());
    let presences = needed(needed(object(), "room", uuid()), "members", integer());
    let presences = needed(needed(presences, "online", integer()), "away", integer());
    let presences = presences.property("users", ArrayBuilder::new().items(present));
    let presences = presences.property("after", or_null(user()));
    let settings = |shape: ObjectBuilder| {
        let shape = shape.property("muted_until", or_null(millis())).property("pinned", flag());
        shape.property("archived", flag()).property("draft", or_null(text().max_length(Some(DRAFT_BYTES_MAX))))
    };
    let entry = |shape: ObjectBuilder| {
        let shape = needed(needed(shape, "room", uuid()), "delivered_to", integer());
        settings(needed(shape, "read_to", integer()))
    };
    let counted = |shape: ObjectBuilder| {
        needed(needed(shape, "unread", integer()), "mentions", integer()).property("more_unread", flag())
    };
    let inbox_update = settings(object().property("delivered_to", integer()).property("read_to", integer()));
    let last = needed(needed(needed(object(), "id", uuid()), "seq", integer()), "at", millis());
    let last = needed(needed(last, "author", user()), "text", or_null(text()));
    let inbox_room = needed(needed(needed(object(), "kind", kind()), "role", role()), "num", integer());
    let inbox_room = needed(needed(inbox_room, "alias", or_null(text())), "name", or_null(name_text()));
    let inbox_room = counted(entry(needed(needed(inbox_room, "head", integer()), "last", or_null(last))));
    let inbox = needed(needed_list(object(), "rooms", inbox_room), "after", or_null(text()));
    let inbox = needed(inbox, "unread", integer());
    let changes = needed_list(object(), "changes", entry(needed(object(), "cursor", text())));
    let source = needed(needed(object(), "room", text()), "message", uuid());
    let source = source.description(Some("a message that you may read, in place of `content`"));
    let post = object().property("content", content()).property("forward", source).property("reply_to", uuid());
    let post = post.property("attachments", ArrayBuilder::new().items(uuid()).max_items(Some(ATTACHMENTS_MAX)));
    let file = needed(needed(needed(object(), "id", uuid()), "name", text()), "media_type", text());
    let file = needed(needed(needed(file, "size", integer()), "sha256", text()), "at", millis());
    let upload = needed(needed(needed(object(), "offset", integer()), "size", integer()), "complete", flag());
    let world_page = needed(needed_list(object(), "records", record()), "cursor", text());
    let world_page = needed_list(world_page, "notices", record());
    let world_page = needed(world_page, "complete", flag());
    let create = needed(object(), "kind", one_of(made_by_users().map(RoomKind::as_str)))
        .property("alias", text())
        .property("name", name_text());
    let create = create.property("members", ArrayBuilder::new().items(invitee));
    let slow_mode = integer().minimum(Some(0)).maximum(Some(SLOW_MODE_MAX_MS));
    let keep = integer().minimum(Some(0)).maximum(Some(KEEP_MAX_MS as f64));
    let rooms = needed_list(object(), "rooms", listed);
    let members = needed_list(needed(object(), "room", uuid()), "members", member);
    let ban = needed(needed(needed(object(), "user", user()), "by", user()), "at", millis());
    let ban = needed(needed(ban, "until", or_null(millis())), "reason", or_null(name_text()));
    let bans = needed_list(needed(object(), "room", uuid()), "bans", ban);
    let links = || one_of(Links::ALL.map(Links::as_str));
    let rules = needed(needed(object(), "room", uuid()), "links", links());
    let texts = |most, bytes| ArrayBuilder::new().items(text().max_length(Some(bytes))).max_items(Some(most));
    let change_rules = object().property("words", texts(WORDS_MAX, WORD_BYTES_MAX)).property("links", links());
    let change_rules = change_rules.property("hosts", texts(HOSTS_MAX, HOST_BYTES_MAX));
    let mute = needed(needed(needed(object(), "user", user()), "by", user()), "at", millis());
    let mute = needed(mute, "until", or_null(millis()));
    let mutes = needed_list(needed(object(), "room", uuid()), "mutes", mute);
    let password = |shape: ObjectBuilder| {
        let about = "8 to 1,024 bytes; neither the name nor one that everybody tries first";
        let shape = needed(shape, "password", text().description(Some(about)));
        shape.property("device", name_text()).property("tenant", text())
    };
    let logged_in = needed(text_of(needed(object(), "user", user()), "tenant"), "rank", rank());
    let logged_in = needed(text_of(needed(logged_in, "login", uuid()), "token"), "expires_at", millis());
    let logged_in = text_of(logged_in, "refresh");
    let login = needed(needed(object(), "login", uuid()), "device", or_null(name_text()));
    let login = needed(needed(needed(login, "since", millis()), "used", millis()), "current", flag());
    let account = || {
        let shape = needed(needed(object(), "user", user()), "rank", rank());
        needed(needed(shape, "disabled", flag()), "since", millis())
    };
    let invite = || {
        let shape = needed(needed(needed(object(), "invite", uuid()), "by", user()), "rank", rank());
        needed(needed(shape, "uses_left", integer()), "expires_at", millis())
    };
    let tenant_ban = || {
        let shape = needed(needed(needed(object(), "user", user()), "by", user()), "at", millis());
        needed(needed(shape, "until", or_null(millis())), "reason", or_null(text()))
    };
    let ban = needed(object(), "user", user()).property("until", millis());
    let make_invite = object().property("rank", rank());
    let make_invite = make_invite.property("uses", integer().minimum(Some(1)).maximum(Some(INVITE_USES_MAX)));
    let make_invite = make_invite.property("life_ms", integer().minimum(Some(1)).maximum(Some(INVITE_LIFE_MAX_MS)));
    vec![
        ("Create", create.into()),
        (
            "Update",
            object()
                .property("name", or_null(name_text()))
                .property("edit_history", flag())
                .property("slow_mode_ms", slow_mode)
                .property("history", history())
                .property("keep_ms", keep)
                .into(),
        ),
        ("Invite", object().property("role", role()).into()),
        ("Kick", object().property("reason", name_text()).into()),
        ("Ban", object().property("until", millis()).property("reason", name_text()).into()),
        ("Mute", object().property("until", millis()).into()),
        ("ChangeRole", needed(object(), "role", role()).into()),
        (
            "ChangeRights",
            object()
                .property("allow", ArrayBuilder::new().items(capability()))
                .property("deny", ArrayBuilder::new().items(capability()))
                .into(),
        ),
        ("Post", mentioning(post).into()),
        ("Edit", mentioning(needed(object(), "content", content())).into()),
        ("Delete", object().property("client_id", client_id()).into()),
        ("Me", me.into()),
        ("Rooms", needed(rooms, "after", or_null(uuid())).into()),
        ("Created", needed_list(created, "capabilities", capability()).property("audit", uuid()).into()),
        ("Room", room.into()),
        ("Page", page.into()),
        ("Thread", needed(thread, "after", or_null(text())).into()),
        ("Reactions", needed(reactions, "after", or_null(user())).into()),
        ("Edits", edits.into()),
        ("Pins", pins.into()),
        ("WorldPage", world_page.into()),
        ("Ticket", needed(needed(object(), "ticket", text()), "expires_at", integer()).into()),
        ("Members", needed(members, "after", or_null(user())).into()),
        ("Bans", needed(bans, "after", or_null(user())).into()),
        ("Rules", needed_list(needed_list(rules, "words", text()), "hosts", text()).into()),
        ("ChangeRules", change_rules.into()),
        ("Mutes", needed(mutes, "after", or_null(user())).into()),
        ("Changed", place(object()).into()),
        ("Joined", needed_list(place(object()), "capabilities", capability()).property("audit", uuid()).into()),
        ("Published", published.into()),
        ("Hidden", needed(hidden, "after", or_null(uuid())).into()),
        (
            "Settings",
            object()
                .property("private_reading", flag())
                .property("contacts", audience())
                .property("invisible", flag())
                .into(),
        ),
        ("Profile", profile(object().property("name", or_null(name_text()))).into()),
        ("Report", object().property("reason", or_null(name_text())).into()),
        ("ResolveReport", object().property("note", or_null(name_text())).into()),
        ("Reported", needed(needed(object(), "room", uuid()), "message", uuid()).into()),
        ("Blocked", needed(needed(object(), "user", user()), "blocked", flag()).into()),
        ("Blocks", needed(needed_list(object(), "users", user()), "after", or_null(user())).into()),
        ("User", shown_profile().into()),
        ("Users", needed_list(object(), "users", shown_profile()).into()),
        ("FindUsers", needed_list(object(), "hashes", text()).into()),
        ("FoundUsers", needed_list(object(), "users", needed(shown_profile(), "hash", text())).into()),
        ("Presence", needed(object(), "presence", presence()).into()),
        ("Presences", presences.into()),
        ("Typing", object().property("typing", flag()).into()),
        ("Signaled", needed(object(), "room", uuid()).into()),
        ("Readers", needed(readers, "after", or_null(user())).into()),
        ("Inbox", needed(needed(inbox, "mentions", integer()), "cursor", text()).into()),
        ("InboxChanges", needed(needed(changes, "cursor", text()), "complete", flag()).into()),
        ("InboxUpdate", inbox_update.into()),
        ("InboxEntry", counted(entry(needed(object(), "cursor", text()))).into()),
        ("File", file.into()),
        ("Link", needed(needed(object(), "path", text()), "expires_at", millis()).into()),
        ("Upload", upload.into()),
        ("Register", password(text_of(object(), "name")).property("invite", text()).into()),
        ("LogIn", password(text_of(object(), "name")).into()),
        ("Refresh", text_of(object(), "refresh").into()),
        ("LoggedIn", logged_in.into()),
        ("Logins", needed_list(object(), "logins", login).into()),
        ("Ended", needed(object(), "ended", integer()).into()),
        ("ChangePassword", text_of(text_of(object(), "password"), "new_password").into()),
        ("Reset", password(text_of(text_of(object(), "name"), "code")).into()),
        ("AskForCode", text_of(object(), "name").property("tenant", text()).into()),
        ("ResetCode", needed(text_of(text_of(object(), "user"), "code"), "expires_at", millis()).into()),
        ("Account", account().into()),
        ("Accounts", needed(needed_list(object(), "accounts", account()), "after", or_null(user())).into()),
        ("ChangeAccount", object().property("rank", rank()).property("disabled", flag()).into()),
        ("MakeInvite", make_invite.into()),
        ("MadeInvite", text_of(text_of(invite(), "code"), "path").into()),
        ("Invites", needed_list(object(), "invites", invite()).into()),
        ("BanFromTenant", ban.property("reason", text()).into()),
        ("Banned", needed(tenant_ban(), "connections", integer()).into()),
        ("TenantBans", needed(needed_list(object(), "bans", tenant_ban()), "after", or_null(user())).into()),
        ("Done", object().into()),
        ("Description", object().additional_properties(Some(AdditionalProperties::FreeForm(true))).into()),
        ("Problem", problem().into()),
    ]
}

/// A problem document (RFC 9457).
fn problem() -> ObjectBuilder {
    let codes = text().enum_values(Some(CODES.iter().map(|info| info.code)));
    let shape = needed(needed(object(), "type", text()), "title", text());
    let shape = needed(needed(shape, "status", integer()), "code", codes);
    let shape = needed(needed(shape, "detail", text()), "retry", one_of(["no", "same", "later"]));
    let shape = shape.property("retry_after_ms", integer()).property("limit", text());
    shape.property("until", millis()).property("reason", text())
}

fn object() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Object)
}

fn needed(shape: ObjectBuilder, name: &str, value: ObjectBuilder) -> ObjectBuilder {
    shape.property(name, value).required(name)
}

fn needed_list(shape: ObjectBuilder, name: &str, items: ObjectBuilder) -> ObjectBuilder {
    shape.property(name, ArrayBuilder::new().items(items)).required(name)
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn binary() -> ObjectBuilder {
    text().format(Some(utoipa::openapi::SchemaFormat::Custom("binary".into())))
}

fn text_of(shape: ObjectBuilder, name: &str) -> ObjectBuilder {
    needed(shape, name, text())
}

fn rank() -> ObjectBuilder {
    one_of(Rank::ALL.map(Rank::as_str))
}

fn integer() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer)
}

fn flag() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Boolean)
}

fn millis() -> ObjectBuilder {
    integer().description(Some("milliseconds since 1970 UTC"))
}

fn uuid() -> ObjectBuilder {
    text().format(Some(utoipa::openapi::SchemaFormat::Custom("uuid".into())))
}

fn user() -> ObjectBuilder {
    text().max_length(Some(UserId::BYTES_MAX))
}

fn name_text() -> ObjectBuilder {
    text().max_length(Some(Name::BYTES_MAX))
}

fn one_of(words: impl IntoIterator<Item = &'static str>) -> ObjectBuilder {
    text().enum_values(Some(words))
}

/// The kinds of room that somebody may create.
fn made_by_users() -> impl Iterator<Item = RoomKind> {
    RoomKind::MADE_BY_USERS.into_iter()
}

fn kind() -> ObjectBuilder {
    one_of(RoomKind::ALL.map(RoomKind::as_str))
}

fn role() -> ObjectBuilder {
    one_of(Role::ALL.map(Role::as_str))
}

fn history() -> ObjectBuilder {
    one_of(History::ALL.map(History::as_str))
}

fn audience() -> ObjectBuilder {
    one_of(Audience::ALL.map(Audience::as_str))
}

/// What a profile may have besides the name.
fn profile(shape: ObjectBuilder) -> ObjectBuilder {
    let fields = object().additional_properties(Some(AdditionalProperties::FreeForm(true)));
    let shape = shape.property("avatar", or_null(text())).property("about", or_null(name_text()));
    shape.property("email", or_null(text())).property("telephone", or_null(text())).property("fields", fields)
}

fn shown_profile() -> ObjectBuilder {
    let shape = needed(needed(object(), "user", user()), "name", or_null(name_text()));
    profile(shape).property("email_hash", text()).property("telephone_hash", text())
}

fn capability() -> ObjectBuilder {
    one_of(Capability::ALL.map(Capability::as_str))
}

fn presence() -> ObjectBuilder {
    one_of(["online", "away", "offline"])
}

fn standing() -> ObjectBuilder {
    one_of(["member", "invited"])
}

/// The same, or null.
fn or_null(shape: ObjectBuilder) -> ObjectBuilder {
    let built = shape.build();
    let types = match &built.schema_type {
        SchemaType::Type(one) => vec![one.clone(), Type::Null],
        SchemaType::Array(types) => types.clone(),
        SchemaType::AnyValue => vec![Type::Null],
    };
    let with_null = built.enum_values.clone().map(|values| values.into_iter().chain([Value::Null]));
    ObjectBuilder::from(built).schema_type(SchemaType::Array(types)).enum_values(with_null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_that_a_route_names_is_described() {
        let known: BTreeSet<_> = schemas().into_iter().map(|(name, _)| name).collect();
        for route in routes::all() {
            let answers = route.success.iter().filter_map(|(_, shape)| match shape {
                Shape::Json(name) => Some(*name),
                Shape::Events(page) => Some(page),
                Shape::Text | Shape::Bytes | Shape::Empty | Shape::Socket => None,
            });
            for name in answers.chain(route.body.map(|body| body.shape)) {
                assert!(known.contains(name), "{name}");
            }
        }
    }
}
