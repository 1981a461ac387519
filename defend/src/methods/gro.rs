//! Gradient-based Ranking Optimization (Zhang, Yin, Chen and Long, WSDM 2024, arXiv 2310.16335;
//! docs/mathematics.md, section 5).
//!
//! A student `f_s` imitates the lists of the target `f_t`, as a thief's surrogate would, while the target trains. The
//! gradient of the student's loss says, for every place of a list, which item put there would hurt the student most; the swap
//! loss then asks the target to rank that item above the one it has there:
//!
//! ```text
//! A          the target's top k as a 0/1 matrix (k, n), row j one-hot at item a_j
//! L_s        the student's ranking loss on the list A s, s its scores            (the thief's loss)
//! A'         row j one-hot at r_j = argmax over i of dL_s/dA[j, i]               (the list that would hurt the most)
//! L_swap     mean over j of max(0, t[a_j] - t[r_j] + margin)                     (the target ranks r_j above a_j)
//! L          L_t + lambda L_swap                                                 (the target's own loss, and that)
//! ```
//!
//! Since `dL_s/dA[j, i] = g_j s_i` with `g_j = dL_s/ds[a_j]`, the gradient has rank one: `r_j` is the student's highest scored
//! item where g_j > 0 and its lowest where g_j < 0. No (k, n) matrix is ever made; the authors' code makes one for every
//! position. The swap loss in four lines of plain tensor operations is the plain twin in
//! `crates/kernels/src/catalogue/swap_loss.rs`, the student's loss that in `ranking_loss.rs` beside it. Where in a sample the
//! two models are compared is the matter of [`positions`](super::positions).
//!
//! Deviations from the authors' code:
//! - Where g_j = 0 no item is better than another, and no swap is asked for (`zero_gradient: skip`). Their argmax over a row of
//!   zeros takes item 1, in a third to a half of all rows; `first_item` reproduces that.
//! - Negatives are drawn uniformly outside the list; theirs are drawn inside it too, e times less often.
//! - `student_warmup_epochs` lets the student imitate the unchanged target first (0 as published): a student
//!   that cannot imitate yet has no one's gradients but its own.
//! - SASRec and NARM can be defended; theirs stops at both.

use std::path::Path;

use anyhow::Result;
use artifact::checkpoint::{ActsOn, Checkpoint, Defence, Description, Kind, MODEL};
use artifact::dataset::Dataset;
use artifact::settings::checks::{at_least, not_negative};
use artifact::settings::{self, Invalid, Owned, Section};
use candle_core::{DType, Device, Tensor};
use kernels::{Catalogue, Margins, RankingLoss};
use models::{ARCHITECTURES, Mode, Parameters, Sizes, architecture_of, load_parameters, memory};
use serde::{Deserialize, Serialize};
use stage::memory::{Need, check_loading};
use stage::{Refusal, splits};
use streams::{Purpose, Streams};
use training::fit::{Fitted, Keep, Schedule, fit};
use training::samples::Samples;
use training::{Learner, Trainee, validation};

use super::positions::compared_states;
use super::{Job, Method};

/// The registry's entry.
pub(super) const METHOD: Method = Method {
    name: "gro",
    title: "Gradient-based Ranking Optimization: fine-tunes the target against a student",
    acts_on: ActsOn::Weights,
    section: Some(Section::new::<Settings>("defend", "gro").read_flat()),
    depends_on: &["optimizer", "train"],
    needs_data: true,
    keyed: false,
    check,
    protect,
};

/// What makes a target and its student smaller.
const SIZES: [&str; 3] = ["model.hidden", "model.blocks", "model.max_len"];

/// Name of the student's checkpoint beside the protected target.
pub const STUDENT: &str = "student.safetensors";

/// What stands in for a row of the ranking whose gradient is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZeroGradient {
    /// Nothing: the row is left alone.
    #[default]
    Skip,
    /// Item 1, as in the authors' code.
    FirstItem,
}

