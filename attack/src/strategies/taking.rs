//! How an item is taken from an answered list, or from the catalogue: what strategies have in common. A place of a list is drawn as
//! `generate.pick` says, and where `generate.repeats` is false no item is taken twice into one sequence.

use artifact::settings::{Generate, Pick};
use rand_chacha::ChaCha8Rng;
use streams::{below, unit};

/// Draws that may hit an item of the sequence before the others are looked up. The distribution is the same either way.
const TRIES: usize = 16;

/// A way to take items.
#[derive(Clone, Debug)]
pub struct Taking {
    repeats: bool,
    items: usize,
    /// Running sums of the weights of places; empty where all places are alike.
    sums: Vec<f64>,
}

impl Taking {
    /// The way that the settings describe, from a catalogue of `items`; `own` is how a place is drawn where they do not say.
    pub fn new(settings: &Generate, own: Pick, items: usize) -> Self {
        let places = (1..=settings.top_k).map(|place| place as f64);
        let weights: Vec<f64> = match settings.pick.unwrap_or(own) {
            Pick::Uniform => Vec::new(),
            Pick::Reciprocal => places.map(f64::recip).collect(),
            Pick::ReciprocalRoot => places.map(|place| place.sqrt().recip()).collect(),
        };
        let sums = weights.iter().scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { repeats: settings.repeats, items, sums: sums.collect() }
    }

    /// An item of `list`, an answered list of `generate.top_k` at most, and one item at least. Where it holds none that the sequence does not hold, one of the
    /// catalogue.
    pub fn from_list(&self, sequence: &[u32], list: &[u32], stream: &mut ChaCha8Rng) -> u32 {
        for _ in 0..TRIES {
            let place = if self.sums.is_empty() {
                below(stream, list.len() as u32) as usize
            } else {
                let sums = &self.sums[..list.len()];
                let draw = unit(stream) * sums[list.len() - 1];
                sums.partition_point(|sum| *sum <= draw).min(list.len() - 1)
            };
            if self.may_follow(sequence, list[place]) {
                return list[place];
            }
        }
        let weight = |place: usize| match place {
            _ if self.sums.is_empty() => 1.0,
            0 => self.sums[0],
            _ => self.sums[place] - self.sums[place - 1],
        };
        let left: Vec<(u32, f64)> = (0..list.len())
            .map(|place| (list[place], weight(place)))
            .filter(|(item, _)| self.may_follow(sequence, *item))
            .collect();
        let mut draw = unit(stream) * left.iter().map(|(_, weight)| weight).sum::<f64>();
        for (item, weight) in &left {
            if draw < *weight {
                return *item;
            }
            draw -= weight;
        }
        left.last().map_or_else(|| self.from_catalogue(sequence, stream), |(item, _)| *item)
    }

    /// An item of the catalogue, each that may follow as likely as any other.
    pub fn from_catalogue(&self, sequence: &[u32], stream: &mut ChaCha8Rng) -> u32 {
        for _ in 0..TRIES {
            let item = 1 + below(stream, self.items as u32);
            if self.may_follow(sequence, item) {
                return item;
            }
        }
        streams::negatives::outside(sequence, self.items, 1, stream)[0]
    }

    /// Whether `item` may be taken after `sequence`.
    pub fn may_follow(&self, sequence: &[u32], item: u32) -> bool {
        self.repeats || !sequence.contains(&item)
    }
}

#[cfg(test)]
mod tests {
    use streams::{Purpose, Streams};

    use super::*;

    fn taking(pick: Pick, repeats: bool) -> Taking {
        let settings = Generate { top_k: 4, pick: Some(pick), repeats, ..Generate::default() };
        Taking::new(&settings, Pick::Uniform, 6)
    }

    fn counts(taking: &Taking, sequence: &[u32]) -> [usize; 7] {
        let mut stream = Streams::new(3).open(Purpose::Generation, 0, 0, 0);
        let mut counts = [0; 7];
        for _ in 0..40_000 {
            counts[taking.from_list(sequence, &[5, 2, 6, 1], &mut stream) as usize] += 1;
        }
        counts
    }

    fn assert_near(counts: [usize; 7], shares: [f64; 7]) {
        for (item, share) in shares.into_iter().enumerate() {
            // Four standard deviations of a share of 40,000 draws are at most .01.
            assert!((counts[item] as f64 / 40_000.0 - share).abs() < 0.01, "{item}: {counts:?}");
        }
    }

    #[test]
    fn places_are_drawn_as_likely_as_they_are_said_to_be() {
        assert_near(counts(&taking(Pick::Uniform, true), &[]), [0.0, 0.25, 0.25, 0.0, 0.0, 0.25, 0.25]);
        // 1, 1/2, 1/3, 1/4 of 25/12.
        assert_near(counts(&taking(Pick::Reciprocal, true), &[]), [0.0, 0.12, 0.24, 0.0, 0.0, 0.48, 0.16]);
        // 1, .7071, .5774, .5 of 2.7845.
        let roots = [0.0, 0.1796, 0.2539, 0.0, 0.0, 0.3591, 0.2073];
        assert_near(counts(&taking(Pick::ReciprocalRoot, true), &[]), roots);
    }

    #[test]
    fn without_repeats_the_others_keep_their_proportions() {
        let left = counts(&taking(Pick::Reciprocal, false), &[5, 1]);
        assert_near(left, [0.0, 0.0, 0.6, 0.0, 0.0, 0.0, 0.4]);
        assert_near(
            counts(&taking(Pick::Reciprocal, false), &[5, 2, 6]),
            [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        );
        // The whole list is taken: one of the two others.
        let others = counts(&taking(Pick::Uniform, false), &[5, 2, 6, 1]);
        assert_near(others, [0.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0]);
    }

    #[test]
    fn the_rare_case_is_drawn_as_the_frequent_one() {
        // Of 100 places only the last two may follow; sixteen tries hardly ever hit them.
        let settings = Generate { pick: Some(Pick::Reciprocal), repeats: false, ..Generate::default() };
        let taking = Taking::new(&settings, Pick::Uniform, 200);
        let list: Vec<u32> = (1..=100).collect();
        let mut stream = Streams::new(3).open(Purpose::Generation, 0, 0, 0);
        let taken = (0..20_000).filter(|_| taking.from_list(&list[..98], &list, &mut stream) == 99).count();
        // 1/99 against 1/100: .5025; four standard deviations are .0141.
        assert!((taken as f64 / 20_000.0 - 0.5025).abs() < 0.0142, "{taken}");
    }
}
