//! What a metric is, and its columns: a metric that is cut at K has one for each K.

use std::fmt;

use artifact::names::Named;

use crate::METRICS;

/// The value of one user, from the rank of the test item, over the first K places.
pub type OfRank = fn(rank: Option<u32>, k: usize) -> f64;
/// The value of one user, from the target's list and the surrogate's, over the first K places of both.
pub type OfLists = fn(target: &[u32], surrogate: &[u32], k: usize) -> f64;
/// The value of one user, from the scores that target and surrogate give the items of the target's own list, best first,
/// over its first K places.
pub type OfScores = fn(target: &[f32], surrogate: &[f32], k: usize) -> f64;

/// A metric. Its function gives the value of *one* user; a figure in a table is the mean over users.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// What files and tables call it, without its K: `NDCG`.
    pub name: &'static str,
    /// What it is called in full.
    pub title: &'static str,
    /// What its figure says, for the legend of a report; speaks of K where the metric is cut there.
    pub meaning: &'static str,
    /// What it compares, and how.
    pub compares: Compares,
    /// Whether it is cut at K.
    pub cut: Cut,
    /// Which figures are the good ones: of a rank, for whoever is recommended to; else, for whoever copies.
    pub better: Better,
    /// Whether charts draw it, and grids tell its differences to no defence.
    pub drawn: bool,
}

/// What a metric compares, and the function that does.
#[derive(Clone, Copy, Debug)]
pub enum Compares {
    /// The rank of a user's test item with the best there is: quality, of any recommender.
    Rank(OfRank),
    /// The surrogate's list with the target's: fidelity, to answers or to the model's own lists.
    Lists(OfLists),
    /// The surrogate's scores with the target's: fidelity to the model itself.
    Scores(OfScores),
}

/// How much of a list counts.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// All of it. The function is given `usize::MAX` for K.
    Whole,
    /// The first K places, for each K of `evaluate.ks`.
    AtK {
        /// The K's of reports, the most telling first. Where runs were not evaluated at one, the nearest takes its place.
        shown: &'static [usize],
    },
}

/// Which of two figures is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// The higher.
    Higher,
    /// The lower.
    Lower,
}

impl Named for Metric {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> &'static str {
        self.title
    }
}

/// The K's at which metrics are cut.
#[derive(Clone, Copy, Debug)]
pub enum Ks<'a> {
    /// These.
    Each(&'a [usize]),
    /// Those that reports show, of these that there are.
    Shown(&'a [usize]),
    /// The most telling of those that reports show, of these that there are, where there is room for one.
    First(&'a [usize]),
}

/// A metric at one K, or over whole lists: what a column of a table holds. It shows itself as the column's name, `NDCG@10` or
/// `MRR`.
#[derive(Clone, Copy, Debug)]
pub struct Measure<Function> {
    /// The metric.
    pub metric: &'static Metric,
    /// Where it is cut, if it is.
    pub k: Option<usize>,
    function: Function,
}

impl<Function> Measure<Function> {
    fn depth(&self) -> usize {
        self.k.unwrap_or(usize::MAX)
    }
}

impl Measure<OfRank> {
    /// The value of a user whose test item has this rank; `None` is a miss.
    pub fn value(&self, rank: Option<u32>) -> f64 {
        (self.function)(rank, self.depth())
    }
}

impl Measure<OfLists> {
    /// The value of a user to whom target and surrogate list these items, best first.
    pub fn value(&self, target: &[u32], surrogate: &[u32]) -> f64 {
        (self.function)(target, surrogate, self.depth())
    }
}

impl Measure<OfScores> {
    /// The value of a user for whom target and surrogate give these scores to the items of the target's own list.
    pub fn value(&self, target: &[f32], surrogate: &[f32]) -> f64 {
        (self.function)(target, surrogate, self.depth())
    }
}

impl<Function> fmt::Display for Measure<Function> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.k {
            Some(k) => write!(formatter, "{}@{k}", self.metric.name),
            None => formatter.write_str(self.metric.name),
        }
    }
}

/// The columns of quality: all metrics of ranks, in the order of the registry, each with its K's.
pub fn of_ranks(ks: Ks<'_>) -> Vec<Measure<OfRank>> {
    measures(ks, |compares| if let Compares::Rank(function) = compares { Some(function) } else { None })
}

/// The columns of fidelity to lists, likewise.
pub fn of_lists(ks: Ks<'_>) -> Vec<Measure<OfLists>> {
    measures(ks, |compares| if let Compares::Lists(function) = compares { Some(function) } else { None })
}

/// The columns of fidelity to scores, likewise.
pub fn of_scores(ks: Ks<'_>) -> Vec<Measure<OfScores>> {
    measures(ks, |compares| if let Compares::Scores(function) = compares { Some(function) } else { None })
}

fn measures<Function: Copy>(ks: Ks<'_>, of: fn(Compares) -> Option<Function>) -> Vec<Measure<Function>> {
    let mut measures = Vec::new();
    for metric in METRICS.entries {
        let Some(function) = of(metric.compares) else { continue };
        measures.extend(metric.cuts(ks).into_iter().map(|k| Measure { metric, k, function }));
    }
    measures
}

