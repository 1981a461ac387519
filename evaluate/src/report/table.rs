//! From evaluated runs to the rows of the report: what each cell's figures are, and how far they lie from those of the
//! same model without a defence.
//!
//! The order is fixed: the most popular items; then for each target architecture and each defence (the answer policies,
//! then any other by name) the target and its surrogates. The figures are all metrics of [`metrics::METRICS`] at the K's
//! that these show, or the nearest at which all runs were evaluated: quality of every model; of surrogates also fidelity, to the lists that the target answers and to the
//! scores of its own.
//!
//! *Seeds.* A figure measured once stands with the 95 % bootstrap interval over users that its run found. A figure
//! measured with several seeds is the mean over the seeds with their sample standard deviation (divisor seeds - 1), and with a 95 %
//! interval over users and seeds together where the ranks hold it user by user.
//!
//! *Differences.* A target is compared with the undefended target of the same architecture; a surrogate with the surrogate of the same
//! architecture that copied that undefended target in the same way (the only one, where either side has no other): both of the same seed
//! and on the same users. The difference is taken user by user and seed by seed, so that its interval is far narrower than two intervals
//! side by side suggest; with several seeds it speaks of other seeds as well as of other users. All differences of a report by
//! one figure are a family, for which chances are corrected.

use artifact::queries::QueryHeader;
use artifact::ranks::{Column, RANKS};
use indexmap::IndexMap;
use metrics::{Bootstrap, Ks, Measure, OfRank, Sample, mean, paired_difference};
use serde::{Deserialize, Serialize};
use stage::Refusal;

use super::grouping::{Repetitions, Run, Surrogate, Target, group, in_order};
use super::inference::{Differences, Found, Inference, Place};
use super::likeness;
use super::verdict::{Draft, Verdict};
use crate::figures::{
    Conditions, Figure, Figures, METRICS, Network, POPULAR_RANK, PROTOCOL, SURROGATE_RANK, TARGET_RANK,
};
use crate::theft::curves::way_of;

/// What a row speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// The mean over users, and over seeds where there are several.
    pub mean: f64,
    /// How far it may be off.
    #[serde(flatten)]
    pub spread: Spread,
}

/// How far a figure may be off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Spread {
    /// Of several seeds: their sample standard deviation, and the 95 % interval over users and seeds together.
    Seeds {
        /// Divisor: seeds - 1.
        deviation: f64,
        /// Lower end of the interval; none where the figure is not kept user by user.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        low: Option<f64>,
        /// Its upper end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        high: Option<f64>,
    },
    /// Of one seed: the 95 % bootstrap interval over users.
    Interval {
        /// Its lower end.
        low: f64,
        /// Its upper end.
        high: f64,
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
        Self { mean: centre, spread: Spread::Seeds { deviation, low: None, high: None } }
    }

    /// The 95 % interval, where there is one.
    pub fn interval(&self) -> Option<(f64, f64)> {
        match self.spread {
            Spread::Interval { low, high } => Some((low, high)),
            Spread::Seeds { low, high, .. } => low.zip(high),
        }
    }

    /// The ends of a whisker: the interval, or, where there is none, one standard deviation to each side.
    pub fn ends(&self) -> (f64, f64) {
        match self.spread {
            Spread::Interval { low, high } | Spread::Seeds { low: Some(low), high: Some(high), .. } => {
                (low, high)
            }
            Spread::Seeds { deviation, .. } => (self.mean - deviation, self.mean + deviation),
        }
    }
}

/// Figures of a cell by name.
pub type Values = IndexMap<String, Value>;

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What it speaks of.
    pub model: Model,
    /// The target's network; none for the most popular items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Network>,
    /// The target's defence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defence: Option<String>,
    /// The surrogate's network, where the row speaks of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surrogate: Option<Network>,
    /// What tells the row from another of the same networks and defence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The seeds it was measured with.
    pub seeds: Vec<u64>,
    /// The runs that the figures come from, in the order of the seeds.
    pub runs: Vec<String>,
    /// What the attack asked, where the row speaks of a surrogate and its checkpoint says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries: Option<QueryHeader>,
    /// How the thief asked and learned, in words, where the row speaks of a surrogate and its checkpoint says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<String>,
    /// Quality, and of surrogates fidelity.
    pub figures: Values,
    /// This model's figures minus those of its counterpart without a defence, user by user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference_to_none: Option<Differences>,
}

