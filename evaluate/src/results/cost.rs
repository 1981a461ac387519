//! What an experiment cost: the hours that its stages say in their `run.log`, and the machine.
//!
//! A stage that was cut off and taken up again counts from when it was taken up: what it had done before is not in its record.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use stage::Refusal;

/// What a kind of stage cost, over all seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Runs of it.
    pub runs: u64,
    /// Hours from begin to end, added up.
    pub hours: f64,
    /// Hours that processors worked, all threads together; null where a record does not say.
    pub cpu_hours: Option<f64>,
}

/// What an experiment cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// The machine, in words.
    pub machine: String,
    /// Threads that a stage computed with, at most.
    pub threads: u64,
    /// The largest memory of a stage, in MiB; 0 where no record says.
    pub peak_memory_mib: u64,
    /// Targets.
    pub train: Spent,
    /// Defences.
    pub defend: Spent,
    /// Questions.
    pub generate: Spent,
    /// Copies.
    pub distill: Spent,
    /// Evaluations, proofs, and how thieves are told from users.
    pub evaluate: Spent,
}

/// What is read of a `run.log`.
#[derive(Deserialize)]
struct Record {
    wall_seconds: f64,
    #[serde(default)]
    cpu_seconds: Option<f64>,
    threads: u64,
    #[serde(default)]
    peak_memory_mib: Option<u64>,
}

impl Cost {
    /// Add what the stage that filled a directory says; nothing for a directory of no stage of an experiment.
    pub fn add(&mut self, directory: &Path) -> anyhow::Result<()> {
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let spent = match name.split('-').next() {
            Some("target") => &mut self.train,
            Some("protected") => &mut self.defend,
            Some("queries") => &mut self.generate,
            Some("surrogate") => &mut self.distill,
            Some("eval" | "proof" | "detect") => &mut self.evaluate,
            _ => return Ok(()),
        };
        let path = directory.join(stage::output::RUN_LOG);
        // A directory that was copied without its record says nothing.
        let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
        let record: Record = serde_yaml::from_str(&text).map_err(|source| {
            Refusal::because(format!("{} is no record of a run", path.display()), source)
        })?;
        let cpu = record.cpu_seconds.map(|seconds| seconds / 3600.0);
        spent.cpu_hours = if spent.runs == 0 { cpu } else { spent.cpu_hours.zip(cpu).map(|(a, b)| a + b) };
        spent.runs += 1;
        spent.hours += record.wall_seconds / 3600.0;
        self.threads = self.threads.max(record.threads);
        self.peak_memory_mib = self.peak_memory_mib.max(record.peak_memory_mib.unwrap_or(0));
        Ok(())
    }

    /// By kind, each with its name.
    pub fn kinds(&self) -> [(&'static str, &Spent); 5] {
        [
            ("targets", &self.train),
            ("defences", &self.defend),
            ("questions", &self.generate),
            ("copies", &self.distill),
            ("evaluation", &self.evaluate),
        ]
    }

    /// Everything together.
    pub fn all(&self) -> Spent {
        let mut all = Spent { cpu_hours: Some(0.0), ..Spent::default() };
        for (_, spent) in self.kinds().into_iter().filter(|(_, spent)| spent.runs > 0) {
            all.runs += spent.runs;
            all.hours += spent.hours;
            all.cpu_hours = all.cpu_hours.zip(spent.cpu_hours).map(|(a, b)| a + b);
        }
        all
    }
}

/// This machine, in words: the kind of its processor, as far as the system tells.
pub fn machine() -> String {
    let told = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let names = told.lines().filter(|line| line.starts_with("model name"));
    let mut names = names.filter_map(|line| Some(line.split_once(':')?.1.trim().to_owned()));
    names.next().unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}
