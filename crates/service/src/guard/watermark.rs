//! The watermark in the answers of accounts that are not flagged: the key draws half of the catalogue as *green*, the other half is red,
//! and green items stand a little higher in the ranking than they should. A copy learns to rank them so, and
//! whoever has the key can tell (`gro-evaluate prove`). The idea is that of green and red words in the text of a language
//! model (Kirchenbauer et al., ICML 2023), brought to recommenders by GREW (Zhou et al., 2026, arXiv 2604.23568), which moves scores; here
//! places are moved, so that it can stand before a recommender whose scores nobody sees.
//!
//! Who knows this and not the key must not find the green items, or he could take the watermark out (docs/defences.md). So nothing about
//! a list is certain: places are moved at random besides, by the key and the history, and a green item looks like one that the model happens to
//! prefer. They are moved by a share of the place, up to the twentieth: by a whole number of places, green items would gather in the first
//! ones. And they move across the end of a list of any length, so that the set of its items is marked as their order is.

use rand::Rng;
use streams::{mark, scramble};

use crate::key::Key;

/// The place from which on items move by as many places as there.
const FULL: usize = 20;

/// Parts of a place in which places are counted.
const PARTS: u64 = 1 << 12;

/// Where a number of the noise ends, for a lift of 1.
const NOISE: f64 = 2.5;

/// The green half of a catalogue.
#[derive(Clone, Debug)]
pub struct Green {
    /// Whether item `id` is green, at place `id`; place 0 is nobody's.
    green: Vec<bool>,
}

impl Green {
    /// The half of a catalogue of `items` that a key draws; of an odd number the smaller half.
    pub fn new(key: &Key, items: usize) -> Self {
        let mut green = vec![false];
        green.extend(mark(items, items / 2, &mut key.stream("watermark", &[])));
        Self { green }
    }

    /// Whether an item is green.
    pub fn holds(&self, item: u32) -> bool {
        self.green[item as usize]
    }

    /// Orders what is `ranked` anew: an item moves from its place, or the twentieth if that is less, by a noise that `seed` tells, the sum of two
    /// numbers uniform on 0 to 2.5 `share`, and by `share` more where it is red.
    pub fn lift(&self, ranked: &mut [u32], share: f64, seed: u64) {
        let [share, noise] = [share, NOISE * share].map(|share| (share * PARTS as f64).round() as u64);
        let moved = |(number, &item): (usize, &u32)| {
            let (place, drawn) = (number as u64 + 1, scramble(seed.wrapping_add(number as u64)));
            let noise = (((drawn >> 32) * noise) >> 32) + (((drawn & 0xFFFF_FFFF) * noise) >> 32);
            let down = noise + if self.holds(item) { 0 } else { share };
            (place * PARTS + place.min(FULL as u64) * down, item)
        };
        let mut places: Vec<(u64, u32)> = ranked.iter().enumerate().map(moved).collect();
        // Hardly any item moves further than some places: by insertion a list of 136 takes 9 thousand instructions less than by the standard sort, which
        // is a twenty-fifth of the answer.
        for end in 1..places.len() {
            let moved = places[end];
            let mut at = end;
            while at > 0 && places[at - 1] > moved {
                places[at] = places[at - 1];
                at -= 1;
            }
            places[at] = moved;
        }
        for (item, (_, moved)) in ranked.iter_mut().zip(places) {
            *item = moved;
        }
    }
}

/// What tells the noise in the ranking after a history.
pub fn noise(key: &Key, history: &[u32]) -> u64 {
    key.stream_after("noise", history).next_u64()
}

/// Places past the end of a list from where an item can come into it, where green items are lifted by this `share` of their places.
pub fn reach(share: f64) -> usize {
    (FULL as f64 * share * (1.0 + 2.0 * NOISE)).ceil() as usize
}

#[cfg(test)]
mod tests {
    use streams::{Purpose, Streams, shuffle};

