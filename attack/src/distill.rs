//! Distillation: the surrogate learns to answer as the target did (spec 4.2 and 5). For every prefix of every
//! generated sequence the answered list is the lesson: its order by the ranking loss, against random items that
//! were not answered.
//!
//! The last query of each sequence is held out for validation: does the surrogate rank the answered first item
//! first? Queries are read from disk group by group; memory does not grow with the budget. An epoch visits the
//! groups in a new order, and within a group all its prefixes in a new order.

use anyhow::Result;
use artifact::checkpoint::Architecture;
use artifact::queries::{Query, QueryLog};
use artifact::settings::{Distill, Optimizer};
use candle_core::{Device, Tensor};
use kernels::Margins;
use recommender::fit::{Learner, epoch_order};
use recommender::ranking_loss::ranking_loss;
use recommender::streams::shuffle;
use recommender::{Mode, Parameters, Purpose, Sizes, Streams, Trainee, declare, validation};

/// Prefixes validated at a time.
const VALIDATION_BATCH: usize = 256;

/// A surrogate in training.
pub struct Surrogate {
    log: QueryLog,
    /// Steps that each group of the log takes.
    group_steps: Vec<usize>,
    samples: usize,
    batch: usize,
    margins: Margins,
    streams: Streams,
    device: Device,
    trainee: Trainee,
    current: Option<Lessons>,
}

/// A group of queries in memory, with its prefixes in the order of an epoch.
struct Lessons {
    epoch: usize,
    /// Place of the group in the epoch's order.
    place: usize,
    /// The first step of the group in the epoch.
    first_step: usize,
    queries: Vec<Query>,
    /// (query, items in the prefix)
    prefixes: Vec<(usize, usize)>,
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
        let batch = settings.batch;
        let declared = declare(architecture, sizes)?;
        let parameters = Parameters::initial(&declared, &streams, Purpose::SurrogateWeights, device)?;
        let (mut group_steps, mut samples) = (Vec::new(), 0);
        for group in 0..log.groups() {
            let prefixes = taught(&log.read_group(group)?).len();
            group_steps.push(prefixes.div_ceil(batch));
            samples += prefixes;
        }
        anyhow::ensure!(samples > 0, "no prefix to learn from: every sequence has a single item");
        Ok(Self {
            log,
            group_steps,
            samples,
            batch,
            margins: Margins { rank: settings.margin_rank, negative: settings.margin_negative },
            streams,
            device: device.clone(),
            trainee: Trainee::new(architecture, sizes, parameters, optimizer)?,
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
        let mut prefixes = taught(&queries);
        let mut stream = self.streams.open(Purpose::Shuffle, epoch as u64, 1 + order[place] as u64, 0);
        shuffle(&mut prefixes, &mut stream);
        self.current = Some(Lessons { epoch, place, first_step, queries, prefixes });
        Ok(())
    }
}

/// Every prefix of every sequence but the whole sequence, whose answer is held out.
fn taught(queries: &[Query]) -> Vec<(usize, usize)> {
    let lengths = queries.iter().map(|query| query.sequence.len()).enumerate();
    lengths.flat_map(|(index, length)| (1..length).map(move |prefix| (index, prefix))).collect()
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
        let Some(lessons) = &self.current else { return Ok(Vec::new()) };
        let begin = (step - lessons.first_step) * self.batch;
        let end = (begin + self.batch).min(lessons.prefixes.len());
        let k = self.log.k();

        let mut histories: Vec<&[u32]> = Vec::with_capacity(end - begin);
        let mut lists: Vec<u32> = Vec::with_capacity((end - begin) * k);
        for &(query, length) in &lessons.prefixes[begin..end] {
            let Query { sequence, answers } = &lessons.queries[query];
            histories.push(&sequence[..length]);
            lists.extend_from_slice(&answers[(length - 1) * k..length * k]);
        }
        let lists = Tensor::from_vec(lists, (end - begin, k), &self.device)?;

        let dropout = Mode::Train(self.streams.dropout(Purpose::Dropout, epoch as u64, step as u64));
        let states = self
            .trainee
            .model
            .encode(&self.trainee.model.contexts(&histories).place(&self.device)?, dropout)?;
        let mut negatives = self.streams.open(Purpose::Negatives, epoch as u64, step as u64, 0);
        let loss =
            ranking_loss(self.trainee.model.catalogue(), &states, &lists, self.margins, &mut negatives)?.loss;
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
