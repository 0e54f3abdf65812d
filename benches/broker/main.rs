//! The server under load, beside the limit of the machine. `benches/README.md` says what each figure means.
//!
//! One program in several roles, each a process of its own: the driver, which starts the others and makes the table; the
//! generator, which holds all clients on one thread; and the limit, a bare loop that does only what nobody can avoid.

mod client;
mod connect;
mod disk;
mod fan_out;
mod figures;
mod generator;
mod growth;
mod inbox;
#[path = "../kept/mod.rs"]
mod kept;
mod latency;
mod limit;
mod message;
mod metrics;
mod poll;
mod process;
mod publish;
mod resume;
mod rooms;
mod scene;
mod table;
mod websocket;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use kept::Kept;
use table::Table;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
#[command(
    name = "broker",
    about = "Measures the server under load, beside the limit of the machine",
    after_help = "\
Each repetition starts a server of its own in a temporary directory, then the limit. The figures are processor time of \
the server, because that holds on a busy machine. Where there are two cores, the server has the first and the load the \
second.

Examples:
  cargo bench --bench broker
  cargo bench --bench broker -- fan_out --quick
  cargo bench --bench broker -- fan_out rooms --repetitions 5 --json
  cargo bench --bench broker -- connect --keep
  cargo bench --bench broker -- --server target/before/chinwag"
)]
struct Args {
    /// Which benches to run; all, where none is named
    #[arg(value_name = "NAME")]
    names: Vec<Name>,
    /// How often each is run, server and limit in turns
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Shorter and smaller: to see whether it works, not for figures
    #[arg(long)]
    quick: bool,
    /// JSON in the place of the table
    #[arg(long)]
    json: bool,
    /// Keep what is measured: later runs that are much worse say so and fail
    #[arg(long, conflicts_with = "quick")]
    keep: bool,
    /// The program to measure, where it is not the one just built
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// cargo says this to every bench
    #[arg(long, hide = true)]
    bench: bool,
    #[arg(long, hide = true, default_value = "driver")]
    role: Role,
    #[arg(long, hide = true, default_value_t = 0)]
    frame_bytes: usize,
    #[arg(long, hide = true, default_value = "chinwag.toml")]
    config: PathBuf,
}

impl Args {
    fn server(&self) -> PathBuf {
        self.server.clone().unwrap_or_else(|| env!("CARGO_BIN_EXE_chinwag").into())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Name {
    /// One room, many followers
    FanOut,
    /// A thousand rooms of ten, offered so much a second
    Rooms,
    /// What a connection costs, to come and to stay
    Connect,
    /// Everybody comes back at once
    Resume,
    /// Publishers that wait for each acknowledgement
    Publish,
    /// From one idle client to another
    Latency,
    /// The same with more followers and more rooms
    Growth,
    /// All rooms of a user in one call
    Inbox,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Driver,
    /// Becomes the program that is measured.
    Server,
    Generator,
    Limit,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Server => "server",
            Self::Generator => "generator",
            Self::Limit => "limit",
        }
    }
}

/// What every bench is told.
struct Bench {
    server: PathBuf,
    repetitions: u32,
    quick: bool,
    /// Whether server and load have a core each.
    pinned: bool,
}

impl Bench {
    /// How long to measure; less for a quick run.
    fn seconds(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(if self.quick { seconds / 4.0 } else { seconds })
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.role {
        Role::Driver => drive(args),
        Role::Server => process::end_with_parent().and_then(|()| process::become_server(&args.server(), &args.config)),
        Role::Generator => process::end_with_parent().and_then(|()| generator::run()),
        Role::Limit => process::end_with_parent().and_then(|()| limit::run(args.frame_bytes)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("broker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn drive(args: Args) -> Outcome<()> {
    process::raise_descriptors();
    let bench =
        Bench { server: args.server(), repetitions: args.repetitions, quick: args.quick, pinned: process::cores() > 1 };
    let kept = if bench.quick { Kept::nothing() } else { Kept::read()? };
    let mut table = Table::new(args.json, machine(), kept);
    if bench.pinned {
        process::pin(process::LOAD_CORE)?;
    }
    let mut failed = false;
    for &name in Name::value_variants() {
        if args.names.is_empty() || args.names.contains(&name) {
            let measure = match name {
                Name::FanOut => fan_out::drive,
                Name::Rooms => rooms::drive,
                Name::Connect => connect::drive,
                Name::Resume => resume::drive,
                Name::Publish => publish::drive,
                Name::Latency => latency::drive,
                Name::Growth => growth::drive,
                Name::Inbox => inbox::drive,
            };
            if let Err(error) = measure(&bench, &mut table) {
                eprintln!("broker: {error}; what is left of this bench is not measured");
                failed = true;
            }
        }
    }
    table.end(args.keep)?;
    if failed { Err("not everything was measured".into()) } else { Ok(()) }
}

/// Where and when it was measured; what cannot be read is left out.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let load = read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
    format!(
        "{}, {}, {} cores, Linux {}, load average {load}",
        humantime::format_rfc3339_seconds(std::time::SystemTime::now()),
        model.map_or("unknown processor", |(_, model)| model),
        process::cores(),
        read("/proc/sys/kernel/osrelease").trim(),
    )
}
