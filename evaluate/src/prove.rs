//! The command `prove`: was a suspect trained on the answers of a target that answers thieves with decoys, be it by a guard or by what it
//! has learned?
//!
//! Whoever was answered with decoys and learned from them answers as the decoys do, and decoys are told by the key alone. The suspect
//! is asked about histories that are answered with decoys, and how far its lists agree with the decoys of the true key is compared with how far
//! they agree with those of many public keys. A model that never saw the service's answers knows nothing of any key, so that the
//! true one is as likely as any other to stand first: with M public keys, of which some agree at least as much,
//! `p = (1 + some) / (M + 1)`, exactly. The histories are drawn without the key, for else they could hold decoys of it themselves.
//!
//! Decoys stand for the items of true lists, which a guarded model ranks itself. One that has learned the decoys does not any more: its
//! lists are those of the gold target, which is kept beside it.
//!
//! Where the target's answers carry a watermark as well, [`watermark`] is a second test of the same kind.

pub mod page;
pub mod watermark;

use std::path::{Path, PathBuf};

use anyhow::Context;
use artifact::checkpoint::{ActsOn, Description, GOLD, MODEL};
use artifact::dataset::{self, Dataset};
use candle_core::Device;
use models::{ARCHITECTURES, Mode, Recommender};
use rayon::prelude::*;
use remote::{Address, Ledger};
use serde::{Deserialize, Serialize};
use service::black_box::{BlackBox, ProtectedTarget};
use service::guard::Guard;
use service::guard::decoys::Decoys;
use service::key::{Key, key_path};
use service::policies::{Answering, check_key, key_of, policy_of};
use stage::memory::check_loading;
use stage::{Checked, Flags, Interruption, Plan, Refusal, progress, settings};
use streams::{Purpose, Streams, below, choose};

use crate::figures::Network;

use self::watermark::{Corrected, Neighbours, Watermark};

/// Name of the page for people.
pub const PAGE: &str = "proof.html";
/// Name of the same for programs.
pub const PROOF: &str = "proof.json";

/// Length of the lists that are compared.
const TOP: usize = 10;
/// Items of the shortest history asked about.
const SHORTEST: usize = 5;
/// Histories asked about together.
const TOGETHER: usize = 64;

/// What `gro-evaluate prove` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Directory of the suspect (its model.safetensors), http(s)://…, or 'command:PROGRAM ARGUMENTS'
    ///
    /// A suspect that others run is asked as its customers ask it, each history by an account of its own. It needs --data, whose raw ids tell which
    /// items it speaks of.
    #[arg(long, value_name = "SUSPECT")]
    pub suspect: Address,
    /// Directory of the target, protected by guard or decoy, that may have been stolen
    #[arg(long, value_name = "DIR")]
    pub protected: PathBuf,
    /// Key of the protected target; by default answer.key beside its model
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Dataset of the protected target: for the watermark, beginnings of its users' histories are asked about as well; its raw ids are those of a
    /// suspect that others run
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Histories to ask the suspect about
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(20..=1_000_000))]
    pub probes: u32,
    /// Public keys to compare with: p is at least 1 / (NUMBER + 1)
    #[arg(long, value_name = "NUMBER", default_value_t = 9999, value_parser = clap::value_parser!(u32).range(19..=10_000_000))]
    pub keys: u32,
    /// Directory to write proof.json and proof.html to
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Go on where an interrupted run was that asked a suspect that others run
    ///
    /// Every answer is kept in OUT.state as it comes, and none is asked for twice.
    #[arg(long)]
    pub resume: bool,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub remote: remote::Flags,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub flags: Flags,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Proof {
    /// BLAKE3 of the suspect's checkpoint; the address of one that others run, where it does not name its checkpoint.
    pub suspect: String,
    /// Its network.
    pub suspect_architecture: String,
    /// BLAKE3 of the protected target's checkpoint.
    pub protected: String,
    /// Its network.
    pub protected_architecture: String,
    /// Fingerprint of the key.
    pub key: String,
    /// Items in the catalogue.
    pub items: usize,
    /// Histories asked about.
    pub probes: usize,
    /// Those of them that are answered with decoys: that the guard flags, or that the target has learned to. The others say nothing, and are
    /// kept: the key has a say in which they are, and no choice may depend on it.
    pub flagged: usize,
    /// Public keys compared with.
    pub keys: usize,
    /// Mean agreement of the suspect's ten items with the decoys of the true key, 0 to 1.
    pub agreement: f64,
    /// The same with those of the public keys: mean, standard deviation, highest.
    pub others: Others,
    /// Public keys that agree at least as much as the true one.
    pub at_least_as_high: usize,
    /// Chance of that where the suspect never saw an answer of the protected target.
    pub p: f64,
    /// Agreement of the suspect with the target's true lists for the same histories, 0 to 1: for orientation, it proves nothing.
    pub agreement_with_true_lists: f64,
    /// What was found of the watermark; none where the target's answers carry none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Watermark>,
    /// The chances of both tests, corrected for being two; none where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrected: Option<Corrected>,
}

