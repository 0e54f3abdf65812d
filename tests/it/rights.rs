//! Who may do what: every command that is for a room, by everybody whom it may come from; and what is no message, or is
//! written to hurt, by who may do everything.

use chinwag::wire::Kind;
use serde_json::{Value, json};

use crate::harness::{Client, TestServer, join, kick, masked, post, raw_close};

/// Those who ask, in the order of the columns.
const WHO: [&str; 9] = ["owner", "admin", "member", "guest", "viewer", "invited", "kicked", "stranger", "other_tenant"];

/// How the tables have the codes that they are full of.
const SHORT: [(&str, &str); 9] = [
    ("forbidden", "role"),
    ("not_member", "out"),
    ("room_not_found", "none"),
    ("room_archived", "shut"),
    ("already_member", "in"),
    ("not_author", "author"),
    ("not_following", "idle"),
    ("message_not_found", "lost"),
    ("bad_request", "bad"),
];

/// `ok`, or the code of the refusal, of which the frequent ones are [`SHORT`].
const CHANNEL: &str = "
    command      owner      admin  member guest  viewer invited kicked stranger other_tenant
    update       ok         ok     role   role   role   out     out    out      none
    archive      ok         role   role   role   role   out     out    out      none
    join         in         in     in     in     in     ok      ok     ok       none
    leave        last_owner ok     ok     ok     ok     out     out    out      none
    invite       ok         ok     ok     role   role   out     out    out      none
    kick         ok         ok     role   role   role   out     out    out      none
    role         ok         ok     role   role   role   out     out    out      none
    rights       ok         ok     role   role   role   out     out    out      none
    ban          ok         ok     role   role   role   out     out    out      none
    unban        ok         ok     role   role   role   out     out    out      none
    bans         ok         ok     role   role   role   out     out    out      none
    mutes        ok         ok     role   role   role   out     out    out      none
    rules        ok         ok     role   role   role   out     out    out      none
    rules_update ok         ok     role   role   role   out     out    out      none
    mute         ok         ok     role   role   role   out     out    out      none
    unmute       ok         ok     role   role   role   out     out    out      none
    post         ok         ok     ok     ok     role   out     out    out      none
    edit         author     author ok     author role   out     out    out      none
    delete       ok         ok     ok     role   role   out     out    out      none
    react        ok         ok     ok     ok     role   out     out    out      none
    unreact      ok         ok     ok     ok     ok     out     out    out      none
    pin          ok         ok     role   role   role   out     out    out      none
    unpin        ok         ok     role   role   role   out     out    out      none
    follow       ok         ok     ok     ok     ok     out     out    out      none
    unfollow     idle       idle   idle   idle   idle   idle    idle   idle     idle
    history      ok         ok     ok     ok     ok     out     out    out      none
    thread       ok         ok     ok     ok     ok     out     out    out      none
    reactions    ok         ok     ok     ok     ok     out     out    out      none
    edits        ok         ok     ok     ok     ok     out     out    out      none
    pins         ok         ok     ok     ok     ok     out     out    out      none
    room         ok         ok     ok     ok     ok     ok      ok     ok       none
    members      ok         ok     ok     ok     ok     out     out    out      none
    readers      ok         ok     ok     ok     ok     out     out    out      none
    inbox_update ok         ok     ok     ok     ok     out     out    out      none
    typing       ok         ok     ok     ok     role   out     out    out      none
    presences    ok         ok     ok     ok     ok     out     out    out      none
    report         ok ok ok ok ok out out out none
    resolve_report kind_forbids kind_forbids kind_forbids kind_forbids kind_forbids out out out none
    hide         ok         ok     ok     ok     ok     out     out    out      none
    unhide       ok         ok     ok     ok     ok     out     out    out      none
    hidden       ok         ok     ok     ok     ok     out     out    out      none
";

