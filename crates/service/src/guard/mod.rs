//! `guard`: answers as ranked while an account takes like a user, and with decoys once it takes like a thief
//! (docs/mathematics.md, section 6.1).
//!
//! Three things, each in a file of its own. [`evidence`] weighs the places that an account took from against those of users and of
//! thieves. [`canaries`] put items that nobody wants after this history into the places past the first ten: users do not take
//! them, and who takes from a list without taste takes one soon. Once the evidence is above a threshold, [`decoys`] answer: a
//! permutation of the catalogue, so that a copy learns a recommender that is wrong, the same every time, and told by
//! the key alone.
//!
//! An account may be one of many of a client: what his other accounts took speaks against a new one, or not ([`clients`]).
//!
//! What is answered to who is not flagged can carry a [`watermark`], for the copy of a thief who never is.
//!
//! Everything is a function of the history, the length of the lists and the key: an account is its history, and an account
//! that was forgotten is worked out again, under the suspicion that it began under. The questions before are taken to have been about lists of the same length. Nothing
//! is held against an account for ever: a user wrongly flagged takes items that no decoy showed him, and the evidence falls.

pub mod canaries;
pub mod clients;
pub mod decoys;
pub mod evidence;
pub mod fit;
mod standing;
pub mod watermark;

use artifact::settings::{Invalid, Owned};
use candle_core::{Device, Tensor};
use models::{Contexts, Mode, Recommender};
use serde::{Deserialize, Serialize};

use self::canaries::Canaries;
pub(crate) use self::canaries::Room;
use self::clients::{Asker, ClientEvidence, Clients};
use self::decoys::Decoys;
use self::evidence::{Chance, Ways};
pub use self::standing::Taken;
pub(crate) use self::standing::{Standing, Standings};
use self::watermark::Green;
use crate::Result;
use crate::key::Key;
use crate::policies::check_key;

/// What a guard was set to and what was fitted to users, as the description of a protected target keeps it. None of it is secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// First places of a list, which hold no canary.
    pub honest: usize,
    /// Share of the places past these that hold canaries, for an account that nothing speaks for.
    pub canaries: f64,
    /// Evidence for a user, in nats, at which a list holds no canary any more; between that and none, their number falls evenly.
    pub trust: f64,
    /// Share of their places by which green items are lifted; 0 where answers carry no watermark.
    #[serde(default, skip_serializing_if = "is_none")]
    pub watermark: f64,
    /// Share of users that may ever be flagged, of those the threshold was set on.
    pub false_alarms: f64,
    /// Evidence in nats above which an account is flagged.
    pub threshold: f64,
    /// Upper ends of the bins of places.
    pub bins: Vec<u32>,
    /// Parameters of the users' Dirichlet, a bin each.
    pub users: Vec<f64>,
    /// How often users take canaries.
    pub chance: Chance,
    /// What accounts say of other accounts of their client; none where they say nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<ClientEvidence>,
    /// Fingerprint of the key.
    pub key: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_none(watermark: &f64) -> bool {
    *watermark == 0.0
}

/// Those of [`Parameters`] that no setting names: they were fitted to users.
pub const FITTED: [&str; 4] = ["threshold", "bins", "users", "chance"];

impl Default for Parameters {
    fn default() -> Self {
        Self {
            honest: 10,
            canaries: 0.5,
            trust: 4.0,
            watermark: 0.0,
            false_alarms: 0.05,
            threshold: f64::INFINITY,
            bins: Vec::new(),
            users: Vec::new(),
            chance: Chance::fit(0, 0),
            clients: None,
            key: String::new(),
        }
    }
}

