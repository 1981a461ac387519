//! GRU4Rec (Hidasi, Karatzoglou, Baltrunas and Tikk, ICLR 2016, arXiv 1511.06939): a recurrent network over the history, whose
//! state after an item scores the next.
//!
//! Embedded items go through `blocks` layers of gated recurrent units, and a linear map leads from the last layer's state back
//! to the width of the embedding. Scores are tied to the token embedding (the constrained embedding of Hidasi and Karatzoglou,
//! CIKM 2018, arXiv 1706.03847), over n + 1 ids (padding 0, items), as those of the other architectures here are.
//!
//! Differences from the paper: it reads parallel mini-batches of sessions cut off between steps and compares a label with the
//! other labels of its batch (TOP1 or BPR); here a window is one row, and the loss is cross entropy over the whole catalogue.
//! The authors of GRO have no GRU4Rec, so names of tensors are ours, after those of NARM.

use artifact::settings;
use candle_core::Tensor;
use kernels::Catalogue;

use crate::input_gates::InputGates;
use crate::kv_cache::last_states;
use crate::layers::{self, Affine, tensor};
use crate::{
    Architecture, Declared, Initial, KvCache, Mode, PackedBatch, Reading, Recommender, Result, Shapes, Sizes,
    Weights,
};

/// The registry's entry.
pub const ARCHITECTURE: Architecture = Architecture {
    name: "gru",
    title: "GRU4Rec",
    declare,
    build: |sizes, weights| Ok(Box::new(Gru4Rec::new(sizes, weights)?)),
    sizes,
    has_heads: false,
    has_positions: false,
    reading: Reading::Causal,
    operations: |sizes, tokens, states| {
        let (hidden, layers) = (sizes.hidden as f64, sizes.blocks as f64);
        // Two maps into three gates a layer, and the map to the states.
        (layers * 12.0 * tokens + 2.0 * states) * hidden * hidden
    },
    kept: |sizes| (12.0 + 10.0 * sizes.blocks as f64) * sizes.hidden as f64,
};

/// Names, shapes and initial values of all tensors.
pub fn declare(sizes: &Sizes) -> Vec<Declared> {
    let hidden = sizes.hidden;
    let glorot =
        |name: &str, shape: &[usize], matrices| Declared::new(name, shape, Initial::Glorot { matrices });
    let zeros = |name: &str, width| Declared::new(name, &[width], Initial::Zeros);
    let mut tensors = vec![glorot("embedding.token.weight", &[sizes.items + 1, hidden], 1)];
    for layer in 0..sizes.blocks {
        for part in ["ih", "hh"] {
            // Three gates, of which each has its own matrix.
            tensors.push(glorot(&format!("model.gru.weight_{part}_l{layer}"), &[3 * hidden, hidden], 3));
            tensors.push(zeros(&format!("model.gru.bias_{part}_l{layer}"), 3 * hidden));
        }
    }
    tensors.push(glorot("model.linear.weight", &[hidden, hidden], 1));
    tensors.push(zeros("model.linear.bias", hidden));
    tensors
}

/// What the shapes tell: items, width, and the number of layers.
fn sizes(shapes: &Shapes<'_>, base: &Sizes) -> Sizes {
    let blocks = shapes.keys().filter(|name| name.starts_with("model.gru.weight_ih_l")).count().max(1);
    let Sizes { items, network } = layers::embedding_sizes(shapes, 1, base);
    Sizes { items, network: settings::Network { blocks, ..network } }
}

/// A layer of gated recurrent units.
struct Layer {
    input_weight: Tensor,
    input_bias: Tensor,
    state_weight: Tensor,
    state_bias: Tensor,
}

impl Layer {
    fn new(weights: &Weights, index: usize) -> Result<Self> {
        let at = |part: &str| tensor(weights, &format!("model.gru.{part}_l{index}"));
        Ok(Self {
            input_weight: at("weight_ih")?,
            input_bias: at("bias_ih")?,
            state_weight: at("weight_hh")?,
            state_bias: at("bias_hh")?,
        })
    }

    /// The input's share of the gates, `(tokens, 3 hidden)`.
    fn gates(&self, x: &Tensor) -> Result<Tensor> {
        Ok(kernels::linear(x, &self.input_weight, Some(&self.input_bias))?)
    }
}

/// The model.
pub struct Gru4Rec {
    sizes: Sizes,
    /// Of the first layer, from the items themselves.
    input: InputGates,
    layers: Vec<Layer>,
    output: Affine,
    catalogue: Catalogue,
}

impl Gru4Rec {
    /// The model over `weights`, which must hold every tensor of [`declare`].
    ///
    /// # Errors
    /// [`Error::Weights`](crate::Error::Weights) naming the tensor that is missing.
    pub fn new(sizes: &Sizes, weights: &Weights) -> Result<Self> {
        let token = tensor(weights, "embedding.token.weight")?;
        Ok(Self {
            sizes: *sizes,
            input: InputGates::new(weights)?,
            layers: (0..sizes.blocks).map(|index| Layer::new(weights, index)).collect::<Result<_>>()?,
            output: Affine::new(weights, "model.linear")?,
            catalogue: Catalogue { weight: token, bias: None, items: sizes.items },
        })
    }

    /// The states of the last layer. `run` makes a layer's states, `(tokens, hidden)`, of its number and its gates; those of the first layer come
    /// from `tokens`. Dropout is on the input of every layer.
    fn run(
        &self,
        tokens: &Tensor,
        mode: Mode,
        mut run: impl FnMut(&Layer, usize, Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let dropout = self.sizes.dropout;
        let mut gates = self.input.of(tokens, dropout, mode)?;
        for (index, pair) in self.layers.windows(2).enumerate() {
            let x = run(&pair[0], index, gates)?;
            gates = pair[1].gates(&kernels::dropout(&x, mode.dropout(dropout, index as u64 + 1))?)?;
        }
        let last = self.layers.len() - 1;
        run(&self.layers[last], last, gates)
    }
}

impl Recommender for Gru4Rec {
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
        let x = self.run(&batch.tokens, mode, |layer, _, gates| {
            Ok(kernels::gru(&gates, &layer.state_weight, &layer.state_bias, &batch.rows)?)
        })?; // (tokens, hidden)
        self.output.linear(&batch.pick(&x)?) // (positions, hidden)
    }

    fn extend(&self, cache: &mut KvCache, items: &Tensor) -> Result<Option<Tensor>> {
        cache.grow(0, self.layers.len());
        let x = self.run(items, Mode::Evaluate, |layer, index, gates| {
            let states = &mut cache.steps[index];
            let before = last_states(states, self.sizes.hidden, items.device())?;
            let x = kernels::gru_step(&gates, &before, &layer.state_weight, &layer.state_bias)?;
            // Of a layer its latest state is enough.
            *states = x.to_vec2()?;
            Ok(x)
        })?; // (rows, hidden)
        Ok(Some(self.output.linear(&x)?))
    }
}
