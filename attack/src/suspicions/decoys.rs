//! `decoys`: some lists are made up, to spoil the copy. They contradict what was answered to close histories, and are dropped.
//!
//! Two histories are close where one goes on from the other by an item, in one account, or where both end in the same item. A service
//! that doubts an account believes it at first, so the lists to the first [`YOUNG`] questions of every account are taken as true. A later
//! list is believed where it shares at least `distill.least_overlap` of its items with the latest believed list of its account, or with
//! a list that a young account got after the same last item. Lists of decoys are alike among themselves and unlike the true ones, so an
//! account that is answered with decoys is not believed again until its lists fit.

use std::collections::HashMap;

use artifact::queries::{Query, listed};

use super::{Doubt, Suspecting, Suspicion};

/// The registry's entry.
pub(super) const SUSPICION: Suspicion = Suspicion {
    name: "decoys",
    title: "Some lists are made up: those that contradict the lists of close histories are dropped",
    ordered: true,
    build: Some(|settings, k| Box::new(Decoys { k, least: settings.least_overlap, young: HashMap::new() })),
};

/// Questions of an account that are believed to be answered truly.
const YOUNG: usize = 3;

/// Lists kept for each last item, at most.
const KEPT: usize = 8;

struct Decoys {
    k: usize,
    least: f64,
    /// Lists to young accounts by the last item of the history, each sorted.
    young: HashMap<u32, Vec<Vec<u32>>>,
}

/// Share of a list that another, sorted one holds.
fn overlap(list: &[u32], other: &[u32]) -> f64 {
    list.iter().filter(|id| other.binary_search(id).is_ok()).count() as f64 / list.len() as f64
}

fn sorted(list: &[u32]) -> Vec<u32> {
    let mut list = list.to_vec();
    list.sort_unstable();
    list
}

impl Suspecting for Decoys {
    fn look(&mut self, query: &Query) {
        for (item, list) in
            query.sequence.iter().zip(query.answers.chunks_exact(self.k).map(listed)).take(YOUNG)
        {
            let kept = self.young.entry(*item).or_default();
            if kept.len() < KEPT {
                kept.push(sorted(list));
            }
        }
    }

    fn conclude(self: Box<Self>) -> Box<dyn Doubt> {
        self
    }
}

impl Doubt for Decoys {
    fn read(&self, query: &mut Query) -> Option<Vec<bool>> {
        let mut latest: Vec<u32> = Vec::new();
        let lists = query.sequence.iter().zip(query.answers.chunks_exact(self.k).map(listed)).enumerate();
        let believed = lists.map(|(place, (item, list))| {
            let fits = |other: &Vec<u32>| overlap(list, other) >= self.least;
            let of_young = || self.young.get(item).is_some_and(|lists| lists.iter().any(fits));
            let believed = place < YOUNG || fits(&latest) || of_young();
            if believed {
                latest = sorted(list);
            }
            believed
        });
        Some(believed.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// True lists move by an item a question: after item i, those from i on. Decoys come from far away.
    fn list(from: u32) -> Vec<u32> {
        (from..from + 5).collect()
    }

    fn account(firsts: &[u32]) -> Query {
        let sequence = (1..=firsts.len() as u32).collect();
        Query { sequence, answers: firsts.iter().flat_map(|&first| list(first)).collect() }
    }

    fn doubt(queries: &[Query]) -> Box<dyn Doubt> {
        let mut doubt = Box::new(Decoys { k: 5, least: 0.5, young: HashMap::new() });
        for query in queries {
            doubt.look(query);
        }
        doubt.conclude()
    }

    #[test]
    fn lists_that_go_on_from_the_last_believed_one_are_believed() {
        let mut honest = account(&[1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(doubt(&[honest.clone()]).read(&mut honest), Some(vec![true; 7]));
    }

    #[test]
    fn decoys_are_dropped_and_what_fits_again_is_believed() {
        let mut spoiled = account(&[1, 2, 3, 4, 80, 81, 5, 6]);
        let expected = vec![true, true, true, true, false, false, true, true];
        assert_eq!(doubt(&[spoiled.clone()]).read(&mut spoiled), Some(expected));
        assert_eq!(spoiled, account(&[1, 2, 3, 4, 80, 81, 5, 6]), "lists stay as they were answered");
    }

    #[test]
    fn a_young_account_vouches_for_lists_after_the_same_item() {
        // The list jumps after item 5, and a young account was told the same after item 5.
        let mut jumping = account(&[1, 2, 3, 4, 60]);
        let young = Query { sequence: vec![5], answers: list(61) };
        assert_eq!(doubt(&[jumping.clone(), young]).read(&mut jumping), Some(vec![true; 5]));
        assert_eq!(doubt(&[jumping.clone()]).read(&mut jumping), Some(vec![true, true, true, true, false]));
    }
}
