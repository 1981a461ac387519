//! What each stage does: steps from the settings and the lengths of histories, floating-point operations of its matrix products from
//! the shapes, bytes from what it keeps.
//!
//! The shares of the machine's speed that each kind of work reaches are those of docs/performance.md.

use artifact::settings::{self, Loss, Sampling, Settings};
use attack::strategies::STRATEGIES;
use defend::methods::{Method, decoy, gro, guard};
use models::{Architecture, Reading, Sizes, memory};
use training::samples::{prefixes, windows};

use super::shape::Shape;

/// A product, and the two of its backward.
const FORWARD_AND_BACKWARD: f64 = 3.0;
/// Bytes of a number or an id.
const F32: f64 = 4.0;
/// A process that does nothing much.
const IDLE: f64 = 24.0 * 1024.0 * 1024.0;
/// Ratings that preprocessing takes a second, on two cores of 230 GFLOP/s; it multiplies nothing, but a slower machine is slower at it.
const RATINGS_PER_GFLOP: f64 = 7e6 / 230.0;
/// Share of their size that ids take in a compressed log.
const COMPRESSED: f64 = 0.3;

/// Shares of the machine's speed.
const TRAINING: f64 = 0.45;
const RANKING: f64 = 0.43;
const GRO: f64 = 0.40;
const GENERATION: Share = Share { cloze: 0.5, causal: 0.11 };
const DISTILLATION: Share = Share { cloze: 0.39, causal: 0.11 };

/// By how an architecture reads.
#[derive(Clone, Copy)]
struct Share {
    cloze: f64,
    causal: f64,
}

impl Share {
    fn of(self, architecture: Architecture) -> f64 {
        match architecture.reading {
            Reading::Cloze => self.cloze,
            Reading::Causal => self.causal,
        }
    }
}

/// What one line of the plan is about.
#[derive(Clone, Debug)]
pub(super) struct Work {
    /// Stage, and what it is told.
    pub(super) stage: String,
    /// What it goes through.
    pub(super) what: String,
    /// How often it is run.
    pub(super) times: usize,
    /// Its steps, where it has any.
    pub(super) steps: Option<u64>,
    /// GFLOP of one run, each over the share of the machine's speed that it reaches.
    effort: f64,
    /// Bytes of memory.
    pub(super) memory: f64,
    /// Bytes of one output.
    pub(super) disk: f64,
}

impl Work {
    /// Seconds of all its runs on a machine of `speed` GFLOP/s.
    pub(super) fn seconds(&self, speed: f64) -> f64 {
        self.times as f64 * self.effort / speed
    }
}

/// Tokens of a batch of `rows` of these samples at its largest, and of its longest row.
fn largest_batch(rows: usize, samples: &[f64]) -> (f64, f64) {
    let longest = samples.iter().copied().fold(1.0, f64::max) + 1.0;
    (longest * rows.min(samples.len()) as f64, longest)
}

/// What is to be run.
pub(super) struct Run<'a> {
    pub(super) settings: &'a Settings,
    pub(super) shape: &'a Shape,
    pub(super) architecture: Architecture,
    pub(super) surrogates: &'a [Architecture],
    pub(super) methods: &'a [&'a Method],
}

