//! Mixed precision on the CPU, where the plain operations can compute as a GPU does: activations of bf16 must learn what those
//! of f32 learn, step for step. A test of its own, because the choice of operations is the whole process's.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

mod walkers;

use artifact::dataset::Dataset;
use artifact::settings::{Loss, Network, Optimizer, Precision, Train};
use candle_core::{DType, Device};
use models::{ARCHITECTURES, Architecture, Parameters, Sizes, sasrec};
use streams::{Purpose, Streams};
use training::Trainee;
use training::samples::Samples;

/// The loss of each of 12 epochs.
fn curve(architecture: Architecture, precision: Precision, objective: &Train, dataset: &Dataset) -> Vec<f64> {
    let (device, streams) = (Device::Cpu, Streams::new(5));
    let sizes = Sizes {
        items: 60,
        network: Network {
            hidden: 32,
            blocks: 2,
            heads: 2,
            max_len: 12,
            dropout: 0.1,
            attention_dropout: 0.1,
        },
    };
    let optimizer = Optimizer { learning_rate: 1e-2, precision, ..Optimizer::default() };
    let declared = (architecture.declare)(&sizes);
    let weights = Parameters::initial(&declared, 1.0, &streams, Purpose::TargetWeights, &device).unwrap();
    let mut trainee = Trainee::new(architecture, &sizes, weights, &optimizer).unwrap();
    let mut samples = Samples::new(dataset, sizes.max_len, 8, objective, streams).unwrap();
    let mut curve = Vec::new();
    for epoch in 1..=12 {
        let mut sum = 0.0;
        for step in 0..samples.steps() {
            let batch = samples.batch(&*trainee.model, epoch, step);
            let mode = trainee.mode(streams.dropout(Purpose::Dropout, epoch as u64, step as u64));
            let states = trainee.model.encode(&batch.contexts.upload(&device).unwrap(), mode).unwrap();
            let expected = if precision == Precision::Bf16 { DType::BF16 } else { DType::F32 };
            assert_eq!(states.dtype(), expected, "{architecture}: activations");
            let loss = trainee.model.training_loss(&states, &batch).unwrap();
            let gradients = loss.backward().unwrap();
            trainee.optimizer.step(&gradients).unwrap();
            sum += f64::from(loss.to_scalar::<f32>().unwrap());
        }
        curve.push(sum / samples.steps() as f64);
    }
    for (name, values) in trainee.parameters.detached() {
        assert_eq!(values.dtype(), DType::F32, "{architecture}: weight {name}");
    }
    curve
}

#[test]
fn a_loss_curve_in_bf16_is_that_in_f32() {
    kernels::set_plain(true);
    let dataset = walkers::dataset(40, 60);
    let sampled = Train { mask_prob: 0.3, max_predictions: 5, ..Train::default() };
    let whole = Train { loss: Loss::CrossEntropy, ..sampled.clone() };
    let of_all = ARCHITECTURES.iter().map(|architecture| (*architecture, &sampled));
    for (architecture, objective) in of_all.chain([(sasrec::ARCHITECTURE, &whole)]) {
        let wide = curve(architecture, Precision::F32, objective, &dataset);
        let narrow = curve(architecture, Precision::Bf16, objective, &dataset);
        assert_ne!(wide, narrow, "{architecture}: bf16 was not used");
        // What is learned is most of the curve; rounding may move a point of it by a small part of the whole way.
        let way = wide[0] - wide[11];
        assert!(way > 0.1 * wide[0], "{architecture} learns: {wide:?}");
        for (epoch, (wide, narrow)) in wide.iter().zip(&narrow).enumerate() {
            assert!((wide - narrow).abs() < 0.02 * way, "{architecture}, epoch {epoch}: {narrow} for {wide}");
        }
    }
}
