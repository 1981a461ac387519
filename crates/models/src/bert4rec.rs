//! BERT4Rec (Sun et al., CIKM 2019, arXiv 1904.06690): a bidirectional transformer that fills in hidden items.
//!
//! The arithmetic is that of the GRO authors' PyTorch code: post-norm blocks, the norm with the *sample*
//! deviation and its epsilon outside the root, tanh GELU, scores tied to the token embedding, over n + 2 ids
//! (padding 0, items, the mask n + 1). To predict, the mask is appended and its state read.
//!
//! Differences, none of which changes a number but by rounding: padding is never computed (packed rows), the last block
//! computes queries, feed-forward and head for the picked places only, and where each row has one of these, as in prediction and
//! distillation, it computes neither keys nor values.
//!
//! One difference in sampling: a window in which no item was drawn to be hidden hides its last item, where the
//! authors' code would spend the sample on nothing. For windows of 50 at the published mask probabilities this
//! happens less than once in 60,000 samples; it matters for very short histories.

use std::ops::Range;

use artifact::settings;
use candle_core::Tensor;
use kernels::{Activation, Attention, Catalogue, Embed, FeedForward, SelfAttention};
use rand_chacha::ChaCha8Rng;
use streams::{below, unit};

use crate::layers::{self, Affine, declare_affine, declare_norm, tensor, transform};
use crate::{
    Architecture, Contexts, Declared, Initial, Mode, PackedBatch, Reading, Recommender, Result, Sizes,
    TrainingBatch, Weights,
};

/// The registry's entry.
pub const ARCHITECTURE: Architecture = Architecture {
    name: "bert",
    title: "BERT4Rec",
    declare,
    build: |sizes, weights| Ok(Box::new(Bert4Rec::new(sizes, weights)?)),
    sizes: |shapes, base| layers::transformer_sizes(shapes, 2, base),
    has_heads: true,
    has_positions: true,
    reading: Reading::Cloze,
    operations: |sizes, tokens, states| {
        let hidden = sizes.hidden as f64;
        layers::transformer_operations(sizes, tokens, states, true) + 2.0 * states * hidden * hidden
    },
    kept: |sizes| (5.0 + 5.7 * sizes.blocks as f64) * sizes.hidden as f64,
};

/// Names, shapes and initial values of all tensors.
pub fn declare(sizes: &Sizes) -> Vec<Declared> {
    let (hidden, columns) = (sizes.hidden, sizes.items + 2);
    let mut tensors = vec![
        Declared::new("embedding.token.weight", &[columns, hidden], Initial::EmbeddingButPadding),
        Declared::new("embedding.position.pe.weight", &[sizes.max_len + 1, hidden], Initial::Embedding),
        Declared::new("model.bias", &[columns], Initial::Truncated),
    ];
    declare_affine(&mut tensors, "model.linear", &[hidden, hidden]);
    declare_norm(&mut tensors, "embedding.layer_norm", hidden);
    for block in 0..sizes.blocks {
        let block = format!("model.transformer_blocks.{block}");
        for projection in ["linear_layers.0", "linear_layers.1", "linear_layers.2", "output_linear"] {
            declare_affine(&mut tensors, &format!("{block}.attention.{projection}"), &[hidden, hidden]);
        }
        declare_norm(&mut tensors, &format!("{block}.input_sublayer.layer_norm"), hidden);
        declare_affine(&mut tensors, &format!("{block}.feed_forward.w_1"), &[4 * hidden, hidden]);
        declare_affine(&mut tensors, &format!("{block}.feed_forward.w_2"), &[hidden, 4 * hidden]);
        declare_norm(&mut tensors, &format!("{block}.output_sublayer.layer_norm"), hidden);
    }
    tensors
}

struct Block {
    query: Affine,
    key: Affine,
    value: Affine,
    output: Affine,
    attention_norm: Affine,
    up: Affine,
    down: Affine,
    feed_forward_norm: Affine,
}

impl Block {
    fn new(weights: &Weights, index: usize) -> Result<Self> {
        let at = |part: &str| Affine::new(weights, &format!("model.transformer_blocks.{index}.{part}"));
        Ok(Self {
            query: at("attention.linear_layers.0")?,
            key: at("attention.linear_layers.1")?,
            value: at("attention.linear_layers.2")?,
            output: at("attention.output_linear")?,
            attention_norm: at("input_sublayer.layer_norm")?,
            up: at("feed_forward.w_1")?,
            down: at("feed_forward.w_2")?,
            feed_forward_norm: at("output_sublayer.layer_norm")?,
        })
    }
}

