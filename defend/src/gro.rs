//! Gradient-based Ranking Optimization (Zhang, Yin, Chen and Long, WSDM 2024, arXiv 2310.16335).
//!
//! A student imitates the lists of the target, as an attacker's surrogate would, while the target trains. The
//! gradient of the student's loss says, for every place of a list, which item put there would hurt the student
//! most; the target's swap loss then asks the target to rank that item above the one it has there.
//!
//! With the list of a position as a 0/1 matrix A, row j one-hot at item a_j, the student's list is A s and
//! `dL/dA[j, i] = g_j s_i` with `g_j = dL/ds[a_j]`. The gradient has rank one, so the item with the largest entry
//! in row j is the student's highest scored item where g_j > 0 and its lowest where g_j < 0. No k x n matrix
//! is ever made (the authors' code makes one for every position).
//!
//! Where lists are compared: BERT4Rec at the hidden places of its own training samples, SASRec and NARM after the
//! prefixes of theirs, at most `positions_per_sequence` of each sample. A student of another architecture (`student`)
//! that reads histories the same way, as SASRec and NARM do, looks at the same places. Between cloze and causal
//! reading there are no such places: hidden items would be strange to the one, unhidden ones an answer sheet to the
//! other. Both are then asked for the item after prefixes of the sample's window, a question every recommender
//! answers and the only one an attacker can ask.
//!
//! Deviations from the authors' code:
//! - Where g_j = 0 no item is better than another, and no swap is asked for (`zero_gradient: skip`). Their
//!   arg max over a row of zeros takes item 1, in a third to a half of all rows; `first_item` reproduces that.
//! - Negatives are drawn uniformly outside the list; theirs are drawn inside it too, e times less often.
//! - `student_warmup_epochs` lets the student imitate the unchanged target first (0 as published): a student
//!   that cannot imitate yet has no one's gradients but its own.
//! - SASRec and NARM can be defended; theirs stops at both.

use artifact::dataset::Dataset;
use artifact::settings::{Defend, ZeroGradient};
use candle_core::{DType, Device, Tensor};
use kernels::{Catalogue, Margins, RankingLoss};
use models::{Contexts, Mode, Recommender};
use rand::Rng;
use streams::choose;
use streams::{Purpose, Streams};
use training::fit::Learner;
use training::ranking_loss::draw_negatives;
use training::samples::Samples;
use training::{Trainee, validation};

/// A target and the student it learns to mislead.
pub struct Gro<'a> {
    /// The target, from gold weights.
    pub target: Trainee,
    /// The student, from fresh weights.
    pub student: Trainee,
    /// The target's training samples.
    pub samples: Samples<'a>,
    /// The data set, for validation.
    pub dataset: &'a Dataset,
    /// Settings.
    pub settings: Defend,
    /// Random streams.
    pub streams: Streams,
    /// Device of both models.
    pub device: Device,
}

/// What target and student make of each other at the places where they are compared.
pub struct Losses {
    /// The student's ranking loss.
    pub student: Tensor,
    /// The target's swap loss, before lambda.
    pub swap: Tensor,
    /// The student's gradient at each place of the lists, `(positions, k)`.
    pub pull: Tensor,
    /// The item each place should rather hold, `(positions, k)`, 0 for none.
    pub replacements: Tensor,
}

/// The losses of target and student, from their states `(positions, hidden)` at the same places, the target's
/// `lists` `(positions, k)` there, and negatives of the same shape.
pub fn losses(
    (target, states): (&Catalogue, &Tensor),
    (student, student_states): (&Catalogue, &Tensor),
    lists: &Tensor,
    negatives: &Tensor,
    settings: &Defend,
) -> training::Result<Losses> {
    // The student imitates the lists.
    let margins = Margins { rank: settings.margin_rank, negative: settings.margin_negative };
    let RankingLoss { loss, pull } = student.ranking_loss(student_states, lists, negatives, margins)?;
    // Its gradient names, for each place, the item that would hurt it most there ...
    let replacements = replacements(student, student_states, &pull, settings.zero_gradient)?;
    // ... and the target is asked to rank that item above the one it has there.
    let swap = target.swap_loss(states, lists, &replacements, settings.margin_swap)?;
    Ok(Losses { student: loss, swap, pull, replacements })
}

