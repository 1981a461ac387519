//! What a client meets: a service that answers a history with an ordered list of item ids, and nothing else. The model, its
//! scores and the answer policy are behind it, and every query is counted.

use std::sync::Arc;

use artifact::checkpoint::Description;
use candle_core::{Device, Tensor};
use metrics::Answers;
use models::Recommender;
use rayon::prelude::*;

use crate::policies::{AnswerPolicy, policy_of};
use crate::prefix_cache::{PrefixCache, states};
use crate::{Error, Result};

/// A recommender as its users see it.
pub trait BlackBox {
    /// The ordered list of `k` item ids after each history (item ids, oldest first).
    ///
    /// # Errors
    /// [`Error::Request`] for an empty history, an id outside the catalogue, or `k` outside 1..=items.
    fn top_k(&mut self, histories: &[&[u32]], k: usize) -> Result<Answers>;

    /// Number of items in the catalogue, which every customer can see.
    fn items(&self) -> usize;

    /// Number of histories answered so far.
    fn queries(&self) -> u64;
}

/// A model behind its answer policy.
pub struct ProtectedTarget {
    model: Arc<dyn Recommender>,
    policy: Option<Box<dyn AnswerPolicy>>,
    device: Device,
    queries: u64,
    /// One for each batch of a thread.
    caches: Vec<PrefixCache>,
}

/// Fewest questions that are worth a batch of their own.
const SMALLEST_BATCH: usize = 8;

impl ProtectedTarget {
    /// Puts the model of a checkpoint behind the answer policy that its description states.
    ///
    /// # Errors
    /// [`Error::Request`] for a policy that is not known, or parameters that it cannot use.
    pub fn new(model: Arc<dyn Recommender>, description: &Description, device: Device) -> Result<Self> {
        Ok(Self { model, policy: policy_of(description)?, device, queries: 0, caches: Vec::new() })
    }

    /// Whether a policy stands between the model's ranking and what is answered.
    pub fn changes_answers(&self) -> bool {
        self.policy.is_some()
    }

    fn check(&self, histories: &[&[u32]], k: usize) -> Result<()> {
        let items = self.items();
        if k == 0 || k > items {
            return Err(Error::Request(format!(
                "a list of {k} was asked for, the catalogue has {items} items; set top_k to 1..={items}"
            )));
        }
        for (row, history) in histories.iter().enumerate() {
            if history.is_empty() {
                return Err(Error::Request(format!("history {row} is empty, expected at least one item")));
            }
            if let Some(id) = history.iter().find(|&&id| id == 0 || id as usize > items) {
                return Err(Error::Request(format!("history {row} holds item {id}, expected 1..={items}")));
            }
        }
        Ok(())
    }

    /// The list that the service would answer to each history were `candidates` its whole catalogue: the model ranks the
    /// history's own candidates (of equal scores the lower id first, as everywhere), the best `k` are kept, and
    /// the policy acts on these. For evaluation against sampled negatives; no customer can ask this, so it is no
    /// part of [`BlackBox`] and counts as no query.
    ///
    /// `candidates` is `(histories, c)` row by row, the ids of a row distinct.
    ///
    /// # Errors
    /// As [`BlackBox::top_k`]; also where `candidates` is not as many rows as histories, or `k` exceeds c.
    pub fn top_k_among(&self, histories: &[&[u32]], candidates: &Answers, k: usize) -> Result<Answers> {
        self.check(histories, k)?;
        if candidates.rows() != histories.len() || k > candidates.k {
            return Err(Error::Request(format!(
                "a list of {k} was asked for {} histories from {} rows of {} candidates",
                histories.len(),
                candidates.rows(),
                candidates.k
            )));
        }
        let states = states(&*self.model, histories, &self.device)?;
        let ids = Tensor::from_slice(&candidates.ids, (histories.len(), candidates.k), &self.device)?;
        let scores = self.model.catalogue().pick(&states, &ids)?.to_vec2::<f32>()?; // (histories, c)
        let mut answers = Vec::with_capacity(histories.len() * k);
        for (scores, candidates) in scores.iter().zip(candidates) {
            answers.extend(metrics::top_k(candidates, scores, k));
        }
        self.apply_policy(histories, k, &mut answers);
        Ok(Answers { k, ids: answers })
    }

    /// Lets the policy act on ranked lists of `k`, one after the other.
    fn apply_policy(&self, histories: &[&[u32]], k: usize, lists: &mut [u32]) {
        if let Some(policy) = &self.policy {
            for (history, list) in histories.iter().zip(lists.chunks_exact_mut(k)) {
                policy.answer(history, list);
            }
        }
    }
}

impl BlackBox for ProtectedTarget {
    fn top_k(&mut self, histories: &[&[u32]], k: usize) -> Result<Answers> {
        self.check(histories, k)?;
        let (model, device) = (&*self.model, &self.device);
        // No answer depends on who is answered beside it, so each thread takes a batch from the first layer to the list.
        let threads = if kernels::fused(device) { rayon::current_num_threads() } else { 1 };
        let batch = histories.len().div_ceil(threads).max(SMALLEST_BATCH);
        self.caches.resize_with(histories.len().div_ceil(batch), PrefixCache::default);
        let lists = self.caches.par_iter_mut().zip(histories.par_chunks(batch)).map(|(cache, histories)| {
            let states = cache.states(model, histories, device)?;
            Ok(model.catalogue().top_k(&states, k)?.flatten_all()?.to_vec1::<u32>()?)
        });
        let mut ids = lists.collect::<Result<Vec<_>>>()?.concat();
        self.apply_policy(histories, k, &mut ids);
        self.queries += histories.len() as u64;
        Ok(Answers { k, ids })
    }

    fn items(&self) -> usize {
        self.model.sizes().items
    }

    fn queries(&self) -> u64 {
        self.queries
    }
}
