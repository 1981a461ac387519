//! The input's share of a recurrent layer's gates. It is decided by the item alone, so that a model that trains no more can look it up: of a
//! GRU's arithmetic it is a quarter (NARM) to a half (GRU4Rec).

use candle_core::Tensor;

use crate::layers::tensor;
use crate::{Mode, Result, Weights};

/// The most room that the gates of all items may take, in bytes: 43,000 items of NARM, 87,000 of GRU4Rec at a width of 64.
const ROOM: usize = 64 << 20;

/// The embedding of tokens, and the map of a recurrent layer from it into the gates.
pub(crate) struct InputGates {
    /// `(ids, hidden)`
    token: Tensor,
    /// `(gates, hidden)`
    weight: Tensor,
    /// `(gates)`
    bias: Tensor,
    /// The gates of every id, `(ids, gates)`, of a model that trains no more.
    of_items: Option<Tensor>,
}

impl InputGates {
    /// The gates of the first layer of a PyTorch GRU.
    ///
    /// # Errors
    /// [`Error::Weights`](crate::Error::Weights) naming the tensor that is missing.
    pub(crate) fn new(weights: &Weights) -> Result<Self> {
        Ok(Self {
            token: tensor(weights, "embedding.token.weight")?,
            weight: tensor(weights, "model.gru.weight_ih_l0")?,
            bias: tensor(weights, "model.gru.bias_ih_l0")?,
            of_items: None,
        })
    }

    /// Computes the gates of every item once and for all, where there is room for them.
    pub(crate) fn freeze(&mut self) -> Result<()> {
        let room = self.token.dim(0)? * self.weight.dim(0)? * size_of::<f32>();
        if room <= ROOM {
            self.of_items = Some(kernels::linear(&self.token, &self.weight, Some(&self.bias))?);
        }
        Ok(())
    }

    /// The gates of `tokens`, `(tokens, gates)`. A model that trains has dropout of this probability, layer 0, on its embedding.
    pub(crate) fn of(&self, tokens: &Tensor, dropout: f64, mode: Mode) -> Result<Tensor> {
        if let (Some(of_items), Mode::Evaluate) = (&self.of_items, mode) {
            return Ok(kernels::embedding(of_items, tokens)?);
        }
        let token = kernels::embedding(&self.token, tokens)?.to_dtype(mode.activations())?; // (tokens, hidden)
        let token = kernels::dropout(&token, mode.dropout(dropout, 0))?;
        Ok(kernels::linear(&token, &self.weight, Some(&self.bias))?)
    }
}

#[cfg(test)]
mod tests {
    use artifact::settings::Network;
    use candle_core::Device;
    use streams::{Purpose, Streams};

    use super::*;
    use crate::{ARCHITECTURES, Contexts, KvCache, Parameters, Sizes};

    #[test]
    fn a_frozen_model_has_the_states_of_one_that_trains() -> Result<()> {
        let network =
            Network { hidden: 8, blocks: 2, heads: 2, max_len: 6, dropout: 0.5, attention_dropout: 0.5 };
        let sizes = Sizes { items: 30, network };
        for architecture in &ARCHITECTURES {
            let weights = Parameters::initial(
                &(architecture.declare)(&sizes),
                0.7,
                &Streams::new(5),
                Purpose::TargetWeights,
                &Device::Cpu,
            )?
            .detached();
            let states = |frozen: bool| -> Result<Vec<Vec<f32>>> {
                let mut model = (architecture.build)(&sizes, &weights)?;
                if frozen {
                    model.freeze()?;
                }
                let contexts: Contexts = model.contexts(&[&[3, 30, 1], &[7], &[9, 9, 2, 4, 5, 6, 1, 8]]);
                let mut states = model.encode(&contexts.upload(&Device::Cpu)?, Mode::Evaluate)?.to_vec2()?;
                let mut cache = KvCache::new(2);
                for items in [[1u32, 30], [4, 2]] {
                    let next = model.extend(&mut cache, &Tensor::new(&items, &Device::Cpu)?)?;
                    if let Some(next) = next {
                        states.extend(next.to_vec2::<f32>()?);
                    }
                }
                Ok(states)
            };
            assert_eq!(states(false)?, states(true)?, "{architecture}");
        }
        Ok(())
    }

    #[test]
    fn a_catalogue_without_room_is_not_looked_up() -> Result<()> {
        let gates_of = |ids: usize| -> Result<InputGates> {
            let zeros = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu);
            let mut gates = InputGates {
                token: zeros(&[ids, 1])?,
                weight: zeros(&[16, 1])?,
                bias: zeros(&[16])?,
                of_items: None,
            };
            gates.freeze()?;
            Ok(gates)
        };
        let most = ROOM / (16 * 4);
        assert!(gates_of(most)?.of_items.is_some());
        assert!(gates_of(most + 1)?.of_items.is_none());
        Ok(())
    }
}
