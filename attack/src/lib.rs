//! The fourth stage, in the attacker's shoes: ask a protected target, and distil a surrogate from its answers.
//!
//! `generate` reaches the target through a black box that gives ranked ids and nothing else; `distill` never
//! sees the target at all, only the query log. The black box is a checkpoint of the laboratory's, or a recommender that others run
//! ([`remote`]), which the attacker reaches over the network or a pipe.

pub mod campaign;
pub mod distill;
pub mod generate;
pub mod journal;
pub mod rounds;
pub mod seeds;
pub mod strategies;
pub mod suspicions;

/// What is learned from a list.
pub use training::list_losses as losses;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use artifact::checkpoint::{Checkpoint, Description, Kind, Learning, MODEL};
use artifact::dataset::{self, Dataset};
use artifact::queries::{Generation, QUERIES, QueryHeader, QueryLog, QueryWriter};
use artifact::settings::{Distill, Generate, Invalid, KeepBy, Sections};
use candle_core::Device;
use models::{ARCHITECTURES, Architecture, Reading, Sizes, memory};
use remote::{Address, Ledger};
use serde_json::{Value, json};
use service::black_box::{BlackBox, ProtectedTarget};
use service::policies::key_of;
use stage::memory::{Need, check_loading};
use stage::{
    Checked, Flags, Interruption, Kernels, OtherSplit, Plan, Refusal, Resume, Schema, progress, splits,
};
use streams::Streams;
use training::fit::{Keep, Run, Schedule, fit};
use training::state::Saving;

use crate::campaign::Campaign;
use crate::distill::Surrogate;
use crate::journal::Journal;
use crate::losses::LIST_LOSSES;
use crate::rounds::{Copying, RoundsPlan};
use crate::strategies::{Course, STRATEGIES};
use crate::suspicions::SUSPICIONS;

/// How long a training between two rounds of questions goes on without saving.
const SAVE_EVERY: Duration = Duration::from_secs(30);

/// Query a protected target and distil a surrogate from its answers.
///
/// The attack of Yue, He, Zeng and McAuley (RecSys 2021): it sees ordered lists only, and owns no user data unless
/// given some.
#[derive(clap::Parser, Debug)]
#[command(name = "gro-attack", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Make synthetic sequences from the target's answers, and keep the answers
    ///
    /// Example: gro-attack generate --config pipelines/ml-100k.yaml --target out/ml-100k-bert/protected-gro --out
    /// out/ml-100k-bert/queries-gro
    ///
    /// The target may be a recommender that others run, over HTTP or behind a pipe (docs/foreign.md). Ask only systems that are yours,
    /// or whose owner allows you to test them so.
    ///
    /// Example: `gro-attack generate --target https://shop.example --key-env SHOP_KEY --rate 5 --budget 30000 --out out/queries`
    Generate {
        /// Protected target made by `gro-defend`, or any target: a directory, http(s)://…, or 'command:PROGRAM ARGUMENTS'
        ///
        /// A service speaks the laboratory's protocol, or any that --mapping describes. A program reads a question a line from standard
        /// input, and writes a list a line to standard output. Ask only systems that you may test.
        #[arg(long, value_name = "TARGET")]
        target: Address,
        /// Dataset whose training histories the attacker owns, where generate.seed_sequences is above 0
        ///
        /// That share of the sequences begins with the first generate.seed_length train items of a user of this
        /// dataset (by default half of a sequence), made by `gro-preprocess run` and with the items of the target's.
        #[arg(long, value_name = "DIR")]
        seeds: Option<PathBuf>,
        /// Key of a guarded target; by default answer.key beside its model
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        #[command(flatten)]
        other_split: OtherSplit,
        /// Directory to write queries.parquet to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Go on where an interrupted run of the same command was
        ///
        /// Every answer is kept in OUT.state as it comes, and none is asked for twice; the result is the same bytes as
        /// without the interruption. Where there is no state, the work begins anew. Answers of a target that others run are not thrown
        /// away: where there are some, a run without this flag is refused.
        #[arg(long)]
        resume: bool,
        #[command(flatten)]
        remote: Box<remote::Flags>,
        #[command(flatten)]
        flags: Flags,
    },
    /// Train a surrogate to answer as the target did
    ///
    /// Example: gro-attack distill --config pipelines/ml-100k.yaml --queries out/ml-100k-bert/queries-gro
    /// --surrogate bert --out out/ml-100k-bert/surrogate-gro-bert
    Distill {
        /// Queries made by `gro-attack generate`
        #[arg(long, value_name = "DIR")]
        queries: PathBuf,
        /// Architecture of the surrogate; by default model.architecture of the settings
        #[arg(long, value_name = "ARCHITECTURE", value_parser = stage::choices(&ARCHITECTURES))]
        surrogate: Option<&'static Architecture>,
        /// Directory to write the surrogate to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        resume: Resume,
        #[command(flatten)]
        flags: Flags,
    },
}

