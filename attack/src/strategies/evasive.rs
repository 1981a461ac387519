//! `evasive`: who knows the [guard](service::guard) and takes as its users do, so that it has little to hold against him. Of his takes a share
//! comes from the first ten places of the list just answered, another stands further down in it, and the rest not at all; where an item is
//! not among the first ten of that list, it was among the first ten of another one, of his own or of one of his other accounts. Canaries
//! do not stand there, and of an account they are items that nobody wants after what it began with, so that he hardly ever takes one. Nothing is
//! taken twice while there is anything else, whatever `generate.repeats` says: a history that goes round among what it began with is like no
//! user's, and teaches little.
//!
//! How often users take from where differs between services (`generate.evasive.first`, `generate.evasive.beyond`); a thief can see by lists
//! that do not fit those before them how soon he is found out, and try others. The first block of accounts has no others, and takes from its
//! own earlier lists instead. Of lists of ten or fewer nothing stands further down, and what should comes from the first places too.

use artifact::settings::checks::{number, share};
use artifact::settings::{Generate, Invalid, Owned, Pick, Section, owned};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use streams::{below, unit};

use super::{Asked, Course, QueryStrategy, Strategy, as_set, taking::Taking};

/// The registry's entry.
pub(super) const STRATEGY: Strategy = Strategy {
    name: "evasive",
    title: "Takes from where users take, and past the tenth place only what stood before it elsewhere",
    section: Some(Section::new::<Settings>("generate", "evasive")),
    divide: as_set,
    course: Course::Straight(|campaign| {
        let settings = Generate { repeats: campaign.questions > campaign.items, ..campaign.settings.clone() };
        Ok(Box::new(Evasive {
            taking: Taking::new(&settings, Pick::Uniform, campaign.items),
            settings: owned(&campaign.settings.strategies, "evasive")?,
        }))
    }),
};

/// First places, where nobody puts a canary: users would see it.
const HEAD: usize = 10;

/// Draws that may meet an item from the part of the list that was chosen, before the first places are taken from.
const TRIES: usize = 64;

/// Settings of the strategy.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Share of the items that come from the first ten places of the list just answered, 0 to 1.
    first: f64,
    /// Share of the items that are not in that list, 0 to 1. What is left of the two stands in it past the tenth place.
    beyond: f64,
    /// Of the items that stand in that list past the tenth place, the share that began an earlier list of the same account, 0 to 1; the others
    /// began one of another account, and are further from what users take.
    own: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { first: 0.2, beyond: 0.2, own: 0.8 }
    }
}

impl Owned for Settings {
    fn check(&self) -> Result<(), Invalid> {
        share("generate.evasive.first", self.first)?;
        share("generate.evasive.beyond", self.beyond)?;
        share("generate.evasive.own", self.own)?;
        let both = self.first + self.beyond;
        number("generate.evasive.first + generate.evasive.beyond", both, "at most 1", |sum| sum <= 1.0)
    }
}

/// The strategy.
struct Evasive {
    taking: Taking,
    settings: Settings,
}

impl QueryStrategy for Evasive {
    fn remembers_others(&self) -> bool {
        true
    }

    fn next(&self, asked: &Asked<'_>, stream: &mut ChaCha8Rng) -> u32 {
        let draw = unit(stream);
        let Settings { first, beyond, own } = self.settings;
        let list = asked.list();
        if draw >= first {
            let outside = draw < first + beyond;
            for _ in 0..TRIES {
                let Some(item) = attested(asked, if outside { 0.0 } else { own }, stream) else { break };
                let fits = match list.iter().position(|listed| *listed == item) {
                    Some(place) => !outside && place >= HEAD,
                    None => outside,
                };
                if fits && self.taking.may_follow(asked.sequence, item) {
                    return item;
                }
            }
        }
        self.taking.from_list(asked.sequence, &list[..HEAD.min(list.len())], stream)
    }
}

/// One of the first items of a list answered before, to this account with the chance `own`, else to another; to whichever there is, if there is
/// one only.
fn attested(asked: &Asked<'_>, own: f64, stream: &mut ChaCha8Rng) -> Option<u32> {
    let before = &asked.lists[..asked.lists.len() - asked.k];
    let own = match (before.is_empty(), asked.others.is_empty()) {
        (true, true) => return None,
        (false, false) => unit(stream) < own,
        (true, false) => false,
        (false, true) => true,
    };
    let lists = if own { before } else { asked.others };
    let list = asked.one(lists, below(stream, (lists.len() / asked.k) as u32) as usize);
    Some(list[below(stream, HEAD.min(list.len()) as u32) as usize])
}

#[cfg(test)]
mod tests {
    use streams::{Purpose, Streams};

    use super::*;

    fn taken(first: f64, beyond: f64, lists: &[u32], others: &[u32]) -> Vec<u32> {
        let settings = Generate { top_k: 30, repeats: false, ..Generate::default() };
        let taking = Taking::new(&settings, Pick::Uniform, 500);
        let evasive = Evasive { taking, settings: Settings { first, beyond, own: 0.5 } };
        let asked = Asked { account: 0, sequence: &[400, 401], lists, k: 30, others };
        let mut stream = Streams::new(1).open(Purpose::Generation, 0, 0, 0);
        (0..4000).map(|_| evasive.next(&asked, &mut stream)).collect()
    }

    #[test]
    fn an_item_past_the_head_is_taken_only_if_it_stood_in_the_head_of_another_list() {
        // Of the last list's places 11 to 30, 111 to 115 began the list before, and 121 to 123 another account's; 301 to 307, which it began
        // with besides, stand nowhere in it.
        let before: Vec<u32> = (111..=115).chain(201..=225).collect();
        let last: Vec<u32> = (1..=10).chain(111..=130).collect();
        let other: Vec<u32> = (121..=123).chain(301..=307).chain(124..=130).chain(308..=320).collect();
        let lists = [before, last].concat();
        let items = taken(0.25, 0.25, &lists, &other);
        let share = |of: &dyn Fn(u32) -> bool| items.iter().filter(|item| of(**item)).count() as f64 / 4000.0;
        let first = share(&|item| (1..=10).contains(&item));
        let further = share(&|item| (111..=115).contains(&item) || (121..=123).contains(&item));
        let beyond = share(&|item| (301..=307).contains(&item));
        // Four standard deviations of a half of 4,000 draws are .032.
        assert!((first - 0.25).abs() < 0.032 && (further - 0.5).abs() < 0.032, "{first} {further} {beyond}");
        assert!(
            (beyond - 0.25).abs() < 0.032 && first + further + beyond > 0.9999,
            "{first} {further} {beyond}"
        );
    }

    #[test]
    fn where_nothing_was_answered_before_it_takes_from_the_first_places() {
        let last: Vec<u32> = (1..=30).collect();
        assert!(taken(0.0, 0.5, &last, &[]).iter().all(|item| (1..=10).contains(item)));
        // A list of eight, the rest of its places empty.
        let short: Vec<u32> = (1..=8).chain([0; 22]).collect();
        assert!(taken(0.0, 0.5, &short, &[]).iter().all(|item| (1..=8).contains(item)));
    }

    #[test]
    fn shares_that_are_none_are_refused() {
        assert!(Settings { first: 0.7, beyond: 0.4, own: 0.5 }.check().is_err());
        assert!(Settings { first: 0.1, beyond: 0.4, own: 1.5 }.check().is_err());
        assert!(Settings { first: 0.6, beyond: 0.4, own: 1.0 }.check().is_ok());
    }
}
