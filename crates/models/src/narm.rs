//! NARM (Li et al., CIKM 2017, arXiv 1711.04725): a recurrent network over the history, and attention that weighs its
//! steps against the last.
//!
//! The arithmetic is that of the GRO authors' PyTorch code: one GRU layer of twice the embedding's width, the
//! attention `v . hardsigmoid(A_g c_global + A_l h_t)` under a softmax over the real steps, and a bilinear score
//! `[c_global, c_local] . B token_i` over n + 1 ids. B is applied to the state instead of to every item, which
//! is the same number.
//!
//! A state after a prefix depends on that prefix alone, so one pass over a row gives the states after all its
//! prefixes; the authors' code runs the network once for each (`sampling: prefixes`).

use candle_core::Tensor;
use kernels::Catalogue;

use crate::input_gates::InputGates;
use crate::kv_cache::last_states;
use crate::layers::{self, tensor};
use crate::{
    Architecture, Declared, Initial, KvCache, Mode, PackedBatch, Reading, Recommender, Result, Sizes, Weights,
};

/// The registry's entry.
pub const ARCHITECTURE: Architecture = Architecture {
    name: "narm",
    title: "NARM",
    declare,
    build: |sizes, weights| Ok(Box::new(Narm::new(sizes, weights)?)),
    sizes: |shapes, base| layers::embedding_sizes(shapes, 1, base),
    has_heads: false,
    has_positions: false,
    reading: Reading::Causal,
    operations,
    kept: |sizes| 60.0 * sizes.hidden as f64,
};

/// Two maps into the gates, two into the attention, the attention over what came before, and the map to the states.
fn operations(sizes: &Sizes, tokens: f64, _: f64) -> f64 {
    let hidden = sizes.hidden as f64;
    let maps = (12.0 + 24.0 + 16.0 + 8.0) * tokens * hidden * hidden;
    let attention = tokens * tokens / 2.0 * 8.0 * hidden;
    maps + attention
}

/// Names, shapes and initial values of all tensors.
pub fn declare(sizes: &Sizes) -> Vec<Declared> {
    let (hidden, wide) = (sizes.hidden, 2 * sizes.hidden);
    let truncated = |name: &str, shape: &[usize]| Declared::new(name, shape, Initial::Truncated);
    vec![
        truncated("embedding.token.weight", &[sizes.items + 1, hidden]),
        truncated("model.gru.weight_ih_l0", &[3 * wide, hidden]),
        truncated("model.gru.weight_hh_l0", &[3 * wide, wide]),
        truncated("model.gru.bias_ih_l0", &[3 * wide]),
        truncated("model.gru.bias_hh_l0", &[3 * wide]),
        truncated("model.a_global.weight", &[wide, wide]),
        truncated("model.a_local.weight", &[wide, wide]),
        truncated("model.v_vector.weight", &[1, wide]),
        truncated("model.b_vetor.weight", &[2 * wide, hidden]),
    ]
}

/// The model.
pub struct Narm {
    sizes: Sizes,
    input: InputGates,
    state_weight: Tensor,
    state_bias: Tensor,
    global: Tensor,
    local: Tensor,
    energy: Tensor,
    /// B, transposed: `(hidden, 4 hidden)`.
    output: Tensor,
    catalogue: Catalogue,
}

impl Narm {
    /// The model over `weights`, which must hold every tensor of [`declare`].
    ///
    /// # Errors
    /// [`Error::Weights`](crate::Error::Weights) naming the tensor that is missing.
    pub fn new(sizes: &Sizes, weights: &Weights) -> Result<Self> {
        let token = tensor(weights, "embedding.token.weight")?;
        Ok(Self {
            sizes: *sizes,
            input: InputGates::new(weights)?,
            state_weight: tensor(weights, "model.gru.weight_hh_l0")?,
            state_bias: tensor(weights, "model.gru.bias_hh_l0")?,
            global: tensor(weights, "model.a_global.weight")?,
            local: tensor(weights, "model.a_local.weight")?,
            energy: tensor(weights, "model.v_vector.weight")?.squeeze(0)?,
            output: tensor(weights, "model.b_vetor.weight")?,
            catalogue: Catalogue { weight: token, bias: None, items: sizes.items },
        })
    }
}

impl Narm {
    /// The input's share of the GRU's gates, `(tokens, 6 hidden)`.
    fn gates(&self, tokens: &Tensor, mode: Mode) -> Result<Tensor> {
        self.input.of(tokens, self.sizes.dropout, mode)
    }

    /// The states `(positions, hidden)` from the two halves, `(positions, 2 hidden)` each.
    fn output(&self, last: &Tensor, local: &Tensor, mode: Mode) -> Result<Tensor> {
        let both = Tensor::cat(&[last, local], 1)?;
        let both = kernels::dropout(&both, mode.dropout(self.sizes.dropout, 1))?;
        Ok(kernels::linear(&both, &self.output.t()?.contiguous()?, None)?)
    }
}

impl Recommender for Narm {
    fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    fn reading(&self) -> Reading {
        ARCHITECTURE.reading
    }

    fn freeze(&mut self) -> Result<()> {
        self.input.freeze()
    }

    fn encode(&self, batch: &PackedBatch, mode: Mode) -> Result<Tensor> {
        let gates = self.gates(&batch.tokens, mode)?;
        let steps = kernels::gru(&gates, &self.state_weight, &self.state_bias, &batch.rows)?; // (tokens, 2 hidden)
        let last = batch.pick(&steps)?; // (positions, 2 hidden)
        let local = kernels::additive_attention(
            &kernels::linear(&last, &self.global, None)?,
            &kernels::linear(&steps, &self.local, None)?,
            &self.energy,
            &steps,
            &batch.rows,
            &batch.queries,
        )?; // (positions, 2 hidden)
        self.output(&last, &local, mode)
    }

    fn extend(&self, cache: &mut KvCache, items: &Tensor) -> Result<Option<Tensor>> {
        cache.grow(0, 2);
        let wide = 2 * self.sizes.hidden;
        let gates = self.gates(items, Mode::Evaluate)?;
        let [steps, keys] = &mut cache.steps[..] else { return Ok(None) };
        let before = last_states(steps, wide, items.device())?;
        let last = kernels::gru_step(&gates, &before, &self.state_weight, &self.state_bias)?; // (rows, 2 hidden)
        let key = kernels::linear(&last, &self.local, None)?;
        for (remembered, new) in [(&mut *steps, &last), (&mut *keys, &key)] {
            for (remembered, new) in remembered.iter_mut().zip(new.to_vec2::<f32>()?) {
                remembered.extend(new);
            }
        }
        let query = kernels::linear(&last, &self.global, None)?;
        let local = kernels::additive_attention_step(&query, keys, &self.energy, steps)?;
        Ok(Some(self.output(&last, &local, Mode::Evaluate)?))
    }
}
