//! The command `tune`: random search with successive halving over settings of the target, judged on validation items alone.
//!
//! A *round* draws [`DRAWN`] settings from the space and trains each for a ninth of `train.epochs`; the best third is trained for a third of
//! them, and the best of these for all (Jamieson and Talwalkar, AISTATS 2016; Li et al., JMLR 18(185), 2018). A training of more epochs
//! begins anew, so that its result is that of `gro-train` with these settings, to the byte. The score is NDCG@10 on the
//! validation items; no test item is looked at.
//!
//! What was tried is kept in `OUT.state/`, line by line, with the seconds it took: work that was cut off goes on there, and ends as if it had
//! not been. The budget is held against these seconds, between two trainings.

pub mod space;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use artifact::dataset::{self, Dataset};
use candle_core::Device;
use serde::{Deserialize, Serialize};
use serde_yaml::{Mapping, Value};
use space::Space;
use stage::{Flags, Interruption, Kernels, Plan, Refusal, Resume, progress};
use streams::Streams;
use training::fit::Run;
use training::state::Saving;

use crate::{learn, schema};

/// Name of the table of what was tried.
pub const TRIED: &str = "tried.csv";
/// Name of the same for readers.
pub const TRIED_PAGE: &str = "tried.md";
/// Name of the best settings, a layer for `--config`.
pub const BEST: &str = "best.yaml";

/// Settings that a round draws.
pub const DRAWN: usize = 9;
/// One in so many goes on to the next rung, which trains so many times as long.
pub const KEPT: usize = 3;
/// Lengths of training in a round.
const RUNGS: u32 = 3;

/// What `gro-train tune` is told.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// YAML file of what may be drawn: for each setting a list, or `uniform: [LOW, HIGH]` or `log: [LOW, HIGH]`
    #[arg(long, value_name = "FILE")]
    pub space: PathBuf,
    /// Dataset made by `gro-preprocess run`
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Minutes of training after which no other begins; one that has begun is finished
    #[arg(long, value_name = "MINUTES", value_parser = minutes, required_unless_present = "rounds")]
    pub minutes: Option<f64>,
    /// Rounds of nine settings, at most
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rounds: Option<u32>,
    /// Directory to write tried.csv, tried.md and best.yaml to
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub resume: Resume,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub flags: Flags,
}

fn minutes(text: &str) -> std::result::Result<f64, String> {
    let minutes = text.parse().ok().filter(|minutes: &f64| minutes.is_finite() && *minutes > 0.0);
    minutes.ok_or_else(|| "expected a number of minutes above 0".to_owned())
}

/// A training that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Trial {
    round: u32,
    /// Which of the settings drawn in the round, from 1.
    drawn: usize,
    /// Epochs it was allowed.
    epochs: usize,
    /// What was drawn, in the order of the space.
    choices: Vec<Value>,
    /// Validation NDCG@10 of the best epoch; none where training broke down.
    score: Option<f64>,
    /// That epoch.
    epoch: Option<usize>,
    /// What it took.
    seconds: f64,
}