/// Settings of GRO, the section `defend.gro`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Sequences a batch.
    pub batch: usize,
    /// Epochs; the last one is kept.
    pub epochs: usize,
    /// Length k of the list that the student imitates.
    pub top_k: usize,
    /// Weight of the swap loss.
    pub lambda: f64,
    /// Margin between neighbours in the student's ranking loss.
    pub margin_rank: f64,
    /// Margin over negatives in the student's ranking loss.
    pub margin_negative: f64,
    /// Margin of the swap loss.
    pub margin_swap: f64,
    /// What replaces an item of zero gradient.
    pub zero_gradient: ZeroGradient,
    /// Label positions of a training sample at which lists are compared, at most; drawn anew for every sample.
    pub positions_per_sequence: usize,
    /// Network of the student; `null` for the target's.
    pub student: Option<String>,
    /// Epochs in which the student alone learns, before the two train together.
    pub student_warmup_epochs: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch: 24,
            epochs: 10,
            top_k: 100,
            lambda: 1.0,
            margin_rank: 0.5,
            margin_negative: 0.5,
            margin_swap: 0.0,
            zero_gradient: ZeroGradient::Skip,
            positions_per_sequence: 40,
            student: None,
            student_warmup_epochs: 0,
        }
    }
}

impl Owned for Settings {
    fn check(&self) -> Result<(), Invalid> {
        at_least("defend.gro.batch", self.batch, 1)?;
        at_least("defend.gro.epochs", self.epochs, 1)?;
        // A ranking loss compares neighbours, so a list of one teaches nothing.
        at_least("defend.gro.top_k", self.top_k, 2)?;
        at_least("defend.gro.student_warmup_epochs", self.student_warmup_epochs, 0)?;
        at_least("defend.gro.positions_per_sequence", self.positions_per_sequence, 1)?;
        not_negative("defend.gro.lambda", self.lambda)?;
        not_negative("defend.gro.margin_rank", self.margin_rank)?;
        not_negative("defend.gro.margin_negative", self.margin_negative)?;
        not_negative("defend.gro.margin_swap", self.margin_swap)?;
        if let Some(student) = &self.student {
            let known = ARCHITECTURES.find(student);
            known.map_err(|unknown| Invalid::new(format!("`defend.gro.student`: {unknown}")))?;
        }
        Ok(())
    }
}

/// A target and the student it learns to mislead.
pub struct Gro<'a> {
    /// The target `f_t`, from gold weights.
    pub target: Trainee,
    /// The student `f_s`, from fresh weights.
    pub student: Trainee,
    /// The target's training samples.
    pub samples: Samples<'a>,
    /// The data set, for validation.
    pub dataset: &'a Dataset,
    /// Settings.
    pub settings: Settings,
    /// Random streams.
    pub streams: Streams,
    /// Device of both models.
    pub device: Device,
}

/// What target and student make of each other at the positions where they are compared.
pub struct Compared {
    /// L_s, the student's ranking loss.
    pub student_loss: Tensor,
    /// L_swap, the target's swap loss, before lambda.
    pub swap_loss: Tensor,
    /// g, the gradient of L_s at the score of each listed item, `(positions, k)`.
    pub gradient: Tensor,
    /// r, the item each place should rather hold, `(positions, k)`, 0 for none.
    pub replacements: Tensor,
}

/// Compares the two from their states `(positions, hidden)` at the same positions, the target's `lists` `(positions, k)`
/// there, and negatives of the same shape.
pub fn compare(
    (target, target_states): (&Catalogue, &Tensor),
    (student, student_states): (&Catalogue, &Tensor),
    lists: &Tensor,
    negatives: &Tensor,
    settings: &Settings,
) -> training::Result<Compared> {
    // The student imitates the lists.
    let margins = Margins { rank: settings.margin_rank, negative: settings.margin_negative };
    let RankingLoss { loss, gradient } = student.ranking_loss(student_states, lists, negatives, margins)?;
    // Its gradient names, for each place, the item that would hurt it most there ...
    let replacements = replacements(student, student_states, &gradient, settings.zero_gradient)?;
    // ... and the target is asked to rank that item above the one it has there.
    let swap_loss = target.swap_loss(target_states, lists, &replacements, settings.margin_swap)?;
    Ok(Compared { student_loss: loss, swap_loss, gradient, replacements })
}