/// `report.json`: what all rows share, and the rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// How the figures were taken.
    pub protocol: Conditions,
    /// The K of HR@K and the like at which all runs were evaluated.
    pub ks: Vec<usize>,
    /// All seeds that some row was measured with.
    pub seeds: Vec<u64>,
    /// How many differences by each figure were tested, for all of which chances are corrected.
    pub comparisons: IndexMap<String, usize>,
    /// The rows, in the order of the report.
    pub rows: Vec<Row>,
    /// What each defence comes to, in the same order.
    pub verdicts: Vec<Verdict>,
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
        let mut drafts =
            Drafts { ks: &ks, inference: Inference::new(bootstrap), rows: Vec::new(), waiting: Vec::new() };
        drafts.popular(&by_seed)?;
        let targets = group(runs)?;
        // The places of the rows, by target: its own, and those of its surrogates.
        let mut places = Vec::with_capacity(targets.len());
        for target in &targets {
            let undefended = undefended(&targets, target);
            let own = drafts.target(target, undefended)?;
            let mut copies = Vec::with_capacity(target.surrogates.len());
            for surrogate in &target.surrogates {
                let counterpart = undefended.and_then(|other| counterpart(target, surrogate, other));
                copies.push(drafts.surrogate(target, surrogate, counterpart)?);
            }
            places.push((own, copies));
        }
        let headline = drawn(&ks).into_iter().next();
        let verdicts = match &headline {
            Some(headline) => drafts.verdicts(&targets, &places, headline)?,
            None => Vec::new(),
        };
        let alike = metrics::of_lists(Ks::First(&ks)).first().map(ToString::to_string).unwrap_or_default();
        let most_alike = likeness::drafts(&targets, &alike, &mut drafts.inference)?;
        let (rows, found) = drafts.settle()?;
        let figure = headline.map(|headline| headline.to_string()).unwrap_or_default();
        let settle = |(verdict, most_alike): (Draft, Option<likeness::Draft>)| {
            verdict.settle(&figure, &rows, &found, most_alike.map(|draft| draft.settle(&found)))
        };
        let verdicts = verdicts.into_iter().zip(most_alike).filter_map(settle).collect();
        let protocol = first.protocol.conditions.clone();
        Ok(Self { protocol, comparisons: found.tested().clone(), seeds, rows, verdicts, ks })
    }

    /// The names of the figures that are drawn, and whose differences have tables of their own in a grid.
    pub fn drawn(&self) -> Vec<String> {
        drawn(&self.ks).iter().map(ToString::to_string).collect()
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

/// The measures of quality that are drawn.
pub(super) fn drawn(ks: &[usize]) -> Vec<Measure<OfRank>> {
    metrics::of_ranks(Ks::First(ks)).into_iter().filter(|measure| measure.metric.drawn).collect()
}

fn names(runs: &Repetitions<'_>) -> Vec<String> {
    runs.values().map(|run| run.name.clone()).collect()
}

/// Figures of a row whose interval or difference is to come.
struct Waiting {
    row: usize,
    figure: String,
    place: Place,
    difference: bool,
}

/// Rows, and what is to be resampled for them.
struct Drafts<'a> {
    ks: &'a [usize],
    inference: Inference,
    rows: Vec<Row>,
    waiting: Vec<Waiting>,
}

