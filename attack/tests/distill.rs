//! What a surrogate learns from a log: by every loss, from the first questions of a log as from a log that ends there, and from lists as
//! the thief takes them.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::collections::BTreeMap;
use std::path::Path;

use artifact::checkpoint::Array;
use artifact::queries::{NOTHING, QueryHeader, QueryLog, QueryWriter};
use artifact::settings::{Distill, KeepBy, Network, Optimizer};
use attack::distill::{Surrogate, window};
use attack::losses::LIST_LOSSES;
use candle_core::Device;
use models::{ARCHITECTURES, Architecture, Sizes};
use streams::{Purpose, Streams, below};
use training::Learner;

const ITEMS: usize = 40;
const LENGTH: usize = 9;
const K: usize = 6;

/// Items that are asked with and truly answered; the others stand in decoys.
const TRUE: u32 = 30;

/// What is answered after an item: those that follow it in the catalogue.
fn successors(item: u32) -> Vec<u32> {
    (1..=K as u32).map(|step| 1 + (item - 1 + step) % TRUE).collect()
}

/// A log of random sequences, their lists changed by `change`, which is told the account and the place.
fn write_log(path: &Path, sequences: usize, change: impl FnMut(usize, usize, &mut Vec<u32>)) {
    write_log_of(LENGTH, path, sequences, change);
}

/// A log of sequences of this length.
fn write_log_of(
    length: usize,
    path: &Path,
    sequences: usize,
    mut change: impl FnMut(usize, usize, &mut Vec<u32>),
) {
    let header = QueryHeader {
        items: ITEMS,
        k: K,
        fingerprint: "f".to_owned(),
        queries: 0,
        sequences: 0,
        ..QueryHeader::default()
    };
    let mut log = QueryWriter::create(path, header).unwrap();
    for account in 0..sequences {
        let mut stream = Streams::new(1).open(Purpose::Generation, 0, account as u64, 0);
        let sequence: Vec<u32> = (0..length).map(|_| 1 + below(&mut stream, TRUE)).collect();
        let mut answers = Vec::new();
        for (place, &item) in sequence.iter().enumerate() {
            let mut list = successors(item);
            change(account, place, &mut list);
            list.resize(K, NOTHING);
            answers.extend(list);
        }
        log.push(&sequence, &answers).unwrap();
    }
    log.finish().unwrap();
}

fn settings(loss: &str) -> Distill {
    Distill { loss: loss.to_owned(), batch: 16, ..Distill::default() }
}

fn surrogate(architecture: Architecture, path: &Path, settings: &Distill) -> anyhow::Result<Surrogate> {
    let network =
        Network { hidden: 32, blocks: 1, heads: 2, max_len: LENGTH, dropout: 0.1, attention_dropout: 0.1 };
    let sizes = Sizes { items: ITEMS, network };
    let optimizer = Optimizer { learning_rate: 0.003, embedding_deviation: 0.1, ..Optimizer::default() };
    let log = QueryLog::open(path)?;
    Surrogate::new(architecture, &sizes, log, settings, &optimizer, Streams::new(2), &Device::Cpu)
}

/// The weights after some epochs, and the measurements of the last.
fn learned(
    architecture: Architecture,
    path: &Path,
    settings: &Distill,
    epochs: usize,
) -> (BTreeMap<String, Array>, Vec<(&'static str, f64)>) {
    let mut surrogate = surrogate(architecture, path, settings).unwrap();
    for epoch in 1..=epochs {
        for step in 0..surrogate.steps() {
            // The optimizer refuses a variable without a gradient.
            surrogate.step(epoch, step).unwrap();
        }
    }
    let measured = surrogate.validate().unwrap();
    (surrogate.parameters().to_arrays().unwrap(), measured)
}

#[test]
fn a_copy_looks_no_further_back_than_its_thief_has_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("q");
    write_log(&path, 3, |_, _, _| {});
    assert_eq!(QueryLog::open(&path).unwrap().longest_sequence().unwrap(), LENGTH);
    let windows = |longest| {
        ["sas", "bert", "narm", "gru"].map(|name| window(*ARCHITECTURES.find(name).unwrap(), longest, 50))
    };
    // Places have embeddings, and BERT4Rec one for the mask too; a recurrent network has nothing that could be left untaught.
    assert_eq!(windows(10), [10, 11, 50, 50]);
    assert_eq!(windows(1), [1, 2, 50, 50]);
    assert_eq!(windows(49), [49, 50, 50, 50]);
    assert_eq!(windows(200), [50; 4]);
}

