//! Which runs are the same experiment under another seed, and which are other experiments.
//!
//! A *cell* is what a row of the report speaks of: a target by architecture and defence, or a surrogate by its own
//! architecture and those two. Runs of one cell that differ in their seed are repetitions, and are averaged. Two runs of
//! one cell with the same seed must differ in something else (lambda, a budget): then the cell is split into *variants*,
//! named after the directories of the runs, `seed-N` aside, and these are the repetitions of one another.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use artifact::checkpoint::Learning;
use artifact::queries::{Generation, QueryHeader};
use artifact::ranks::{Column, Ranks};
use serde_json::Value as Json;
use service::policies::POLICIES;
use stage::Refusal;

use crate::figures::{
    Conditions, Fidelity, Metrics, Network, POPULAR_RANK, PROTOCOL, Protocol, SURROGATE_RANK, Subject,
    TABLE_RANK, TARGET_RANK, TableMetrics, own_column, table_column,
};

/// What one evaluation left behind.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its directory, as seen from the one that all runs are in.
    pub name: String,
    /// What was evaluated, and how.
    pub protocol: Protocol,
    /// Its figures.
    pub metrics: Metrics,
    /// Its ranks, user by user.
    pub ranks: Ranks,
}

impl Run {
    /// A refusal that lays the blame on one of the run's files.
    pub fn refuse(&self, file: &str, message: impl std::fmt::Display) -> anyhow::Error {
        Refusal::new(format!("{}/{file}: {message}", self.name)).into()
    }

    /// Whether what the target answers is its model's own list, or all that is seen of it.
    pub fn answers_are_own(&self) -> bool {
        let target = &self.protocol.target;
        target.policy == "none" || target.architecture == Network::FOREIGN
    }

    /// A figure of how alike the copy is to the target model's own list for each user, `(users)`; none where the run did not keep it.
    pub fn own_fidelity(&self, figure: &str) -> Option<Vec<f64>> {
        let column = if self.answers_are_own() { figure.to_owned() } else { own_column(figure) };
        match self.ranks.column(&column)? {
            Column::Values(values) => values.iter().copied().collect(),
            Column::Counts(_) => None,
        }
    }

    /// The name without the part that says which seed it was.
    fn seedless(&self) -> String {
        let seed = format!("seed-{}", self.protocol.seed);
        self.name.split('/').filter(|part| *part != seed).collect::<Vec<_>>().join("/")
    }
}

/// The repetitions of one cell by seed.
pub type Repetitions<'a> = BTreeMap<u64, &'a Run>;

/// A target and everything that was evaluated of it.
#[derive(Debug)]
pub struct Target<'a> {
    /// Its network.
    pub architecture: Network,
    /// Its defence.
    pub defence: &'a str,
    /// What tells it from another target of that defence; none where there is no other.
    pub variant: Option<String>,
    /// A run that evaluated it, for every seed.
    pub runs: Repetitions<'a>,
    /// Its surrogates by architecture.
    pub surrogates: Vec<Surrogate<'a>>,
}

/// A surrogate of a [`Target`].
#[derive(Debug)]
pub struct Surrogate<'a> {
    /// Its network.
    pub architecture: Network,
    /// What tells it from another surrogate of that architecture; none where there is no other.
    pub variant: Option<String>,
    /// The run that evaluated it, for every seed.
    pub runs: Repetitions<'a>,
}

/// The runs, and beside them one for each target of which a table of lists was measured, as the surrogate that it is: a thief who asks about every
/// item once, by an account each, and learns nothing.
pub fn with_tables(mut runs: Vec<Run>) -> Vec<Run> {
    // Where older programs measured some of a target's runs, the table that says most is taken.
    let says = |table: &Run| table.metrics.fidelity.as_ref().is_some_and(|fidelity| fidelity.own.is_some());
    let mut tables: Vec<Run> = Vec::new();
    for table in runs.iter().filter_map(table_of) {
        match tables.iter_mut().find(|other| same_target(other, &table)) {
            Some(other) if says(&table) && !says(other) => *other = table,
            Some(_) => {}
            None => tables.push(table),
        }
    }
    runs.extend(tables);
    runs
}

/// One run of each target that had no table of lists measured, where others had, by name: what is said of these lacks that thief. A target that
/// others run never has one.
pub fn without_table(runs: &[Run]) -> Vec<&str> {
    if runs.iter().all(|run| run.metrics.table.is_none()) {
        return Vec::new();
    }
    let mut lacking: Vec<&Run> = Vec::new();
    for run in runs.iter().filter(|run| run.protocol.target.architecture != Network::FOREIGN) {
        let measured = |other: &Run| same_target(run, other) && other.metrics.table.is_some();
        if !runs.iter().any(measured) && !lacking.iter().any(|other| same_target(run, other)) {
            lacking.push(run);
        }
    }
    lacking.into_iter().map(|run| run.name.as_str()).collect()
}

