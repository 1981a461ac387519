//! How alike copies are to what they copy: the other thing that a defence can take.
//!
//! A copy can be as good as its target and recommend other items. Who wants *this* recommender, to follow what it recommends or to attack it,
//! wants its lists; so a defence is judged by the copy that agrees most with the target model's own, whatever it makes of what is answered:
//! whoever turns every list round hides nothing from a thief who turns it back. Of a target that others run only answers are seen.

use artifact::queries::Price;
use metrics::{mean, paired_difference};
use serde::{Deserialize, Serialize};

use super::grouping::{Repetitions, Run, Surrogate, Target};
use super::inference::{Difference, Found, Inference, Place};
use super::table::{sample, undefended};
use crate::figures::Network;
use crate::theft::curves::way_of;

/// The copy that is most alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MostAlike {
    /// The figure of likeness: the first of those that compare lists.
    pub figure: String,
    /// The copy's network.
    pub surrogate: Network,
    /// How its thief asked and learned, in words; none where the checkpoint does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<String>,
    /// How alike it is, 0 to 1, over all seeds.
    pub likeness: f64,
    /// What its thief paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// It against the most alike copy of the undefended target, user by user; none where a run of before did not keep what each user's list
    /// agrees with, or does not say how alike some other copy is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
    /// The same as a share of that copy's likeness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<f64>,
}

/// The same before differences are tested.
pub(super) struct Draft {
    copy: MostAlike,
    difference: Option<Place>,
}

impl Draft {
    pub(super) fn settle(self, found: &Found) -> MostAlike {
        MostAlike { difference: self.difference.and_then(|place| found.difference(place)), ..self.copy }
    }
}

/// The most alike copy of every target by one figure; none where nothing was copied.
pub(super) fn drafts(
    targets: &[Target<'_>],
    figure: &str,
    inference: &mut Inference,
) -> anyhow::Result<Vec<Option<Draft>>> {
    targets.iter().map(|target| draft(targets, target, figure, inference)).collect()
}

fn draft(
    targets: &[Target<'_>],
    target: &Target<'_>,
    figure: &str,
    inference: &mut Inference,
) -> anyhow::Result<Option<Draft>> {
    let Some((copy, likeness)) = closest(target, figure) else { return Ok(None) };
    let before = undefended(targets, target).and_then(|other| closest(other, figure));
    let (mut difference, mut change) = (None, None);
    // A copy of which a run of before does not say how alike it is may be the most alike.
    let known = |target: &Target<'_>| target.surrogates.iter().all(|copy| of_copy(copy, figure).is_some());
    let comparable = known(target) && undefended(targets, target).is_none_or(known);
    if let Some((before, _)) = before.filter(|_| comparable) {
        let columns = paired(&copy.runs, &before.runs, figure)?;
        difference = columns.map(|columns| inference.difference(figure, sample(&columns)?)).transpose()?;
        let of_both = |runs: &Repetitions<'_>, others: &Repetitions<'_>| {
            over(runs.iter().filter(|(seed, _)| others.contains_key(*seed)).map(|(_, run)| *run), figure)
        };
        change = of_both(&copy.runs, &before.runs)
            .zip(of_both(&before.runs, &copy.runs).filter(|&before| before > 0.0))
            .map(|(now, before)| now / before - 1.0);
    }
    let of_thief = copy.runs.values().next();
    let found = MostAlike {
        figure: figure.to_owned(),
        surrogate: copy.architecture,
        way: of_thief.and_then(|run| way_of(run)),
        likeness,
        price: of_thief.and_then(|run| Some(run.protocol.surrogate.as_ref()?.queries.as_ref()?.price())),
        difference: None,
        change,
    };
    Ok(Some(Draft { copy: found, difference }))
}

/// The copy of a target that is most alike, the first of equals, and how alike it is.
fn closest<'a, 'b>(target: &'b Target<'a>, figure: &str) -> Option<(&'b Surrogate<'a>, f64)> {
    let alike = |copy: &'b Surrogate<'a>| Some((copy, of_copy(copy, figure)?));
    target.surrogates.iter().rev().filter_map(alike).max_by(|left, right| left.1.total_cmp(&right.1))
}

/// How alike a copy is over all its seeds; none where a run does not say.
fn of_copy(copy: &Surrogate<'_>, figure: &str) -> Option<f64> {
    over(copy.runs.values().copied(), figure)
}

/// How alike the copy of some runs is on average; none where there are none, or one does not say.
fn over<'a>(runs: impl Iterator<Item = &'a Run>, figure: &str) -> Option<f64> {
    let means: Vec<f64> = runs.map(|run| likeness(run, figure)).collect::<Option<_>>()?;
    Some(mean(&means)).filter(|_| !means.is_empty())
}

fn likeness(run: &Run, figure: &str) -> Option<f64> {
    let fidelity = run.metrics.fidelity.as_ref()?;
    let own = if run.answers_are_own() { Some(&fidelity.answered) } else { fidelity.own.as_ref() };
    Some(own?.get(figure)?.mean)
}

/// Paired differences for each seed that both sides have, `(seeds, users)`; none where no seed has, or a run did not keep them.
fn paired(
    runs: &Repetitions<'_>,
    counterpart: &Repetitions<'_>,
    figure: &str,
) -> anyhow::Result<Option<Vec<Vec<f64>>>> {
    let both = runs.iter().filter_map(|(seed, run)| Some((*run, *counterpart.get(seed)?)));
    let values: Option<Vec<_>> =
        both.map(|(run, other)| Some((run.own_fidelity(figure)?, other.own_fidelity(figure)?))).collect();
    let Some(values) = values.filter(|values| !values.is_empty()) else { return Ok(None) };
    let columns = values.iter().map(|(of_run, of_other)| Ok(paired_difference(of_run, of_other)?));
    columns.collect::<anyhow::Result<_>>().map(Some)
}
