//! The second stage: sequences in, a gold target out.
//!
//! `gro-train` trains a recommender on the train part of every user's sequence, keeps the weights of the epoch
//! that ranks the validation items best (NDCG@10 over all items), and writes them with the history of the run.

pub mod foreign;
pub mod gold;
pub mod import;
pub mod torch;
pub mod tune;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use artifact::checkpoint::{ActsOn, Checkpoint, Defence, Description, Kind, MODEL};
use artifact::dataset::{self, Dataset};
use candle_core::Device;
use models::{ARCHITECTURES, Architecture, Parameters, Sizes, memory};
use stage::memory::{Need, check_loading};
use stage::{Flags, Interruption, Kernels, OtherSplit, Plan, Refusal, Resume, Schema, Settings, progress};
use streams::{Purpose, Streams};
use training::Trainee;
use training::fit::{Fitted, Keep, Run, Schedule, fit};
use training::samples::Samples;
use training::state::Saving;

use crate::gold::Gold;

/// Train a gold target on a dataset.
///
/// Reads the dataset that `gro-preprocess run` made and writes model.safetensors (tensor names as in the
/// authors' PyTorch code), history.csv (losses and validation, epoch by epoch) and TensorBoard events.
///
/// Example: gro-train --config pipelines/ml-100k.yaml --config pipelines/bert.yaml --data out/ml-100k/data --out
/// out/ml-100k-bert/target
#[derive(clap::Parser, Debug)]
#[command(
    name = "gro-train",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    training: Training,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Bring a checkpoint of the authors' PyTorch code in as a target
    ///
    /// Its shapes tell how many items and blocks it has, how wide it is and how long its input may be. The number of
    /// heads they do not tell: set model.heads to what it was trained with; for NARM and
    /// GRU4Rec, which have no positions, model.max_len too.
    ///
    /// Example: gro-train import --from best_acc_model.pth --arch bert --data out/ml-1m/data --out
    /// out/ml-1m-bert/target
    Import {
        /// The file: as torch.save writes it, a state dict or a dict with one under `model_state_dict`, `state_dict` or `model`;
        /// or safetensors. Names may all begin with `module.` or the like
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// Its architecture
        #[arg(long, value_name = "ARCHITECTURE", value_parser = stage::choices(&ARCHITECTURES))]
        arch: &'static Architecture,
        /// Dataset it was trained on, made by `gro-preprocess run`
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Directory to write the target to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        flags: Flags,
    },
    /// Look for good settings by random search with successive halving, on validation items alone
    ///
    /// Each round draws nine settings from the space, trains them for a ninth of train.epochs, the best three for a third, and the best of
    /// these for all. Test items are never looked at. Writes tried.csv and tried.md, and best.yaml, a layer of settings to train with.
    ///
    /// Example: gro-train tune --config pipelines/ml-100k.yaml --config pipelines/sas.yaml --space pipelines/tune.yaml --minutes 60
    /// --data out/ml-100k/data --out out/ml-100k-sas/tuned
    Tune(tune::Arguments),
}

#[derive(clap::Args, Debug)]
struct Training {
    /// Dataset made by `gro-preprocess run`
    #[arg(long, value_name = "DIR", required = true)]
    data: Option<PathBuf>,
    /// Directory to write the target to
    #[arg(long, value_name = "DIR", required = true)]
    out: Option<PathBuf>,
    /// Go on from the weights of the model in this directory, instead of fresh ones
    ///
    /// Any model of the same items: a target, a surrogate, a protected target (its weights, not its answers). Architecture and sizes are
    /// its own, and the settings' are not used. Only what was learned here can be kept: the weights as they were are not.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    #[command(flatten)]
    other_split: OtherSplit,
    #[command(flatten)]
    resume: Resume,
    #[command(flatten)]
    flags: Flags,
}

impl Cli {
    /// The flags every stage has.
    pub fn flags(&self) -> Option<&Flags> {
        Some(match &self.command {
            Some(Command::Import { flags, .. }) => flags,
            Some(Command::Tune(arguments)) => &arguments.flags,
            None => &self.training.flags,
        })
    }
}

/// Trains or imports, unless the output is up to date.
pub fn run(cli: &Cli) -> Result<()> {
    match (&cli.command, &cli.training) {
        (Some(Command::Import { from, arch, data, out, flags }), _) => {
            import::import(from, **arch, data, out, flags)
        }
        (Some(Command::Tune(arguments)), _) => tune::tune(arguments),
        (None, Training { data: Some(data), out: Some(out), from, other_split, resume, flags }) => {
            train((data, from.as_deref(), out), *other_split, resume, flags)
        }
        (None, _) => Err(Refusal::new("give the dataset with --data and the output with --out").into()),
    }
}

/// The settings that this stage reads.
pub(crate) fn schema() -> Schema {
    Schema::default().names(&ARCHITECTURES, models::SETTINGS)
}

