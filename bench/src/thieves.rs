//! What each kind of thief costs, with SASRec as target and copy: 10,000 questions by each strategy; an epoch of distillation by each
//! loss; and 2,000 questions asked in rounds, with a copy trained in between, beside the distillation that as many questions would take
//! at once.

use std::time::Duration;

use anyhow::Result;
use artifact::checkpoint::Kind;
use artifact::queries::{QUERIES, QueryLog, QueryWriter};
use artifact::settings::{Distill, Generate, Model, Optimizer, Settings};
use attack::campaign::Campaign;
use attack::distill::Surrogate;
use attack::generate::generate;
use attack::losses::{LIST_LOSSES, ListLoss};
use attack::rounds::{self, Copying};
use attack::strategies::{Course, STRATEGIES, Strategy};
use indicatif::ProgressBar;
use models::{Architecture, sasrec};
use service::black_box::ProtectedTarget;
use streams::Streams;
use training::Learner;

use crate::generation::header;
use crate::{ITEMS, Iteration, SEED, TOP_K, Work, distillation, learners};

const ARCHITECTURE: Architecture = sasrec::ARCHITECTURE;

/// Epochs of a whole distillation.
const EPOCHS: usize = 4;

/// A work of each strategy that asks straight on, of each loss but the first, and two of rounds.
pub fn works() -> Vec<Work> {
    let straight = STRATEGIES.iter().filter(|strategy| matches!(strategy.course, Course::Straight(_)));
    let asking = straight.map(|strategy| {
        Work::new("thieves", format!("ask as {strategy:?}"), asked(strategy), || ask(strategy))
    });
    let learning = LIST_LOSSES
        .iter()
        .map(|loss| Work::new("thieves", format!("distil step by {loss:?}"), "199 prefixes", || learn(loss)));
    let rounds = [
        Work::new("thieves", "ask in rounds and train between", "2000 questions", in_rounds),
        Work::new("thieves", "distil at once", "2000 questions", at_once),
    ];
    asking.chain(learning).chain(rounds).collect()
}

fn target(length: usize) -> Result<ProtectedTarget> {
    let sizes = learners::sizes(length, ITEMS);
    let description = sizes.describe(Kind::Target, ARCHITECTURE, "");
    let model = learners::recommender(ARCHITECTURE, &sizes)?;
    Ok(ProtectedTarget::new(model.into(), &description, None, learners::device()?)?)
}

/// What a strategy makes of 50 sequences of 200.
fn budget(strategy: &Strategy) -> Generate {
    Generate {
        sequences: 50,
        batch: 50,
        top_k: TOP_K,
        strategy: strategy.name.to_owned(),
        ..Generate::default()
    }
}

/// Its questions, in words.
fn asked(strategy: &Strategy) -> String {
    let budget = budget(strategy);
    let campaign = Campaign::new(&budget, (200, ITEMS), &[], Streams::new(SEED));
    campaign.map_or_else(|invalid| invalid.to_string(), |campaign| format!("{} questions", campaign.budget()))
}

fn ask(strategy: &Strategy) -> Result<Iteration> {
    let (mut target, budget) = (target(200)?, budget(strategy));
    let directory = tempfile::tempdir()?;
    Ok(Box::new(move || {
        let mut log = QueryWriter::create(&directory.path().join(QUERIES), header())?;
        let campaign = Campaign::new(&budget, (200, ITEMS), &[], Streams::new(SEED))?;
        generate(&mut target, &campaign, &mut log, &ProgressBar::hidden())?;
        log.finish()?;
        Ok(())
    }))
}

fn learn(loss: &ListLoss) -> Result<Iteration> {
    distillation::epoch(ARCHITECTURE, &Distill { loss: loss.name.to_owned(), ..Distill::default() })
}

/// The settings of 2,000 questions.
fn settings(strategy: &str) -> Settings {
    Settings {
        model: Model {
            network: learners::sizes(50, ITEMS).network,
            architecture: ARCHITECTURE.name.to_owned(),
        },
        generate: Generate {
            sequences: 40,
            strategy: strategy.to_owned(),
            top_k: TOP_K,
            ..Generate::default()
        },
        distill: Distill { epochs: EPOCHS, ..Distill::default() },
        ..Settings::default()
    }
}

fn in_rounds() -> Result<Iteration> {
    let (settings, device) = (settings("rounds"), learners::device()?);
    let mut target = target(50)?;
    let directory = tempfile::tempdir()?;
    Ok(Box::new(move || {
        let campaign = Campaign::new(&settings.generate, (50, ITEMS), &[], Streams::new(SEED))?;
        let Course::Rounds(plan) = campaign.strategy.course else { anyhow::bail!("rounds go straight on") };
        let copying = Copying {
            settings: &settings,
            device: &device,
            state: directory.path().join("state"),
            identity: String::new(),
            resume: false,
            every: Duration::MAX,
            interrupted: &|| false,
            quiet: true,
        };
        let (header, plan) = (header(), plan(&campaign)?);
        let mut log = QueryWriter::create(&directory.path().join(QUERIES), header.clone())?;
        rounds::generate(&mut target, &campaign, &plan, &copying, &header, &mut log, &ProgressBar::hidden())?;
        log.finish()?;
        Ok(())
    }))
}

fn at_once() -> Result<Iteration> {
    let (settings, device) = (settings("autoregressive"), learners::device()?);
    let directory = tempfile::tempdir()?;
    let path = directory.path().join(QUERIES);
    let mut log = QueryWriter::create(&path, header())?;
    let campaign = Campaign::new(&settings.generate, (50, ITEMS), &[], Streams::new(SEED))?;
    generate(&mut target(50)?, &campaign, &mut log, &ProgressBar::hidden())?;
    log.finish()?;
    Ok(Box::new(move || {
        let _kept = &directory;
        let sizes = learners::sizes(50, ITEMS);
        let (log, optimizer) = (QueryLog::open(&path)?, Optimizer::default());
        let streams = Streams::new(SEED);
        let mut copy =
            Surrogate::new(ARCHITECTURE, &sizes, log, &settings.distill, &optimizer, streams, &device)?;
        for epoch in 1..=EPOCHS {
            for step in 0..copy.steps() {
                copy.step(epoch, step)?;
            }
            copy.validate()?;
        }
        Ok(())
    }))
}
