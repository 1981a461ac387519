//! What must hold of every architecture that trains: every variable gets a gradient, one batch can be
//! learned by heart, a run gives the same bytes with one thread and with two, and a run that is resumed ends
//! where one that was never stopped would have.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

mod walkers;

use std::path::Path;
use std::time::Duration;

use artifact::dataset::Dataset;
use artifact::settings::{Network, Optimizer, Precision, Train};
use candle_core::{Device, Tensor};
use models::{Architecture, Contexts, Mode, Parameters, Sizes, bert4rec};
use streams::{Purpose, Streams};
use training::Learner;
use training::fit::{Fitted, Keep, Run, Schedule, fit};
use training::samples::Samples;
use training::state::Saving;
use training::{Error, Trainee, validation};

fn optimizer() -> Optimizer {
    Optimizer { learning_rate: 1e-2, ..Optimizer::default() }
}

fn objective() -> Train {
    Train { mask_prob: 0.3, max_predictions: 5, ..Train::default() }
}

fn sizes(dropout: f64) -> Sizes {
    Sizes {
        items: 40,
        network: Network {
            hidden: 16,
            blocks: 2,
            heads: 2,
            max_len: 12,
            dropout,
            attention_dropout: dropout,
        },
    }
}

struct SmallTarget<'a> {
    dataset: &'a Dataset,
    samples: Samples<'a>,
    streams: Streams,
    trainee: Trainee,
}

impl<'a> SmallTarget<'a> {
    fn new(architecture: Architecture, dataset: &'a Dataset) -> Self {
        let (sizes, streams) = (sizes(0.2), Streams::new(5));
        let declared = (architecture.declare)(&sizes);
        let parameters =
            Parameters::initial(&declared, 1.0, &streams, Purpose::TargetWeights, &Device::Cpu).unwrap();
        Self {
            dataset,
            samples: Samples::new(dataset, sizes.max_len, 8, &objective(), streams).unwrap(),
            streams,
            trainee: Trainee::new(architecture, &sizes, parameters, &optimizer()).unwrap(),
        }
    }
}

impl Learner for SmallTarget<'_> {
    fn losses(&self) -> &'static [&'static str] {
        &["loss"]
    }

    fn steps(&self) -> usize {
        self.samples.steps()
    }

    fn samples(&self) -> usize {
        self.samples.count()
    }

    fn step(&mut self, epoch: usize, step: usize) -> training::Result<Vec<Tensor>> {
        let batch = self.samples.batch(&*self.trainee.model, epoch, step);
        let keys = self.streams.dropout(Purpose::Dropout, epoch as u64, step as u64);
        let states =
            self.trainee.model.encode(&batch.contexts.upload(&Device::Cpu)?, self.trainee.mode(keys))?;
        let loss = self.trainee.model.training_loss(&states, &batch)?;
        self.trainee.optimizer.step(&loss.backward()?)?;
        Ok(vec![loss.detach()])
    }

    fn validate(&mut self) -> training::Result<Vec<(&'static str, f64)>> {
        let every_user: Vec<usize> = (0..self.dataset.users()).collect();
        let (ndcg, _) =
            validation::on_dataset(&*self.trainee.detached, self.dataset, &every_user, 16, &Device::Cpu)?;
        Ok(vec![("ndcg@10", ndcg)])
    }

    fn trainees(&mut self) -> Vec<(&'static str, &mut Trainee)> {
        vec![("target", &mut self.trainee)]
    }
}

fn run(learner: &mut dyn Learner, epochs: usize, directory: &Path, resume: bool) -> Fitted {
    run_until(learner, epochs, directory, resume, &|| false).unwrap()
}

