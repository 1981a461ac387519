//! Query generation: sequences of 200 items grow side by side out of the answers, and go to a log; and the same behind a guard that
//! flags nobody, which is its dearest case.

use anyhow::Result;
use artifact::checkpoint::{Defence, Kind};
use artifact::queries::{QUERIES, QueryHeader, QueryWriter};
use artifact::settings::{Generate, Sections};
use attack::campaign::Campaign;
use attack::generate::generate;
use indicatif::ProgressBar;
use models::{ARCHITECTURES, Architecture, Reading};
use service::black_box::ProtectedTarget;
use service::guard;
use service::guard::evidence::{Chance, bins};
use service::key::Key;
use streams::Streams;

use crate::{ITEMS, Iteration, SEED, TOP_K, Work, arithmetic, learners};

/// Items of a sequence.
const LENGTH: usize = 200;

/// Sequences that grow side by side, those of an iteration.
const TOGETHER: usize = 50;

/// A sequence out of each architecture.
pub fn works() -> Vec<Work> {
    let work = |(architecture, guarded): (Architecture, bool)| {
        let shape = format!("length {LENGTH}, {TOGETHER} together, {ITEMS} items");
        let lengths = (1..=LENGTH).map(|length| length as f64);
        // Read by cloze, the whole row is read again at each step; to the others each item comes once.
        let encoders: f64 = match architecture.reading {
            Reading::Cloze => lengths.map(|length| arithmetic::encoder(architecture, length, 1.0)).sum(),
            Reading::Causal => arithmetic::encoder(architecture, LENGTH as f64, LENGTH as f64),
        };
        let behind = if guarded { " behind a guard" } else { "" };
        Work::new("generation", format!("generate sequence {architecture}{behind}"), shape, move || {
            sequences(architecture, guarded)
        })
        .scaled(1.0 / TOGETHER as f64)
        .arithmetic(encoders + arithmetic::scores(LENGTH as f64, ITEMS))
    };
    let each = |architecture: &Architecture| [(*architecture, false), (*architecture, true)];
    ARCHITECTURES.entries.iter().flat_map(each).map(work).collect()
}

fn sequences(architecture: Architecture, guarded: bool) -> Result<Iteration> {
    let sizes = learners::sizes(LENGTH, ITEMS);
    let mut description = sizes.describe(Kind::Target, architecture, "");
    let key = guarded.then(|| Key::of_seed(SEED));
    if let Some(key) = &key {
        description.defence = Defence::answers("guard", patient(key)?);
    }
    let model = learners::recommender(architecture, &sizes)?;
    let mut target = ProtectedTarget::new(model.into(), &description, key, learners::device()?)?;
    let budget = Generate { sequences: TOGETHER, batch: TOGETHER, top_k: TOP_K, ..Generate::default() };
    let directory = tempfile::tempdir()?;
    let mut round = 0;
    Ok(Box::new(move || {
        round += 1;
        let (streams, bar) = (Streams::new(SEED + round), ProgressBar::hidden());
        let mut log = QueryWriter::create(&directory.path().join(QUERIES), header())?;
        let campaign = Campaign::new(&budget, LENGTH, &[], streams)?;
        generate(&mut target, &campaign, &mut log, &bar)?;
        log.finish()?;
        Ok(())
    }))
}

/// The parameters of a guard that flags nobody.
fn patient(key: &Key) -> Result<Sections> {
    let bins = bins(ITEMS);
    let parameters = guard::Parameters {
        threshold: f64::MAX,
        users: vec![1.0; bins.len()],
        bins,
        chance: Chance { user: 1e-5 },
        key: key.fingerprint(),
        ..guard::Parameters::default()
    };
    Ok(serde_json::from_value(serde_json::to_value(parameters)?)?)
}

/// What a log of lists over [`ITEMS`] items says of itself.
pub fn header() -> QueryHeader {
    let (fingerprint, generation) = (String::new(), None);
    QueryHeader { items: ITEMS, k: TOP_K, fingerprint, generation, ..QueryHeader::default() }
}