/// r, the replacement for every place of the lists, `(rows, k)` ids, 0 for none: where `gradient` `(rows, k)`, g, is positive,
/// the student's highest scored item; where it is negative, the lowest.
pub fn replacements(
    student: &Catalogue,
    student_states: &Tensor,
    gradient: &Tensor,
    zero_gradient: ZeroGradient,
) -> candle_core::Result<Tensor> {
    let (highest, lowest) = student.extremes(student_states)?; // (rows)
    let highest = highest.unsqueeze(1)?.broadcast_as(gradient.shape())?.contiguous()?;
    let lowest = lowest.unsqueeze(1)?.broadcast_as(gradient.shape())?.contiguous()?;
    let none = match zero_gradient {
        ZeroGradient::Skip => highest.zeros_like()?,
        ZeroGradient::FirstItem => highest.ones_like()?,
    };
    let down = gradient.lt(0f32)?.where_cond(&lowest, &none)?;
    gradient.gt(0f32)?.where_cond(&highest, &down)
}

/// One step of each optimizer: the student down L_s, the target down L = L_t + lambda L_swap. Without the target's own loss
/// `target_loss`, L_t, the target stays as it is.
pub fn update(
    (target, target_loss): (&mut Trainee, Option<&Tensor>),
    student: &mut Trainee,
    compared: &Compared,
    lambda: f64,
) -> training::Result<()> {
    if let Some(own) = target_loss {
        let loss = (own + (&compared.swap_loss * lambda)?)?;
        target.optimizer.step(&loss.backward()?)?;
    }
    student.optimizer.step(&compared.student_loss.backward()?)
}

impl Learner for Gro<'_> {
    fn losses(&self) -> &'static [&'static str] {
        &["target_loss", "swap_loss", "student_loss", "zero_gradient_share"]
    }

    fn steps(&self) -> usize {
        self.samples.steps()
    }

    fn samples(&self) -> usize {
        self.samples.count()
    }

    fn step(&mut self, epoch: usize, step: usize) -> training::Result<Vec<Tensor>> {
        let (at_epoch, at_step) = (epoch as u64, step as u64);
        let stream = |purpose| self.streams.open(purpose, at_epoch, at_step, 0);
        let keys = |purpose| self.streams.dropout(purpose, at_epoch, at_step);
        let (mut positions, mut negatives) = (stream(Purpose::LabelPositions), stream(Purpose::Negatives));

        // While the student warms up, the target answers as it is and learns nothing.
        let warming_up = epoch <= self.settings.student_warmup_epochs;
        let target = if warming_up {
            (&*self.target.detached, Mode::Evaluate)
        } else {
            (&*self.target.model, self.target.mode(keys(Purpose::Dropout)))
        };
        let student = (&*self.student.model, self.student.mode(keys(Purpose::StudentDropout)));

        let most = self.settings.positions_per_sequence;
        let at = compared_states(target, student, &mut self.samples, (epoch, step), most, &mut positions)?;
        let lists = target.0.catalogue().top_k(&at.target_states, self.settings.top_k)?; // (positions, k)
        let (k, items) = (lists.dim(1)?, self.dataset.items());
        let negatives = training::negatives::uniform(&lists, k, items, &mut negatives)?;
        let compared = compare(
            (target.0.catalogue(), &at.target_states),
            (student.0.catalogue(), &at.student_states),
            &lists,
            &negatives,
            &self.settings,
        )?;
        let target_loss = (!warming_up).then_some(&at.target_loss);
        update((&mut self.target, target_loss), &mut self.student, &compared, self.settings.lambda)?;

        let zero = compared.gradient.eq(0f32)?.to_dtype(DType::F32)?.mean_all()?;
        Ok(vec![at.target_loss.detach(), compared.swap_loss.detach(), compared.student_loss.detach(), zero])
    }

    /// The target's ranking quality, and how well the student imitates it: the share of its top 10 that the
    /// student's top 10 holds, after the users' train sequences.
    fn validate(&mut self) -> training::Result<Vec<(&'static str, f64)>> {
        const BATCH: usize = 256;
        let (target, student) = (&*self.target.detached, &*self.student.detached);
        let users = self.samples.validation_users();
        let (ndcg, hit_rate) = validation::on_dataset(target, self.dataset, &users, BATCH, &self.device)?;
        let histories: Vec<&[u32]> = users.iter().map(|&user| self.dataset.train(user)).collect();
        let agreement = validation::agreement_at_10(target, student, &histories, BATCH, &self.device)?;
        Ok(vec![("ndcg@10", ndcg), ("hr@10", hit_rate), ("student_agr@10", agreement)])
    }

    fn trainees(&mut self) -> Vec<(&'static str, &mut Trainee)> {
        vec![("target", &mut self.target), ("student", &mut self.student)]
    }
}