impl Metric {
    fn cuts(&self, ks: Ks<'_>) -> Vec<Option<usize>> {
        let Cut::AtK { shown } = self.cut else { return vec![None] };
        let ks = match ks {
            Ks::Each(ks) => ks.to_vec(),
            Ks::Shown(there_are) => nearest(shown, there_are),
            Ks::First(there_are) => nearest(&shown[..shown.len().min(1)], there_are),
        };
        ks.into_iter().map(Some).collect()
    }
}

/// For each K that is wanted the nearest that there is, by their ratio, and each at most once; in ascending order.
fn nearest(wanted: &[usize], there_are: &[usize]) -> Vec<usize> {
    let ratio = |one: usize, other: usize| one.max(other) as f64 / one.min(other).max(1) as f64;
    let mut left = there_are.to_vec();
    let mut chosen = Vec::with_capacity(wanted.len());
    for &k in wanted {
        let distance = |place: &usize| ratio(left[*place], k);
        // Of two that are equally near the longer list.
        let best = (0..left.len()).rev().min_by(|one, other| distance(one).total_cmp(&distance(other)));
        chosen.extend(best.map(|place| left.swap_remove(place)));
    }
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names<Function>(measures: &[Measure<Function>]) -> Vec<String> {
        measures.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_metric_that_is_cut_has_a_column_for_each_k() {
        let names_of_ranks = |ks| names(&of_ranks(ks));
        assert_eq!(names_of_ranks(Ks::Each(&[1, 50])), ["HR@1", "HR@50", "NDCG@1", "NDCG@50", "MRR"]);
        let usual = [1, 5, 10, 20, 100];
        assert_eq!(names_of_ranks(Ks::Shown(&usual)), ["HR@10", "HR@20", "NDCG@10", "NDCG@20", "MRR"]);
        assert_eq!(names_of_ranks(Ks::First(&usual)), ["HR@10", "NDCG@10", "MRR"]);
        assert_eq!(names(&of_lists(Ks::Each(&[5]))), ["Agr@5", "EM@5", "RBO"]);
        assert_eq!(names(&of_scores(Ks::Each(&[5]))), ["KL"]);
    }

    #[test]
    fn where_a_k_of_reports_is_missing_the_nearest_is_shown() {
        for (there_are, shown, first) in [
            (&[10, 20][..], &[10, 20][..], 10),
            (&[1, 5, 10], &[5, 10], 10),
            (&[1, 3, 5], &[3, 5], 5),
            (&[50, 100], &[50, 100], 50),
            (&[5, 20], &[5, 20], 20),
            (&[1], &[1], 1),
        ] {
            let names_of = |ks| names(&of_ranks(ks));
            let hit_rates: Vec<String> = shown.iter().map(|k| format!("HR@{k}")).collect();
            assert_eq!(names_of(Ks::Shown(there_are))[..shown.len()], hit_rates);
            assert_eq!(names_of(Ks::First(there_are))[0], format!("HR@{first}"), "{there_are:?}");
        }
        assert_eq!(names(&of_ranks(Ks::Shown(&[]))), ["MRR"]);
    }

    #[test]
    fn every_metric_has_a_name_of_its_own_a_title_and_a_meaning_that_speaks_of_its_k() {
        for metric in METRICS.entries {
            assert_eq!(METRICS.names().filter(|name| *name == metric.name).count(), 1, "{}", metric.name);
            assert!(!metric.title.is_empty(), "{}", metric.name);
            let cut = matches!(metric.cut, Cut::AtK { .. });
            let speaks_of_k =
                metric.meaning.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == "K");
            assert_eq!(speaks_of_k, cut, "{}: {}", metric.name, metric.meaning);
            if let Cut::AtK { shown } = metric.cut {
                assert!(!shown.is_empty(), "{}: reports would not show it", metric.name);
            }
        }
    }

    #[test]
    fn no_metric_is_left_out_of_the_columns() {
        let first = Ks::First(&[10]);
        let shown = of_ranks(first).len() + of_lists(first).len() + of_scores(first).len();
        assert_eq!(shown, METRICS.entries.len());
    }

    #[test]
    fn the_first_rank_and_the_exact_copy_are_on_the_better_side() {
        let (list, other) = ([1, 2, 3], [4, 5, 1]);
        let (scores, others) = ([3.0, 2.0, 1.0], [1.0, 3.0, 2.0]);
        let check = |metric: &Metric, best: f64, worse: f64| match metric.better {
            Better::Higher => assert!(best > worse, "{}: {best}, {worse}", metric.name),
            Better::Lower => assert!(best < worse, "{}: {best}, {worse}", metric.name),
        };
        for measure in of_ranks(Ks::Each(&[2])) {
            check(measure.metric, measure.value(Some(1)), measure.value(Some(3)));
            check(measure.metric, measure.value(Some(1)), measure.value(None));
        }
        for measure in of_lists(Ks::Each(&[2])) {
            check(measure.metric, measure.value(&list, &list), measure.value(&list, &other));
        }
        for measure in of_scores(Ks::Each(&[2])) {
            check(measure.metric, measure.value(&scores, &scores), measure.value(&scores, &others));
        }
    }
}