impl Owned for Parameters {
    fn check(&self) -> std::result::Result<(), Invalid> {
        let refused =
            |message: &str| Err(Invalid::new(format!("the guard's parameters are damaged: {message}")));
        if self.bins.is_empty() || self.bins.len() != self.users.len() {
            return refused("bins and users are not equally many");
        }
        if !self.bins.is_sorted_by(|a, b| a < b) || !self.users.iter().all(|alpha| *alpha > 0.0) {
            return refused("bins do not ascend, or a parameter of the users is not above 0");
        }
        if !(0.0..=MOST_LIFTED).contains(&self.watermark) {
            return refused("the watermark lifts items by no share of their places that there can be");
        }
        let chance = self.chance.user > 0.0 && self.chance.user < 1.0;
        if !chance
            || self.trust.is_nan()
            || self.trust <= 0.0
            || !(0.0..1.0).contains(&self.canaries)
            || self.threshold.is_nan()
            || self.clients.is_some_and(|clients| !clients.is_sound())
        {
            return refused("a share or a chance is outside 0 to 1");
        }
        Ok(())
    }
}

/// The guard of a target.
#[derive(Debug)]
pub struct Guard {
    parameters: Parameters,
    key: Key,
    decoys: Decoys,
    /// None where answers carry no watermark.
    green: Option<Green>,
}

/// Share of their places by which a watermark may lift green items, at most.
pub const MOST_LIFTED: f64 = 0.5;

/// Prefixes of a history that are read together when an account is worked out again.
const REPLAYED: usize = 128;

impl Guard {
    /// A guard with these parameters and this key, of a catalogue of `items`.
    ///
    /// # Errors
    /// Damaged parameters; those of another catalogue; a key other than the one that they were made with.
    pub fn new(parameters: Parameters, key: Key, items: usize) -> std::result::Result<Self, Invalid> {
        parameters.check()?;
        // Before anything of that size is made.
        let fitted = parameters.bins.last().map_or(0, |&end| end as usize);
        if fitted != items {
            return Err(Invalid::new(format!(
                "the guard was fitted to a catalogue of {fitted} items, the model has {items}"
            )));
        }
        check_key(&key, &parameters.key)?;
        Ok(Self::with(parameters, key))
    }

    fn with(parameters: Parameters, key: Key) -> Self {
        let items = parameters.bins.last().map_or(0, |&end| end as usize);
        let green = (parameters.watermark > 0.0).then(|| Green::new(&key, items));
        Self { decoys: Decoys::new(&key, items), green, parameters, key }
    }

    /// What it was set to.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Number of items in the catalogue it was fitted to.
    pub fn items(&self) -> usize {
        self.decoys.items()
    }

    /// What the two hypotheses say of lists of `k`.
    pub(crate) fn ways(&self, k: usize) -> Ways {
        Ways::new(&self.parameters.bins, &self.parameters.users, k)
    }

