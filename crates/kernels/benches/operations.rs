//! Times of every operation, fused and plain, forward and back, at the shapes of a real training step.
//!
//! `cargo bench --workspace --bench operations`, or `… -- norm` for one of them.
#![expect(clippy::unwrap_used, reason = "nothing to recover")]

use std::cell::OnceCell;
use std::time::Duration;

use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, Var};
use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use kernels::{
    Activation, AdamWStep, Attention, Catalogue, Dropout, Embed, FeedForward, Margins, QueryTokens, Rows,
    SelfAttention, adamw, additive_attention, dropout, embedding, gelu, gru, gru_step, linear, outside,
};

/// The allocator of the binaries: much of what an operation costs is fresh pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn numbers(count: usize) -> Vec<f32> {
    let mut state = 88_172_645_463_325_252u64;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn variable(shape: &[usize]) -> Var {
    Var::from_vec(numbers(shape.iter().product()), shape, &Device::Cpu).unwrap()
}

fn ids(shape: &[usize], bound: usize) -> Tensor {
    let count = shape.iter().product();
    let ids: Vec<u32> =
        numbers(count).iter().map(|x| ((x + 1.0) * 0.4999 * bound as f32) as u32 + 1).collect();
    Tensor::from_vec(ids, shape, &Device::Cpu).unwrap()
}

/// A loss that costs nothing, so that what is timed is the operation under it.
struct Free {
    gradient: Tensor,
}

impl CustomOp1 for Free {
    fn name(&self) -> &'static str {
        "free"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), ().into()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.gradient.clone()))
    }
}

/// Which implementations are timed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Twins {
    Both,
    /// Where the plain twin would take too long, or more memory than there is.
    FusedOnly,
}

/// Times `run` for each twin.
fn forward(criterion: &mut Criterion, name: &str, twins: Twins, run: impl Fn() -> Result<()>) {
    time(criterion, name, "forward", twins, || run().unwrap());
}

/// Times `run`, and `run` with what its gradients cost.
fn both_ways(criterion: &mut Criterion, name: &str, twins: Twins, run: impl Fn() -> Result<Tensor>) {
    forward(criterion, name, twins, || run().map(|_| ()));
    let gradient = OnceCell::new();
    time(criterion, name, "forward and back", twins, || {
        let y = run().unwrap();
        let gradient = gradient.get_or_init(|| y.ones_like().unwrap().contiguous().unwrap());
        y.apply_op1(Free { gradient: gradient.clone() }).unwrap().backward().unwrap();
    });
}

fn time(criterion: &mut Criterion, name: &str, ways: &str, twins: Twins, run: impl Fn()) {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat);
    for (twin, plain) in [("fused", false), ("plain", true)] {
        if plain && twins == Twins::FusedOnly {
            continue;
        }
        kernels::set_plain(plain);
        group.bench_function(format!("{twin}, {ways}"), |bencher| bencher.iter(&run));
    }
    kernels::set_plain(false);
    group.finish();
}

