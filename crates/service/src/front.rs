//! A policy in front of a recommender that is not ours. The lists are that recommender's; what a guard must know besides (where an item stands
//! that was in no list, which items nobody wants after a history) it takes from a model that we have: a copy of it.
//!
//! As behind [`ProtectedTarget`](crate::black_box::ProtectedTarget), what an account is answered is a function of its history, the length of
//! the lists and the key. An account that is not remembered is worked out again, for which the recommender is asked about each
//! beginning of its history whose list is not remembered either. The list for the history itself is asked for whenever an account asks.

use std::sync::Arc;

use artifact::checkpoint::Description;
use candle_core::{Device, Tensor};
use metrics::Answers;
use models::{Contexts, Mode, Recommender};

use crate::black_box::BlackBox;
use crate::guard::clients::{Asker, Clients};
use crate::guard::{Guard, Question, Room, Standing, Standings};
use crate::key::Key;
use crate::list_memory::{ListMemory, keys};
use crate::policies::{Answering, policy_of};
use crate::{Error, Result};

/// A recommender of somebody else's behind a policy of ours.
pub struct Front {
    upstream: Box<dyn BlackBox + Send>,
    /// Items of the longest list that it answers.
    longest: usize,
    model: Arc<dyn Recommender>,
    answering: Answering,
    device: Device,
    standings: Standings,
    clients: Clients,
    lists: ListMemory,
    queries: u64,
    accounts: u64,
}

impl Front {
    /// Puts the policy that `description` states in front of `upstream`, which answers lists of `longest` at most, or any where there is none.
    /// `model` is the copy that it was fitted to, and `key` as for [`ProtectedTarget::new`](crate::black_box::ProtectedTarget::new).
    ///
    /// # Errors
    /// [`Error::Request`] for a policy that is not known or changes nothing, a key that is missing or another's, a copy of another number
    /// of items.
    pub fn new(
        (upstream, longest): (Box<dyn BlackBox + Send>, Option<usize>),
        model: Arc<dyn Recommender>,
        description: &Description,
        key: Option<Key>,
        device: Device,
    ) -> Result<Self> {
        let answering = policy_of(description, key)?;
        if matches!(answering, Answering::AsRanked) {
            let message = format!(
                "the defence is `{}`, which changes no answer; make one with `gro-defend --method guard`",
                description.defence.name
            );
            return Err(Error::Request(message));
        }
        if upstream.shortens() && matches!(answering, Answering::ByAccount(_)) {
            let message = "the recommender behind it answers with fewer items than asked for, and a guard wants whole lists";
            return Err(Error::Request(message.to_owned()));
        }
        let (items, theirs) = (model.sizes().items, upstream.items());
        if items != theirs || items != description.items {
            return Err(Error::Request(format!(
                "the copy knows {items} items, the recommender behind it {theirs}"
            )));
        }
        Ok(Self {
            upstream,
            longest: longest.unwrap_or(items),
            model,
            answering,
            device,
            standings: Standings::default(),
            clients: Clients::default(),
            lists: ListMemory::default(),
            queries: 0,
            accounts: 0,
        })
    }
}

/// The prefixes of histories that are to be asked about: all of an account that is not remembered, the whole history of one that is.
fn lengths(histories: &[&[u32]], kept: &[Option<Box<Standing>>]) -> Vec<Vec<usize>> {
    let of = |(history, kept): (&&[u32], &Option<Box<Standing>>)| {
        (if kept.is_some() { history.len() } else { 1 }..=history.len()).collect()
    };
    histories.iter().zip(kept).map(of).collect()
}

/// The recommender behind, and who asks it.
struct Upstream<'a> {
    service: &'a mut dyn BlackBox,
    askers: &'a [Asker],
    memory: &'a mut ListMemory,
}

impl Upstream<'_> {
    /// The lists of `k` for the beginnings of these `lengths` of each history, one after another. Those of whole histories are asked for, and
    /// of the others those that are not remembered, all together.
    fn lists(&mut self, histories: &[&[u32]], lengths: &[Vec<usize>], k: usize) -> Result<Vec<Vec<u32>>> {
        let mut lists = Vec::new();
        let (mut asked, mut prefixes, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        for ((history, lengths), &Asker { account, .. }) in histories.iter().zip(lengths).zip(self.askers) {
            let begin = lengths.first().copied().unwrap_or(1);
            for (length, key) in (1..).zip(keys(account, k, history)).skip(begin - 1) {
                let known = if length < history.len() { self.memory.get(&key) } else { None };
                if known.is_none() {
                    asked.push((lists.len(), key));
                    prefixes.push(&history[..length]);
                    owners.push(account);
                }
                lists.push(known.unwrap_or_default().to_vec());
            }
        }
        let answers = self.service.top_k_for(&owners, &prefixes, k)?;
        for ((place, key), list) in asked.into_iter().zip(&answers) {
            self.memory.keep(key, list);
            lists[place] = list.to_vec();
        }
        Ok(lists)
    }
}

/// The places in the model's own ranking of `items`, after the histories whose `states` `(items, hidden)` these are.
fn ranks(model: &dyn Recommender, states: &Tensor, items: Vec<u32>, device: &Device) -> Result<Vec<u32>> {
    let count = items.len();
    Ok(model.catalogue().ranks(states, &Tensor::from_vec(items, count, device)?)?.to_vec1::<u32>()?)
}

