//! Decoys learned by heart: the target is trained to answer a fixed other order to histories that only a thief sends
//! (docs/mathematics.md, section 5.6). Ours.
//!
//! The target goes on training from its gold weights, on three losses at once:
//!
//! ```text
//! L_t        the target's own training loss on its users' samples                 (users lose nothing)
//! L_gold     ListMLE of a_1 .. a_k, the gold target's list at some of their places (nor do their lists change)
//! L_decoy    ListMLE of pi(a_1) .. pi(a_k) after histories of thieves             (who learn another order)
//! L          L_t + keep L_gold + lambda L_decoy
//! ```
//!
//! `pi` is the permutation of the catalogue by the service's secret key, the same as the guard's decoys. Nothing has to be known of an
//! account, and nothing is decided while a service answers: it is all in the weights. What a copy has learned can be proved by the key
//! (`gro-evaluate prove`), for which the gold target is kept beside the protected one.
//!
//! Thieves' histories are of two kinds. Those of *random items* are drawn anew at every step. The others are *grown* from lists, as
//! thieves do, before training begins: half of them take any place of a list as likely as another, half prefer places near the top as
//! `1/sqrt(place)`. Until some moment of its own, after `after` items at the earliest, each grows from the gold target's lists, and from
//! then on from the decoys, for that is what a thief is answered whom the target has found out. Before `after` items nothing is asked of
//! the target: so young a history may be anybody's.
//!
//! Items that a list of decoys is held against are uniform, or, half of them, from what the target itself ranks highest: that is where the
//! true list stands.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use artifact::checkpoint::{ActsOn, Checkpoint, Defence, Description, GOLD, Kind, MODEL};
use artifact::dataset::Dataset;
use artifact::settings::checks::{above_zero, at_least, at_most, not_negative, share};
use artifact::settings::{self, Invalid, Optimizer, Owned, Section};
use candle_core::{Device, Tensor};
use models::{
    Contexts, Mode, PackedBatch, Reading, Recommender, Sizes, architecture_of, load_parameters, memory,
};
use rand::Rng;
use serde::{Deserialize, Serialize};
use service::black_box::{BlackBox, ProtectedTarget};
use service::guard::decoys::Decoys;
use stage::memory::{Need, check_loading};
use stage::{Refusal, splits};
use streams::{Purpose, Streams, below, choose, unit};
use training::fit::{Fitted, Keep, Schedule, fit};
use training::samples::Samples;
use training::{Learner, Trainee, negatives, validation};

use super::positions::pick;
use super::{Job, Method};

/// The registry's entry.
pub(super) const METHOD: Method = Method {
    name: "decoy",
    title: "Trains the target to answer thieves' histories with decoys by a secret key",
    acts_on: ActsOn::Weights,
    section: Some(Section::new::<Settings>("defend", "decoy")),
    depends_on: &["optimizer", "train"],
    needs_data: true,
    keyed: true,
    check,
    protect,
};

/// What makes a target smaller.
const SIZES: [&str; 3] = ["model.hidden", "model.blocks", "model.max_len"];

/// Share of the items held against a list of decoys that are among those that the target ranks highest.
const OWN_TOP: f64 = 0.5;

/// Histories that grow side by side.
const TOGETHER: usize = 256;

/// Histories of thieves that are kept back for validation.
const HELD_OUT: usize = 256;

/// Histories measured at a time.
const VALIDATION_BATCH: usize = 256;

/// Items of a list that are tried before one of the catalogue is taken.
const TRIES: usize = 16;

