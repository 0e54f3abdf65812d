//! What an operator can watch: counters, gauges and histograms, as Prometheus and OpenMetrics read them.
//!
//! One value per process, which the registry holds; whoever does something counts it here. What is counted per record,
//! per frame or per chunk is a plain atomic. No label ever names a room, a user, a tenant or an address: that would let
//! clients decide how many series there are, and show the operator's monitoring who talks to whom.
//! `docs/metrics.md` lists every name, and a test compares.

use std::fs;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::store::{Figures, Health};
use crate::wire::{Refusal, Transport};

/// The labels of a family: names and values that are known when the program is compiled.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// A gauge of seconds, which have fractions.
type Seconds = Gauge<f64, AtomicU64>;

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    open: [Gauge; Transport::COUNT],
    opened: [Counter; Transport::COUNT],
    closed: Family<Labels<1>, Counter>,
    unauthenticated: Gauge,
    authentications: Family<Labels<1>, Counter>,
    commands: Family<Labels<2>, Counter>,
    uploads: Family<Labels<1>, Counter>,
    /// Files that nothing referred to any more.
    pub files_collected: Counter,
    files_bytes: Gauge,
    uploads_coming: Gauge,
    refusals: Family<Labels<2>, Counter>,
    commit_seconds: Histogram,
    commit_records: Histogram,
    store_commits: Counter,
    store_syncs: Counter,
    store_waiting: Gauge,
    store_writable: Gauge,
    store_free: Gauge,
    /// Batches that rooms have handed to relays.
    pub publications: Counter,
    /// Records that have been put into somebody's outbox.
    pub deliveries: Counter,
    pub sent_bytes: Counter,
    pub page_reads: Counter,
    /// Outboxes whose records were taken back because they were full.
    pub outbox_overflows: Counter,
    pub room_deaths: Counter,
    /// Rows of which an audit room has not been told, because they could not be read.
    pub decisions_lost: Counter,
    pub removals_cut: Counter,
    /// New connections that were cut because too many came from one address, or were opening from there.
    pub connections_cut: Counter,
    removals_pending: Gauge,
    followers: Gauge,
    followers_lagging: Gauge,
    outbox_bytes: Gauge,
    rooms_awake: Gauge,
    inboxes: Gauge,
    descriptors: Gauge,
    resident: Gauge,
}

/// What is looked up when somebody asks, because it is known without being counted.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sample {
    pub rooms_awake: usize,
    pub inboxes: usize,
    pub unauthenticated: usize,
    /// The bytes of all files, and how many uploads come in.
    pub files: (u64, usize),
    pub census: Census,
}

/// What the connections of a thread hold at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Census {
    pub followers: usize,
    /// Those that have to read the log before they are live.
    pub lagging: usize,
    pub outbox_bytes: usize,
    /// Connections that have not yet proved that a removal has reached them, once for each removal.
    pub proofs: usize,
}