fn run_until(
    learner: &mut dyn Learner,
    epochs: usize,
    directory: &Path,
    resume: bool,
    interrupted: &dyn Fn() -> bool,
) -> training::Result<Fitted> {
    let output = directory.join("out");
    std::fs::create_dir_all(&output).unwrap();
    let schedule = Schedule {
        setting: "train.epochs",
        step_size: "optimizer.learning_rate",
        epochs,
        patience: 100,
        validate_every: 1,
        keep: Keep::Best,
    };
    let run = Run {
        output: &output,
        saving: Saving {
            directory: directory.join("out.state"),
            identity: "test".to_owned(),
            resume,
            every: Duration::MAX,
            interrupted,
        },
        bar: indicatif::ProgressBar::hidden(),
    };
    fit(learner, &schedule, &run)
}

fn every_variable_gets_a_gradient(architecture: Architecture) {
    let data = walkers::dataset(30, 40);
    let mut learner = SmallTarget::new(architecture, &data);
    let batch = learner.samples.batch(&*learner.trainee.model, 1, 0);
    let keys = learner.streams.dropout(Purpose::Dropout, 1, 0);
    let contexts = batch.contexts.upload(&Device::Cpu).unwrap();
    let states = learner.trainee.model.encode(&contexts, learner.trainee.mode(keys)).unwrap();
    let gradients = learner.trainee.model.training_loss(&states, &batch).unwrap().backward().unwrap();
    for (name, variable) in learner.trainee.parameters.iter() {
        let gradient = gradients.get(variable).unwrap_or_else(|| panic!("{name} has no gradient"));
        let values: Vec<f32> = gradient.flatten_all().unwrap().to_vec1().unwrap();
        assert!(values.iter().all(|v| v.is_finite()), "{name}");
        assert!(values.iter().any(|&v| v != 0.0), "{name} has a gradient of zero");
    }
}

fn one_batch_can_be_learned_by_heart(architecture: Architecture) {
    let data = walkers::dataset(30, 40);
    let learner = &mut SmallTarget::new(architecture, &data);
    let batch = learner.samples.batch(&*learner.trainee.model, 1, 0);
    let contexts = batch.contexts.upload(&Device::Cpu).unwrap();
    let mut losses = Vec::new();
    for _ in 0..300 {
        let states = learner.trainee.model.encode(&contexts, Mode::Evaluate).unwrap();
        let loss = learner.trainee.model.training_loss(&states, &batch).unwrap();
        learner.trainee.optimizer.step(&loss.backward().unwrap()).unwrap();
        losses.push(loss.to_scalar::<f32>().unwrap());
    }
    assert!(losses[299] < 0.05 * losses[0], "{} to {}", losses[0], losses[299]);
}

fn threads_do_not_change_a_byte(architecture: Architecture) {
    let data = walkers::dataset(30, 40);
    let bytes = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let directory = tempfile::tempdir().unwrap();
            let mut learner = SmallTarget::new(architecture, &data);
            run(&mut learner, 2, directory.path(), false);
            let history = std::fs::read(directory.path().join("out/history.csv")).unwrap();
            (learner.trainee.parameters.to_arrays().unwrap(), history)
        })
    };
    let (one, two) = (bytes(1), bytes(2));
    assert!(one.0 == two.0, "the weights differ");
    assert_eq!(String::from_utf8(one.1).unwrap(), String::from_utf8(two.1).unwrap());
}

fn a_resumed_run_ends_in_the_same_bytes(architecture: Architecture) {
    let data = walkers::dataset(30, 40);
    let (whole, halves) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut uninterrupted = SmallTarget::new(architecture, &data);
    let expected = run(&mut uninterrupted, 4, whole.path(), false);

    run(&mut SmallTarget::new(architecture, &data), 2, halves.path(), false);
    // As of a run that was killed while it saved.
    std::fs::write(halves.path().join("out.state/.tmp"), "half").unwrap();
    let mut second = SmallTarget::new(architecture, &data);
    let resumed = run(&mut second, 4, halves.path(), true);

    assert_eq!(expected, resumed);
    assert_eq!(
        std::fs::read_dir(halves.path().join("out.state")).unwrap().count(),
        1,
        "only the state is left"
    );
    assert!(
        uninterrupted.trainee.parameters.to_arrays().unwrap()
            == second.trainee.parameters.to_arrays().unwrap()
    );
    let read = |at: &Path| std::fs::read_to_string(at.join("out/history.csv")).unwrap();
    assert_eq!(read(whole.path()), read(halves.path()));
    assert_eq!(read(whole.path()).lines().count(), 1 + 5, "a header, and epochs 0 to 4");
}