/// The replacement for every place of the lists, `(rows, k)` ids, 0 for none: where `pull` `(rows, k)`, the
/// gradient g of the student's loss at the listed items, is positive, the student's highest scored item; where
/// it is negative, the lowest.
pub fn replacements(
    student: &Catalogue,
    student_states: &Tensor,
    pull: &Tensor,
    zero_gradient: ZeroGradient,
) -> candle_core::Result<Tensor> {
    let (highest, lowest) = student.extremes(student_states)?; // (rows)
    let highest = highest.unsqueeze(1)?.broadcast_as(pull.shape())?.contiguous()?;
    let lowest = lowest.unsqueeze(1)?.broadcast_as(pull.shape())?.contiguous()?;
    let none = match zero_gradient {
        ZeroGradient::Skip => highest.zeros_like()?,
        ZeroGradient::FirstItem => highest.ones_like()?,
    };
    let down = pull.lt(0f32)?.where_cond(&lowest, &none)?;
    pull.gt(0f32)?.where_cond(&highest, &down)
}

/// The rows of `states` `(positions, hidden)` that are `kept`, in ascending order.
fn pick(states: &Tensor, kept: &[u32]) -> training::Result<Tensor> {
    if kept.len() == states.dim(0)? {
        return Ok(states.clone());
    }
    Ok(kernels::embedding(states, &Tensor::from_slice(kept, kept.len(), states.device())?)?)
}

/// What target and student are asked after at most `most` prefixes of each window, as each of them reads it.
fn after_prefixes(
    windows: &[&[u32]],
    most: usize,
    [target, student]: [&dyn Recommender; 2],
    stream: &mut impl Rng,
) -> (Contexts, Contexts) {
    let (mut targets, mut students) = (Contexts::new(), Contexts::new());
    for window in windows {
        let prefixes: Vec<usize> = choose(window.len(), most, stream).into_iter().map(|i| i + 1).collect();
        target.ask(window, &prefixes, &mut targets);
        student.ask(window, &prefixes, &mut students);
    }
    (targets, students)
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
        let target_mode = self.target.mode(keys(Purpose::Dropout));
        let student_mode = self.student.mode(keys(Purpose::StudentDropout));
        let (mut positions, mut negatives) = (stream(Purpose::LabelPositions), stream(Purpose::Negatives));

        // While the student warms up, the target answers as it is and learns nothing.
        let warming_up = epoch <= self.settings.student_warmup_epochs;
        let (target, target_mode) = if warming_up {
            (&*self.target.frozen, Mode::Evaluate)
        } else {
            (&*self.target.model, target_mode)
        };
        let student = &*self.student.model;

        let batch = self.samples.batch(target, epoch, step);
        let label_states = target.encode(&batch.contexts.place(&self.device)?, target_mode)?;
        let own = target.training_loss(&label_states, &batch)?;

        let (states, questions) = if target.reading() == student.reading() {
            let (questions, kept) =
                batch.contexts.thinned(self.settings.positions_per_sequence, &mut positions);
            (pick(&label_states, &kept)?, questions)
        } else {
            let windows = self.samples.items(epoch, step);
            let (own_questions, questions) = after_prefixes(
                &windows,
                self.settings.positions_per_sequence,
                [target, student],
                &mut positions,
            );
            (target.encode(&own_questions.place(&self.device)?, target_mode)?, questions)
        };
        let lists = target.catalogue().top_k(&states, self.settings.top_k)?; // (positions, k)
        let negatives = draw_negatives(&lists, self.dataset.items(), &mut negatives)?;
        let student_states = student.encode(&questions.place(&self.device)?, student_mode)?;

        let losses = losses(
            (target.catalogue(), &states),
            (student.catalogue(), &student_states),
            &lists,
            &negatives,
            &self.settings,
        )?;
        if !warming_up {
            let loss = (&own + (&losses.swap * self.settings.lambda)?)?;
            self.target.optimizer.step(&loss.backward()?)?;
        }
        self.student.optimizer.step(&losses.student.backward()?)?;

        let zero = losses.pull.eq(0f32)?.to_dtype(DType::F32)?.mean_all()?;
        Ok(vec![own.detach(), losses.swap.detach(), losses.student.detach(), zero])
    }

    /// The target's ranking quality, and how well the student imitates it: the share of its top 10 that the
    /// student's top 10 holds, after the users' train sequences.
    fn validate(&mut self) -> training::Result<Vec<(&'static str, f64)>> {
        const BATCH: usize = 256;
        let (target, student) = (&*self.target.frozen, &*self.student.frozen);
        let (ndcg, hit_rate) = validation::on_dataset(target, self.dataset, BATCH, &self.device)?;
        let histories: Vec<&[u32]> = (0..self.dataset.users()).map(|user| self.dataset.train(user)).collect();
        let agreement = validation::agreement_at_10(target, student, &histories, BATCH, &self.device)?;
        Ok(vec![("ndcg@10", ndcg), ("hr@10", hit_rate), ("student_agr@10", agreement)])
    }

    fn trainees(&mut self) -> Vec<(&'static str, &mut Trainee)> {
        vec![("target", &mut self.target), ("student", &mut self.student)]
    }
}