/// What public keys come to: agreement with their decoys, or the share of their watermark.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Others {
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub deviation: f64,
    /// The highest.
    pub highest: f64,
}

impl Others {
    fn of(others: &[f64]) -> Self {
        let mean = metrics::mean(others);
        let squares: Vec<f64> = others.iter().map(|other| (other - mean).powi(2)).collect();
        let highest = others.iter().copied().fold(0.0, f64::max);
        Self { mean, deviation: metrics::mean(&squares).sqrt(), highest }
    }
}

/// Prove, or fail to, unless that was done before; prints the finding.
///
/// Fails, as a refusal, where a model is missing, damaged or of another catalogue, the target answers nobody with decoys, or the key is not its own.
pub fn prove(arguments: &Arguments) -> anyhow::Result<()> {
    arguments.remote.check(&arguments.suspect)?;
    let settings = settings::load(&arguments.flags)?;
    match &arguments.suspect {
        Address::Directory(directory) => of_checkpoint(arguments, &settings, directory),
        service => of_service(arguments, &settings, service),
    }
}

impl Arguments {
    /// The plan to make the output, before it names the suspect.
    fn plan(&self, settings: &Checked) -> Plan {
        let key_file = self.key_file.clone().unwrap_or_else(|| key_path(&self.protected));
        let gold = self.protected.join(GOLD);
        let plan = Plan::new("gro-evaluate prove", &self.out, &self.flags, settings, &[])
            .argument("probes", self.probes)
            .argument("keys", self.keys)
            .input(self.protected.join(MODEL))
            .inputs(self.data.iter().flat_map(|data| dataset::files(data)));
        // Without a key the refusal of the target says more than a missing input would.
        let plan = if key_file.exists() { plan.input(&key_file) } else { plan };
        if gold.exists() { plan.input(&gold) } else { plan }
    }