/// Settings of the defence, the section `defend.decoy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Sequences of users a batch.
    pub batch: usize,
    /// Histories of thieves beside them.
    pub thieves: usize,
    /// Epochs; the last one is kept.
    pub epochs: usize,
    /// Step length of the optimizer, whose other settings are those of `optimizer`: there is much to learn, and not from scratch.
    pub learning_rate: f64,
    /// Length k of the lists of decoys.
    pub top_k: usize,
    /// Weight of the loss on thieves' histories.
    pub lambda: f64,
    /// Weight of the loss on the gold target's lists for users.
    pub keep: f64,
    /// Histories that are grown from lists before training.
    pub histories: usize,
    /// Items of a thief's history; no more than the target reads.
    pub length: usize,
    /// Share of thieves' histories that are of random items, 0 to 1.
    pub random: f64,
    /// Items of the youngest history that decoys are answered to.
    pub after: usize,
    /// Places of a thief's history at which a list is learned, at most; drawn anew every time.
    pub positions_per_sequence: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch: 64,
            thieves: 32,
            epochs: 20,
            learning_rate: 0.003,
            top_k: 100,
            lambda: 2.0,
            keep: 2.0,
            histories: 2000,
            length: 50,
            random: 0.3,
            after: 2,
            positions_per_sequence: 10,
        }
    }
}

impl Owned for Settings {
    fn check(&self) -> Result<(), Invalid> {
        at_least("defend.decoy.batch", self.batch, 1)?;
        at_least("defend.decoy.thieves", self.thieves, 1)?;
        at_least("defend.decoy.epochs", self.epochs, 1)?;
        at_least("defend.decoy.top_k", self.top_k, 1)?;
        at_least("defend.decoy.histories", self.histories, 1)?;
        at_least("defend.decoy.length", self.length, 1)?;
        at_least("defend.decoy.after", self.after, 1)?;
        at_least("defend.decoy.positions_per_sequence", self.positions_per_sequence, 1)?;
        above_zero("defend.decoy.learning_rate", self.learning_rate)?;
        not_negative("defend.decoy.lambda", self.lambda)?;
        not_negative("defend.decoy.keep", self.keep)?;
        share("defend.decoy.random", self.random)?;
        if self.after > self.length {
            return Err(Invalid::new(format!(
                "`defend.decoy.after` is {}, but thieves' histories have `defend.decoy.length` = {} items: expected no more",
                self.after, self.length
            )));
        }
        Ok(())
    }
}

/// Histories that only a thief sends: where the random ones come from, and those that were grown.
pub struct Thieves {
    /// Items in the catalogue.
    items: usize,
    /// Items of a history.
    length: usize,
    /// Share of random ones.
    random: f64,
    /// The grown ones.
    grown: Vec<Vec<u32>>,
}

impl Thieves {
    /// The history that `stream` draws.
    fn draw(&self, stream: &mut impl Rng) -> Vec<u32> {
        if unit(stream) < self.random {
            return random_history(self.items, self.length, stream);
        }
        self.grown[below(stream, self.grown.len() as u32) as usize].clone()
    }
}

/// A history of items drawn from the whole catalogue, each once as long as there are others.
fn random_history(items: usize, length: usize, stream: &mut impl Rng) -> Vec<u32> {
    let mut history = Vec::with_capacity(length);
    for _ in 0..length {
        let item = from_catalogue(&history, items, stream);
        history.push(item);
    }
    history
}

/// Items of a thief's history for a target that reads `max_len`.
fn length_for(settings: &Settings, max_len: usize) -> Result<usize, Refusal> {
    let length = settings.length.min(max_len);
    if settings.after > length {
        return Err(Refusal::new(format!(
            "defend.decoy.after is {}, but the target reads the latest {length} items of a history: expected no more",
            settings.after
        )));
    }
    Ok(length)
}

/// An item that the history does not hold, or any where it holds all.
fn from_catalogue(history: &[u32], items: usize, stream: &mut impl Rng) -> u32 {
    loop {
        let item = 1 + below(stream, items as u32);
        if history.len() >= items || !history.contains(&item) {
            return item;
        }
    }
}

/// How one history grows.
struct Growth<S> {
    stream: S,
    /// Whether places near the top are preferred.
    near: bool,
    /// Length from which on lists are decoys.
    found_out: usize,
    history: Vec<u32>,
}

