//! The command `run`: a dataset, a target and perhaps a surrogate in; metrics.json, protocol.json and ranks.parquet out.
//!
//! The target is a checkpoint, or a recommender that others run ([`remote`]), which is asked as its customers ask it and judged by its
//! lists alone.

pub mod candidates;
pub mod held_out;
pub mod measurement;
pub mod popularity;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use artifact::checkpoint::{ActsOn, Defence, Description, Kind, MODEL};
use artifact::dataset::{self, Dataset};
use artifact::queries::QueryHeader;
use artifact::ranks::{Column, RANKS, Ranks};
use artifact::settings::{Evaluate, Ranking};
use candidates::Candidates;
use candle_core::Device;
use held_out::HeldOutItems;
use indexmap::IndexMap;
use measurement::{Measured, Questions, Target, measure, quality, service_of};
use metrics::{Bootstrap, Ks};
use models::{ARCHITECTURES, Recommender, memory};
use remote::{Address, Ledger};
use serde_json::Value as Json;
use service::guard::FITTED;
use service::policies::key_of;
use stage::memory::{Need, check_loading};
use stage::{
    Checked, Flags, Interruption, Kernels, OtherSplit, Plan, Refusal, Settings, progress, settings, splits,
};

use crate::figures::{
    Conditions, Fidelity, Figure, Figures, METRICS, Metrics, Network, POPULAR_RANK, PROTOCOL, Protocol,
    SURROGATE_RANK, Subject, TABLE_RANK, TARGET_RANK, TableMetrics, UNKNOWN, own_column, table_column,
};

/// What `gro-evaluate run` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Dataset made by `gro-preprocess run`
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Directory of the target, protected or not (its model.safetensors), http(s)://…, or 'command:PROGRAM ARGUMENTS'
    ///
    /// A target that others run is judged by its lists of evaluate.top_k items, and a surrogate by how far it agrees with these: one
    /// question for each user. Its items are those of the dataset, in any order. Ask only systems that you may test.
    #[arg(long, value_name = "TARGET")]
    pub target: Address,
    /// Key of a guarded target; by default answer.key beside its model
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Directory of a surrogate of that target (its model.safetensors)
    #[arg(long, value_name = "DIR")]
    pub surrogate: Option<PathBuf>,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub other_split: OtherSplit,
    /// Directory to write metrics.json, protocol.json and ranks.parquet to
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Go on where an interrupted run was that asked a target that others run
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

/// Evaluate, unless the output is up to date.
///
/// Fails, as a refusal, where an input is missing, damaged, of another dataset, or a K exceeds the catalogue.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    kernels::set_plain(arguments.flags.kernels == Kernels::Plain);
    arguments.remote.check(&arguments.target)?;
    let settings = settings::load(&arguments.flags)?;
    match &arguments.target {
        Address::Directory(directory) => run_checkpoint(arguments, &settings, directory),
        service => run_service(arguments, &settings, service),
    }
}

impl Arguments {
    fn surrogate(&self) -> Option<PathBuf> {
        self.surrogate.as_ref().map(|directory| directory.join(MODEL))
    }

    /// The plan to make the output, before it names the target.
    fn plan(&self, settings: &Checked) -> Plan {
        Plan::new("gro-evaluate run", &self.out, &self.flags, settings, &["evaluate"])
            .inputs(dataset::files(&self.data))
            .other_split(self.other_split)
    }
}

fn run_checkpoint(arguments: &Arguments, settings: &Checked, directory: &Path) -> anyhow::Result<()> {
    if arguments.resume {
        let message = "--resume is for a target that others run, whose answers are kept; this is measured anew in no time";
        return Err(Refusal::new(message).into());
    }
    let (target, surrogate) = (directory.join(MODEL), arguments.surrogate());
    let plan =
        arguments.plan(settings).input(&target).inputs(arguments.key.clone()).inputs(surrogate.clone());
    plan.produce(|out| {
        let device = models::device(arguments.flags.device)?;
        plan.runs_on(models::name_of(&device));
        let mut inputs = Inputs::read(&arguments.data, settings, arguments.other_split)?;
        let (model, description) = inputs.load(&target, &device)?;
        let key = key_of(&description, directory, arguments.key.as_deref())?;
        let model: Arc<dyn Recommender> = model.into();
        let service = service_of(&model, &description, key, &device)?;
        let subject = subject(&target, &description)?;
        let copied = inputs.surrogate(surrogate.as_deref(), (&subject, &target), &device)?;
        let target = Target::Checkpoint { model, path: target, service };
        let evaluation = Evaluation { inputs, target, target_subject: subject, surrogate: copied };
        if device.is_cpu() {
            evaluation.need(settings, kernels::fused(&device)).check()?;
        }
        evaluation.write(settings, &device, arguments.flags.quiet, out)
    })?;
    Ok(())
}

