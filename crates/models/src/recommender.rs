//! What every architecture must be able to do, and what it is handed for it.

use std::ops::Range;

use artifact::settings;
use candle_core::{DType, Tensor};
use kernels::{Catalogue, Dropout};
use rand_chacha::ChaCha8Rng;
use streams::DropoutKeys;

use crate::{Contexts, KvCache, PackedBatch, Result, Sizes, causal};

/// What a model is run for.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// Prediction: no dropout, f32.
    Evaluate,
    /// Training: dropout with masks from these keys, and activations of this precision.
    Train(DropoutKeys, settings::Precision),
}

impl Mode {
    /// The dropout of layer `layer`, counted in the order a model applies them.
    pub fn dropout(self, probability: f64, layer: u64) -> Option<Dropout> {
        match self {
            Mode::Train(keys, _) if probability > 0.0 => {
                Some(Dropout { probability, key: keys.layer(layer) })
            }
            _ => None,
        }
    }

    /// Type of the activations.
    pub fn activations(self) -> DType {
        match self {
            Mode::Train(_, settings::Precision::Bf16) => DType::BF16,
            Mode::Train(_, settings::Precision::F32) | Mode::Evaluate => DType::F32,
        }
    }
}

/// Training samples of one step, packed: contexts whose picked places are the label positions.
#[derive(Clone, Debug, Default)]
pub struct TrainingBatch {
    /// The rows, with the label positions picked.
    pub contexts: Contexts,
    /// The item to be predicted at each picked place, `(positions)`.
    pub labels: Vec<u32>,
    /// An item at each picked place that should score below the label, `(positions)`; empty where the loss
    /// compares the label with the whole catalogue.
    pub negatives: Vec<u32>,
}

/// What a model sees around a place whose state is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The items before and after it; the item at the place is hidden by a mask. One row gives the state after
    /// one prefix of a history.
    Cloze,
    /// The items up to and including it. One row gives the states after all prefixes of a history.
    Causal,
}

/// A sequential recommender.
pub trait Recommender: Send + Sync {
    /// Its sizes.
    fn sizes(&self) -> &Sizes;

    /// The item side of its scores.
    fn catalogue(&self) -> &Catalogue;

    /// What it sees around a place. Two models of one reading can share contexts.
    fn reading(&self) -> Reading;

    /// Its weights change no more: what they alone decide may be computed now, once. Every state is of the same bytes as before.
    ///
    /// # Errors
    /// Those of the device.
    fn freeze(&mut self) -> Result<()> {
        Ok(())
    }

    /// States at the picked places of a packed batch, `(positions, hidden)`.
    fn encode(&self, batch: &PackedBatch, mode: Mode) -> Result<Tensor>;

    /// States `(rows, hidden)` after one more item in each row, `items` `(rows)` of u32; `cache` holds what came before,
    /// fewer than `max_len` items, and the new item afterwards. The bytes are those of [`Recommender::encode`] over whole
    /// histories. `None` where the model has no such way: reading by cloze, every state changes with every item.
    ///
    /// For the CPU with its fused operations ([`kernels::fused`]).
    fn extend(&self, _cache: &mut KvCache, _items: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Appends rows whose picked places score the item after each of these prefixes of `history` (item ids,
    /// oldest first): lengths in ascending order, at least 1. Of a prefix only the latest items that fit are used.
    ///
    /// By default as a causal model reads; one that reads by cloze has a way of its own.
    fn push_prefixes(&self, history: &[u32], prefixes: &[usize], contexts: &mut Contexts) {
        causal::push_prefixes(history, prefixes, self.sizes().max_len, contexts);
    }

    /// Packs histories (at least one item each) for prediction: one row and one picked place each, whose
    /// state scores the next item.
    fn contexts(&self, histories: &[&[u32]]) -> Contexts {
        let mut contexts = Contexts::new();
        for history in histories {
            self.push_prefixes(history, &[history.len()], &mut contexts);
        }
        contexts
    }

    /// Appends to `batch` the training sample that this architecture makes of a `window` (at least one item, two
    /// with what lies before it) of a user's training history.
    ///
    /// By default that of a causal model: every prefix of the window, and what lies before it, predicts the item after it.
    fn sample(
        &self,
        history: &[u32],
        window: Range<usize>,
        objective: &settings::Train,
        _stream: &mut ChaCha8Rng,
        batch: &mut TrainingBatch,
    ) {
        causal::sample(history, window, objective, batch);
    }

    /// The training loss, a scalar, from the states at the label positions: mean binary cross entropy over labels and
    /// negatives where the batch has negatives, else mean cross entropy of the labels over all ids.
    fn training_loss(&self, states: &Tensor, batch: &TrainingBatch) -> Result<Tensor> {
        let ids = |ids: &[u32]| Tensor::from_slice(ids, ids.len(), states.device());
        let labels = ids(&batch.labels)?;
        Ok(if batch.negatives.is_empty() {
            self.catalogue().cross_entropy(states, &labels)?
        } else {
            self.catalogue().binary_cross_entropy(states, &labels, &ids(&batch.negatives)?)?
        })
    }
}