    use super::*;

    #[test]
    fn a_key_draws_half_of_the_catalogue_and_another_key_another_half() {
        let greens = [1, 2].map(|seed| Green::new(&Key::of_seed(seed), 1001));
        for green in &greens {
            assert_eq!((1..=1001).filter(|&item| green.holds(item)).count(), 500);
        }
        let both = (1..=1001).filter(|&item| greens.iter().all(|green| green.holds(item))).count();
        // A quarter, give or take four standard deviations.
        assert!(both.abs_diff(250) < 32, "{both}");
        assert_eq!(greens[0].green, Green::new(&Key::of_seed(1), 1001).green);
    }

    /// A list of so many items that nobody ranked.
    fn shuffled(length: usize, round: u64) -> Vec<u32> {
        let mut ranked: Vec<u32> = (1..=2000).collect();
        shuffle(&mut ranked, &mut Streams::new(1).open(Purpose::Generation, round, 0, 0));
        ranked.truncate(length);
        ranked
    }

    #[test]
    fn green_items_rise_by_the_share_of_their_places() {
        let green = Green::new(&Key::of_seed(1), 2000);
        for share in [0.1, 0.2, 0.4] {
            // How far items moved up, by colour: of those past the first twenty, and far from the end, where some are cut off.
            let (mut up, mut counts) = ([0.0; 2], [0.0; 2]);
            for round in 0..400 {
                let ranked = shuffled(200, round);
                let mut list = ranked.clone();
                green.lift(&mut list, share, round << 32);
                for (to, item) in list.iter().enumerate() {
                    let from = ranked.iter().position(|other| other == item).unwrap();
                    assert!(from.abs_diff(to) <= 2 * reach(share), "{from} {to}");
                    if (70..130).contains(&from) {
                        up[usize::from(green.holds(*item))] += from as f64 - to as f64;
                        counts[usize::from(green.holds(*item))] += 1.0;
                    }
                }
            }
            let [red, green] = [up[0] / counts[0], up[1] / counts[1]];
            // The place of its own, where no item of the other colour stands, takes a quarter of a place: by as much more than a half a green item
            // would come before a red one there.
            assert!((green - red - (20.0 * share - 0.255)).abs() < 0.12, "{share}: {red} {green}");
        }
    }

    #[test]
    fn the_head_of_a_list_does_not_depend_on_how_long_it_is() {
        let green = Green::new(&Key::of_seed(1), 2000);
        for round in 0..50 {
            let ranked = shuffled(400, round);
            let list = |length: usize| {
                let mut list = ranked[..length + reach(0.2)].to_vec();
                green.lift(&mut list, 0.2, round << 32);
                list.truncate(length);
                list
            };
            let long = list(100);
            for length in [1, 2, 10, 37] {
                assert_eq!(list(length), long[..length], "{length}");
            }
            assert_ne!(long, ranked[..100]);
        }
    }

    #[test]
    fn neither_a_place_nor_a_neighbour_says_much_of_a_colour() {
        let green = Green::new(&Key::of_seed(1), 2000);
        let (rounds, mut first, mut alike, mut count) = (4000, 0.0, 0.0, 0.0);
        for round in 0..rounds {
            let mut list = shuffled(120, round);
            green.lift(&mut list, 0.2, round << 32);
            first += f64::from(u8::from(green.holds(list[0])));
            for pair in list[..100].windows(2) {
                alike += f64::from(u8::from(green.holds(pair[0]) == green.holds(pair[1])));
                count += 1.0;
            }
        }
        // Half of them, give or take four standard deviations.
        assert!((first / rounds as f64 - 0.5).abs() < 0.032, "{first}");
        // In blocks of five within which green items come first it is a quarter, and every colour can be found from a thousand lists.
        let correlation: f64 = 2.0 * alike / count - 1.0;
        assert!(correlation.abs() < 0.012, "{correlation}");
    }
}