/// Look for good settings, unless the output is up to date, and print what was tried.
///
/// Fails, as a refusal, where the space, a setting that may be drawn or the dataset cannot be used.
pub fn tune(arguments: &Arguments) -> Result<()> {
    let Arguments { space, data, minutes, rounds, out, resume, flags } = arguments;
    kernels::set_plain(flags.kernels == Kernels::Plain);
    let settings = schema().load(flags)?;
    let read = Space::read(space)?;
    read.check(|set| with(flags, set, settings.train.epochs).map(drop))?;
    let said = |limit: Option<String>| limit.unwrap_or_else(|| "none".to_owned());
    let plan = Plan::new("gro-train tune", out, flags, &settings, &["model", "optimizer", "train"])
        .inputs(dataset::files(data))
        .input(space)
        .argument("minutes", said(minutes.map(|minutes| minutes.to_string())))
        .argument("rounds", said(rounds.map(|rounds| rounds.to_string())));
    let identity = plan.identity()?;
    plan.produce(|directory| {
        let device = models::device(flags.device)?;
        plan.runs_on(models::name_of(&device));
        let dataset = Dataset::read(data)?;
        let interruption = Interruption::watch();
        let search = Search {
            space: &read,
            flags,
            epochs: settings.train.epochs,
            streams: Streams::new(settings.seed),
            dataset: (&dataset, data),
            device,
            state: plan.state_dir(),
            identity,
            resume,
            interruption: &interruption,
        };
        let tried = search.run(*minutes, *rounds)?;
        let best = best(&tried).ok_or_else(|| {
            Refusal::new(
                "every training broke down, so there is no best; narrow the space, learning rates above all",
            )
        })?;
        put(&directory.join(BEST), &layer(&read, &tried, best)?)?;
        put(&directory.join(TRIED_PAGE), &page(&read, &tried, best))?;
        write_csv(&read, &tried, &directory.join(TRIED))
    })?;
    let page = out.join(TRIED_PAGE);
    let text = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    std::io::stdout().lock().write_all(text.as_bytes()).context("cannot print what was tried")
}

/// The settings with other ones on top.
fn with(flags: &Flags, set: Vec<String>, epochs: usize) -> Result<stage::Checked> {
    let mut flags = flags.clone();
    flags.set.extend(set);
    flags.set.push(format!("train.epochs={epochs}"));
    Ok(schema().load(&flags)?)
}

/// A search under way.
struct Search<'a> {
    space: &'a Space,
    flags: &'a Flags,
    epochs: usize,
    streams: Streams,
    dataset: (&'a Dataset, &'a Path),
    device: Device,
    state: PathBuf,
    identity: String,
    resume: &'a Resume,
    interruption: &'a Interruption,
}