impl<S: Rng> Growth<S> {
    /// Takes an item from a true list.
    fn take(&mut self, list: &[u32], decoys: &Decoys) {
        for _ in 0..TRIES {
            let u = unit(&mut self.stream);
            // The root of a uniform place has the density 1/sqrt(place).
            let place = (if self.near { u * u } else { u } * list.len() as f64) as usize;
            let listed = list[place.min(list.len() - 1)];
            let item = if self.history.len() < self.found_out { listed } else { decoys.of(listed) };
            if !self.history.contains(&item) {
                self.history.push(item);
                return;
            }
        }
        let item = from_catalogue(&self.history, decoys.items(), &mut self.stream);
        self.history.push(item);
    }
}

/// `count` histories of `length` grown from the lists of the gold target; `part` tells sets of them apart.
fn grow(
    gold: &Arc<dyn Recommender>,
    description: &Description,
    decoys: &Decoys,
    (count, length, part): (usize, usize, u64),
    settings: &Settings,
    (streams, device): (&Streams, &Device),
) -> Result<Vec<Vec<u32>>> {
    let open = Description { defence: Defence::none(), ..description.clone() };
    let mut service = ProtectedTarget::new(Arc::clone(gold), &open, None, device.clone())?;
    let items = decoys.items();
    let mut histories = Vec::with_capacity(count);
    for first in (0..count).step_by(TOGETHER) {
        let indices = first..(first + TOGETHER).min(count);
        let mut growing: Vec<_> = indices
            .map(|index| {
                let mut stream = streams.open(Purpose::ThiefHistories, 0, index as u64, part);
                let near = below(&mut stream, 2) == 1;
                let found_out =
                    settings.after + below(&mut stream, (length - settings.after) as u32 + 1) as usize;
                let history = vec![from_catalogue(&[], items, &mut stream)];
                Growth { stream, near, found_out, history }
            })
            .collect();
        for _ in 1..length {
            let so_far: Vec<&[u32]> = growing.iter().map(|one| one.history.as_slice()).collect();
            let answers = service.top_k(&so_far, settings.top_k)?;
            for (one, list) in growing.iter_mut().zip(&answers) {
                one.take(list, decoys);
            }
        }
        histories.extend(growing.into_iter().map(|one| one.history));
    }
    Ok(histories)
}

/// A history of a thief that is not trained on, and what should be answered to it.
struct HeldOut {
    history: Vec<u32>,
    /// The decoys of the gold target's best ten.
    decoys: Vec<u32>,
}

/// A target that learns to answer thieves otherwise.
pub struct Decoy<'a> {
    /// The target, from gold weights.
    pub target: Trainee,
    /// The gold target, which stays as it is.
    gold: Arc<dyn Recommender>,
    /// The target's training samples.
    samples: Samples<'a>,
    /// The data set, for validation.
    dataset: &'a Dataset,
    thieves: Thieves,
    held_out: Vec<HeldOut>,
    /// What each item gives way to, `(items + 1)`.
    instead: Tensor,
    settings: Settings,
    streams: Streams,
    device: Device,
}

