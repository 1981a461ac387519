//! The operations that the models are made of, one file each: its fused version, its plain twin, and their tests.

pub(crate) mod activation;
pub(crate) mod adamw;
pub(crate) mod additive_attention;
pub(crate) mod attention;
pub(crate) mod dropout;
pub(crate) mod embed;
pub(crate) mod embedding;
pub(crate) mod feed_forward;
pub(crate) mod gru;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod self_attention;

pub use activation::{Activation, gelu};
pub use adamw::{AdamWStep, adamw};
pub use additive_attention::{additive_attention, additive_attention_step};
pub use attention::{Attention, KeyValueCache, QueryTokens};
pub use dropout::{Dropout, dropout};
pub use embed::Embed;
pub use embedding::embedding;
pub use feed_forward::FeedForward;
pub use gru::{gru, gru_step};
pub use linear::linear;
pub use self_attention::SelfAttention;
