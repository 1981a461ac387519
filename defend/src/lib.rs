//! The third stage: a gold target in, a protected one out.
//!
//! GRO (`gro.rs`) changes the weights; the other defences change the answers only, and are a word in the
//! checkpoint's description that everything which queries the target obeys.

pub mod gro;

use std::path::{Path, PathBuf};

use anyhow::Result;
use artifact::checkpoint::{Checkpoint, Description, Kind, MODEL, Policy};
use artifact::dataset::{self, Dataset};
use models::{ARCHITECTURES, Parameters, Sizes, architecture_of, load_parameters};
use stage::{Checked, Flags, Interruption, Kernels, Plan, Refusal, Resume, progress, settings};
use streams::{Purpose, Streams};
use training::Trainee;
use training::fit::{Fitted, Keep, Run, Schedule, fit};
use training::samples::Samples;
use training::state::Saving;

use crate::gro::Gro;

/// Name of the student's checkpoint beside the protected target.
pub const STUDENT: &str = "student.safetensors";

/// A defence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Method {
    /// Gradient-based Ranking Optimization: fine-tunes the target against a student
    Gro,
    /// No defence: the target as it is
    None,
    /// Answers every query with its list shuffled
    Random,
    /// Answers every query with its list reversed
    Reverse,
}

impl Method {
    /// The word in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gro => "gro",
            Self::None => "none",
            Self::Random => "random",
            Self::Reverse => "reverse",
        }
    }

    fn policy(self) -> Policy {
        match self {
            Self::Gro | Self::None => Policy::None,
            Self::Random => Policy::Random,
            Self::Reverse => Policy::Reverse,
        }
    }
}

/// Protect a target.
///
/// Reads the target that `gro-train` made and writes a protected one: model.safetensors, and with GRO the
/// student's student.safetensors, history.csv and TensorBoard events.
///
/// Example: gro-defend --config pipelines/ml-100k.yaml --config pipelines/bert.yaml --data out/ml-100k/data
/// --target out/ml-100k-bert/target --method gro --out out/ml-100k-bert/protected-gro
#[derive(clap::Parser, Debug)]
#[command(name = "gro-defend", version)]
pub struct Cli {
    /// Dataset made by `gro-preprocess run`; only GRO reads it
    #[arg(long, value_name = "DIR", required_if_eq("method", "gro"))]
    data: Option<PathBuf>,
    /// Target made by `gro-train`
    #[arg(long, value_name = "DIR")]
    target: PathBuf,
    /// The defence
    #[arg(long, value_enum)]
    method: Method,
    /// Directory to write the protected target to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    resume: Resume,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub flags: Flags,
}

impl Cli {
    /// The flags every stage has.
    pub fn flags(&self) -> Option<&Flags> {
        Some(&self.flags)
    }
}

/// Protects, unless the output is up to date.
pub fn run(cli: &Cli) -> Result<()> {
    let settings = settings::load(&cli.flags)?;
    let target = cli.target.join(MODEL);
    // What does not depend on a setting is not redone when it changes.
    let sections: &[&str] = match cli.method {
        Method::Gro => &["optimizer", "train", "defend"],
        Method::None | Method::Random | Method::Reverse => &[],
    };
    let mut plan = Plan::new("gro-defend", &cli.out, &cli.flags, &settings, sections)
        .argument("method", cli.method.name())
        .input(&target);
    match (cli.method, &cli.data) {
        (Method::Gro, Some(data)) => {
            plan = plan.inputs(dataset::files(data));
            let identity = plan.identity()?;
            plan.produce(|directory| {
                let interruption = Interruption::watch();
                let run = Run {
                    output: directory,
                    saving: Saving {
                        directory: plan.state_dir(),
                        identity: identity.clone(),
                        resume: cli.resume.resume,
                        every: cli.resume.save_every,
                        interrupted: &|| interruption.requested(),
                    },
                    bar: progress::bar(0, "gro", cli.flags.quiet),
                };
                fine_tune(&cli.flags, &settings, data, &target, &run)
            })?;
        }
        (Method::Gro, None) => return Err(Refusal::new("GRO needs the dataset; give it with --data").into()),
        (method, _) => {
            plan = plan.argument("answer_seed", settings.defend.answer_seed);
            plan.produce(|directory| {
                let Checkpoint { description, tensors } = Checkpoint::read(&target)?;
                let description = protected(description, method, settings.defend.answer_seed);
                Ok(Checkpoint { description, tensors }.write(&directory.join(MODEL))?)
            })?;
        }
    }
    Ok(())
}

fn protected(target: Description, method: Method, answer_seed: u64) -> Description {
    Description {
        kind: Kind::Protected,
        policy: method.policy(),
        policy_seed: if method == Method::Random { answer_seed } else { 0 },
        defense: method.name().to_owned(),
        ..target
    }
}

fn fine_tune(flags: &Flags, settings: &Checked, data: &Path, target: &Path, run: &Run<'_>) -> Result<()> {
    let device = models::device(&flags.device.to_string(), flags.kernels == Kernels::Plain)?;
    let dataset = Dataset::read(data)?;
    let (gold, description) = load_parameters(target, &device)?;
    description.check_dataset(&dataset, target, data)?;
    let (defend, train) = (&settings.defend, &settings.train);
    if defend.top_k >= dataset.items() {
        let items = dataset.items();
        return Err(Refusal::new(format!(
            "defend.top_k is {}, expected less than the {items} items of {}",
            defend.top_k,
            data.display()
        ))
        .into());
    }
    let sizes = Sizes::from(&description);
    let streams = Streams::new(settings.seed);
    let trainee =
        |architecture, parameters| Trainee::new(architecture, &sizes, parameters, &settings.optimizer);
    let architecture = *architecture_of(&description, target)?;
    let student = match &defend.student {
        Some(name) => *ARCHITECTURES.find(name)?,
        None => architecture,
    };
    let fresh = Parameters::initial(
        &(student.declare)(&sizes),
        settings.optimizer.embedding_deviation,
        &streams,
        Purpose::StudentWeights,
        &device,
    )?;
    let mut gro = Gro {
        target: trainee(architecture, gold)?,
        student: trainee(student, fresh)?,
        samples: Samples::new(&dataset, sizes.max_len, defend.batch, train, streams)?,
        dataset: &dataset,
        settings: defend.clone(),
        streams,
        device,
    };
    let schedule = Schedule {
        epochs: defend.student_warmup_epochs + defend.epochs,
        patience: 0,
        validate_every: 1,
        keep: Keep::Last,
    };
    let Fitted { first_score, kept_score, .. } = fit(&mut gro, &schedule, run)?;
    tracing::info!(
        "validation NDCG@10 {kept_score:.4}, {:.0} % of the {first_score:.4} before",
        100.0 * kept_score / first_score
    );

    let student =
        Description { kind: Kind::Student, architecture: student.name.to_owned(), ..description.clone() };
    Checkpoint { description: student, tensors: gro.student.parameters.to_arrays()? }
        .write(&run.output.join(STUDENT))?;
    let description = protected(description, Method::Gro, 0);
    Checkpoint { description, tensors: gro.target.parameters.to_arrays()? }.write(&run.output.join(MODEL))?;
    Ok(())
}
