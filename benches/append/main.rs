//! `cargo bench --bench append`: how fast the log takes records, beside a bare file on the same disk, and what it costs
//! as it grows.
//!
//! What is measured is the [`Store`](chinwag::store::Store) that the server uses, every commit synced. Beside it, in
//! turn, the same bytes are appended to one file with one fdatasync per commit (the limit), and written to a plain tree
//! of sled with one key per record.

mod growth;
#[path = "../kept/mod.rs"]
mod kept;
mod load;
mod speed;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use kept::Kept;

#[derive(Parser)]
#[command(name = "append", about = "Measures the log")]
struct Args {
    /// A part of the work, and a log of 200,000 records only.
    #[arg(long)]
    quick: bool,
    /// How many records the log grows to, instead of 1 and 5 million; may be given more than once.
    #[arg(long)]
    records: Vec<u64>,
    /// Only the part whose name this is: speed, rooms, pauses or growth.
    #[arg(long)]
    only: Option<Part>,
    /// How many rounds of ours, the file and one key per record are made in turn; the medians are shown.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Only commits of so many records.
    #[arg(long)]
    per_commit: Option<usize>,
    /// Only so many rooms that take turns.
    #[arg(long)]
    rooms: Option<u64>,
    /// Where the data is kept meanwhile: on the disk that is to be measured.
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// Keep what is measured: later runs that are much worse say so and fail.
    #[arg(long, conflicts_with = "quick")]
    keep: bool,
    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
    /// Does one step of `growth`, in a process of its own.
    #[arg(long, hide = true, num_args = 4)]
    child: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Speed,
    Rooms,
    Pauses,
    Growth,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let [step, dir, records, rooms] = &args.child[..] {
        let number = |text: &str| text.parse().expect("the parent passes numbers");
        growth::child(step, dir.as_ref(), number(records), number(rooms));
        return ExitCode::SUCCESS;
    }
    match measure(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("append: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> Result<(), String> {
    let mut kept = if args.quick { Kept::nothing() } else { Kept::read()? };
    let wanted = |part| args.only.is_none_or(|only| only == part);
    let scale = if args.quick { 0.1 } else { 1.0 };
    if wanted(Part::Speed) {
        let rounds = if args.quick { 3 } else { args.rounds };
        speed::compare(&args.dir, rounds, args.per_commit, &mut kept);
    }
    if wanted(Part::Rooms) {
        speed::many_rooms(&args.dir, scale, args.rooms);
    }
    if wanted(Part::Pauses) {
        speed::pauses(&args.dir, scale);
    }
    if wanted(Part::Growth) {
        let sizes = match (&args.records[..], args.quick) {
            ([], true) => vec![200_000],
            ([], false) => vec![1_000_000, 5_000_000],
            (given, _) => given.to_vec(),
        };
        growth::grow(&args.dir, &sizes, &mut kept);
    }
    kept.end(args.keep)
}