    /// Holds a suspect against the target and writes what is found.
    fn write(
        &self,
        settings: &Checked,
        (target, suspect): (Protected, Suspect<'_>),
        users: Option<&Dataset>,
        (device, directory): (&Device, &Path),
    ) -> anyhow::Result<()> {
        let wanted = Wanted {
            probes: self.probes as usize,
            keys: self.keys as usize,
            users,
            seed: settings.seed,
            quiet: self.flags.quiet,
        };
        let (proof, others) = compare(target, suspect, &wanted, device)?;
        artifact::metrics::write(&directory.join(PROOF), &proof)?;
        let path = directory.join(PAGE);
        std::fs::write(&path, page::page(&proof, &others.decoys, &others.watermark))
            .with_context(|| format!("cannot write {}", path.display()))?;
        tracing::info!("{}", page::finding(&proof));
        Ok(())
    }
}

fn of_checkpoint(arguments: &Arguments, settings: &Checked, directory: &Path) -> anyhow::Result<()> {
    if arguments.resume {
        let message = "--resume is for a suspect that others run, whose answers are kept; a checkpoint is asked anew in no time";
        return Err(Refusal::new(message).into());
    }
    let plan = arguments.plan(settings).input(directory.join(MODEL));
    plan.produce(|out| {
        let device = models::device(arguments.flags.device)?;
        plan.runs_on(models::name_of(&device));
        let target = protected_target(&arguments.protected, arguments.key_file.as_deref(), &device)?;
        let (mut service, longest, known) = suspected(directory, &target, &device)?;
        let (architecture, checkpoint) = known;
        let users = arguments.data.as_deref().map(|data| users(data, &target)).transpose()?.flatten();
        let suspect = Suspect { service: &mut service, architecture, longest, most: usize::MAX, checkpoint };
        arguments.write(settings, (target, suspect), users.as_ref(), (&device, out))
    })?;
    Ok(())
}

/// Holds a recommender that others run against the target.
fn of_service(arguments: &Arguments, settings: &Checked, address: &Address) -> anyhow::Result<()> {
    let Some(data) = arguments.data.as_deref() else {
        let message = format!(
            "which items {address} speaks of is told by their raw ids: give --data, the dataset that the protected target was trained on"
        );
        return Err(Refusal::new(message).into());
    };
    let interruption = Interruption::watch();
    let interrupted = || interruption.requested();
    let mut opened = remote::open(address, &arguments.remote, &interrupted)?;
    let mut plan = arguments
        .plan(settings)
        .argument("suspect", address)
        .argument("catalogue", opened.catalogue.digest())
        .inputs(arguments.remote.files());
    if let Some(prefix) = &arguments.remote.account_prefix {
        plan = plan.argument("account-prefix", prefix);
    }
    let identity = plan.identity()?;
    plan.produce(|out| {
        let device = models::device(arguments.flags.device)?;
        plan.runs_on(format!("{address}; the target on {}", models::name_of(&device)));
        let target = protected_target(&arguments.protected, arguments.key_file.as_deref(), &device)?;
        let dataset = Dataset::read(data)?;
        target.description.check_dataset(&dataset, &target.path, data)?;
        let name = opened.name.clone();
        opened.catalogue =
            opened.catalogue.renumbered(dataset::read_raw_items(data)?, &name, &data.display().to_string())?;
        let what = "the length of the lists that a proof needs";
        opened.check_k(what, TOP.min(opened.catalogue.items()))?;
        let most = opened.catalogue.max_k.unwrap_or(usize::MAX);
        // The watermark is sought in longer lists, and after users' histories and single items too.
        let probes = u64::from(arguments.probes);
        let single = probes.min(opened.catalogue.items() as u64);
        let questions = probes + if target.watermark() > 0.0 { 2 * probes + single } else { 0 };
        if let Some(budget) = arguments.remote.budget.filter(|&budget| budget < questions) {
            let message =
                format!("a proof asks up to {questions} questions, and --budget is {budget}; allow more, or ask about fewer --probes");
            return Err(Refusal::new(message).into());
        }
        let longest = opened.catalogue.max_len.unwrap_or(target.description.network.max_len);
        let checkpoint = opened.catalogue.target.clone().unwrap_or_else(|| name.clone());
        let (before, budget) = (plan.asked_before(), arguments.remote.budget);
        remote::ledger::check(budget, before, questions, "a proof")?;
        let ledger = Ledger::open(&plan.state_dir(), &identity, arguments.resume, budget)?.after(before);
        let mut service = opened.target(ledger, &interrupted, what, "history-");
        let architecture = Network::FOREIGN.title.to_owned();
        let users = Some(&dataset).filter(|_| target.watermark() > 0.0);
        let suspect = Suspect { service: &mut service, architecture, longest, most, checkpoint };
        let held = arguments.write(settings, (target, suspect), users, (&device, out));
        let concluded = service.conclude();
        plan.has_asked(service.ever_asked());
        held?;
        Ok(concluded?)
    })?;
    Ok(())
}

/// Who answers with decoys.
enum Decoying {
    /// A guard, to accounts that take like thieves.
    Guard(Box<Guard>),
    /// The model, which learned to after so many items.
    Model { after: usize },
}

/// A protected target with its key.
struct Protected {
    /// What ranks the true lists.
    model: Box<dyn Recommender>,
    description: Description,
    decoying: Decoying,
    key: Key,
    checkpoint: String,
    path: PathBuf,
}

impl Protected {
    /// Share of their places by which the watermark in its answers lifts green items; 0 without one.
    fn watermark(&self) -> f64 {
        match &self.decoying {
            Decoying::Guard(guard) => guard.parameters().watermark,
            Decoying::Model { .. } => 0.0,
        }
    }
}

fn protected_target(directory: &Path, key: Option<&Path>, device: &Device) -> anyhow::Result<Protected> {
    let path = directory.join(MODEL);
    check_loading(&path)?;
    let (model, description) = models::load(&path, device)?;
    let checkpoint = artifact::digest::file(&path)?.blake3;
    if let Some(learned) = Learned::of(&description)? {
        let given = key.map_or_else(|| key_path(directory), Path::to_owned);
        let key = Key::read(&given)?;
        check_key(&key, &learned.key).map_err(|invalid| Refusal::new(invalid.to_string()))?;
        let model = learned.gold(directory, &description, device)?;
        let decoying = Decoying::Model { after: learned.after };
        return Ok(Protected { model, description, decoying, key, checkpoint, path });
    }
    let key = key_of(&description, directory, key)?;
    let (Answering::ByAccount(guard), Some(key)) = (policy_of(&description, key.clone())?, key) else {
        return Err(Refusal::new(format!(
            "{} answers by `{}`, which leaves nothing to prove a theft by; expected a target protected by `guard` or `decoy`",
            path.display(),
            description.defence.title()
        ))
        .into());
    };
    Ok(Protected { model, description, decoying: Decoying::Guard(guard), key, checkpoint, path })
}

/// What a checkpoint says of the decoys that its model has learned.
#[derive(Deserialize)]
struct Learned {
    /// Fingerprint of the key.
    key: String,
    /// BLAKE3 of the gold target.
    gold: String,
    /// Items of the youngest history that is answered with decoys.
    after: usize,
}

impl Learned {
    /// None of a model that has learned no decoys.
    fn of(description: &Description) -> anyhow::Result<Option<Self>> {
        let defence = &description.defence;
        if defence.acts_on != ActsOn::Weights || !defence.parameters.contains_key("key") {
            return Ok(None);
        }
        let parameters = serde_json::Value::Object(defence.parameters.clone());
        let learned = serde_json::from_value(parameters).map_err(|error| {
            Refusal::new(format!("the parameters of the defence `{}` cannot be read: {error}", defence.name))
        })?;
        Ok(Some(learned))
    }