/// What a guard answers to histories, with the lists of `upstream`.
fn guarded(
    guard: &Guard,
    upstream: &mut Upstream<'_>,
    (model, device): (&dyn Recommender, &Device),
    histories: &[&[u32]],
    (standings, clients): (&mut Standings, &mut Clients),
    (k, longest): (usize, usize),
) -> Result<Vec<u32>> {
    let askers = upstream.askers;
    let suspicions: Vec<f64> = askers.iter().map(|&asker| guard.suspicion(clients, asker)).collect();
    let before =
        |(history, &suspicion): (&&[u32], &f64)| standings.take(&history[..history.len() - 1], suspicion, k);
    let kept: Vec<Option<Box<Standing>>> = histories.iter().zip(&suspicions).map(before).collect();
    let lengths = lengths(histories, &kept);
    let rows = || histories.iter().zip(&lengths);
    // Into the longest list that there is nothing comes from behind its end.
    let lists = upstream.lists(histories, &lengths, guard.reach(k).min(longest).max(k))?;

    let mut contexts = Contexts::new();
    for (history, lengths) in rows() {
        model.push_prefixes(history, lengths, &mut contexts);
    }
    let states = model.encode(&contexts.upload(device)?, Mode::Evaluate)?; // (prefixes, hidden)
    // The last prefix of a history has nothing after it, and then any item does.
    let next = rows().flat_map(|(history, lengths)| {
        lengths.iter().map(|&length| history.get(length).copied().unwrap_or(1))
    });
    let next = ranks(model, &states, next.collect(), device)?;
    let states = states.to_vec2::<f32>()?;

    let (ways, mut room) = (guard.ways(k), Room::default());
    let mut shown = Vec::with_capacity(histories.len() * k);
    let mut row = 0;
    for (((history, lengths), mut latest), (&asker, &suspicion)) in
        rows().zip(kept).zip(askers.iter().zip(&suspicions))
    {
        // The place of the next item in the copy's own ranking: behind the list, in which it is not.
        let mut outside = match &latest {
            None => 0,
            Some(standing) => {
                let state = Tensor::from_slice(&standing.state, (1, standing.state.len()), device)?;
                ranks(model, &state, vec![history[history.len() - 1]], device)?[0]
            }
        };
        for &length in lengths {
            let question =
                Question { history: &history[..length], k, ranked: &lists[row], state: &states[row] };
            let standing = match latest.take() {
                None => {
                    let state = Tensor::from_slice(&states[row], (1, states[row].len()), device)?;
                    let drawn = guard.canaries_of(model, &history[..1], &state, k, device)?.concat();
                    guard.begin(&ways, (drawn, suspicion), &question, &mut room)
                }
                Some(mut standing) => {
                    let place = standing.place_of(history[length - 1]).unwrap_or(outside.max(k as u32 + 1));
                    guard.step(&ways, (&mut standing, place), &question, &mut room);
                    standing
                }
            };
            latest = Some(standing);
            outside = next[row];
            row += 1;
        }
        if let Some(standing) = latest {
            shown.extend_from_slice(&standing.shown);
            guard.note(clients, asker, &standing);
            standings.keep(standing);
        }
    }
    Ok(shown)
}

impl BlackBox for Front {
    /// As [`Self::top_k_for`], of accounts that are numbered as they come.
    fn top_k(&mut self, histories: &[&[u32]], k: usize) -> Result<Answers> {
        let accounts: Vec<u64> = (self.queries..).take(histories.len()).collect();
        self.top_k_for(&accounts, histories, k)
    }

    fn top_k_for(&mut self, accounts: &[u64], histories: &[&[u32]], k: usize) -> Result<Answers> {
        let askers: Vec<Asker> = accounts.iter().map(|&account| Asker { client: None, account }).collect();
        self.top_k_of(&askers, histories, k)
    }

    fn top_k_of(&mut self, askers: &[Asker], histories: &[&[u32]], k: usize) -> Result<Answers> {
        let items = self.items();
        let known = |history: &[u32]| history.iter().all(|&item| (1..=items).contains(&(item as usize)));
        if k == 0 || k > items || histories.iter().any(|history| history.is_empty() || !known(history)) {
            let message = format!("expected lists of 1 to {items} after at least one of {items} items");
            return Err(Error::Request(message));
        }
        let ids = match &self.answering {
            Answering::ByAccount(guard) => guarded(
                guard,
                &mut Upstream { service: &mut *self.upstream, askers, memory: &mut self.lists },
                (&*self.model, &self.device),
                histories,
                (&mut self.standings, &mut self.clients),
                (k, self.longest),
            )?,
            answering => {
                let mut lists = self.upstream.top_k_of(askers, histories, k)?.ids;
                if let Answering::ByQuestion(policy) = answering {
                    for (history, list) in histories.iter().zip(lists.chunks_exact_mut(k)) {
                        policy.answer(history, items, list);
                    }
                }
                lists
            }
        };
        self.queries += histories.len() as u64;
        self.accounts += histories.iter().filter(|history| history.len() == 1).count() as u64;
        Ok(Answers { k, ids })
    }

    fn shortens(&self) -> bool {
        self.answering.longest().is_some() || self.upstream.shortens()
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
