//! Distillation: an epoch over 100 generated sequences of 200 items, of which 199 prefixes each are learned from.

use std::path::Path;

use anyhow::Result;
use artifact::queries::{QUERIES, QueryLog, QueryWriter};
use artifact::settings::{Distill, Optimizer};
use attack::distill::Surrogate;
use models::{ARCHITECTURES, Architecture, Reading};
use streams::negatives::Negatives;
use streams::{Purpose, Streams};

use crate::arithmetic::{self, FORWARD_AND_BACKWARD};
use crate::generation::header;
use crate::{ITEMS, Iteration, SEED, TOP_K, Work, learners};

/// Sequences of the log.
const SEQUENCES: usize = 100;

/// Items of a sequence.
const LENGTH: usize = 200;

/// An epoch of each architecture.
pub fn works() -> Vec<Work> {
    let prefixes = SEQUENCES * (LENGTH - 1);
    let shape = format!("{prefixes} prefixes, length {LENGTH}, {ITEMS} items");
    let work = |architecture: Architecture| {
        let (rows, length) = (SEQUENCES as f64, (LENGTH - 1) as f64);
        // A sequence a step where one pass gives the states after all its prefixes, else a batch of prefixes.
        let (steps, row) = match architecture.reading {
            Reading::Cloze => {
                let of_prefix = |prefix| arithmetic::encoder(architecture, (prefix + 1) as f64, 1.0);
                (prefixes as f64 / Distill::default().batch as f64, (1..LENGTH).map(of_prefix).sum())
            }
            Reading::Causal => (rows, arithmetic::encoder(architecture, length, length)),
        };
        let encoders: f64 = rows * row;
        Work::new("distillation", format!("distil epoch {architecture}"), &shape, move || {
            epoch(architecture, &Distill::default())
        })
        .scaled(steps)
        .arithmetic(FORWARD_AND_BACKWARD * encoders + arithmetic::lists(prefixes as f64))
    };
    ARCHITECTURES.entries.iter().copied().map(work).collect()
}

/// The steps of an epoch.
pub(crate) fn epoch(architecture: Architecture, distill: &Distill) -> Result<Iteration> {
    // Only the log read from it is kept: it holds its file open.
    let directory = tempfile::tempdir()?;
    let path = directory.path().join(QUERIES);
    write_log(&path)?;
    let sizes = learners::sizes(LENGTH, ITEMS);
    let (streams, device) = (Streams::new(SEED), learners::device()?);
    let optimizer = Optimizer::default();
    let log = QueryLog::open(&path)?;
    let surrogate = Surrogate::new(architecture, &sizes, log, distill, &optimizer, streams, &device)?;
    let mut iteration = learners::steps(surrogate);
    Ok(Box::new(move || {
        let _kept = &directory;
        iteration()
    }))
}

/// Sequences and lists at random: what they hold makes no difference to the work.
fn write_log(path: &Path) -> Result<()> {
    let items = Negatives::uniform(ITEMS);
    let streams = Streams::new(SEED);
    let mut log = QueryWriter::create(path, header())?;
    for sequence in 0..SEQUENCES {
        let mut stream = streams.open(Purpose::Generation, 0, sequence as u64, 0);
        let asked = items.draw(LENGTH, &[], &mut stream)?;
        let mut answers = Vec::with_capacity(LENGTH * TOP_K);
        for _ in 0..LENGTH {
            answers.extend(items.draw(TOP_K, &[], &mut stream)?);
        }
        log.push(&asked, &answers)?;
    }
    log.finish()?;
    Ok(())
}
