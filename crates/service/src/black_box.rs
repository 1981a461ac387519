//! What a client meets: a service that answers a history with an ordered list of item ids, and nothing else. The model, its
//! scores and the answer policy are behind it, and every query is counted.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use artifact::checkpoint::Description;
use candle_core::{Device, Tensor};
use kernels::Prepared;
use metrics::Answers;
use models::Recommender;
use rayon::prelude::*;

use crate::guard::clients::{Asker, Clients};
use crate::guard::{Guard, Question, Room, Standing, Standings};
use crate::key::Key;
use crate::policies::{Answering, policy_of};
use crate::prefix_cache::{PrefixCache, states};
use crate::prefix_memory::PrefixMemory;
use crate::{Error, Result};

/// A recommender as its users see it.
pub trait BlackBox {
    /// The ordered list of `k` item ids after each history (item ids, oldest first).
    ///
    /// # Errors
    /// [`Error::Request`] for an empty history, an id outside the catalogue, or `k` outside 1..=items.
    fn top_k(&mut self, histories: &[&[u32]], k: usize) -> Result<Answers>;

    /// As [`Self::top_k`], told which account asks each history: a service of somebody else's wants to know. What this one answers an
    /// account depends on its history alone.
    ///
    /// # Errors
    /// As [`Self::top_k`].
    fn top_k_for(&mut self, accounts: &[u64], histories: &[&[u32]], k: usize) -> Result<Answers> {
        debug_assert_eq!(accounts.len(), histories.len(), "each history is an account's");
        self.top_k(histories, k)
    }

    /// Whether what is asked next may have been answered to an earlier run, and says nothing about how long an answer takes.
    fn remembers(&self) -> bool {
        false
    }

    /// As [`Self::top_k_for`], told whose accounts they are.
    ///
    /// # Errors
    /// As [`Self::top_k`].
    fn top_k_of(&mut self, askers: &[Asker], histories: &[&[u32]], k: usize) -> Result<Answers> {
        let accounts: Vec<u64> = askers.iter().map(|asker| asker.account).collect();
        self.top_k_for(&accounts, histories, k)
    }

    /// These accounts, whose whole histories are given, ask no more about lists of `k`. What they took speaks for or against other
    /// accounts of their clients from now on, and not before.
    ///
    /// # Errors
    /// Those of the model.
    fn close(&mut self, askers: &[Asker], histories: &[&[u32]], k: usize) -> Result<()> {
        debug_assert_eq!(askers.len(), histories.len(), "each history is an account's");
        _ = k;
        Ok(())
    }

    /// Whether it says that lists may hold fewer items than were asked for: then [`NOTHING`](crate::policies::NOTHING) stands behind the last.
    fn shortens(&self) -> bool {
        false
    }

    /// Number of items in the catalogue, which every customer can see.
    fn items(&self) -> usize;

    /// Number of histories answered so far.
    fn queries(&self) -> u64;

    /// Number of accounts that asked: every one begins with a history of one item.
    fn accounts(&self) -> u64;
}

/// A model behind its answer policy.
pub struct ProtectedTarget {
    model: Arc<dyn Recommender>,
    /// The model's items, made ready for the first question.
    items: Arc<OnceLock<Prepared>>,
    answering: Arc<Answering>,
    device: Device,
    queries: u64,
    accounts: u64,
    /// One for each batch of a thread.
    caches: Vec<PrefixCache>,
    /// What was read of accounts that come in any order, for a service.
    memory: Option<Arc<PrefixMemory>>,
    /// What is kept of accounts, where answers depend on them.
    standings: Arc<Mutex<Standings>>,
    /// What is known of clients by their accounts.
    clients: Arc<Mutex<Clients>>,
}

/// Fewest questions that are worth a batch of their own.
const SMALLEST_BATCH: usize = 8;

