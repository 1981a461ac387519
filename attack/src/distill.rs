//! Distillation: the surrogate learns to answer as the target did (docs/mathematics.md, section 7). For every prefix of every
//! generated sequence the answered list is the lesson: its order by the ranking loss, against random items that
//! were not answered.
//!
//! A surrogate that reads causally has the states after all prefixes of a sequence from one pass, and takes whole
//! sequences, as many as hold `batch` prefixes; one that reads by cloze takes `batch` prefixes, each a row.
//!
//! The last query of each sequence is held out for validation: does the surrogate rank the answered first item
//! first? Queries are read from disk group by group; memory does not grow with the budget. An epoch visits the
//! groups in a new order, and within a group all its lessons in a new order.

use std::ops::Range;

use anyhow::Result;
use artifact::checkpoint::Architecture;
use artifact::queries::{Query, QueryLog};
use artifact::settings::{Distill, Optimizer};
use candle_core::{Device, Tensor};
use kernels::Margins;
use recommender::fit::{Learner, epoch_order};
use recommender::ranking_loss::ranking_loss;
use recommender::streams::shuffle;
use recommender::{Contexts, Parameters, Purpose, Reading, Sizes, Streams, Trainee, declare, validation};

/// Prefixes validated at a time.
const VALIDATION_BATCH: usize = 256;

/// A surrogate in training.
pub struct Surrogate {
    log: QueryLog,
    /// Steps that each group of the log takes.
    group_steps: Vec<usize>,
    samples: usize,
    /// Lessons a step.
    batch: usize,
    margins: Margins,
    streams: Streams,
    device: Device,
    trainee: Trainee,
    current: Option<Lessons>,
}

/// What is learned in one piece: prefixes of a sequence, by the query and the range of their lengths.
type Lesson = (usize, Range<usize>);

/// A group of queries in memory, with its lessons in the order of an epoch.
struct Lessons {
    epoch: usize,
    /// Place of the group in the epoch's order.
    place: usize,
    /// The first step of the group in the epoch.
    first_step: usize,
    queries: Vec<Query>,
    order: Vec<Lesson>,
}

impl Surrogate {
    /// A surrogate with fresh weights for the queries in `log`.
    pub fn new(
        architecture: Architecture,
        sizes: &Sizes,
        log: QueryLog,
        settings: &Distill,
        optimizer: &Optimizer,
        streams: Streams,
        device: &Device,
    ) -> Result<Self> {
        let declared = declare(architecture, sizes);
        let parameters = Parameters::initial(
            &declared,
            optimizer.embedding_deviation,
            &streams,
            Purpose::SurrogateWeights,
            device,
        )?;
        let trainee = Trainee::new(architecture, sizes, parameters, optimizer)?;
        let reading = trainee.model.reading();
        let (mut group_lessons, mut samples, mut longest) = (Vec::new(), 0, 1);
        for group in 0..log.groups() {
            let lessons = lessons(&log.read_group(group)?, reading);
            samples += lessons.iter().map(|(_, prefixes)| prefixes.len()).sum::<usize>();
            longest = lessons.iter().map(|(_, prefixes)| prefixes.len()).fold(longest, usize::max);
            group_lessons.push(lessons.len());
        }
        let batch = (settings.batch / longest).max(1);
        let group_steps = group_lessons.into_iter().map(|lessons| lessons.div_ceil(batch)).collect();
        anyhow::ensure!(samples > 0, "no prefix to learn from: every sequence has a single item");
        Ok(Self {
            log,
            group_steps,
            samples,
            batch,
            margins: Margins { rank: settings.margin_rank, negative: settings.margin_negative },
            streams,
            device: device.clone(),
            trainee,
            current: None,
        })
    }

    /// The weights as they are now.
    pub fn parameters(&self) -> &Parameters {
        &self.trainee.parameters
    }