/// NARM's operations at hidden 64, whose GRU is 128 wide.
fn recurrent(criterion: &mut Criterion) {
    let (weight, bias) = (variable(&[384, 128]), variable(&[384]));
    let weight = Var::from_tensor(&(weight.as_tensor() * 0.1).unwrap()).unwrap();
    let ragged = Rows::from_lengths((0..128).map(|row| 20 + row * 37 % 128 * 180 / 127));
    for (name, rows) in [
        ("gru 128x200x128", Rows::from_lengths([200; 128])),
        ("gru 128x50x128", Rows::from_lengths([50; 128])),
        ("gru 128x(20..200)x128", ragged),
    ] {
        let gates = variable(&[rows.tokens(), 384]);
        both_ways(criterion, name, Twins::Both, || gru(&gates, &weight, &bias, &rows));
    }
    let (gates, state) = (variable(&[64, 384]), variable(&[64, 128]));
    forward(criterion, "gru step 64x128", Twins::Both, || {
        gru_step(&gates, &state, &weight, &bias).map(|_| ())
    });
    let v = variable(&[128]);
    for (batch, length) in [(16, 50), (128, 50), (16, 200), (128, 200)] {
        let rows = Rows::from_lengths(vec![length; batch]);
        let tokens = rows.tokens();
        let (keys, values) = (variable(&[tokens, 128]), variable(&[tokens, 128]));
        // The plain twin holds every pair of a row, several times over, and takes seconds for its gradients.
        let twins = if tokens == 800 { Twins::Both } else { Twins::FusedOnly };
        both_ways(criterion, &format!("additive attention {batch}x{length}x128"), twins, || {
            additive_attention(&keys, &keys, &v, &values, &rows, &QueryTokens::All)
        });
        let last = QueryTokens::Picked {
            rows: Rows::from_lengths(vec![1; batch]),
            places: vec![length as u32 - 1; batch].into(),
        };
        let query = variable(&[batch, 128]);
        let twins = if tokens < 25_600 { Twins::Both } else { Twins::FusedOnly };
        both_ways(criterion, &format!("additive attention {batch}x1 of {length}"), twins, || {
            additive_attention(&query, &keys, &v, &values, &rows, &last)
        });
    }
}

/// The operations of a transformer block.
fn transformer(criterion: &mut Criterion) {
    let tokens = 25_600;
    let (x, wide) = (variable(&[tokens, 64]), variable(&[tokens, 256]));
    let (square, up, down) = (variable(&[64, 64]), variable(&[256, 64]), variable(&[64, 256]));
    let (bias, wide_bias) = (variable(&[64]), variable(&[256]));
    let drop = Some(Dropout { probability: 0.1, key: 5 });
    both_ways(criterion, "linear 25600x64x64", Twins::Both, || linear(&x, &square, Some(&bias)));
    both_ways(criterion, "linear 25600x64x256", Twins::Both, || linear(&x, &up, Some(&wide_bias)));
    both_ways(criterion, "linear 25600x256x64", Twins::Both, || linear(&wide, &down, Some(&bias)));
    both_ways(criterion, "gelu 25600x256", Twins::Both, || gelu(&wide));
    both_ways(criterion, "dropout 25600x64", Twins::Both, || dropout(&x, drop));
    let (token, position) = (variable(&[1350, 64]), variable(&[201, 64]));
    let (token_ids, positions) = (ids(&[tokens], 1348), ids(&[tokens], 199));
    let norm = (bias.as_tensor(), bias.as_tensor());
    let embed = Embed {
        token: &token,
        position: &position,
        norm: Some(norm),
        dropout: drop,
        activations: DType::F32,
    };
    both_ways(criterion, "embed 25600x64 dropout", Twins::Both, || embed.forward(&token_ids, &positions));
    let feed_forward = FeedForward {
        up: (&up, &wide_bias),
        activation: Activation::Gelu,
        inner_dropout: None,
        down: (&down, &bias),
        dropout: drop,
        norm,
    };
    both_ways(criterion, "feed-forward 25600x64x256 dropout", Twins::Both, || feed_forward.forward(&x));
    let rows = Rows::from_lengths([200; 128]);
    let places: Vec<u32> = (0..128).flat_map(|_| (0..200).step_by(5)).collect();
    let picked = QueryTokens::Picked { rows: Rows::from_lengths([40; 128]), places: places.into() };
    let map = (square.as_tensor(), bias.as_tensor());
    for (name, queries, dropout) in [
        ("self-attention 128x200 2 heads", QueryTokens::All, None),
        ("self-attention 128x200 2 heads dropout", QueryTokens::All, drop),
        ("self-attention 128x40 of 200 2 heads dropout", picked, drop),
    ] {
        let sublayer = SelfAttention {
            attention: Attention { rows: rows.clone(), queries, heads: 2, causal: false, dropout },
            query_norm: None,
            query: map,
            key: map,
            value: map,
            output: Some(map),
            dropout,
            norm,
        };
        both_ways(criterion, name, Twins::Both, || sublayer.forward(&x));
    }
}

