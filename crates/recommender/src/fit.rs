//! The training loop, the same for a target, a surrogate, and a target with its student.
//!
//! What differs is a [`Learner`]: what one step does, and what a validation measures. What is the same is here:
//! epochs, the history, the best weights, early stopping, the progress bar, and the state from which a killed
//! run is taken up at the end of its last whole epoch. Random numbers are keyed by (epoch, step), so a resumed
//! run ends in the same bytes as one that was never stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use artifact::checkpoint::{Array, read_arrays, write_arrays};
use artifact::events::EventWriter;
use artifact::history::{HISTORY, HistoryWriter, SPEED, SpeedWriter};
use candle_core::{Device, Tensor};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

use crate::parameters::{Weights, to_array};
use crate::streams::{Purpose, Streams, shuffle};
use crate::{Error, Result, Trainee};

/// Which epoch's weights a run ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Those of the best validation after at least one epoch.
    Best,
    /// Those of the last epoch.
    Last,
}

/// How long to train.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Most epochs.
    pub epochs: usize,
    /// Stop after this many epochs without a better validation; with [`Keep::Last`] it is not used.
    pub patience: usize,
    /// Validate every so many epochs, and at the last.
    pub validate_every: usize,
    /// Which weights to end with.
    pub keep: Keep,
}

/// Something that learns in steps and epochs.
pub trait Learner {
    /// Names of the values each step returns, for the history.
    fn losses(&self) -> &'static [&'static str];

    /// Steps in an epoch; at least 1.
    fn steps(&self) -> usize;

    /// Training samples in an epoch, for the record of speed.
    fn samples(&self) -> usize;

    /// One step of the optimizers. Returns detached scalars, one for each of [`Learner::losses`]; their mean
    /// over the epoch goes to the history. Epochs count from 1, steps from 0.
    fn step(&mut self, epoch: usize, step: usize) -> Result<Vec<Tensor>>;

    /// Measures the models as they are, by name; the first value decides which epoch is best (larger is
    /// better). The same names every time.
    fn validate(&mut self) -> Result<Vec<(&'static str, f64)>>;

    /// Every model that trains, under the name that the saved state uses (`target`, `student`, `surrogate`); the
    /// first is the one whose best weights are kept.
    fn trainees(&mut self) -> Vec<(&'static str, &mut Trainee)>;
}

/// Where a run writes and how it shows itself.
pub struct Run<'a> {
    /// Directory for history.csv, speed.csv and TensorBoard events.
    pub output: &'a Path,
    /// Directory of the state to resume from; made when needed.
    pub state: PathBuf,
    /// Whether to take up a saved state. Without one the run begins anew.
    pub resume: bool,
    /// What the run depends on, as a digest: a state of other settings or inputs is refused.
    pub identity: String,
    /// Progress in steps; its length is set here.
    pub bar: ProgressBar,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fitted {
    /// Epochs trained.
    pub epochs: usize,
    /// The epoch of the weights in place.
    pub kept_epoch: usize,
    /// Validation of the kept epoch.
    pub kept_score: f64,
    /// Validation before the first epoch.
    pub first_score: f64,
}

/// One row of the history: the epoch, and its columns in the order of the file.
type HistoryRow = (usize, Vec<(String, Option<f64>)>);

/// What must survive a crash beside the tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Progress {
    identity: String,
    epoch: usize,
    best_epoch: usize,
    best_score: f64,
    optimizer_steps: BTreeMap<String, u64>,
    history: Vec<HistoryRow>,
}

/// How often a run without a progress bar reports.
const WORD_EVERY: Duration = Duration::from_secs(30);

const STATE: &str = "state.safetensors";
const STATE_KEY: &str = "progress";