const GROUP: &str = "
    command      owner      admin  member guest  viewer invited kicked stranger other_tenant
    update       ok         ok     role   role   role   out     none   none     none
    archive      ok         role   role   role   role   out     none   none     none
    join         in         in     in     in     in     ok      none   none     none
    leave        last_owner ok     ok     ok     ok     out     none   none     none
    invite       ok         ok     role   role   role   out     none   none     none
    kick         ok         ok     role   role   role   out     none   none     none
    role         ok         ok     role   role   role   out     none   none     none
    rights       ok         ok     role   role   role   out     none   none     none
    ban          ok         ok     role   role   role   out     none   none     none
    unban        ok         ok     role   role   role   out     none   none     none
    bans         ok         ok     role   role   role   out     none   none     none
    mutes        ok         ok     role   role   role   out     none   none     none
    rules        ok         ok     role   role   role   out     none   none     none
    rules_update ok         ok     role   role   role   out     none   none     none
    mute         ok         ok     role   role   role   out     none   none     none
    unmute       ok         ok     role   role   role   out     none   none     none
    post         ok         ok     ok     ok     role   out     none   none     none
    edit         author     author ok     author role   out     none   none     none
    delete       ok         ok     ok     role   role   out     none   none     none
    react        ok         ok     ok     ok     role   out     none   none     none
    unreact      ok         ok     ok     ok     ok     out     none   none     none
    pin          ok         ok     role   role   role   out     none   none     none
    unpin        ok         ok     role   role   role   out     none   none     none
    follow       ok         ok     ok     ok     ok     out     none   none     none
    unfollow     idle       idle   idle   idle   idle   idle    idle   idle     idle
    history      ok         ok     ok     ok     ok     out     none   none     none
    thread       ok         ok     ok     ok     ok     out     none   none     none
    reactions    ok         ok     ok     ok     ok     out     none   none     none
    edits        ok         ok     ok     ok     ok     out     none   none     none
    pins         ok         ok     ok     ok     ok     out     none   none     none
    room         ok         ok     ok     ok     ok     ok      none   none     none
    members      ok         ok     ok     ok     ok     out     none   none     none
    readers      ok         ok     ok     ok     ok     out     none   none     none
    inbox_update ok         ok     ok     ok     ok     out     none   none     none
    typing       ok         ok     ok     ok     role   out     none   none     none
    presences    ok         ok     ok     ok     ok     out     none   none     none
    report         ok ok ok ok ok out none none none
    resolve_report kind_forbids kind_forbids kind_forbids kind_forbids kind_forbids out none none none
    hide         ok         ok     ok     ok     ok     out     none   none     none
    unhide       ok         ok     ok     ok     ok     out     none   none     none
    hidden       ok         ok     ok     ok     ok     out     none   none     none
";

/// A channel that has been archived.
const ARCHIVED: &str = "
    command      owner      admin member guest viewer invited kicked stranger other_tenant
    update       shut       shut  shut   shut  shut   out     out    out      none
    archive      shut       shut  shut   shut  shut   out     out    out      none
    join         in         in    in     in    in     shut    shut   shut     none
    leave        last_owner ok    ok     ok    ok     out     out    out      none
    invite       shut       shut  shut   shut  shut   out     out    out      none
    kick         shut       shut  shut   shut  shut   out     out    out      none
    role         shut       shut  shut   shut  shut   out     out    out      none
    rights       shut       shut  shut   shut  shut   out     out    out      none
    ban          shut       shut  shut   shut  shut   out     out    out      none
    unban        shut       shut  shut   shut  shut   out     out    out      none
    bans         ok         ok    role   role  role   out     out    out      none
    mutes        ok         ok    role   role  role   out     out    out      none
    rules        ok         ok    role   role  role   out     out    out      none
    rules_update shut       shut  shut   shut  shut   out     out    out      none
    mute         shut       shut  shut   shut  shut   out     out    out      none
    unmute       shut       shut  shut   shut  shut   out     out    out      none
    post         shut       shut  shut   shut  shut   out     out    out      none
    edit         shut       shut  shut   shut  shut   out     out    out      none
    delete       shut       shut  shut   shut  shut   out     out    out      none
    react        shut       shut  shut   shut  shut   out     out    out      none
    unreact      shut       shut  shut   shut  shut   out     out    out      none
    pin          shut       shut  shut   shut  shut   out     out    out      none
    unpin        shut       shut  shut   shut  shut   out     out    out      none
    follow       ok         ok    ok     ok    ok     out     out    out      none
    unfollow     idle       idle  idle   idle  idle   idle    idle   idle     idle
    history      ok         ok    ok     ok    ok     out     out    out      none
    thread       ok         ok    ok     ok    ok     out     out    out      none
    reactions    ok         ok    ok     ok    ok     out     out    out      none
    edits        ok         ok    ok     ok    ok     out     out    out      none
    pins         ok         ok    ok     ok    ok     out     out    out      none
    room         ok         ok    ok     ok    ok     ok      ok     ok       none
    members      ok         ok    ok     ok    ok     out     out    out      none
    readers      ok         ok    ok     ok    ok     out     out    out      none
    inbox_update ok         ok    ok     ok    ok     out     out    out      none
    typing       shut       shut  shut   shut  shut   out     out    out      none
    presences    ok         ok    ok     ok    ok     out     out    out      none
    report         ok ok ok ok ok out out out none
    resolve_report kind_forbids kind_forbids kind_forbids kind_forbids kind_forbids out out out none
    hide         ok         ok    ok     ok    ok     out     out    out      none
    unhide       ok         ok    ok     ok    ok     out     out    out      none
    hidden       ok         ok    ok     ok    ok     out     out    out      none
