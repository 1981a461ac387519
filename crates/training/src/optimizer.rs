//! AdamW (Loshchilov and Hutter, ICLR 2019) as the authors use it: decoupled weight decay on everything whose
//! name has neither `bias` nor `layer_norm`, and before each step every tensor on its own is clipped to a
//! gradient norm. candle's AdamW has one group, no clipping and private moments; here the moments are plain
//! tensors by name, so that a run can be saved and taken up again.

use std::collections::BTreeMap;

use artifact::settings::Optimizer;
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use kernels::AdamWStep;
use models::{Parameters, Weights};
use rayon::prelude::*;

use crate::{Error, Result};

struct Slot {
    variable: Var,
    first: Var,
    second: Var,
    decays: bool,
}

/// An optimizer over the parameters of one model.
pub struct AdamW {
    settings: Optimizer,
    slots: BTreeMap<String, Slot>,
    step: u64,
}

impl AdamW {
    /// A new optimizer, moments zero.
    pub fn new(parameters: &Parameters, settings: Optimizer) -> Result<Self> {
        let mut slots = BTreeMap::new();
        for (name, variable) in parameters.iter() {
            let moment = || Var::zeros(variable.shape(), DType::F32, variable.device());
            slots.insert(
                name.to_owned(),
                Slot {
                    variable: variable.clone(),
                    first: moment()?,
                    second: moment()?,
                    decays: !name.contains("bias") && !name.contains("layer_norm"),
                },
            );
        }
        Ok(Self { settings, slots, step: 0 })
    }

    /// Updates every parameter from its gradient.
    ///
    /// # Errors
    /// [`Error::Training`] naming a parameter that received no gradient: a part of the model that would
    /// silently never train.
    pub fn step(&mut self, gradients: &GradStore) -> Result<()> {
        self.step += 1;
        let found = self.slots.iter().map(|(name, slot)| match gradients.get(&slot.variable) {
            Some(gradient) => Ok((slot, gradient)),
            None => Err(Error::Training(format!("tensor `{name}` received no gradient"))),
        });
        let found = found.collect::<Result<Vec<_>>>()?;
        let update = |&(slot, gradient): &(&Slot, &Tensor)| {
            let step = AdamWStep {
                lr: self.settings.learning_rate,
                beta1: self.settings.beta1,
                beta2: self.settings.beta2,
                epsilon: self.settings.epsilon,
                weight_decay: if slot.decays { self.settings.weight_decay } else { 0.0 },
                clip_norm: self.settings.clip_norm,
                step: self.step,
            };
            kernels::adamw(&slot.variable, gradient, &slot.first, &slot.second, &step)
        };
        // Tensors are many and small, and each is updated by itself: on the CPU side by side.
        if found.iter().all(|(slot, _)| slot.variable.device().is_cpu()) {
            found.par_iter().try_for_each(update)?;
        } else {
            found.iter().try_for_each(update)?;
        }
        Ok(())
    }

    /// Number of steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The moments, as `first.<name>` and `second.<name>`. They share storage with the optimizer.
    pub fn moments(&self) -> Weights {
        let mut moments = Weights::new();
        for (name, slot) in &self.slots {
            moments.insert(format!("first.{name}"), slot.first.as_detached_tensor());
            moments.insert(format!("second.{name}"), slot.second.as_detached_tensor());
        }
        moments
    }

    /// Takes up where [`AdamW::moments`] and [`AdamW::steps`] were saved.
    pub fn restore(&mut self, moments: &Weights, steps: u64) -> Result<()> {
        for (name, slot) in &self.slots {
            for (kind, moment) in [("first", &slot.first), ("second", &slot.second)] {
                let key = format!("{kind}.{name}");
                let saved = moments
                    .get(&key)
                    .ok_or_else(|| Error::Request(format!("the saved state lacks tensor `{key}`")))?;
                moment.set(saved)?;
            }
        }
        self.step = steps;
        Ok(())
    }
}
