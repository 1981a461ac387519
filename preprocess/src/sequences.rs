//! Everybody's items in order of time. Interactions are dealt out to their users (counting, one pass), then every
//! user's share is sorted by itself, in parallel: linear in the rows, and sixteen bytes for each.

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::identifiers::Identifiers;
use crate::interactions::Interactions;

/// How items with the same timestamp are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TieRule {
    /// By dense item id, the published rule.
    Item,
    /// As the file has them.
    Input,
}

/// The item sequences of all users, in compressed rows.
#[derive(Debug, PartialEq, Eq)]
pub struct Sequences {
    /// Where each user's items begin, `(users + 1)`.
    pub offsets: Vec<usize>,
    /// Dense item ids, user by user, in order of time, `(interactions)`.
    pub items: Vec<u32>,
}

/// One interaction among those of a user.
#[derive(Clone, Copy, Default)]
struct Event {
    time: i64,
    item: u32,
}

impl Sequences {
    /// Orders the rows whose user and item both have an id. Without timestamps the order of the file is the order of
    /// time, whatever the rule for ties. Takes the interactions, because they and the result need not both exist for
    /// longer than the dealing out.
    pub fn build(
        interactions: Interactions,
        users: &Identifiers,
        items: &Identifiers,
        ties: TieRule,
    ) -> Self {
        let mut offsets = vec![0usize; users.len() + 1];
        let rows = || {
            let pairs = interactions.user_codes.iter().zip(&interactions.item_codes);
            pairs.enumerate().filter_map(|(row, (&user, &item))| {
                let (user, item) = (users.of_code[user as usize], items.of_code[item as usize]);
                (user != 0 && item != 0).then_some((row, user as usize - 1, item))
            })
        };
        for (_, user, _) in rows() {
            offsets[user + 1] += 1;
        }
        for user in 0..users.len() {
            offsets[user + 1] += offsets[user];
        }

        let ties = if interactions.times.is_some() { ties } else { TieRule::Input };
        let mut events = vec![Event::default(); offsets[users.len()]];
        let mut next = offsets.clone();
        for (row, user, item) in rows() {
            let time = interactions.times.as_ref().map_or(0, |times| times.keys()[row]);
            events[next[user]] = Event { time, item };
            next[user] += 1;
        }
        drop(interactions);

        let mut shares = Vec::with_capacity(users.len());
        let mut rest = events.as_mut_slice();
        for user in 0..users.len() {
            let (share, others) = rest.split_at_mut(offsets[user + 1] - offsets[user]);
            shares.push(share);
            rest = others;
        }
        shares.into_par_iter().for_each(|share| match ties {
            TieRule::Item => share.sort_unstable_by_key(|event| (event.time, event.item)),
            TieRule::Input => share.sort_by_key(|event| event.time),
        });
        Self { offsets, items: events.into_iter().map(|event| event.item).collect() }
    }

    /// How many users there are.
    pub fn users(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The items of the user at `place` (id - 1), earliest first.
    pub fn of(&self, place: usize) -> &[u32] {
        &self.items[self.offsets[place]..self.offsets[place + 1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interactions::Block;
    use crate::timestamps::Timestamp;

    fn table(rows: &[(&str, &str, Option<i64>)]) -> Interactions {
        let mut block = Block::default();
        for &(user, item, time) in rows {
            block.push(user, item, time.map(Timestamp::Whole)).unwrap();
        }
        let mut table = Interactions::default();
        table.append(block).unwrap();
        table
    }

    fn build(rows: &[(&str, &str, Option<i64>)], ties: TieRule) -> Vec<Vec<u32>> {
        let table = table(rows);
        let users = Identifiers::assign(&table.users, &vec![true; table.users.len()]);
        let items = Identifiers::assign(&table.items, &vec![true; table.items.len()]);
        let sequences = Sequences::build(table, &users, &items, ties);
        (0..sequences.users()).map(|user| sequences.of(user).to_vec()).collect()
    }

    #[test]
    fn time_orders_and_the_rule_breaks_ties() {
        let rows = [
            ("2", "30", Some(5)),
            ("1", "20", Some(9)),
            ("2", "10", Some(5)),
            ("1", "30", Some(-1)),
            ("2", "30", Some(5)),
            ("2", "20", Some(4)),
        ];
        assert_eq!(build(&rows, TieRule::Item), [vec![3, 2], vec![2, 1, 3, 3]]);
        assert_eq!(build(&rows, TieRule::Input), [vec![3, 2], vec![2, 3, 1, 3]]);
    }

    #[test]
    fn without_times_the_file_orders() {
        let rows = [("1", "30", None), ("1", "10", None), ("1", "20", None)];
        for ties in [TieRule::Item, TieRule::Input] {
            assert_eq!(build(&rows, ties), [vec![3, 1, 2]]);
        }
    }
}