";

#[tokio::test]
async fn everybody_may_do_in_a_channel_what_its_kind_allows() {
    check("channel", false, CHANNEL).await;
}

#[tokio::test]
async fn everybody_may_do_in_a_group_what_its_kind_allows() {
    check("group", false, GROUP).await;
}

#[tokio::test]
async fn an_archived_room_can_be_read_and_left_and_not_changed() {
    check("channel", true, ARCHIVED).await;
}

/// What is answered to a message that is none, to one of another room, and to each command the first and the second time.
const TWICE: &str = "
    command      unknown elsewhere once       again
    update       -       -         ok         ok
    archive      -       -         ok         shut
    join         -       -         in         in
    leave        -       -         last_owner last_owner
    invite       -       -         ok         ok
    kick         -       -         ok         no_such_member
    role         -       -         ok         ok
    rights       -       -         ok         ok
    ban          -       -         ok         ok
    unban        -       -         ok         ok
    bans         -       -         ok         ok
    mutes        -       -         ok         ok
    rules        -       -         ok         ok
    rules_update -       -         ok         ok
    mute         -       -         ok         ok
    unmute       -       -         ok         ok
    post         -       -         ok         ok
    edit         lost    lost      ok         ok
    delete       lost    lost      ok         message_deleted
    react        lost    lost      ok         ok
    unreact      lost    lost      ok         ok
    pin          lost    lost      ok         ok
    unpin        lost    lost      ok         ok
    follow       -       -         ok         ok
    unfollow     -       -         idle       idle
    history      -       -         ok         ok
    thread       lost    lost      ok         ok
    reactions    lost    lost      ok         ok
    edits        lost    lost      ok         ok
    pins         -       -         ok         ok
    room         -       -         ok         ok
    members      -       -         ok         ok
    readers      lost    lost      ok         ok
    inbox_update -       -         ok         ok
    typing       -       -         ok         ok
    presences    -       -         ok         ok
    report       lost    lost      ok         ok
    resolve_report -     -         kind_forbids kind_forbids
    hide         lost    lost      ok         ok
    unhide       lost    lost      ok         ok
    hidden       -       -         ok         ok
";

#[tokio::test]
async fn a_command_about_what_is_not_there_is_refused_and_one_that_comes_twice_is_answered_twice() {
    let server = TestServer::start();
    let mut people = People::come(&server).await;
    let mut found = row("command", &["unknown", "elsewhere", "once", "again"].map(str::to_owned));
    for kind in Kind::ALL {
        let stage = people.furnish("channel", false).await;
        let elsewhere = people.furnish("channel", false).await.message;
        let Some(command) = command(kind, &stage) else { continue };
        let mut cells = Vec::new();
        for message in [unknown(), elsewhere] {
            let mut command = command.clone();
            if command.get("message").is_none() {
                cells.push("-".to_owned());
                continue;
            }
            command["message"] = message;
            cells.push(told(&people.clients[who_may(kind)].try_ask(command).await));
        }
        for _ in 0..2 {
            cells.push(told(&people.clients[who_may(kind)].try_ask(command.clone()).await));
        }
        people.everybody_goes_on().await;
        found.push_str(&row(kind.as_str(), &cells));
    }
    compare(&found, TWICE);
}