    /// The gold target in `directory`: the one that the checkpoint was made from and no other, or its owner could choose the true lists
    /// when he knows the suspect's.
    fn gold(
        &self,
        directory: &Path,
        protected: &Description,
        device: &Device,
    ) -> anyhow::Result<Box<dyn Recommender>> {
        let path = directory.join(GOLD);
        check_loading(&path)?;
        let (model, description) = models::load(&path, device)?;
        let same = description.fingerprint == protected.fingerprint && description.items == protected.items;
        if !same || artifact::digest::file(&path)?.blake3 != self.gold {
            return Err(Refusal::new(format!(
                "{} is not the target that {} was made from; give the one that `gro-defend` wrote beside it",
                path.display(),
                directory.join(MODEL).display()
            ))
            .into());
        }
        Ok(model)
    }
}

/// The dataset whose users' histories are asked about for the watermark; none where there is no watermark, and nothing to ask them for.
fn users(data: &Path, target: &Protected) -> anyhow::Result<Option<Dataset>> {
    if target.watermark() == 0.0 {
        tracing::warn!(
            "{} is not used: the answers of the protected target carry no watermark (defend.guard.watermark)",
            data.display()
        );
        return Ok(None);
    }
    let dataset = Dataset::read(data)?;
    target.description.check_dataset(&dataset, &target.path, data)?;
    Ok(Some(dataset))
}

/// A suspect, as its clients see it.
struct Suspect<'a> {
    service: &'a mut dyn BlackBox,
    architecture: String,
    /// Items of the longest history that it reads.
    longest: usize,
    /// Items of the longest list that it answers.
    most: usize,
    checkpoint: String,
}

