//! What connections that come and go in the middle of something leave behind: nothing.

use std::time::Duration;

use crate::harness::{PATIENCE, TestServer, handshake};

#[tokio::test]
async fn a_connection_that_breaks_as_soon_as_it_is_open_is_forgotten() {
    let server = TestServer::start();
    for _ in 0..300 {
        let stream = server.raw(&handshake("")).await;
        stream.set_zero_linger().unwrap();
        drop(stream);
    }
    until_connections(&server, 0).await;
}

async fn until_connections(server: &TestServer, count: usize) {
    let wait = async {
        while server.connections().await != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let what = tokio::time::timeout(PATIENCE, wait).await;
    assert!(what.is_ok(), "{} connections, not {count}", server.connections().await);
}
