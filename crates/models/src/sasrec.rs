//! SASRec (Kang and McAuley, ICDM 2018, arXiv 1808.09781): a transformer in which each place sees the items up to
//! itself and predicts the next.
//!
//! The arithmetic is that of the GRO authors' PyTorch code: queries come from the normed input while keys and
//! values come from the input itself, attention has no output projection, the feed-forward layer is two
//! convolutions of kernel 1, scores are tied to the token embedding, over n + 1 ids (padding 0, items).
//!
//! Padding is never computed, and the last block computes queries and feed-forward for the picked places only;
//! neither changes a number. The paper's loss compares each label with one random item outside the user's history
//! (`loss: bce`); against the whole catalogue (`loss: cross_entropy`, Klenitskiy and Vasilev, RecSys 2023) the
//! same network becomes a far stronger target.

use std::ops::Range;

use artifact::settings::{self, Loss};
use candle_core::Tensor;
use kernels::{Activation, Attention, Catalogue, Embed, FeedForward, QueryTokens, Rows, SelfAttention};
use rand_chacha::ChaCha8Rng;
use streams::negatives;

use crate::layers::{self, Affine, Block as _, declare_affine, declare_norm, tensor, transform};
use crate::{
    Architecture, Declared, Initial, KvCache, Mode, PackedBatch, Reading, Recommender, Result, Sizes,
    TrainingBatch, Weights, causal,
};

/// The registry's entry.
pub const ARCHITECTURE: Architecture = Architecture {
    name: "sas",
    title: "SASRec",
    declare,
    build: |sizes, weights| Ok(Box::new(SasRec::new(sizes, weights)?)),
    sizes: |shapes, base| layers::transformer_sizes(shapes, 1, base),
    has_heads: true,
    has_positions: true,
    reading: Reading::Causal,
    operations: |sizes, tokens, states| layers::transformer_operations(sizes, tokens, states, false),
    kept: |sizes| (7.0 + 5.5 * sizes.blocks as f64) * sizes.hidden as f64,
};

/// Names, shapes and initial values of all tensors.
pub fn declare(sizes: &Sizes) -> Vec<Declared> {
    let hidden = sizes.hidden;
    let mut tensors = vec![
        Declared::new("embedding.token.weight", &[sizes.items + 1, hidden], Initial::EmbeddingButPadding),
        Declared::new("embedding.position.pe.weight", &[sizes.max_len + 1, hidden], Initial::Embedding),
    ];
    for block in 0..sizes.blocks {
        let block = format!("model.transformer_blocks.{block}");
        declare_norm(&mut tensors, &format!("{block}.layer_norm"), hidden);
        for projection in 0..3 {
            let name = format!("{block}.attention.linear_layers.{projection}");
            declare_affine(&mut tensors, &name, &[hidden, hidden]);
        }
        declare_norm(&mut tensors, &format!("{block}.attention.layer_norm"), hidden);
        declare_affine(&mut tensors, &format!("{block}.feed_forward.conv1"), &[4 * hidden, hidden, 1]);
        declare_affine(&mut tensors, &format!("{block}.feed_forward.conv2"), &[hidden, 4 * hidden, 1]);
        declare_norm(&mut tensors, &format!("{block}.feed_forward.layer_norm"), hidden);
    }
    tensors
}

struct Block {
    query_norm: Affine,
    query: Affine,
    key: Affine,
    value: Affine,
    attention_norm: Affine,
    up: Affine,
    down: Affine,
    feed_forward_norm: Affine,
}

impl Block {
    fn new(weights: &Weights, index: usize) -> Result<Self> {
        let name = |part: &str| format!("model.transformer_blocks.{index}.{part}");
        Ok(Self {
            query_norm: Affine::new(weights, &name("layer_norm"))?,
            query: Affine::new(weights, &name("attention.linear_layers.0"))?,
            key: Affine::new(weights, &name("attention.linear_layers.1"))?,
            value: Affine::new(weights, &name("attention.linear_layers.2"))?,
            attention_norm: Affine::new(weights, &name("attention.layer_norm"))?,
            up: Affine::convolution(weights, &name("feed_forward.conv1"))?,
            down: Affine::convolution(weights, &name("feed_forward.conv2"))?,
            feed_forward_norm: Affine::new(weights, &name("feed_forward.layer_norm"))?,
        })
    }
}

