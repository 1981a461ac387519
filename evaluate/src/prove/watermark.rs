//! The second test of `prove`: does a suspect rank as the watermark of a guarded target does?
//!
//! A guard with a watermark lets green items stand before red ones within blocks of its lists, to everybody who is not flagged, so
//! that it also marks the copy of a thief who never was. Two items that stand next to each other in the target's own lists
//! nearly tie; of those pairs that are one green, one red, a copy puts the green one first more often than a key that was never
//! used would say. The pairs come from the histories and the weights of the target, which know nothing of the key, and so the chance is
//! exact as that of the decoys: under a model that never saw the answers the true key is one of M + 1, each as likely to stand first.

use artifact::dataset::Dataset;
use candle_core::Device;
use models::{Mode, Recommender};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use service::black_box::BlackBox;
use service::guard::watermark::Green;
use service::key::Key;
use stage::progress;
use streams::{Purpose, Streams, below};

use super::{Others, TOGETHER, chance};

/// Length of the target's lists, whose neighbours are looked at, and of the suspect's.
const PLACES: usize = 100;

/// What was found of the watermark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Watermark {
    /// Places of a block within which the target lets green items stand first.
    pub block: usize,
    /// Histories asked about: those of the decoys, and as many beginnings of users' histories where a dataset was given.
    pub histories: usize,
    /// Neighbours in the target's own lists that the suspect lists both, and that are one green and one red by the true key.
    pub pairs: u64,
    /// Share of them in which the suspect ranks the green one higher, 0 to 1.
    pub share: f64,
    /// The same with the green items of the public keys.
    pub others: Others,
    /// Public keys with a share at least as high as that of the true one.
    pub at_least_as_high: usize,
    /// Chance of that where the suspect never saw an answer of the guarded target.
    pub p: f64,
}

/// Two tests in place of one: each chance, corrected so that either may be held against a bound (Holm 1979).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Corrected {
    /// Of the decoys.
    pub decoys: f64,
    /// Of the watermark.
    pub watermark: f64,
}

/// The chance of what a proof found: `p`, that of the decoys, or of two tests that of the one which found more.
pub(crate) fn least(p: f64, corrected: Option<Corrected>) -> f64 {
    corrected.map_or(p, |both| both.decoys.min(both.watermark))
}

impl Corrected {
    /// Of two chances: the smaller one counts twice, and the other is not smaller than that.
    pub(super) fn of(decoys: f64, watermark: f64) -> Self {
        let least = (2.0 * decoys.min(watermark)).min(1.0);
        let of = |p: f64, other: f64| if p <= other { least } else { p.max(least) };
        Self { decoys: of(decoys, watermark), watermark: of(watermark, decoys) }
    }
}

/// Pairs of items, and how often the suspect ranked the first of them higher.
pub(super) struct Neighbours {
    /// The item ranked higher, the other one, and how often.
    pairs: Vec<(u32, u32, u64)>,
    items: usize,
    histories: usize,
}

/// Beginnings of users' histories, drawn without the key: where a thief asked as users do, his copy has learned most.
pub(super) fn beginnings(count: usize, dataset: &Dataset, seed: u64) -> Vec<&[u32]> {
    // With a split by time a user may have nothing to train on.
    let users: Vec<usize> = (0..dataset.users()).filter(|&user| !dataset.train(user).is_empty()).collect();
    let one = |index: usize| {
        // The histories of random items are of epoch 0.
        let mut stream = Streams::new(seed).open(Purpose::Probes, 1, index as u64, 0);
        let history = dataset.train(users[below(&mut stream, users.len() as u32) as usize]);
        &history[..=below(&mut stream, history.len() as u32) as usize]
    };
    (0..if users.is_empty() { 0 } else { count }).map(one).collect()
}

impl Neighbours {
    /// Asks both about the histories in `asked`, the suspect for lists of so many items at most.
    pub(super) fn of(
        target: &dyn Recommender,
        (suspect, most): (&mut dyn BlackBox, usize),
        asked: &[&[u32]],
        device: &Device,
    ) -> service::Result<Self> {
        let items = suspect.items();
        let mut found: Vec<(u32, u32)> = Vec::new();
        for histories in asked.chunks(TOGETHER) {
            let states = target.encode(&target.contexts(histories).upload(device)?, Mode::Evaluate)?;
            let own = target.catalogue().top_k(&states, PLACES.min(items))?.to_vec2::<u32>()?;
            let answers = suspect.top_k(histories, PLACES.min(items).min(most))?;
            for (own, answered) in own.iter().zip(&answers) {
                let mut place = vec![usize::MAX; items + 1];
                for (number, &item) in answered.iter().enumerate() {
                    place[item as usize] = number;
                }
                for pair in own.windows(2) {
                    let (first, second) = (place[pair[0] as usize], place[pair[1] as usize]);
                    // How far below its list an item stands, a suspect does not say.
                    if first.max(second) < usize::MAX {
                        found.push(if first < second { (pair[0], pair[1]) } else { (pair[1], pair[0]) });
                    }
                }
            }
        }
        found.sort_unstable();
        let pairs = found.chunk_by(|a, b| a == b).map(|same| (same[0].0, same[0].1, same.len() as u64));
        Ok(Self { pairs: pairs.collect(), items, histories: asked.len() })
    }