fn train(
    (data, from, out): (&Path, Option<&Path>, &Path),
    other_split: OtherSplit,
    resume: &Resume,
    flags: &Flags,
) -> Result<()> {
    kernels::set_plain(flags.kernels == Kernels::Plain);
    let settings = schema().load(flags)?;
    let from = from.map(|directory| directory.join(MODEL));
    let plan = Plan::new("gro-train", out, flags, &settings, &["model", "optimizer", "train"])
        .inputs(dataset::files(data))
        .inputs(from.clone())
        .other_split(other_split);
    let identity = plan.identity()?;
    plan.produce(|directory| {
        let device = models::device(flags.device)?;
        plan.runs_on(models::name_of(&device));
        let dataset = Dataset::read(data)?;
        let begun =
            from.as_deref().map(|path| begin(path, (&dataset, data), other_split, &device)).transpose()?;
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
            bar: progress::bar(0, "train", flags.quiet),
        };
        let (gold, fitted, description) = learn(&settings, (&dataset, data), begun, &device, &run)?;
        tracing::info!(
            "kept epoch {} of {}: validation NDCG@10 {:.4}",
            fitted.kept_epoch,
            fitted.epochs,
            fitted.kept_score
        );
        let tensors = gold.parameters().to_arrays().context("cannot read the trained weights")?;
        Checkpoint { description, tensors }.write(&directory.join(MODEL))?;
        Ok(())
    })?;
    Ok(())
}

/// Train a target as settings say, from fresh weights or from those that it begins with; what it is goes with it.
fn learn<'a>(
    settings: &Settings,
    (dataset, data): (&'a Dataset, &Path),
    begun: Option<(Parameters, Description)>,
    device: &Device,
    run: &Run<'_>,
) -> Result<(Gold<'a>, Fitted, Description)> {
    let train = &settings.train;
    let (architecture, sizes) = match &begun {
        Some((_, earlier)) => (*ARCHITECTURES.find(&earlier.architecture)?, Sizes::from(earlier)),
        None => (
            *ARCHITECTURES.find(&settings.model.architecture)?,
            Sizes { items: dataset.items(), network: settings.model.network },
        ),
    };
    let streams = Streams::new(settings.seed);
    let samples = Samples::new(dataset, sizes.max_len, train.batch, train, streams)?;
    if device.is_cpu() {
        let (tokens, longest) = samples.largest_batch();
        let parameters = memory::parameters(architecture, &sizes);
        Need::new()
            .part(
                format!("{} parameters, their optimizer and copies", memory::in_words(parameters)),
                memory::trained(architecture, &sizes),
                &["model.hidden", "model.blocks", "model.max_len"],
            )
            .part(
                "a batch",
                memory::step(architecture, &sizes, tokens, longest, kernels::fused(device)),
                &["train.batch", "model.max_len", "model.hidden", "model.blocks"],
            )
            .check()?;
    }
    tracing::info!(
        "training {architecture} on {} users, {} items, {} windows of at most {} items, {} steps an epoch",
        dataset.users(),
        dataset.items(),
        samples.count(),
        sizes.max_len,
        samples.steps(),
    );
    let splits = match &begun {
        Some((_, earlier)) => stage::splits::with(&earlier.splits, data)?,
        None => vec![stage::splits::of(data)?],
    };
    let parameters = match begun {
        Some((parameters, _)) => parameters,
        None => Parameters::initial(
            &(architecture.declare)(&sizes),
            settings.optimizer.embedding_deviation,
            &streams,
            Purpose::TargetWeights,
            device,
        )?,
    };
    let target = Trainee::new(architecture, &sizes, parameters, &settings.optimizer)?;
    let mut gold = Gold::new(target, dataset, samples, streams, device);
    let schedule = Schedule {
        setting: "train.epochs",
        step_size: "optimizer.learning_rate",
        epochs: train.epochs,
        patience: train.patience,
        validate_every: train.validate_every,
        keep: Keep::Best,
    };
    let fitted = fit(&mut gold, &schedule, run)?;
    let described = sizes.describe(Kind::Target, architecture, dataset.fingerprint());
    Ok((gold, fitted, Description { splits, ..described }))
}

/// The model at `path`, to go on from with this data.
fn begin(
    path: &Path,
    (dataset, data): (&Dataset, &Path),
    other_split: OtherSplit,
    device: &Device,
) -> Result<(Parameters, Description)> {
    check_loading(path)?;
    let (parameters, description) = models::load_parameters(path, device)?;
    description.check_dataset(dataset, path, data)?;
    stage::splits::differ(path, &description.splits, data, other_split)?;
    let Description { architecture, defence, .. } = &description;
    tracing::info!("going on from the {architecture} in {}", path.display());
    if defence.acts_on == ActsOn::Answers && defence.name != Defence::none().name {
        tracing::warn!(
            "`{}` acts on what {} answers, and is no part of what is learned",
            defence.name,
            path.display()
        );
    }
    Ok((parameters, description))
}