/// Trains `learner` to the end of its schedule and leaves the kept weights in place.
///
/// # Errors
/// [`Error::Training`] when a loss is no longer a finite number, naming epoch and loss; [`Error::Request`] when
/// a state of other settings is to be resumed; whatever a step returns.
pub fn fit(learner: &mut dyn Learner, schedule: &Schedule, run: &Run<'_>) -> Result<Fitted> {
    let mut history = Log::create(run.output)?;
    let mut progress = Progress {
        identity: run.identity.clone(),
        epoch: 0,
        best_epoch: 0,
        best_score: f64::NEG_INFINITY,
        optimizer_steps: BTreeMap::new(),
        history: Vec::new(),
    };
    let mut best = learner.trainees()[0].1.parameters.snapshot()?;

    let saved = if run.resume { load_state(learner, run)? } else { None };
    if let Some((saved, saved_best)) = saved {
        tracing::info!("resuming after epoch {}", saved.epoch);
        for row in &saved.history {
            history.push(row)?;
        }
        (progress, best) = (saved, saved_best);
    } else {
        let measured = learner.validate()?;
        let losses = learner.losses().iter().map(|name| (*name, None));
        let row = row(0, losses, measured.iter().map(|(name, _)| *name), Some(&measured));
        history.push(&row)?;
        progress.history.push(row);
    }
    let first_score = progress.history[0].1[learner.losses().len()].1.unwrap_or(f64::NAN);

    let mut last_word = Instant::now();
    let steps = learner.steps();
    run.bar.set_length((schedule.epochs * steps) as u64);
    run.bar.set_position((progress.epoch * steps) as u64);
    let patient = |p: &Progress| schedule.keep == Keep::Last || p.epoch < p.best_epoch + schedule.patience;
    while progress.epoch < schedule.epochs && patient(&progress) {
        let begun = Instant::now();
        let epoch = progress.epoch + 1;
        let losses = train_epoch(learner, epoch, &run.bar)?;
        if let Some((name, _)) = learner.losses().iter().zip(&losses).find(|(_, loss)| !loss.is_finite()) {
            return Err(Error::Training(format!(
                "{name} is no longer a finite number in epoch {epoch}; lower optimizer.learning_rate"
            )));
        }
        let seconds = begun.elapsed().as_secs_f64();
        let measured = if epoch.is_multiple_of(schedule.validate_every) || epoch == schedule.epochs {
            Some(learner.validate()?)
        } else {
            None
        };
        progress.epoch = epoch;
        if let Some(measured) = &measured
            && measured[0].1 > progress.best_score
        {
            progress.best_score = measured[0].1;
            progress.best_epoch = epoch;
            best = learner.trainees()[0].1.parameters.snapshot()?;
        }
        let columns = progress.history[0].1[losses.len()..].iter().map(|(name, _)| name.as_str());
        let named = learner.losses().iter().copied().zip(losses.iter().copied().map(Some));
        let row = row(epoch, named, columns, measured.as_deref());
        history.push(&row)?;
        history.speed.push(epoch, seconds, learner.samples())?;
        progress.history.push(row);
        save_state(learner, &progress, &best, run)?;
        let summary = describe(&progress, &losses, learner.losses(), measured.as_deref());
        // Where no bar is shown (a log file, a cluster job) the run still says now and then how it is doing.
        if run.bar.is_hidden() && last_word.elapsed() >= WORD_EVERY {
            last_word = Instant::now();
            tracing::info!("{summary}");
        }
        run.bar.set_message(summary);
    }
    run.bar.finish_and_clear();

    let (kept_epoch, kept_score) = match schedule.keep {
        Keep::Best => {
            learner.trainees()[0].1.parameters.restore(&best)?;
            (progress.best_epoch, progress.best_score)
        }
        Keep::Last => {
            let last =
                progress.history.iter().rev().find_map(|(_, columns)| columns[learner.losses().len()].1);
            (progress.epoch, last.unwrap_or(f64::NAN))
        }
    };
    Ok(Fitted { epochs: progress.epoch, kept_epoch, kept_score, first_score })
}

/// The order in which an epoch visits `count` samples.
pub fn epoch_order(count: usize, streams: &Streams, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    shuffle(&mut order, &mut streams.open(Purpose::Shuffle, epoch as u64, 0, 0));
    order
}

/// All steps of an epoch; the mean of each loss. The sums stay on the device until the end.
fn train_epoch(learner: &mut dyn Learner, epoch: usize, bar: &ProgressBar) -> Result<Vec<f64>> {
    let steps = learner.steps();
    let mut sums: Vec<Tensor> = Vec::new();
    for step in 0..steps {
        let losses = learner.step(epoch, step)?;
        sums = if sums.is_empty() {
            losses
        } else {
            sums.iter().zip(&losses).map(|(sum, loss)| sum + loss).collect::<candle_core::Result<_>>()?
        };
        bar.inc(1);
    }
    sums.iter().map(|sum| Ok(f64::from(sum.to_scalar::<f32>()?) / steps as f64)).collect()
}