    /// How many pairs are one green and one red by a key, and in how many of them the green one is ranked higher.
    fn count(&self, key: &Key) -> (u64, u64) {
        let green = Green::new(key, self.items);
        let (mut mixed, mut above) = (0, 0);
        for &(higher, lower, times) in &self.pairs {
            let (higher, lower) = (u64::from(green.holds(higher)), u64::from(green.holds(lower)));
            mixed += times * (higher ^ lower);
            above += times * (higher & (1 - lower));
        }
        (mixed, above)
    }

    /// The share of them, a half where there are none.
    fn share(&self, key: &Key) -> f64 {
        let (mixed, above) = self.count(key);
        if mixed == 0 { 0.5 } else { above as f64 / mixed as f64 }
    }

    /// Holds the true key, by which green items stand first in blocks of so many places, against as many public `keys`, whose shares come with it.
    pub(super) fn compare(&self, key: &Key, block: usize, keys: usize, quiet: bool) -> (Watermark, Vec<f64>) {
        let share = self.share(key);
        let bar = progress::bar(keys as u64, "keys", quiet);
        let others: Vec<f64> = (0..keys as u64)
            .into_par_iter()
            .map(|number| {
                bar.inc(1);
                self.share(&Key::public(number))
            })
            .collect();
        bar.finish_and_clear();
        let (at_least_as_high, p) = chance(share, &others);
        let pairs = self.count(key).0;
        let (histories, spread) = (self.histories, Others::of(&others));
        (Watermark { block, histories, pairs, share, others: spread, at_least_as_high, p }, others)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ITEMS, distance_from_uniform, model, suspected};
    use super::super::{TOP, probes};
    use super::*;

    #[test]
    fn under_many_keys_the_chance_of_an_innocent_model_is_uniform_and_who_ranks_by_a_key_stands_out() {
        let (target, _) = model(1);
        let drawn = probes(100, ITEMS, 20, 1);
        let asked: Vec<&[u32]> = drawn.iter().map(Vec::as_slice).collect();
        for innocent in [1, 2] {
            // The target itself, unmarked, and a stranger.
            let found =
                Neighbours::of(&*target, (&mut suspected(innocent), usize::MAX), &asked, &Device::Cpu)
                    .unwrap();
            let others: Vec<f64> = (0..999).map(|number| found.share(&Key::public(number))).collect();
            let chances = (0..400).map(|seed| chance(found.share(&Key::of_seed(seed)), &others).1);
            let (distance, bound) = distance_from_uniform(chances.collect(), 999);
            assert!(distance < bound, "{innocent}: {distance} {bound}");
        }
        let key = Key::of_seed(7);
        let green = Green::new(&key, ITEMS);
        let mut found =
            Neighbours::of(&*target, (&mut suspected(1), usize::MAX), &asked, &Device::Cpu).unwrap();
        for (place, pair) in found.pairs.iter_mut().enumerate() {
            // Every third pair is ranked as the watermark says.
            if place % 3 == 0 && green.holds(pair.1) {
                *pair = (pair.1, pair.0, pair.2);
            }
        }
        let (proof, others) = found.compare(&key, 5, 999, true);
        assert_eq!((proof.at_least_as_high, proof.p, others.len()), (0, 0.001, 999));
        assert!(proof.share > proof.others.highest && proof.pairs > 1000, "{proof:?}");
    }

    #[test]
    fn pairs_are_neighbours_of_the_target_in_the_order_of_the_suspect() {
        let (target, _) = model(1);
        let history: &[u32] = &[3, 4, 5];
        let own = suspected(1).top_k(&[history], TOP).unwrap().ids;
        let found =
            Neighbours::of(&*target, (&mut suspected(1), usize::MAX), &[history, history], &Device::Cpu)
                .unwrap();
        assert_eq!(found.pairs.len(), PLACES - 1);
        assert!(found.pairs.contains(&(own[0], own[1], 2)), "twice asked, in the target's own order");
        let stranger = suspected(2).top_k(&[history], PLACES).unwrap().ids;
        let found =
            Neighbours::of(&*target, (&mut suspected(2), usize::MAX), &[history], &Device::Cpu).unwrap();
        for &(higher, lower, _) in &found.pairs {
            let place = |item| stranger.iter().position(|&listed| listed == item).unwrap_or(usize::MAX);
            assert!(place(higher) < place(lower));
        }
        assert!(found.pairs.len() < PLACES - 1, "pairs of which one is not listed say nothing");
    }

    #[test]
    fn two_chances_are_corrected_as_holm_does() {
        let of = |decoys, watermark| {
            let Corrected { decoys, watermark } = Corrected::of(decoys, watermark);
            [decoys, watermark]
        };
        assert_eq!(of(0.01, 0.3), [0.02, 0.3]);
        assert_eq!(of(0.3, 0.01), [0.3, 0.02]);
        assert_eq!(of(0.2, 0.3), [0.4, 0.4]);
        assert_eq!(of(0.9, 0.8), [1.0, 1.0]);
        assert_eq!(of(0.01, 0.01), [0.02, 0.02]);
    }
}