/// What each member that takes text is told to text that is written to hurt: what turns the direction of the writing
/// round, what cannot be seen, and a control character. Each of these names no room, user or message.
const HOSTILE: &str = "
    member             turned unseen control
    update.room        bad    bad    bad
    update.name        bad    ok     bad
    archive.room       bad    bad    bad
    join.room          bad    bad    bad
    leave.room         bad    bad    bad
    invite.room        bad    bad    bad
    invite.user        bad    bad    bad
    kick.room          bad    bad    bad
    kick.user          bad    bad    bad
    kick.reason        bad    ok     bad
    role.room          bad    bad    bad
    role.user          bad    bad    bad
    role.role          bad    bad    bad
    rights.room        bad    bad    bad
    rights.user        bad    bad    bad
    ban.room           bad    bad    bad
    ban.user           bad    bad    bad
    ban.reason         bad    ok     bad
    unban.room         bad    bad    bad
    unban.user         bad    bad    bad
    bans.room          bad    bad    bad
    mutes.room         bad    bad    bad
    rules.room         bad    bad    bad
    rules_update.room  bad    bad    bad
    mute.room          bad    bad    bad
    mute.user          bad    bad    bad
    unmute.room        bad    bad    bad
    unmute.user        bad    bad    bad
    post.room          bad    bad    bad
    post.content       ok     ok     ok
    post.client_id     bad    bad    bad
    edit.room          bad    bad    bad
    edit.message       bad    bad    bad
    edit.content       ok     ok     ok
    edit.client_id     bad    bad    bad
    delete.room        bad    bad    bad
    delete.message     bad    bad    bad
    delete.client_id   bad    bad    bad
    react.room         bad    bad    bad
    react.message      bad    bad    bad
    react.emoji        bad    bad    bad
    unreact.room       bad    bad    bad
    unreact.message    bad    bad    bad
    unreact.emoji      bad    bad    bad
    pin.room           bad    bad    bad
    pin.message        bad    bad    bad
    unpin.room         bad    bad    bad
    unpin.message      bad    bad    bad
    follow.room        bad    bad    bad
    unfollow.room      bad    bad    bad
    history.room       bad    bad    bad
    thread.room        bad    bad    bad
    thread.message     bad    bad    bad
    reactions.room     bad    bad    bad
    reactions.message  bad    bad    bad
    reactions.emoji    bad    bad    bad
    edits.room         bad    bad    bad
    edits.message      bad    bad    bad
    pins.room          bad    bad    bad
    room.room          bad    bad    bad
    members.room       bad    bad    bad
    readers.room       bad    bad    bad
    readers.message    bad    bad    bad
    inbox_update.room  bad    bad    bad
    inbox_update.draft ok     ok     ok
    typing.room        bad    bad    bad
    presences.room     bad    bad    bad
    report.room        bad    bad    bad
    report.message     bad    bad    bad
    report.reason      bad    ok     bad
    resolve_report.room bad bad bad
    hide.room          bad    bad    bad
    hide.message       bad    bad    bad
    unhide.room        bad    bad    bad
    unhide.message     bad    bad    bad
    hidden.room        bad    bad    bad
";

#[tokio::test]
async fn text_that_is_written_to_hurt_is_refused_or_kept_as_it_is_and_everybody_goes_on() {
    let server = TestServer::start();
    let mut people = People::come(&server).await;
    let mut found = row("member", &["turned", "unseen", "control"].map(str::to_owned));
    for kind in Kind::ALL {
        let stage = people.furnish("channel", false).await;
        for member in TEXTS {
            let Some(whole) = command(kind, &stage).filter(|whole| takes(kind, whole, member)) else { continue };
            let mut cells = Vec::new();
            for hostile in ["ab\u{202e}cd", "a\u{200b}\u{2060}b", "a\u{0}b"] {
                let mut command = whole.clone();
                match member {
                    "content" => command["content"]["text"] = json!(hostile),
                    member => command[member] = json!(hostile),
                }
                cells.push(told(&people.clients[who_may(kind)].try_ask(command).await));
            }
            found.push_str(&row(&format!("{}.{member}", kind.as_str()), &cells));
        }
        people.everybody_goes_on().await;
    }
    compare(&found, HOSTILE);
}

