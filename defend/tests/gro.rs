//! What the parity tests do not cover of GRO: which item replaces which, and that a step moves both models.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use std::process::Command;

use artifact::checkpoint::Array;
use artifact::dataset::{Dataset, UserSequence};
use artifact::settings::{Network, Optimizer, Train};
use candle_core::{Device, Tensor};
use defend::methods::gro::{Gro, Settings, ZeroGradient, replacements};
use kernels::Catalogue;
use models::{ARCHITECTURES, Architecture, Parameters, Sizes};
use streams::{Purpose, Streams};
use training::samples::Samples;
use training::{Learner, Trainee};

/// Three items in one dimension: scores are the state times 1, -2, 3.
fn catalogue() -> Catalogue {
    let weight = Tensor::new(&[[0f32], [1.0], [-2.0], [3.0]], &Device::Cpu).unwrap();
    Catalogue { weight, bias: None, items: 3 }
}

#[test]
fn a_place_is_given_to_the_item_with_the_largest_gradient() {
    let states = Tensor::new(&[[1f32], [-1.0]], &Device::Cpu).unwrap();
    let gradient = Tensor::new(&[[0.5f32, -0.5, 0.0], [0.25, -0.25, 0.0]], &Device::Cpu).unwrap();
    let replace = |zero| -> Vec<Vec<u32>> {
        replacements(&catalogue(), &states, &gradient, zero).unwrap().to_vec2().unwrap()
    };
    assert_eq!(replace(ZeroGradient::Skip), [[3, 2, 0], [2, 3, 0]]);
    assert_eq!(replace(ZeroGradient::FirstItem), [[3, 2, 1], [2, 3, 1]]);

    // The rank-one shortcut against its definition: the arg max over items of g_j s_i.
    let scores = catalogue().scores(&states).unwrap().to_vec2::<f32>().unwrap();
    for ((gradient, scores), chosen) in
        gradient.to_vec2::<f32>().unwrap().iter().zip(&scores).zip(replace(ZeroGradient::Skip))
    {
        for (g, &chosen) in gradient.iter().zip(&chosen).filter(|(g, _)| **g != 0.0) {
            let best = (1..=3usize).max_by(|&a, &b| (g * scores[a]).total_cmp(&(g * scores[b]))).unwrap();
            assert_eq!(chosen as usize, best);
        }
    }
}

/// A target and a student over users who walk a small catalogue in steps of their own.
fn gro(dataset: &Dataset, architectures: [Architecture; 2], settings: Settings) -> Gro<'_> {
    let network =
        Network { hidden: 8, blocks: 1, heads: 2, max_len: 8, dropout: 0.1, attention_dropout: 0.1 };
    let (sizes, streams) = (Sizes { items: dataset.items(), network }, Streams::new(3));
    let trainee = |architecture: Architecture, purpose| {
        let declared = (architecture.declare)(&sizes);
        let weights = Parameters::initial(&declared, 0.1, &streams, purpose, &Device::Cpu).unwrap();
        Trainee::new(architecture, &sizes, weights, &Optimizer::default()).unwrap()
    };
    let train = Train { mask_prob: 0.4, ..Train::default() };
    Gro {
        target: trainee(architectures[0], Purpose::TargetWeights),
        student: trainee(architectures[1], Purpose::StudentWeights),
        samples: Samples::new(dataset, 8, 6, &train, streams).unwrap(),
        dataset,
        settings,
        streams,
        device: Device::Cpu,
    }
}

fn walkers() -> Dataset {
    let trains: Vec<Vec<u32>> =
        (0..12u32).map(|user| (0..7).map(|t| 1 + (user * 5 + t * (1 + user % 3)) % 15).collect()).collect();
    let raw_ids: Vec<String> = (1..=15).map(|id| id.to_string()).collect();
    let users = trains.iter().map(|train| UserSequence { train, valid: 1, test: Some(2) });
    Dataset::from_sequences(&raw_ids, users).unwrap()
}

fn weights(trainee: &Trainee) -> std::collections::BTreeMap<String, Array> {
    trainee.parameters.to_arrays().unwrap()
}

/// Of every pair of architectures: those that are compared at the same positions, and those that are not.
#[test]
fn a_step_moves_both_models_and_in_the_warm_up_the_student_alone() {
    let dataset = walkers();
    for &target in ARCHITECTURES.entries {
        for &student in ARCHITECTURES.entries {
            let settings = Settings { top_k: 5, student_warmup_epochs: 1, ..Settings::default() };
            let mut gro = gro(&dataset, [target, student], settings);
            let fresh = (weights(&gro.target), weights(&gro.student));
            let first = gro.step(1, 0).unwrap();
            assert_eq!(first.len(), gro.losses().len());
            assert_eq!(
                weights(&gro.target),
                fresh.0,
                "{target} with {student}: the warm-up moved the target"
            );
            assert_ne!(weights(&gro.student), fresh.1, "{target} with {student}");
            let warmed = weights(&gro.student);
            gro.step(2, 0).unwrap();
            assert_ne!(weights(&gro.target), fresh.0, "{target} with {student}");
            assert_ne!(weights(&gro.student), warmed, "{target} with {student}");
        }
    }
}

/// Without the swap loss the target trains as it would alone; with it, in another direction.
#[test]
fn lambda_is_the_weight_of_the_swap_loss_and_of_nothing_else() {
    let dataset = walkers();
    let after = |lambda| {
        let settings = Settings { top_k: 5, lambda, ..Settings::default() };
        let mut gro = gro(&dataset, [ARCHITECTURES.entries[0]; 2], settings);
        let losses: Vec<f32> = gro.step(1, 0).unwrap().iter().map(|loss| loss.to_scalar().unwrap()).collect();
        (losses, weights(&gro.target), weights(&gro.student))
    };
    let (without, target, student) = after(0.0);
    let (with, swapped_target, same_student) = after(2.0);
    // The losses are those before the step, so they and the student know nothing of lambda.
    assert_eq!(without, with);
    assert_eq!(student, same_student);
    assert_ne!(target, swapped_target);
    assert!(
        with[1] > 0.0 && (0.0..1.0).contains(&with[3]),
        "swap loss and share of zero gradients: {with:?}"
    );

    let mut alone = gro(&dataset, [ARCHITECTURES.entries[0]; 2], Settings::default()).target;
    let train = Train { mask_prob: 0.4, ..Train::default() };
    let batch = Samples::new(&dataset, 8, 6, &train, Streams::new(3)).unwrap().batch(&*alone.model, 1, 0);
    let keys = Streams::new(3).dropout(Purpose::Dropout, 1, 0);
    let contexts = batch.contexts.upload(&Device::Cpu).unwrap();
    let states = alone.model.encode(&contexts, alone.mode(keys)).unwrap();
    let loss = alone.model.training_loss(&states, &batch).unwrap();
    assert_eq!(loss.to_scalar::<f32>().unwrap(), without[0]);
    alone.optimizer.step(&loss.backward().unwrap()).unwrap();
    let largest = |name: &str| {
        weights(&alone)[name]
            .values
            .iter()
            .zip(&target[name].values)
            .fold(0f32, |most, (a, b)| most.max((a - b).abs()))
    };
    for name in target.keys() {
        assert!(largest(name) < 1e-6, "{name} differs by {}", largest(name));
    }
}

#[test]
fn gro_without_data_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_gro-defend"))
        .args(["--target", "t", "--method", "gro", "--out", "p"])
        .current_dir(tempfile::tempdir().unwrap().path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--data"));
}
