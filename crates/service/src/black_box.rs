//! What an attacker meets: a service that answers a history with an ordered list of item ids, and nothing
//! else. The model, its scores and the answer policy are behind it, and every query is counted.
//!
//! Answer policies (spec 4): `none` answers the model's list, `reverse` turns it round, `random` shuffles it. A
//! shuffle is keyed by the seed and the history, not by the order of the queries: the same question always
//! gets the same answer, so an attacker cannot average the noise away by asking again, and batches may be cut
//! anywhere without changing an answer.

use std::sync::Arc;

use artifact::checkpoint::{Description, Policy};
use candle_core::{Device, Tensor};
use metrics::Answers;
use models::{Memories, Mode, Recommender};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use streams::{Purpose, shuffle};

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
    policy: Policy,
    policy_seed: u64,
    device: Device,
    queries: u64,
    /// The latest questions, dealt out over the threads.
    crews: Vec<Crew>,
}

/// Fewest questions of a crew.
const FEWEST: usize = 8;

/// Questions that are answered together, again and again.
#[derive(Default)]
struct Crew {
    /// What the latest were.
    histories: Vec<Vec<u32>>,
    /// What the model remembers of them.
    memories: Memories,
}

impl Crew {
    /// The states after histories, `(histories, hidden)`. Where each of them goes on by one item from the question before,
    /// or begins, the model is asked for that item alone; the answers are the same.
    fn states(&mut self, model: &dyn Recommender, histories: &[&[u32]], device: &Device) -> Result<Tensor> {
        // Taken, so that whatever goes wrong, what is remembered is never of other histories.
        let before = std::mem::take(&mut self.histories);
        let longest = model.sizes().max_len;
        let goes_on = |(before, history): (&Vec<u32>, &&[u32])| {
            history.len() <= longest && history.split_last().is_some_and(|(_, rest)| rest == before)
        };
        if histories.iter().all(|history| history.len() == 1) {
            self.memories = Memories::new(histories.len());
        } else if before.len() != histories.len() || !before.iter().zip(histories).all(goes_on) {
            return whole(model, histories, device);
        }
        let latest: Vec<u32> = histories.iter().filter_map(|history| history.last().copied()).collect();
        let latest = Tensor::from_vec(latest, histories.len(), device)?;
        let remembered =
            if kernels::fused(device) { model.extend(&mut self.memories, &latest)? } else { None };
        let Some(states) = remembered else { return whole(model, histories, device) };
        self.histories = histories.iter().map(|history| history.to_vec()).collect();
        Ok(states)
    }
}

/// The states after whole histories, `(histories, hidden)`.
fn whole(model: &dyn Recommender, histories: &[&[u32]], device: &Device) -> Result<Tensor> {
    Ok(model.encode(&model.contexts(histories).place(device)?, Mode::Evaluate)?)
}

impl ProtectedTarget {
    /// Puts the model of a checkpoint behind the policy its description states.
    pub fn new(
        model: impl Into<Arc<dyn Recommender>>,
        description: &Description,
        device: Device,
    ) -> Self {
        Self {
            model: model.into(),
            policy: description.policy,
            policy_seed: description.policy_seed,
            device,
            queries: 0,
            crews: Vec::new(),
        }
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
        let states = whole(&*self.model, histories, &self.device)?;
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
        for (history, answer) in histories.iter().zip(lists.chunks_exact_mut(k)) {
            match self.policy {
                Policy::None => {}
                Policy::Reverse => answer.reverse(),
                Policy::Random => self.shuffle_answer(history, answer),
            }
        }
    }

    fn shuffle_answer(&self, history: &[u32], answer: &mut [u32]) {
        let mut hash = Hash(self.policy_seed);
        for &item in history {
            hash.mix(u64::from(item));
        }
        let mut key = [0u8; 32];
        for (slot, word) in key.chunks_exact_mut(8).zip([
            self.policy_seed,
            Purpose::Answers as u64,
            hash.0,
            history.len() as u64,
        ]) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        shuffle(answer, &mut ChaCha8Rng::from_seed(key));
    }
}

/// A hash of a history (the finalizer of Steele's SplitMix64 at each item): it need not resist an adversary
/// who sees shuffled lists only.
struct Hash(u64);

impl Hash {
    fn mix(&mut self, word: u64) {
        let mut z = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15).wrapping_add(word);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        self.0 = z ^ (z >> 31);
    }
}

impl BlackBox for ProtectedTarget {
    fn top_k(&mut self, histories: &[&[u32]], k: usize) -> Result<Answers> {
        self.check(histories, k)?;
        let (model, device) = (&*self.model, &self.device);
        // No answer depends on who is answered beside it, so each thread takes a crew from the first layer to the list.
        let crews = if kernels::fused(device) { rayon::current_num_threads() } else { 1 };
        let crew = histories.len().div_ceil(crews).max(FEWEST);
        self.crews.resize_with(histories.len().div_ceil(crew), Crew::default);
        let lists = self.crews.par_iter_mut().zip(histories.par_chunks(crew)).map(|(crew, histories)| {
            let states = crew.states(model, histories, device)?;
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