#[test]
fn every_loss_teaches_every_architecture_what_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("q");
    write_log(&path, 60, |_, _, _| {});
    for architecture in ARCHITECTURES.entries {
        for loss in &LIST_LOSSES {
            for own_top in [0.0, 0.5] {
                let settings = Distill { keep_by: KeepBy::Agreement, own_top, ..settings(loss.name) };
                let (_, before) = learned(*architecture, &path, &settings, 0);
                let (_, after) = learned(*architecture, &path, &settings, 40);
                assert_eq!(
                    after.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
                    ["agr@10", "ndcg@10", "hr@10"]
                );
                // Before, six of forty agree on about 15 %, which is chance.
                let gains = [0, 1].map(|place| after[place].1 - before[place].1);
                let learned = gains.iter().all(|gain| *gain > 0.2);
                assert!(learned, "{architecture} {loss:?} {own_top}: {before:?}, {after:?}");
            }
        }
    }
}

#[test]
fn every_loss_learns_from_lists_of_different_lengths() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("q");
    // Two items, then three and so on; of every third account one item, which has no order and is passed over.
    write_log(&path, 60, |account, place, list| {
        list.truncate(if account % 3 == 0 && place == 4 { 1 } else { place + 2 });
    });
    for architecture in ARCHITECTURES.entries {
        for loss in &LIST_LOSSES {
            let settings = Distill { keep_by: KeepBy::Agreement, own_top: 0.5, ..settings(loss.name) };
            let (_, before) = learned(*architecture, &path, &settings, 0);
            let (_, after) = learned(*architecture, &path, &settings, 40);
            let gains = [0, 1].map(|place| after[place].1 - before[place].1);
            let learned = gains.iter().all(|gain| *gain > 0.2);
            assert!(learned, "{architecture} {loss:?}: {before:?}, {after:?}");
        }
    }
}

/// A full list learned beside shorter ones pulls no otherwise than beside full ones: the loss is a mean over lists.
#[test]
fn a_log_of_shorter_lists_alone_is_a_log_of_that_length() {
    let directory = tempfile::tempdir().unwrap();
    let [long, short] = ["long", "short"].map(|name| directory.path().join(name));
    write_log(&long, 20, |_, _, list| list.truncate(4));
    let header = QueryHeader { items: ITEMS, k: 4, fingerprint: "f".to_owned(), ..QueryHeader::default() };
    let (mut log, padded) = (QueryWriter::create(&short, header).unwrap(), QueryLog::open(&long).unwrap());
    for query in padded.read_group(0).unwrap() {
        let lists: Vec<u32> = query.answers.iter().copied().filter(|&item| item != NOTHING).collect();
        log.push(&query.sequence, &lists).unwrap();
    }
    log.finish().unwrap();
    for loss in ["hinge", "listmle"] {
        for architecture in ARCHITECTURES.entries {
            let of = |path| learned(*architecture, path, &settings(loss), 1).0;
            assert!(of(&long) == of(&short), "{architecture} {loss}");
        }
    }
}

#[test]
fn the_first_questions_of_a_log_are_a_log_that_ends_there() {
    let directory = tempfile::tempdir().unwrap();
    let [long, short] = ["long", "short"].map(|name| directory.path().join(name));
    // Two row groups of 64 sequences, cut within the second.
    write_log(&long, 100, |_, _, _| {});
    write_log(&short, 70, |_, _, _| {});
    for architecture in ARCHITECTURES.entries {
        let budget = Distill { budget: Some(70 * LENGTH), ..settings("softmax") };
        let cut = learned(*architecture, &long, &budget, 1);
        assert!(cut == learned(*architecture, &short, &settings("softmax"), 1), "{architecture}");
    }
    let price = |budget| {
        let settings = Distill { budget, ..settings("hinge") };
        let price = surrogate(ARCHITECTURES.entries[1], &long, &settings).unwrap().header().price();
        (price.accounts, price.questions, price.items_listed)
    };
    assert_eq!(price(None), (100, 900, 5400));
    assert_eq!(price(Some(900)), (100, 900, 5400));
    assert_eq!(price(Some(20)), (3, 20, 120), "the third account asked two questions");
}

#[test]
fn a_short_log_is_gone_through_several_times_an_epoch() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("q");
    write_log(&path, 10, |_, _, _| {});
    for architecture in ARCHITECTURES.entries {
        // 85 samples a pass: two passes hold at least 86, and three epochs of two are six of one.
        let twice = Distill { epoch_questions: 86, ..settings("listmle") };
        assert_eq!(surrogate(*architecture, &path, &twice).unwrap().samples(), 170);
        let expected = learned(*architecture, &path, &settings("listmle"), 6);
        assert!(learned(*architecture, &path, &twice, 3) == expected, "{architecture}");
    }
}

