//! Decoys learned by heart, on a small catalogue: thieves are answered the decoys of the key, users what they were answered before.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::collections::BTreeMap;
use std::sync::Arc;

use artifact::checkpoint::{Array, Kind};
use artifact::dataset::{Dataset, UserSequence};
use artifact::settings::{Network, Optimizer, Train};
use candle_core::Device;
use defend::methods::decoy::{Decoy, Settings};
use models::{ARCHITECTURES, Architecture, Parameters, Recommender, Sizes, sasrec};
use service::guard::decoys::Decoys;
use service::key::Key;
use streams::{Purpose, Streams};
use training::samples::Samples;
use training::{Learner, Trainee};

const ITEMS: u32 = 40;
const LONGEST: usize = 12;

/// Users who walk round the catalogue in steps of their own, some longer than others: a place that no user reached would be a thief's.
fn walkers() -> Dataset {
    let at = |user: u32, t: u32| 1 + (user * 7 + t * (1 + user % 3)) % ITEMS;
    let length = |user: u32| 8 + user % 5;
    let trains: Vec<Vec<u32>> =
        (0..120).map(|user| (0..length(user)).map(|t| at(user, t)).collect()).collect();
    let raw_ids: Vec<String> = (1..=ITEMS).map(|id| id.to_string()).collect();
    let users = (0..).zip(&trains).map(|(user, train)| UserSequence {
        train,
        valid: at(user, length(user)),
        test: Some(at(user, length(user) + 1)),
    });
    Dataset::from_sequences(&raw_ids, users).unwrap()
}

fn sizes() -> Sizes {
    let network =
        Network { hidden: 24, blocks: 1, heads: 2, max_len: LONGEST, dropout: 0.1, attention_dropout: 0.1 };
    Sizes { items: ITEMS as usize, network }
}

fn optimizer() -> Optimizer {
    Optimizer { learning_rate: 0.01, ..Optimizer::default() }
}

fn samples(dataset: &Dataset) -> Samples<'_> {
    let train = Train { mask_prob: 0.4, ..Train::default() };
    Samples::new(dataset, LONGEST, 20, &train, Streams::new(3)).unwrap()
}

/// A target after so many epochs of its own training.
fn gold(architecture: Architecture, dataset: &Dataset, epochs: usize) -> BTreeMap<String, Array> {
    let declared = (architecture.declare)(&sizes());
    let fresh =
        Parameters::initial(&declared, 0.1, &Streams::new(3), Purpose::TargetWeights, &Device::Cpu).unwrap();
    let mut trainee = Trainee::new(architecture, &sizes(), fresh, &optimizer()).unwrap();
    let mut samples = samples(dataset);
    for epoch in 1..=epochs {
        for step in 0..samples.steps() {
            let batch = samples.batch(&*trainee.model, epoch, step);
            let mode = trainee.mode(Streams::new(3).dropout(Purpose::Dropout, epoch as u64, step as u64));
            let states = trainee.model.encode(&batch.contexts.upload(&Device::Cpu).unwrap(), mode).unwrap();
            let loss = trainee.model.training_loss(&states, &batch).unwrap();
            trainee.optimizer.step(&loss.backward().unwrap()).unwrap();
        }
    }
    trainee.parameters.to_arrays().unwrap()
}

fn settings() -> Settings {
    Settings { thieves: 20, top_k: 10, histories: 100, length: LONGEST, ..Settings::default() }
}

fn decoy<'a>(
    architecture: Architecture,
    dataset: &'a Dataset,
    gold: &BTreeMap<String, Array>,
    key: &Key,
    settings: Settings,
) -> Decoy<'a> {
    let declared = (architecture.declare)(&sizes());
    let weights = || Parameters::from_arrays(gold, &declared, "gold", &Device::Cpu).unwrap();
    let target = Trainee::new(architecture, &sizes(), weights(), &optimizer()).unwrap();
    let frozen: Arc<dyn Recommender> = (architecture.build)(&sizes(), &weights().detached()).unwrap().into();
    let description = sizes().describe(Kind::Target, architecture, dataset.fingerprint());
    let decoys = Decoys::new(key, ITEMS as usize);
    let around = (Streams::new(3), Device::Cpu);
    Decoy::new((target, frozen), &description, &decoys, (samples(dataset), dataset), settings, around)
        .unwrap()
}

fn weights(decoy: &Decoy<'_>) -> BTreeMap<String, Array> {
    decoy.target.parameters.to_arrays().unwrap()
}

/// Mean losses of an epoch.
fn epoch(decoy: &mut Decoy<'_>, epoch: usize) -> [f32; 3] {
    let steps = decoy.steps();
    let mut sums = [0.0; 3];
    for step in 0..steps {
        for (sum, loss) in sums.iter_mut().zip(decoy.step(epoch, step).unwrap()) {
            *sum += loss.to_scalar::<f32>().unwrap() / steps as f32;
        }
    }
    sums
}