impl layers::Block for Block {
    fn sublayers(
        &self,
        attention: Attention,
        dropout: f64,
        mode: Mode,
        layer: u64,
    ) -> (SelfAttention<'_>, FeedForward<'_>) {
        let attention = SelfAttention {
            attention,
            query_norm: None,
            query: self.query.pair(),
            key: self.key.pair(),
            value: self.value.pair(),
            output: Some(self.output.pair()),
            dropout: mode.dropout(dropout, layer),
            norm: self.attention_norm.pair(),
        };
        let feed_forward = FeedForward {
            up: self.up.pair(), // to (queries, 4 hidden)
            activation: Activation::Gelu,
            inner_dropout: None,
            down: self.down.pair(),
            dropout: mode.dropout(dropout, layer + 1),
            norm: self.feed_forward_norm.pair(),
        };
        (attention, feed_forward)
    }
}

/// The model.
pub struct Bert4Rec {
    sizes: Sizes,
    token: Tensor,
    position: Tensor,
    embedding_norm: Affine,
    blocks: Vec<Block>,
    head: Affine,
    catalogue: Catalogue,
}

impl Bert4Rec {
    /// The model over `weights`, which must hold every tensor of [`declare`].
    pub fn new(sizes: &Sizes, weights: &Weights) -> Result<Self> {
        let token = tensor(weights, "embedding.token.weight")?;
        Ok(Self {
            sizes: *sizes,
            position: tensor(weights, "embedding.position.pe.weight")?,
            embedding_norm: Affine::new(weights, "embedding.layer_norm")?,
            blocks: (0..sizes.blocks).map(|i| Block::new(weights, i)).collect::<Result<_>>()?,
            head: Affine::new(weights, "model.linear")?,
            catalogue: Catalogue {
                weight: token.clone(),
                bias: Some(tensor(weights, "model.bias")?),
                items: sizes.items,
            },
            token,
        })
    }

    /// The id that hides an item: n + 1.
    fn mask(&self) -> u32 {
        self.sizes.items as u32 + 1
    }
}

impl Recommender for Bert4Rec {
    fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    fn encode(&self, batch: &PackedBatch, mode: Mode) -> Result<Tensor> {
        let embed = Embed {
            token: &self.token,
            position: &self.position,
            norm: Some(self.embedding_norm.pair()),
            dropout: mode.dropout(self.sizes.dropout, 0),
            activations: mode.activations(),
        };
        let x = embed.forward(&batch.tokens, &batch.positions)?; // (tokens, hidden)
        let x = transform(&self.blocks, x, batch, false, &self.sizes, mode)?;
        Ok(kernels::gelu(&self.head.linear(&x)?)?) // (positions, hidden)
    }

    fn reading(&self) -> Reading {
        ARCHITECTURE.reading
    }

    fn push_prefixes(&self, history: &[u32], prefixes: &[usize], contexts: &mut Contexts) {
        for &length in prefixes {
            let latest = &history[length.saturating_sub(self.sizes.max_len - 1)..length];
            contexts.push(latest.iter().copied().chain([self.mask()]), [latest.len() as u32]);
        }
    }

    /// Cloze: walking the window, each item not hidden before is hidden with probability `mask_prob`, the last
    /// one a little more often (+ a tenth of what is left), at most `max_predictions` in all. A hidden item
    /// becomes the mask (80 %), a random item (10 %) or stays (10 %).
    fn sample(
        &self,
        history: &[u32],
        window: Range<usize>,
        objective: &settings::Train,
        stream: &mut ChaCha8Rng,
        batch: &mut TrainingBatch,
    ) {
        let window = &history[window];
        let last = window.len() - 1;
        let mut places: Vec<usize> = Vec::new();
        for place in 0..=last {
            let extra = if place == last { 0.1 * (1.0 - objective.mask_prob) } else { 0.0 };
            let covered = places.iter().any(|&hidden| window[hidden] == window[place]);
            if places.len() < objective.max_predictions
                && !covered
                && unit(stream) < objective.mask_prob + extra
            {
                places.push(place);
            }
        }
        if places.is_empty() {
            places.push(last);
        }
        let mut tokens = window.to_vec();
        for &place in &places {
            tokens[place] = match unit(stream) {
                draw if draw < 0.8 => self.mask(),
                draw if draw < 0.9 => 1 + below(stream, self.sizes.items as u32),
                _ => window[place],
            };
        }
        batch.labels.extend(places.iter().map(|&place| window[place]));
        batch.contexts.push(tokens, places.iter().map(|&place| place as u32));
    }
}
