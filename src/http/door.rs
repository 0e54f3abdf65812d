//! Who a request comes from, and whether it may come in: what every edge asks before it keeps a connection.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap};
use arc_swap::ArcSwap;
use ipnet::IpNet;

use super::listener::Connection;
use super::problem::Problem;
use crate::actors::{Address, ConnectionGuard, Gate, Registry, Seat, connections};
use crate::domain::Principal;
use crate::wire::Refusal;

/// Stands between the listener and the handlers of all threads.
#[derive(Clone)]
pub struct Door {
    registry: Arc<Registry>,
    gate: Arc<dyn Gate>,
    /// Whose word is taken for where a request comes from.
    proxies: Arc<ArcSwap<Vec<IpNet>>>,
}

impl Door {
    pub fn new(registry: Arc<Registry>, gate: Arc<dyn Gate>, proxies: &[IpNet]) -> Self {
        Self { registry, gate, proxies: Arc::new(ArcSwap::from_pointee(proxies.to_vec())) }
    }

    /// From now on these are believed, on all threads.
    pub fn trust(&self, proxies: &[IpNet]) {
        self.proxies.store(Arc::new(proxies.to_vec()));
    }

    /// Gives an accepted connection its place for as long as it is there, or none. One that comes from an address from
    /// which too many come, or of which too many are there, or have not sent a request yet, ends before a byte of it is
    /// read: an answer would cost as much as the flood wants to make it cost. A client sees a reset, and tries again
    /// later as after any other. Connections of proxies are those of many; their requests are counted.
    pub fn accept(&self, peer: Option<SocketAddr>) -> Option<Rc<Seat>> {
        // Without one it has ended already.
        let peer = peer?.ip().to_canonical();
        let (limits, address) = (self.registry.limits(), (!self.trusts(peer)).then(|| Address::from(peer)));
        let connected = address.map_or(Ok(()), |address| self.registry.meters().connect(&limits.rates, address));
        let seated = connected.and_then(|()| self.registry.connections().accept(&limits, address));
        if seated.is_err() {
            // Nobody reads what was refused, so it is not counted among the refusals.
            self.registry.metrics().connections_cut.inc();
        }
        seated.ok()
    }

    /// How long a connection has until its first request.
    pub fn time_to_ask(&self) -> Duration {
        self.registry.limits().request
    }

    /// Where a request comes from.
    pub fn address(&self, request: &HttpRequest) -> Address {
        self.origin(request).0.into()
    }

    /// Counts a request that becomes a connection which lasts, for `principal` where it has said who it is.
    pub fn admit(&self, request: &HttpRequest, principal: Option<&Principal>) -> Result<ConnectionGuard, Problem> {
        let (origin, forwarded) = self.origin(request);
        let address = Address::from(origin);
        if forwarded {
            let connected = self.registry.meters().connect(&self.registry.limits().rates, address);
            connected.map_err(|refusal| self.refused(refusal))?;
        }
        let connection = request.conn_data::<Connection>().ok_or_else(|| Problem::of(Refusal::unavailable()))?;
        let admitted = self.registry.connections().admit(&self.registry.limits(), &connection.seat, address, principal);
        admitted.map_err(|refusal| self.refused(refusal))
    }

    /// A request has shown who it comes from.
    pub fn known(request: &HttpRequest) {
        if let Some(connection) = request.conn_data::<Connection>() {
            connection.seat.known();
        }
    }

    /// Says whose token it is.
    pub async fn authenticate(&self, token: &str, address: Address) -> Result<Principal, Problem> {
        let admitted = connections::authenticate(&self.registry, &*self.gate, token, address).await;
        admitted.map_err(|refusal| self.refused(refusal))
    }

    fn refused(&self, refusal: Refusal) -> Problem {
        self.registry.metrics().refused(&refusal);
        Problem::of(refusal)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.load().iter().any(|network| network.contains(&address))
    }

    /// The address of who asks, and whether a proxy said so.
    fn origin(&self, request: &HttpRequest) -> (IpAddr, bool) {
        let peer = request.peer_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip().to_canonical());
        if !self.trusts(peer) {
            return (peer, false);
        }
        let named = forwarded_for(request.headers());
        let mut origin = peer;
        // Each proxy adds the one before it; the last that is not a proxy's is as far as can be trusted.
        for address in named.into_iter().rev() {
            let Some(address) = address else { break };
            origin = address;
            if !self.trusts(address) {
                break;
            }
        }
        (origin, origin != peer)
    }
}