/// Who can do what a command of this kind asks, if anybody can: the owner, or who has posted the message.
fn who_may(kind: Kind) -> usize {
    if kind == Kind::Edit { 2 } else { 0 }
}

/// The members of commands that are text.
const TEXTS: [&str; 10] =
    ["room", "user", "role", "message", "emoji", "name", "content", "reason", "client_id", "draft"];

/// Whether a command has a member, also one that [`command`] leaves out.
fn takes(kind: Kind, whole: &Value, member: &str) -> bool {
    let left_out = [
        (Kind::Kick, "reason"),
        (Kind::Ban, "reason"),
        (Kind::Report, "reason"),
        (Kind::Post, "client_id"),
        (Kind::Edit, "client_id"),
        (Kind::Delete, "client_id"),
        (Kind::InboxUpdate, "draft"),
    ];
    whole.get(member).is_some() || left_out.contains(&(kind, member))
}

#[tokio::test]
async fn a_name_of_a_megabyte_and_bytes_that_are_no_text_end_their_connection_and_no_other() {
    let server = TestServer::start();
    let mut people = People::come(&server).await;
    let stage = people.furnish("channel", false).await;
    for kind in Kind::ALL {
        let Some(mut command) = command(kind, &stage) else { continue };
        command["id"] = json!("1");
        let mut broken = command.to_string().into_bytes();
        let place = broken.windows(8).position(|bytes| bytes == b"\"room\":\"").expect("it is for a room") + 8;
        broken.splice(place..place + 1, [0xff, 0xfe]);
        command["name"] = json!("x".repeat(1 << 20));
        for (bytes, code) in [(broken, 1007), (command.to_string().into_bytes(), 1009)] {
            let mut socket = server.raw_socket(Some(&server.token("owner"))).await;
            let _ = tokio::io::AsyncWriteExt::write_all(&mut socket, &masked(0x81, &bytes)).await;
            assert_eq!(raw_close(&mut socket).await, Some(code), "{}", kind.as_str());
        }
    }
    people.everybody_goes_on().await;
}

async fn check(room: &str, archived: bool, expected: &str) {
    let server = TestServer::start();
    let mut people = People::come(&server).await;
    let mut found = row("command", &WHO.map(str::to_owned));
    for kind in Kind::ALL {
        let mut stage = people.furnish(room, archived).await;
        let mut cells = Vec::new();
        for who in 0..WHO.len() {
            let Some(command) = command(kind, &stage) else { break };
            let answer = people.clients[who].try_ask(command).await;
            cells.push(told(&answer));
            // What was refused has changed nothing.
            if answer["ok"] == true {
                stage = people.furnish(room, archived).await;
            }
        }
        if !cells.is_empty() {
            found.push_str(&row(kind.as_str(), &cells));
        }
    }
    compare(&found, expected);
}

fn row(name: &str, cells: &[String]) -> String {
    format!("{name:<24} {}\n", cells.join(" "))
}

