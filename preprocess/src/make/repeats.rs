//! Interactions that repeat others of the same user: those that follow directly on one with the same item, as a page that is
//! loaded again leaves them, or all but the first with an item. They go before anything is counted.

use stage::settings::{Repeats, Ties};

use crate::make::identifiers::Identifiers;
use crate::make::order;
use crate::read::interactions::Interactions;

/// Drops what `repeats` names, in the order of time; returns how many interactions that were.
pub fn drop(interactions: &mut Interactions, repeats: Repeats, ties: Ties) -> usize {
    let [users, items] = [&interactions.users, &interactions.items]
        .map(|names| Identifiers::assign(names, &vec![true; names.len()]));
    let (offsets, rows) = order::rows(interactions, &users, &items, ties);
    let mut kept = vec![true; interactions.len()];
    // The user, from 1, who had an item last.
    let mut had_by = vec![0; interactions.items.len()];
    for (user, bounds) in (1u32..).zip(offsets.windows(2)) {
        let mut latest = None;
        for &row in &rows[bounds[0]..bounds[1]] {
            let item = interactions.item_codes[row as usize];
            kept[row as usize] = match repeats {
                Repeats::Keep => true,
                Repeats::Consecutive => latest != Some(item),
                Repeats::All => had_by[item as usize] != user,
            };
            latest = Some(item);
            had_by[item as usize] = user;
        }
    }
    interactions.retain(&kept);
    kept.iter().filter(|kept| !**kept).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::interactions::Block;
    use crate::read::timestamps::Timestamp;

    #[test]
    fn repeats_are_those_in_order_of_time() {
        // In order of time user 1 has items 1 1 2 1 and user 2 has 1 1.
        let rows = [("1", "1", 5), ("1", "2", 6), ("2", "1", 9), ("1", "1", 7), ("1", "1", 4), ("2", "1", 1)];
        for (repeats, left) in [
            (Repeats::Keep, &[0, 1, 2, 3, 4, 5][..]),
            (Repeats::Consecutive, &[1, 3, 4, 5]),
            (Repeats::All, &[1, 4, 5]),
        ] {
            let mut block = Block::default();
            for (user, item, time) in rows {
                block.push(user, item, (Some(Timestamp::Whole(time)), None)).unwrap();
            }
            let mut table = Interactions::default();
            table.append(block).unwrap();
            assert_eq!(drop(&mut table, repeats, Ties::Item), rows.len() - left.len(), "{repeats:?}");
            let times: Vec<i64> = left.iter().map(|&row| rows[row].2).collect();
            assert_eq!(table.times.unwrap().keys(), times, "{repeats:?}");
            assert_eq!(table.user_codes.len(), left.len());
        }
    }
}