impl Census {
    pub fn add(&mut self, other: Self) {
        self.followers += other.followers;
        self.lagging += other.lagging;
        self.outbox_bytes += other.outbox_bytes;
        self.proofs += other.proofs;
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("chinwag_build", "Which version runs", build);
        let start = Seconds::default();
        start.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        registry.register_with_unit("process_start_time", "When it was started, since 1970", Unit::Seconds, start);
        let of = &mut registry;
        let open = family::<Gauge, 1>(of, "chinwag_connections_open", "Connections that are open");
        let opened = family::<Counter, 1>(of, "chinwag_connections_opened", "Connections that have been opened");
        let transport = |transport: Transport| [("transport", transport.as_str())];
        Self {
            open: Transport::ALL.map(|it| open.get_or_create_owned(&transport(it))),
            opened: Transport::ALL.map(|it| opened.get_or_create_owned(&transport(it))),
            closed: family(of, "chinwag_connections_closed", "Connections that have ended, and why"),
            unauthenticated: gauge(of, "chinwag_connections_unauthenticated", "Open connections without a token"),
            authentications: family(of, "chinwag_authentications", "Tokens that were looked at, and what came of it"),
            commands: family(of, "chinwag_commands", "Commands that were carried out or refused by their room"),
            uploads: family(of, "chinwag_uploads", "Uploads that became files or were refused, and why"),
            files_collected: counter(of, "chinwag_files_collected", "Files that nothing referred to any more"),
            files_bytes: gauge(of, "chinwag_files_bytes", "What all files take, each counted for every upload of it"),
            uploads_coming: gauge(of, "chinwag_uploads_coming", "Uploads that come in"),
            refusals: family(of, "chinwag_refusals", "What clients were refused, and for which limit"),
            // From a tenth of a millisecond, which no disk can do, to the 1.6 seconds at which something is wrong.
            commit_seconds: histogram(
                of,
                "chinwag_commit",
                "From a room's commit being called to its being on disk",
                Some(Unit::Seconds),
                exponential_buckets(0.0001, 2.0, 15).collect(),
            ),
            commit_records: histogram(
                of,
                "chinwag_commit_records",
                "Records in one commit of a room",
                None,
                exponential_buckets(1.0, 2.0, 9).collect(),
            ),
            store_commits: counter(of, "chinwag_store_commits", "Commits of all streams that are on disk"),
            store_syncs: counter(of, "chinwag_store_syncs", "Syncs of the log, each for many commits"),
            store_waiting: gauge(of, "chinwag_store_waiting", "Requests that wait for the writing thread"),
            store_writable: gauge(of, "chinwag_store_writable", "1 while commits are taken"),
            store_free: gauge(of, "chinwag_store_free_bytes", "Free space where the log lies"),
            publications: counter(of, "chinwag_publications", "Batches of records that were handed to relays"),
            deliveries: counter(of, "chinwag_deliveries", "Records that were put into somebody's outbox"),
            sent_bytes: counter(of, "chinwag_sent_bytes", "Bytes that were handed to sockets"),
            page_reads: counter(of, "chinwag_page_reads", "Pages that were read for followers that are behind"),
            outbox_overflows: counter(of, "chinwag_outbox_overflows", "Outboxes that were full of records"),
            room_deaths: counter(of, "chinwag_room_deaths", "Rooms that died and were started again"),
            decisions_lost: counter(
                of,
                "chinwag_decisions_lost",
                "Decisions that could not be read to be written down",
            ),
            removals_cut: counter(of, "chinwag_removals_cut", "Connections cut for not proving a removal"),
            connections_cut: counter(
                of,
                "chinwag_connections_cut",
                "New connections cut for being too many of one address",
            ),
            removals_pending: gauge(of, "chinwag_removals_pending", "Proofs of removals that are awaited"),
            followers: gauge(of, "chinwag_followers", "Rooms followed, by all connections together"),
            followers_lagging: gauge(of, "chinwag_followers_lagging", "Of these, those that are behind"),
            outbox_bytes: gauge(of, "chinwag_outbox_bytes", "What waits to be written to connections"),
            rooms_awake: gauge(of, "chinwag_rooms_awake", "Rooms that are awake"),
            inboxes: gauge(of, "chinwag_inboxes", "Users with a connection"),
            descriptors: gauge(of, "process_open_fds", "File descriptors that are open"),
            resident: gauge(of, "process_resident_memory_bytes", "Memory that is in use"),
            registry,
        }
    }
}

impl Metrics {
    pub fn connection_opened(&self, transport: Transport) {
        self.open[transport.index()].inc();
        self.opened[transport.index()].inc();
    }

    /// `reason` is the name of a close code, or how else it ended.
    pub fn connection_closed(&self, transport: Transport, reason: &'static str) {
        self.open[transport.index()].dec();
        self.closed.get_or_create(&[("reason", reason)]).inc();
    }

    pub fn authenticated<T>(&self, outcome: &Result<T, Refusal>) {
        self.authentications.get_or_create(&[("outcome", code_of(outcome))]).inc();
    }

    /// A command of this kind has been answered.
    pub fn command<T>(&self, kind: &'static str, outcome: &Result<T, Refusal>) {
        self.commands.get_or_create(&[("kind", kind), ("outcome", code_of(outcome))]).inc();
    }

    /// An upload has become a file, or was refused.
    pub fn uploaded<T>(&self, outcome: &Result<T, Refusal>) {
        self.uploads.get_or_create(&[("outcome", code_of(outcome))]).inc();
    }

    /// A client has been told of a refusal.
    pub fn refused(&self, refusal: &Refusal) {
        let limit = refusal.limit().unwrap_or("none");
        self.refusals.get_or_create(&[("code", refusal.code()), ("limit", limit)]).inc();
    }

    /// A room's commit is on disk.
    #[expect(clippy::cast_precision_loss, reason = "a commit has few records")]
    pub fn committed(&self, records: usize, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
        self.commit_records.observe(records as f64);
    }

