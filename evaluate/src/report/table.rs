//! From evaluated runs to the rows of the report: what each cell's figures are, and how far they lie from those of the
//! same model without a defence.
//!
//! The order is fixed: the most popular items; then for each target architecture and each defence (the answer policies,
//! then any other by name) the target and its surrogates. The figures are all metrics of [`metrics::METRICS`] at the K's
//! that these show, or the nearest at which all runs were evaluated: quality of every model; of surrogates also fidelity, to the lists that the target answers and to the
//! scores of its own.
//!
//! *Seeds.* A figure measured once stands with the 95 % bootstrap interval over users that its run found. A figure
//! measured with several seeds is the mean over the seeds with their sample standard deviation (divisor seeds - 1).
//!
//! *Differences.* A target is compared with the undefended target of the same architecture, a surrogate with the surrogate
//! of the same architecture that copied that undefended target, both of the same seed and on the same users. The
//! difference is taken user by user and seed by seed, averaged for each user over the seeds that both sides have, and the
//! mean over users gets its 95 % interval by resampling users. So the interval is far narrower than two intervals side by
//! side suggest; it says how other users might have moved the difference, and has the seeds' noise in it only as far as
//! their average did not remove it.

use anyhow::Context;
use artifact::queries::QueryHeader;
use artifact::ranks::{Column, RANKS};
use indexmap::IndexMap;
use metrics::{Bootstrap, Ks, Measure, mean, paired_difference};
use serde::Serialize;
use stage::Refusal;

use super::grouping::{Repetitions, Run, Surrogate, Target, group, in_order};
use crate::figures::{Conditions, Figure, Figures, METRICS, Network, PROTOCOL, SURROGATE_RANK, TARGET_RANK};

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

/// A figure of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Value {
    /// The mean over users, and over seeds where there are several.
    pub mean: f64,
    /// How far it may be off.
    #[serde(flatten)]
    pub spread: Spread,
}

/// How far a figure may be off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Spread {
    /// Of one seed: the 95 % bootstrap interval over users.
    Interval {
        /// Its lower end.
        low: f64,
        /// Its upper end.
        high: f64,
    },
    /// Of several seeds: their sample standard deviation.
    Seeds {
        /// Divisor: seeds - 1.
        deviation: f64,
    },
}

impl Value {
    /// One figure for each seed.
    fn over(figures: &[Figure]) -> Self {
        if let [only] = figures {
            return Self { mean: only.mean, spread: Spread::Interval { low: only.low, high: only.high } };
        }
        let means: Vec<f64> = figures.iter().map(|figure| figure.mean).collect();
        let centre = mean(&means);
        let squares: f64 = means.iter().map(|value| (value - centre).powi(2)).sum();
        let deviation = (squares / (means.len().max(2) - 1) as f64).sqrt();
        Self { mean: centre, spread: Spread::Seeds { deviation } }
    }

    /// The ends of a whisker: the interval, or one standard deviation to each side.
    pub fn ends(&self) -> (f64, f64) {
        match self.spread {
            Spread::Interval { low, high } => (low, high),
            Spread::Seeds { deviation } => (self.mean - deviation, self.mean + deviation),
        }
    }
}

/// Figures of a cell by name.
pub type Values = IndexMap<String, Value>;

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What it speaks of.
    pub model: Model,
    /// The target's network; none for the most popular items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Network>,
    /// The target's defence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defence: Option<String>,
    /// The surrogate's network, where the row speaks of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub surrogate: Option<Network>,
    /// What tells the row from another of the same networks and defence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The seeds it was measured with.
    pub seeds: Vec<u64>,
    /// The runs that the figures come from, in the order of the seeds.
    pub runs: Vec<String>,
    /// What the attack asked, where the row speaks of a surrogate and its checkpoint says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queries: Option<QueryHeader>,
    /// Quality, and of surrogates fidelity.
    pub figures: Values,
    /// This model's figures minus those of its counterpart without a defence, user by user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference_to_none: Option<Figures>,
}

/// `report.json`: what all rows share, and the rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    /// How the figures were taken.
    pub protocol: Conditions,
    /// The K of HR@K and the like at which all runs were evaluated.
    pub ks: Vec<usize>,
    /// All seeds that some row was measured with.
    pub seeds: Vec<u64>,
    /// The rows, in the order of the report.
    pub rows: Vec<Row>,
}

