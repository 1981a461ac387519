//! From evaluated runs to the rows of the report: which run is compared with which, in what order, under what name.
//!
//! The order is fixed: the most popular items, then for each defence (none, random, reverse, gro, then any other by name)
//! the target and its surrogates. A target that several runs evaluated stands once. A surrogate is compared with the
//! surrogate of the same architecture that copied the *undefended* target of the same architecture, on the same users:
//! the interval of the mean of differences is far narrower than two intervals side by side suggest.

use std::fmt::Write as _;

use anyhow::Context;
use artifact::checkpoint::Architecture;
use artifact::ranks::{Column, Ranks};
use indexmap::IndexMap;
use ranking::{Bootstrap, hit, ndcg, paired_difference};
use serde::Serialize;
use stage::Refusal;

use crate::figures::{
    Figure, Figures, METRICS, Metrics, PROTOCOL, Protocol, SURROGATE_RANK, Subject, TARGET_RANK, name_of,
};

/// The figures of the table, in the order of its columns.
pub const QUALITY: [&str; 4] = ["HR@10", "HR@20", "NDCG@10", "NDCG@20"];
/// The figure of surrogates only.
pub const AGREEMENT: &str = "Agr@10";

/// What one evaluation left behind.
#[derive(Debug, Clone)]
pub struct Run {
    /// Name of its directory.
    pub name: String,
    /// What was evaluated, and how.
    pub protocol: Protocol,
    /// Its figures.
    pub metrics: Metrics,
    /// Its ranks, user by user.
    pub ranks: Ranks,
}

/// What a row speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Model {
    /// The most popular items, for everyone.
    Popular,
    /// A target behind its defence.
    Target,
    /// A surrogate of that target.
    Surrogate,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What it speaks of.
    pub model: Model,
    /// The network; none for the most popular items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Architecture>,
    /// The target's defence, with the name of the run where that alone would be ambiguous.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defense: Option<String>,
    /// The run that the figures come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// HR and NDCG, and Agr@10 of surrogates.
    pub figures: Figures,
    /// This model's figures minus those of its counterpart without a defence, over the same users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference_to_none: Option<Figures>,
}

/// `report.json`: the protocol that all rows share, and the rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    /// How the figures were taken.
    pub protocol: Shared,
    /// The rows, in the order of the report.
    pub rows: Vec<Row>,
}

/// What runs must have in common to stand in one table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shared {
    /// Fingerprint of the dataset's item numbering.
    pub fingerprint: String,
    /// Users evaluated.
    pub users: usize,
    /// Items that every test item is ranked against.
    pub items: usize,
    /// Whether items of the history were taken out of the ranking.
    pub exclude_seen: bool,
    /// Length of the answered lists.
    pub top_k: usize,
    /// Bootstrap resamples behind every interval.
    pub bootstrap: usize,
    /// Seed of the bootstrap.
    pub seed: u64,
}

impl From<&Protocol> for Shared {
    fn from(protocol: &Protocol) -> Self {
        Self {
            fingerprint: protocol.fingerprint.clone(),
            users: protocol.users,
            items: protocol.items,
            exclude_seen: protocol.exclude_seen,
            top_k: protocol.top_k,
            bootstrap: protocol.bootstrap,
            seed: protocol.seed,
        }
    }
}

/// A target and the runs that evaluated it.
struct Group<'a> {
    target: &'a Subject,
    label: String,
    runs: Vec<&'a Run>,
}