impl Drafts<'_> {
    fn quality(&self) -> Vec<Measure<OfRank>> {
        metrics::of_ranks(Ks::Shown(self.ks))
    }

    /// The row of the most popular items.
    fn popular(&mut self, by_seed: &Repetitions<'_>) -> anyhow::Result<()> {
        let quality = self.quality();
        let figures = gather(by_seed, "popular", &quality, |run| Some(&run.metrics.popular))?;
        self.rows.push(Row {
            model: Model::Popular,
            target: None,
            defence: None,
            surrogate: None,
            variant: None,
            seeds: by_seed.keys().copied().collect(),
            runs: names(by_seed),
            queries: None,
            way: None,
            figures,
            difference_to_none: None,
        });
        // Runs of before did not keep it.
        if by_seed.values().all(|run| run.ranks.column(POPULAR_RANK).is_some()) {
            self.of_ranks(by_seed, POPULAR_RANK)?;
        }
        Ok(())
    }

    fn target(&mut self, target: &Target<'_>, undefended: Option<&Target<'_>>) -> anyhow::Result<usize> {
        let quality = self.quality();
        let figures = gather(&target.runs, "target", &quality, |run| Some(&run.metrics.target))?;
        self.rows.push(Row {
            model: Model::Target,
            target: Some(target.architecture),
            defence: Some(target.defence.to_owned()),
            surrogate: None,
            variant: target.variant.clone(),
            seeds: target.runs.keys().copied().collect(),
            runs: names(&target.runs),
            queries: None,
            way: None,
            figures,
            difference_to_none: None,
        });
        self.of_ranks(&target.runs, TARGET_RANK)?;
        self.differences(&target.runs, undefended.map(|other| &other.runs), TARGET_RANK)?;
        Ok(self.rows.len() - 1)
    }

    fn surrogate(
        &mut self,
        target: &Target<'_>,
        surrogate: &Surrogate<'_>,
        counterpart: Option<&Surrogate<'_>>,
    ) -> anyhow::Result<usize> {
        let runs = &surrogate.runs;
        let shown = Ks::Shown(self.ks);
        let (lists, scores) = (metrics::of_lists(shown), metrics::of_scores(shown));
        let mut figures = gather(runs, "surrogate", &self.quality(), |run| run.metrics.surrogate.as_ref())?;
        figures.extend(gather(runs, "fidelity.answered", &lists, |run| {
            run.metrics.fidelity.as_ref().map(|fidelity| &fidelity.answered)
        })?);
        // Nobody's scores are seen of a target that others run, and a table has none.
        if target.architecture != Network::FOREIGN && surrogate.architecture != Network::TABLE {
            figures.extend(gather(runs, "fidelity.own", &scores, |run| {
                run.metrics.fidelity.as_ref().and_then(|fidelity| fidelity.own.as_ref())
            })?);
        }
        let of_run = |run: &&Run| run.protocol.surrogate.as_ref().and_then(|subject| subject.queries.clone());
        self.rows.push(Row {
            model: Model::Surrogate,
            target: Some(target.architecture),
            defence: Some(target.defence.to_owned()),
            surrogate: Some(surrogate.architecture),
            variant: surrogate.variant.clone().or_else(|| target.variant.clone()),
            seeds: runs.keys().copied().collect(),
            runs: names(runs),
            queries: runs.values().next().and_then(of_run),
            way: runs.values().next().and_then(|run| way_of(run)),
            figures,
            difference_to_none: None,
        });
        self.of_ranks(runs, SURROGATE_RANK)?;
        let fidelity = lists.iter().map(ToString::to_string).chain(scores.iter().map(ToString::to_string));
        for name in fidelity.filter(|_| runs.len() > 1) {
            let columns: Option<Vec<Vec<f64>>> = runs.values().map(|run| values_of(run, &name)).collect();
            if let Some(columns) = columns {
                self.figure(name, &columns)?;
            }
        }
        self.differences(runs, counterpart.map(|other| &other.runs), SURROGATE_RANK)?;
        Ok(self.rows.len() - 1)
    }

    /// Hand in the quality of several seeds; that of one stands with the interval its run found.
    fn of_ranks(&mut self, runs: &Repetitions<'_>, column: &str) -> anyhow::Result<()> {
        if runs.len() < 2 {
            return Ok(());
        }
        for measure in self.quality() {
            let columns = runs.values().map(|run| worth(run, column, &measure));
            let columns = columns.collect::<anyhow::Result<Vec<_>>>()?;
            self.figure(measure.to_string(), &columns)?;
        }
        Ok(())
    }

    fn figure(&mut self, figure: String, columns: &[Vec<f64>]) -> anyhow::Result<()> {
        let place = self.inference.figure(sample(columns)?)?;
        self.waiting.push(Waiting { row: self.rows.len() - 1, figure, place, difference: false });
        Ok(())
    }

    /// Hand in the paired differences of the last row to its counterpart, from the ranks in one column of both; none where there is no
    /// counterpart or no seed that both have.
    fn differences(
        &mut self,
        runs: &Repetitions<'_>,
        counterpart: Option<&Repetitions<'_>>,
        column: &str,
    ) -> anyhow::Result<()> {
        let Some(counterpart) = counterpart else { return Ok(()) };
        for measure in self.quality() {
            let columns = paired(runs, counterpart, column, &measure)?;
            if columns.is_empty() {
                return Ok(());
            }
            let place = self.inference.difference(&measure.to_string(), sample(&columns)?)?;
            let row = self.rows.len() - 1;
            self.waiting.push(Waiting { row, figure: measure.to_string(), place, difference: true });
        }
        Ok(())
    }

    /// What there is to say of each defence by one figure.
    fn verdicts(
        &mut self,
        targets: &[Target<'_>],
        places: &[(usize, Vec<usize>)],
        headline: &Measure<OfRank>,
    ) -> anyhow::Result<Vec<Draft>> {
        let name = headline.to_string();
        let strongest: Vec<Option<usize>> = places
            .iter()
            .map(|(_, copies)| {
                let mean =
                    |copy: usize| self.rows[copies[copy]].figures.get(&name).map_or(0.0, |value| value.mean);
                // The first of equals.
                (0..copies.len()).rev().max_by(|&left, &right| mean(left).total_cmp(&mean(right)))
            })
            .collect();
        let mut drafts = Vec::with_capacity(targets.len());
        for (number, target) in targets.iter().enumerate() {
            let other = undefended(targets, target)
                .and_then(|other| targets.iter().position(|found| std::ptr::eq(found, other)));
            let thief = strongest[number].map(|copy| &target.surrogates[copy]);
            let before = other.and_then(|other| Some(&targets[other].surrogates[strongest[other]?]));
            let against = match (thief, before) {
                (Some(thief), Some(before)) => {
                    let columns = paired(&thief.runs, &before.runs, SURROGATE_RANK, headline)?;
                    if columns.is_empty() {
                        None
                    } else {
                        // Where he is the strongest of both, the difference of his row says this; a family holds a difference once.
                        let own = other.and_then(|other| counterpart(target, thief, &targets[other]));
                        let tested = own.filter(|&own| std::ptr::eq(own, before)).and_then(|_| {
                            let row = strongest[number].map(|copy| places[number].1[copy])?;
                            self.waiting
                                .iter()
                                .find(|one| one.difference && one.row == row && one.figure == name)
                        });
                        let place = match tested.map(|tested| tested.place) {
                            Some(place) => place,
                            None => self.inference.difference(&name, sample(&columns)?)?,
                        };
                        Some((place, mean_over(&before.runs, &thief.runs, SURROGATE_RANK, headline)?))
                    }
                }
                _ => None,
            };
            let lead = match (thief, before, other) {
                (Some(thief), Some(before), Some(other)) => {
                    let columns = leads(target, &targets[other], (&thief.runs, &before.runs), headline)?;
                    columns.map(|columns| self.inference.difference(&name, sample(&columns)?)).transpose()?
                }
                _ => None,
            };
            let of_thief = thief.and_then(|thief| thief.runs.values().next());
            let (own, copies) = &places[number];
            let undefended =
                if target.defence == "none" { Some(*own) } else { other.map(|other| places[other].0) };
            let shared = match other.map(|other| &targets[other].runs) {
                Some(runs) if !runs.keys().eq(target.runs.keys()) => {
                    let mean_of = |of: &Repetitions<'_>, seeds: &Repetitions<'_>| {
                        mean_over(of, seeds, TARGET_RANK, headline)
                    };
                    let both = runs.keys().any(|seed| target.runs.contains_key(seed));
                    both.then(|| {
                        Ok::<_, anyhow::Error>((mean_of(&target.runs, runs)?, mean_of(runs, &target.runs)?))
                    })
                    .transpose()?
                }
                _ => None,
            };
            drafts.push(Draft {
                row: *own,
                undefended,
                shared,
                thieves: copies.len(),
                strongest: strongest[number].map(|copy| copies[copy]),
                way: of_thief.and_then(|run| way_of(run)),
                price: of_thief
                    .and_then(|run| Some(run.protocol.surrogate.as_ref()?.queries.as_ref()?.price())),
                against,
                lead,
                settings: target
                    .runs
                    .values()
                    .next()
                    .map(|run| run.protocol.target.settings.clone())
                    .unwrap_or_default(),
                checkpoints: target.runs.values().map(|run| run.protocol.target.checkpoint.clone()).collect(),
            });
        }
        Ok(drafts)
    }

    /// The rows with everything that was resampled.
    fn settle(self) -> anyhow::Result<(Vec<Row>, Found)> {
        let found = self.inference.finish()?;
        let mut rows = self.rows;
        for Waiting { row, figure, place, difference } in self.waiting {
            let row = &mut rows[row];
            if difference {
                let differences = row.difference_to_none.get_or_insert_default();
                differences.extend(found.difference(place).map(|difference| (figure, difference)));
            } else if let Some(Value { spread: Spread::Seeds { low, high, .. }, .. }) =
                row.figures.get_mut(&figure)
            {
                let interval = found.interval(place);
                (*low, *high) = (Some(interval.low), Some(interval.high));
            }
        }
        Ok((rows, found))
    }
}