/// The run's table of lists as a run of its own.
fn table_of(run: &Run) -> Option<Run> {
    let TableMetrics { quality, answered, own, listed } = run.metrics.table.clone()?;
    let ranks = [(TARGET_RANK, TARGET_RANK), (SURROGATE_RANK, TABLE_RANK), (POPULAR_RANK, POPULAR_RANK)];
    let column = |(name, from): (&str, &str)| Some((name.to_owned(), run.ranks.column(from)?.clone()));
    let mut columns = ranks.into_iter().map(column).collect::<Option<Vec<_>>>()?;
    let kept = answered.keys().flat_map(|figure| [figure.clone(), own_column(figure)]);
    columns.extend(
        kept.filter_map(|name| Some((name.clone(), run.ranks.column(&table_column(&name))?.clone()))),
    );
    let Conditions { fingerprint, items, top_k, .. } = &run.protocol.conditions;
    let queries = QueryHeader {
        items: *items,
        k: *top_k,
        fingerprint: fingerprint.clone(),
        splits: Vec::new(),
        target: Some(run.protocol.target.checkpoint.clone()),
        queries: *items as u64,
        sequences: *items as u64,
        absent: (items * top_k.saturating_sub(listed)) as u64,
        generation: Some(Generation {
            strategy: "singles".to_owned(),
            seed_sequences: 0.0,
            seeded: 0,
            seed_length: 0,
            owned: 0,
            choices: BTreeMap::new(),
        }),
    };
    let learning =
        Learning { loss: "nothing".to_owned(), suspicion: "none".to_owned(), choices: BTreeMap::new() };
    let surrogate = Subject {
        architecture: Network::TABLE,
        defence: run.protocol.target.defence.clone(),
        policy: "none".to_owned(),
        checkpoint: format!("{}, its table of lists", run.protocol.target.checkpoint),
        settings: BTreeMap::new(),
        price: Some(queries.price()),
        queries: Some(queries),
        learning: Some(learning),
    };
    Some(Run {
        name: run.name.clone(),
        protocol: Protocol { surrogate: Some(surrogate), ..run.protocol.clone() },
        metrics: Metrics {
            surrogate: Some(quality),
            fidelity: Some(Fidelity { answered, own }),
            table: None,
            ..run.metrics.clone()
        },
        ranks: Ranks { users: run.ranks.users.clone(), columns },
    })
}

/// The order of defences in the report: the answer policies, then any other by name.
pub(crate) fn order_of(defence: &str) -> (usize, &str) {
    (POLICIES.position(defence), defence)
}

/// The order of runs in the report: by target, defence, surrogate, name.
pub fn in_order(left: &Run, right: &Run) -> Ordering {
    let key = |run: &Run| run.protocol.surrogate.as_ref().map(|subject| subject.architecture);
    let (a, b) = (&left.protocol.target, &right.protocol.target);
    a.architecture
        .cmp(&b.architecture)
        .then_with(|| order_of(&a.defence).cmp(&order_of(&b.defence)))
        .then_with(|| key(left).cmp(&key(right)))
        .then_with(|| left.name.cmp(&right.name))
}

/// The cells of some runs: targets by architecture, then defence, then variant, each with its surrogates.
///
/// Fails, naming both, where two runs are the same in all that is known of them.
pub fn group(runs: &[Run]) -> anyhow::Result<Vec<Target<'_>>> {
    let mut sorted: Vec<&Run> = runs.iter().collect();
    sorted.sort_by(|left, right| in_order(left, right));
    let mut targets = Vec::new();
    for part in sorted.chunk_by(|left, right| {
        let of = |run: &Run| (run.protocol.target.architecture, run.protocol.target.defence.clone());
        of(left) == of(right)
    }) {
        // Several surrogates of one target are several runs that evaluated it; the first stands for all.
        let mut firsts: Vec<&Run> = Vec::new();
        for run in part {
            if !firsts.iter().any(|first| same_target(first, run)) {
                firsts.push(run);
            }
        }
        let variants = variants(&firsts)?;
        let strengths = strengths(&variants);
        for (place, (variant, runs)) in variants.into_iter().enumerate() {
            let variant = variant.map(|name| strengths.get(place).cloned().unwrap_or(name));
            let of_target =
                |run: &&&Run| runs.get(&run.protocol.seed).is_some_and(|first| same_target(first, run));
            let evaluated: Vec<&Run> = part.iter().filter(of_target).copied().collect();
            let Subject { architecture, defence, .. } = &part[0].protocol.target;
            targets.push(Target {
                architecture: *architecture,
                defence,
                variant,
                surrogates: surrogates(&evaluated)?,
                runs,
            });
        }
    }
    Ok(targets)
}

