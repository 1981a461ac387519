//! The command `run`: a dataset, a target and perhaps a surrogate in; metrics.json, protocol.json and ranks.parquet out.

pub mod candidates;
pub mod measurement;
pub mod popularity;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use artifact::checkpoint::{ActsOn, Description, MODEL};
use artifact::dataset::{self, Dataset};
use artifact::queries::QueryHeader;
use artifact::ranks::{Column, RANKS, Ranks};
use artifact::settings::{Evaluate, Ranking};
use candidates::Candidates;
use candle_core::Device;
use indexmap::IndexMap;
use measurement::{Measured, Questions, Target, measure, quality, service_of};
use metrics::{Bootstrap, Ks};
use models::{Recommender, memory};
use service::key::Key;
use service::policies::key_of;
use stage::memory::{Need, check_loading};
use stage::{Flags, Kernels, OtherSplit, Plan, Refusal, Settings, progress, settings, splits};

use crate::figures::{
    Conditions, Fidelity, Figure, Figures, METRICS, Metrics, POPULAR_RANK, PROTOCOL, Protocol,
    SURROGATE_RANK, Subject, TARGET_RANK,
};

/// What `gro-evaluate run` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Dataset made by `gro-preprocess run`
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Directory of the target, protected or not (its model.safetensors)
    #[arg(long, value_name = "DIR")]
    pub target: PathBuf,
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
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub flags: Flags,
}

/// Evaluate, unless the output is up to date.
///
/// Fails, as a refusal, where an input is missing, damaged, of another dataset, or a K exceeds the catalogue.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    kernels::set_plain(arguments.flags.kernels == Kernels::Plain);
    let settings = settings::load(&arguments.flags)?;
    let target = arguments.target.join(MODEL);
    let surrogate = arguments.surrogate.as_ref().map(|directory| directory.join(MODEL));
    let plan = Plan::new("gro-evaluate run", &arguments.out, &arguments.flags, &settings, &["evaluate"])
        .inputs(dataset::files(&arguments.data))
        .input(&target)
        .inputs(arguments.key.clone())
        .inputs(surrogate.clone())
        .other_split(arguments.other_split);
    plan.produce(|directory| {
        let device = models::device(arguments.flags.device)?;
        plan.runs_on(models::name_of(&device));
        let models = (&*target, surrogate.as_deref(), arguments.other_split);
        let key =
            |description: &Description| Ok(key_of(description, &arguments.target, arguments.key.as_deref())?);
        let evaluation = Evaluation::read(&arguments.data, models, &key, &settings, &device)?;
        if device.is_cpu() {
            evaluation.need(&settings, kernels::fused(&device)).check()?;
        }
        evaluation.write(&settings, &device, arguments.flags.quiet, directory)
    })?;
    Ok(())
}

/// The inputs of an evaluation, found to belong together.
struct Evaluation {
    dataset: Dataset,
    /// BLAKE3 of the sequences.
    sequences: String,
    /// Whether a model was trained on others.
    other_split: bool,
    questions: Questions,
    target: Target,
    target_subject: Subject,
    surrogate: Option<(Box<dyn Recommender>, Subject)>,
}

impl Evaluation {
    fn read(
        data: &Path,
        (target, surrogate, allowed): (&Path, Option<&Path>, OtherSplit),
        key: &dyn Fn(&Description) -> anyhow::Result<Option<Key>>,
        settings: &Settings,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let dataset = Dataset::read(data)?;
        let mut other_split = false;
        let mut load = |path: &Path| -> anyhow::Result<(Box<dyn Recommender>, Description)> {
            check_loading(path)?;
            let (model, description) =
                models::load(path, device).with_context(|| format!("loading {}", path.display()))?;
            description.check_dataset(&dataset, path, data)?;
            other_split |= splits::differ(path, &description.splits, data, allowed)?;
            Ok((model, description))
        };
        if dataset.tested().is_empty() {
            return Err(Refusal::new(format!(
                "{} holds no users with a test item, so there is nothing to evaluate",
                data.display()
            ))
            .into());
        }
        let sequences = splits::of(data)?;
        let questions = questions(settings, &dataset)?;
        let (model, description) = load(target)?;
        let model: Arc<dyn Recommender> = model.into();
        let service = service_of(&model, &description, key(&description)?, device)?;
        let target_subject = subject(target, &description)?;
        let surrogate = match surrogate {
            Some(path) => {
                let (model, found) = load(path)?;
                let copied = found.queries.as_ref().and_then(|queries| queries.target.as_ref());
                if copied.is_some_and(|copied| *copied != target_subject.checkpoint) {
                    tracing::warn!(
                        "{} copies another target than {}: its queries were answered by another checkpoint",
                        path.display(),
                        target.display()
                    );
                }
                let found = Subject { defence: description.defence.title(), ..subject(path, &found)? };
                Some((model, found))
            }
            None => None,
        };
        Ok(Self {
            dataset,
            sequences,
            other_split,
            questions,
            target: Target { model, service },
            target_subject,
            surrogate,
        })
    }