impl Search<'_> {
    /// Everything that was tried, in order.
    fn run(&self, minutes: Option<f64>, rounds: Option<u32>) -> Result<Vec<Trial>> {
        let mut earlier = self.earlier()?.into_iter();
        let mut tried: Vec<Trial> = Vec::new();
        for round in 1..=rounds.unwrap_or(u32::MAX) {
            let mut left: Vec<(usize, Vec<Value>)> =
                (1..=DRAWN).map(|drawn| (drawn, self.space.draw(self.streams, round, drawn))).collect();
            for rung in 0..RUNGS {
                let epochs = self.epochs.div_ceil(KEPT.pow(RUNGS - 1 - rung));
                let mut scored = Vec::with_capacity(left.len());
                for (drawn, choices) in left {
                    let spent: f64 = tried.iter().map(|trial| trial.seconds).sum();
                    if minutes.is_some_and(|minutes| spent >= 60.0 * minutes) {
                        return Ok(tried);
                    }
                    let place =
                        Trial { round, drawn, epochs, choices, score: None, epoch: None, seconds: 0.0 };
                    let trial = match earlier.next() {
                        Some(trial) if trial.is_of(&place) => trial,
                        Some(_) => return Err(self.damaged().into()),
                        None => self.train(place)?,
                    };
                    scored.push((trial.drawn, trial.choices.clone(), trial.score));
                    tried.push(trial);
                }
                // The first of equals, and what broke down last.
                scored.sort_by(|(.., left), (.., right)| {
                    right.unwrap_or(-1.0).total_cmp(&left.unwrap_or(-1.0))
                });
                scored.retain(|(.., score)| score.is_some());
                let going_on = scored.len().min(DRAWN / KEPT.pow(rung + 1));
                left =
                    scored.into_iter().take(going_on).map(|(drawn, choices, _)| (drawn, choices)).collect();
            }
        }
        Ok(tried)
    }

    /// Train once, and keep what came of it.
    fn train(&self, mut trial: Trial) -> Result<Trial> {
        let settings = with(self.flags, self.space.set(&trial.choices), trial.epochs)?;
        let words = self.space.words(&trial.choices);
        tracing::info!("round {}, {} of {DRAWN}, {} epochs: {words}", trial.round, trial.drawn, trial.epochs);
        // A state of another training was left by a kill just after that had ended.
        let name = format!("training-{}-{}-{}", trial.round, trial.drawn, trial.epochs);
        self.clear(&name)?;
        let scratch = self.state.join(&name);
        fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
        let clock = Instant::now();
        let run = Run {
            output: &scratch,
            saving: Saving {
                directory: self.state.join(format!("{name}.state")),
                identity: format!("{} {} {} {}", self.identity, trial.round, trial.drawn, trial.epochs),
                resume: self.resume.resume,
                every: self.resume.save_every,
                interrupted: &|| self.interruption.requested(),
            },
            bar: progress::bar(0, "train", self.flags.quiet),
        };
        match learn(&settings, self.dataset, None, &self.device, &run) {
            Ok((_, fitted, _)) => {
                trial.score = Some(fitted.kept_score).filter(|score| score.is_finite());
                trial.epoch = Some(fitted.kept_epoch);
            }
            Err(error) => match error.downcast_ref() {
                Some(training::Error::Training(why)) => {
                    tracing::warn!("{words}: {why}; it counts as the worst");
                }
                Some(training::Error::Interrupted(_)) => {
                    return Err(training::Error::Interrupted(self.state.clone()).into());
                }
                _ => return Err(error.context(format!("training with {words}"))),
            },
        }
        trial.seconds = clock.elapsed().as_secs_f64();
        self.keep(&trial)?;
        self.clear("")?;
        Ok(trial)
    }

    /// Remove what trainings have left, but that of this name.
    fn clear(&self, kept: &str) -> Result<()> {
        let listed = || format!("cannot list {}", self.state.display());
        let Ok(entries) = fs::read_dir(&self.state) else { return Ok(()) };
        for entry in entries {
            let entry = entry.with_context(listed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("training-") && name.trim_end_matches(".state") != kept {
                let path = entry.path();
                fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn tried_file(&self) -> PathBuf {
        self.state.join("tried.jsonl")
    }

    /// What was tried before the work was cut off. A last line that was not written to its end is left out.
    fn earlier(&self) -> Result<Vec<Trial>> {
        let path = self.tried_file();
        if !self.resume.resume && self.state.exists() {
            fs::remove_dir_all(&self.state)
                .with_context(|| format!("cannot remove {}", self.state.display()))?;
        }
        let Ok(text) = fs::read_to_string(&path) else { return Ok(Vec::new()) };
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let mut lines = whole.lines();
        match lines.next() {
            Some(identity) if identity == self.identity => {}
            Some(_) => {
                let message = format!(
                    "{} is of other settings or inputs; run without --resume to leave it behind",
                    path.display()
                );
                return Err(Refusal::new(message).into());
            }
            None => return Ok(Vec::new()),
        }
        let earlier: Vec<Trial> = lines
            .map(serde_json::from_str)
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| self.damaged())?;
        // The file goes on after its last whole line.
        fs::write(&path, format!("{whole}\n")).with_context(|| format!("cannot write {}", path.display()))?;
        if !earlier.is_empty() {
            tracing::info!("going on after {} trainings", earlier.len());
        }
        Ok(earlier)
    }

    fn damaged(&self) -> Refusal {
        let path = self.tried_file();
        Refusal::new(format!("{} is damaged; run without --resume to leave it behind", path.display()))
    }

    fn keep(&self, trial: &Trial) -> Result<()> {
        let path = self.tried_file();
        let kept = || format!("cannot write {}", path.display());
        let empty = fs::metadata(&path).map_or(true, |metadata| metadata.len() == 0);
        let mut file = fs::File::options().create(true).append(true).open(&path).with_context(kept)?;
        let mut text = if empty { format!("{}\n", self.identity) } else { String::new() };
        text.push_str(&serde_json::to_string(trial)?);
        text.push('\n');
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(kept)
    }
}

impl Trial {
    /// Whether it is the training of this place.
    fn is_of(&self, place: &Self) -> bool {
        (self.round, self.drawn, self.epochs) == (place.round, place.drawn, place.epochs)
            && self.choices == place.choices
    }
}

/// The best of those that were trained longest; the first of equals.
fn best(tried: &[Trial]) -> Option<&Trial> {
    let longest = tried.iter().filter(|trial| trial.score.is_some()).map(|trial| trial.epochs).max()?;
    let of_longest = tried.iter().filter(|trial| trial.epochs == longest && trial.score.is_some());
    of_longest.rev().max_by(|left, right| left.score.unwrap_or(0.0).total_cmp(&right.score.unwrap_or(0.0)))
}

/// The best settings as a layer, and where they come from.
fn layer(space: &Space, tried: &[Trial], best: &Trial) -> Result<String> {
    let mut layer = Mapping::new();
    for (name, value) in space.names().zip(&best.choices) {
        let Some((section, key)) = name.split_once('.') else { continue };
        let section = layer.entry(section.into()).or_insert_with(|| Mapping::new().into());
        if let Value::Mapping(section) = section {
            section.insert(key.into(), value.clone());
        }
    }
    let yaml = serde_yaml::to_string(&layer).context("the best settings cannot be shown as YAML")?;
    Ok(format!(
        "# Chosen by `gro-train tune` on validation items: NDCG@10 {:.4} after epoch {} of {}, the best of {} trainings.\n{yaml}",
        best.score.unwrap_or(f64::NAN),
        best.epoch.unwrap_or(0),
        best.epochs,
        tried.len()
    ))
}

/// The cells of a training: where it stood, what was drawn, and what came of it.
fn cells(trial: &Trial) -> Vec<String> {
    let mut cells = vec![trial.round.to_string(), trial.drawn.to_string(), trial.epochs.to_string()];
    cells.extend(trial.choices.iter().map(space::plain));
    cells.push(trial.epoch.map_or_else(String::new, |epoch| epoch.to_string()));
    cells.push(trial.score.map_or_else(String::new, |score| score.to_string()));
    cells
}

fn heading(space: &Space) -> Vec<String> {
    let head = ["round", "drawn", "epochs"].map(str::to_owned).into_iter();
    head.chain(space.names().map(str::to_owned)).chain(["best_epoch", "ndcg@10"].map(str::to_owned)).collect()
}

fn write_csv(space: &Space, tried: &[Trial], path: &Path) -> Result<()> {
    let written = || format!("cannot write {}", path.display());
    let mut writer = csv::Writer::from_path(path).with_context(written)?;
    writer.write_record(heading(space)).with_context(written)?;
    for trial in tried {
        writer.write_record(cells(trial)).with_context(written)?;
    }
    writer.flush().with_context(written)
}

/// What was tried, the best first.
fn page(space: &Space, tried: &[Trial], best: &Trial) -> String {
    let mut text = format!(
        "# What was tried\n\nBest: {}. Validation NDCG@10 {:.4} after epoch {} of {}.\n\nNo test item was looked at. The longest trainings come first, \
         the best of them on top; an empty score is a training that broke down.\n\n",
        space.words(&best.choices),
        best.score.unwrap_or(f64::NAN),
        best.epoch.unwrap_or(0),
        best.epochs
    );
    let mut sorted: Vec<&Trial> = tried.iter().collect();
    sorted.sort_by(|left, right| {
        let score = |trial: &Trial| trial.score.unwrap_or(-1.0);
        right.epochs.cmp(&left.epochs).then_with(|| score(right).total_cmp(&score(left)))
    });
    let rows: Vec<Vec<String>> = std::iter::once(heading(space))
        .chain(sorted.into_iter().map(|trial| {
            let mut cells = cells(trial);
            if let (Some(last), Some(score)) = (cells.last_mut(), trial.score) {
                *last = format!("{score:.4}");
            }
            cells
        }))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    for (place, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if place == 0 {
            for width in &widths {
                let _ = write!(text, "|{:-<1$}", "", width + 2);
            }
            text.push_str("|\n");
        }
    }
    text
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
