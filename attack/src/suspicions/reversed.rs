//! `reversed`: the lists stand on their heads, and are turned round before anything is learned.

use artifact::queries::{Query, listed};

use super::{Doubt, Suspecting, Suspicion};

/// The registry's entry.
pub(super) const SUSPICION: Suspicion = Suspicion {
    name: "reversed",
    title: "Lists are worst item first",
    ordered: true,
    build: Some(|_, k| Box::new(Reversed(k))),
};

/// Lists of so many items are turned round.
struct Reversed(usize);

impl Suspecting for Reversed {
    fn look(&mut self, _: &Query) {}

    fn conclude(self: Box<Self>) -> Box<dyn Doubt> {
        self
    }
}

impl Doubt for Reversed {
    fn read(&self, query: &mut Query) -> Option<Vec<bool>> {
        for list in query.answers.chunks_exact_mut(self.0) {
            let items = listed(list).len();
            list[..items].reverse();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_is_turned_round_on_its_own() {
        let mut query = Query { sequence: vec![7, 8], answers: vec![1, 2, 3, 4, 5, 6] };
        assert_eq!(Reversed(3).read(&mut query), None);
        assert_eq!(query.answers, [3, 2, 1, 6, 5, 4]);
    }

    #[test]
    fn a_list_of_fewer_items_is_turned_round_as_far_as_it_reaches() {
        let mut query = Query { sequence: vec![7], answers: vec![1, 2, 3, 0, 0] };
        Reversed(5).read(&mut query);
        assert_eq!(query.answers, [3, 2, 1, 0, 0]);
    }
}
