//! From evaluated copies to curves: quality and fidelity of each thief's copy over his price, and the fewest questions that reach a share
//! of the target.
//!
//! Fidelity is that to the target model's *own* lists, what a thief wants, whatever a defence made of the answers. Shares of quality are
//! taken of the undefended target of the same architecture where it is among the runs, for that is what is to be stolen, else of the
//! target itself; shares of agreement and overlap, of 1.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use artifact::checkpoint::Learning;
use artifact::queries::{Price, QueryHeader};
use indexmap::IndexMap;
use metrics::{Bootstrap, Ks, Measure, OfRank};
use serde::Serialize;
use serde_json::Value as Json;
use stage::Refusal;

use crate::figures::{Conditions, Network, PROTOCOL, SURROGATE_RANK, Subject};
use crate::report::grouping::{Repetitions, Run, in_order, order_of};
use crate::report::inference::Inference;
use crate::report::table::{Spread, Values, check_alike, gather, sample, worth};

/// Shares of the target whose price is told.
pub const SHARES: [f64; 3] = [0.5, 0.8, 0.9];

/// Who steals, and what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Thief {
    /// The target's network.
    pub target: Network,
    /// Its defence.
    pub defence: String,
    /// The copy's network.
    pub surrogate: Network,
    /// How items are chosen, with whatever departs from the defaults.
    pub strategy: String,
    /// Length of the lists asked for.
    pub k: usize,
    /// What is learned from a list, and what is suspected, with whatever departs from the defaults.
    pub learning: String,
}

/// What a thief has at a price.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// What it cost.
    pub price: Price,
    /// The seeds it was measured with.
    pub seeds: Vec<u64>,
    /// The runs it comes from, in the order of the seeds.
    pub runs: Vec<String>,
    /// Quality of the copy, and fidelity to the target's own lists.
    pub figures: Values,
}

/// The curve of a thief.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// Whose.
    pub thief: Thief,
    /// By price, in ascending order of questions.
    pub points: Vec<Point>,
    /// Of the budgets that were tried, the fewest questions that reach each of [`SHARES`], by figure; none where none does.
    pub needed: IndexMap<String, [Option<u64>; SHARES.len()]>,
}

/// What is stolen from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Source {
    /// Its network.
    pub architecture: Network,
    /// Its defence.
    pub defence: String,
    /// Quality of what it answers.
    pub figures: Values,
}

/// All curves.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Theft {
    /// How figures were taken.
    pub protocol: Conditions,
    /// All seeds that some point was measured with.
    pub seeds: Vec<u64>,
    /// The targets, by architecture and defence.
    pub targets: Vec<Source>,
    /// The curves, those against one target together.
    pub curves: Vec<Curve>,
}

/// Where curves are cut: at 10, as theft is commonly measured. A run without it is refused by its name.
pub(super) const KS: Ks<'static> = Ks::First(&[10]);

/// The figures of quality that curves show: those that charts draw.
fn quality() -> Vec<Measure<OfRank>> {
    metrics::of_ranks(KS).into_iter().filter(|measure| measure.metric.drawn).collect()
}

/// Names of all figures, those of quality first.
pub fn figures() -> Vec<String> {
    let fidelity = metrics::of_lists(KS);
    quality().iter().map(ToString::to_string).chain(fidelity.iter().map(ToString::to_string)).collect()
}

