//! Distillation: the surrogate learns to answer as the target did (docs/mathematics.md, section 7). For every prefix of every
//! generated sequence the answered list is an example, of which a loss of lists ([`training::list_losses`]) learns, against items that
//! were not answered. What the thief suspects of the answers ([`suspicions`](crate::suspicions)) is heeded first: lists are turned
//! round, or dropped.
//!
//! A surrogate that reads causally has the states after all prefixes of a sequence from one pass, and takes whole
//! sequences, as many as hold `batch` prefixes; one that reads by cloze takes `batch` prefixes, each a row.
//!
//! The last list that is believed of a sequence is held out for validation: does the surrogate rank the answered first item
//! first, and how many of the first ten does it share? Of short sequences only some are held out, a tenth of all lists at most: who asks two questions
//! by each of many accounts would learn of half of the answers otherwise. Of a log, the first questions can be taken alone (`distill.budget`): what a
//! thief would know who had stopped there. Answers are read from disk group by group; of the whole log only the sequences are held in memory, a hundredth of
//! it. An epoch visits the groups in a new order, and within a group all its examples in a new order.

use std::collections::BTreeMap;

use anyhow::Result;
use artifact::queries::{Query, QueryHeader, QueryLog, listed};
use artifact::settings::{Distill, KeepBy, Optimizer};
use candle_core::{Device, Tensor};
use models::{Architecture, Contexts, Mode, Parameters, Reading, Recommender, Sizes};
use rand_chacha::ChaCha8Rng;
use stage::Refusal;
use streams::shuffle;
use streams::{Purpose, Streams};
use training::Learner;
use training::fit::epoch_order;
use training::list_losses::{LIST_LOSSES, ListLoss, Lists};
use training::{Trainee, negatives, validation};

use crate::suspicions::{Doubt, SUSPICIONS, Suspecting};

/// Prefixes validated at a time.
const VALIDATION_BATCH: usize = 256;

/// Of so many lists one is held out at most, and one of a sequence.
const HELD_OUT_OF: u64 = 10;

/// `max_len` of a surrogate that learns of histories of at most `longest` items: no more than these have, where each place has an
/// embedding of its own. Of a place that no history reached the surrogate learns nothing, and with the noise that its embedding began as it
/// would answer users whose histories are longer. A cloze model has a place for the mask besides.
pub fn window(architecture: Architecture, longest: usize, max_len: usize) -> usize {
    if !architecture.has_positions {
        return max_len;
    }
    let learned = match architecture.reading {
        Reading::Cloze => longest + 1,
        Reading::Causal => longest,
    };
    max_len.min(learned.max(1))
}

/// A surrogate in training.
pub struct Surrogate {
    lessons: Lessons,
    held_out: HeldOut,
    /// Steps that each group of the log takes.
    group_steps: Vec<usize>,
    samples: usize,
    /// How often an epoch goes through them.
    passes: usize,
    /// Examples a step.
    batch: usize,
    settings: Distill,
    loss: &'static ListLoss,
    /// Items that a list is held against.
    negatives: usize,
    /// Places of a list over which agreement is taken.
    agreement_at: usize,
    streams: Streams,
    device: Device,
    trainee: Trainee,
    /// An epoch, and the order in which it visits the groups.
    order: (usize, Vec<usize>),
    current: Option<Group>,
}

/// The queries that are not learned from: their sequences, the first item answered to each, and its first ten.
#[derive(Default)]
struct HeldOut {
    sequences: Vec<Vec<u32>>,
    first: Vec<u32>,
    lists: Vec<Vec<u32>>,
}

/// What is learned in one piece: the prefixes of a sequence with these lengths, by the query.
type Example = (usize, Vec<usize>);

/// A group of queries in memory, with its examples in the order of an epoch.
struct Group {
    epoch: usize,
    /// Place of the group in the epoch's order.
    place: usize,
    /// The first step of the group in the epoch.
    first_step: usize,
    queries: Vec<Lesson>,
    examples: Vec<Example>,
}

/// A query as the thief takes it.
struct Lesson {
    query: Query,
    /// Which lists he believes; none for all.
    believed: Option<Vec<bool>>,
    /// The length of the prefix whose list he holds out, if any.
    held_out: Option<usize>,
}