pub(crate) fn sample(columns: &[Vec<f64>]) -> anyhow::Result<Sample> {
    Ok(Sample::new(&columns.iter().map(Vec::as_slice).collect::<Vec<_>>())?)
}

/// What the ranks in a column of a run are worth, `(users)`.
pub(crate) fn worth(run: &Run, column: &str, measure: &Measure<OfRank>) -> anyhow::Result<Vec<f64>> {
    Ok(ranks_of(run, column)?.iter().map(|&rank| measure.value(rank)).collect())
}

/// Values that a run keeps of every user; none where it does not.
fn values_of(run: &Run, column: &str) -> Option<Vec<f64>> {
    match run.ranks.column(column)? {
        Column::Values(values) => values.iter().copied().collect(),
        Column::Counts(_) => None,
    }
}

/// The mean over those seeds of `runs` that `seeds` has as well.
fn mean_over(
    runs: &Repetitions<'_>,
    seeds: &Repetitions<'_>,
    column: &str,
    measure: &Measure<OfRank>,
) -> anyhow::Result<f64> {
    let shared = runs.iter().filter(|(seed, _)| seeds.contains_key(*seed));
    let means = shared.map(|(_, run)| Ok(mean(&worth(run, column, measure)?)));
    Ok(mean(&means.collect::<anyhow::Result<Vec<f64>>>()?))
}