#[test]
fn nine_tenths_are_learned_from_however_short_the_accounts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("q");
    for (length, learned) in [(1, 54), (2, 108), (3, 165), (9, 510)] {
        write_log_of(length, &path, 60, |_, _, _| {});
        for architecture in ARCHITECTURES.entries {
            let samples = surrogate(*architecture, &path, &settings("set")).unwrap().samples();
            assert_eq!(samples, learned, "{architecture}, {length} questions an account");
        }
    }
}

#[test]
fn a_budget_that_buys_nothing_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("q");
    write_log(&path, 4, |_, _, _| {});
    let refused =
        |settings: Distill| surrogate(ARCHITECTURES.entries[1], &path, &settings).err().unwrap().to_string();
    assert!(
        refused(Distill { budget: Some(37), ..settings("hinge") }).contains("the log holds 36 questions")
    );
    assert!(refused(Distill { budget: Some(1), ..settings("hinge") }).contains("buys a single question"));
    let negatives = refused(Distill { negatives: Some(7), ..settings("hinge") });
    assert!(
        negatives.contains("`distill.negatives` is 7") && negatives.contains("lists of 6"),
        "{negatives}"
    );
    assert!(
        surrogate(ARCHITECTURES.entries[1], &path, &Distill { negatives: Some(7), ..settings("set") })
            .is_ok()
    );
}

#[test]
fn who_suspects_reversed_lists_learns_what_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let [plain, reversed] = ["plain", "reversed"].map(|name| directory.path().join(name));
    write_log(&plain, 20, |_, _, _| {});
    write_log(&reversed, 20, |_, _, list| list.reverse());
    let suspecting = Distill { suspicion: "reversed".to_owned(), ..settings("hinge") };
    for architecture in ARCHITECTURES.entries {
        let expected = learned(*architecture, &plain, &settings("hinge"), 1);
        assert!(expected == learned(*architecture, &reversed, &suspecting, 1), "{architecture}");
        assert!(expected != learned(*architecture, &reversed, &settings("hinge"), 1), "{architecture}");
    }
}

#[test]
fn who_suspects_shuffled_lists_learns_the_set() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("q");
    write_log(&path, 60, |account, place, list| list.rotate_left((account + place) % K));
    let suspecting =
        Distill { suspicion: "shuffled".to_owned(), keep_by: KeepBy::Agreement, ..settings("hinge") };
    assert_eq!(surrogate(ARCHITECTURES.entries[1], &path, &suspecting).unwrap().loss().name, "set");
    let (_, measured) = learned(ARCHITECTURES.entries[1], &path, &suspecting, 5);
    assert!(measured[0].0 == "agr@10" && measured[0].1 > 0.5, "{measured:?}");
}

#[test]
fn who_suspects_decoys_learns_what_is_left_without_them() {
    let directory = tempfile::tempdir().unwrap();
    let [spoiled, other] = ["spoiled", "other"].map(|name| directory.path().join(name));
    // From the fifth question on, an account is answered with what lies elsewhere: twice, differently.
    let decoy = |far: u32| {
        move |account: usize, place: usize, list: &mut Vec<u32>| {
            if account.is_multiple_of(2) && place >= 4 {
                for id in list {
                    *id = TRUE + 1 + (*id + far) % 10;
                }
            }
        }
    };
    write_log(&spoiled, 60, decoy(1));
    write_log(&other, 60, decoy(4));
    let suspecting = Distill { suspicion: "decoys".to_owned(), least_overlap: 0.7, ..settings("softmax") };
    for architecture in ARCHITECTURES.entries {
        // What a decoy held makes no difference, for none is believed; and there are fewer samples for it.
        let learned_of = |path: &Path, settings: &Distill| learned(*architecture, path, settings, 1);
        let samples = |settings: &Distill| surrogate(*architecture, &spoiled, settings).unwrap().samples();
        assert!(samples(&suspecting) < samples(&settings("softmax")), "{architecture}");
        assert!(learned_of(&spoiled, &suspecting) == learned_of(&other, &suspecting), "{architecture}");
        assert!(learned_of(&spoiled, &settings("softmax")) != learned_of(&other, &settings("softmax")));
    }
    // Where every account ends in decoys, those before are checked with.
    write_log(&spoiled, 60, |_, place, list| decoy(1)(0, place, list));
    assert!(surrogate(ARCHITECTURES.entries[1], &spoiled, &suspecting).is_ok());
    let none_left = Distill { least_overlap: 1.0, budget: Some(9), ..suspecting };
    write_log(&spoiled, 1, |_, place, list| {
        for id in list {
            *id = 1 + (*id + place as u32) % TRUE;
        }
    });
    let refused = surrogate(ARCHITECTURES.entries[1], &spoiled, &none_left).err().unwrap().to_string();
    assert!(refused.contains("every list") && refused.contains("distill.least_overlap"), "{refused}");
}