impl Table {
    /// Compare runs.
    ///
    /// Fails, naming the runs, where they speak of different datasets or protocols, lack a figure of the table, or hold
    /// other users.
    pub fn of(runs: &[Run]) -> anyhow::Result<Self> {
        let groups = group(runs);
        let first = groups
            .first()
            .map(|group| group.runs[0])
            .ok_or_else(|| Refusal::new("no run to report on: name the directories after --runs"))?;
        check_alike(first, runs)?;
        let bootstrap = Bootstrap { resamples: first.protocol.bootstrap, seed: first.protocol.seed };
        let mut rows = vec![Row {
            model: Model::Popular,
            architecture: None,
            defense: None,
            run: None,
            figures: pick(first, "popular", &first.metrics.popular, &QUALITY)?,
            difference_to_none: None,
        }];
        for group in &groups {
            let run = group.runs[0];
            rows.push(Row {
                model: Model::Target,
                architecture: Some(group.target.architecture),
                defense: Some(group.label.clone()),
                run: Some(run.name.clone()),
                figures: pick(run, "target", &run.metrics.target, &QUALITY)?,
                difference_to_none: difference(
                    &bootstrap,
                    run,
                    undefended_target(&groups, group),
                    TARGET_RANK,
                )?,
            });
            let surrogates: Vec<_> =
                group.runs.iter().filter_map(|run| Some((*run, run.protocol.surrogate.as_ref()?))).collect();
            for (run, surrogate) in &surrogates {
                let (Some(quality), Some(fidelity)) = (&run.metrics.surrogate, &run.metrics.fidelity) else {
                    let message =
                        "no figures of the surrogate that its protocol.json names; evaluate it again";
                    return Err(refuse(run, METRICS, message));
                };
                let mut figures = pick(run, "surrogate", quality, &QUALITY)?;
                figures.extend(pick(run, "fidelity.answered", &fidelity.answered, &[AGREEMENT])?);
                let alike = surrogates
                    .iter()
                    .filter(|(_, other)| other.architecture == surrogate.architecture)
                    .count();
                let label =
                    if alike > 1 { format!("{} ({})", group.label, run.name) } else { group.label.clone() };
                rows.push(Row {
                    model: Model::Surrogate,
                    architecture: Some(surrogate.architecture),
                    defense: Some(label),
                    run: Some(run.name.clone()),
                    figures,
                    difference_to_none: difference(
                        &bootstrap,
                        run,
                        undefended_surrogate(&groups, group, surrogate),
                        SURROGATE_RANK,
                    )?,
                });
            }
        }
        Ok(Self { protocol: Shared::from(&first.protocol), rows })
    }

    /// The report as Markdown, with both tables aligned so that they read as well in a terminal.
    pub fn markdown(&self) -> String {
        let shared = &self.protocol;
        let mut text = String::from("# Target and surrogate under each defence\n\n");
        let seen =
            if shared.exclude_seen { "items of the history taken out" } else { "items of the history kept" };
        let _ = writeln!(
            text,
            "Full ranking: the test item of each of {} users against all {} items, {seen},\n\
             ties counted against the model. A target behind `random` or `reverse` is judged by its answered\n\
             list of {}: outside the list is a miss. In brackets: 95 % interval from {} bootstrap resamples\n\
             of the users (seed {}). Agr@10: share of the target's answered top 10 that the surrogate's top 10\n\
             holds as well, on the same histories.\n",
            shared.users, shared.items, shared.top_k, shared.bootstrap, shared.seed
        );
        let heading = |figures: &[&str]| -> Vec<String> {
            ["model", "defence"].iter().chain(figures).map(|&cell| cell.to_owned()).collect()
        };
        let columns: Vec<&str> = QUALITY.iter().copied().chain([AGREEMENT]).collect();
        let mut cells = vec![heading(&columns)];
        for row in &self.rows {
            let figures = columns.iter().map(|name| row.figures.get(*name).map_or(String::new(), plain));
            cells.push(row.names().into_iter().chain(figures).collect());
        }
        align(&mut text, &cells);

        let mut cells = vec![heading(&QUALITY)];
        for row in &self.rows {
            let Some(differences) = &row.difference_to_none else { continue };
            let figures = QUALITY.iter().map(|name| differences.get(*name).map_or(String::new(), signed));
            cells.push(row.names().into_iter().chain(figures).collect());
        }
        if cells.len() > 1 {
            text.push_str(
                "\n## Difference to the same model without a defence\n\n\
                 User by user, on the same users (paired bootstrap). **Bold**: the interval leaves out 0.\n\n",
            );
            align(&mut text, &cells);
        }
        text
    }
}