impl Theft {
    /// The curves of runs.
    ///
    /// Fails, naming the run, where they were not measured alike, one speaks of no copy whose price is known, or nothing tells two
    /// apart.
    pub fn of(runs: &[Run]) -> anyhow::Result<Self> {
        let first = runs
            .iter()
            .min_by(|left, right| in_order(left, right))
            .ok_or_else(|| Refusal::new("no run to draw curves of: name the directories after --runs"))?;
        check_alike(first, runs)?;
        let mut by_thief: BTreeMap<Thief, BTreeMap<u64, (Price, Repetitions<'_>)>> = BTreeMap::new();
        let mut by_target: BTreeMap<(Network, String), Repetitions<'_>> = BTreeMap::new();
        for run in runs {
            if run.protocol.target.architecture == Network::FOREIGN {
                let message = "the target is run by others, and how far a copy agrees with its own lists, which curves show, nobody knows; \
                               leave it out, `gro-evaluate report` shows what was measured";
                return Err(run.refuse(PROTOCOL, message));
            }
            let (thief, price) = thief_of(run)?;
            by_target
                .entry((thief.target, thief.defence.clone()))
                .or_default()
                .insert(run.protocol.seed, run);
            let (_, repetitions) = by_thief
                .entry(thief)
                .or_default()
                .entry(price.questions)
                .or_insert((price, Repetitions::new()));
            if let Some(other) = repetitions.insert(run.protocol.seed, run) {
                let message = format!(
                    "has the seed ({}), the thief and the questions of {}, and nothing tells the two apart; leave one out",
                    run.protocol.seed, other.name
                );
                return Err(run.refuse(PROTOCOL, message));
            }
        }
        let mut seeds: Vec<u64> = runs.iter().map(|run| run.protocol.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        let mut targets: Vec<Source> = by_target
            .into_iter()
            .map(|((architecture, defence), runs)| {
                let figures = gather(&runs, "target", &quality(), |run| Some(&run.metrics.target))?;
                Ok(Source { architecture, defence, figures })
            })
            .collect::<anyhow::Result<_>>()?;
        targets.sort_by(|a, b| {
            (a.architecture, order_of(&a.defence)).cmp(&(b.architecture, order_of(&b.defence)))
        });
        let curves = by_thief
            .into_iter()
            .map(|(thief, points)| {
                let points = points.into_values().map(|(price, runs)| point(price, &runs));
                let points = points.collect::<anyhow::Result<Vec<Point>>>()?;
                let needed = needed(&points, wanted(&targets, &thief));
                Ok(Curve { thief, points, needed })
            })
            .collect::<anyhow::Result<_>>()?;
        let mut theft = Self { protocol: first.protocol.conditions.clone(), seeds, targets, curves };
        theft.infer(runs)?;
        Ok(theft)
    }

    /// Intervals over users and seeds together, of points with several seeds; of fidelity where all of these kept it user by user.
    fn infer(&mut self, runs: &[Run]) -> anyhow::Result<()> {
        let by_name: BTreeMap<&str, &Run> = runs.iter().map(|run| (run.name.as_str(), run)).collect();
        let bootstrap = Bootstrap {
            resamples: self.protocol.bootstrap,
            seed: self.seeds.first().copied().unwrap_or_default(),
        };
        let mut inference = Inference::new(bootstrap);
        let mut waiting = Vec::new();
        let points = self.curves.iter_mut().flat_map(|curve| &mut curve.points);
        for Point { runs, figures, .. } in points.filter(|point| point.seeds.len() > 1) {
            let runs: Vec<&Run> =
                runs.iter().filter_map(|name| by_name.get(name.as_str()).copied()).collect();
            let measures = quality();
            for (name, value) in figures {
                let columns: Option<Vec<Vec<f64>>> =
                    match measures.iter().find(|measure| measure.to_string() == *name) {
                        Some(measure) => Some(
                            runs.iter()
                                .map(|run| worth(run, SURROGATE_RANK, measure))
                                .collect::<anyhow::Result<_>>()?,
                        ),
                        None => runs.iter().map(|run| run.own_fidelity(name)).collect(),
                    };
                if let Some(columns) = columns {
                    waiting.push((inference.figure(sample(&columns)?)?, value));
                }
            }
        }
        let found = inference.finish()?;
        for (place, value) in waiting {
            if let Spread::Seeds { low, high, .. } = &mut value.spread {
                let interval = found.interval(place);
                (*low, *high) = (Some(interval.low), Some(interval.high));
            }
        }
        Ok(())
    }

    /// The target that a thief steals from.
    pub fn source(&self, thief: &Thief) -> Option<&Source> {
        self.targets.iter().find(|source| source.is_of(thief))
    }

    /// The most questions at which every curve has a point; none where there is no such number.
    pub fn common_budget(&self) -> Option<u64> {
        let has = |curve: &Curve, questions: u64| curve.at(questions).is_some();
        let tried = self.curves.first()?.points.iter().rev().map(|point| point.price.questions);
        tried.into_iter().find(|&questions| self.curves.iter().all(|curve| has(curve, questions)))
    }
}

impl Source {
    /// Whether the thief steals from it.
    pub fn is_of(&self, thief: &Thief) -> bool {
        self.architecture == thief.target && self.defence == thief.defence
    }
}

impl Curve {
    /// The point at so many questions.
    pub fn at(&self, questions: u64) -> Option<&Point> {
        self.points.iter().find(|point| point.price.questions == questions)
    }
}

/// Whose copy a run evaluated, and what it cost.
fn thief_of(run: &Run) -> anyhow::Result<(Thief, Price)> {
    let Some(copy) = &run.protocol.surrogate else {
        return Err(run.refuse(PROTOCOL, "names no surrogate; evaluate one with --surrogate"));
    };
    let Some(queries) = &copy.queries else {
        let message = "does not say what was asked for the surrogate; distil it again, and evaluate it again";
        return Err(run.refuse(PROTOCOL, message));
    };
    let target = &run.protocol.target;
    let thief = Thief {
        target: target.architecture,
        defence: target.defence.clone(),
        surrogate: copy.architecture,
        strategy: strategy_of(queries),
        k: queries.k,
        learning: learning_of(copy.learning.as_ref()),
    };
    Ok((thief, queries.price()))
}

/// How items were chosen, in words.
pub(crate) fn strategy_of(queries: &QueryHeader) -> String {
    let Some(chosen) = &queries.generation else { return "not recorded".to_owned() };
    let mut words = chosen.strategy.clone();
    if words == "short" && queries.sequences > 0 {
        // How short its accounts are is what it is about.
        let _ = write!(words, " by {}", queries.queries.div_ceil(queries.sequences));
    }
    if chosen.seed_sequences > 0.0 {
        let _ = write!(words, ", {:.0} % begun with real histories", 100.0 * chosen.seed_sequences);
    }
    words + &choices(&chosen.choices)
}

/// How the copy of a run was asked for and learned, in words; none where its checkpoint does not say.
pub(crate) fn way_of(run: &Run) -> Option<String> {
    way_of_subject(run.protocol.surrogate.as_ref()?)
}

/// The same of the copy itself.
pub(crate) fn way_of_subject(copy: &Subject) -> Option<String> {
    let queries = copy.queries.as_ref()?;
    let learning = learning_of(copy.learning.as_ref());
    Some(format!("{}, lists of {}: {learning}", strategy_of(queries), queries.k))
}

/// How it was learned, in words; before this was recorded, there was one way.
fn learning_of(learning: Option<&Learning>) -> String {
    let Some(learning) = learning else { return "hinge".to_owned() };
    let mut words = learning.loss.clone();
    if learning.suspicion != "none" {
        let _ = write!(words, ", suspects {}", learning.suspicion);
    }
    words + &choices(&learning.choices)
}

/// Choices in words: `, pick 1/place`; what a section of settings holds stands without its name. By what an epoch was kept tells
/// nobody what a thief does.
fn choices(choices: &BTreeMap<String, Json>) -> String {
    let mut words = String::new();
    for (key, value) in choices.iter().filter(|(key, _)| *key != "keep_by") {
        match value {
            Json::Object(section) => {
                for (key, value) in section {
                    let _ = write!(words, ", {key} {}", plain(value));
                }
            }
            _ => {
                let _ = write!(words, ", {} {}", key.replace('_', " "), plain(value));
            }
        }
    }
    words
}

fn plain(value: &Json) -> String {
    value.to_string().trim_matches('"').to_owned()
}

fn point(price: Price, runs: &Repetitions<'_>) -> anyhow::Result<Point> {
    let mut figures = gather(runs, "surrogate", &quality(), |run| run.metrics.surrogate.as_ref())?;
    figures.extend(gather(runs, "fidelity.own", &metrics::of_lists(KS), |run| {
        run.metrics.fidelity.as_ref().and_then(|fidelity| fidelity.own.as_ref())
    })?);
    Ok(Point {
        price,
        seeds: runs.keys().copied().collect(),
        runs: runs.values().map(|run| run.name.clone()).collect(),
        figures,
    })
}

/// What of each figure would be a whole theft.
fn wanted(targets: &[Source], thief: &Thief) -> impl Fn(&str) -> f64 {
    let undefended =
        targets.iter().find(|source| source.architecture == thief.target && source.defence == "none");
    let source = undefended.or_else(|| targets.iter().find(|source| source.is_of(thief)));
    let quality = source.map(|source| source.figures.clone()).unwrap_or_default();
    // A copy whose lists are the target's own has fidelity 1.
    move |figure| quality.get(figure).map_or(1.0, |value| value.mean)
}

fn needed(points: &[Point], wanted: impl Fn(&str) -> f64) -> IndexMap<String, [Option<u64>; SHARES.len()]> {
    let reached = |figure: &str, least: f64| {
        let found =
            points.iter().find(|point| point.figures.get(figure).is_some_and(|value| value.mean >= least));
        found.map(|point| point.price.questions)
    };
    let of = |figure: String| {
        let whole = wanted(&figure);
        let needed = SHARES.map(|share| reached(&figure, share * whole));
        (figure, needed)
    };
    figures().into_iter().map(of).collect()
}