/// A suspect's checkpoint, the items of the longest history that it reads, and its network and BLAKE3.
fn suspected(
    directory: &Path,
    target: &Protected,
    device: &Device,
) -> anyhow::Result<(ProtectedTarget, usize, (String, String))> {
    let path = directory.join(MODEL);
    check_loading(&path)?;
    let (model, description) = models::load(&path, device)?;
    let known = &target.description;
    if description.fingerprint != known.fingerprint || description.items != known.items {
        return Err(Refusal::new(format!(
            "{} recommends from another catalogue than the protected target ({} items against {}), or numbers it otherwise",
            path.display(),
            description.items,
            known.items
        ))
        .into());
    }
    let longest = model.sizes().max_len;
    let architecture = ARCHITECTURES.title(&description.architecture).to_owned();
    let key = key_of(&description, directory, None)?;
    let service = ProtectedTarget::new(model.into(), &description, key, device.clone())?;
    Ok((service, longest, (architecture, artifact::digest::file(&path)?.blake3)))
}

/// Histories of random items, drawn without the key. Nobody but a thief takes like that.
fn probes(count: usize, items: usize, longest: usize, seed: u64) -> Vec<Vec<u32>> {
    let longest = longest.min(items).max(1);
    let shortest = SHORTEST.min(longest);
    let one = |index: usize| {
        let mut stream = Streams::new(seed).open(Purpose::Probes, 0, index as u64, 0);
        let length = shortest + below(&mut stream, (longest - shortest) as u32 + 1) as usize;
        let mut history: Vec<u32> =
            choose(items, length, &mut stream).into_iter().map(|item| item as u32 + 1).collect();
        streams::shuffle(&mut history, &mut stream);
        history
    };
    (0..count).map(one).collect()
}

/// What a suspect answered where the target has its own ten.
struct Pairs {
    /// How often item a stood in the target's list and item b in the suspect's, by a.
    by_true: Vec<Vec<(u32, u32)>>,
    /// Items that the two had in common, over all lists.
    shared: usize,
    /// Items of all lists of one of them.
    whole: f64,
}

impl Pairs {
    /// Asks both about the histories in `asked`, for lists of `top`.
    fn of(
        target: &dyn Recommender,
        suspect: &mut dyn BlackBox,
        asked: &[&[u32]],
        top: usize,
        device: &Device,
    ) -> service::Result<Self> {
        let mut by_true: Vec<Vec<(u32, u32)>> = vec![Vec::new(); suspect.items() + 1];
        let mut shared = 0;
        for histories in asked.chunks(TOGETHER) {
            let states = target.encode(&target.contexts(histories).upload(device)?, Mode::Evaluate)?;
            let own = target.catalogue().top_k(&states, top)?.to_vec2::<u32>()?;
            let answers = suspect.top_k(histories, top)?;
            for (own, answered) in own.iter().zip(&answers) {
                shared += own.iter().filter(|item| answered.contains(item)).count();
                for &a in own {
                    for &b in answered {
                        let row = &mut by_true[a as usize];
                        match row.iter_mut().find(|(item, _)| *item == b) {
                            Some((_, times)) => *times += 1,
                            None => row.push((b, 1)),
                        }
                    }
                }
            }
        }
        Ok(Self { by_true, shared, whole: (asked.len() * top) as f64 })
    }

    /// Mean agreement of the suspect's lists with the decoys of a key, 0 to 1.
    fn agreement(&self, key: &Key) -> f64 {
        let decoys = Decoys::new(key, self.by_true.len() - 1);
        let hits = self.by_true.iter().enumerate().map(|(item, answered)| {
            let decoy = decoys.of(item as u32);
            answered.iter().find(|(other, _)| *other == decoy).map_or(0, |(_, times)| *times)
        });
        f64::from(hits.sum::<u32>()) / self.whole
    }
}

/// How many of the `others` agree at least as much as `found`, and the chance of that where one is as likely as the other.
fn chance(found: f64, others: &[f64]) -> (usize, f64) {
    let at_least_as_high = others.iter().filter(|other| **other >= found).count();
    (at_least_as_high, (1 + at_least_as_high) as f64 / (others.len() + 1) as f64)
}

/// What each public key came to.
struct Compared {
    decoys: Vec<f64>,
    /// None where there is no watermark.
    watermark: Vec<f64>,
}

