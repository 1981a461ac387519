//! The command `plan`: what a pipeline would do, how large it would be and how long it would take, before any of it runs.
//!
//! Steps are counted from the settings and the sizes of the data, arithmetic from the shapes; over the speed of this machine's matrix
//! products, measured for a second, and the share of it that each kind of work was found to reach, that gives hours.

mod shape;
mod speed;
mod work;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use defend::methods::{DEFENCES, Method};
use indicatif::{HumanBytes, HumanCount};
use models::{ARCHITECTURES, Architecture};
use stage::{Flags, Refusal};
use training::forecast::told;

use shape::Shape;
use work::{Run, Work};

/// Where the layers of data sets and architectures lie, for whoever is in the project's folder.
const LAYERS: &str = "pipelines";

/// What `gro plan` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Pipeline of the Makefile, such as ml-20m-bert: its layers in pipelines/ come before those of --config
    #[arg(value_name = "DATASET-ARCHITECTURE")]
    pub pipeline: Option<String>,
    /// Dataset made by `gro-preprocess run`; without it, the published size of the data set that is named
    #[arg(long, value_name = "DIR", conflicts_with = "size")]
    pub data: Option<PathBuf>,
    /// Size of other data, after the filters
    #[arg(long, value_name = "USERS,ITEMS,INTERACTIONS", value_delimiter = ',')]
    pub size: Vec<u64>,
    /// Defences that will be run; all by default
    #[arg(long, value_name = "METHOD", num_args = 1.., value_parser = stage::choices(&DEFENCES))]
    pub methods: Vec<&'static Method>,
    /// Speed of another machine in f32 matrix products; this one is measured where it is not given
    #[arg(long, value_name = "GFLOPS")]
    pub speed: Option<f64>,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub flags: Flags,
}

/// Print the plan to stdout.
///
/// Fails, as a refusal, where a layer is wrong, the data set is not known and no size is given, or there is no such pipeline.
pub fn plan(arguments: &Arguments) -> anyhow::Result<()> {
    let named = arguments.pipeline.as_deref().map(Pipeline::parse).transpose()?;
    let mut flags = arguments.flags.clone();
    if let Some(pipeline) = &named {
        flags.config.splice(0..0, pipeline.layers()?);
    }
    let settings = crate::settings::schema().load(&flags)?;
    let shape = match (&arguments.data, arguments.size.as_slice(), &named) {
        (Some(data), _, _) => Shape::read(data)?,
        (None, [users, items, interactions], _) => Shape::of(*users, *items, *interactions)?,
        (None, [], Some(pipeline)) => Shape::published(&pipeline.dataset)?,
        (None, [], None) => {
            return Err(Refusal::new(
                "of which data? name a pipeline, such as ml-20m-bert, or give --data or --size",
            )
            .into());
        }
        (None, _, _) => {
            return Err(Refusal::new(
                "--size is three numbers: users, items and interactions, 6040,3416,999611",
            )
            .into());
        }
    };
    let architecture = *ARCHITECTURES.find(&settings.model.architecture)?;
    let surrogates: Vec<Architecture> = match &settings.surrogates {
        None => vec![architecture],
        Some(names) => {
            names.iter().map(|name| Ok(*ARCHITECTURES.find(name)?)).collect::<anyhow::Result<_>>()?
        }
    };
    let methods: Vec<&Method> = match arguments.methods.as_slice() {
        [] => DEFENCES.iter().collect(),
        chosen => chosen.to_vec(),
    };
    let speed = match arguments.speed {
        Some(speed) if speed > 0.0 => speed,
        Some(_) => return Err(Refusal::new("--speed is a number of GFLOP/s above 0").into()),
        None => speed::measured()?,
    };
    let run =
        Run { settings: &settings, shape: &shape, architecture, surrogates: &surrogates, methods: &methods };
    let text = text(&run, &run.works()?, speed, arguments.speed.is_none());
    write!(std::io::stdout().lock(), "{text}").context("cannot print the plan")
}

/// A pipeline of the Makefile.
struct Pipeline {
    dataset: String,
    architecture: &'static str,
}