impl Row {
    fn names(&self) -> [String; 2] {
        let architecture = self.architecture.map_or("", name_of);
        let model = match self.model {
            Model::Popular => "most popular items".to_owned(),
            Model::Target => format!("target {architecture}"),
            Model::Surrogate => format!("surrogate {architecture}"),
        };
        [model, self.defense.clone().unwrap_or_default()]
    }
}

fn refuse(run: &Run, file: &str, message: impl std::fmt::Display) -> anyhow::Error {
    Refusal::new(format!("{}/{file}: {message}", run.name)).into()
}

/// Refuse to put side by side what was not measured alike.
fn check_alike(first: &Run, runs: &[Run]) -> anyhow::Result<()> {
    let expected = Shared::from(&first.protocol);
    for run in runs {
        let found = Shared::from(&run.protocol);
        if found.fingerprint != expected.fingerprint {
            let message = format!(
                "speaks of another dataset than {} (fingerprint {} against {}); report on one dataset at a time",
                first.name, found.fingerprint, expected.fingerprint
            );
            return Err(refuse(run, PROTOCOL, message));
        }
        if found != expected {
            let message = format!(
                "was measured in another way than {}: users {}, exclude_seen {}, top_k {}, bootstrap {}, seed {} against \
                 {}, {}, {}, {}, {}; evaluate all runs with the same settings",
                first.name,
                found.users,
                found.exclude_seen,
                found.top_k,
                found.bootstrap,
                found.seed,
                expected.users,
                expected.exclude_seen,
                expected.top_k,
                expected.bootstrap,
                expected.seed
            );
            return Err(refuse(run, PROTOCOL, message));
        }
        if run.ranks.users != first.ranks.users {
            let message = format!("holds other users than {}; evaluate both on the same data", first.name);
            return Err(refuse(run, artifact::ranks::RANKS, message));
        }
    }
    Ok(())
}

/// Where a defence stands in the report.
fn order_of(defense: &str) -> (usize, &str) {
    let known = ["none", "random", "reverse", "gro"];
    (known.iter().position(|name| *name == defense).unwrap_or(known.len()), defense)
}

/// Runs by target, in the order of the report.
fn group(runs: &[Run]) -> Vec<Group<'_>> {
    let mut sorted: Vec<&Run> = runs.iter().collect();
    sorted.sort_by_key(|run| {
        let (target, surrogate) = (&run.protocol.target, &run.protocol.surrogate);
        let copied = surrogate.as_ref().map(|subject| subject.architecture);
        (order_of(&target.defense), target.architecture, &target.checkpoint, copied, &run.name)
    });
    let mut groups: Vec<Group<'_>> = Vec::new();
    for run in sorted {
        let target = &run.protocol.target;
        match groups.iter_mut().find(|group| group.target == target) {
            Some(group) => group.runs.push(run),
            None => groups.push(Group { target, label: target.defense.clone(), runs: vec![run] }),
        }
    }
    for place in 0..groups.len() {
        let of = |group: &Group<'_>| (group.target.defense.clone(), group.target.architecture);
        if groups.iter().filter(|other| of(other) == of(&groups[place])).count() > 1 {
            groups[place].label =
                format!("{} ({})", groups[place].target.defense, groups[place].runs[0].name);
        }
    }
    groups
}

/// The run that evaluated the undefended target of the same architecture; none for the undefended itself.
fn undefended_target<'a>(groups: &[Group<'a>], group: &Group<'_>) -> Option<&'a Run> {
    let counterpart = counterpart(groups, group)?;
    Some(counterpart.runs[0])
}