/// What is to be compared.
struct Wanted<'a> {
    probes: usize,
    keys: usize,
    /// Whose histories are asked about for the watermark, besides those of random items.
    users: Option<&'a Dataset>,
    seed: u64,
    quiet: bool,
}

fn compare(
    target: Protected,
    suspect: Suspect<'_>,
    wanted: &Wanted<'_>,
    device: &Device,
) -> anyhow::Result<(Proof, Compared)> {
    let &Wanted { probes: count, keys, users, seed, quiet } = wanted;
    let items = target.description.items;
    let top = TOP.min(items);
    let longest = suspect.longest.min(target.model.sizes().max_len);
    let drawn = probes(count, items, longest, seed);
    let flagged: Vec<bool> = match &target.decoying {
        // Flagged by their places alone would do; the guard itself is asked, for it is what a thief met.
        Decoying::Guard(guard) => drawn
            .par_iter()
            .map(|history| {
                let watched = guard.watch(&*target.model, history, (10 * TOP).min(items), device)?;
                Ok(watched.last().is_some_and(|last| last.flagged))
            })
            .collect::<service::Result<_>>()?,
        Decoying::Model { after } => drawn.iter().map(|history| history.len() >= *after).collect(),
    };
    let flagged = flagged.into_iter().filter(|flagged| *flagged).count();
    let lift = target.watermark();
    if flagged == 0 {
        let none = match target.decoying {
            Decoying::Guard(_) => {
                "the guard flags none of the histories that were drawn: its threshold is too high for that"
            }
            Decoying::Model { .. } => {
                "none of the histories that were drawn is as long as those that the target answers with decoys"
            }
        };
        if lift == 0.0 {
            return Err(Refusal::new(format!("{none}; there is nothing to prove a theft by")).into());
        }
        tracing::warn!("{none}; nothing can be proved by decoys, only by the watermark");
    }
    let asked: Vec<&[u32]> = drawn.iter().map(Vec::as_slice).collect();
    let pairs = Pairs::of(&*target.model, suspect.service, &asked, top, device)?;
    let found = pairs.agreement(&target.key);
    let bar = progress::bar(keys as u64, "keys", quiet);
    let others: Vec<f64> = (0..keys as u64)
        .into_par_iter()
        .map(|number| {
            bar.inc(1);
            pairs.agreement(&Key::public(number))
        })
        .collect();
    bar.finish_and_clear();
    let marked = if lift > 0.0 {
        let of_users = users.map(|users| watermark::beginnings(count, users, seed)).unwrap_or_default();
        if users.is_some() && of_users.is_empty() {
            tracing::warn!(
                "no user of the dataset has an item to train on: histories of random items and of single ones are asked about"
            );
        }
        let single = watermark::single(count, items, seed);
        let single: Vec<&[u32]> = single.iter().map(<[u32; 1]>::as_slice).collect();
        let histories = [&asked[..], &of_users, &single].concat();
        let found = Neighbours::of(&*target.model, (suspect.service, suspect.most), &histories, device)?;
        Some(found.compare(&target.key, lift, keys, quiet))
    } else {
        None
    };
    let (watermark, of_watermark) = marked.unzip();
    let (at_least_as_high, p) = chance(found, &others);
    let proof = Proof {
        suspect: suspect.checkpoint,
        suspect_architecture: suspect.architecture,
        protected: target.checkpoint,
        protected_architecture: ARCHITECTURES.title(&target.description.architecture).to_owned(),
        key: target.key.fingerprint(),
        items,
        probes: asked.len(),
        flagged,
        keys,
        agreement: found,
        others: Others::of(&others),
        at_least_as_high,
        p,
        agreement_with_true_lists: pairs.shared as f64 / pairs.whole,
        corrected: watermark.as_ref().map(|watermark: &Watermark| Corrected::of(p, watermark.p)),
        watermark,
    };
    Ok((proof, Compared { decoys: others, watermark: of_watermark.unwrap_or_default() }))
}

#[cfg(test)]
mod tests {
    use artifact::checkpoint::Kind;
    use artifact::settings::Network;
    use models::{Parameters, Sizes, sasrec};