impl Lesson {
    /// Whether the list to the prefix of this length is believed.
    fn believes(&self, length: usize) -> bool {
        self.believed.as_ref().is_none_or(|believed| believed[length - 1])
    }

    /// The longest prefix whose list could be held out: a shorter one is left to learn from, or there was one question only.
    fn could_be_held_out(&self) -> Option<usize> {
        let questions = self.query.sequence.len();
        let mut believed = (1..=questions).rev().filter(|&length| self.believes(length));
        let last = believed.next()?;
        (questions == 1 || believed.next().is_some()).then_some(last)
    }

    /// The items of the list to the prefix of this length, of lists of `k` at most.
    fn list(&self, length: usize, k: usize) -> &[u32] {
        listed(&self.query.answers[(length - 1) * k..length * k])
    }
}

/// The part of a log that is learned from, under the thief's suspicion.
struct Lessons {
    log: QueryLog,
    /// Queries of each group that are within the budget, at most.
    questions: Vec<u64>,
    /// Queries of all groups together.
    asked: u64,
    /// Sequences that they are in.
    sequences: u64,
    doubt: Option<Box<dyn Doubt>>,
    /// Of every so many sequences of a group, one has a list held out.
    hold_out_every: usize,
}

impl Lessons {
    fn new(log: QueryLog, settings: &Distill) -> Result<Self> {
        let asked = log.header().queries;
        let budget = settings.budget.map_or(asked, |budget| budget as u64);
        if budget > asked {
            return Err(Refusal::new(format!(
                "distill.budget is {budget}, but the log holds {asked} questions; ask more, or learn from fewer"
            ))
            .into());
        }
        if settings.budget.is_none() && SUSPICIONS.find(&settings.suspicion)?.build.is_none() {
            // All of it as it is: nothing has to be known beforehand.
            let (questions, sequences) = (vec![u64::MAX; log.groups()], log.header().sequences);
            let hold_out_every = hold_out_every(asked, sequences);
            return Ok(Self { log, questions, asked, sequences, doubt: None, hold_out_every });
        }
        let mut suspecting =
            SUSPICIONS.find(&settings.suspicion)?.build.map(|build| build(settings, log.k()));
        let (mut questions, mut sequences, mut left) = (Vec::new(), 0, budget);
        for group in 0..log.groups() {
            if left == 0 {
                break;
            }
            // Lengths alone are wanted of most groups, but a group is small.
            let mut queries = log.read_group(group)?;
            let held: u64 = queries.iter().map(|query| query.sequence.len() as u64).sum();
            questions.push(held.min(left));
            cut(&mut queries, held.min(left), log.k());
            sequences += queries.len() as u64;
            left -= held.min(left);
            if let Some(suspecting) = &mut suspecting {
                for query in &queries {
                    suspecting.look(query);
                }
            }
        }
        let doubt = suspecting.map(Suspecting::conclude);
        let hold_out_every = hold_out_every(budget, sequences);
        let mut lessons = Self { log, questions, asked: budget, sequences, doubt, hold_out_every };
        if lessons.doubt.is_some() {
            let (mut believed, mut sequences) = (0, 0);
            for group in 0..lessons.groups() {
                for lesson in lessons.read_group(group)? {
                    believed += (1..=lesson.query.sequence.len())
                        .filter(|&length| lesson.believes(length))
                        .count() as u64;
                    sequences += u64::from(lesson.could_be_held_out().is_some());
                }
            }
            lessons.hold_out_every = self::hold_out_every(believed, sequences);
        }
        Ok(lessons)
    }

    fn groups(&self) -> usize {
        self.questions.len()
    }

    fn read_group(&self, group: usize) -> std::result::Result<Vec<Lesson>, artifact::Error> {
        let mut queries = self.log.read_group(group)?;
        cut(&mut queries, self.questions[group], self.log.k());
        let lesson = |mut query| {
            let believed = self.doubt.as_ref().and_then(|doubt| doubt.read(&mut query));
            Lesson { query, believed, held_out: None }
        };
        let mut lessons: Vec<Lesson> = queries.into_iter().map(lesson).collect();
        let could_be =
            lessons.iter_mut().filter_map(|lesson| lesson.could_be_held_out().map(|last| (lesson, last)));
        for (lesson, last) in could_be.step_by(self.hold_out_every) {
            lesson.held_out = Some(last);
        }
        Ok(lessons)
    }
}