impl Cli {
    /// The flags every stage has.
    pub fn flags(&self) -> Option<&Flags> {
        match &self.command {
            Command::Generate { flags, .. } | Command::Distill { flags, .. } => Some(flags),
        }
    }
}

/// Runs the subcommand, unless its output is up to date.
pub fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Generate { target, seeds, key, other_split, out, resume, remote, flags } => {
            kernels::set_plain(flags.kernels == Kernels::Plain);
            remote.check(&target)?;
            let settings = schema().load(&flags)?;
            check_seeds(&settings.generate, seeds.as_deref())?;
            let asking =
                Asking { settings: &settings, owned: seeds.as_deref(), other_split, resume, flags: &flags };
            match &target {
                Address::Directory(directory) => asking.of_checkpoint(directory, key.as_deref(), &out),
                service => {
                    if key.is_some() {
                        let message = format!(
                            "--key is for a guarded target in a directory; {service} has its own, and one that it wants of its users is given \
                             with --key-env"
                        );
                        return Err(Refusal::new(message).into());
                    }
                    if let Some(clients) = settings.generate.clients {
                        let message = format!(
                            "generate.clients is {clients}, but {service} knows its clients by their keys; leave it out, and ask once with each key"
                        );
                        return Err(Refusal::new(message).into());
                    }
                    asking.of_service(service, &remote, &out)
                }
            }
        }
        Command::Distill { queries, surrogate, out, resume, flags } => {
            run_distill(&queries, surrogate, &out, &resume, &flags)
        }
    }
}

/// What `generate` is told, whatever it asks.
#[derive(Clone, Copy)]
struct Asking<'a> {
    settings: &'a Checked,
    /// The dataset whose training histories the attacker owns.
    owned: Option<&'a Path>,
    other_split: OtherSplit,
    resume: bool,
    flags: &'a Flags,
}

/// What is known of a target before it is asked.
struct Known {
    items: usize,
    /// Items of a history that it reads.
    max_len: usize,
    fingerprint: String,
    /// The splits that it learned from.
    splits: Vec<String>,
    /// BLAKE3 of its checkpoint.
    checkpoint: Option<String>,
}

/// Refuses lists that the answer policy of a target never gives.
fn check_longest(target: &ProtectedTarget, asked: usize, path: &Path) -> Result<()> {
    match target.longest() {
        Some(longest) if asked > longest => Err(Refusal::new(format!(
            "`generate.top_k` is {asked}, and {} answers with {longest} items at most; ask for as many or fewer",
            path.display()
        ))
        .into()),
        _ => Ok(()),
    }
}

/// A campaign that a target can answer, with what its log says of it.
struct Prepared<'a> {
    campaign: Campaign<'a>,
    rounds: Option<RoundsPlan>,
    header: QueryHeader,
}