/// Whom the proxies name, first the one that is farthest; `None` for what is not an address. `X-Forwarded-For` where
/// there is one, else `Forwarded` (RFC 7239, section 5.2).
fn forwarded_for(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let elements = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).map(|value| value.to_str().unwrap_or_default());
        values.flat_map(|value| value.split(',').map(|element| element.trim().to_owned())).collect()
    };
    if headers.contains_key(header::X_FORWARDED_FOR) {
        return elements("x-forwarded-for").iter().map(|element| address_of(element)).collect();
    }
    let named = |element: &String| {
        let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
        pairs
            .into_iter()
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))
            .and_then(|(_, node)| address_of(node))
    };
    elements("forwarded").iter().map(named).collect()
}

/// An address with or without a port, brackets and quotes.
fn address_of(node: &str) -> Option<IpAddr> {
    let node = node.trim().trim_matches('"');
    if let Some(rest) = node.strip_prefix('[') {
        return rest.split(']').next()?.parse().ok();
    }
    let address = node.parse::<IpAddr>().or_else(|_| node.split(':').next().unwrap_or_default().parse());
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use actix_web::test::TestRequest;

    use super::*;
    use crate::actors::{Admission, Limits};
    use crate::clock::SystemClock;
    use crate::domain::Timestamp;
    use crate::store::memory::MemoryStore;

    #[actix_web::test]
    async fn only_proxies_are_believed_and_only_as_far_as_they_reach() {
        let door = door(&["10.0.0.0/8", "fd00::/8"]);
        let origin = |peer: &str, header: &str, value: &str| {
            let peer = SocketAddr::new(peer.parse().unwrap(), 1);
            let request = TestRequest::get().peer_addr(peer).insert_header((header, value)).to_http_request();
            let (origin, forwarded) = door.origin(&request);
            (origin.to_string(), forwarded)
        };
        let direct = |peer: &str| (peer.to_owned(), false);
        let by_proxy = |address: &str| (address.to_owned(), true);
        let forwarded_for = "x-forwarded-for";
        assert_eq!(origin("192.0.2.1", forwarded_for, "198.51.100.1"), direct("192.0.2.1"));
        assert_eq!(origin("10.1.1.1", forwarded_for, "198.51.100.1"), by_proxy("198.51.100.1"));
        assert_eq!(origin("::ffff:10.1.1.1", forwarded_for, "198.51.100.1"), by_proxy("198.51.100.1"));
        // What stands before the last stranger is the stranger's own word.
        assert_eq!(origin("10.1.1.1", forwarded_for, "1.1.1.1, 198.51.100.1, 10.2.2.2"), by_proxy("198.51.100.1"));
        assert_eq!(origin("10.1.1.1", forwarded_for, "1.1.1.1, nonsense, 10.2.2.2"), by_proxy("10.2.2.2"));
        assert_eq!(origin("10.1.1.1", forwarded_for, "10.3.3.3, 10.2.2.2"), by_proxy("10.3.3.3"));
        assert_eq!(origin("10.1.1.1", forwarded_for, ""), direct("10.1.1.1"));
        assert_eq!(origin("10.1.1.1", forwarded_for, "198.51.100.1:4711"), by_proxy("198.51.100.1"));
        let forwarded = r#"for=1.1.1.1, For="[2001:db8::1]:4711";proto=https, for=10.2.2.2;by=10.1.1.1"#;
        assert_eq!(origin("fd00::1", "forwarded", forwarded), by_proxy("2001:db8::1"));
        assert_eq!(origin("fd00::1", "forwarded", "for=unknown"), direct("fd00::1"));
        assert_eq!(origin("192.0.2.1", "forwarded", forwarded), direct("192.0.2.1"));
    }

    fn door(proxies: &[&str]) -> Door {
        struct NoGate;
        impl Gate for NoGate {
            fn admit<'a>(&'a self, _: &'a str, _: Timestamp) -> Admission<'a> {
                Box::pin(std::future::ready(Err(Refusal::token_invalid())))
            }
        }
        let store = Arc::new(MemoryStore::new());
        let registry = Registry::new(store, Arc::new(SystemClock), Limits::default());
        let proxies: Vec<IpNet> = proxies.iter().map(|network| network.parse().unwrap()).collect();
        Door::new(registry, Arc::new(NoGate), &proxies)
    }
}