impl Pipeline {
    fn parse(name: &str) -> anyhow::Result<Self> {
        let known = || {
            let architectures = ARCHITECTURES.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ");
            Refusal::new(format!(
                "{name} is no DATASET-ARCHITECTURE such as ml-20m-bert; architectures are {architectures}"
            ))
        };
        let (dataset, architecture) = name.rsplit_once('-').ok_or_else(known)?;
        let architecture = ARCHITECTURES.find(architecture).map_err(|_| known())?.name;
        Ok(Self { dataset: dataset.to_owned(), architecture })
    }

    /// The layers that the Makefile takes: the data set's, the architecture's, those of the pair if it has any.
    fn layers(&self) -> anyhow::Result<Vec<PathBuf>> {
        let Self { dataset, architecture } = self;
        let file = |name: String| Path::new(LAYERS).join(name + ".yaml");
        let layers: Vec<PathBuf> = [
            file(dataset.clone()),
            file((*architecture).to_owned()),
            file(format!("{dataset}-{architecture}")),
        ]
        .into_iter()
        .filter(|path| path.exists())
        .collect();
        if !file(dataset.clone()).exists() {
            return Err(Refusal::new(format!(
                "{} does not exist; call `gro plan` in the project's folder, or give the layers as --config and the \
                 data as --data or --size",
                file(dataset.clone()).display()
            ))
            .into());
        }
        Ok(layers)
    }
}

/// The plan as it is printed: what the data are, what the machine does, a line a stage, and the sum.
fn text(run: &Run<'_>, works: &[Work], speed: f64, measured: bool) -> String {
    let shape = run.shape;
    let mut lines = vec![
        format!(
            "{} users, {} items, {} interactions{}",
            HumanCount(shape.users() as u64),
            HumanCount(shape.items as u64),
            HumanCount(shape.interactions),
            if shape.exact { "" } else { ", of lengths as they mostly are" }
        ),
        format!(
            "{speed:.0} GFLOP/s in matrix products{}",
            if measured { ", measured on this machine" } else { "" }
        ),
        String::new(),
    ];
    let mut rows = vec![["stage", "what", "steps", "a step", "memory", "disk", "time"].map(str::to_owned)];
    let mut total = 0.0;
    for work in works {
        let seconds = work.seconds(speed);
        total += seconds;
        let step = match work.steps {
            Some(steps) => {
                [HumanCount(steps).to_string(), of_a_step(seconds / work.times as f64 / steps as f64)]
            }
            None => [String::new(), String::new()],
        };
        let stage =
            if work.times > 1 { format!("{} ×{}", work.stage, work.times) } else { work.stage.clone() };
        let [steps, a_step] = step;
        let (memory, disk) = (bytes(work.memory), bytes(work.disk * work.times as f64));
        rows.push([stage, work.what.clone(), steps, a_step, memory, disk, told(seconds)]);
    }
    let most = bytes(works.iter().map(|work| work.memory).fold(0.0, f64::max));
    let disk = bytes(works.iter().map(|work| work.disk * work.times as f64).sum());
    rows.push(["all".to_owned(), String::new(), String::new(), String::new(), most, disk, told(total)]);
    lines.extend(aligned(&rows));
    lines.extend([String::new(), "Good within a factor of two on an idle machine.".to_owned()]);
    if run.settings.train.patience < run.settings.train.epochs {
        lines.push(
            "Training and distillation end earlier where validation no longer improves (train.patience, \
             distill.patience)."
                .to_owned(),
        );
    }
    if total > 2.0 * 3600.0 {
        lines.push(
            "To do less: train.epochs, defend.gro.epochs, generate.sequences, distill.epochs, --methods; \
             --config pipelines/quick.yaml lowers them all."
                .to_owned(),
        );
    }
    lines.join("\n") + "\n"
}

fn of_a_step(seconds: f64) -> String {
    if seconds >= 0.01 { format!("{seconds:.2} s") } else { format!("{:.2} ms", 1000.0 * seconds) }
}

fn bytes(bytes: f64) -> String {
    if bytes > 0.0 { HumanBytes(bytes as u64).to_string() } else { String::new() }
}

/// Columns of equal width, the first two to the left and numbers to the right.
fn aligned<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