    use super::*;

    pub(super) const ITEMS: usize = 150;

    /// A model of nobody's lists.
    pub(super) fn model(seed: u64) -> (Box<dyn Recommender>, Description) {
        let network =
            Network { hidden: 8, blocks: 1, heads: 1, max_len: 20, dropout: 0.0, attention_dropout: 0.0 };
        let (architecture, sizes) = (sasrec::ARCHITECTURE, Sizes { items: ITEMS, network });
        let (declared, streams) = ((architecture.declare)(&sizes), Streams::new(seed));
        let weights =
            Parameters::initial(&declared, 1.0, &streams, Purpose::TargetWeights, &Device::Cpu).unwrap();
        let model = (architecture.build)(&sizes, &weights.detached()).unwrap();
        (model, sizes.describe(Kind::Target, architecture, ""))
    }

    /// Such a model as a suspect.
    pub(super) fn suspected(seed: u64) -> ProtectedTarget {
        let (suspect, description) = model(seed);
        ProtectedTarget::new(suspect.into(), &description, None, Device::Cpu).unwrap()
    }

    /// How far the chances that keys have, all held against the same `public` ones, lie from uniform; and Kolmogorov and Smirnov's bound at
    /// one in a hundred, of two samples.
    pub(super) fn distance_from_uniform(mut chances: Vec<f64>, public: usize) -> (f64, f64) {
        chances.sort_by(f64::total_cmp);
        let (keys, public) = (chances.len() as f64, public as f64);
        let steps = chances.iter().enumerate();
        let distances = steps
            .map(|(place, p)| (p - place as f64 / keys).abs().max((p - (place + 1) as f64 / keys).abs()));
        (distances.fold(0.0, f64::max), 1.63 * ((keys + public) / (keys * public)).sqrt())
    }

    #[test]
    fn under_many_keys_the_chance_of_an_innocent_model_is_uniform() {
        let (target, _) = model(1);
        let mut suspect = suspected(2);
        let drawn = probes(100, ITEMS, 20, 1);
        let asked: Vec<&[u32]> = drawn.iter().map(Vec::as_slice).collect();
        let pairs = Pairs::of(&*target, &mut suspect, &asked, TOP, &Device::Cpu).unwrap();
        let (keys, public) = (400, 999);
        let others: Vec<f64> = (0..public).map(|number| pairs.agreement(&Key::public(number))).collect();
        let mut chances: Vec<f64> =
            (0..keys).map(|seed| chance(pairs.agreement(&Key::of_seed(seed)), &others).1).collect();
        let (distance, bound) = distance_from_uniform(chances.clone(), public as usize);
        assert!(distance < bound, "{distance} {bound}");
        chances.sort_by(f64::total_cmp);
        assert!(chances[0] < 0.02 && chances[399] > 0.98, "{} {}", chances[0], chances[399]);
        // Who answers with the decoys of a key stands above all others.
        let thief = Decoys::new(&Key::of_seed(7), ITEMS);
        let mut stolen = Pairs { by_true: vec![Vec::new(); ITEMS + 1], shared: 0, whole: ITEMS as f64 };
        for item in 1..=ITEMS as u32 {
            stolen.by_true[item as usize].push((thief.of(item), 1));
        }
        let others: Vec<f64> = (0..99).map(|number| stolen.agreement(&Key::public(number))).collect();
        assert_eq!(stolen.agreement(&Key::of_seed(7)), 1.0);
        assert_eq!(chance(1.0, &others), (0, 0.01));
    }

    #[test]
    fn probes_are_different_items_of_the_catalogue_and_the_same_every_time() {
        let drawn = probes(200, 60, 50, 1);
        assert_eq!(drawn, probes(200, 60, 50, 1));
        assert_ne!(drawn, probes(200, 60, 50, 2));
        for history in &drawn {
            assert!((5..=50).contains(&history.len()));
            let mut sorted = history.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), history.len());
            assert!(sorted.iter().all(|item| (1..=60).contains(item)));
        }
        assert!(probes(50, 3, 50, 1).iter().all(|history| history.len() == 3));
    }
}