impl<'a> Decoy<'a> {
    /// Draws and grows the histories of thieves. `target` begins with the weights of `gold`, which `description` is of.
    ///
    /// # Errors
    /// A refusal where the target reads fewer items than `after`; the errors of the model.
    pub fn new(
        (target, gold): (Trainee, Arc<dyn Recommender>),
        description: &Description,
        decoys: &Decoys,
        (samples, dataset): (Samples<'a>, &'a Dataset),
        settings: Settings,
        (streams, device): (Streams, Device),
    ) -> Result<Self> {
        let items = decoys.items();
        let length = length_for(&settings, gold.sizes().max_len)?;
        let drawn = |count, part| {
            grow(&gold, description, decoys, (count, length, part), &settings, (&streams, &device))
        };
        // Without a share of their own nobody would draw them.
        let grown = if settings.random < 1.0 { drawn(settings.histories, 0)? } else { Vec::new() };
        let random = (settings.random * HELD_OUT as f64).round() as usize;
        let mut histories = drawn(HELD_OUT - random, 1)?;
        histories.extend((0..random).map(|index| {
            let mut stream = streams.open(Purpose::ThiefHistories, 0, index as u64, 2);
            random_history(items, length, &mut stream)
        }));
        for (index, history) in histories.iter_mut().enumerate() {
            let mut stream = streams.open(Purpose::ThiefHistories, 0, index as u64, 3);
            history
                .truncate(settings.after + below(&mut stream, (length - settings.after) as u32 + 1) as usize);
        }
        let mut held_out = Vec::with_capacity(histories.len());
        for histories in histories.chunks(VALIDATION_BATCH) {
            let histories: Vec<&[u32]> = histories.iter().map(Vec::as_slice).collect();
            for (history, mut list) in histories.iter().zip(best_ten(&*gold, &histories, &device)?) {
                decoys.replace(&mut list);
                held_out.push(HeldOut { history: history.to_vec(), decoys: list });
            }
        }
        let instead: Vec<u32> = (0..=items as u32).map(|item| decoys.of(item)).collect();
        let instead = Tensor::from_vec(instead, items + 1, &device)?;
        let thieves = Thieves { items, length, random: settings.random, grown };
        Ok(Self { target, gold, samples, dataset, thieves, held_out, instead, settings, streams, device })
    }

    /// How little the target's `states` `(positions, hidden)` rank `lists` `(positions, k)` on top: ListMLE, a place. `part` tells the
    /// streams of a step's lists apart.
    fn list_loss(
        &self,
        states: &Tensor,
        lists: &Tensor,
        (epoch, step, part): (u64, u64, u64),
    ) -> training::Result<Tensor> {
        let catalogue = self.target.model.catalogue();
        let stream = |layer| self.streams.open(Purpose::Negatives, epoch, step, 2 * part + layer);
        let drawn = negatives::uniform(lists, lists.dim(1)?, self.thieves.items, &mut stream(0))?;
        let against = negatives::with_own_top(catalogue, states, lists, &drawn, OWN_TOP, &mut stream(1))?;
        Ok(catalogue.list_mle(states, lists, &against)?)
    }

    /// The lists of the gold target, `(positions, k)`.
    fn true_lists(&self, contexts: &PackedBatch) -> training::Result<Tensor> {
        let states = self.gold.encode(contexts, Mode::Evaluate)?;
        Ok(self.gold.catalogue().top_k(&states, self.settings.top_k)?)
    }

    /// L_gold on the users of a step, whose `states` are those at the label positions of `contexts`.
    fn gold_loss(
        &self,
        states: &Tensor,
        contexts: &Contexts,
        (epoch, step): (u64, u64),
    ) -> training::Result<Tensor> {
        let mut places = self.streams.open(Purpose::LabelPositions, epoch, step, 1);
        let (questions, kept) = contexts.thinned(self.settings.positions_per_sequence, &mut places);
        let lists = self.true_lists(&questions.upload(&self.device)?)?;
        self.list_loss(&pick(states, &kept)?, &lists, (epoch, step, 1))
    }

    /// L_decoy on the thieves of a step.
    fn decoy_loss(&self, epoch: u64, step: u64) -> training::Result<Tensor> {
        let Self { target, settings, streams, .. } = self;
        let stream = |purpose| streams.open(purpose, epoch, step, 0);
        let (mut histories, mut places) = (stream(Purpose::ThiefHistories), stream(Purpose::LabelPositions));
        let mut contexts = Contexts::new();
        for _ in 0..settings.thieves {
            let history = self.thieves.draw(&mut histories);
            let old_enough = history.len() + 1 - settings.after;
            let chosen = choose(old_enough, settings.positions_per_sequence, &mut places);
            let prefixes: Vec<usize> = chosen.into_iter().map(|place| place + settings.after).collect();
            target.model.push_prefixes(&history, &prefixes, &mut contexts);
        }
        let packed = contexts.upload(&self.device)?;
        let lists = self.true_lists(&packed)?; // (positions, k)
        let lists = self.instead.index_select(&lists.flatten_all()?, 0)?.reshape(lists.shape())?;
        let mode = target.mode(streams.dropout(Purpose::ThiefDropout, epoch, step));
        self.list_loss(&target.model.encode(&packed, mode)?, &lists, (epoch, step, 0))
    }
}