/// A table may be laid out as is pleasant to read.
fn compare(found: &str, expected: &str) {
    let words = |table: &str| -> Vec<Vec<String>> {
        let lines = table.lines().filter(|line| !line.trim().is_empty());
        lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    assert!(words(found) == words(expected), "it is\n{found}");
}

/// The answer as the tables have it.
fn told(answer: &Value) -> String {
    if answer["ok"] == true {
        return "ok".to_owned();
    }
    let code = answer["error"]["code"].as_str().expect("every refusal has a code");
    let short = SHORT.iter().find(|(whole, _)| *whole == code);
    short.map_or(code, |(_, short)| short).to_owned()
}

/// A room, and what commands about it need.
struct Stage {
    room: Value,
    /// Posted by the member.
    message: Value,
}

/// A command of this kind that can be carried out by who may; `None` where it is for no room.
fn command(kind: Kind, stage: &Stage) -> Option<Value> {
    let more = match kind {
        Kind::Auth
        | Kind::Create
        | Kind::FollowAll
        | Kind::UnfollowAll
        | Kind::Rooms
        | Kind::Inbox
        | Kind::InboxChanges
        | Kind::Presence
        | Kind::Settings
        | Kind::SettingsUpdate
        | Kind::ProfileUpdate
        | Kind::Users
        | Kind::FindUsers
        | Kind::Block
        | Kind::Unblock
        | Kind::Blocks => return None,
        Kind::Archive
        | Kind::Join
        | Kind::Leave
        | Kind::Follow
        | Kind::Unfollow
        | Kind::History
        | Kind::Pins
        | Kind::Room
        | Kind::Members
        | Kind::Typing
        | Kind::Presences
        | Kind::Hidden
        | Kind::Bans
        | Kind::Mutes
        | Kind::Rules => json!({}),
        Kind::Update => json!({ "name": "new" }),
        Kind::RulesUpdate => json!({ "words": ["spam"] }),
        Kind::Invite => json!({ "user": "newcomer" }),
        Kind::Kick | Kind::Ban | Kind::Unban | Kind::Mute | Kind::Unmute => json!({ "user": "target" }),
        Kind::Role => json!({ "user": "target", "role": "viewer" }),
        Kind::Rights => json!({ "user": "target", "deny": ["post"] }),
        Kind::Post => json!({ "content": { "text": "a word" } }),
        Kind::Edit => json!({ "message": stage.message, "content": { "text": "another" } }),
        Kind::Delete
        | Kind::Pin
        | Kind::Unpin
        | Kind::Thread
        | Kind::Edits
        | Kind::Readers
        | Kind::Report
        | Kind::Hide
        | Kind::Unhide => {
            json!({ "message": stage.message })
        }
        Kind::React | Kind::Unreact | Kind::Reactions => json!({ "message": stage.message, "emoji": "👍" }),
        Kind::InboxUpdate => json!({ "pinned": true }),
        Kind::ResolveReport => json!({ "report": stage.message }),
    };
    let mut command = json!({ "type": kind.as_str(), "room": stage.room });
    command.as_object_mut().expect("it is one").extend(more.as_object().expect("it is one").clone());
    Some(command)
}

/// The id of a message that never was.
fn unknown() -> Value {
    json!("0190a000-0000-7000-8000-000000000003")
}

/// A connection of each of [`WHO`], and of one to whom things are done.
struct People {
    clients: Vec<Client>,
    target: Client,
    rooms: usize,
}

impl People {
    async fn come(server: &TestServer) -> Self {
        let mut clients = Vec::new();
        for who in WHO {
            let tenant = if who == "other_tenant" { "other" } else { "default" };
            let token = server.token_in(tenant, who, std::time::Duration::from_secs(3600));
            clients.push(server.client_with(&token, Some("chinwag.v1.json")).await);
        }
        Self { clients, target: server.client("target").await, rooms: 0 }
    }

    /// A new room with everybody in it as what they are called.
    async fn furnish(&mut self, kind: &str, archived: bool) -> Stage {
        self.rooms += 1;
        let alias = (kind == "channel").then(|| format!("room-{}", self.rooms));
        let created = self.clients[0].ask(json!({ "type": "create", "kind": kind, "alias": alias })).await;
        let room = created["room"].clone();
        let id = room.as_str().expect("a room has an id");
        self.clients[0].ask(json!({ "type": "update", "room": room, "edit_history": true })).await;
        for (who, role) in [(1, "admin"), (2, "member"), (3, "guest"), (4, "viewer"), (5, "member"), (6, "member")] {
            let invite = json!({ "type": "invite", "room": room, "user": WHO[who], "role": role });
            self.clients[0].ask(invite).await;
            if WHO[who] != "invited" {
                self.clients[who].ask(join(id)).await;
            }
        }
        self.clients[0].ask(json!({ "type": "invite", "room": room, "user": "target", "role": "guest" })).await;
        self.target.ask(join(id)).await;
        self.clients[0].ask(kick(&room, "kicked")).await;
        let message = self.clients[2].ask(post(id, "first")).await["record"].clone();
        if archived {
            self.clients[0].ask(json!({ "type": "archive", "room": room })).await;
        }
        for client in &mut self.clients {
            client.take_aside();
        }
        Stage { room, message }
    }

    /// Every connection is answered.
    async fn everybody_goes_on(&mut self) {
        for client in self.clients.iter_mut().chain([&mut self.target]) {
            client.hears_back().await;
        }
    }
}