    /// Everything as text, in the form of OpenMetrics 1.0.
    pub fn text(&self, sample: &Sample, store: &Figures, health: &Health) -> String {
        let Census { followers, lagging, outbox_bytes, proofs } = sample.census;
        set(&self.unauthenticated, sample.unauthenticated);
        set(&self.rooms_awake, sample.rooms_awake);
        set(&self.inboxes, sample.inboxes);
        let (bytes, coming) = sample.files;
        self.files_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        set(&self.uploads_coming, coming);
        set(&self.followers, followers);
        set(&self.followers_lagging, lagging);
        set(&self.outbox_bytes, outbox_bytes);
        set(&self.removals_pending, proofs);
        set(&self.store_waiting, store.waiting);
        set(&self.store_writable, usize::from(*health == Health::Good));
        self.store_free.set(store.free_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)));
        // The store counts these itself, and they never go back.
        self.store_commits.inner().store(store.commits, std::sync::atomic::Ordering::Relaxed);
        self.store_syncs.inner().store(store.syncs, std::sync::atomic::Ordering::Relaxed);
        set(&self.descriptors, open_descriptors());
        set(&self.resident, resident_bytes());
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a text takes everything that is written to it");
        text
    }
}

fn code_of<T>(outcome: &Result<T, Refusal>) -> &'static str {
    outcome.as_ref().err().map_or("ok", Refusal::code)
}

fn set(gauge: &Gauge, value: usize) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

fn histogram(registry: &mut Registry, name: &str, help: &str, unit: Option<Unit>, buckets: Vec<f64>) -> Histogram {
    let histogram = Histogram::new(buckets);
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, histogram.clone()),
        None => registry.register(name, help, histogram.clone()),
    }
    histogram
}

fn family<M, const N: usize>(registry: &mut Registry, name: &str, help: &str) -> Family<Labels<N>, M>
where
    M: Default + Clone + std::fmt::Debug + Send + Sync + 'static,
    Family<Labels<N>, M>: prometheus_client::encoding::EncodeMetric,
{
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

/// How many descriptors the process has open (proc(5)); the one by which they are listed is not counted.
fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1))
}

/// What the process has in memory: `VmRSS` of `status`, in units of 1,024 bytes (proc(5)).
fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|rest| rest.split_whitespace().next()?.parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::actors::limits::names;

    #[test]
    fn the_page_of_metrics_lists_every_name_and_no_other() {
        let text = text();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let known: BTreeSet<String> = types.map(str::to_owned).collect();
        let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap();
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
        let listed: BTreeSet<String> = rows
            .map(|row| {
                let mut cells = row.split('|').map(|cell| cell.trim().trim_end_matches('`'));
                format!("{} {}", cells.next().unwrap(), cells.next().unwrap())
            })
            .collect();
        assert_eq!(listed, known);
    }

    #[test]
    fn no_label_says_who_or_where_and_their_values_are_known_words() {
        let text = text();
        let allowed = ["transport", "reason", "outcome", "kind", "code", "limit", "version", "le"];
        let mut seen = BTreeSet::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((_, rest)) = line.split_once('{') else { continue };
            let labels = rest.split_once('}').unwrap().0;
            for (name, _) in labels.split(',').filter_map(|label| label.split_once('=')) {
                assert!(allowed.contains(&name), "{line}");
                seen.insert(name.to_owned());
            }
        }
        assert_eq!(seen.len(), allowed.len(), "every label is shown: {seen:?}");
    }

    #[test]
    fn what_is_counted_is_shown() {
        let text = text();
        for line in [
            "chinwag_connections_open{transport=\"websocket\"} 0",
            "chinwag_connections_opened_total{transport=\"websocket\"} 1",
            "chinwag_connections_closed_total{reason=\"slow_consumer\"} 1",
            "chinwag_commands_total{kind=\"post\",outcome=\"ok\"} 1",
            "chinwag_refusals_total{code=\"rate_limited\",limit=\"rates.messages_per_user\"} 1",
            "chinwag_commit_records_sum 3.0",
            "chinwag_store_free_bytes 77",
            "chinwag_uploads_total{outcome=\"ok\"} 1",
            "chinwag_files_bytes 88",
            "chinwag_uploads_coming 2",
            "chinwag_store_writable 1",
            "chinwag_followers_lagging 2",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let resident = text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes ")).unwrap();
        assert!(resident.parse::<u64>().unwrap() > 1024 * 1024);
        assert!(text.ends_with("# EOF\n"));
    }

    /// Everything has happened once.
    fn text() -> String {
        let metrics = Metrics::default();
        metrics.connection_opened(Transport::WebSocket);
        metrics.connection_closed(Transport::WebSocket, "slow_consumer");
        metrics.authenticated(&Ok(()));
        metrics.command("post", &Ok(()));
        metrics.uploaded(&Ok(()));
        metrics.refused(&Refusal::rate_limited(names::MESSAGES_PER_USER, Duration::ZERO));
        metrics.committed(3, Duration::from_millis(2));
        let census = Census { followers: 5, lagging: 2, outbox_bytes: 0, proofs: 0 };
        let store = Figures { free_bytes: Some(77), ..Figures::default() };
        metrics.text(&Sample { census, files: (88, 2), ..Sample::default() }, &store, &Health::Good)
    }
}
