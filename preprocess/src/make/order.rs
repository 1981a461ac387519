//! Everybody's items in order of time. A counting sort groups the numbers of the rows by user; then every user's rows are
//! sorted by time on their own, in parallel, and replaced by their items. That takes four bytes a row.

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use stage::settings::Ties;

use crate::make::identifiers::Identifiers;
use crate::read::interactions::Interactions;
use crate::read::timestamps::Timestamps;

/// The item sequences of all users, in compressed rows.
#[derive(Debug, PartialEq, Eq)]
pub struct Sequences {
    /// Where each user's items begin, `(users + 1)`.
    pub offsets: Vec<usize>,
    /// Dense item ids, user by user, in order of time, `(interactions)`.
    pub items: Vec<u32>,
}

/// One interaction among those of a user.
#[derive(Clone, Copy)]
struct Event {
    time: i64,
    item: u32,
    row: u32,
}

impl Sequences {
    /// Orders the rows whose user and item both have an id. Without timestamps the order of the file is the order of
    /// time, whatever the rule for ties.
    pub fn build(interactions: &Interactions, users: &Identifiers, items: &Identifiers, ties: Ties) -> Self {
        let (offsets, items) = ordered(interactions, users, items, ties, |event| event.item);
        Self { offsets, items }
    }
}

/// Where each user's rows begin, and the numbers of the rows whose user and item both have an id: user by user, each user's
/// in order of time.
pub fn rows(
    interactions: &Interactions,
    users: &Identifiers,
    items: &Identifiers,
    ties: Ties,
) -> (Vec<usize>, Vec<u32>) {
    ordered(interactions, users, items, ties, |event| event.row)
}

/// As [`rows`], with what `of` takes of each row instead of its number.
fn ordered(
    interactions: &Interactions,
    users: &Identifiers,
    items: &Identifiers,
    ties: Ties,
    of: impl Fn(&Event) -> u32 + Sync,
) -> (Vec<usize>, Vec<u32>) {
    let (offsets, mut rows) = group(interactions, users, items);
    let times = interactions.times.as_ref().map(Timestamps::keys);
    let tiebreaks = interactions.tiebreaks.as_ref().map(Timestamps::keys);
    let ties = if times.is_some() { ties } else { Ties::Input };
    let event = |row: u32| {
        let item = items.of_code[interactions.item_codes[row as usize] as usize];
        Event { time: times.map_or(0, |times| times[row as usize]), item, row }
    };
    let mut of_user = Vec::with_capacity(users.len());
    let mut rest = rows.as_mut_slice();
    for bounds in offsets.windows(2) {
        let (own, others) = rest.split_at_mut(bounds[1] - bounds[0]);
        of_user.push(own);
        rest = others;
    }
    of_user.into_par_iter().for_each_init(Vec::new, |events, own| {
        events.clear();
        events.extend(own.iter().map(|&row| event(row)));
        match (ties, tiebreaks) {
            (Ties::Item, None) => events.sort_unstable_by_key(|event| (event.time, event.item)),
            (Ties::Input, None) => events.sort_by_key(|event| event.time),
            (Ties::Item, Some(then)) => {
                events.sort_unstable_by_key(|event| (event.time, then[event.row as usize], event.item));
            }
            (Ties::Input, Some(then)) => events.sort_by_key(|event| (event.time, then[event.row as usize])),
        }
        for (place, event) in own.iter_mut().zip(&*events) {
            *place = of(event);
        }
    });
    (offsets, rows)
}

impl Sequences {
    /// How many users there are.
    pub fn users(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The items of the user at `place` (id - 1), earliest first.
    pub fn of(&self, place: usize) -> &[u32] {
        &self.items[self.offsets[place]..self.offsets[place + 1]]
    }
}

/// Where each user's rows begin, and the numbers of the rows whose user and item both have an id: user by user, each
/// user's in the order of the file.
fn group(interactions: &Interactions, users: &Identifiers, items: &Identifiers) -> (Vec<usize>, Vec<u32>) {
    let rows = || {
        let pairs = interactions.user_codes.iter().zip(&interactions.item_codes);
        pairs.zip(0..).filter_map(|((&user, &item), row)| {
            let user = users.of_code[user as usize] as usize;
            (user != 0 && items.of_code[item as usize] != 0).then(|| (row, user - 1))
        })
    };
    let mut offsets = vec![0; users.len() + 1];
    for (_, user) in rows() {
        offsets[user + 1] += 1;
    }
    for user in 0..users.len() {
        offsets[user + 1] += offsets[user];
    }
    let mut grouped = vec![0; offsets[users.len()]];
    let mut next = offsets.clone();
    for (row, user) in rows() {
        grouped[next[user]] = row;
        next[user] += 1;
    }
    (offsets, grouped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::interactions::Block;
    use crate::read::timestamps::Timestamp;

    fn table(rows: &[(&str, &str, Option<i64>)]) -> Interactions {
        let mut block = Block::default();
        for &(user, item, time) in rows {
            block.push(user, item, (time.map(Timestamp::Whole), None)).unwrap();
        }
        let mut table = Interactions::default();
        table.append(block).unwrap();
        table
    }

    fn build(rows: &[(&str, &str, Option<i64>)], ties: Ties) -> Vec<Vec<u32>> {
        let table = table(rows);
        let users = Identifiers::assign(&table.users, &vec![true; table.users.len()]);
        let items = Identifiers::assign(&table.items, &vec![true; table.items.len()]);
        let sequences = Sequences::build(&table, &users, &items, ties);
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
        assert_eq!(build(&rows, Ties::Item), [vec![3, 2], vec![2, 1, 3, 3]]);
        assert_eq!(build(&rows, Ties::Input), [vec![3, 2], vec![2, 3, 1, 3]]);
    }

    #[test]
    fn without_times_the_file_orders() {
        let rows = [("1", "30", None), ("1", "10", None), ("1", "20", None)];
        for ties in [Ties::Item, Ties::Input] {
            assert_eq!(build(&rows, ties), [vec![3, 1, 2]]);
        }
    }

    #[test]
    fn a_second_column_orders_equal_times() {
        let mut block = Block::default();
        for (item, time, place) in [("30", 5, 2), ("10", 5, 3), ("20", 5, 1), ("40", 4, 9)] {
            let times = (Some(Timestamp::Whole(time)), Some(Timestamp::Whole(place)));
            block.push("1", item, times).unwrap();
        }
        let mut table = Interactions::default();
        table.append(block).unwrap();
        let [users, items] =
            [&table.users, &table.items].map(|names| Identifiers::assign(names, &vec![true; names.len()]));
        for ties in [Ties::Item, Ties::Input] {
            assert_eq!(Sequences::build(&table, &users, &items, ties).of(0), [4, 2, 3, 1]);
        }
    }
}
