//! A journal that a crash or a disk spoilt: whatever is in it, an attack that goes on from it gets the answers of the target and no
//! others.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::fs;

use attack::journal::Journal;
use fuzzing::Target;
use metrics::Answers;
use service::black_box::BlackBox;
use stage::Refusal;

const K: usize = 3;

/// Answers each history with numbers that follow from it.
struct Sums(u64);

impl BlackBox for Sums {
    fn top_k(&mut self, histories: &[&[u32]], k: usize) -> service::Result<Answers> {
        self.0 += histories.len() as u64;
        let answer = |history: &&[u32]| {
            let sum: u32 = history.iter().sum();
            (1..=k as u32).map(move |place| sum * 10 + place).collect::<Vec<_>>()
        };
        Ok(Answers { k, ids: histories.iter().flat_map(answer).collect() })
    }

    fn items(&self) -> usize {
        1000
    }

    fn queries(&self) -> u64 {
        self.0
    }

    fn accounts(&self) -> u64 {
        0
    }
}

/// The questions of an attack, a few at a time.
fn questions() -> Vec<Vec<Vec<u32>>> {
    (1..8_u32).map(|call| (0..=call % 3).map(|row| (row..row + call).collect()).collect()).collect()
}

/// Asks everything through the journal in the directory; the answers.
fn attack(directory: &std::path::Path, resume: bool) -> anyhow::Result<Vec<Vec<u32>>> {
    let mut target = Sums(0);
    let mut journal = Journal::open(&mut target, directory, "identity", resume, &|| false)?;
    let mut answers = Vec::new();
    for call in questions() {
        let histories: Vec<&[u32]> = call.iter().map(Vec::as_slice).collect();
        answers.push(journal.top_k(&histories, K)?.ids);
    }
    Ok(answers)
}

#[test]
fn a_damaged_journal_gives_the_answers_of_the_target_or_is_refused() {
    let directory = fuzzing::directory();
    let expected = attack(directory.path(), false).unwrap();
    let path = directory.path().join("answers.journal");
    let whole = fs::read(&path).unwrap();
    Target::new("journal", [whole]).tokens(&["\n", "identity"]).holds_in(&path, |_| {
        match attack(directory.path(), true) {
            Ok(answers) => {
                assert_eq!(answers, expected);
                Ok(())
            }
            Err(error) => {
                assert!(error.is::<Refusal>(), "{error:#}");
                Err(error.to_string())
            }
        }
    });
}
