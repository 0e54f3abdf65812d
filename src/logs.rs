//! What the process writes to standard error, for people or for programs.
//!
//! Lines about single connections and requests ([`TRAFFIC`]) are many, so they are written one in so many, or not at
//! all; how many were left out is counted. Tokens, contents and the query of an address are in no line.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::{self, PanicHookInfo};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::actors::TRAFFIC;
use crate::config::Log;

/// The log of this process, to change what is written while it runs.
#[derive(Clone)]
pub struct Logs(Arc<Shared>);

struct Shared {
    /// An index of [`LEVELS`].
    level: AtomicUsize,
    sample: AtomicU64,
    seen: AtomicU64,
    left_out: AtomicU64,
}

const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

/// Sends the log of this process, and its panics, to standard error. Called once.
pub fn start(config: &Log) -> Logs {
    let logs = Logs::new(config);
    let subscriber = tracing_subscriber::registry().with(logs.clone());
    if config.json {
        subscriber.with(json(std::io::stderr)).init();
    } else {
        let ansi = std::io::stderr().is_terminal();
        let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(ansi).with_target(false);
        subscriber.with(layer).init();
    }
    panic::set_hook(Box::new(log_panic));
    logs
}

/// An object a line: `timestamp`, `level`, `target`, `message`, and the fields of the event beside them.
fn json<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false).with_writer(writer)
}

impl Logs {
    fn new(config: &Log) -> Self {
        let logs = Self(Arc::new(Shared {
            level: AtomicUsize::new(0),
            sample: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }));
        logs.set(config);
        logs
    }

    /// From now on this is written. The format stays as it was at the start.
    pub fn set(&self, config: &Log) {
        let level = LEVELS.iter().position(|level| *level == config.level).unwrap_or(LEVELS.len() - 1);
        self.0.level.store(level, Ordering::Relaxed);
        self.0.sample.store(config.sample, Ordering::Relaxed);
        // What each place in the code was told the last time holds no longer.
        tracing::callsite::rebuild_interest_cache();
    }

    /// How many lines of traffic were not written since this was last asked.
    pub fn take_left_out(&self) -> u64 {
        self.0.left_out.swap(0, Ordering::Relaxed)
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        if target == TRAFFIC {
            return self.0.sample.load(Ordering::Relaxed) > 0;
        }
        // Of the libraries below us only what went wrong is of interest to an operator.
        let ours = target == "chinwag" || target.starts_with("chinwag::");
        let level = if ours { LEVELS[self.0.level.load(Ordering::Relaxed)] } else { Level::WARN };
        *metadata.level() <= level
    }
}

/// Decides for the whole log. A filter of one layer would leave that layer's state behind when it holds back an event.
impl<S: Subscriber> Layer<S> for Logs {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let sample = self.0.sample.load(Ordering::Relaxed);
        if event.metadata().target() != TRAFFIC || sample <= 1 {
            return true;
        }
        let kept = self.0.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(sample);
        if !kept {
            self.0.left_out.fetch_add(1, Ordering::Relaxed);
        }
        kept
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // Traffic and the warnings of libraries are written whatever the level is.
        let level = LEVELS[self.0.level.load(Ordering::Relaxed)];
        let traffic = self.0.sample.load(Ordering::Relaxed) > 0;
        Some(LevelFilter::from_level(level.max(if traffic { Level::INFO } else { Level::WARN })))
    }
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string);
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    let why = said(info.payload());
    tracing::error!(target: "chinwag::panic", place, thread, backtrace, why, "a panic");
}

/// The words of a panic where they are those of the sources: what was put together at the time may hold what a client
/// has sent.
fn said(payload: &(dyn Any + Send)) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or("not shown, because it may hold what somebody has sent")
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Mutex;

    use serde_json::Value;

    use super::*;

    fn written(logs: &Logs, say: impl FnOnce()) -> Vec<Value> {
        let out = Out::default();
        let subscriber = tracing_subscriber::registry().with(logs.clone()).with(json(out.clone()));
        tracing::subscriber::with_default(subscriber, say);
        let bytes = out.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn config(level: Level, sample: u64) -> Log {
        Log { level, json: true, sample }
    }

    #[test]
    fn a_json_line_has_its_fields_beside_the_message() {
        let logs = Logs::new(&config(Level::INFO, 0));
        let lines = written(&logs, || tracing::info!(target: "chinwag::test", room = 7, "something happened"));
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!((&line["level"], &line["message"]), (&"INFO".into(), &"something happened".into()));
        assert_eq!((&line["target"], &line["room"]), (&"chinwag::test".into(), &7.into()));
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn the_level_holds_for_us_libraries_only_warn_and_both_can_be_changed() {
        let logs = Logs::new(&config(Level::WARN, 0));
        let lines = written(&logs, || {
            tracing::info!(target: "chinwag::test", "one");
            tracing::info!(target: "library", "two");
            tracing::warn!(target: "library", "three");
            logs.set(&config(Level::DEBUG, 0));
            tracing::debug!(target: "chinwag::test", "four");
            tracing::debug!(target: "library", "five");
        });
        let said: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!(said, ["three", "four"]);
    }

    #[test]
    fn of_traffic_one_line_in_so_many_is_written_and_the_others_are_counted() {
        let say = || (0..10).for_each(|_| tracing::info!(target: TRAFFIC, "served"));
        for (sample, kept, left_out) in [(0, 0, 0), (1, 10, 0), (4, 3, 7)] {
            let logs = Logs::new(&config(Level::WARN, sample));
            assert_eq!(written(&logs, say).len(), kept, "{sample}");
            assert_eq!(logs.take_left_out(), left_out, "{sample}");
            assert_eq!(logs.take_left_out(), 0);
        }
    }

    #[test]
    fn the_words_of_a_panic_are_shown_only_when_they_are_ours() {
        assert_eq!(said(&"a frame of strings always serializes"), "a frame of strings always serializes");
        assert!(said(&"byte 3 of \"secret\"".to_owned()).starts_with("not shown"));
    }

    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<Vec<u8>>>);

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Out {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }
}