/// Cut off after each of its steps, a run goes on from there.
fn wherever_it_is_cut_a_run_ends_in_the_same_bytes(architecture: Architecture) {
    const EPOCHS: usize = 2;
    let data = walkers::dataset(30, 40);
    let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut uninterrupted = SmallTarget::new(architecture, &data);
    let expected = run(&mut uninterrupted, EPOCHS, whole.path(), false);
    let mut cuts = 0;
    let (fitted, last) = loop {
        let mut learner = SmallTarget::new(architecture, &data);
        match run_until(&mut learner, EPOCHS, cut.path(), true, &|| true) {
            Ok(fitted) => break (fitted, learner),
            Err(Error::Interrupted(_)) => cuts += 1,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!((cuts, fitted), (EPOCHS * last.samples.steps(), expected));
    let weights = |learner: &SmallTarget<'_>| learner.trainee.parameters.to_arrays().unwrap();
    assert!(weights(&uninterrupted) == weights(&last));
    let read = |at: &Path| std::fs::read_to_string(at.join("out/history.csv")).unwrap();
    assert_eq!(read(whole.path()), read(cut.path()));
}

/// States do not depend on the rows packed beside a row.
fn rows_do_not_see_each_other(architecture: Architecture) {
    let data = walkers::dataset(30, 40);
    let learner = SmallTarget::new(architecture, &data);
    let encode = |histories: &[&[u32]]| -> Vec<Vec<f32>> {
        let contexts: Contexts = learner.trainee.detached.contexts(histories);
        let contexts = contexts.upload(&Device::Cpu).unwrap();
        learner.trainee.detached.encode(&contexts, Mode::Evaluate).unwrap().to_vec2().unwrap()
    };
    let rows: [&[u32]; 3] = [&[3], &[4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18], &[7, 8]];
    let together = encode(&rows);
    for (row, expected) in rows.iter().zip(&together) {
        for (a, b) in encode(&[row])[0].iter().zip(expected) {
            assert!((a - b).abs() < 1e-5, "{a} against {b}");
        }
    }
}

/// Properties that hold of every architecture, each as a test.
macro_rules! hold_for_every_architecture {
    ($($property:ident),* $(,)?) => {
        mod every_architecture {
            $(#[test]
            // The last one named is the one that failed.
            fn $property() {
                for &architecture in models::ARCHITECTURES.entries {
                    eprintln!("{architecture}");
                    super::$property(architecture);
                }
            })*
        }
    };
}

hold_for_every_architecture!(
    every_variable_gets_a_gradient,
    one_batch_can_be_learned_by_heart,
    threads_do_not_change_a_byte,
    a_resumed_run_ends_in_the_same_bytes,
    wherever_it_is_cut_a_run_ends_in_the_same_bytes,
    rows_do_not_see_each_other,
);

#[test]
fn mixed_precision_is_refused_where_no_operation_knows_it() {
    let (sizes, streams) = (sizes(0.0), Streams::new(5));
    let declared = (bert4rec::ARCHITECTURE.declare)(&sizes);
    let weights =
        Parameters::initial(&declared, 1.0, &streams, Purpose::TargetWeights, &Device::Cpu).unwrap();
    let optimizer = Optimizer { precision: Precision::Bf16, ..optimizer() };
    let refused = Trainee::new(bert4rec::ARCHITECTURE, &sizes, weights, &optimizer).err().unwrap();
    assert!(matches!(&refused, Error::Request(message) if message.contains("--kernels plain")), "{refused}");
}