impl Run<'_> {
    /// All stages, in the order in which they run.
    pub(super) fn works(&self) -> anyhow::Result<Vec<Work>> {
        let seeds = self.settings.seeds.as_ref().map_or(1, Vec::len).max(1);
        let mut works = vec![self.preprocess(), Work { times: seeds, ..self.train() }];
        for method in self.methods {
            let work = match method.name {
                "gro" => Some(self.gro()?),
                "decoy" => Some(self.decoy()?),
                "guard" => Some(self.guard()?),
                // The others copy the gold target and say how it answers.
                _ => None,
            };
            works.extend(work.map(|work| Work { times: seeds, ..work }));
        }
        let times = seeds * self.methods.len();
        let asked = self.asked()?;
        works.push(Work { times, ..self.generate(asked) });
        for &surrogate in self.surrogates {
            works.push(Work { times, ..self.distill(surrogate, asked) });
            works.push(Work { times, ..self.evaluate(surrogate) });
        }
        Ok(works)
    }

    fn sizes(&self) -> Sizes {
        Sizes { items: self.shape.items, network: self.settings.model.network }
    }

    /// GFLOP of one pass over a row of `length` items, of which `states` are compared with `ranked` items each.
    fn row(&self, architecture: Architecture, length: f64, states: f64, ranked: usize) -> f64 {
        let sizes = self.sizes();
        let scores = 2.0 * states * sizes.hidden as f64 * ranked as f64;
        ((architecture.operations)(&sizes, length, states) + scores) / 1e9
    }

    fn trained(&self, architecture: Architecture) -> f64 {
        IDLE + F32 * self.shape.interactions as f64 + memory::trained(architecture, &self.sizes())
    }

    fn model(&self, architecture: Architecture) -> f64 {
        F32 * memory::parameters(architecture, &self.sizes())
    }

    fn preprocess(&self) -> Work {
        let interactions = self.shape.interactions as f64;
        Work {
            stage: "preprocess".to_owned(),
            what: "ratings to sequences".to_owned(),
            times: 1,
            steps: None,
            effort: interactions / RATINGS_PER_GFLOP,
            memory: IDLE + 28.0 * interactions,
            disk: F32 * interactions,
        }
    }

    /// The lengths of an epoch's samples.
    fn samples(&self) -> Vec<f64> {
        let (lengths, max_len) = (self.shape.lengths.iter().copied(), self.settings.model.network.max_len);
        let windows = match self.settings.train.sampling {
            Sampling::Windows => windows(lengths, max_len),
            Sampling::Prefixes => prefixes(lengths, max_len),
        };
        windows.iter().map(|window| window.range.len() as f64).collect()
    }

    /// Places of a sample at which the target learns, by its own objective.
    fn labels(&self, architecture: Architecture, length: f64) -> f64 {
        let train = &self.settings.train;
        match (architecture.reading, train.sampling) {
            (Reading::Cloze, _) => (train.mask_prob * length).clamp(1.0, train.max_predictions as f64),
            (Reading::Causal, Sampling::Windows) => length,
            (Reading::Causal, Sampling::Prefixes) => 1.0,
        }
    }

    /// The share of all samples that an epoch goes through.
    fn of_an_epoch(&self, samples: &[f64]) -> (usize, f64) {
        let count = self.settings.train.epoch_samples.map_or(samples.len(), |most| most.min(samples.len()));
        (count, count as f64 / samples.len().max(1) as f64)
    }

    /// GFLOP of one validation.
    fn validation(&self) -> f64 {
        let all = self.shape.users();
        let asked = self.settings.train.validation_users.map_or(all, |most| most.min(all));
        self.ranking(self.architecture) * asked as f64 / all as f64
    }

    /// GFLOP of the target's own steps over all `samples`.
    fn own_steps(&self, samples: &[f64]) -> f64 {
        let ranked = match self.settings.train.loss {
            Loss::Bce if self.architecture == models::sasrec::ARCHITECTURE => 2,
            _ => self.shape.items,
        };
        let of = |&length: &f64| {
            self.row(self.architecture, length, self.labels(self.architecture, length), ranked)
        };
        FORWARD_AND_BACKWARD * samples.iter().map(of).sum::<f64>()
    }

    /// GFLOP of ranking all items for every user once.
    fn ranking(&self, architecture: Architecture) -> f64 {
        let max_len = self.settings.model.network.max_len;
        let of = |&length: &usize| self.row(architecture, length.min(max_len) as f64, 1.0, self.shape.items);
        self.shape.lengths.iter().map(of).sum()
    }

    fn train(&self) -> Work {
        let (train, samples) = (&self.settings.train, self.samples());
        let (count, share) = self.of_an_epoch(&samples);
        let steps = count.div_ceil(train.batch);
        let validations = train.epochs.div_ceil(train.validate_every) as f64;
        let (tokens, longest) = largest_batch(train.batch, &samples);
        let epochs = train.epochs as f64;
        Work {
            stage: format!("train {}", self.architecture),
            what: format!("{count} samples, {} epochs", train.epochs),
            times: 1,
            steps: Some((steps * train.epochs) as u64),
            effort: epochs * share * self.own_steps(&samples) / TRAINING
                + validations * self.validation() / RANKING,
            memory: self.trained(self.architecture)
                + memory::step(self.architecture, &self.sizes(), tokens, longest, true),
            disk: self.model(self.architecture),
        }
    }

    fn gro(&self) -> anyhow::Result<Work> {
        let settings = settings::owned::<gro::Settings>(&self.settings.defend, "gro")?;
        let (samples, items) = (self.samples(), self.shape.items);
        let student = match &settings.student {
            Some(name) => *models::ARCHITECTURES.find(name)?,
            None => self.architecture,
        };
        let epochs = settings.student_warmup_epochs + settings.epochs;
        let (count, share) = self.of_an_epoch(&samples);
        let steps = count.div_ceil(settings.batch);
        let sizes = self.sizes();
        let compared =
            |length: f64| self.labels(self.architecture, length).min(settings.positions_per_sequence as f64);
        // The student learns from lists; the target's lists and the student's extremes rank all items once each.
        let beside: f64 = samples
            .iter()
            .map(|&length| {
                let positions = compared(length);
                let rankings = 2.0 * 2.0 * positions * sizes.hidden as f64 * items as f64 / 1e9;
                let lists =
                    2.0 * FORWARD_AND_BACKWARD * self.row(student, 0.0, positions, 2 * settings.top_k);
                FORWARD_AND_BACKWARD * self.row(student, length, positions, 0) + rankings + lists
            })
            .sum();
        let (tokens, longest) = largest_batch(settings.batch, &samples);
        let positions = (settings.batch * settings.positions_per_sequence) as f64;
        Ok(Work {
            stage: "defend gro".to_owned(),
            what: format!("{count} samples, {epochs} epochs"),
            times: 1,
            steps: Some((steps * epochs) as u64),
            effort: epochs as f64
                * (share * (self.own_steps(&samples) + beside) / GRO + self.validation() / RANKING),
            memory: self.trained(self.architecture)
                + memory::trained_as_student(student, &sizes)
                + memory::step(self.architecture, &sizes, tokens, longest, true)
                + memory::step(student, &sizes, tokens, longest, true)
                + memory::lists(positions, settings.top_k),
            disk: self.model(self.architecture) + self.model(student),
        })
    }

    fn decoy(&self) -> anyhow::Result<Work> {
        let settings = settings::owned::<decoy::Settings>(&self.settings.defend, "decoy")?;
        let (samples, items, sizes) = (self.samples(), self.shape.items, self.sizes());
        let (count, share) = self.of_an_epoch(&samples);
        let (steps, epochs) = (count.div_ceil(settings.batch), settings.epochs as f64);
        let (rows, longest, places) =
            decoy::work_of_thieves(&settings, self.architecture.reading, sizes.max_len);
        // A step of the target on lists and as many negatives, of which half are from its own top; and the gold target's lists.
        let rankings = 2.0 * 2.0 * places * sizes.hidden as f64 * items as f64 / 1e9;
        let reading = rows * self.row(self.architecture, longest, places / rows, 0);
        let lists = self.row(self.architecture, 0.0, places, 2 * settings.top_k);
        let beside = (FORWARD_AND_BACKWARD + 1.0) * reading + FORWARD_AND_BACKWARD * lists + rankings;
        let length = settings.length.min(sizes.max_len);
        let grown = self.asking(self.architecture, std::iter::once(length)) * settings.histories as f64;
        let (tokens, longest_sample) = largest_batch(settings.batch, &samples);
        Ok(Work {
            stage: "defend decoy".to_owned(),
            what: format!("{count} samples, {} epochs", settings.epochs),
            times: 1,
            steps: Some((steps * settings.epochs) as u64),
            effort: grown / GENERATION.of(self.architecture)
                + epochs
                    * ((share * self.own_steps(&samples) + steps as f64 * beside) / GRO
                        + 2.0 * self.validation() / RANKING),
            memory: self.trained(self.architecture)
                + memory::step(self.architecture, &sizes, tokens, longest_sample, true)
                + memory::step(self.architecture, &sizes, rows * longest, longest, true)
                + memory::lists(places, settings.top_k)
                + F32 * (settings.histories * length) as f64,
            disk: 2.0 * self.model(self.architecture),
        })
    }

    /// Asking about every beginning of these histories, a list each.
    fn asking(&self, architecture: Architecture, lengths: impl Iterator<Item = usize>) -> f64 {
        let max_len = self.settings.model.network.max_len;
        let of = |length: usize| match architecture.reading {
            // Read by cloze, the whole row is read again at each item; to the others each item comes once.
            Reading::Cloze => (1..=length)
                .map(|length| self.row(architecture, length.min(max_len) as f64, 1.0, self.shape.items))
                .sum(),
            Reading::Causal => self.row(architecture, length as f64, length as f64, self.shape.items),
        };
        lengths.map(of).sum()
    }

    fn guard(&self) -> anyhow::Result<Work> {
        let settings = settings::owned::<guard::Settings>(&self.settings.defend, "guard")?;
        let users = settings.users.min(self.shape.users());
        let every = self.shape.users() / users.max(1);
        let max_len = self.settings.model.network.max_len;
        let looked_at = self.shape.lengths.iter().step_by(every.max(1)).take(users);
        let asking = self.asking(self.architecture, looked_at.map(|&length| length.min(max_len)));
        Ok(Work {
            stage: "defend guard".to_owned(),
            what: format!("{users} users looked at"),
            times: 1,
            steps: None,
            effort: asking / GENERATION.of(self.architecture),
            memory: IDLE + F32 * self.shape.interactions as f64 + 2.0 * self.model(self.architecture),
            disk: self.model(self.architecture),
        })
    }

    /// Accounts of the thief, and questions of each.
    fn asked(&self) -> anyhow::Result<(usize, usize)> {
        let generate = &self.settings.generate;
        let strategy = STRATEGIES.find(&generate.strategy)?;
        Ok((strategy.divide)(generate, self.settings.model.network.max_len, self.shape.items)?)
    }

    fn generate(&self, (sequences, length): (usize, usize)) -> Work {
        let generate = &self.settings.generate;
        let answers = F32 * (sequences * length * (generate.top_k + 1)) as f64;
        let rows = generate.batch.min(sequences) as f64;
        Work {
            stage: "generate".to_owned(),
            what: format!("{sequences} accounts of {length} questions"),
            times: 1,
            steps: Some((sequences * length) as u64),
            effort: self.asking(self.architecture, std::iter::once(length)) * sequences as f64
                / GENERATION.of(self.architecture),
            memory: IDLE
                + 2.0 * self.model(self.architecture)
                + F32 * rows * (length * (generate.top_k + 1)) as f64
                + memory::pass(self.architecture, &self.sizes(), rows * length as f64, length as f64, true)
                + memory::cache(&self.sizes(), rows, length as f64),
            disk: COMPRESSED * answers,
        }
    }

    fn distill(&self, surrogate: Architecture, (sequences, length): (usize, usize)) -> Work {
        let distill = &self.settings.distill;
        let (max_len, items) = (self.settings.model.network.max_len, self.shape.items);
        let prefixes = length.saturating_sub(1);
        // A list and as many negatives are scored, by a loss of the paper's kind.
        let lists = 2 * self.settings.generate.top_k;
        let of_sequence = match surrogate.reading {
            Reading::Cloze => {
                (1..=prefixes).map(|prefix| self.row(surrogate, prefix.min(max_len) as f64, 1.0, lists)).sum()
            }
            Reading::Causal => self.row(surrogate, prefixes as f64, prefixes as f64, lists),
        };
        let questions = sequences * prefixes;
        let passes = distill.epoch_questions.div_ceil(questions.max(1)).max(1);
        let steps = match surrogate.reading {
            Reading::Cloze => questions.div_ceil(distill.batch),
            Reading::Causal => sequences.div_ceil((distill.batch / prefixes.max(1)).max(1)),
        };
        let validation = sequences as f64 * self.row(surrogate, length.min(max_len) as f64, 1.0, items);
        let learned = FORWARD_AND_BACKWARD * sequences as f64 * of_sequence * passes as f64;
        let longest = length.min(max_len) as f64;
        let tokens = match surrogate.reading {
            Reading::Cloze => distill.batch as f64 * longest,
            Reading::Causal => (distill.batch as f64).max(longest),
        };
        Work {
            stage: format!("distil {surrogate}"),
            what: format!("{questions} questions, {} epochs", distill.epochs),
            times: 1,
            steps: Some((steps * passes * distill.epochs) as u64),
            effort: distill.epochs as f64
                * (learned / DISTILLATION.of(surrogate)
                    + validation / distill.validate_every as f64 / RANKING),
            memory: IDLE
                + memory::trained(surrogate, &self.sizes())
                + memory::step(surrogate, &self.sizes(), tokens, longest, true),
            disk: self.model(surrogate),
        }
    }

    fn evaluate(&self, surrogate: Architecture) -> Work {
        let users = self.shape.users() as f64;
        let per_user = 2.0 * 8.0 * 5.0 * (2 * self.settings.evaluate.ks.len() + 1) as f64;
        Work {
            stage: "evaluate".to_owned(),
            what: format!("{users} users, target and {surrogate}"),
            times: 1,
            steps: None,
            effort: (self.ranking(self.architecture) + self.ranking(surrogate)) / RANKING,
            memory: IDLE
                + F32 * self.shape.interactions as f64
                + 2.0 * (self.model(self.architecture) + self.model(surrogate))
                + per_user * users,
            disk: 16.0 * users,
        }
    }
}
