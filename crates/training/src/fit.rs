//! The training loop, the same for a target, a surrogate, and a target with its student.
//!
//! What differs is a [`Learner`]: what one step does, and what a validation measures. What is the same is here:
//! epochs, the history, the best weights, early stopping, the progress bar, and when the state ([`crate::state`]) is saved
//! from which an interrupted run goes on. Random numbers are keyed by (epoch, step), so a resumed run ends in the same bytes
//! as one that was never stopped.

use std::path::Path;
use std::time::{Duration, Instant};

use artifact::events::EventWriter;
use artifact::history::{HISTORY, HistoryWriter, SPEED, SpeedWriter};
use candle_core::Tensor;
use indicatif::ProgressBar;
use models::Weights;
use streams::{Purpose, Streams, shuffle};

use crate::forecast::{Forecast, Length};
use crate::state::{self, HistoryRow, Progress, Saving, UnderWay};
use crate::{Error, Learner, Result};

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
    /// The setting that says how many epochs, for whoever finds them too long.
    pub setting: &'static str,
    /// The setting that says how large a step is, for whoever finds that training diverges.
    pub step_size: &'static str,
    /// Most epochs.
    pub epochs: usize,
    /// Stop after this many epochs without a better validation; with [`Keep::Last`] it is not used.
    pub patience: usize,
    /// Validate every so many epochs, and at the last.
    pub validate_every: usize,
    /// Which weights to end with.
    pub keep: Keep,
}

/// Where a run writes and how it shows itself.
pub struct Run<'a> {
    /// Directory for history.csv, speed.csv and TensorBoard events.
    pub output: &'a Path,
    /// How its state is saved and taken up.
    pub saving: Saving<'a>,
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

/// How often a run without a progress bar reports.
const WORD_EVERY: Duration = Duration::from_secs(30);

