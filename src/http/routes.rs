//! Every address there is, in tables by subject: they are mounted, and the description that clients can read is made of
//! them.
//!
//! A route is one method of one address. What is not in a table is not served. The route of a command stands with its
//! subject and needs nothing else; what serves any other has a name among [`Serves`], which `mounting.rs` takes to its
//! handler.

mod accounts;
mod codes;
mod files;
mod inbox;
mod members;
mod messages;
mod moderation;
mod mounting;
mod rooms;
mod server;
mod streams;
mod users;

use actix_web::http::Method;

pub use self::codes::{EVERYWHERE, WITH_TOKEN};
pub use self::mounting::{mount, wrong_method};

use super::accounts::Act;
use super::join::Part;
use super::uploads::Tus;
use crate::wire::Kind;

/// Every route there is. Those of one address stand side by side.
pub fn all() -> impl Iterator<Item = &'static Route> {
    TABLES.into_iter().flatten()
}

/// By subject, in the order in which addresses are tried.
const TABLES: [&[Route]; 10] = [
    rooms::ROUTES,
    streams::ROUTES,
    files::ROUTES,
    members::ROUTES,
    moderation::ROUTES,
    messages::ROUTES,
    users::ROUTES,
    inbox::ROUTES,
    accounts::ROUTES,
    server::ROUTES,
];

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

const NO_QUERY: &[Query] = &[];

const PAGE: Query = Query { name: "limit", about: "how many at most, 1 to 100", most: Some(100) };