/// Refuses lists of the whole catalogue, which leave the student nothing to be told apart.
fn check(all: &settings::Settings, items: usize, data: &Path) -> Result<()> {
    let Settings { top_k, .. } = settings::owned(&all.defend, METHOD.name)?;
    if top_k < items {
        return Ok(());
    }
    let data = data.display();
    let message = format!("defend.gro.top_k is {top_k}, expected less than the {items} items of {data}");
    Err(Refusal::new(message).into())
}

/// Fine-tunes the target against a student, and writes both.
fn protect(job: &Job<'_>) -> Result<()> {
    let settings: Settings = job.own_settings()?;
    let (data, dataset) = job.dataset()?;
    let device = job.device()?;
    check_loading(job.target)?;
    let (gold, description) = load_parameters(job.target, &device)?;
    description.check_dataset(&dataset, job.target, data)?;
    splits::differ(job.target, &description.splits, data, job.other_split)?;
    let description = Description { splits: splits::with(&description.splits, data)?, ..description };
    check(job.settings, dataset.items(), data)?;
    let architecture = *architecture_of(&description, job.target)?;
    let student = match &settings.student {
        Some(name) => *ARCHITECTURES.find(name)?,
        None => architecture,
    };
    let (sizes, optimizer) = (Sizes::from(&description), &job.settings.optimizer);
    let (batch, train) = (settings.batch, &job.settings.train);
    let streams = Streams::new(job.settings.seed);
    let samples = Samples::new(&dataset, sizes.max_len, batch, train, streams)?;
    if device.is_cpu() {
        let fused = kernels::fused(&device);
        let (tokens, longest) = samples.largest_batch();
        let positions = tokens.min((batch * settings.positions_per_sequence) as f64);
        let step = |architecture| memory::step(architecture, &sizes, tokens, longest, fused);
        Need::new()
            .part("the target, its optimizer and copies", memory::trained(architecture, &sizes), &SIZES)
            .part("the student", memory::trained_as_student(student, &sizes), &SIZES)
            .part("a batch", step(architecture) + step(student), &["defend.gro.batch", "model.max_len"])
            .part(
                "the lists of a batch",
                memory::lists(positions, settings.top_k),
                &["defend.gro.batch", "defend.gro.positions_per_sequence", "defend.gro.top_k"],
            )
            .check()?;
    }
    let fresh = Parameters::initial(
        &(student.declare)(&sizes),
        optimizer.embedding_deviation,
        &streams,
        Purpose::StudentWeights,
        &device,
    )?;
    let schedule = Schedule {
        setting: "defend.gro.epochs",
        step_size: "optimizer.learning_rate",
        epochs: settings.student_warmup_epochs + settings.epochs,
        patience: 0,
        validate_every: 1,
        keep: Keep::Last,
    };
    let defence = Defence {
        name: "gro".to_owned(),
        acts_on: ActsOn::Weights,
        parameters: job.parameters(),
        over: None,
    };
    let defence = job.over(defence, description.defence.clone());
    let mut gro = Gro {
        target: Trainee::new(architecture, &sizes, gold, optimizer)?,
        student: Trainee::new(student, &sizes, fresh, optimizer)?,
        samples,
        dataset: &dataset,
        settings,
        streams,
        device,
    };
    let Fitted { first_score, kept_score, .. } = job.run("gro", |run| fit(&mut gro, &schedule, run))?;
    tracing::info!(
        "validation NDCG@10 {kept_score:.4}, {:.0} % of the {first_score:.4} before",
        100.0 * kept_score / first_score
    );

    let student =
        Description { kind: Kind::Student, architecture: student.name.to_owned(), ..description.clone() };
    Checkpoint { description: student, tensors: gro.student.parameters.to_arrays()? }
        .write(&job.output.join(STUDENT))?;
    let description = Description { kind: Kind::Protected, defence, ..description };
    Checkpoint { description, tensors: gro.target.parameters.to_arrays()? }.write(&job.output.join(MODEL))?;
    Ok(())
}