impl<'a> Asking<'a> {
    /// The plan to make `out`, before it names the target.
    fn plan(&self, out: &Path) -> Result<Plan> {
        let strategy = STRATEGIES.find(&self.settings.generate.strategy)?;
        let sections = [&["generate"], strategy.reads()].concat();
        // A log depends on no other strategy's settings: one that comes to be makes no log stale.
        let mut settings = (**self.settings).clone();
        let own = strategy.section.map(|section| section.name);
        settings.generate.strategies.retain(|name, _| Some(name.as_str()) == own);
        let plan = Plan::new("gro-attack generate", out, self.flags, &Checked::new(settings)?, &sections);
        Ok(plan.inputs(self.owned.map(dataset::files).into_iter().flatten()).other_split(self.other_split))
    }

    /// Asks a checkpoint in a directory.
    fn of_checkpoint(self, target: &Path, key: Option<&Path>, out: &Path) -> Result<()> {
        let model = target.join(MODEL);
        let plan = self.plan(out)?.input(&model).inputs(key.map(Path::to_owned));
        let identity = plan.identity()?;
        plan.produce(|directory| {
            let device = models::device(self.flags.device)?;
            plan.runs_on(models::name_of(&device));
            check_loading(&model)?;
            let (recommender, description) = models::load(&model, &device)?;
            let known = Known {
                items: description.items,
                max_len: description.network.max_len,
                fingerprint: description.fingerprint.clone(),
                splits: description.splits.clone(),
                checkpoint: Some(artifact::digest::file(&model)?.blake3),
            };
            check(&self.settings.generate, known.items, &model)?;
            // Other items first: of these nobody asks how they were split.
            let owned = self.owned.map(|path| read_owned(path, &description, &model)).transpose()?;
            let splits = self.splits(&known, &model)?;
            let prepared = self.prepare(known, splits, owned.as_ref())?;
            if device.is_cpu() {
                need(&description, &prepared.campaign, kernels::fused(&device), &model)?.check()?;
            }
            let key = key_of(&description, target, key)?;
            let mut service = ProtectedTarget::new(recommender.into(), &description, key, device.clone())?;
            check_longest(&service, self.settings.generate.top_k, &model)?;
            let interruption = Interruption::watch();
            let interrupted = || interruption.requested();
            let mut service =
                Journal::open(&mut service, &plan.state_dir(), &identity, self.resume, &interrupted)?;
            self.ask(&mut service, &prepared, &device, (&plan, &identity), &interrupted, directory)
        })?;
        Ok(())
    }

    /// Asks a recommender that others run.
    fn of_service(self, address: &Address, remote: &remote::Flags, out: &Path) -> Result<()> {
        let interruption = Interruption::watch();
        let interrupted = || interruption.requested();
        let opened = remote::open(address, remote, &interrupted)?;
        let mut plan = self
            .plan(out)?
            .argument("target", address)
            .argument("catalogue", opened.catalogue.digest())
            .inputs(remote.files());
        if let Some(prefix) = &remote.account_prefix {
            plan = plan.argument("account-prefix", prefix);
        }
        let max_len = opened.catalogue.max_len.unwrap_or(self.settings.model.network.max_len);
        plan = plan.argument("max_len", max_len);
        let identity = plan.identity()?;
        plan.produce(|directory| {
            let device = models::device(self.flags.device)?;
            plan.runs_on(format!("{address}; copies, where there are any, on {}", models::name_of(&device)));
            let (catalogue, asked) = (&opened.catalogue, &self.settings.generate);
            let known = Known {
                items: catalogue.items(),
                max_len,
                fingerprint: catalogue.fingerprint.clone(),
                splits: catalogue.splits.clone(),
                checkpoint: catalogue.target.clone(),
            };
            let name = Path::new(&opened.name);
            check(asked, known.items, name)?;
            opened.check_k("generate.top_k", asked.top_k)?;
            let owned = self.owned.map(|path| read_owned_of(path, &known.fingerprint, address)).transpose()?;
            let splits = self.splits(&known, name)?;
            let prepared = self.prepare(known, splits, owned.as_ref())?;
            let needed = prepared.campaign.budget() as u64;
            if let Some(budget) = remote.budget.filter(|&budget| budget < needed) {
                let message = format!(
                    "the campaign asks {needed} questions ({} accounts, {} each), and --budget is {budget}; ask fewer with generate.accounts or \
                     generate.questions, or allow more",
                    prepared.campaign.accounts, prepared.campaign.questions
                );
                return Err(Refusal::new(message).into());
            }
            let before = plan.asked_before();
            remote::ledger::check(remote.budget, before, needed, "the campaign")?;
            let ledger = Ledger::open(&plan.state_dir(), &identity, self.resume, remote.budget)?.after(before);
            let mut service = opened.target(ledger, &interrupted, "generate.top_k", "");
            let asked =
                self.ask(&mut service, &prepared, &device, (&plan, &identity), &interrupted, directory);
            let concluded = service.conclude();
            plan.has_asked(service.ever_asked());
            asked?;
            Ok(concluded?)
        })?;
        Ok(())
    }

