//! Random numbers, named. Every draw of the laboratory comes from a ChaCha stream keyed by what it is for:
//! (seed, purpose, epoch, index, layer). Nothing is drawn from a shared generator, so that no result depends
//! on the order in which work happens, on the number of threads, or on where an interrupted run took up again.

pub mod negatives;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream of random numbers is for. The numbers are part of every result: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial weights of a target.
    TargetWeights = 1,
    /// Initial weights of the student that GRO trains beside the target.
    StudentWeights = 2,
    /// Initial weights of a surrogate.
    SurrogateWeights = 3,
    /// The order of samples in an epoch.
    Shuffle = 4,
    /// Which positions a cloze sample hides, and behind what.
    Masks = 5,
    /// Negative items.
    Negatives = 6,
    /// Dropout of the model that is trained.
    Dropout = 7,
    /// Dropout of the student.
    StudentDropout = 8,
    /// First items of generated sequences, and the places picked from each answered list.
    Generation = 9,
    /// Shuffled answers of the `random` policy.
    Answers = 10,
    /// Label positions at which GRO compares lists, and places of thieves' histories at which `decoy` learns.
    LabelPositions = 11,
    /// Negatives that a test item is ranked against, keyed by user alone: every model meets the same.
    Candidates = 12,
    /// Histories that a suspect is asked about in a proof of theft.
    Probes = 13,
    /// Settings that are tried when a target is tuned.
    Tuning = 14,
    /// Histories that only a thief sends, which the defence `decoy` learns to answer otherwise.
    ThiefHistories = 15,
    /// Dropout of a target on these.
    ThiefDropout = 16,
    /// The order in which a thief asks about every item by itself.
    Singles = 17,
}

/// The source of all streams of one run.
#[derive(Clone, Copy, Debug)]
pub struct Streams {
    seed: u64,
}

impl Streams {
    /// The streams of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Opens the stream for `purpose` at (`epoch`, `index`, `layer`). `index` counts steps or samples, `layer`
    /// tensors or layers; equal coordinates give equal numbers, different ones independent numbers.
    pub fn open(&self, purpose: Purpose, epoch: u64, index: u64, layer: u64) -> ChaCha8Rng {
        let mut key = [0u8; 32];
        for (slot, word) in key.chunks_exact_mut(8).zip([self.seed, purpose as u64, epoch, index]) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        let mut stream = ChaCha8Rng::from_seed(key);
        stream.set_stream(layer);
        stream
    }

    /// Keys for the dropout layers of one training step; see [`DropoutKeys`].
    pub fn dropout(&self, purpose: Purpose, epoch: u64, step: u64) -> DropoutKeys {
        DropoutKeys { base: self.open(purpose, epoch, step, 0).next_u64() }
    }
}

/// Keys of counter-based dropout masks: one per layer of one step.
#[derive(Clone, Copy, Debug)]
pub struct DropoutKeys {
    base: u64,
}

