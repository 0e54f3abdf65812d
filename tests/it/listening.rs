//! Clients over plain HTTP of a server of the harness.

use crate::harness::{TestServer, patiently};
use crate::support::listeners::{Event, Events, Http};

pub trait Listening {
    /// A connection over which `user` asks.
    async fn http(&self, user: &str) -> Http;

    /// An event stream of `room` for `user`, with the `hello` it began with.
    async fn events(&self, user: &str, room: &str, last: Option<&str>) -> (Events, Event);
}

impl Listening for TestServer {
    async fn http(&self, user: &str) -> Http {
        patiently(Http::connect(self.address, &self.token(user))).await.expect("the server listens")
    }

    async fn events(&self, user: &str, room: &str, last: Option<&str>) -> (Events, Event) {
        let path = format!("/v1/rooms/{room}/events");
        let mut events = Events::open(self.address, &self.token(user), &path, last).await.expect("it is opened");
        let hello = events.next().await.expect("a stream begins with a word");
        assert_eq!(hello.name, "hello");
        (events, hello)
    }
}