impl ProtectedTarget {
    /// Puts the model of a checkpoint behind the answer policy that its description states. `key` is that of a policy that has one
    /// ([`crate::policies::key_of`]).
    ///
    /// # Errors
    /// [`Error::Request`] for a policy that is not known, parameters that it cannot use, a key that is missing or another's.
    pub fn new(
        model: Arc<dyn Recommender>,
        description: &Description,
        key: Option<Key>,
        device: Device,
    ) -> Result<Self> {
        let answering = Arc::new(policy_of(description, key)?);
        let items = model.sizes().items;
        if description.items != items {
            return Err(Error::Request(format!(
                "the description is of a catalogue of {} items, the model has {items}",
                description.items
            )));
        }
        let standings = Arc::default();
        Ok(Self {
            model,
            items: Arc::default(),
            answering,
            device,
            queries: 0,
            accounts: 0,
            caches: Vec::new(),
            memory: None,
            standings,
            clients: Arc::default(),
        })
    }

    /// Items of its longest list, where lists may hold fewer than were asked for.
    pub fn longest(&self) -> Option<usize> {
        self.answering.longest()
    }

    /// The same as a service, to which accounts come in any order: what was read of each is kept, within bounds, so that a causal model reads
    /// of who comes again with one item more that item alone. Otherwise it expects sequences that grow side by side.
    #[must_use]
    pub fn remembering(mut self) -> Self {
        self.memory = Some(Arc::default());
        self
    }

    /// The same service once more, for another thread: it remembers with this one what is kept of accounts, and so answers who asked here
    /// before. Each counts its own questions.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self {
            model: Arc::clone(&self.model),
            items: Arc::clone(&self.items),
            answering: Arc::clone(&self.answering),
            device: self.device.clone(),
            queries: 0,
            accounts: 0,
            caches: Vec::new(),
            memory: self.memory.clone(),
            standings: Arc::clone(&self.standings),
            clients: Arc::clone(&self.clients),
        }
    }

    /// Whether a policy stands between the model's ranking and what is answered.
    pub fn changes_answers(&self) -> bool {
        !matches!(*self.answering, Answering::AsRanked)
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
        let reach = match &*self.answering {
            Answering::ByAccount(guard) => guard.reach(k).min(candidates.k),
            Answering::AsRanked | Answering::ByQuestion(_) => k,
        };
        let mut answers = Vec::with_capacity(histories.len() * reach);
        for (scores, candidates) in scores.iter().zip(candidates) {
            answers.extend(metrics::top_k(candidates, scores, reach));
        }
        let items = self.items();
        match &*self.answering {
            Answering::AsRanked => {}
            Answering::ByQuestion(policy) => {
                for (history, list) in histories.iter().zip(answers.chunks_exact_mut(k)) {
                    policy.answer(history, items, list);
                }
            }
            // Whether an account is flagged is known from what it would have been answered, not from candidates.
            Answering::ByAccount(guard) => {
                let mut cut = Vec::with_capacity(histories.len() * k);
                for (history, list) in histories.iter().zip(answers.chunks_exact_mut(reach)) {
                    let standing =
                        guard.replay(&*self.model, (history, history.len(), k), 0.0, &self.device, |_| {})?;
                    if standing.is_some_and(|standing| standing.flagged) {
                        guard.decoys().reorder(&mut list[..k]);
                    } else {
                        guard.mark(history, list);
                    }
                    cut.extend_from_slice(&list[..k]);
                }
                answers = cut;
            }
        }
        Ok(Answers { k, ids: answers })
    }
}

/// The items of a model, ready.
fn prepared<'a>(items: &'a OnceLock<Prepared>, model: &dyn Recommender) -> Result<&'a Prepared> {
    if let Some(prepared) = items.get() {
        return Ok(prepared);
    }
    // Of threads that come here at once, one keeps what it made.
    let made = Prepared::new(model.catalogue())?;
    Ok(items.get_or_init(|| made))
}

/// Where accounts stood before the last items of `histories`; worked out where nothing is kept of them.
fn standings_before(
    guard: &Guard,
    model: &dyn Recommender,
    (histories, suspicions): (&[&[u32]], &[f64]),
    kept: &mut [Option<Box<Standing>>],
    k: usize,
    device: &Device,
) -> Result<()> {
    for ((history, &suspicion), standing) in histories.iter().zip(suspicions).zip(kept) {
        if standing.is_none() && history.len() > 1 {
            *standing = guard.replay(model, (history, history.len() - 1, k), suspicion, device, |_| {})?;
        }
    }
    Ok(())
}