impl Learner for Decoy<'_> {
    fn losses(&self) -> &'static [&'static str] {
        &["target_loss", "gold_loss", "decoy_loss"]
    }

    fn steps(&self) -> usize {
        self.samples.steps()
    }

    fn samples(&self) -> usize {
        self.samples.count()
    }

    fn step(&mut self, epoch: usize, step: usize) -> training::Result<Vec<Tensor>> {
        let (at_epoch, at_step) = (epoch as u64, step as u64);
        let batch = self.samples.batch(&*self.target.model, epoch, step);
        let mode = self.target.mode(self.streams.dropout(Purpose::Dropout, at_epoch, at_step));
        let states = self.target.model.encode(&batch.contexts.upload(&self.device)?, mode)?;
        let target_loss = self.target.model.training_loss(&states, &batch)?;
        let gold_loss = self.gold_loss(&states, &batch.contexts, (at_epoch, at_step))?;
        let decoy_loss = self.decoy_loss(at_epoch, at_step)?;
        let lists = ((&gold_loss * self.settings.keep)? + (&decoy_loss * self.settings.lambda)?)?;
        self.target.optimizer.step(&(&target_loss + lists)?.backward()?)?;
        Ok(vec![target_loss.detach(), gold_loss.detach(), decoy_loss.detach()])
    }

    /// The target's ranking quality; the share of the gold target's top 10 that users are still answered, with their whole histories and
    /// with the first `after` items; and the share of the decoys' top 10 that thieves are answered, whose histories were not trained on.
    fn validate(&mut self) -> training::Result<Vec<(&'static str, f64)>> {
        let (target, users) = (&*self.target.detached, self.samples.validation_users());
        let (ndcg, hit_rate) =
            validation::on_dataset(target, self.dataset, &users, VALIDATION_BATCH, &self.device)?;
        let histories: Vec<&[u32]> = users.iter().map(|&user| self.dataset.train(user)).collect();
        let kept = |histories: &[&[u32]]| {
            validation::agreement_at_10(&*self.gold, target, histories, VALIDATION_BATCH, &self.device)
        };
        // The first question that decoys may be answered to.
        let young = |history: &&[u32]| history.len() >= self.settings.after;
        let newcomers: Vec<&[u32]> = histories
            .iter()
            .filter(|history| young(history))
            .map(|history| &history[..self.settings.after])
            .collect();
        let (kept, newcomers) = (kept(&histories)?, kept(&newcomers)?);
        let mut fooled = 0.0;
        for held_out in self.held_out.chunks(VALIDATION_BATCH) {
            let histories: Vec<&[u32]> = held_out.iter().map(|one| one.history.as_slice()).collect();
            let lists = best_ten(target, &histories, &self.device)?;
            fooled += held_out
                .iter()
                .zip(&lists)
                .map(|(one, list)| metrics::agreement(&one.decoys, list, list.len()))
                .sum::<f64>();
        }
        let fooled = fooled / self.held_out.len() as f64;
        Ok(vec![
            ("ndcg@10", ndcg),
            ("hr@10", hit_rate),
            ("gold_agr@10", kept),
            ("young_agr@10", newcomers),
            ("decoy_agr@10", fooled),
        ])
    }

    fn trainees(&mut self) -> Vec<(&'static str, &mut Trainee)> {
        vec![("target", &mut self.target)]
    }
}

