//! Full rankings: every user of MovieLens-100K, one held-out item each, against all items.

use anyhow::Result;
use artifact::settings::{Evaluate, HeldOut};
use evaluate::run::measurement::{Questions, Target, measure};
use models::bert4rec;
use training::validation;

use crate::{ITEMS, Iteration, TOP_K, Work, histories, learners};

/// Longest input.
const LENGTH: usize = 200;

/// Users validated at a time, as in training.
const VALIDATION_BATCH: usize = 256;

/// A validation, as training has one every epoch; and an evaluation of a target alone, which lists the best items
/// and ranks by popularity besides.
pub fn works() -> Vec<Work> {
    let shape = format!("{} users, length {LENGTH}, {ITEMS} items", histories::USERS);
    vec![
        Work::new("evaluation", "validation bert", &shape, validations),
        Work::new("evaluation", "evaluation bert", &shape, evaluations),
    ]
}

fn validations() -> Result<Iteration> {
    let dataset = histories::movielens_100k()?;
    let model = learners::recommender(bert4rec::ARCHITECTURE, &learners::sizes(LENGTH, ITEMS))?;
    let device = learners::device()?;
    let users: Vec<usize> = (0..dataset.users()).collect();
    Ok(Box::new(move || {
        validation::on_dataset(&*model, dataset, &users, VALIDATION_BATCH, &device)?;
        Ok(())
    }))
}

fn evaluations() -> Result<Iteration> {
    let dataset = histories::movielens_100k()?;
    let asked = Evaluate::default();
    let questions = Questions {
        ks: asked.ks,
        top_k: TOP_K,
        exclude_seen: false,
        held_out: HeldOut::Test,
        candidates: None,
        batch: asked.batch,
    };
    let sizes = learners::sizes(LENGTH, ITEMS);
    let device = learners::device()?;
    Ok(Box::new(move || {
        // An evaluation uses its target up; to build one costs nothing beside querying it.
        let target = Target::Checkpoint {
            model: learners::recommender(bert4rec::ARCHITECTURE, &sizes)?.into(),
            path: "the model".into(),
            service: None,
        };
        measure(dataset, target, None, &questions, &device, |_| ())?;
        Ok(())
    }))
}
