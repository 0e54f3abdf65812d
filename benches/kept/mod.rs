//! What has been reached, by bench and case: `kept.json`. A run is held against it, so that nobody loses it unnoticed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/kept.json");

/// A share of a limit is lost when it is less than this part of what was kept: from run to run it changes by a tenth.
const PART_KEPT: f64 = 0.75;

/// A figure of ours that has no limit beside it is lost when it is more than so many times what was kept: it changes with
/// the machine, too.
pub const TIMES_KEPT: f64 = 1.5;

/// What is held.
#[derive(Clone, Copy)]
pub enum Figure {
    /// In per cent of a limit that was measured beside it: the more, the better.
    Share(f64),
    /// The less, the better; lost when it is more than so many times what was kept.
    Cost(f64, f64),
}

impl Figure {
    fn value(self) -> f64 {
        let (Self::Share(value) | Self::Cost(value, _)) = self;
        value
    }

    fn is_worse_than(self, kept: f64) -> bool {
        match self {
            Self::Share(now) => now < PART_KEPT * kept,
            Self::Cost(now, times) => now > times * kept,
        }
    }
}

/// The figures of one run beside those of before.
pub struct Kept {
    before: BTreeMap<String, f64>,
    now: BTreeMap<String, f64>,
    lost: usize,
}

impl Kept {
    /// For a run whose figures mean nothing.
    pub fn nothing() -> Self {
        Self { before: BTreeMap::new(), now: BTreeMap::new(), lost: 0 }
    }

    pub fn read() -> Result<Self, String> {
        let bytes = fs::read(FILE).map_err(|error| format!("{FILE}: {error}"))?;
        let before = serde_json::from_slice(&bytes).map_err(|error| format!("{FILE}: {error}"))?;
        Ok(Self { before, ..Self::nothing() })
    }

    /// Takes note of a figure, and says so if it is much worse than what was kept.
    pub fn hold(&mut self, name: &str, figure: Figure) -> Option<String> {
        self.now.insert(name.to_owned(), rounded(figure.value()));
        let before = self.before.get(name).copied().filter(|before| figure.is_worse_than(*before))?;
        self.lost += 1;
        let sign = if let Figure::Share(_) = figure { " %" } else { "" };
        Some(format!("LOST: {}{sign}, where {before}{sign} had been reached", rounded(figure.value())))
    }

    /// With `keep`, the figures of this run are those that are kept from now on. An error where something was lost.
    pub fn end(self, keep: bool) -> Result<(), String> {
        let Self { mut before, now, lost } = self;
        if keep {
            before.extend(now);
            let text = serde_json::to_string_pretty(&before).expect("names and numbers are JSON") + "\n";
            return fs::write(Path::new(FILE), text).map_err(|error| format!("{FILE}: {error}"));
        }
        if lost == 0 { Ok(()) } else { Err(format!("{lost} figures are worse than what had been reached")) }
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
