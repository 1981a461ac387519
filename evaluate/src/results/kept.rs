//! What is kept of an experiment: as much of its report as the page of results needs, what it cost, and its proofs.
//!
//! The keys are those of `report.json`, so that `gro-evaluate board` reads what is kept as it reads a report. Left out are figures
//! that the page does not show; numbers have six significant digits.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use stage::Refusal;

use super::cost::Cost;
use super::report_of;
use crate::figures::{PROTOCOL, Protocol};
use crate::prove::PROOF;
use crate::prove::watermark::{Corrected, least};
use crate::report::table::Table;
use crate::theft::curves::way_of_subject;

/// Name of what is kept, in a directory of the experiment's name.
pub const KEPT: &str = "report.json";

/// Significant digits of what is kept.
const DIGITS: usize = 6;

/// The figure of how alike a copy and what it copied are, which is kept beside those that are drawn.
pub const AGREEMENT: &str = "Agr@10";

/// What is kept of an experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Its name: data set and architecture.
    pub experiment: String,
    /// What it cost.
    pub cost: Cost,
    /// Proofs of theft.
    pub proofs: Vec<Suspected>,
    /// The report.
    #[serde(flatten)]
    pub table: Table,
}

/// A proof that a suspect learned from a guarded target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suspected {
    /// Defence of the guarded target.
    pub guarded: String,
    /// Defence of the target that the suspect copied.
    pub copied: String,
    /// Whether the suspect learned from the answers of that guarded target.
    pub guilty: bool,
    /// How the thief asked and learned, in words.
    pub way: String,
    /// Seed.
    pub seed: u64,
    /// Agreement with the decoys of the true key, 0 to 1.
    pub agreement: f64,
    /// The highest agreement with those of another key.
    pub highest: f64,
    /// Keys it was compared with.
    pub keys: u64,
    /// Chance of so much agreement in one who never saw an answer.
    pub p: f64,
    /// That and the chance of what the suspect shows of the watermark, each corrected for the other; none where the target has no watermark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected: Option<Corrected>,
}

impl Suspected {
    /// Chance of what was found in one who never saw an answer: by the decoys, or by whichever of two tests found more.
    pub fn chance(&self) -> f64 {
        least(self.p, self.corrected)
    }
}

/// What is read of `proof.json`.
#[derive(Deserialize)]
struct Proof {
    suspect: String,
    protected: String,
    keys: u64,
    agreement: f64,
    others: Others,
    p: f64,
    corrected: Option<Corrected>,
}

#[derive(Deserialize)]
struct Others {
    highest: f64,
}

impl Kept {
    /// What there is to keep of a finished experiment.
    ///
    /// Fails, as a refusal, where it has no report, or a file in it is damaged.
    pub fn of(directory: &Path, machine: String) -> anyhow::Result<Self> {
        let mut table: Table = artifact::metrics::read(&report_of(directory))?;
        if !table.protocol.held_out.is_test() {
            return Err(Refusal::new(format!(
                "{} is judged by validation items, on which settings are chosen; results are those of test items",
                report_of(directory).display()
            ))
            .into());
        }
        let drawn = table.drawn();
        let shown = |figure: &str| figure == AGREEMENT || drawn.iter().any(|drawn| drawn == figure);
        for row in &mut table.rows {
            row.figures.retain(|figure, _| shown(figure));
            if let Some(differences) = &mut row.difference_to_none {
                differences.retain(|figure, _| shown(figure));
            }
        }
        table.comparisons.retain(|figure, _| shown(figure));
        let mut cost = Cost { machine, ..Cost::default() };
        let (mut evaluated, mut found) = (BTreeMap::new(), Vec::new());
        let reported = Reported::of(&table);
        for place in places(directory)?.into_iter().filter(|place| reported.took(place)) {
            cost.add(&place)?;
            if place.join(PROTOCOL).is_file() {
                let protocol: Protocol = artifact::metrics::read(&place.join(PROTOCOL))?;
                if let Some(copy) = &protocol.surrogate {
                    evaluated.insert(copy.checkpoint.clone(), protocol);
                }
            }
            if place.join(PROOF).is_file() {
                found.push((place.clone(), artifact::metrics::read::<Proof>(&place.join(PROOF))?));
            }
        }
        let mut proofs = Vec::with_capacity(found.len());
        for (place, proof) in found {
            proofs.push(suspected(&place, &proof, &evaluated)?);
        }
        let order = |one: &Suspected| (one.guarded.clone(), !one.guilty, one.way.clone(), one.seed);
        proofs.sort_by_key(order);
        Ok(Self { experiment: name_of(directory)?, cost, proofs, table })
    }

    /// Everything that is kept below a directory, in the order of names; nothing where there is none.
    pub fn all(root: &Path) -> anyhow::Result<Vec<Self>> {
        if !root.is_dir() {
            return Ok(Vec::new());
        }
        let files = inside(root)?.into_iter().map(|place| place.join(KEPT)).filter(|file| file.is_file());
        let all = files.map(|file| artifact::metrics::read(&file)).collect::<Result<Vec<Self>, _>>()?;
        Ok(all)
    }

