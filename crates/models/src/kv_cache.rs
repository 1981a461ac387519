//! What a causal model keeps of histories, so that the state after one more item costs one item and not the whole
//! history again: an attacker who grows sequences asks about one prefix after another.

use candle_core::{Device, Tensor};
use kernels::KeyValueCache;

use crate::Result;

/// What a model keeps of several histories at once, row by row.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    /// Items of each row so far.
    lengths: Vec<usize>,
    /// For each block of a transformer, the keys and values of each row.
    pub(crate) attention: Vec<Vec<KeyValueCache>>,
    /// For each recurrent sequence, what it was after every item of each row, `(items, width)`.
    pub(crate) steps: Vec<Vec<Vec<f32>>>,
}

impl KvCache {
    /// Nothing yet of this many rows.
    pub fn new(rows: usize) -> Self {
        Self { lengths: vec![0; rows], ..Self::default() }
    }

    /// Number of items of each row.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// The rows of several caches as those of one, in their order.
    #[must_use]
    pub fn join(caches: Vec<Self>) -> Self {
        let blocks = caches.iter().map(|cache| cache.attention.len()).max().unwrap_or(0);
        let sequences = caches.iter().map(|cache| cache.steps.len()).max().unwrap_or(0);
        let mut joined = Self {
            lengths: Vec::with_capacity(caches.len()),
            attention: (0..blocks).map(|_| Vec::with_capacity(caches.len())).collect(),
            steps: (0..sequences).map(|_| Vec::with_capacity(caches.len())).collect(),
        };
        for Self { lengths, mut attention, mut steps } in caches {
            // One that has read nothing yet has no blocks either.
            attention.resize_with(blocks, || vec![KeyValueCache::default(); lengths.len()]);
            steps.resize_with(sequences, || vec![Vec::new(); lengths.len()]);
            joined.lengths.extend(lengths);
            for (all, own) in joined.attention.iter_mut().zip(attention) {
                all.extend(own);
            }
            for (all, own) in joined.steps.iter_mut().zip(steps) {
                all.extend(own);
            }
        }
        joined
    }

    /// Each row as a cache of its own.
    pub fn split(self) -> Vec<Self> {
        let Self { lengths, attention, steps } = self;
        let mut rows: Vec<Self> =
            lengths.into_iter().map(|length| Self { lengths: vec![length], ..Self::default() }).collect();
        for block in attention {
            for (row, own) in rows.iter_mut().zip(block) {
                row.attention.push(vec![own]);
            }
        }
        for sequence in steps {
            for (row, own) in rows.iter_mut().zip(sequence) {
                row.steps.push(vec![own]);
            }
        }
        rows
    }

    /// Bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        let attention: usize = self.attention.iter().flatten().map(KeyValueCache::bytes).sum();
        let steps: usize = self.steps.iter().flatten().map(|steps| size_of::<f32>() * steps.capacity()).sum();
        attention + steps
    }

    /// Counts one more item in each row, and makes room for so many blocks and sequences if there is none yet.
    pub(crate) fn grow(&mut self, blocks: usize, sequences: usize) {
        let rows = self.lengths.len();
        self.attention.resize_with(blocks, || vec![KeyValueCache::default(); rows]);
        self.steps.resize_with(sequences, || vec![Vec::new(); rows]);
        for length in &mut self.lengths {
            *length += 1;
        }
    }
}

/// The states `(rows, width)` of a recurrent sequence after the latest item of each row, from what it was after every item,
/// `(items, width)` a row; zeros before the first.
pub(crate) fn last_states(steps: &[Vec<f32>], width: usize, device: &Device) -> Result<Tensor> {
    let last =
        |row: &Vec<f32>| row.rchunks_exact(width).next().map_or_else(|| vec![0.0; width], <[f32]>::to_vec);
    let states: Vec<f32> = steps.iter().flat_map(last).collect();
    Ok(Tensor::from_vec(states, (steps.len(), width), device)?)
}