    /// Makes the group that `step` of `epoch` falls into the current one.
    fn turn_to(&mut self, epoch: usize, step: usize) -> recommender::Result<()> {
        let order = epoch_order(self.log.groups(), &self.streams, epoch);
        let (mut first_step, mut place) = (0, 0);
        while step >= first_step + self.group_steps[order[place]] {
            first_step += self.group_steps[order[place]];
            place += 1;
        }
        if self.current.as_ref().is_some_and(|c| c.epoch == epoch && c.place == place) {
            return Ok(());
        }
        let queries = self.log.read_group(order[place])?;
        let mut lessons = lessons(&queries, self.trainee.model.reading());
        let mut stream = self.streams.open(Purpose::Shuffle, epoch as u64, 1 + order[place] as u64, 0);
        shuffle(&mut lessons, &mut stream);
        self.current = Some(Lessons { epoch, place, first_step, queries, order: lessons });
        Ok(())
    }
}

/// Every prefix of every sequence but the whole sequence, whose answer is held out: each prefix a lesson, or all
/// of a sequence where one pass gives their states.
fn lessons(queries: &[Query], reading: Reading) -> Vec<Lesson> {
    let lengths = queries.iter().map(|query| query.sequence.len()).enumerate();
    match reading {
        Reading::Causal => {
            lengths.filter(|(_, length)| *length > 1).map(|(i, length)| (i, 1..length)).collect()
        }
        Reading::Cloze => lengths.flat_map(|(i, length)| (1..length).map(move |p| (i, p..p + 1))).collect(),
    }
}

impl Learner for Surrogate {
    fn losses(&self) -> &'static [&'static str] {
        &["loss"]
    }

    fn steps(&self) -> usize {
        self.group_steps.iter().sum()
    }

    fn samples(&self) -> usize {
        self.samples
    }

    fn step(&mut self, epoch: usize, step: usize) -> recommender::Result<Vec<Tensor>> {
        self.turn_to(epoch, step)?;
        let Some(Lessons { first_step, queries, order, .. }) = &self.current else { return Ok(Vec::new()) };
        let begin = (step - first_step) * self.batch;
        let end = (begin + self.batch).min(order.len());
        let (model, k) = (&*self.trainee.model, self.log.k());

        let (mut contexts, mut lists) = (Contexts::new(), Vec::new());
        for (query, prefixes) in &order[begin..end] {
            let Query { sequence, answers } = &queries[*query];
            model.ask(sequence, &prefixes.clone().collect::<Vec<_>>(), &mut contexts);
            lists.extend_from_slice(&answers[(prefixes.start - 1) * k..(prefixes.end - 1) * k]);
        }
        let lists = Tensor::from_vec(lists, (contexts.positions(), k), &self.device)?;

        let dropout = self.streams.dropout(Purpose::Dropout, epoch as u64, step as u64);
        let states = model.encode(&contexts.place(&self.device)?, self.trainee.mode(dropout))?;
        let mut negatives = self.streams.open(Purpose::Negatives, epoch as u64, step as u64, 0);
        let loss = ranking_loss(model.catalogue(), &states, &lists, self.margins, &mut negatives)?.loss;
        self.trainee.optimizer.step(&loss.backward()?)?;
        Ok(vec![loss.detach()])
    }

    /// NDCG@10 of the first item answered to each whole sequence.
    fn validate(&mut self) -> recommender::Result<Vec<(&'static str, f64)>> {
        let mut ranks = Vec::with_capacity(self.log.sequences());
        for group in 0..self.log.groups() {
            let queries = self.log.read_group(group)?;
            let histories: Vec<&[u32]> = queries.iter().map(|query| query.sequence.as_slice()).collect();
            let first = queries.iter().map(|q| q.answers[q.answers.len() - self.log.k()]).collect::<Vec<_>>();
            ranks.extend(validation::ranks(
                &*self.trainee.frozen,
                &histories,
                &first,
                VALIDATION_BATCH,
                &self.device,
            )?);
        }
        let (ndcg, hit_rate) = validation::ndcg_and_hit_rate_at_10(&ranks);
        Ok(vec![("ndcg@10", ndcg), ("hr@10", hit_rate)])
    }

    fn trainees(&mut self) -> Vec<(&'static str, &mut Trainee)> {
        vec![("surrogate", &mut self.trainee)]
    }
}