/// A model's best ten after each history, or all where there are fewer.
fn best_ten(
    model: &dyn Recommender,
    histories: &[&[u32]],
    device: &Device,
) -> training::Result<Vec<Vec<u32>>> {
    let states = model.encode(&model.contexts(histories).upload(device)?, Mode::Evaluate)?;
    let k = 10.min(model.sizes().items);
    Ok(model.catalogue().top_k(&states, k)?.to_vec2()?)
}

/// Refuses lists of the whole catalogue, which leave nothing that decoys could be ranked above.
fn check(all: &settings::Settings, items: usize, _: &Path) -> Result<()> {
    let own: Settings = settings::owned(&all.defend, METHOD.name)?;
    Ok(at_most("defend.decoy.top_k", own.top_k, items.saturating_sub(1))
        .map_err(|invalid| Refusal::new(format!("{invalid}: the catalogue holds {items} items")))?)
}

/// Trains the target, and writes it, its key, and the gold target beside it.
fn protect(job: &Job<'_>) -> Result<()> {
    let settings: Settings = job.own_settings()?;
    let (data, dataset) = job.dataset()?;
    let device = job.device()?;
    check_loading(job.target)?;
    let (weights, description) = load_parameters(job.target, &device)?;
    description.check_dataset(&dataset, job.target, data)?;
    splits::differ(job.target, &description.splits, data, job.other_split)?;
    check(job.settings, dataset.items(), data)?;
    let architecture = *architecture_of(&description, job.target)?;
    let sizes = Sizes::from(&description);
    length_for(&settings, sizes.max_len)?;
    let streams = Streams::new(job.settings.seed);
    let samples = Samples::new(&dataset, sizes.max_len, settings.batch, &job.settings.train, streams)?;
    if device.is_cpu() {
        let fused = kernels::fused(&device);
        let (tokens, longest) = samples.largest_batch();
        let (rows, length, places) = work_of_thieves(&settings, architecture.reading, sizes.max_len);
        let step = |tokens, longest| memory::step(architecture, &sizes, tokens, longest, fused);
        Need::new()
            .part("the target, its optimizer and copies", memory::trained(architecture, &sizes), &SIZES)
            .part("a batch of users", step(tokens, longest), &["defend.decoy.batch", "model.max_len"])
            .part(
                "a batch of thieves",
                step(rows * length, length),
                &["defend.decoy.thieves", "defend.decoy.positions_per_sequence", "defend.decoy.length"],
            )
            .part(
                "the lists of a batch",
                memory::lists(places, settings.top_k),
                &["defend.decoy.thieves", "defend.decoy.positions_per_sequence", "defend.decoy.top_k"],
            )
            .part(
                "the histories of thieves",
                4.0 * settings.histories as f64 * length,
                &["defend.decoy.histories"],
            )
            .check()?;
    }
    let optimizer = Optimizer { learning_rate: settings.learning_rate, ..job.settings.optimizer.clone() };
    let target = Trainee::new(architecture, &sizes, weights, &optimizer)?;
    let key = job.write_key()?;
    let decoys = Decoys::new(&key, dataset.items());
    let (gold, _) = models::load(job.target, &device)?;
    let schedule = Schedule {
        setting: "defend.decoy.epochs",
        step_size: "defend.decoy.learning_rate",
        epochs: settings.epochs,
        patience: 0,
        validate_every: 1,
        keep: Keep::Last,
    };
    let around = (streams, device);
    let mut decoy =
        Decoy::new((target, gold.into()), &description, &decoys, (samples, &dataset), settings, around)?;
    let Fitted { first_score, kept_score, .. } = job.run("decoy", |run| fit(&mut decoy, &schedule, run))?;
    tracing::info!(
        "validation NDCG@10 {kept_score:.4}, {:.0} % of the {first_score:.4} before",
        100.0 * kept_score / first_score
    );

    let gold = Checkpoint::read(job.target)?;
    let path = job.output.join(GOLD);
    gold.write(&path)?;
    let mut parameters = job.parameters();
    parameters.insert("key".to_owned(), key.fingerprint().into());
    parameters.insert("gold".to_owned(), artifact::digest::file(&path)?.blake3.into());
    let defence = Defence { name: METHOD.name.to_owned(), acts_on: ActsOn::Weights, parameters, over: None };
    let defence = job.over(defence, description.defence);
    let splits = splits::with(&description.splits, data)?;
    let description = Description { kind: Kind::Protected, defence, splits, ..description };
    Ok(Checkpoint { description, tensors: decoy.target.parameters.to_arrays()? }
        .write(&job.output.join(MODEL))?)
}

