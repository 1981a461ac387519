//! `bench.json`: what every work took the last time it was measured.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::Work;

/// What a work took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What was done.
    pub work: String,
    /// How much of it.
    pub shape: String,
    /// On how many CPU threads.
    pub threads: usize,
    /// Median seconds.
    pub seconds_median: f64,
    /// Matrix arithmetic that it cannot avoid, in GFLOP, where that was counted.
    #[serde(default)]
    pub gflop: Option<f64>,
    /// The most memory held, in GB (of 10^9 bytes); `None` where the system does not tell.
    pub peak_gb: Option<f64>,
}

impl Entry {
    fn is_of(&self, work: &Work) -> bool {
        self.work == work.name && self.shape == work.shape
    }
}

/// The median seconds of a work, from the estimates that criterion left in its directory `results`; `None` where there
/// are none after `since`: the work was filtered out, or only tried.
///
/// # Errors
/// For estimates that cannot be read.
pub fn median(results: &Path, work: &Work, since: SystemTime) -> Result<Option<f64>> {
    let directory = results.join(work.subject).join(&work.name).join(&work.shape);
    let path = directory.join("new").join("estimates.json");
    if fs::metadata(&path).and_then(|file| file.modified()).map_or(true, |written| written < since) {
        return Ok(None);
    }
    let what = || format!("reading {}", path.display());
    let text = fs::read_to_string(&path).with_context(what)?;
    let estimates: serde_json::Value = serde_json::from_str(&text).with_context(what)?;
    let nanoseconds = estimates.pointer("/median/point_estimate").and_then(serde_json::Value::as_f64);
    let nanoseconds = nanoseconds.context("no median among the estimates").with_context(what)?;
    Ok(Some(nanoseconds / 1e9 * work.scale))
}

/// Puts an entry into the file at `path`, in place of the earlier one of the same work. Entries are in the order of
/// `works`; those of works that are no more go.
///
/// # Errors
/// For a file that holds something else, or cannot be written.
pub fn keep(path: &Path, works: &[Work], entry: Entry) -> Result<()> {
    let what = || format!("in {}", path.display());
    let mut entries: Vec<Entry> = match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).with_context(what)?,
        Err(_) => Vec::new(),
    };
    entries.retain(|earlier| (&earlier.work, &earlier.shape) != (&entry.work, &entry.shape));
    entries.push(entry);
    let ordered: Vec<&Entry> =
        works.iter().filter_map(|work| entries.iter().find(|entry| entry.is_of(work))).collect();
    fs::write(path, serde_json::to_string_pretty(&ordered)? + "\n").with_context(what)
}

/// The entries as a Markdown table, with the floor of each: its arithmetic at the speed of the machine's matrix products, where
/// that was measured too.
pub fn table(entries: &[Entry]) -> String {
    let machine = crate::arithmetic::peak().name;
    let speed = entries
        .iter()
        .find(|entry| entry.work == machine)
        .and_then(|entry| entry.gflop.map(|gflop| gflop / entry.seconds_median));
    let mut lines =
        vec!["| work | shape | seconds | floor, s | share |".to_owned(), "|---|---|---|---|---|".to_owned()];
    for entry in entries {
        let floor = entry.gflop.zip(speed).map(|(gflop, speed)| gflop / speed);
        let cells = floor.map_or_else(
            || " |".to_owned(),
            |floor| format!("{floor:.3e} | {:.0} %", 100.0 * floor / entry.seconds_median),
        );
        lines.push(format!("| {} | {} | {:.3e} | {cells} |", entry.work, entry.shape, entry.seconds_median));
    }
    if let Some(speed) = speed {
        lines.push(format!("\nMatrix products of f32: {speed:.0} GFLOP/s."));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_arithmetic_over_speed() {
        let machine = crate::arithmetic::peak();
        let entry = |work: &str, seconds_median, gflop| Entry {
            work: work.to_owned(),
            shape: "small".to_owned(),
            threads: 1,
            seconds_median,
            gflop,
            peak_gb: None,
        };
        let entries =
            [entry(&machine.name, 2.0, Some(1000.0)), entry("a", 4.0, Some(1000.0)), entry("b", 4.0, None)];
        let table = table(&entries);
        assert!(table.contains("| a | small | 4.000e0 | 2.000e0 | 50 % |"), "{table}");
        assert!(table.contains("| b | small | 4.000e0 |  | |"), "{table}");
    }

    #[test]
    fn an_entry_takes_the_place_of_its_work() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bench.json");
        let work = |name: &str| Work::new("subject", name, "small", || Ok(Box::new(|| Ok(()))));
        let entry = |work: &str, seconds_median| Entry {
            work: work.to_owned(),
            shape: "small".to_owned(),
            threads: 1,
            seconds_median,
            gflop: None,
            peak_gb: None,
        };
        let read = || serde_json::from_str::<Vec<Entry>>(&fs::read_to_string(&path).unwrap()).unwrap();
        let works = [work("a"), work("b")];
        for (name, seconds) in [("b", 1.0), ("a", 2.0), ("b", 3.0)] {
            keep(&path, &works, entry(name, seconds)).unwrap();
        }
        assert_eq!(read(), [entry("a", 2.0), entry("b", 3.0)]);
        keep(&path, &works[1..], entry("b", 4.0)).unwrap();
        assert_eq!(read(), [entry("b", 4.0)]);
    }
}