impl Table {
    /// Compare runs.
    ///
    /// Fails, naming the runs, where they speak of different datasets or protocols, lack a figure of the table, or hold
    /// other users.
    pub fn of(runs: &[Run]) -> anyhow::Result<Self> {
        let first = runs
            .iter()
            .min_by(|left, right| in_order(left, right))
            .ok_or_else(|| Refusal::new("no run to report on: name the directories after --runs"))?;
        check_alike(first, runs)?;
        let by_seed: Repetitions<'_> = runs.iter().rev().map(|run| (run.protocol.seed, run)).collect();
        let seeds: Vec<u64> = by_seed.keys().copied().collect();
        let bootstrap = Bootstrap { resamples: first.protocol.conditions.bootstrap, seed: seeds[0] };

        let ks = shared_ks(first, runs)?;
        let quality = metrics::of_ranks(Ks::Shown(&ks));
        let popular = gather(&by_seed, "popular", &quality, |run| Some(&run.metrics.popular))?;
        let mut rows = vec![Row {
            model: Model::Popular,
            target: None,
            defence: None,
            surrogate: None,
            variant: None,
            seeds: seeds.clone(),
            runs: names(&by_seed),
            queries: None,
            figures: popular,
            difference_to_none: None,
        }];
        let targets = group(runs)?;
        for target in &targets {
            let undefended = undefended(&targets, target);
            rows.push(target_row(target, undefended, &ks, &bootstrap)?);
            for surrogate in &target.surrogates {
                let same = |other: &&Surrogate<'_>| other.architecture == surrogate.architecture;
                let counterpart = undefended.and_then(|other| other.surrogates.iter().find(same));
                rows.push(surrogate_row(target, surrogate, counterpart, &ks, &bootstrap)?);
            }
        }
        Ok(Self { protocol: first.protocol.conditions.clone(), ks, seeds, rows })
    }

    /// The names of the figures that are drawn, and whose differences have tables of their own in a grid.
    pub fn drawn(&self) -> Vec<String> {
        let measures = metrics::of_ranks(Ks::First(&self.ks));
        measures.iter().filter(|measure| measure.metric.drawn).map(ToString::to_string).collect()
    }

    /// The architectures of all targets, each once.
    pub fn targets(&self) -> Vec<Network> {
        distinct(self.rows.iter().filter_map(|row| row.target))
    }

    /// The architectures of all surrogates, each once.
    pub fn surrogates(&self) -> Vec<Network> {
        distinct(self.rows.iter().filter_map(|row| row.surrogate))
    }

    /// The row of the most popular items.
    pub fn popular(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.model == Model::Popular)
    }
}

/// The K at which every run was evaluated, ascending.
fn shared_ks(first: &Run, runs: &[Run]) -> anyhow::Result<Vec<usize>> {
    let mut shared = first.protocol.ks.clone();
    for run in runs {
        let before = shared.clone();
        shared.retain(|k| run.protocol.ks.contains(k));
        if shared.is_empty() {
            let message = format!(
                "was evaluated at {:?} (evaluate.ks) and the runs before it at {before:?}, expected one K at least that all \
                 have; evaluate them at the same, with --force",
                run.protocol.ks
            );
            return Err(run.refuse(PROTOCOL, message));
        }
    }
    shared.sort_unstable();
    Ok(shared)
}

fn distinct(architectures: impl Iterator<Item = Network>) -> Vec<Network> {
    architectures.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

fn names(runs: &Repetitions<'_>) -> Vec<String> {
    runs.values().map(|run| run.name.clone()).collect()
}

fn target_row(
    target: &Target<'_>,
    undefended: Option<&Target<'_>>,
    ks: &[usize],
    bootstrap: &Bootstrap,
) -> anyhow::Result<Row> {
    let counterpart = undefended.map(|other| &other.runs);
    Ok(Row {
        model: Model::Target,
        target: Some(target.architecture),
        defence: Some(target.defence.to_owned()),
        surrogate: None,
        variant: target.variant.clone(),
        seeds: target.runs.keys().copied().collect(),
        runs: names(&target.runs),
        queries: None,
        figures: gather(&target.runs, "target", &metrics::of_ranks(Ks::Shown(ks)), |run| {
            Some(&run.metrics.target)
        })?,
        difference_to_none: difference((ks, bootstrap), &target.runs, counterpart, TARGET_RANK)?,
    })
}

fn surrogate_row(
    target: &Target<'_>,
    surrogate: &Surrogate<'_>,
    counterpart: Option<&Surrogate<'_>>,
    ks: &[usize],
    bootstrap: &Bootstrap,
) -> anyhow::Result<Row> {
    let runs = &surrogate.runs;
    let shown = Ks::Shown(ks);
    let (quality, lists, scores) =
        (metrics::of_ranks(shown), metrics::of_lists(shown), metrics::of_scores(shown));
    let mut figures = gather(runs, "surrogate", &quality, |run| run.metrics.surrogate.as_ref())?;
    figures.extend(gather(runs, "fidelity.answered", &lists, |run| {
        run.metrics.fidelity.as_ref().map(|fidelity| &fidelity.answered)
    })?);
    if target.architecture != Network::FOREIGN {
        figures.extend(gather(runs, "fidelity.own", &scores, |run| {
            run.metrics.fidelity.as_ref().and_then(|fidelity| fidelity.own.as_ref())
        })?);
    }
    let of_run = |run: &&Run| run.protocol.surrogate.as_ref().and_then(|subject| subject.queries.clone());
    Ok(Row {
        model: Model::Surrogate,
        target: Some(target.architecture),
        defence: Some(target.defence.to_owned()),
        surrogate: Some(surrogate.architecture),
        variant: surrogate.variant.clone().or_else(|| target.variant.clone()),
        seeds: runs.keys().copied().collect(),
        runs: names(runs),
        queries: runs.values().next().and_then(of_run),
        figures,
        difference_to_none: difference(
            (ks, bootstrap),
            runs,
            counterpart.map(|other| &other.runs),
            SURROGATE_RANK,
        )?,
    })
}

/// The undefended target of the same architecture; none for the undefended itself.
fn undefended<'a, 'b>(targets: &'b [Target<'a>], target: &Target<'_>) -> Option<&'b Target<'a>> {
    if target.defence == "none" {
        return None;
    }
    targets.iter().find(|other| other.defence == "none" && other.architecture == target.architecture)
}

