//! `replace`: a share of every list gives way to other items, drawn by the key and the history; the first places are kept
//! (the defence that LLM4MEA tries its attack on, 2025).

use artifact::settings::checks::share;
use artifact::settings::{Invalid, Owned, Section, read_all};
use serde::{Deserialize, Serialize};
use streams::choose;
use streams::negatives::distinct_outside;

use super::{AnswerPolicy, Answering, Build, Policy, check_key};
use crate::key::Key;

/// The registry's entry.
pub(super) const POLICY: Policy = Policy {
    name: "replace",
    title: "A share of every list replaced by other items",
    section: Some(Section::new::<Replace>("defend", "replace")),
    build: Build::Keyed(|parameters, key, _| {
        let settings = read_all::<Replace>(parameters)?;
        check_key(&key, &settings.key)?;
        Ok(Answering::ByQuestion(Box::new(Keyed { settings, key })))
    }),
};

/// Its settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Replace {
    /// First places, which are left alone.
    keep: usize,
    /// Share of the other places whose items are replaced, 0 to 1.
    share: f64,
    /// Fingerprint of the key; `gro-defend` writes it.
    #[serde(skip_serializing_if = "String::is_empty")]
    key: String,
}

impl Default for Replace {
    fn default() -> Self {
        Self { keep: 0, share: 0.1, key: String::new() }
    }
}

impl Owned for Replace {
    fn check(&self) -> Result<(), Invalid> {
        share("defend.replace.share", self.share)
    }
}

struct Keyed {
    settings: Replace,
    key: Key,
}

impl AnswerPolicy for Keyed {
    fn answer(&self, history: &[u32], items: usize, list: &mut [u32]) {
        let Replace { keep, share, .. } = self.settings;
        let open = list.len().saturating_sub(keep);
        let count = ((share * open as f64).round() as usize).min(items - list.len());
        let mut stream = self.key.stream("replace", history);
        let others = distinct_outside(list, items, count, &mut stream);
        for (place, other) in choose(open, count, &mut stream).into_iter().zip(others) {
            list[keep + place] = other;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_replaced_behind_the_places_that_are_kept() {
        let settings = Replace { keep: 10, share: 0.3, ..Replace::default() };
        let policy = Keyed { settings, key: Key::of_seed(1) };
        let ranked: Vec<u32> = (1..=40).collect();
        let mut list = ranked.clone();
        policy.answer(&[7], 500, &mut list);
        assert_eq!(list[..10], ranked[..10]);
        let replaced: Vec<&u32> = list.iter().zip(&ranked).filter(|(a, b)| a != b).map(|(a, _)| a).collect();
        assert_eq!(replaced.len(), 9, "three tenths of thirty");
        assert!(replaced.iter().all(|item| **item > 40), "by items from outside the list");
        let mut all = ranked.clone();
        policy.answer(&[7], 40, &mut all);
        assert_eq!(all, ranked, "nothing is outside a list of everything");
    }
}