/// Measures a recommender that others run.
fn run_service(arguments: &Arguments, settings: &Checked, address: &Address) -> anyhow::Result<()> {
    if arguments.key.is_some() {
        let message = format!(
            "--key is for a guarded target in a directory; {address} has its own, and one that it wants of its users is given with --key-env"
        );
        return Err(Refusal::new(message).into());
    }
    if settings.evaluate.ranking != Ranking::Full {
        let message = format!(
            "evaluate.ranking is {}, and {address} cannot be asked to rank candidates; set it to full",
            format!("{:?}", settings.evaluate.ranking).to_lowercase()
        );
        return Err(Refusal::new(message).into());
    }
    let interruption = Interruption::watch();
    let interrupted = || interruption.requested();
    let mut opened = remote::open(address, &arguments.remote, &interrupted)?;
    let surrogate = arguments.surrogate();
    let mut plan = arguments
        .plan(settings)
        .argument("target", address)
        .argument("catalogue", opened.catalogue.digest())
        .inputs(arguments.remote.files())
        .inputs(surrogate.clone());
    if let Some(prefix) = &arguments.remote.account_prefix {
        plan = plan.argument("account-prefix", prefix);
    }
    let identity = plan.identity()?;
    plan.produce(|out| {
        let device = models::device(arguments.flags.device)?;
        plan.runs_on(format!(
            "{address}; the surrogate, where there is one, on {}",
            models::name_of(&device)
        ));
        let mut inputs = Inputs::read(&arguments.data, settings, arguments.other_split)?;
        let (data, name) = (arguments.data.display().to_string(), opened.name.clone());
        opened.catalogue =
            opened.catalogue.renumbered(dataset::read_raw_items(&arguments.data)?, &name, &data)?;
        opened.check_k("evaluate.top_k", settings.evaluate.top_k)?;
        let place = Path::new(&name);
        inputs.other_split |=
            splits::differ(place, &opened.catalogue.splits, &arguments.data, arguments.other_split)?;
        let subject = Subject {
            architecture: Network::FOREIGN,
            defence: UNKNOWN.to_owned(),
            policy: UNKNOWN.to_owned(),
            checkpoint: opened.catalogue.target.clone().unwrap_or_else(|| name.clone()),
            settings: BTreeMap::new(),
            queries: None,
            price: None,
            learning: None,
        };
        let copied = inputs.surrogate(surrogate.as_deref(), (&subject, place), &device)?;
        let users = HeldOutItems::of(&inputs.dataset, settings.evaluate.held_out).users().len() as u64;
        if let Some(budget) = arguments.remote.budget.filter(|&budget| budget < users) {
            let message =
                format!("{users} users are asked for, a question each, and --budget is {budget}; allow more");
            return Err(Refusal::new(message).into());
        }
        let (before, budget) = (plan.asked_before(), arguments.remote.budget);
        remote::ledger::check(budget, before, users, "the measurement")?;
        let ledger = Ledger::open(&plan.state_dir(), &identity, arguments.resume, budget)?.after(before);
        let mut service = opened.target(ledger, &interrupted, "evaluate.top_k", "user-");
        let target = Target::Foreign(&mut service);
        let evaluation = Evaluation { inputs, target, target_subject: subject, surrogate: copied };
        if device.is_cpu() {
            evaluation.need(settings, kernels::fused(&device)).check()?;
        }
        let measured = evaluation.write(settings, &device, arguments.flags.quiet, out);
        let concluded = service.conclude();
        plan.has_asked(service.ever_asked());
        measured?;
        Ok(concluded?)
    })?;
    Ok(())
}

/// A model, its checkpoint, and what is said of it.
type Copied = (Box<dyn Recommender>, PathBuf, Subject);

/// What every model of an evaluation is asked.
struct Inputs<'a> {
    data: &'a Path,
    allowed: OtherSplit,
    dataset: Dataset,
    /// BLAKE3 of the sequences.
    sequences: String,
    /// Whether a model was trained on others.
    other_split: bool,
    questions: Questions,
}