/// Refuse to put side by side what was not measured alike.
pub(crate) fn check_alike(first: &Run, runs: &[Run]) -> anyhow::Result<()> {
    let expected = &first.protocol.conditions;
    for run in runs {
        let found = &run.protocol.conditions;
        if (&found.fingerprint, &found.sequences) != (&expected.fingerprint, &expected.sequences) {
            let message = format!(
                "speaks of another dataset than {} (items {} and sequences {} against {} and {}); report on one dataset at a \
                 time",
                first.name,
                shorten(&found.fingerprint),
                shorten(&found.sequences),
                shorten(&expected.fingerprint),
                shorten(&expected.sequences)
            );
            return Err(run.refuse(PROTOCOL, message));
        }
        if found != expected {
            let message = format!(
                "was measured in another way than {}: {found}, against {expected}; evaluate all runs with the same settings",
                first.name
            );
            return Err(run.refuse(PROTOCOL, message));
        }
        if run.ranks.users != first.ranks.users {
            let message = format!("holds other users than {}; evaluate both on the same data", first.name);
            return Err(run.refuse(RANKS, message));
        }
    }
    Ok(())
}

/// Enough of a hash to compare by eye.
fn shorten(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// Some figures of a section of metrics.json over the seeds.
pub(crate) fn gather<'a, Function>(
    runs: &Repetitions<'a>,
    section: &str,
    measures: &[Measure<Function>],
    of: impl Fn(&'a Run) -> Option<&'a Figures>,
) -> anyhow::Result<Values> {
    let mut values = Values::new();
    for measure in measures {
        let name = measure.to_string();
        let mut figures = Vec::with_capacity(runs.len());
        for run in runs.values() {
            let missing = |message: String| run.refuse(METRICS, message);
            let section_figures = of(run).ok_or_else(|| {
                missing(format!(
                    "no {section} figures, though protocol.json names a surrogate; evaluate it again"
                ))
            })?;
            figures.push(section_figures.get(&name).copied().ok_or_else(|| {
                missing(match measure.k {
                    Some(k) => format!(
                        "{section} holds no {name}; evaluate it again with --force and {k} among evaluate.ks"
                    ),
                    None => format!("{section} holds no {name}; evaluate it again with --force"),
                })
            })?);
        }
        values.insert(name, Value::over(&figures));
    }
    Ok(values)
}

/// The paired differences of a cell to its counterpart, from the ranks in one column of both; none where there is no
/// counterpart or no seed that both have.
fn difference(
    (ks, bootstrap): (&[usize], &Bootstrap),
    runs: &Repetitions<'_>,
    counterpart: Option<&Repetitions<'_>>,
    column: &str,
) -> anyhow::Result<Option<Figures>> {
    let Some(counterpart) = counterpart else { return Ok(None) };
    let measures = metrics::of_ranks(Ks::Shown(ks));
    // (measures, users), summed over the seeds
    let (mut sums, mut seeds): (Vec<Vec<f64>>, usize) = (Vec::new(), 0);
    for (seed, run) in runs {
        let Some(other) = counterpart.get(seed) else { continue };
        let (left, right) = (ranks_of(run, column)?, ranks_of(other, column)?);
        for (place, measure) in measures.iter().enumerate() {
            let of =
                |ranks: &[Option<u32>]| ranks.iter().map(|&rank| measure.value(rank)).collect::<Vec<_>>();
            let differences = paired_difference(&of(left), &of(right))?;
            match sums.get_mut(place) {
                None => sums.push(differences),
                Some(sums) => sums.iter_mut().zip(&differences).for_each(|(sum, value)| *sum += value),
            }
        }
        seeds += 1;
    }
    if seeds == 0 {
        return Ok(None);
    }
    sums.iter_mut().flatten().for_each(|sum| *sum /= seeds as f64);
    let columns: Vec<&[f64]> = sums.iter().map(Vec::as_slice).collect();
    let intervals = bootstrap.intervals(&columns).context("comparing with the undefended target")?;
    let names = measures.iter().map(ToString::to_string);
    Ok(Some(names.zip(intervals.into_iter().map(Figure::from)).collect()))
}

fn ranks_of<'a>(run: &'a Run, column: &str) -> anyhow::Result<&'a [Option<u32>]> {
    match run.ranks.column(column) {
        Some(Column::Counts(ranks)) => Ok(ranks),
        Some(Column::Values(_)) => {
            Err(run.refuse(RANKS, format!("column `{column}` is float64, expected uint32")))
        }
        None => Err(run.refuse(RANKS, format!("has no column `{column}`; evaluate it again"))),
    }
}