/// Of how many sequences one has a list held out, so that of `lists` in all no more than one in [`HELD_OUT_OF`] is, and no more than one a sequence.
fn hold_out_every(lists: u64, sequences: u64) -> usize {
    (sequences * HELD_OUT_OF).div_ceil(lists.max(1)).max(1) as usize
}

/// Leaves the first `questions` of some queries.
fn cut(queries: &mut Vec<Query>, questions: u64, k: usize) {
    let mut left = questions as usize;
    queries.retain_mut(|Query { sequence, answers }| {
        sequence.truncate(left);
        answers.truncate(sequence.len() * k);
        left -= sequence.len();
        !sequence.is_empty()
    });
}

impl Surrogate {
    /// A surrogate with fresh weights for the queries in `log`.
    ///
    /// # Errors
    /// A budget beyond the log, a loss or a suspicion that is not known, a number of negatives that the loss cannot use, nothing to
    /// learn from.
    pub fn new(
        architecture: Architecture,
        sizes: &Sizes,
        log: QueryLog,
        settings: &Distill,
        optimizer: &Optimizer,
        streams: Streams,
        device: &Device,
    ) -> Result<Self> {
        let k = log.k();
        let (loss, agreement_at) = loss_of(settings, k)?;
        let negatives = (loss.negatives)(settings, k).map_err(|invalid| Refusal::new(invalid.to_string()))?;
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
        let lessons = Lessons::new(log, settings)?;
        let (mut group_examples, mut samples, mut longest) = (Vec::new(), 0, 1);
        let (mut held_out, mut doubted) = (HeldOut::default(), 0);
        for group in 0..lessons.groups() {
            let queries = lessons.read_group(group)?;
            let examples = examples(&queries, k, reading);
            samples += examples.iter().map(|(_, prefixes)| prefixes.len()).sum::<usize>();
            longest = examples.iter().map(|(_, prefixes)| prefixes.len()).fold(longest, usize::max);
            group_examples.push(examples.len());
            for lesson in queries {
                doubted += lesson.believed.iter().flatten().filter(|believed| !**believed).count();
                if let Some(length) = lesson.held_out {
                    let list = lesson.list(length, k);
                    held_out.first.push(list[0]);
                    held_out.lists.push(list[..agreement_at.min(list.len())].to_vec());
                    held_out.sequences.push(lesson.query.sequence[..length].to_vec());
                }
            }
        }
        if doubted > 0 {
            tracing::info!("{doubted} lists contradict those of close histories and are dropped");
        }
        let batch = (settings.batch / longest).max(1);
        let passes = settings.epoch_questions.div_ceil(samples.max(1)).max(1);
        let group_steps = group_examples.into_iter().map(|examples| examples.div_ceil(batch)).collect();
        if samples == 0 || held_out.sequences.is_empty() {
            let message = match (doubted, settings.budget) {
                (1.., _) => {
                    "every list that could be learned from, or checked with, is doubted; lower distill.least_overlap"
                }
                (_, Some(_)) => {
                    "distill.budget buys a single question, and one to learn from and one to check are needed; raise it"
                }
                _ => "the log holds a single question, and one to learn from and one to check are needed",
            };
            return Err(Refusal::new(message).into());
        }
        Ok(Self {
            lessons,
            held_out,
            group_steps,
            samples,
            passes,
            batch,
            settings: settings.clone(),
            loss,
            negatives,
            agreement_at,
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

    /// The loss that it learns by.
    pub fn loss(&self) -> &'static ListLoss {
        self.loss
    }

    /// What the part of the log cost that it learns from.
    pub fn header(&self) -> QueryHeader {
        self.lessons.log.header().first(self.lessons.asked, self.lessons.sequences)
    }

    /// Share of the first ten items of each list that are among the surrogate's own first ten after the history.
    ///
    /// # Errors
    /// Where a tensor operation fails.
    pub fn agreement_at_10(&self, histories: &[&[u32]], lists: &[&[u32]]) -> training::Result<Vec<f64>> {
        agreement(&*self.trainee.detached, histories, lists, 10, &self.device)
    }

    /// The loss of these lists `(rows)` after histories with these states `(rows, hidden)`: the mean over rows. Lists of one length are
    /// taken together, the shortest first, each with its share of the negatives.
    fn loss_of(
        &self,
        states: &Tensor,
        answered: &[&[u32]],
        (mut uniform, mut own): (ChaCha8Rng, ChaCha8Rng),
    ) -> training::Result<Tensor> {
        let (catalogue, full) = (self.trainee.model.catalogue(), self.lessons.log.k());
        let mut by_length: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for (row, list) in (0..).zip(answered) {
            by_length.entry(list.len()).or_default().push(row);
        }
        let mut sum: Option<Tensor> = None;
        for (&k, rows) in &by_length {
            let answers: Vec<u32> = rows.iter().flat_map(|&row| answered[row as usize]).copied().collect();
            let answers = Tensor::from_vec(answers, (rows.len(), k), &self.device)?;
            let alike = rows.len() == answered.len();
            let states = if alike {
                states.clone()
            } else {
                states.index_select(&Tensor::from_slice(rows, rows.len(), &self.device)?, 0)?
            };
            let count = (self.negatives * k).div_ceil(full);
            let mut negatives = negatives::uniform(&answers, count, catalogue.items, &mut uniform)?;
            if self.settings.own_top > 0.0 {
                let share = self.settings.own_top;
                negatives =
                    negatives::with_own_top(catalogue, &states, &answers, &negatives, share, &mut own)?;
            }
            let lists = Lists { states: &states, answers: &answers, negatives: &negatives };
            let loss = (self.loss.value)(catalogue, &lists, &self.settings)?;
            let loss = if alike { loss } else { (loss * (rows.len() as f64 / answered.len() as f64))? };
            sum = Some(match sum {
                None => loss,
                Some(sum) => (sum + loss)?,
            });
        }
        // A step has an example, and that a list.
        Ok(sum.unwrap_or(Tensor::zeros((), candle_core::DType::F32, &self.device)?))
    }

    /// Steps of one time through the log.
    fn steps_of_pass(&self) -> usize {
        self.group_steps.iter().sum()
    }

    /// Makes the group that `step` of `epoch` falls into the current one.
    fn enter_group(&mut self, epoch: usize, step: usize) -> training::Result<()> {
        if self.order.0 != epoch || self.order.1.is_empty() {
            self.order = (epoch, epoch_order(self.lessons.groups(), &self.streams, epoch));
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
        let queries = self.lessons.read_group(order[place])?;
        let mut examples = examples(&queries, self.lessons.log.k(), self.trainee.model.reading());
        let mut stream = self.streams.open(Purpose::Shuffle, epoch as u64, 1 + order[place] as u64, 0);
        shuffle(&mut examples, &mut stream);
        self.current = Some(Group { epoch, place, first_step, queries, examples });
        Ok(())
    }
}

/// The loss that the settings name, and over how many places of a list of `k` agreement is taken. Where the order of a list means
/// nothing, a loss that reads it gives way to that of the set.
fn loss_of(settings: &Distill, k: usize) -> Result<(&'static ListLoss, usize)> {
    let named = LIST_LOSSES.find(&settings.loss)?;
    if SUSPICIONS.find(&settings.suspicion)?.ordered {
        return Ok((named, k.min(10)));
    }
    if named.ordered {
        tracing::info!(
            "the order of lists means nothing to a thief who suspects that they are {}: the loss is set, not {}",
            settings.suspicion,
            named.name
        );
        return Ok((LIST_LOSSES.find("set")?, k));
    }
    Ok((named, k))
}

/// Share of the first `places` items of each list that are among the model's own first `places` after the history.
fn agreement(
    model: &dyn Recommender,
    histories: &[&[u32]],
    lists: &[&[u32]],
    places: usize,
    device: &Device,
) -> training::Result<Vec<f64>> {
    let places = places.min(model.sizes().items);
    let mut shares = Vec::with_capacity(histories.len());
    for (histories, lists) in histories.chunks(VALIDATION_BATCH).zip(lists.chunks(VALIDATION_BATCH)) {
        let states = model.encode(&model.contexts(histories).upload(device)?, Mode::Evaluate)?;
        let own: Vec<Vec<u32>> = model.catalogue().top_k(&states, places)?.to_vec2()?;
        shares.extend(lists.iter().zip(own).map(|(list, own)| metrics::agreement(list, &own, places)));
    }
    Ok(shares)
}

/// Every prefix of every sequence whose list is believed and has an order, of two items at least, but those that are held out: each
/// prefix an example, or all of a sequence where one pass gives their states.
fn examples(queries: &[Lesson], k: usize, reading: Reading) -> Vec<Example> {
    let prefixes = |lesson: &Lesson| {
        let learned = |&length: &usize| {
            lesson.believes(length) && lesson.held_out != Some(length) && lesson.list(length, k).len() > 1
        };
        (1..=lesson.query.sequence.len()).filter(learned).collect::<Vec<_>>()
    };
    let of_query = queries.iter().map(prefixes).enumerate();
    match reading {
        Reading::Causal => of_query.filter(|(_, prefixes)| !prefixes.is_empty()).collect(),
        Reading::Cloze => {
            of_query.flat_map(|(i, prefixes)| prefixes.into_iter().map(move |p| (i, vec![p]))).collect()
        }
    }
}

impl Learner for Surrogate {
    fn losses(&self) -> &'static [&'static str] {
        &["loss"]
    }

    fn steps(&self) -> usize {
        self.steps_of_pass() * self.passes
    }

    fn samples(&self) -> usize {
        self.samples * self.passes
    }

    fn step(&mut self, epoch: usize, step: usize) -> training::Result<Vec<Tensor>> {
        // Every pass is to all draws what an epoch is where there is one.
        let steps = self.steps_of_pass();
        let (epoch, step) = ((epoch - 1) * self.passes + step / steps + 1, step % steps);
        self.enter_group(epoch, step)?;
        let Some(Group { first_step, queries, examples, .. }) = &self.current else { return Ok(Vec::new()) };
        let begin = (step - first_step) * self.batch;
        let end = (begin + self.batch).min(examples.len());
        let (model, k) = (&*self.trainee.model, self.lessons.log.k());

        let (mut contexts, mut answered) = (Contexts::new(), Vec::new());
        for (query, prefixes) in &examples[begin..end] {
            let lesson = &queries[*query];
            model.push_prefixes(&lesson.query.sequence, prefixes, &mut contexts);
            answered.extend(prefixes.iter().map(|&length| lesson.list(length, k)));
        }
        let dropout = self.streams.dropout(Purpose::Dropout, epoch as u64, step as u64);
        let states = model.encode(&contexts.upload(&self.device)?, self.trainee.mode(dropout))?;
        let draws = |place| self.streams.open(Purpose::Negatives, epoch as u64, step as u64, place);
        let loss = self.loss_of(&states, &answered, (draws(0), draws(1)))?;
        self.trainee.optimizer.step(&loss.backward()?)?;
        Ok(vec![loss.detach()])
    }

    /// NDCG@10 of the first item answered to each whole sequence, and the agreement with what was answered; first what epochs are
    /// kept by.
    fn validate(&mut self) -> training::Result<Vec<(&'static str, f64)>> {
        let histories: Vec<&[u32]> = self.held_out.sequences.iter().map(Vec::as_slice).collect();
        let model = &*self.trainee.detached;
        let ranks =
            validation::ranks(model, &histories, &self.held_out.first, VALIDATION_BATCH, &self.device)?;
        let (ndcg, hit_rate) = validation::ndcg_and_hit_rate_at_10(&ranks);
        let of_first = [("ndcg@10", ndcg), ("hr@10", hit_rate)];
        if self.settings.keep_by == KeepBy::Ndcg {
            return Ok(of_first.to_vec());
        }
        let lists: Vec<&[u32]> = self.held_out.lists.iter().map(Vec::as_slice).collect();
        let shares = agreement(model, &histories, &lists, self.agreement_at, &self.device)?;
        let name = if self.agreement_at <= 10 { "agr@10" } else { "agr@k" };
        let mean = shares.iter().sum::<f64>() / shares.len().max(1) as f64;
        Ok([(name, mean)].into_iter().chain(of_first).collect())
    }

    fn trainees(&mut self) -> Vec<(&'static str, &mut Trainee)> {
        vec![("surrogate", &mut self.trainee)]
    }
}