/// Answers a batch of accounts, whose model's `states` `(histories, hidden)` are known. `kept` is where they stood before, and stand
/// afterwards.
fn answer_accounts(
    guard: &Guard,
    (model, catalogue): (&dyn Recommender, &Prepared),
    (histories, suspicions, states): (&[&[u32]], &[f64], &Tensor),
    kept: &mut [Option<Box<Standing>>],
    k: usize,
    device: &Device,
) -> Result<()> {
    standings_before(guard, model, (histories, suspicions), kept, k, device)?;
    let reach = guard.reach(k);
    let ranked = catalogue.top_k(states, reach)?.flatten_all()?.to_vec1::<u32>()?;
    let rows_of = |rows: &[usize]| -> Result<Tensor> {
        let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        Ok(states.index_select(&Tensor::from_slice(&rows, rows.len(), device)?, 0)?)
    };
    let new: Vec<usize> = (0..histories.len()).filter(|&row| histories[row].len() == 1).collect();
    let mut canaries = if new.is_empty() {
        Vec::new()
    } else {
        let firsts: Vec<u32> = new.iter().map(|&row| histories[row][0]).collect();
        guard.canaries_of(model, &firsts, &rows_of(&new)?, k, device)?
    }
    .into_iter();
    let places = places_of(model, histories, kept, device)?;
    let (ways, states) = (guard.ways(k), states.flatten_all()?.to_vec1::<f32>()?);
    let (width, mut room) = (states.len() / histories.len().max(1), Room::default());
    for (row, history) in histories.iter().enumerate() {
        let question = Question {
            history,
            k,
            ranked: &ranked[row * reach..(row + 1) * reach],
            state: &states[row * width..(row + 1) * width],
        };
        match &mut kept[row] {
            Some(standing) => guard.step(&ways, (standing, places[row]), &question, &mut room),
            none => {
                let drawn = canaries.next().unwrap_or_default();
                *none = Some(guard.begin(&ways, (drawn, suspicions[row]), &question, &mut room));
            }
        }
    }
    Ok(())
}

/// Where accounts took their latest items from: the places in the lists that they were shown, or else in the model's own ranking before; 0
/// for who begins.
fn places_of(
    model: &dyn Recommender,
    histories: &[&[u32]],
    kept: &[Option<Box<Standing>>],
    device: &Device,
) -> Result<Vec<u32>> {
    let taken = |row: usize| histories[row].last().copied().unwrap_or(0);
    let mut outside: Vec<(usize, &Standing)> = Vec::new();
    let mut places = vec![0; histories.len()];
    for (row, before) in kept.iter().enumerate() {
        if let Some(before) = before {
            match before.place_of(taken(row)) {
                Some(place) => places[row] = place,
                None => outside.push((row, before)),
            }
        }
    }
    if let Some((_, first)) = outside.first() {
        let shape = (outside.len(), first.state.len());
        let before: Vec<f32> =
            outside.iter().flat_map(|(_, standing)| standing.state.iter().copied()).collect();
        let items: Vec<u32> = outside.iter().map(|(row, _)| taken(*row)).collect();
        let items = Tensor::from_vec(items, outside.len(), device)?;
        let ranks =
            model.catalogue().ranks(&Tensor::from_vec(before, shape, device)?, &items)?.to_vec1::<u32>()?;
        for ((row, _), rank) in outside.into_iter().zip(ranks) {
            places[row] = rank;
        }
    }
    Ok(places)
}