/// Trains `learner` to the end of its schedule and leaves the kept weights in place.
///
/// # Errors
/// [`Error::Training`] when a loss is no longer a finite number, naming epoch and loss; [`Error::Request`] when
/// a damaged state, or one of other settings, is to be resumed; [`Error::Interrupted`] when that was asked for, with the
/// state saved; whatever a step returns.
pub fn fit(learner: &mut dyn Learner, schedule: &Schedule, run: &Run<'_>) -> Result<Fitted> {
    let mut log = Log::create(run.output)?;
    let saved = if run.saving.resume { state::load(learner, &run.saving)? } else { None };
    // How long a validation takes; a resumed run has not seen one yet.
    let mut validating = Duration::ZERO;
    let (mut progress, mut best) = if let Some(saved) = saved {
        let within = saved.0.under_way.as_ref().map(|epoch| format!(" and {} steps", epoch.steps));
        tracing::info!("resuming after {} epochs{}", saved.0.epoch, within.unwrap_or_default());
        saved
    } else {
        let begun = Instant::now();
        let measured = learner.validate()?;
        validating = begun.elapsed();
        let losses = learner.losses().iter().map(|name| (*name, None));
        let before = row(0, losses, measured.iter().map(|(name, _)| *name), Some(&measured));
        let best = learner.trainees()[0].1.parameters.snapshot()?;
        (Progress { history: vec![before], ..Progress::default() }, best)
    };
    for row in &progress.history {
        log.push(row)?;
    }
    for (epoch, seconds) in &progress.seconds {
        log.speed.push(*epoch, *seconds, learner.samples())?;
    }
    let first_score = progress.history[0].1[learner.losses().len()].1.unwrap_or(f64::NAN);

    let mut last_word = Instant::now();
    let steps = learner.steps();
    let steps_done = progress.epoch * steps + progress.under_way.as_ref().map_or(0, |epoch| epoch.steps);
    run.bar.set_length((schedule.epochs * steps) as u64);
    run.bar.set_position(steps_done as u64);
    let mut forecast = Forecast::new(
        Length {
            setting: schedule.setting,
            count: schedule.epochs as u64,
            steps: steps as u64,
            beside: validating.div_f64(schedule.validate_every as f64),
            may_end_early: schedule.keep == Keep::Best && schedule.patience < schedule.epochs,
        },
        steps_done as u64,
    );
    let patient = |p: &Progress| {
        schedule.keep == Keep::Last || p.epoch < p.best.map_or(0, |(epoch, _)| epoch) + schedule.patience
    };
    while progress.epoch < schedule.epochs && patient(&progress) {
        let epoch = progress.epoch + 1;
        let (losses, seconds) = train_epoch(learner, (schedule, &mut progress), &best, run, &mut forecast)?;
        let measured = if epoch.is_multiple_of(schedule.validate_every) || epoch == schedule.epochs {
            Some(learner.validate()?)
        } else {
            None
        };
        progress.epoch = epoch;
        if let Some(measured) = &measured
            && progress.best.is_none_or(|(_, score)| measured[0].1 > score)
        {
            progress.best = Some((epoch, measured[0].1));
            best = learner.trainees()[0].1.parameters.snapshot()?;
        }
        let columns = progress.history[0].1[losses.len()..].iter().map(|(name, _)| name.as_str());
        let named = learner.losses().iter().copied().zip(losses.iter().copied().map(Some));
        let row = row(epoch, named, columns, measured.as_deref());
        log.push(&row)?;
        log.speed.push(epoch, seconds, learner.samples())?;
        progress.history.push(row);
        progress.seconds.push((epoch, seconds));
        state::save(learner, &progress, &best, &run.saving)?;
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
            progress.best.unwrap_or((0, first_score))
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

/// The steps of the epoch after `progress.epoch` that are still to be taken. Returns the mean of each loss over all its
/// steps, and its seconds. The sums stay on the device until the end.
fn train_epoch(
    learner: &mut dyn Learner,
    (schedule, progress): (&Schedule, &mut Progress),
    best: &Weights,
    run: &Run<'_>,
    forecast: &mut Forecast,
) -> Result<(Vec<f64>, f64)> {
    let (epoch, steps) = (progress.epoch + 1, learner.steps());
    let before = progress.under_way.take().unwrap_or_default();
    let device = learner.trainees()[0].1.parameters.device();
    let mut sums: Vec<Tensor> =
        before.loss_sums.iter().map(|&sum| Tensor::new(sum, &device)).collect::<candle_core::Result<_>>()?;
    let finite = |learner: &dyn Learner, sums: &[Tensor]| -> Result<Vec<f32>> {
        let sums = sums.iter().map(Tensor::to_scalar).collect::<candle_core::Result<Vec<f32>>>()?;
        match learner.losses().iter().zip(&sums).find(|(_, sum)| !sum.is_finite()) {
            None => Ok(sums),
            Some((name, _)) => Err(Error::Training(format!(
                "{name} is no longer a finite number in epoch {epoch}; lower {}",
                schedule.step_size
            ))),
        }
    };
    let (begun, mut saved) = (Instant::now(), Instant::now());
    let mut stepped = Instant::now();
    for step in before.steps..steps {
        let losses = learner.step(epoch, step)?;
        if let Some(words) = forecast.advance(stepped.elapsed(), 1) {
            tracing::info!("{words}");
        }
        stepped = Instant::now();
        sums = if sums.is_empty() {
            losses
        } else {
            sums.iter().zip(&losses).map(|(sum, loss)| sum + loss).collect::<candle_core::Result<_>>()?
        };
        run.bar.inc(1);
        let interrupted = (run.saving.interrupted)();
        if interrupted || saved.elapsed() >= run.saving.every {
            let under_way = UnderWay {
                steps: step + 1,
                loss_sums: finite(learner, &sums)?,
                seconds: before.seconds + begun.elapsed().as_secs_f64(),
            };
            let progress = Progress { under_way: Some(under_way), ..progress.clone() };
            state::save(learner, &progress, best, &run.saving)?;
            saved = Instant::now();
        }
        if interrupted {
            return Err(Error::Interrupted(run.saving.directory.clone()));
        }
    }
    let means = finite(learner, &sums)?.into_iter().map(|sum| f64::from(sum) / steps as f64).collect();
    Ok((means, before.seconds + begun.elapsed().as_secs_f64()))
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
    parts.extend(progress.best.map(|(epoch, _)| format!("best epoch {epoch}")));
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