impl crate::layers::Block for Block {
    fn sublayers(
        &self,
        attention: Attention,
        dropout: f64,
        mode: Mode,
        layer: u64,
    ) -> (SelfAttention<'_>, FeedForward<'_>) {
        let attention = SelfAttention {
            attention,
            query_norm: Some(self.query_norm.pair()),
            query: self.query.pair(),
            key: self.key.pair(),
            value: self.value.pair(),
            output: None,
            dropout: None,
            norm: self.attention_norm.pair(),
        };
        let feed_forward = FeedForward {
            up: self.up.pair(), // to (queries, 4 hidden)
            activation: Activation::Relu,
            inner_dropout: mode.dropout(dropout, layer),
            down: self.down.pair(),
            dropout: mode.dropout(dropout, layer + 1),
            norm: self.feed_forward_norm.pair(),
        };
        (attention, feed_forward)
    }
}

/// The model.
pub struct SasRec {
    sizes: Sizes,
    token: Tensor,
    position: Tensor,
    blocks: Vec<Block>,
    catalogue: Catalogue,
}

impl SasRec {
    /// The model over `weights`, which must hold every tensor of [`declare`].
    ///
    /// # Errors
    /// [`Error::Weights`](crate::Error::Weights) naming the tensor that is missing.
    pub fn new(sizes: &Sizes, weights: &Weights) -> Result<Self> {
        let token = tensor(weights, "embedding.token.weight")?;
        Ok(Self {
            sizes: *sizes,
            position: tensor(weights, "embedding.position.pe.weight")?,
            blocks: (0..sizes.blocks).map(|i| Block::new(weights, i)).collect::<Result<_>>()?,
            catalogue: Catalogue { weight: token.clone(), bias: None, items: sizes.items },
            token,
        })
    }
}

impl SasRec {
    fn embed(&self, mode: Mode) -> Embed<'_> {
        Embed {
            token: &self.token,
            position: &self.position,
            norm: None,
            dropout: mode.dropout(self.sizes.dropout, 0),
            activations: mode.activations(),
        }
    }
}

impl Recommender for SasRec {
    fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    fn reading(&self) -> Reading {
        ARCHITECTURE.reading
    }

    fn encode(&self, batch: &PackedBatch, mode: Mode) -> Result<Tensor> {
        let x = self.embed(mode).forward(&batch.tokens, &batch.positions)?; // (tokens, hidden)
        transform(&self.blocks, x, batch, true, &self.sizes, mode) // (positions, hidden)
    }

    fn extend(&self, cache: &mut KvCache, items: &Tensor) -> Result<Option<Tensor>> {
        cache.grow(self.blocks.len(), 0);
        let rows = cache.lengths().len();
        let positions: Vec<u32> = cache.lengths().iter().map(|&length| length as u32).collect();
        let positions = Tensor::from_vec(positions, rows, items.device())?;
        let mut x = self.embed(Mode::Evaluate).forward(items, &positions)?; // (rows, hidden)
        let attention = Attention {
            rows: Rows::from_lengths(vec![1; rows]),
            queries: QueryTokens::All,
            heads: self.sizes.heads,
            causal: true,
            dropout: None,
        };
        for (block, remembered) in self.blocks.iter().zip(&mut cache.attention) {
            let (attention, feed_forward) = block.sublayers(attention.clone(), 0.0, Mode::Evaluate, 0);
            x = feed_forward.forward(&attention.extend(&x, remembered)?)?;
        }
        Ok(Some(x))
    }

    /// The shifted window; for the paper's loss, a random item outside the user's history beside each label.
    fn sample(
        &self,
        history: &[u32],
        window: Range<usize>,
        objective: &settings::Train,
        stream: &mut ChaCha8Rng,
        batch: &mut TrainingBatch,
    ) {
        causal::sample(history, window, objective, batch);
        if objective.loss == Loss::Bce {
            let missing = batch.labels.len() - batch.negatives.len();
            batch.negatives.extend(negatives::outside(history, self.sizes.items, missing, stream));
        }
    }
}
