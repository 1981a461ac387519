//! The second test of `prove`: does a suspect rank as the watermark of a guarded target does?
//!
//! A guard with a watermark lifts green items a little in its ranking, for everybody who is not flagged, so
//! that it also marks the copy of a thief who never was. Two items that stand next to each other in the target's own lists
//! nearly tie. A copy puts the green ones first more often than the items of a key that was never used. Every item counts alike, however often it
//! stands in lists: a key marks items, and of popular ones alone there are too few. The pairs come from the histories and the weights of
//! the target, which know nothing of the key, and so the chance is
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
use streams::{Purpose, Streams, below, choose};

use super::{Others, TOGETHER, chance};

/// Length of the target's lists, whose neighbours are looked at, and of the suspect's.
const PLACES: usize = 100;

/// What was found of the watermark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Watermark {
    /// Share of their places by which the target lifts green items.
    pub lift: f64,
    /// Histories asked about: those of the decoys, single items, and beginnings of users' histories where a dataset was given.
    pub histories: usize,
    /// Neighbours in the target's own lists that the suspect lists both.
    pub pairs: u64,
    /// Share of its pairs in which the suspect ranks an item first, 0 to 1: the mean over the items that are green by the true key.
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

/// What the suspect makes of neighbours in the target's own lists.
pub(super) struct Neighbours {
    /// By item, at place 0 nobody's: the share of its pairs in which the suspect ranks it first, drawn towards a half where there are few.
    shares: Vec<f64>,
    pairs: u64,
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

/// Histories of one item each, as many of the catalogue of `items` as are wanted, drawn without the key: a thief of many accounts that ask little
/// has learned from hardly anything else.
pub(super) fn single(count: usize, items: usize, seed: u64) -> Vec<[u32; 1]> {
    let mut stream = Streams::new(seed).open(Purpose::Probes, 2, 0, 0);
    choose(items, count, &mut stream).into_iter().map(|item| [item as u32 + 1]).collect()
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
        let (mut pairs, mut first) = (vec![0u64; items + 1], vec![0u64; items + 1]);
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
                    let pair = [pair[0] as usize, pair[1] as usize];
                    // How far below its list an item stands, a suspect does not say.
                    if pair.iter().all(|&item| place[item] < usize::MAX) {
                        for item in pair {
                            pairs[item] += 1;
                        }
                        first[if place[pair[0]] < place[pair[1]] { pair[0] } else { pair[1] }] += 1;
                    }
                }
            }
        }
        let both: u64 = pairs.iter().sum();
        // Half as many as items have on average.
        let few = both as f64 / items as f64 / 2.0;
        let share = |(&pairs, &first): (&u64, &u64)| {
            if both == 0 { 0.5 } else { (first as f64 + few / 2.0) / (pairs as f64 + few) }
        };
        let shares = pairs.iter().zip(&first).map(share).collect();
        Ok(Self { shares, pairs: both / 2, histories: asked.len() })
    }

    /// The mean share of the items that are green by a key.
    fn share(&self, key: &Key) -> f64 {
        let items = self.shares.len() - 1;
        let green = Green::new(key, items);
        let of_green = (1..=items as u32).filter(|&item| green.holds(item));
        metrics::mean(&of_green.map(|item| self.shares[item as usize]).collect::<Vec<f64>>())
    }

    /// Holds the true key, by which green items are lifted by such a share of their places, against as many public `keys`, whose shares come with it.
    pub(super) fn compare(&self, key: &Key, lift: f64, keys: usize, quiet: bool) -> (Watermark, Vec<f64>) {
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
        let &Self { pairs, histories, .. } = self;
        let spread = Others::of(&others);
        (Watermark { lift, histories, pairs, share, others: spread, at_least_as_high, p }, others)
    }
}

#[cfg(test)]
mod tests {
    use super::super::probes;
    use super::super::tests::{ITEMS, distance_from_uniform, model, suspected};
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
        for (item, share) in found.shares.iter_mut().enumerate().skip(1) {
            *share += if green.holds(item as u32) { 0.03 } else { -0.03 };
        }
        let (proof, others) = found.compare(&key, 0.2, 999, true);
        assert_eq!((proof.at_least_as_high, proof.p, others.len()), (0, 0.001, 999));
        assert!(proof.share > proof.others.highest && proof.pairs > 1000, "{proof:?}");
    }

    #[test]
    fn single_items_are_different_ones_of_the_catalogue() {
        let drawn = single(30, ITEMS, 1);
        assert!(drawn.is_sorted_by(|a, b| a < b) && drawn.len() == 30 && drawn != single(30, ITEMS, 2));
        assert!(drawn.iter().all(|history| (1..=ITEMS as u32).contains(&history[0])));
        let all: Vec<[u32; 1]> = (1..=ITEMS as u32).map(|item| [item]).collect();
        assert_eq!(single(10 * ITEMS, ITEMS, 1), all);
    }

    #[test]
    fn shares_are_of_neighbours_of_the_target_in_the_order_of_the_suspect() {
        let (target, _) = model(1);
        let history: &[u32] = &[3, 4, 5];
        let list = |seed| suspected(seed).top_k(&[history], PLACES).unwrap().ids;
        let found = |seed| {
            Neighbours::of(&*target, (&mut suspected(seed), usize::MAX), &[history], &Device::Cpu).unwrap()
        };
        let own = list(1);
        for seed in [1, 2] {
            let (suspect, found) = (list(seed), found(seed));
            let place = |item| suspect.iter().position(|&listed| listed == item);
            // Pairs of which one is not listed say nothing.
            let pairs: Vec<(u32, u32, bool)> = own
                .windows(2)
                .filter_map(|pair| Some((pair[0], pair[1], place(pair[0])? < place(pair[1])?)))
                .collect();
            assert_eq!(found.pairs, pairs.len() as u64);
            assert!(if seed == 1 {
                pairs.len() == PLACES - 1
            } else {
                (5..PLACES - 1).contains(&pairs.len())
            });
            // Half of the mean number is added, half of it as won.
            let few = pairs.len() as f64 / ITEMS as f64;
            for item in 1..=ITEMS as u32 {
                let of = pairs.iter().filter(|(a, b, _)| [a, b].contains(&&item));
                let (first, count) = of.fold((0.0, 0.0), |(first, count), &(a, _, higher)| {
                    (first + f64::from(u8::from((a == item) == higher)), count + 1.0)
                });
                let expected = (first + few / 2.0) / (count + few);
                assert!((found.shares[item as usize] - expected).abs() < 1e-12, "{seed}: {item}");
            }
        }
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