/// The run that evaluated the surrogate of the same architecture that copied the undefended target.
fn undefended_surrogate<'a>(groups: &[Group<'a>], group: &Group<'_>, surrogate: &Subject) -> Option<&'a Run> {
    let same = |run: &&&Run| {
        run.protocol.surrogate.as_ref().is_some_and(|other| other.architecture == surrogate.architecture)
    };
    counterpart(groups, group)?.runs.iter().find(same).copied()
}

fn counterpart<'a, 'b>(groups: &'b [Group<'a>], group: &Group<'_>) -> Option<&'b Group<'a>> {
    if group.target.defense == "none" {
        return None;
    }
    let alike = |other: &&Group<'_>| {
        other.target.defense == "none" && other.target.architecture == group.target.architecture
    };
    groups.iter().find(alike)
}

fn pick(run: &Run, section: &str, figures: &Figures, names: &[&str]) -> anyhow::Result<Figures> {
    names
        .iter()
        .map(|&name| {
            let figure = figures.get(name).copied().ok_or_else(|| {
                let message = format!("{section} holds no {name}; evaluate with 10 and 20 among evaluate.ks");
                refuse(run, METRICS, message)
            })?;
            Ok((name.to_owned(), figure))
        })
        .collect()
}

/// The paired differences of a run to its counterpart, from the ranks in one column of both.
fn difference(
    bootstrap: &Bootstrap,
    run: &Run,
    counterpart: Option<&Run>,
    column: &str,
) -> anyhow::Result<Option<Figures>> {
    let Some(counterpart) = counterpart else { return Ok(None) };
    let (left, right) = (ranks_of(run, column)?, ranks_of(counterpart, column)?);
    let value = |name: &str, rank: Option<u32>| match name {
        "HR@10" => hit(rank, 10),
        "HR@20" => hit(rank, 20),
        "NDCG@10" => ndcg(rank, 10),
        _ => ndcg(rank, 20),
    };
    let mut differences = Vec::with_capacity(QUALITY.len());
    for name in QUALITY {
        let of = |ranks: &[Option<u32>]| ranks.iter().map(|&rank| value(name, rank)).collect::<Vec<_>>();
        differences.push(paired_difference(&of(left), &of(right))?);
    }
    let columns: Vec<&[f64]> = differences.iter().map(Vec::as_slice).collect();
    let intervals = bootstrap.intervals(&columns).with_context(|| format!("comparing {}", run.name))?;
    let named =
        QUALITY.iter().zip(intervals).map(|(name, interval)| ((*name).to_owned(), Figure::from(interval)));
    Ok(Some(named.collect::<IndexMap<_, _>>()))
}

fn ranks_of<'a>(run: &'a Run, column: &str) -> anyhow::Result<&'a [Option<u32>]> {
    match run.ranks.column(column) {
        Some(Column::Counts(ranks)) => Ok(ranks),
        Some(Column::Values(_)) => {
            Err(refuse(run, artifact::ranks::RANKS, format!("column `{column}` is float64, expected uint32")))
        }
        None => {
            Err(refuse(run, artifact::ranks::RANKS, format!("has no column `{column}`; evaluate it again")))
        }
    }
}

fn plain(figure: &Figure) -> String {
    format!("{:.4} [{:.4}, {:.4}]", figure.mean, figure.low, figure.high)
}

fn signed(figure: &Figure) -> String {
    let text = format!("{:+.4} [{:+.4}, {:+.4}]", figure.mean, figure.low, figure.high);
    if figure.low > 0.0 || figure.high < 0.0 { format!("**{text}**") } else { text }
}

/// Write rows of cells as a Markdown table, the first row its heading, with every column as wide as its widest cell.
fn align(text: &mut String, rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for (place, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if place == 0 {
            for width in &widths {
                let _ = write!(text, "|{:-<1$}", "", width + 2);
            }
            text.push_str("|\n");
        }
    }
}