impl<'a> Inputs<'a> {
    fn read(data: &'a Path, settings: &Settings, allowed: OtherSplit) -> anyhow::Result<Self> {
        let dataset = Dataset::read(data)?;
        if HeldOutItems::of(&dataset, settings.evaluate.held_out).users().is_empty() {
            return Err(Refusal::new(format!(
                "{} holds no users with a test item, so there is nothing to evaluate",
                data.display()
            ))
            .into());
        }
        let sequences = splits::of(data)?;
        let questions = questions(settings, &dataset)?;
        Ok(Self { data, allowed, dataset, sequences, other_split: false, questions })
    }

    /// A checkpoint that was found to belong to the dataset.
    fn load(&mut self, path: &Path, device: &Device) -> anyhow::Result<(Box<dyn Recommender>, Description)> {
        check_loading(path)?;
        let (model, description) =
            models::load(path, device).with_context(|| format!("loading {}", path.display()))?;
        description.check_dataset(&self.dataset, path, self.data)?;
        self.other_split |= splits::differ(path, &description.splits, self.data, self.allowed)?;
        Ok((model, description))
    }

    /// The surrogate at `path`, where there is one, of a target that is described and lies somewhere.
    fn surrogate(
        &mut self,
        path: Option<&Path>,
        (target, place): (&Subject, &Path),
        device: &Device,
    ) -> anyhow::Result<Option<Copied>> {
        let Some(path) = path else { return Ok(None) };
        let (model, found) = self.load(path, device)?;
        let copied = found.queries.as_ref().and_then(|queries| queries.target.as_ref());
        if copied.is_some_and(|copied| *copied != target.checkpoint) {
            tracing::warn!(
                "{} copies another target than {}: its queries were answered by another checkpoint",
                path.display(),
                place.display()
            );
        }
        let found = Subject { defence: found.defence.title(), ..subject(path, &found)? };
        Ok(Some((model, path.to_owned(), found)))
    }
}

/// What is measured, found to belong together.
struct Evaluation<'a> {
    inputs: Inputs<'a>,
    target: Target<'a>,
    target_subject: Subject,
    surrogate: Option<Copied>,
}

impl Evaluation<'_> {
    /// What measuring holds in memory beside the models, which are loaded.
    fn need(&self, settings: &Settings, fused: bool) -> Need {
        let (evaluate, dataset) = (&settings.evaluate, &self.inputs.dataset);
        let users = dataset.users();
        let rows = evaluate.batch.min(users) as f64;
        let history = (0..users).map(|user| dataset.train(user).len() + 2).max().unwrap_or(0);
        let asked = |model: &dyn Recommender, network: Network| {
            let longest = model.sizes().max_len.min(history) as f64;
            // A model was built, so it is in the registry.
            ARCHITECTURES.find(network.name).map_or(0.0, |&architecture| {
                memory::pass(architecture, model.sizes(), rows * longest, longest, fused)
            })
        };
        let mut asking = match &self.target {
            Target::Checkpoint { model, .. } => asked(&**model, self.target_subject.architecture),
            Target::Foreign(_) => 0.0,
        };
        if let Some((model, _, subject)) = &self.surrogate {
            asking += asked(&**model, subject.architecture);
        }
        let negatives = self.inputs.questions.candidates.as_ref().map_or(0, |_| evaluate.negatives);
        let of_table = if matches!(self.target, Target::Checkpoint { .. }) { 3.0 } else { 0.0 };
        let sections = of_table + if self.surrogate.is_some() { 5.0 } else { 2.0 };
        let columns = sections * (2 * evaluate.ks.len() + 1) as f64;
        let resampled = evaluate.bootstrap as f64 * (24.0 + 8.0 * (columns + 1.0));
        let lists = memory::lists(rows, evaluate.top_k + negatives);
        Need::new()
            .part("the resampled means", resampled, &["evaluate.bootstrap", "evaluate.ks"])
            .part("the users of a batch", asking, &["evaluate.batch"])
            .part("their lists", lists, &["evaluate.batch", "evaluate.top_k", "evaluate.negatives"])
            .part("what is measured of every user", 2.0 * 8.0 * columns * users as f64, &["evaluate.ks"])
    }

    fn write(
        self,
        settings: &Settings,
        device: &Device,
        quiet: bool,
        directory: &Path,
    ) -> anyhow::Result<()> {
        let Self { inputs, target, target_subject, surrogate } = self;
        let Inputs { dataset, sequences, other_split, questions, .. } = inputs;
        let foreign = matches!(target, Target::Foreign(_));
        let bar = progress::bar(
            HeldOutItems::of(&dataset, questions.held_out).users().len() as u64,
            "users",
            quiet,
        );
        let (copy, surrogate_subject) = match surrogate {
            Some((model, path, subject)) => (Some((model, path)), Some(subject)),
            None => (None, None),
        };
        let copy = copy.as_ref().map(|(model, path)| (&**model, path.as_path()));
        let advance = |users: usize| bar.inc(users as u64);
        let measured = measure(&dataset, target, copy, &questions, device, advance)?;
        bar.finish_and_clear();

        let bootstrap = Bootstrap { resamples: settings.evaluate.bootstrap, seed: settings.seed };
        let metrics = metrics_of(&measured, &questions.ks, dataset.items(), &bootstrap)?;
        artifact::metrics::write(&directory.join(METRICS), &metrics)?;
        ranks_of(&measured).write(&directory.join(RANKS))?;
        let evaluate = &settings.evaluate;
        let protocol = Protocol {
            conditions: Conditions {
                fingerprint: dataset.fingerprint().to_owned(),
                sequences,
                users: measured.users.len(),
                items: dataset.items(),
                ranking: evaluate.ranking,
                negatives: questions.candidates.as_ref().map(|_| evaluate.negatives),
                exclude_seen: questions.exclude_seen,
                held_out: questions.held_out,
                other_split,
                top_k: questions.top_k,
                bootstrap: bootstrap.resamples,
            },
            ks: questions.ks,
            seed: bootstrap.seed,
            target: target_subject,
            surrogate: surrogate_subject,
        };
        artifact::metrics::write(&directory.join(PROTOCOL), &protocol)?;
        tracing::info!("{}", protocol.conditions);
        if foreign {
            tracing::info!(
                "the target is seen through its lists of {} alone: an item outside is a miss, and neither its ranking beyond them nor its scores \
                 can be measured",
                protocol.conditions.top_k
            );
        }
        summarise(&metrics, &protocol.ks);
        Ok(())
    }
}