/// A row of the history: losses, then what a validation measures under the names in `columns`; `None` where
/// the epoch has no value.
fn row<'a>(
    epoch: usize,
    losses: impl IntoIterator<Item = (&'a str, Option<f64>)>,
    columns: impl IntoIterator<Item = &'a str>,
    measured: Option<&[(&'static str, f64)]>,
) -> HistoryRow {
    let losses = losses.into_iter().map(|(name, loss)| (name.to_owned(), loss));
    let measured = columns.into_iter().map(|column| {
        let value = measured.and_then(|values| values.iter().find(|(name, _)| *name == column));
        (column.to_owned(), value.map(|(_, value)| *value))
    });
    (epoch, losses.chain(measured).collect())
}

fn describe(
    progress: &Progress,
    losses: &[f64],
    names: &[&str],
    measured: Option<&[(&'static str, f64)]>,
) -> String {
    let mut parts = vec![format!("epoch {}", progress.epoch)];
    parts.extend(names.iter().zip(losses).map(|(name, loss)| format!("{name} {loss:.4}")));
    parts.extend(measured.unwrap_or_default().iter().map(|(name, value)| format!("{name} {value:.4}")));
    parts.push(format!("best epoch {}", progress.best_epoch));
    parts.join("  ")
}

/// The three records of a run.
struct Log {
    history: HistoryWriter,
    speed: SpeedWriter,
    events: EventWriter,
}

impl Log {
    fn create(output: &Path) -> Result<Self> {
        Ok(Self {
            history: HistoryWriter::create(&output.join(HISTORY))?,
            speed: SpeedWriter::create(&output.join(SPEED))?,
            events: EventWriter::create(output)?,
        })
    }

    fn push(&mut self, (epoch, columns): &HistoryRow) -> Result<()> {
        let named: Vec<(&str, Option<f64>)> =
            columns.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        self.history.push(*epoch, &named)?;
        for (name, value) in named {
            if let Some(value) = value {
                self.events.scalar(*epoch, name, value)?;
            }
        }
        Ok(())
    }
}

fn save_state(learner: &mut dyn Learner, progress: &Progress, best: &Weights, run: &Run<'_>) -> Result<()> {
    let mut progress = progress.clone();
    let mut arrays: BTreeMap<String, Array> = BTreeMap::new();
    for (name, trained) in learner.trainees() {
        for (tensor, array) in trained.parameters.to_arrays()? {
            arrays.insert(format!("{name}/weight.{tensor}"), array);
        }
        for (tensor, moment) in trained.optimizer.moments() {
            arrays.insert(format!("{name}/{tensor}"), to_array(&moment)?);
        }
        progress.optimizer_steps.insert(name.to_owned(), trained.optimizer.steps());
    }
    for (tensor, value) in best {
        arrays.insert(format!("best/weight.{tensor}"), to_array(value)?);
    }
    let text = serde_json::to_string(&progress)
        .map_err(|error| Error::Training(format!("the state cannot be written as JSON: {error}")))?;
    let failed = |source| Error::State { path: run.state.clone(), source };
    std::fs::create_dir_all(&run.state).map_err(failed)?;
    let (path, partial) = (run.state.join(STATE), run.state.join(format!("{STATE}.partial")));
    write_arrays(&partial, &arrays, Some((STATE_KEY, text)))?;
    std::fs::File::open(&partial).and_then(|file| file.sync_all()).map_err(failed)?;
    std::fs::rename(&partial, &path).map_err(failed)
}

fn load_state(learner: &mut dyn Learner, run: &Run<'_>) -> Result<Option<(Progress, Weights)>> {
    let path = run.state.join(STATE);
    if !path.exists() {
        tracing::info!("no saved state in {}, beginning anew", run.state.display());
        return Ok(None);
    }
    let (arrays, metadata) = read_arrays(&path)?;
    let progress: Progress =
        metadata.get(STATE_KEY).and_then(|text| serde_json::from_str(text).ok()).ok_or_else(|| {
            Error::Request(format!("{}: is not a saved training state; delete it", path.display()))
        })?;
    if progress.identity != run.identity {
        return Err(Error::Request(format!(
            "{}: was saved by a run with other settings or inputs; run without --resume to begin anew",
            path.display()
        )));
    }
    let tensors = |prefix: &str, device: &Device| -> Result<Weights> {
        arrays
            .iter()
            .filter_map(|(name, array)| Some((name.strip_prefix(prefix)?, array)))
            .map(|(name, a)| {
                Ok((name.to_owned(), Tensor::from_slice(&a.values, a.shape.as_slice(), device)?))
            })
            .collect()
    };
    let mut best = Weights::new();
    for (place, (name, trained)) in learner.trainees().into_iter().enumerate() {
        let Some(device) = trained.parameters.iter().next().map(|(_, var)| var.device().clone()) else {
            continue;
        };
        trained.parameters.restore(&tensors(&format!("{name}/weight."), &device)?)?;
        let steps = progress.optimizer_steps.get(name).copied().unwrap_or(0);
        trained.optimizer.restore(&tensors(&format!("{name}/"), &device)?, steps)?;
        if place == 0 {
            best = tensors("best/weight.", &device)?;
        }
    }
    Ok(Some((progress, best)))
}
