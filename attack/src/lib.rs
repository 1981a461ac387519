//! The fourth stage, in the attacker's shoes: ask a protected target, and distil a surrogate from its answers.
//!
//! `generate` reaches the target through a black box that gives ranked ids and nothing else; `distill` never
//! sees the target at all, only the query log.

pub mod distill;
pub mod generate;

use std::path::{Path, PathBuf};

use anyhow::Result;
use artifact::checkpoint::{Architecture, Checkpoint, Description, Kind, MODEL};
use artifact::queries::{Generation, QUERIES, QueryHeader, QueryLog, QueryWriter};
use recommender::black_box::{BlackBox, ProtectedTarget};
use recommender::fit::{Keep, Run, Schedule, fit};
use recommender::{Sizes, Streams};
use stage::{Checked, Flags, Plan, Refusal, progress, settings};

use crate::distill::Surrogate;
use crate::generate::generate;

/// Query a protected target and distil a surrogate from its answers.
///
/// The attack of Yue, He, Zeng and McAuley (RecSys 2021): it owns no user data and sees ordered lists only.
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
    Generate {
        /// Protected target made by `gro-defend`, or any target
        #[arg(long, value_name = "DIR")]
        target: PathBuf,
        /// Directory to write queries.parquet to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
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
        #[arg(long, value_name = "ARCHITECTURE")]
        surrogate: Option<Architecture>,
        /// Directory to write the surrogate to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Take up an interrupted run after its last whole epoch
        #[arg(long)]
        resume: bool,
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
        Command::Generate { target, out, flags } => run_generate(&target, &out, &flags),
        Command::Distill { queries, surrogate, out, resume, flags } => {
            run_distill(&queries, surrogate, &out, resume, &flags)
        }
    }
}

fn run_generate(target: &Path, out: &Path, flags: &Flags) -> Result<()> {
    let settings = settings::load(flags)?;
    let model = target.join(MODEL);
    let plan = Plan::new("gro-attack generate", out, flags, &settings, &["generate"]).input(&model);
    plan.produce(|directory| {
        let device = recommender::device(&flags.device.to_string())?;
        let (recommender, description) = recommender::load(&model, &device)?;
        let asked = &settings.generate;
        if asked.top_k > description.items {
            return Err(above_catalogue("generate.top_k", asked.top_k, "at most", description.items, &model));
        }
        let length = asked.length.unwrap_or(description.max_len);
        if length < 2 {
            return Err(Refusal::new(
                "generate.length is 1, expected at least 2: one item to learn, one to check",
            )
            .into());
        }
        let mut service = ProtectedTarget::new(recommender, &description, device);
        let generation =
            Generation { strategy: asked.strategy, seed_sequences: 0.0, seeded: 0, seed_length: 0 };
        let header = QueryHeader {
            items: service.items(),
            k: asked.top_k,
            fingerprint: description.fingerprint.clone(),
            queries: 0,
            sequences: 0,
            generation: Some(generation),
        };
        let mut log = QueryWriter::create(&directory.join(QUERIES), header)?;
        let bar = progress::bar(0, "generate", flags.quiet);
        let queries = generate(&mut service, asked, length, &Streams::new(settings.seed), &mut log, &bar)?;
        log.finish()?;
        tracing::info!("{queries} queries for {} sequences of {length} items", asked.sequences);
        Ok(())
    })?;
    Ok(())
}

fn run_distill(
    queries: &Path,
    surrogate: Option<Architecture>,
    out: &Path,
    resume: bool,
    flags: &Flags,
) -> Result<()> {
    // The flag is the setting: whichever way the architecture was named, the output depends on that alone.
    let mut settings = settings::load(flags)?.into_inner();
    settings.model.architecture = surrogate.unwrap_or(settings.model.architecture);
    let settings = Checked::new(settings)?;
    let log = queries.join(QUERIES);
    let plan = Plan::new("gro-attack distill", out, flags, &settings, &["model", "optimizer", "distill"])
        .input(&log);
    let identity = plan.identity()?;
    plan.produce(|directory| {
        let run = Run {
            output: directory,
            state: plan.state_dir(),
            resume,
            identity: identity.clone(),
            bar: progress::bar(0, "distill", flags.quiet),
        };
        distill(&settings, flags, &log, &run)
    })?;
    Ok(())
}

fn distill(settings: &Checked, flags: &Flags, path: &Path, run: &Run<'_>) -> Result<()> {
    let device = recommender::device(&flags.device.to_string())?;
    let log = QueryLog::open(path)?;
    let header = log.header().clone();
    let QueryHeader { items, k, ref fingerprint, .. } = header;
    if k >= items {
        return Err(above_catalogue("the length of the answered lists", k, "less than", items, path));
    }
    let (sizes, asked) = (Sizes::new(&settings.model, items), &settings.distill);
    let architecture = settings.model.architecture;
    let streams = Streams::new(settings.seed);
    let mut surrogate =
        Surrogate::new(architecture, &sizes, log, asked, &settings.optimizer, streams, &device)?;
    let schedule = Schedule {
        epochs: asked.epochs,
        patience: asked.patience,
        validate_every: asked.validate_every,
        keep: Keep::Best,
    };
    let fitted = fit(&mut surrogate, &schedule, run)?;
    tracing::info!(
        "kept epoch {} of {}: NDCG@10 of the first answered item {:.4}",
        fitted.kept_epoch,
        fitted.epochs,
        fitted.kept_score
    );
    let description = sizes.describe(Kind::Surrogate, architecture, fingerprint);
    let description = Description { queries: Some(header), ..description };
    let tensors = surrogate.parameters().to_arrays()?;
    Checkpoint { description, tensors }.write(&run.output.join(MODEL))?;
    Ok(())
}

fn above_catalogue(what: &str, k: usize, bound: &str, items: usize, origin: &Path) -> anyhow::Error {
    Refusal::new(format!("{what} is {k}, expected {bound} the {items} items of {}", origin.display())).into()
}