/// Refuses questions that no catalogue of so many items can answer.
///
/// # Errors
/// A refusal that names the setting.
pub fn check(evaluate: &Evaluate, items: usize) -> Result<(), Refusal> {
    let most = |key: &str, value: usize, most: usize| {
        if value <= most {
            return Ok(());
        }
        Err(Refusal::new(format!(
            "`{key}` is {value}, but the catalogue holds {items} items; set it to at most {most}"
        )))
    };
    most("evaluate.top_k", evaluate.top_k, items)?;
    match evaluate.ranking {
        Ranking::Full => Ok(()),
        Ranking::Uniform | Ranking::Popularity => {
            most("evaluate.negatives", evaluate.negatives, items.saturating_sub(1))
        }
    }
}

/// The questions that the settings ask, refused where the catalogue cannot answer them.
fn questions(settings: &Settings, dataset: &Dataset) -> Result<Questions, Refusal> {
    let evaluate = &settings.evaluate;
    check(evaluate, dataset.items())?;
    Ok(Questions {
        ks: evaluate.ks.clone(),
        top_k: evaluate.top_k,
        exclude_seen: evaluate.exclude_seen,
        held_out: evaluate.held_out,
        candidates: Candidates::of(dataset, evaluate, settings.seed)?,
        batch: evaluate.batch,
    })
}

/// Of what a checkpoint is, for protocols.
pub(crate) fn subject(path: &Path, description: &Description) -> anyhow::Result<Subject> {
    Ok(Subject {
        architecture: (*models::architecture_of(description, path)?).into(),
        defence: description.defence.title(),
        policy: match description.defence.acts_on {
            ActsOn::Answers => description.defence.name.clone(),
            ActsOn::Weights => "none".to_owned(),
        },
        checkpoint: artifact::digest::file(path)?.blake3,
        settings: match description.kind {
            Kind::Surrogate => BTreeMap::new(),
            _ => set_to(&description.defence),
        },
        queries: description.queries.clone(),
        price: description.queries.as_ref().map(QueryHeader::price),
        learning: description.learning.clone(),
    })
}

/// What a defence was set to: numbers, words and truth values, without what was fitted and the key's fingerprint. Those of a defence beneath it
/// stand under its name.
fn set_to(defence: &Defence) -> BTreeMap<String, Json> {
    let own = |name: &str| name != "key" && !FITTED.contains(&name);
    let plain = |value: &Json| matches!(value, Json::Number(_) | Json::String(_) | Json::Bool(_));
    let settings = defence.parameters.iter().filter(|(name, value)| own(name) && plain(value));
    let mut settings: BTreeMap<String, Json> =
        settings.map(|(name, value)| (name.clone(), value.clone())).collect();
    if let Some(beneath) = &defence.over {
        settings.extend(
            set_to(beneath).into_iter().map(|(name, value)| (format!("{}.{name}", beneath.name), value)),
        );
    }
    settings
}