    /// The splits that stand behind the log: those of the target, and of the real histories.
    fn splits(&self, known: &Known, target: &Path) -> Result<Vec<String>> {
        let Some(data) = self.owned else { return Ok(known.splits.clone()) };
        splits::differ(target, &known.splits, data, self.other_split)?;
        Ok(splits::with(&known.splits, data)?)
    }

    /// The campaign that the settings say, against a target that is known so far.
    fn prepare(self, known: Known, splits: Vec<String>, owned: Option<&'a Dataset>) -> Result<Prepared<'a>> {
        let settings = self.settings;
        let asked = &settings.generate;
        let streams = Streams::new(settings.seed);
        let mut campaign =
            Campaign::new(asked, (known.max_len, known.items), &[], streams).map_err(refused)?;
        let generation = begin_with(owned, &mut campaign)?;
        campaign.check().map_err(refused)?;
        let rounds = match campaign.strategy.course {
            Course::Straight(_) => None,
            Course::Rounds(plan) => Some(plan(&campaign).map_err(refused)?),
        };
        let header = QueryHeader {
            items: known.items,
            k: asked.top_k,
            fingerprint: known.fingerprint,
            splits,
            target: known.checkpoint,
            queries: 0,
            sequences: 0,
            absent: 0,
            generation: Some(generation),
        };
        Ok(Prepared { campaign, rounds, header })
    }

    /// Asks everything and writes the log.
    fn ask(
        self,
        service: &mut dyn BlackBox,
        prepared: &Prepared<'_>,
        device: &Device,
        (plan, identity): (&Plan, &str),
        interrupted: &dyn Fn() -> bool,
        directory: &Path,
    ) -> Result<()> {
        let Prepared { campaign, rounds, header } = prepared;
        let mut log = QueryWriter::create(&directory.join(QUERIES), header.clone())?;
        let bar = progress::bar(0, "generate", self.flags.quiet);
        let queries = match rounds {
            None => generate::generate(service, campaign, &mut log, &bar)?,
            Some(rounds) => {
                let copying = Copying {
                    settings: self.settings,
                    device,
                    state: plan.state_dir(),
                    identity: identity.to_owned(),
                    resume: self.resume,
                    every: SAVE_EVERY,
                    interrupted,
                    quiet: self.flags.quiet,
                };
                rounds::generate(service, campaign, rounds, &copying, header, &mut log, &bar)?
            }
        };
        let price = log.finish()?.price();
        tracing::info!(
            "{queries} queries: {} {} sequences of {} items, {} of them begun with a real history; {} items listed",
            campaign.accounts,
            campaign.settings.strategy,
            campaign.questions,
            campaign.seeds.len(),
            price.items_listed
        );
        Ok(())
    }
}

/// A value that no run can use, told as such.
#[expect(clippy::needless_pass_by_value, reason = "it is handed to `map_err`")]
fn refused(invalid: Invalid) -> Refusal {
    Refusal::new(invalid.to_string())
}

/// The settings that this stage reads.
fn schema() -> Schema {
    Schema::default()
        .names(&ARCHITECTURES, models::SETTINGS)
        .names(&STRATEGIES, strategies::SETTINGS)
        .names(&LIST_LOSSES, losses::SETTINGS)
        .names(&SUSPICIONS, suspicions::SETTINGS)
        .sections("generate", STRATEGIES.iter().filter_map(|strategy| strategy.section))
}

/// Refuses queries to a catalogue of `items` from whose answers no surrogate can learn: lists of everything leave nothing that
/// was not answered. `origin` is where the catalogue is, for the message.
///
/// # Errors
/// A refusal that names the setting.
pub fn check(asked: &Generate, items: usize, origin: &Path) -> Result<(), Refusal> {
    if asked.top_k < items {
        return Ok(());
    }
    Err(above_catalogue("generate.top_k", asked.top_k, items, origin))
}

/// What generation holds in memory beside the model, which is loaded.
fn need(description: &Description, campaign: &Campaign<'_>, fused: bool, model: &Path) -> Result<Need> {
    let (asked, length) = (campaign.settings, campaign.longest);
    let architecture = *models::architecture_of(description, model)?;
    let sizes = Sizes::from(description);
    let rows = asked.batch.min(campaign.accounts) as f64;
    let (longest, length) = (length.min(sizes.max_len) as f64, length as f64);
    let answers = 4.0 * rows * length * (asked.top_k + 1) as f64;
    let asking = memory::pass(architecture, &sizes, rows * longest, longest, fused)
        + memory::lists(rows, asked.top_k)
        + memory::cache(&sizes, rows, length);
    let begun = size_of::<&[u32]>() as f64 * campaign.seeds.len() as f64;
    Ok(Need::new()
        .part(
            "the answers to the sequences that grow",
            answers,
            &["generate.batch", "generate.length", "generate.top_k"],
        )
        .part("the questions of a batch", asking, &["generate.batch"])
        .part("the beginnings", begun, &["generate.seed_sequences", "generate.sequences"]))
}

/// What distillation holds in memory.
fn need_of_distillation(
    architecture: Architecture,
    sizes: &Sizes,
    header: &QueryHeader,
    asked: &Distill,
    fused: bool,
) -> Need {
    let length = header.queries as f64 / header.sequences.max(1) as f64;
    let longest = length.min(sizes.max_len as f64);
    let rows = (asked.batch as f64).min(header.queries as f64);
    // A causal model learns from all prefixes of a sequence at once, another from each on its own.
    let tokens = match architecture.reading {
        Reading::Causal => rows.max(longest),
        Reading::Cloze => rows * longest,
    };
    Need::new()
        .part(
            "the surrogate, its optimizer and copies",
            memory::trained(architecture, sizes),
            &["model.hidden", "model.blocks", "model.max_len"],
        )
        .part(
            "a batch",
            memory::step(architecture, sizes, tokens, longest, fused),
            &["distill.batch", "model.max_len", "model.hidden"],
        )
        .part("the lists of a batch", memory::lists(rows, header.k), &["distill.batch"])
}

/// Refuses real histories that no setting asks for, and the reverse.
fn check_seeds(asked: &Generate, owned: Option<&Path>) -> Result<(), Refusal> {
    match owned {
        None if asked.seed_sequences > 0.0 => Err(Refusal::new(format!(
            "generate.seed_sequences is {}, so a dataset with real histories is needed: give one with --seeds",
            asked.seed_sequences
        ))),
        Some(path) if asked.seed_sequences == 0.0 => Err(Refusal::new(format!(
            "--seeds {} would not be used, since generate.seed_sequences is 0: set the share of sequences that begin \
             with a real history, or leave --seeds out",
            path.display()
        ))),
        _ => Ok(()),
    }
}

fn read_owned(path: &Path, target: &Description, model: &Path) -> Result<Dataset> {
    let dataset = Dataset::read(path)?;
    target.check_dataset(&dataset, model, path)?;
    Ok(dataset)
}

/// The same for a service, which is known by its items alone.
fn read_owned_of(path: &Path, fingerprint: &str, address: &Address) -> Result<Dataset> {
    let dataset = Dataset::read(path)?;
    if dataset.fingerprint() == fingerprint {
        return Ok(dataset);
    }
    let path = path.display();
    let message = format!(
        "{address} has another catalogue than {path}, or numbers its items otherwise; if the items are the same, give --catalogue {path}"
    );
    Err(Refusal::new(message).into())
}

/// Gives a campaign the real histories that its sequences begin with. Returns what the log says of how they were chosen.
fn begin_with<'a>(owned: Option<&'a Dataset>, campaign: &mut Campaign<'a>) -> Result<Generation, Refusal> {
    let asked = campaign.settings;
    let mut generation = Generation {
        strategy: asked.strategy.clone(),
        seed_sequences: asked.seed_sequences,
        seeded: 0,
        seed_length: 0,
        owned: 0,
        choices: choices(campaign),
    };
    let Some(dataset) = owned else { return Ok(generation) };
    let longest = asked.seed_length.unwrap_or(campaign.questions / 2);
    if longest >= campaign.questions {
        return Err(Refusal::new(format!(
            "generate.seed_length is {longest}, expected less than the {} items of a sequence",
            campaign.questions
        )));
    }
    let count = (asked.seed_sequences * campaign.accounts as f64).round() as usize;
    if count == 0 {
        return Err(Refusal::new(format!(
            "generate.seed_sequences is {}, which is none of {} sequences",
            asked.seed_sequences, campaign.accounts
        )));
    }
    campaign.seeds = seeds::choose(dataset, count, longest, &campaign.streams)
        .ok_or_else(|| Refusal::new("no user of the dataset given with --seeds has an item to train on"))?;
    let users = (0..dataset.users()).filter(|&user| !dataset.train(user).is_empty()).count();
    generation.seeded = count as u64;
    generation.seed_length = longest;
    generation.owned = if users < count { users as u64 } else { 0 };
    Ok(generation)
}

