//! `wary`: knows that lists hold canaries, and takes as people do, but no item that it saw only once. Where canaries are drawn anew for every
//! history, what stands in two lists of an account is hardly ever one; the guard's last as long as the account, for this thief's sake. An
//! item is taken only if it also stood in another list, the one before, or, for lists of other accounts, one of theirs. Where none of those
//! is left it takes from the first ten places. It asks what `mimic` asks otherwise, with the same shares (`generate.wary.earlier`,
//! `generate.wary.others`).

use artifact::settings::checks::{number, share};
use artifact::settings::{Invalid, Owned, Pick, Section, owned};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use streams::{below, unit};

use super::{Asked, Course, QueryStrategy, Strategy, as_set, taking::Taking};

/// The registry's entry.
pub(super) const STRATEGY: Strategy = Strategy {
    name: "wary",
    title: "Takes as people do, and nothing that it was shown only once",
    section: Some(Section::new::<Settings>("generate", "wary")),
    divide: as_set,
    course: Course::Straight(|campaign| {
        Ok(Box::new(Wary {
            taking: Taking::new(campaign.settings, Pick::ReciprocalRoot, campaign.items),
            settings: owned(&campaign.settings.strategies, "wary")?,
        }))
    }),
};

/// Draws that may meet an item seen only once before the first places are taken from.
const TRIES: usize = 24;

/// First places, where nobody expects a canary.
const HEAD: usize = 10;

/// Settings of the strategy.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Share of the items that come from a list answered earlier to the same account, 0 to 1.
    earlier: f64,
    /// Share of the items that come from a list answered to another account, 0 to 1.
    others: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { earlier: 0.1, others: 0.25 }
    }
}

impl Owned for Settings {
    fn check(&self) -> Result<(), Invalid> {
        share("generate.wary.earlier", self.earlier)?;
        share("generate.wary.others", self.others)?;
        let both = self.earlier + self.others;
        number("generate.wary.earlier + generate.wary.others", both, "at most 1", |sum| sum <= 1.0)
    }
}

struct Wary {
    taking: Taking,
    settings: Settings,
}

impl Wary {
    /// An item of `list` that also stands in one of the `witnesses`, flat lists of the same length.
    fn seen_twice(&self, asked: &Asked<'_>, list: &[u32], witnesses: &[u32], stream: &mut ChaCha8Rng) -> u32 {
        for _ in 0..TRIES {
            let item = self.taking.from_list(asked.sequence, list, stream);
            let head = list.iter().take(HEAD).any(|first| *first == item);
            if head || witnesses.contains(&item) {
                return item;
            }
        }
        let head = &list[..HEAD.min(list.len())];
        let place = below(stream, head.len() as u32) as usize;
        let left = head[place..].iter().chain(&head[..place]);
        let open = left.copied().find(|item| self.taking.may_follow(asked.sequence, *item));
        open.unwrap_or_else(|| self.taking.from_list(asked.sequence, list, stream))
    }
}

impl QueryStrategy for Wary {
    fn remembers_others(&self) -> bool {
        self.settings.others > 0.0
    }

    fn next(&self, asked: &Asked<'_>, stream: &mut ChaCha8Rng) -> u32 {
        let draw = unit(stream);
        let Settings { earlier, others } = self.settings;
        let k = asked.k;
        let lists = |flat: &[u32]| flat.len() / k;
        let before = &asked.lists[..asked.lists.len() - k];
        let one = |flat: &[u32], stream: &mut ChaCha8Rng| below(stream, lists(flat) as u32) as usize * k;
        if draw < others && !asked.others.is_empty() {
            let from = one(asked.others, stream);
            // The list after it, mostly of the same account, or the one before.
            let beside = if from + 2 * k <= asked.others.len() { from + k } else { from - k.min(from) };
            let list = asked.one(asked.others, from / k);
            self.seen_twice(asked, list, &asked.others[beside..beside + k], stream)
        } else if draw < others + earlier && !before.is_empty() {
            let from = one(before, stream);
            self.seen_twice(asked, asked.one(before, from / k), &asked.lists[from + k..from + 2 * k], stream)
        } else {
            let witnesses = &before[before.len() - k.min(before.len())..];
            self.seen_twice(asked, asked.list(), witnesses, stream)
        }
    }
}

#[cfg(test)]
mod tests {
    use artifact::settings::Generate;
    use streams::{Purpose, Streams};

    use super::*;

    #[test]
    fn an_item_past_the_head_is_taken_only_if_it_was_shown_twice() {
        let settings = Generate { top_k: 30, repeats: false, ..Generate::default() };
        let taking = Taking::new(&settings, Pick::ReciprocalRoot, 500);
        let wary = Wary { taking, settings: Settings { earlier: 0.0, others: 0.0 } };
        // The second list shares the places 11 to 20 with the first; what stands behind them is new.
        let first: Vec<u32> = (101..131).collect();
        let second: Vec<u32> = (1..=10).chain(111..121).chain(201..211).collect();
        let lists = [first, second].concat();
        let asked = Asked { account: 0, sequence: &[400, 401], lists: &lists, k: 30, others: &[] };
        let mut stream = Streams::new(1).open(Purpose::Generation, 0, 0, 0);
        let taken: Vec<u32> = (0..2000).map(|_| wary.next(&asked, &mut stream)).collect();
        assert!(taken.iter().all(|item| (1..=10).contains(item) || (111..121).contains(item)));
        assert!((111..121).all(|item| taken.contains(&item)));
    }
}