/// Means and intervals of everything measured; one set of bootstrap draws serves all columns.
fn metrics_of(
    measured: &Measured,
    ks: &[usize],
    items: usize,
    bootstrap: &Bootstrap,
) -> anyhow::Result<Metrics> {
    let mut sections = vec![quality(&measured.popular_ranks, ks), quality(&measured.target_ranks, ks)];
    if let Some(table) = &measured.table {
        sections.extend([quality(&table.ranks, ks), table.answered.columns(), table.own.columns()]);
    }
    if let Some(surrogate) = &measured.surrogate {
        sections.push(quality(&surrogate.ranks, ks));
        sections.push(surrogate.answered.columns());
        if let Some((lists, scores)) = &surrogate.own {
            sections.push([lists.columns(), scores.columns()].concat());
        }
    }
    let columns: Vec<&[f64]> = sections.iter().flatten().map(|(_, values)| values.as_slice()).collect();
    let mut intervals =
        bootstrap.intervals(&columns).context("resampling users")?.into_iter().map(Figure::from);
    let mut figures = sections.iter().map(|section| -> Figures {
        section.iter().map(|(name, _)| name.clone()).zip(intervals.by_ref()).collect::<IndexMap<_, _>>()
    });
    Ok(Metrics {
        users: measured.target_ranks.len(),
        items,
        popular: figures.next().unwrap_or_default(),
        target: figures.next().unwrap_or_default(),
        table: measured.table.as_ref().and_then(|table| {
            let listed = table.listed;
            let (quality, answered) = (figures.next()?, figures.next()?);
            Some(TableMetrics { quality, answered, own: figures.next(), listed })
        }),
        surrogate: figures.next(),
        fidelity: figures.next().map(|answered| Fidelity { answered, own: figures.next() }),
    })
}

/// What `ranks.parquet` keeps of every user.
fn ranks_of(measured: &Measured) -> Ranks {
    let mut columns = vec![(TARGET_RANK.to_owned(), Column::Counts(measured.target_ranks.clone()))];
    if let Some(surrogate) = &measured.surrogate {
        columns.push((SURROGATE_RANK.to_owned(), Column::Counts(surrogate.ranks.clone())));
    }
    columns.push((POPULAR_RANK.to_owned(), Column::Counts(measured.popular_ranks.clone())));
    columns.extend(
        measured.table.iter().map(|table| (TABLE_RANK.to_owned(), Column::Counts(table.ranks.clone()))),
    );
    let mut figures =
        |name: &dyn Fn(&str) -> String, measured: Vec<measurement::Column>| {
            columns.extend(measured.into_iter().map(|(figure, values)| {
                (name(&figure), Column::Values(values.into_iter().map(Some).collect()))
            }));
        };
    if let Some(surrogate) = &measured.surrogate {
        figures(&str::to_owned, surrogate.answered.columns());
        if let Some((lists, scores)) = &surrogate.own {
            figures(&str::to_owned, scores.columns());
            figures(&own_column, lists.columns());
        }
    }
    if let Some(table) = &measured.table {
        figures(&table_column, table.answered.columns());
        figures(&|figure| table_column(&own_column(figure)), table.own.columns());
    }
    Ranks { users: measured.users.clone(), columns }
}

/// The headline, for whoever watches: the first metric of ranks, and of lists.
fn summarise(metrics: &Metrics, ks: &[usize]) {
    let k = if ks.contains(&10) { 10 } else { ks.last().copied().unwrap_or(10) };
    let show = |figures: &Figures, name: &str| {
        let figure = figures.get(name);
        figure.map_or_else(String::new, |f| format!("{:.4} [{:.4}, {:.4}]", f.mean, f.low, f.high))
    };
    let Some(quality) = metrics::of_ranks(Ks::Each(&[k])).first().map(ToString::to_string) else { return };
    let (popular, target) = (show(&metrics.popular, &quality), show(&metrics.target, &quality));
    tracing::info!("{quality}: most popular items {popular}, target {target}");
    if let Some(table) = &metrics.table {
        tracing::info!("{quality}: a table of its lists to single items {}", show(&table.quality, &quality));
    }
    let of_lists = metrics::of_lists(Ks::Each(&[k])).first().map(ToString::to_string);
    if let (Some(surrogate), Some(fidelity), Some(name)) = (&metrics.surrogate, &metrics.fidelity, of_lists) {
        let (surrogate, agreement) = (show(surrogate, &quality), show(&fidelity.answered, &name));
        tracing::info!("{quality}: surrogate {surrogate}; its {name} with the target's answers {agreement}");
    }
}