    /// As JSON, a row, a verdict and a proof a line.
    pub fn to_json(&self) -> anyhow::Result<String> {
        let mut whole = serde_json::to_value(self).context("the results cannot be written as JSON")?;
        round(&mut whole);
        let Json::Object(whole) = whole else { anyhow::bail!("the results are no JSON object") };
        let mut text = String::from("{\n");
        let last = whole.len().saturating_sub(1);
        for (place, (key, value)) in whole.iter().enumerate() {
            let end = if place == last { "\n" } else { ",\n" };
            match value {
                Json::Array(lines) if lines.iter().any(Json::is_object) => {
                    let lines: Vec<String> = lines.iter().map(|line| format!("    {line}")).collect();
                    let _ = write!(text, "  \"{key}\": [\n{}\n  ]{end}", lines.join(",\n"));
                }
                _ => {
                    let _ = write!(text, "  \"{key}\": {value}{end}");
                }
            }
        }
        text.push_str("}\n");
        Ok(text)
    }
}

/// A proof with the words that the evaluations of its suspect and of copies of its guarded target have for them.
fn suspected(
    place: &Path,
    proof: &Proof,
    evaluated: &BTreeMap<String, Protocol>,
) -> anyhow::Result<Suspected> {
    let unknown = |what: &str| {
        let message = format!(
            "{} speaks of a {what} that no evaluation of this experiment speaks of; remove it, or evaluate that",
            place.join(PROOF).display()
        );
        Refusal::new(message)
    };
    let run = evaluated.get(&proof.suspect).ok_or_else(|| unknown("suspect"))?;
    let guarded = evaluated.values().find(|other| other.target.checkpoint == proof.protected);
    let guarded = guarded.ok_or_else(|| unknown("guarded target"))?;
    Ok(Suspected {
        guarded: guarded.target.defence.clone(),
        copied: run.target.defence.clone(),
        guilty: run.target.checkpoint == proof.protected,
        way: run.surrogate.as_ref().and_then(way_of_subject).unwrap_or_else(|| "not recorded".to_owned()),
        seed: run.seed,
        agreement: proof.agreement,
        highest: proof.others.highest,
        keys: proof.keys,
        p: proof.p,
        corrected: proof.corrected,
    })
}

/// What a report speaks of: other seeds, defences and thieves that lie in the same directory are not of its experiment.
struct Reported {
    runs: BTreeSet<PathBuf>,
    seeds: BTreeSet<u64>,
}

impl Reported {
    fn of(table: &Table) -> Self {
        let runs = table.rows.iter().flat_map(|row| row.runs.iter().map(PathBuf::from)).collect();
        Self { runs, seeds: table.seeds.iter().copied().collect() }
    }

    /// Whether the directory of a stage is of a run that the report speaks of, or of what such a run needs: its name is the run's, whose
    /// parts are the defence, how the thief asks, how he learns, and his network.
    fn took(&self, place: &Path) -> bool {
        let parent = place.parent().unwrap_or(place);
        let seed = parent.file_name().and_then(|name| name.to_str()?.strip_prefix("seed-")?.parse().ok());
        if seed.is_some_and(|seed| !self.seeds.contains(&seed)) {
            return false;
        }
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let Some((stage, of)) = name.split_once('-') else { return true };
        let evaluated = |run: &PathBuf| {
            let name = run.file_name()?.to_str()?.strip_prefix("eval-")?.to_owned();
            parent.join(format!("eval-{name}")).ends_with(run).then_some(name)
        };
        let mut runs = self.runs.iter().filter_map(evaluated);
        match stage {
            "eval" | "surrogate" | "proof" => runs.any(|run| run == of),
            "protected" | "queries" => runs.any(|run| run == of || run.starts_with(&format!("{of}-"))),
            _ => true,
        }
    }
}

/// Directories of stages in an experiment: its own, and those of its seeds.
fn places(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut places = Vec::new();
    for place in inside(directory)? {
        let seed = place.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-"));
        if seed {
            places.extend(inside(&place)?);
        } else {
            places.push(place);
        }
    }
    Ok(places)
}

/// Directories in a directory, by name; hidden ones are still being filled.
fn inside(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listed = || format!("cannot list {}", directory.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| Refusal::because(listed(), error))? {
        let entry = entry.with_context(listed)?;
        if entry.path().is_dir() && !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// What an experiment is called: its directory, without the word that make puts before.
fn name_of(directory: &Path) -> anyhow::Result<String> {
    let path = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.strip_prefix("results-").unwrap_or(&name).to_owned();
    if name.is_empty() {
        return Err(Refusal::new(format!("{} has no name to go by", directory.display())).into());
    }
    Ok(name)
}

/// Every number with [`DIGITS`] significant digits.
fn round(value: &mut Json) {
    match value {
        Json::Number(number) if number.is_f64() => {
            let exact = number.as_f64().unwrap_or_default();
            let short: f64 = format!("{exact:.*e}", DIGITS - 1).parse().unwrap_or(exact);
            *value = Json::from(short);
        }
        Json::Array(values) => values.iter_mut().for_each(round),
        Json::Object(values) => values.iter_mut().for_each(|(_, value)| round(value)),
        _ => {}
    }
}
