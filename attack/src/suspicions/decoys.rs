//! `decoys`: some lists are made up, to spoil the copy. They contradict what was answered to close histories, and are dropped.
//!
//! Two histories are close where one goes on from the other by an item, in one account, or where both end in the same item. Of an account that
//! asks for the first time no service knows anything, so that its first list is taken as true; after one take it may be answered with decoys
//! already. A later list is believed where it shares at least `distill.least_overlap` of its items with the latest believed list of its
//! account, or with a list to a first question about the same last item. True lists of neighbouring questions share a quarter of a hundred items
//! or more, a true one and one of decoys about a tenth, as many as chance has it. Lists of decoys are as much alike among themselves as true ones
//! are, so that one that is believed by mistake brings others with it.

use std::collections::HashMap;

use artifact::queries::{Query, listed};

use super::{Doubt, Suspecting, Suspicion};

/// The registry's entry.
pub(super) const SUSPICION: Suspicion = Suspicion {
    name: "decoys",
    title: "Some lists are made up: those that contradict the lists of close histories are dropped",
    ordered: true,
    build: Some(|settings, k| Box::new(Decoys { k, least: settings.least_overlap, first: HashMap::new() })),
};

/// Lists kept for each last item, at most.
const KEPT: usize = 8;

struct Decoys {
    k: usize,
    least: f64,
    /// Lists to first questions by the item asked about, each sorted.
    first: HashMap<u32, Vec<Vec<u32>>>,
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
        let kept = self.first.entry(query.sequence[0]).or_default();
        if kept.len() < KEPT {
            kept.push(sorted(listed(&query.answers[..self.k])));
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
            let of_first = || self.first.get(item).is_some_and(|lists| lists.iter().any(fits));
            let believed = place == 0 || fits(&latest) || of_first();
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
        let mut doubt = Box::new(Decoys { k: 5, least: 0.5, first: HashMap::new() });
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
    fn only_a_first_list_is_believed_by_itself() {
        let mut spoiled = account(&[1, 80, 81, 82]);
        assert_eq!(doubt(&[spoiled.clone()]).read(&mut spoiled), Some(vec![true, false, false, false]));
    }

    #[test]
    fn a_first_question_vouches_for_lists_after_the_same_item() {
        // The list jumps after item 5, and somebody whose first question was about item 5 was told the same.
        let mut jumping = account(&[1, 2, 3, 4, 60]);
        let first = Query { sequence: vec![5], answers: list(61) };
        assert_eq!(doubt(&[jumping.clone(), first]).read(&mut jumping), Some(vec![true; 5]));
        assert_eq!(doubt(&[jumping.clone()]).read(&mut jumping), Some(vec![true, true, true, true, false]));
    }
}
