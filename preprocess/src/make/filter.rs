//! Which users and items stay. Items with too few interactions go first, then users with too few of what is left
//! (docs/mathematics.md, section 1.1); `core` repeats both until nothing changes, which leaves a k-core.

/// How many interactions users and items need to stay.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Interactions an item needs to stay.
    pub item: u64,
    /// Interactions, of those with items that stay, a user needs to stay.
    pub user: u64,
    /// Whether to repeat until nothing changes.
    pub core: bool,
}

/// What stayed.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    /// By user code.
    pub users: Vec<bool>,
    /// By item code. An item whose every interaction was with users that went does not stay either.
    pub items: Vec<bool>,
    /// How many interactions have both their user and their item.
    pub interactions: usize,
    /// How many rounds it took.
    pub rounds: usize,
    /// The items with too few interactions, in all rounds.
    pub lost_items: Lost,
    /// The users with too few interactions, in all rounds.
    pub lost_users: Lost,
}

/// What a limit took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// How many had too few interactions, though some.
    pub count: usize,
    /// How many interactions went with them.
    pub interactions: u64,
}

/// Filters the interactions `(users[row], items[row])`, given as codes below `user_total` and `item_total`.
pub fn filter(users: &[u32], items: &[u32], user_total: usize, item_total: usize, limits: Limits) -> Kept {
    let mut kept = Kept {
        users: vec![true; user_total],
        items: vec![true; item_total],
        interactions: 0,
        rounds: 0,
        lost_items: Lost::default(),
        lost_users: Lost::default(),
    };
    loop {
        kept.rounds += 1;
        narrow(&mut kept.items, items, users, &kept.users, limits.item, &mut kept.lost_items);
        // While no user is dropped, the counts that the items were judged by are still true.
        let lost_users =
            narrow(&mut kept.users, users, items, &kept.items, limits.user, &mut kept.lost_users);
        if !limits.core || !lost_users {
            break;
        }
    }
    kept.settle(users, items);
    kept
}

impl Kept {
    /// Drops items whose every interaction is with users that went, and counts what is left.
    pub fn settle(&mut self, users: &[u32], items: &[u32]) {
        narrow(&mut self.items, items, users, &self.users, 1, &mut Lost::default());
        self.interactions = both(users, &self.users, items, &self.items).count();
    }
}

/// Drops those of `own` with fewer than `least` rows whose `other` is kept, and adds them to `lost`. Returns whether any was
/// dropped.
fn narrow(
    kept: &mut [bool],
    own: &[u32],
    other: &[u32],
    other_kept: &[bool],
    least: u64,
    lost: &mut Lost,
) -> bool {
    let mut counts = vec![0u64; kept.len()];
    for (&own, &other) in own.iter().zip(other) {
        counts[own as usize] += u64::from(other_kept[other as usize]);
    }
    let mut changed = false;
    for (kept, count) in kept.iter_mut().zip(counts) {
        if *kept && count < least {
            *kept = false;
            changed = true;
            // One without any was lost before.
            lost.count += usize::from(count > 0);
            lost.interactions += count;
        }
    }
    changed
}

/// The rows whose user and item were both kept, in order.
pub fn both<'a>(
    users: &'a [u32],
    users_kept: &'a [bool],
    items: &'a [u32],
    items_kept: &'a [bool],
) -> impl Iterator<Item = usize> + 'a {
    users
        .iter()
        .zip(items)
        .enumerate()
        .filter(|(_, (user, item))| users_kept[**user as usize] && items_kept[**item as usize])
        .map(|(row, _)| row)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Users 0 and 1 share items 0 and 1; user 2 has item 2 alone, twice, and item 0.
    const USERS: [u32; 7] = [0, 0, 1, 1, 2, 2, 2];
    const ITEMS: [u32; 7] = [0, 1, 0, 1, 2, 2, 0];

    #[test]
    fn items_go_before_users() {
        let kept = filter(&USERS, &ITEMS, 3, 3, Limits { item: 3, user: 1, core: false });
        // Item 1 and 2 go; every user has item 0 left.
        assert_eq!(
            kept,
            Kept {
                users: vec![true; 3],
                items: vec![true, false, false],
                interactions: 3,
                rounds: 1,
                lost_items: Lost { count: 2, interactions: 4 },
                lost_users: Lost::default(),
            }
        );
    }

    #[test]
    fn once_leaves_what_a_core_would_take() {
        let limits = Limits { item: 2, user: 3, core: false };
        let once = filter(&USERS, &ITEMS, 3, 3, limits);
        // Users 0 and 1 have two interactions; with them goes item 1, which nobody else has.
        assert_eq!(
            once,
            Kept {
                users: vec![false, false, true],
                items: vec![true, false, true],
                interactions: 3,
                rounds: 1,
                lost_items: Lost::default(),
                lost_users: Lost { count: 2, interactions: 4 },
            }
        );
        // Item 0 is left with one interaction, goes, and leaves user 2 with two.
        let core = filter(&USERS, &ITEMS, 3, 3, Limits { core: true, ..limits });
        assert_eq!(core.interactions, 0);
        assert!(core.rounds > 1 && !core.users.contains(&true) && !core.items.contains(&true));
    }

    #[test]
    fn a_core_meets_both_limits() {
        // A deterministic tangle of 40 users and 30 items.
        let rows = 0..400u32;
        let users: Vec<u32> = rows.clone().map(|row| row * row % 41 % 40).collect();
        let items: Vec<u32> = rows.map(|row| (row * row * 7 + row) % 53 % 30).collect();
        let kept = filter(&users, &items, 40, 30, Limits { item: 9, user: 9, core: true });
        let mut counts = [[0u64; 40]; 2];
        for row in both(&users, &kept.users, &items, &kept.items) {
            counts[0][users[row] as usize] += 1;
            counts[1][items[row] as usize] += 1;
        }
        assert!(kept.interactions > 0 && kept.interactions < 400);
        assert!(counts.as_flattened().iter().all(|&count| count == 0 || count >= 9), "{counts:?}");
    }
}
