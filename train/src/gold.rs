//! The gold target: a model that learns its users' histories by the objective of its own architecture.

use artifact::dataset::Dataset;
use candle_core::{Device, Tensor};
use models::Parameters;
use streams::{Purpose, Streams};
use training::Learner;
use training::samples::Samples;
use training::{Trainee, validation};

/// Users validated at a time.
const VALIDATION_BATCH: usize = 256;

/// A target in training.
pub struct Gold<'a> {
    dataset: &'a Dataset,
    samples: Samples<'a>,
    streams: Streams,
    device: Device,
    target: Trainee,
}

impl<'a> Gold<'a> {
    /// What is to learn these `samples`.
    pub fn new(
        target: Trainee,
        dataset: &'a Dataset,
        samples: Samples<'a>,
        streams: Streams,
        device: &Device,
    ) -> Self {
        Self { dataset, samples, streams, device: device.clone(), target }
    }

    /// The weights as they are now.
    pub fn parameters(&self) -> &Parameters {
        &self.target.parameters
    }
}

impl Learner for Gold<'_> {
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
        let batch = self.samples.batch(&*self.target.model, epoch, step);
        let dropout = self.streams.dropout(Purpose::Dropout, epoch as u64, step as u64);
        let states =
            self.target.model.encode(&batch.contexts.upload(&self.device)?, self.target.mode(dropout))?;
        let loss = self.target.model.training_loss(&states, &batch)?;
        self.target.optimizer.step(&loss.backward()?)?;
        Ok(vec![loss.detach()])
    }

    fn validate(&mut self) -> training::Result<Vec<(&'static str, f64)>> {
        let (model, users) = (&*self.target.detached, self.samples.validation_users());
        let (ndcg, hit_rate) =
            validation::on_dataset(model, self.dataset, &users, VALIDATION_BATCH, &self.device)?;
        Ok(vec![("ndcg@10", ndcg), ("hr@10", hit_rate)])
    }

    fn trainees(&mut self) -> Vec<(&'static str, &mut Trainee)> {
        vec![("target", &mut self.target)]
    }
}