/// Paired differences for each seed that both sides have, `(seeds, users)`.
pub(super) fn paired(
    runs: &Repetitions<'_>,
    counterpart: &Repetitions<'_>,
    column: &str,
    measure: &Measure<OfRank>,
) -> anyhow::Result<Vec<Vec<f64>>> {
    let both = runs.iter().filter_map(|(seed, run)| Some((run, counterpart.get(seed)?)));
    both.map(|(run, other)| {
        Ok(paired_difference(&worth(run, column, measure)?, &worth(other, column, measure)?)?)
    })
    .collect()
}

/// By how much larger a share the thief loses than users do, for each seed that all four have, `(seeds, users)`: what each user contributes to
/// the copy's loss as a share of the copy without the defence, less what he loses as a share of the undefended target. None where no seed has
/// all four, or either share is one of nothing.
fn leads(
    target: &Target<'_>,
    undefended: &Target<'_>,
    (thief, before): (&Repetitions<'_>, &Repetitions<'_>),
    measure: &Measure<OfRank>,
) -> anyhow::Result<Option<Vec<Vec<f64>>>> {
    let of_all = |seed: &u64| {
        let users = [target.runs.get(seed)?, undefended.runs.get(seed)?];
        Some((users, [thief.get(seed)?, before.get(seed)?]))
    };
    let of_seed = |(users, copies): ([&&Run; 2], [&&Run; 2])| -> anyhow::Result<_> {
        let [target, undefended] = users.map(|run| worth(run, TARGET_RANK, measure));
        let [thief, before] = copies.map(|run| worth(run, SURROGATE_RANK, measure));
        Ok(((target?, undefended?), (thief?, before?)))
    };
    let seeds = target.runs.keys().filter_map(of_all).map(of_seed);
    let seeds = seeds.collect::<anyhow::Result<Vec<_>>>()?;
    let (whole, copied): (Vec<f64>, Vec<f64>) =
        seeds.iter().map(|(users, copies)| (mean(&users.1), mean(&copies.1))).unzip();
    let (whole, copied) = (mean(&whole), mean(&copied));
    if seeds.is_empty() || whole <= 0.0 || copied <= 0.0 {
        return Ok(None);
    }
    let columns = seeds.iter().map(|(users, copies)| {
        let lost_by_users = paired_difference(&users.1, &users.0)?;
        let lost_by_thief = paired_difference(&copies.1, &copies.0)?;
        Ok(lost_by_thief
            .iter()
            .zip(lost_by_users)
            .map(|(thief, user)| thief / copied - user / whole)
            .collect())
    });
    Ok(Some(columns.collect::<anyhow::Result<_>>()?))
}