    /// What measuring holds in memory beside the models, which are loaded.
    fn need(&self, settings: &Settings, fused: bool) -> Need {
        let (evaluate, dataset) = (&settings.evaluate, &self.dataset);
        let users = dataset.users();
        let rows = evaluate.batch.min(users) as f64;
        let history = (0..users).map(|user| dataset.train(user).len() + 2).max().unwrap_or(0);
        let asked = |model: &dyn Recommender, architecture| {
            let longest = model.sizes().max_len.min(history) as f64;
            memory::pass(architecture, model.sizes(), rows * longest, longest, fused)
        };
        let mut asking = asked(&*self.target.model, self.target_subject.architecture);
        if let Some((model, subject)) = &self.surrogate {
            asking += asked(&**model, subject.architecture);
        }
        let negatives = self.questions.candidates.as_ref().map_or(0, |_| evaluate.negatives);
        let sections = if self.surrogate.is_some() { 5.0 } else { 2.0 };
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
        let Self { dataset, sequences, other_split, questions, target, target_subject, surrogate } = self;
        let bar = progress::bar(dataset.tested().len() as u64, "users", quiet);
        let (model, surrogate_subject) = match surrogate {
            Some((model, subject)) => (Some(model), Some(subject)),
            None => (None, None),
        };
        let advance = |users: usize| bar.inc(users as u64);
        let measured = measure(&dataset, target, model.as_deref(), &questions, device, advance)?;
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
        candidates: Candidates::of(dataset, evaluate, settings.seed)?,
        batch: evaluate.batch,
    })
}

/// Of what a checkpoint is, for protocols.
pub(crate) fn subject(path: &Path, description: &Description) -> anyhow::Result<Subject> {
    Ok(Subject {
        architecture: *models::architecture_of(description, path)?,
        defence: description.defence.title(),
        policy: match description.defence.acts_on {
            ActsOn::Answers => description.defence.name.clone(),
            ActsOn::Weights => "none".to_owned(),
        },
        checkpoint: artifact::digest::file(path)?.blake3,
        queries: description.queries.clone(),
        price: description.queries.as_ref().map(QueryHeader::price),
        learning: description.learning.clone(),
    })
}

/// Means and intervals of everything measured; one set of bootstrap draws serves all columns.
fn metrics_of(
    measured: &Measured,
    ks: &[usize],
    items: usize,
    bootstrap: &Bootstrap,
) -> anyhow::Result<Metrics> {
    let mut sections = vec![quality(&measured.popular_ranks, ks), quality(&measured.target_ranks, ks)];
    if let Some(surrogate) = &measured.surrogate {
        sections.push(quality(&surrogate.ranks, ks));
        sections.push(surrogate.answered.columns());
        sections.push([surrogate.own.columns(), surrogate.scores.columns()].concat());
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
        surrogate: figures.next(),
        fidelity: figures.next().zip(figures.next()).map(|(answered, own)| Fidelity { answered, own }),
    })
}

/// What `ranks.parquet` keeps of every user.
fn ranks_of(measured: &Measured) -> Ranks {
    let mut columns = vec![(TARGET_RANK.to_owned(), Column::Counts(measured.target_ranks.clone()))];
    if let Some(surrogate) = &measured.surrogate {
        columns.push((SURROGATE_RANK.to_owned(), Column::Counts(surrogate.ranks.clone())));
    }
    columns.push((POPULAR_RANK.to_owned(), Column::Counts(measured.popular_ranks.clone())));
    if let Some(surrogate) = &measured.surrogate {
        let fidelity = surrogate.answered.columns().into_iter().chain(surrogate.scores.columns());
        columns.extend(
            fidelity.map(|(name, values)| (name, Column::Values(values.into_iter().map(Some).collect()))),
        );
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
    let of_lists = metrics::of_lists(Ks::Each(&[k])).first().map(ToString::to_string);
    if let (Some(surrogate), Some(fidelity), Some(name)) = (&metrics.surrogate, &metrics.fidelity, of_lists) {
        let (surrogate, agreement) = (show(surrogate, &quality), show(&fidelity.answered, &name));
        tracing::info!("{quality}: surrogate {surrogate}; its {name} with the target's answers {agreement}");
    }
}