impl DropoutKeys {
    /// The key of dropout layer `layer` (counted by the model in the order it applies them).
    pub fn layer(&self, layer: u64) -> u64 {
        // The odd multiplier spreads neighbouring layers over the whole key space (a Weyl sequence).
        self.base.wrapping_add(layer.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}

/// A number as if drawn at random for this one, so that neighbours fall apart: a step of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). Whoever
/// sees the outcome can work the number out.
pub fn scramble(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// An unbiased draw from `0..bound`, by rejection.
///
/// # Panics
/// When `bound` is 0.
pub fn below(stream: &mut impl Rng, bound: u32) -> u32 {
    assert!(bound > 0, "cannot draw from an empty range");
    // Multiply-shift: the high word is the draw, the low word tells whether it fell into the biased remainder.
    let mut product = u64::from(stream.next_u32()) * u64::from(bound);
    if (product as u32) < bound {
        let threshold = bound.wrapping_neg() % bound;
        while (product as u32) < threshold {
            product = u64::from(stream.next_u32()) * u64::from(bound);
        }
    }
    (product >> 32) as u32
}

/// A draw from `0..bound` by the high half of a product of 128 bits. Its bias is below `bound / 2^64`: for bounds far below that.
pub fn below_wide(stream: &mut impl Rng, bound: u64) -> u64 {
    ((u128::from(stream.next_u64()) * u128::from(bound)) >> 64) as u64
}

/// A uniform draw from `[0, 1)` with 53 random bits.
pub fn unit(stream: &mut impl Rng) -> f64 {
    (stream.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// `count` of the numbers `0..total` in ascending order, every set equally likely; all of them where there are no
/// more. (Selection sampling; Knuth, The Art of Computer Programming 2, 3.4.2, algorithm S.)
pub fn choose(total: usize, count: usize, stream: &mut impl Rng) -> Vec<usize> {
    if total <= count {
        return (0..total).collect();
    }
    let mut chosen = Vec::with_capacity(count);
    for number in 0..total {
        if (below(stream, (total - number) as u32) as usize) < count - chosen.len() {
            chosen.push(number);
        }
    }
    chosen
}

/// Which of the numbers `0..total` are among `count` of them, every set equally likely, in as many draws as are chosen; all where there are
/// no more. (Floyd; Bentley, Programming Pearls, Communications of the ACM 30(9), 1987.)
pub fn mark(total: usize, count: usize, stream: &mut impl Rng) -> Vec<bool> {
    let mut marked = vec![false; total];
    for last in total.saturating_sub(count)..total {
        let drawn = below(stream, last as u32 + 1) as usize;
        let chosen = if marked[drawn] { last } else { drawn };
        marked[chosen] = true;
    }
    marked
}

/// Shuffles in place: Fisher and Yates, from the back.
pub fn shuffle<T>(values: &mut [T], stream: &mut impl Rng) {
    for last in (1..values.len()).rev() {
        values.swap(last, below(stream, last as u32 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let streams = Streams::new(7);
        let draw = |purpose, epoch, index, layer| streams.open(purpose, epoch, index, layer).next_u64();
        assert_eq!(draw(Purpose::Masks, 1, 2, 3), draw(Purpose::Masks, 1, 2, 3));
        let others = [
            draw(Purpose::Masks, 1, 2, 3),
            draw(Purpose::Shuffle, 1, 2, 3),
            draw(Purpose::Masks, 2, 2, 3),
            draw(Purpose::Masks, 1, 3, 3),
            draw(Purpose::Masks, 1, 2, 4),
            Streams::new(8).open(Purpose::Masks, 1, 2, 3).next_u64(),
        ];
        for (i, a) in others.iter().enumerate() {
            assert!(others[..i].iter().all(|b| a != b), "coordinate {i} does not matter");
        }
    }

    #[test]
    fn draws_are_uniform() {
        let mut stream = Streams::new(1).open(Purpose::Negatives, 0, 0, 0);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[below(&mut stream, 7) as usize] += 1;
        }
        // 10,000 expected each, standard deviation 93.
        assert!(counts.iter().all(|&c| c.abs_diff(10_000) < 470), "{counts:?}");
        let mean = (0..10_000).map(|_| unit(&mut stream)).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.015, "{mean}");
    }

    #[test]
    fn every_choice_is_equally_likely() {
        let mut stream = Streams::new(1).open(Purpose::LabelPositions, 0, 0, 0);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..60_000 {
            *counts.entry(choose(4, 2, &mut stream)).or_insert(0u32) += 1;
        }
        // Six pairs, 10,000 expected each, standard deviation 91.
        assert_eq!(counts.len(), 6);
        assert!(counts.iter().all(|(pair, &n)| pair[0] < pair[1] && n.abs_diff(10_000) < 460), "{counts:?}");
        assert_eq!(choose(3, 5, &mut stream), [0, 1, 2]);
    }

    #[test]
    fn every_marking_is_equally_likely() {
        let mut stream = Streams::new(1).open(Purpose::LabelPositions, 0, 0, 0);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..60_000 {
            *counts.entry(mark(4, 2, &mut stream)).or_insert(0u32) += 1;
        }
        // Six pairs, 10,000 expected each, standard deviation 91.
        assert_eq!(counts.len(), 6);
        assert!(
            counts
                .iter()
                .all(|(marks, &n)| marks.iter().filter(|m| **m).count() == 2 && n.abs_diff(10_000) < 460)
        );
        assert_eq!(mark(3, 5, &mut stream), [true; 3]);
    }

    #[test]
    fn shuffling_keeps_every_value() {
        let mut values: Vec<u32> = (0..100).collect();
        shuffle(&mut values, &mut Streams::new(1).open(Purpose::Shuffle, 0, 0, 0));
        assert_ne!(values, (0..100).collect::<Vec<_>>());
        values.sort_unstable();
        assert_eq!(values, (0..100).collect::<Vec<_>>());
    }
}
