//! Query generation: sequences of 200 items grow side by side out of the answers, and go to a log. Beside it, the answers alone,
//! without and behind a guard that flags nobody, which is its dearest case.

use anyhow::Result;
use artifact::checkpoint::{Defence, Kind};
use artifact::queries::{QUERIES, QueryHeader, QueryWriter};
use artifact::settings::{Generate, Sections};
use attack::campaign::Campaign;
use attack::generate::generate;
use indicatif::ProgressBar;
use models::{ARCHITECTURES, Architecture, Reading};
use service::black_box::{BlackBox, ProtectedTarget};
use service::guard;
use service::guard::evidence::{Chance, bins};
use service::key::Key;
use streams::{Purpose, Streams, below};

use crate::{ITEMS, Iteration, SEED, TOP_K, Work, arithmetic, learners};

/// Items of a sequence.
const LENGTH: usize = 200;

/// Sequences that grow side by side, those of an iteration.
const TOGETHER: usize = 50;

/// A sequence out of each architecture, and the answers to one, behind a guard and without.
pub fn works() -> Vec<Work> {
    let shape = || format!("length {LENGTH}, {TOGETHER} together, {ITEMS} items");
    let arithmetic = |architecture: Architecture| {
        let lengths = (1..=LENGTH).map(|length| length as f64);
        // Read by cloze, the whole row is read again at each step; to the others each item comes once.
        let encoders: f64 = match architecture.reading {
            Reading::Cloze => lengths.map(|length| arithmetic::encoder(architecture, length, 1.0)).sum(),
            Reading::Causal => arithmetic::encoder(architecture, LENGTH as f64, LENGTH as f64),
        };
        encoders + arithmetic::scores(LENGTH as f64, ITEMS)
    };
    let generated = |architecture: &Architecture| {
        let architecture = *architecture;
        Work::new("generation", format!("generate sequence {architecture}"), shape(), move || {
            sequences(architecture)
        })
        .scaled(1.0 / TOGETHER as f64)
        .arithmetic(arithmetic(architecture))
    };
    let answered = |(architecture, guarded): (Architecture, bool)| {
        let behind = if guarded { " behind a guard" } else { "" };
        Work::new("generation", format!("answer sequence {architecture}{behind}"), shape(), move || {
            answers(architecture, guarded)
        })
        .scaled(1.0 / TOGETHER as f64)
        .arithmetic(arithmetic(architecture))
    };
    let each = |architecture: &Architecture| [(*architecture, false), (*architecture, true)];
    let entries = ARCHITECTURES.entries;
    entries.iter().map(generated).chain(entries.iter().flat_map(each).map(answered)).collect()
}

fn sequences(architecture: Architecture) -> Result<Iteration> {
    let mut target = target(architecture, false)?;
    let budget = Generate { sequences: TOGETHER, batch: TOGETHER, top_k: TOP_K, ..Generate::default() };
    let directory = tempfile::tempdir()?;
    let mut round = 0;
    Ok(Box::new(move || {
        round += 1;
        let (streams, bar) = (Streams::new(SEED + round), ProgressBar::hidden());
        let mut log = QueryWriter::create(&directory.path().join(QUERIES), header())?;
        let campaign = Campaign::new(&budget, (LENGTH, ITEMS), &[], streams)?;
        generate(&mut target, &campaign, &mut log, &bar)?;
        log.finish()?;
        Ok(())
    }))
}

/// The questions are the same behind the guard and without: those of accounts that take any item of a guarded list.
fn answers(architecture: Architecture, guarded: bool) -> Result<Iteration> {
    let mut grown: Vec<Vec<u32>> = (1..=TOGETHER as u32).map(|item| vec![item]).collect();
    let (mut service, mut stream) =
        (target(architecture, true)?, Streams::new(SEED).open(Purpose::Generation, 0, 0, 0));
    for length in 1..LENGTH {
        let histories: Vec<&[u32]> = grown.iter().map(|sequence| &sequence[..length]).collect();
        let answers = service.top_k(&histories, TOP_K)?;
        for (sequence, list) in grown.iter_mut().zip(&answers) {
            sequence.push(list[below(&mut stream, TOP_K as u32) as usize]);
        }
    }
    let mut target = target(architecture, guarded)?;
    Ok(Box::new(move || {
        for length in 1..=LENGTH {
            let histories: Vec<&[u32]> = grown.iter().map(|sequence| &sequence[..length]).collect();
            target.top_k(&histories, TOP_K)?;
        }
        Ok(())
    }))
}

fn target(architecture: Architecture, guarded: bool) -> Result<ProtectedTarget> {
    let sizes = learners::sizes(LENGTH, ITEMS);
    let mut description = sizes.describe(Kind::Target, architecture, "");
    let key = guarded.then(|| Key::of_seed(SEED));
    if let Some(key) = &key {
        description.defence = Defence::answers("guard", patient(key)?);
    }
    let model = learners::recommender(architecture, &sizes)?;
    Ok(ProtectedTarget::new(model.into(), &description, key, learners::device()?)?)
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