/// Rows of a step on thieves' histories, at most, for a target that reads `max_len` items, and the tokens of each; and the places at which
/// it learns.
pub fn work_of_thieves(settings: &Settings, reading: Reading, max_len: usize) -> (f64, f64, f64) {
    let length = settings.length.min(max_len);
    let old_enough = (length + 1).saturating_sub(settings.after);
    let places = settings.thieves as f64 * settings.positions_per_sequence.min(old_enough) as f64;
    match reading {
        // A row for every prefix, and a place to ask at.
        Reading::Cloze => (places, (length + 1) as f64, places),
        Reading::Causal => (settings.thieves as f64, length as f64, places),
    }
}

#[cfg(test)]
mod tests {
    use service::key::Key;

    use super::*;

    /// How often each place of a list of ten is taken in 40,000 takes, and whether decoys were.
    fn taken(near: bool, found_out: usize) -> [usize; 10] {
        let decoys = Decoys::new(&Key::of_seed(1), 100);
        let list: Vec<u32> = (41..=50).collect();
        let mut growth = Growth {
            stream: Streams::new(1).open(Purpose::ThiefHistories, 0, 0, 0),
            near,
            found_out,
            history: vec![7],
        };
        let mut counts = [0; 10];
        for _ in 0..40_000 {
            growth.take(&list, &decoys);
            let item = growth.history.pop().unwrap();
            let is_it = |listed: &u32| item == if found_out > 1 { *listed } else { decoys.of(*listed) };
            counts[list.iter().position(is_it).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn places_are_taken_alike_or_by_their_root_from_the_list_or_its_decoys() {
        for found_out in [1, 2] {
            // Standard deviation 60.
            assert!(taken(false, found_out).iter().all(|&count| usize::abs_diff(count, 4000) < 300));
            for (place, &count) in taken(true, found_out).iter().enumerate() {
                let root = |place: usize| (place as f64 / 10.0).sqrt();
                let share = root(place + 1) - root(place);
                assert!((count as f64 / 40_000.0 - share).abs() < 0.01, "{place}: {count}");
            }
        }
    }

    #[test]
    fn no_item_is_taken_twice_while_there_are_others() {
        let mut stream = Streams::new(1).open(Purpose::ThiefHistories, 0, 0, 0);
        let mut history = random_history(20, 20, &mut stream);
        history.sort_unstable();
        assert_eq!(history, (1..=20).collect::<Vec<u32>>());
        assert_eq!(random_history(3, 5, &mut stream).len(), 5);
        // A list that is taken already gives way to the catalogue.
        let decoys = Decoys::new(&Key::of_seed(1), 20);
        let mut growth = Growth { stream, near: false, found_out: 9, history: vec![1, 2, 3] };
        growth.take(&[1, 2, 3], &decoys);
        assert!(growth.history[3] > 3, "{:?}", growth.history);
    }

    #[test]
    fn a_step_reads_so_many_rows_and_places() {
        let settings = Settings::default();
        assert_eq!(work_of_thieves(&settings, Reading::Causal, 50), (32.0, 50.0, 320.0));
        assert_eq!(work_of_thieves(&settings, Reading::Cloze, 20), (320.0, 21.0, 320.0));
        // Of eight items seven prefixes are old enough.
        assert_eq!(work_of_thieves(&settings, Reading::Causal, 8), (32.0, 8.0, 224.0));
    }
}