/// What is done with the catalogue, at two sizes of it.
fn catalogue(criterion: &mut Criterion) {
    let tokens = 25_600;
    let (x, few) = (variable(&[tokens, 64]), variable(&[5120, 64]));
    for items in [1349, 26_744] {
        let table = variable(&[items + 2, 64]);
        let token_ids = ids(&[tokens], items);
        both_ways(criterion, &format!("embedding 25600 of {items}"), Twins::Both, || {
            embedding(&table, &token_ids)
        });
        let catalogue = Catalogue {
            weight: table.as_tensor().clone(),
            bias: Some(variable(&[items + 2]).into_inner()),
            items,
        };
        let targets = ids(&[5120], items);
        both_ways(criterion, &format!("cross entropy 5120x{items}"), Twins::Both, || {
            catalogue.cross_entropy(&few, &targets)
        });
        let negatives = ids(&[tokens], items);
        both_ways(criterion, &format!("binary cross entropy 25600 of {items}"), Twins::Both, || {
            catalogue.binary_cross_entropy(&x, &token_ids, &negatives)
        });
        let states = variable(&[960, 64]);
        let targets = ids(&[960], items);
        forward(criterion, &format!("top 100 960x{items}"), Twins::Both, || {
            catalogue.top_k(&states, 100).map(|_| ())
        });
        forward(criterion, &format!("extremes 960x{items}"), Twins::Both, || {
            catalogue.extremes(&states).map(|_| ())
        });
        forward(criterion, &format!("ranks 960x{items}"), Twins::Both, || {
            catalogue.ranks(&states, &targets).map(|_| ())
        });
        let answers = catalogue.top_k(&states, 100).unwrap();
        let draws = (ids(&[960, 100], items - 101) - 1.0).unwrap();
        forward(criterion, &format!("outside 960x100 of {items}"), Twins::Both, || {
            outside(&answers, &draws, items).map(|_| ())
        });
        let negatives = outside(&answers, &draws, items).unwrap();
        let margins = Margins { rank: 0.5, negative: 0.5 };
        both_ways(criterion, &format!("ranking loss 960x100 of {items}"), Twins::Both, || {
            Ok(catalogue.ranking_loss(&states, &answers, &negatives, margins)?.loss)
        });
        both_ways(criterion, &format!("listmle 960x100 of {items}"), Twins::Both, || {
            catalogue.list_mle(&states, &answers, &negatives)
        });
        both_ways(criterion, &format!("list softmax 960x100 of {items}"), Twins::Both, || {
            catalogue.list_softmax(&states, &answers, &negatives, 1.0)
        });
        both_ways(criterion, &format!("list set 960x100 of {items}"), Twins::Both, || {
            catalogue.list_set(&states, &answers, &negatives)
        });
        both_ways(criterion, &format!("swap loss 960x100 of {items}"), Twins::Both, || {
            catalogue.swap_loss(&states, &answers, &negatives, 0.0)
        });
        let (param, first, second) =
            (variable(&[items + 2, 64]), variable(&[items + 2, 64]), variable(&[items + 2, 64]));
        let second = Var::from_tensor(&second.sqr().unwrap()).unwrap();
        let step = AdamWStep {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-9,
            weight_decay: 0.01,
            clip_norm: 5.0,
            step: 9,
        };
        forward(criterion, &format!("adamw {items}x64"), Twins::Both, || {
            adamw(&param, &table, &first, &second, &step)
        });
    }
}

criterion_group! {
    name = operations;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
        .without_plots();
    targets = transformer, recurrent, catalogue
}
criterion_main!(operations);