#[test]
fn thieves_are_answered_decoys_and_users_what_they_were() {
    let dataset = walkers();
    let gold = gold(sasrec::ARCHITECTURE, &dataset, 40);
    // Whoever takes from ten of forty items walks nearly as users do; at random he doesn't.
    let settings = Settings { random: 1.0, ..settings() };
    let mut decoy = decoy(sasrec::ARCHITECTURE, &dataset, &gold, &Key::of_seed(1), settings);
    let measured =
        |decoy: &mut Decoy<'_>| -> BTreeMap<&str, f64> { decoy.validate().unwrap().into_iter().collect() };
    let before = measured(&mut decoy);
    assert_eq!(before["gold_agr@10"], 1.0);
    // Ten of forty items agree with any ten others on a quarter.
    assert!((before["decoy_agr@10"] - 0.25).abs() < 0.08, "{before:?}");
    assert!(before["ndcg@10"] > 0.6, "the users' walks are learned: {before:?}");
    let first = epoch(&mut decoy, 1);
    let mut last = first;
    for at in 2..=60 {
        last = epoch(&mut decoy, at);
    }
    let after = measured(&mut decoy);
    assert!(last[2] < 0.8 * first[2], "{first:?} {last:?}");
    assert!(after["decoy_agr@10"] > 0.5, "{after:?}");
    assert!(after["ndcg@10"] > 0.7 * before["ndcg@10"], "{before:?} {after:?}");
}

#[test]
fn every_architecture_learns_by_both_losses_and_ends_in_the_same_bytes() {
    let dataset = walkers();
    for &architecture in ARCHITECTURES.entries {
        let gold = gold(architecture, &dataset, 1);
        let after = |key: &Key, lambda: f64| {
            let mut decoy = decoy(architecture, &dataset, &gold, key, Settings { lambda, ..settings() });
            let losses = epoch(&mut decoy, 1);
            assert!(losses.iter().all(|loss| loss.is_finite() && *loss > 0.0), "{architecture}: {losses:?}");
            let measured = decoy.validate().unwrap();
            assert!(measured.iter().all(|(_, value)| (0.0..=1.0).contains(value)), "{measured:?}");
            weights(&decoy)
        };
        let (here, again) = (after(&Key::of_seed(1), 1.0), after(&Key::of_seed(1), 1.0));
        assert!(here == again, "{architecture}");
        for name in here.keys() {
            assert_ne!(here[name], gold[name], "{architecture}: {name} has not moved");
        }
        assert!(here != after(&Key::of_seed(2), 1.0), "{architecture} knows nothing of the key");
        // Without its weight the loss on thieves has no say, whatever the key.
        assert!(after(&Key::of_seed(1), 0.0) == after(&Key::of_seed(2), 0.0), "{architecture}");
    }
}

#[test]
fn a_batch_of_thieves_is_learned_by_heart() {
    let dataset = walkers();
    let gold = gold(sasrec::ARCHITECTURE, &dataset, 20);
    let settings = Settings { thieves: 4, histories: 2, random: 0.0, lambda: 3.0, ..settings() };
    let mut decoy = decoy(sasrec::ARCHITECTURE, &dataset, &gold, &Key::of_seed(1), settings);
    let first = decoy.step(1, 0).unwrap()[2].to_scalar::<f32>().unwrap();
    let mut last = first;
    for _ in 0..150 {
        last = decoy.step(1, 0).unwrap()[2].to_scalar().unwrap();
    }
    // What is left is chance between neighbours: ten places against themselves and as many negatives.
    assert!(last < 0.55 * first, "{first} {last}");
}

#[test]
fn a_target_that_reads_less_than_a_young_account_is_refused() {
    let dataset = walkers();
    let gold = gold(sasrec::ARCHITECTURE, &dataset, 0);
    let architecture = sasrec::ARCHITECTURE;
    let declared = (architecture.declare)(&sizes());
    let weights = || Parameters::from_arrays(&gold, &declared, "gold", &Device::Cpu).unwrap();
    let target = Trainee::new(architecture, &sizes(), weights(), &optimizer()).unwrap();
    let frozen: Arc<dyn Recommender> = (architecture.build)(&sizes(), &weights().detached()).unwrap().into();
    let description = sizes().describe(Kind::Target, architecture, dataset.fingerprint());
    let refused = Decoy::new(
        (target, frozen),
        &description,
        &Decoys::new(&Key::of_seed(1), ITEMS as usize),
        (samples(&dataset), &dataset),
        Settings { after: 13, length: 50, ..settings() },
        (Streams::new(3), Device::Cpu),
    );
    let message = refused.err().unwrap().to_string();
    assert!(message.contains("reads the latest 12 items"), "{message}");
}