    /// The canaries of a list of `k`.
    pub(crate) fn canaries(&self, k: usize) -> Canaries<'_> {
        Canaries::new(&self.key, self.parameters.honest, self.parameters.canaries, k)
    }

    /// Decoys in place of a list, for whoever is flagged.
    pub(crate) fn decoys(&self) -> &Decoys {
        &self.decoys
    }

    /// Items to rank for a list of `k`: the watermark lets some from behind its end come into it.
    pub(crate) fn reach(&self, k: usize) -> usize {
        (k + watermark::reach(self.parameters.watermark)).min(self.items())
    }

    /// Puts the watermark, where there is one, into what is ranked after a history, for whoever is not flagged.
    pub(crate) fn mark(&self, history: &[u32], ranked: &mut [u32]) {
        if let Some(green) = &self.green {
            green.lift(ranked, self.parameters.watermark, watermark::noise(&self.key, history));
        }
    }

    /// The most suspicion that an account begins under because of others of its client, in nats: enough that it is believed no sooner than
    /// after it spoke for itself with [`Parameters::trust`].
    fn most_suspicion(&self) -> f64 {
        self.parameters.threshold.max(0.0) + self.parameters.trust
    }

    /// Under how much suspicion an account stands because of others of its client, in nats.
    pub(crate) fn suspicion(&self, clients: &Clients, asker: Asker) -> f64 {
        self.parameters
            .clients
            .map_or(0.0, |evidence| clients.suspicion(&evidence, asker, self.most_suspicion()))
    }

    /// Notes what the account that stands here says of its client.
    pub(crate) fn note(&self, clients: &mut Clients, asker: Asker, standing: &Standing) {
        if let Some(evidence) = &self.parameters.clients {
            let own = &standing.evidence;
            let nats = (own.taken() > 0).then(|| own.nats());
            clients.note(evidence, asker, (standing.suspicion, self.most_suspicion()), nats);
        }
    }

    /// Where an account stands that begins with this question under such a suspicion, and what it is answered; `drawn` are its canaries.
    pub(crate) fn begin(
        &self,
        ways: &Ways,
        (drawn, suspicion): (Vec<u32>, f64),
        question: &Question<'_>,
        room: &mut Room,
    ) -> Box<Standing> {
        let mut standing = Box::new(Standing {
            history: question.history.to_vec(),
            evidence: ways.begin(),
            suspicion,
            taken: None,
            flagged: false,
            shown: Vec::with_capacity(question.ranked.len()),
            canaries: Vec::new(),
            drawn,
            state: Vec::with_capacity(question.state.len()),
        });
        self.answer(&mut standing, question, room);
        standing
    }

    /// Where an account stands after it took the last item of `history` from `place`, and what it is answered. `standing` is where it
    /// stood before: a place in the list shown then, or else in the model's own ranking.
    pub(crate) fn step(
        &self,
        ways: &Ways,
        (standing, place): (&mut Standing, u32),
        question: &Question<'_>,
        room: &mut Room,
    ) {
        let k = question.k;
        let item = question.history[question.history.len() - 1];
        let (shown, canary) = (standing.canaries.len(), standing.canaries.contains(&item));
        ways.take(&mut standing.evidence, place, self.parameters.chance.weigh(shown, k, canary));
        standing.taken = Some(Taken { place, canary, canaries: shown });
        standing.history.push(item);
        self.answer(standing, question, room);
    }

    /// What an account is answered that stands here.
    fn answer(&self, standing: &mut Standing, question: &Question<'_>, room: &mut Room) {
        let nats = standing.nats();
        standing.flagged = nats > self.parameters.threshold;
        standing.shown.clear();
        standing.shown.extend_from_slice(question.ranked);
        standing.state.clear();
        standing.state.extend_from_slice(question.state);
        standing.canaries.clear();
        if standing.flagged {
            standing.shown.truncate(question.k);
            self.decoys.replace(&mut standing.shown);
        } else {
            // Before there are canaries, of which none may come among the honest places.
            self.mark(question.history, &mut standing.shown);
            standing.shown.truncate(question.k);
            let doubt = (1.0 + nats / self.parameters.trust).clamp(0.0, 1.0);
            let canaries = self.canaries(question.k);
            let Standing { shown, canaries: put, drawn, .. } = standing;
            canaries.put(doubt, question.history, drawn, shown, (put, room));
        }
    }

    /// The canaries of accounts that begin with these items, whose model's states are `(accounts, hidden)`.
    ///
    /// # Errors
    /// Those of the model.
    pub(crate) fn canaries_of(
        &self,
        model: &dyn Recommender,
        firsts: &[u32],
        states: &Tensor,
        k: usize,
        device: &Device,
    ) -> Result<Vec<Vec<u32>>> {
        let canaries = self.canaries(k);
        let candidates: Vec<Vec<u32>> =
            firsts.iter().map(|&first| canaries.candidates(first, self.items())).collect();
        let count = candidates.first().map_or(0, Vec::len);
        if count == 0 {
            return Ok(candidates);
        }
        let ids = Tensor::from_vec(candidates.concat(), (firsts.len(), count), device)?;
        let scores = model.catalogue().pick(states, &ids)?.to_vec2::<f32>()?;
        Ok(candidates
            .iter()
            .zip(&scores)
            .map(|(candidates, scores)| canaries.choose(candidates, scores))
            .collect())
    }

    /// What the guard makes of an account at each of its questions about lists of `k`.
    ///
    /// # Errors
    /// Those of the model.
    pub fn watch(
        &self,
        model: &dyn Recommender,
        history: &[u32],
        k: usize,
        device: &Device,
    ) -> Result<Vec<Watched>> {
        let mut watched = Vec::with_capacity(history.len());
        self.replay(model, (history, history.len(), k), 0.0, device, |standing| {
            let (nats, flagged) = (standing.nats(), standing.flagged);
            watched.push(Watched { taken: standing.taken, nats, flagged, state: standing.state.clone() });
        })?;
        Ok(watched)
    }

    /// Where an account that began under a suspicion stood at each of the first `until` questions of `history`, in order: `visit` is shown each.
    /// Returns the last.
    ///
    /// # Errors
    /// Those of the model.
    pub(crate) fn replay(
        &self,
        model: &dyn Recommender,
        (history, until, k): (&[u32], usize, usize),
        suspicion: f64,
        device: &Device,
        mut visit: impl FnMut(&Standing),
    ) -> Result<Option<Box<Standing>>> {
        let (ways, catalogue, mut room) = (self.ways(k), model.catalogue(), Room::default());
        let mut latest: Option<Box<Standing>> = None;
        // The place of the next item in the model's own ranking after the prefix before.
        let mut outside = 0;
        for first in (1..=until).step_by(REPLAYED) {
            let prefixes: Vec<usize> = (first..=until).take(REPLAYED).collect();
            let mut contexts = Contexts::new();
            model.push_prefixes(history, &prefixes, &mut contexts);
            let states = model.encode(&contexts.upload(device)?, Mode::Evaluate)?;
            let ranked = catalogue.top_k(&states, self.reach(k))?.to_vec2::<u32>()?;
            // The last prefix may have nothing after it, and then any item does.
            let next: Vec<u32> =
                prefixes.iter().map(|&length| history.get(length).copied().unwrap_or(1)).collect();
            let next = catalogue
                .ranks(&states, &Tensor::from_vec(next, prefixes.len(), device)?)?
                .to_vec1::<u32>()?;
            let mut drawn = if first == 1 {
                self.canaries_of(model, &history[..1], &states.narrow(0, 0, 1)?, k, device)?.concat()
            } else {
                Vec::new()
            };
            let states = states.to_vec2::<f32>()?;
            for (row, &length) in prefixes.iter().enumerate() {
                let question =
                    Question { history: &history[..length], k, ranked: &ranked[row], state: &states[row] };
                let standing = match latest.take() {
                    None => self.begin(&ways, (std::mem::take(&mut drawn), suspicion), &question, &mut room),
                    Some(mut standing) => {
                        let place = standing.place_of(history[length - 1]).unwrap_or(outside);
                        self.step(&ways, (&mut standing, place), &question, &mut room);
                        standing
                    }
                };
                visit(&standing);
                latest = Some(standing);
                outside = next[row];
            }
        }
        Ok(latest)
    }
}

/// What a guard makes of an account at one of its questions.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    /// The last item taken; none at the first question.
    pub taken: Option<Taken>,
    /// The evidence that it is a thief's, in nats.
    pub nats: f64,
    /// Whether the question is answered with decoys.
    pub flagged: bool,
    /// The model's state after the history, `(hidden)`: what other detectors look at.
    pub state: Vec<f32>,
}

/// A question, and what the model says to it.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    /// The items so far, oldest first.
    pub(crate) history: &'a [u32],
    /// Items of the list that is answered.
    pub(crate) k: usize,
    /// The model's best items, best first: `k` at least, and as many as [`Guard::reach`] says where they are to be had.
    pub(crate) ranked: &'a [u32],
    /// The model's state, `(hidden)`.
    pub(crate) state: &'a [f32],
}