impl ProtectedTarget {
    /// The lists after these histories. `askers` are whose they are, where that is known.
    fn answer(&mut self, askers: Option<&[Asker]>, histories: &[&[u32]], k: usize) -> Result<Answers> {
        self.check(histories, k)?;
        let (model, device, items) = (&*self.model, &self.device, self.items());
        let catalogue = prepared(&self.items, &*self.model)?;
        // No answer depends on who is answered beside it, so each thread takes a batch from the first layer to the list.
        let threads = if kernels::fused(device) { rayon::current_num_threads() } else { 1 };
        let batch = histories.len().div_ceil(threads).max(SMALLEST_BATCH);
        self.caches.resize_with(histories.len().div_ceil(batch), PrefixCache::default);
        let memory = self.memory.as_deref();
        let read = |cache: &mut PrefixCache, histories: &[&[u32]]| match memory {
            Some(memory) => memory.states(model, histories, device),
            None => cache.states(model, histories, device),
        };
        let ids = match &*self.answering {
            Answering::ByAccount(guard) => {
                let suspicions: Vec<f64> = match askers {
                    None => vec![0.0; histories.len()],
                    Some(askers) => {
                        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
                        askers.iter().map(|&asker| guard.suspicion(&clients, asker)).collect()
                    }
                };
                let standings = || self.standings.lock().unwrap_or_else(PoisonError::into_inner);
                let mut kept: Vec<Option<Box<Standing>>> = {
                    let mut standings = standings();
                    let before = |(history, &suspicion): (&&[u32], &f64)| {
                        standings.take(&history[..history.len() - 1], suspicion, k)
                    };
                    histories.iter().zip(&suspicions).map(before).collect()
                };
                let batches = self.caches.par_iter_mut().zip(histories.par_chunks(batch));
                let batches = batches.zip(suspicions.par_chunks(batch)).zip(kept.par_chunks_mut(batch));
                batches.try_for_each(|(((cache, histories), suspicions), kept)| {
                    let states = read(cache, histories)?;
                    let asked = (histories, suspicions, &states);
                    answer_accounts(guard, (model, catalogue), asked, kept, k, device)
                })?;
                let mut ids = Vec::with_capacity(histories.len() * k);
                // A service is not told when an account ends: what it took counts at once.
                let noting = askers.filter(|_| memory.is_some());
                let mut standings = standings();
                let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
                for (row, standing) in kept.into_iter().enumerate() {
                    let Some(standing) = standing else { continue };
                    ids.extend_from_slice(&standing.shown);
                    if let Some(askers) = noting {
                        guard.note(&mut clients, askers[row], &standing);
                    }
                    standings.keep(standing);
                }
                ids
            }
            answering => {
                let batches = self.caches.par_iter_mut().zip(histories.par_chunks(batch));
                let lists = batches.map(|(cache, histories)| {
                    let states = read(cache, histories)?;
                    Ok(catalogue.top_k(&states, k)?.flatten_all()?.to_vec1::<u32>()?)
                });
                let mut ids = lists.collect::<Result<Vec<_>>>()?.concat();
                if let Answering::ByQuestion(policy) = answering {
                    for (history, list) in histories.iter().zip(ids.chunks_exact_mut(k)) {
                        policy.answer(history, items, list);
                    }
                }
                ids
            }
        };
        self.queries += histories.len() as u64;
        self.accounts += histories.iter().filter(|history| history.len() == 1).count() as u64;
        Ok(Answers { k, ids })
    }
}

impl BlackBox for ProtectedTarget {
    fn top_k(&mut self, histories: &[&[u32]], k: usize) -> Result<Answers> {
        self.answer(None, histories, k)
    }

    fn top_k_of(&mut self, askers: &[Asker], histories: &[&[u32]], k: usize) -> Result<Answers> {
        debug_assert_eq!(askers.len(), histories.len(), "each history is an account's");
        self.answer(Some(askers), histories, k)
    }

    fn close(&mut self, askers: &[Asker], histories: &[&[u32]], k: usize) -> Result<()> {
        let Answering::ByAccount(guard) = &*self.answering else { return Ok(()) };
        // All of them first: none of them began after another ended.
        let clients = || self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let suspicions: Vec<f64> = {
            let clients = clients();
            askers.iter().map(|&asker| guard.suspicion(&clients, asker)).collect()
        };
        for ((&asker, history), suspicion) in askers.iter().zip(histories).zip(suspicions) {
            if asker.client.is_none() {
                continue;
            }
            let mut standing =
                self.standings.lock().unwrap_or_else(PoisonError::into_inner).take(history, suspicion, k);
            if standing.is_none() {
                let whole = (*history, history.len(), k);
                standing = guard.replay(&*self.model, whole, suspicion, &self.device, |_| {})?;
            }
            if let Some(standing) = standing {
                guard.note(&mut clients(), asker, &standing);
            }
        }
        Ok(())
    }

    fn shortens(&self) -> bool {
        self.longest().is_some()
    }

    fn items(&self) -> usize {
        self.model.sizes().items
    }

    fn queries(&self) -> u64 {
        self.queries
    }

    fn accounts(&self) -> u64 {
        self.accounts
    }
}