/// What a log says of how items were taken, where it is not the default way.
fn choices(campaign: &Campaign<'_>) -> BTreeMap<String, Value> {
    let settings = campaign.settings;
    let mut choices = BTreeMap::new();
    if let Some(pick) = settings.pick {
        choices.insert("pick".to_owned(), json!(pick));
    }
    if !settings.repeats {
        choices.insert("repeats".to_owned(), json!(false));
    }
    if let Some(clients) = settings.clients {
        choices.insert("clients".to_owned(), json!(clients));
    }
    if settings.twice > 0.0 {
        choices.insert("twice".to_owned(), json!(settings.twice));
    }
    if let Some(own) = campaign.strategy.section {
        let defaults = (own.defaults)();
        let written = settings.strategies.get(own.name).and_then(Value::as_object);
        let departs = |(key, value): &(&String, &Value)| defaults.get(*key) != Some(*value);
        let chosen: Sections = written
            .into_iter()
            .flatten()
            .filter(departs)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if !chosen.is_empty() {
            choices.insert(own.name.to_owned(), chosen.into());
        }
    }
    choices
}

fn run_distill(
    queries: &Path,
    surrogate: Option<&Architecture>,
    out: &Path,
    resume: &Resume,
    flags: &Flags,
) -> Result<()> {
    kernels::set_plain(flags.kernels == Kernels::Plain);
    // The flag is the setting: whichever way the architecture was named, the output depends on that alone.
    let mut settings = schema().load(flags)?.into_inner();
    if let Some(named) = surrogate {
        named.name.clone_into(&mut settings.model.architecture);
    }
    let settings = Checked::new(settings)?;
    let log = queries.join(QUERIES);
    let plan = Plan::new("gro-attack distill", out, flags, &settings, &["model", "optimizer", "distill"])
        .input(&log);
    let identity = plan.identity()?;
    plan.produce(|directory| {
        let interruption = Interruption::watch();
        let run = Run {
            output: directory,
            saving: Saving {
                directory: plan.state_dir(),
                identity: identity.clone(),
                resume: resume.resume,
                every: resume.save_every,
                interrupted: &|| interruption.requested(),
            },
            bar: progress::bar(0, "distill", flags.quiet),
        };
        let device = models::device(flags.device)?;
        plan.runs_on(models::name_of(&device));
        distill(&settings, &device, &log, &run)
    })?;
    Ok(())
}

