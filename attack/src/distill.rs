//! Distillation: the surrogate learns to answer as the target did (docs/mathematics.md, section 7). For every prefix of every
//! generated sequence the answered list is an example: its order is learned by the ranking loss, against random items that
//! were not answered.
//!
//! A surrogate that reads causally has the states after all prefixes of a sequence from one pass, and takes whole
//! sequences, as many as hold `batch` prefixes; one that reads by cloze takes `batch` prefixes, each a row.
//!
//! The last query of each sequence is held out for validation: does the surrogate rank the answered first item
//! first? Answers are read from disk group by group; of the whole log only the sequences are held in memory, a hundredth of
//! it. An epoch visits the groups in a new order, and within a group all its examples in a new order.

use std::ops::Range;

use anyhow::Result;
use artifact::queries::{Query, QueryLog};
use artifact::settings::{Distill, Optimizer};
use candle_core::{Device, Tensor};
use kernels::Margins;
use models::{Architecture, Contexts, Parameters, Reading, Sizes};
use streams::shuffle;
use streams::{Purpose, Streams};
use training::Learner;
use training::fit::epoch_order;
use training::ranking_loss::ranking_loss;
use training::{Trainee, validation};

/// Prefixes validated at a time.
const VALIDATION_BATCH: usize = 256;

/// A surrogate in training.
pub struct Surrogate {
    log: QueryLog,
    held_out: HeldOut,
    /// Steps that each group of the log takes.
    group_steps: Vec<usize>,
    samples: usize,
    /// Examples a step.
    batch: usize,
    margins: Margins,
    streams: Streams,
    device: Device,
    trainee: Trainee,
    /// An epoch, and the order in which it visits the groups.
    order: (usize, Vec<usize>),
    current: Option<Group>,
}

/// The queries that are not learned from: the whole sequences, and the first item answered to each.
#[derive(Default)]
struct HeldOut {
    sequences: Vec<Vec<u32>>,
    first: Vec<u32>,
}

/// What is learned in one piece: prefixes of a sequence, by the query and the range of their lengths.
type Example = (usize, Range<usize>);

/// A group of queries in memory, with its examples in the order of an epoch.
struct Group {
    epoch: usize,
    /// Place of the group in the epoch's order.
    place: usize,
    /// The first step of the group in the epoch.
    first_step: usize,
    queries: Vec<Query>,
    examples: Vec<Example>,
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
        let declared = (architecture.declare)(sizes);
        let parameters = Parameters::initial(
            &declared,
            optimizer.embedding_deviation,
            &streams,
            Purpose::SurrogateWeights,
            device,
        )?;
        let trainee = Trainee::new(architecture, sizes, parameters, optimizer)?;
        let reading = trainee.model.reading();
        let (mut group_examples, mut samples, mut longest) = (Vec::new(), 0, 1);
        let mut held_out = HeldOut::default();
        for group in 0..log.groups() {
            let queries = log.read_group(group)?;
            let examples = examples(&queries, reading);
            samples += examples.iter().map(|(_, prefixes)| prefixes.len()).sum::<usize>();
            longest = examples.iter().map(|(_, prefixes)| prefixes.len()).fold(longest, usize::max);
            group_examples.push(examples.len());
            for Query { sequence, answers } in queries {
                held_out.first.push(answers[answers.len() - log.k()]);
                held_out.sequences.push(sequence);
            }
        }
        let batch = (settings.batch / longest).max(1);
        let group_steps = group_examples.into_iter().map(|examples| examples.div_ceil(batch)).collect();
        anyhow::ensure!(samples > 0, "no prefix to learn from: every sequence has a single item");
        Ok(Self {
            log,
            held_out,
            group_steps,
            samples,
            batch,
            margins: Margins { rank: settings.margin_rank, negative: settings.margin_negative },
            streams,
            device: device.clone(),
            trainee,
            order: (0, Vec::new()),
            current: None,
        })
    }

    /// The weights as they are now.
    pub fn parameters(&self) -> &Parameters {
        &self.trainee.parameters
    }

    /// Makes the group that `step` of `epoch` falls into the current one.
    fn enter_group(&mut self, epoch: usize, step: usize) -> training::Result<()> {
        if self.order.0 != epoch || self.order.1.is_empty() {
            self.order = (epoch, epoch_order(self.log.groups(), &self.streams, epoch));
        }
        let order = &self.order.1;
        let (mut first_step, mut place) = (0, 0);
        while step >= first_step + self.group_steps[order[place]] {
            first_step += self.group_steps[order[place]];
            place += 1;
        }
        if self.current.as_ref().is_some_and(|c| c.epoch == epoch && c.place == place) {
            return Ok(());
        }
        let queries = self.log.read_group(order[place])?;
        let mut examples = examples(&queries, self.trainee.model.reading());
        let mut stream = self.streams.open(Purpose::Shuffle, epoch as u64, 1 + order[place] as u64, 0);
        shuffle(&mut examples, &mut stream);
        self.current = Some(Group { epoch, place, first_step, queries, examples });
        Ok(())
    }
}

/// Every prefix of every sequence but the whole sequence, whose answer is held out: each prefix an example, or all
/// of a sequence where one pass gives their states.
fn examples(queries: &[Query], reading: Reading) -> Vec<Example> {
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

    fn step(&mut self, epoch: usize, step: usize) -> training::Result<Vec<Tensor>> {
        self.enter_group(epoch, step)?;
        let Some(Group { first_step, queries, examples, .. }) = &self.current else { return Ok(Vec::new()) };
        let begin = (step - first_step) * self.batch;
        let end = (begin + self.batch).min(examples.len());
        let (model, k) = (&*self.trainee.model, self.log.k());

        let (mut contexts, mut lists) = (Contexts::new(), Vec::new());
        for (query, prefixes) in &examples[begin..end] {
            let Query { sequence, answers } = &queries[*query];
            model.push_prefixes(sequence, &prefixes.clone().collect::<Vec<_>>(), &mut contexts);
            lists.extend_from_slice(&answers[(prefixes.start - 1) * k..(prefixes.end - 1) * k]);
        }
        let lists = Tensor::from_vec(lists, (contexts.positions(), k), &self.device)?;

        let dropout = self.streams.dropout(Purpose::Dropout, epoch as u64, step as u64);
        let states = model.encode(&contexts.upload(&self.device)?, self.trainee.mode(dropout))?;
        let mut negatives = self.streams.open(Purpose::Negatives, epoch as u64, step as u64, 0);
        let loss = ranking_loss(model.catalogue(), &states, &lists, self.margins, &mut negatives)?.loss;
        self.trainee.optimizer.step(&loss.backward()?)?;
        Ok(vec![loss.detach()])
    }

    /// NDCG@10 of the first item answered to each whole sequence.
    fn validate(&mut self) -> training::Result<Vec<(&'static str, f64)>> {
        let histories: Vec<&[u32]> = self.held_out.sequences.iter().map(Vec::as_slice).collect();
        let ranks = validation::ranks(
            &*self.trainee.detached,
            &histories,
            &self.held_out.first,
            VALIDATION_BATCH,
            &self.device,
        )?;
        let (ndcg, hit_rate) = validation::ndcg_and_hit_rate_at_10(&ranks);
        Ok(vec![("ndcg@10", ndcg), ("hr@10", hit_rate)])
    }

    fn trainees(&mut self) -> Vec<(&'static str, &mut Trainee)> {
        vec![("surrogate", &mut self.trainee)]
    }
}