/// The surrogate of the undefended target that a surrogate is compared with: of the same architecture and made in the same way, or the only one
/// where either has no other.
fn counterpart<'a, 'b>(
    target: &Target<'_>,
    surrogate: &Surrogate<'_>,
    undefended: &'b Target<'a>,
) -> Option<&'b Surrogate<'a>> {
    let of_kind = |other: &&Surrogate<'_>| other.architecture == surrogate.architecture;
    let mut candidates = undefended.surrogates.iter().filter(of_kind);
    let (first, second) = (candidates.next(), candidates.next());
    if second.is_none() && target.surrogates.iter().filter(of_kind).count() == 1 {
        return first;
    }
    let way = |surrogate: &Surrogate<'_>| {
        let run = *surrogate.runs.values().next()?;
        Some((way_of(run)?, run.protocol.surrogate.as_ref()?.queries.as_ref()?.queries))
    };
    let wanted = way(surrogate)?;
    undefended.surrogates.iter().filter(of_kind).find(|other| way(other).as_ref() == Some(&wanted))
}

/// The undefended target of the same architecture; none for the undefended itself.
pub(super) fn undefended<'a, 'b>(targets: &'b [Target<'a>], target: &Target<'_>) -> Option<&'b Target<'a>> {
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

fn ranks_of<'a>(run: &'a Run, column: &str) -> anyhow::Result<&'a [Option<u32>]> {
    match run.ranks.column(column) {
        Some(Column::Counts(ranks)) => Ok(ranks),
        Some(Column::Values(_)) => {
            Err(run.refuse(RANKS, format!("column `{column}` is float64, expected uint32")))
        }
        None => Err(run.refuse(RANKS, format!("has no column `{column}`; evaluate it again"))),
    }
}