fn distill(settings: &Checked, device: &Device, path: &Path, run: &Run<'_>) -> Result<()> {
    let log = QueryLog::open(path)?;
    let header = log.header().clone();
    let QueryHeader { items, k, ref fingerprint, .. } = header;
    if k >= items {
        return Err(above_catalogue("the length of the answered lists", k, items, path).into());
    }
    let architecture = *ARCHITECTURES.find(&settings.model.architecture)?;
    let (mut sizes, asked) = (Sizes { items, network: settings.model.network }, &settings.distill);
    let window = distill::window(architecture, log.longest_sequence()?, sizes.max_len);
    if window < sizes.max_len {
        tracing::info!(
            "no history that was asked about is longer: model.max_len of the surrogate is {window}, not {}",
            sizes.max_len
        );
        sizes.network.max_len = window;
    }
    let streams = Streams::new(settings.seed);
    if device.is_cpu() {
        need_of_distillation(architecture, &sizes, &header, asked, kernels::fused(device)).check()?;
    }
    let mut surrogate =
        Surrogate::new(architecture, &sizes, log, asked, &settings.optimizer, streams, device)?;
    let schedule = Schedule {
        setting: "distill.epochs",
        step_size: "optimizer.learning_rate",
        epochs: asked.epochs,
        patience: asked.patience,
        validate_every: asked.validate_every,
        keep: Keep::Best,
    };
    let fitted = fit(&mut surrogate, &schedule, run)?;
    tracing::info!(
        "kept epoch {} of {}: {} {:.4}",
        fitted.kept_epoch,
        fitted.epochs,
        match asked.keep_by {
            KeepBy::Ndcg => "NDCG@10 of the first answered item",
            KeepBy::Agreement => "agreement with the lists held out",
        },
        fitted.kept_score
    );
    let description = sizes.describe(Kind::Surrogate, architecture, fingerprint);
    let (queries, learning) = (Some(surrogate.header()), Some(learning(asked, surrogate.loss().name)));
    let description = Description { splits: header.splits.clone(), queries, learning, ..description };
    let tensors = surrogate.parameters().to_arrays()?;
    Checkpoint { description, tensors }.write(&run.output.join(MODEL))?;
    Ok(())
}

fn above_catalogue(what: &str, k: usize, items: usize, origin: &Path) -> Refusal {
    let origin = origin.display();
    Refusal::new(format!(
        "{what} is {k}, expected less than the {items} items of {origin}: a surrogate learns which were not answered"
    ))
}

/// What a surrogate's checkpoint says of how it learned.
fn learning(settings: &Distill, loss: &str) -> Learning {
    let defaults = Distill::default();
    let chosen = [
        ("keep_by", json!(settings.keep_by), json!(defaults.keep_by)),
        ("negatives", json!(settings.negatives), json!(defaults.negatives)),
        ("own_top", json!(settings.own_top), json!(defaults.own_top)),
        ("fall", json!(settings.fall), json!(defaults.fall)),
        ("least_overlap", json!(settings.least_overlap), json!(defaults.least_overlap)),
    ];
    Learning {
        loss: loss.to_owned(),
        suspicion: settings.suspicion.clone(),
        choices: chosen
            .into_iter()
            .filter(|(_, chosen, default)| chosen != default)
            .map(|(key, chosen, _)| (key.to_owned(), chosen))
            .collect(),
    }
}