/// What tells the variants of a defence apart, by its settings: `lambda 0.3`. Nothing where these do not.
fn strengths(variants: &[(Option<String>, Repetitions<'_>)]) -> Vec<String> {
    let settings: Vec<_> = variants
        .iter()
        .filter_map(|(_, runs)| Some(&runs.values().next()?.protocol.target.settings))
        .collect();
    let mut differ: Vec<&String> = settings.iter().flat_map(|one| one.keys()).collect();
    differ.sort_unstable();
    differ.dedup();
    differ.retain(|key| settings.iter().any(|one| one.get(*key) != settings[0].get(*key)));
    let words = |one: &&BTreeMap<String, Json>| {
        let words = differ.iter().filter_map(|key| {
            let value = one.get(*key)?;
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Some(format!("{} {value}", key.replace('_', " ")))
        });
        words.collect::<Vec<_>>().join(", ")
    };
    let names: Vec<String> = settings.iter().map(words).collect();
    let distinct: BTreeSet<&String> = names.iter().collect();
    if distinct.len() == names.len() && !distinct.iter().any(|name| name.is_empty()) {
        names
    } else {
        Vec::new()
    }
}

fn same_target(left: &Run, right: &Run) -> bool {
    left.protocol.seed == right.protocol.seed && left.protocol.target == right.protocol.target
}

/// The surrogates among the runs of one target.
fn surrogates<'a>(evaluated: &[&'a Run]) -> anyhow::Result<Vec<Surrogate<'a>>> {
    let mut by_architecture: BTreeMap<Network, Vec<&Run>> = BTreeMap::new();
    for run in evaluated {
        if let Some(surrogate) = &run.protocol.surrogate {
            by_architecture.entry(surrogate.architecture).or_default().push(run);
        }
    }
    let mut surrogates = Vec::new();
    for (architecture, runs) in by_architecture {
        let variants = variants(&runs)?.into_iter();
        surrogates.extend(variants.map(|(variant, runs)| Surrogate { architecture, variant, runs }));
    }
    Ok(surrogates)
}

/// The runs of one cell as one set of repetitions where all seeds differ, else as several sets by name.
fn variants<'a>(runs: &[&'a Run]) -> anyhow::Result<Vec<(Option<String>, Repetitions<'a>)>> {
    let by_seed: Repetitions<'a> = runs.iter().map(|run| (run.protocol.seed, *run)).collect();
    if by_seed.len() == runs.len() {
        return Ok(vec![(None, by_seed)]);
    }
    let mut named: BTreeMap<String, Repetitions<'a>> = BTreeMap::new();
    for run in runs {
        let repetitions = named.entry(run.seedless()).or_default();
        if let Some(other) = repetitions.insert(run.protocol.seed, run) {
            let message = format!(
                "has the seed ({}), the defence and the architectures of {}, and nothing tells the two apart; leave one out",
                run.protocol.seed, other.name
            );
            return Err(run.refuse(PROTOCOL, message));
        }
    }
    Ok(named.into_iter().map(|(name, runs)| (Some(name), runs)).collect())
}

/// Names for the directories of runs: each as seen from the directory that all of them are in, so that a name tells a
/// run from every other and says nothing of the machine.
pub fn names_of(directories: &[PathBuf]) -> Vec<String> {
    let paths: Vec<Vec<String>> = directories.iter().map(|path| parts(path)).collect();
    let shared = (0..).take_while(|&depth| {
        let first = paths.first().and_then(|path| path.get(depth));
        // The last part stays part of the name.
        paths.iter().all(|path| depth + 1 < path.len() && path.get(depth) == first)
    });
    let shared = if paths.is_empty() { 0 } else { shared.count() };
    paths.iter().map(|path| path[shared..].join("/")).collect()
}

/// The parts of a path that name something, `..` taken up.
fn parts(path: &Path) -> Vec<String> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut parts = Vec::new();
    for component in absolute.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::ParentDir => {
                parts.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_by_what_tells_it_from_the_others() {
        let name = |paths: &[&str]| names_of(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(name(&["out/x/eval-none"]), ["eval-none"]);
        assert_eq!(name(&["/a/x/eval-none", "/a/x/eval-gro/"]), ["eval-none", "eval-gro"]);
        assert_eq!(
            name(&["out/x/seed-1/eval-none", "out/./x/seed-2/eval-none", "out/y/../x/eval-gro"]),
            ["seed-1/eval-none", "seed-2/eval-none", "eval-gro"]
        );
        assert_eq!(name(&["a", "a/b"]), ["a", "a/b"]);
        assert_eq!(name(&[]), [] as [&str; 0]);
    }
}
