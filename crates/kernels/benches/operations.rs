//! Times of every operation, fused and plain, forward and back, at the shapes of a real training step.
//!
//! `cargo bench -p kernels`, or `cargo bench -p kernels -- norm` for one. The best of several runs, in milliseconds.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a report for a person, and nothing to recover"
)]

use std::time::Instant;

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor, Var};
use kernels::{
    Activation, AdamWStep, Attention, Catalogue, Dropout, FeedForward, Margins, Queries, Rows, SelfAttention,
    adamw, additive_attention, dropout, embedding, gelu, gru, gru_step, linear, norm, outside,
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

fn best(mut run: impl FnMut() -> Result<()>) -> f64 {
    let time = |_| {
        let start = Instant::now();
        run().unwrap();
        start.elapsed().as_secs_f64() * 1e3
    };
    (0..7).map(time).fold(f64::INFINITY, f64::min)
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

fn report(name: &str, run: impl Fn() -> Result<Option<Tensor>>) {
    report_where(true, name, run);
}

/// As [`report`], the plain twin only if it can be run at this shape.
fn report_where(twin: bool, name: &str, run: impl Fn() -> Result<Option<Tensor>>) {
    if let Some(filter) = std::env::args().skip(1).find(|argument| !argument.starts_with('-'))
        && !name.contains(&filter)
    {
        return;
    }
    let time = |plain: bool| {
        kernels::set_plain(plain);
        let forward = best(|| run().map(|_| ()));
        let Some(y) = run().unwrap() else { return (forward, forward) };
        let gradient = y.ones_like().and_then(|ones| ones.contiguous()).unwrap();
        let both = best(|| match run()? {
            Some(y) => y.apply_op1(Free { gradient: gradient.clone() })?.backward().map(|_| ()),
            None => Ok(()),
        });
        (forward, both)
    };
    let (forward, both) = time(false);
    let (plain_forward, plain_both) = if twin { time(true) } else { (f64::NAN, f64::NAN) };
    println!(
        "{name:36} fused {forward:8.2} fwd {both:8.2} fwd+bwd   plain {plain_forward:8.2} {plain_both:8.2}"
    );
}

/// NARM's operations at hidden 64, whose GRU is 128 wide.
fn recurrent() {
    let (weight, bias) = (variable(&[384, 128]), variable(&[384]));
    let weight = Var::from_tensor(&(weight.as_tensor() * 0.1).unwrap()).unwrap();
    let ragged = Rows::from_lengths((0..128).map(|row| 20 + row * 37 % 128 * 180 / 127));
    for (name, rows) in [
        ("gru 128x200x128", Rows::from_lengths([200; 128])),
        ("gru 128x50x128", Rows::from_lengths([50; 128])),
        ("gru 128x(20..200)x128", ragged),
    ] {
        let gates = variable(&[rows.tokens(), 384]);
        report(name, || gru(&gates, &weight, &bias, &rows).map(Some));
    }
    let (gates, state) = (variable(&[64, 384]), variable(&[64, 128]));
    report("gru step 64x128", || gru_step(&gates, &state, &weight, &bias).map(|_| None));
    let v = variable(&[128]);
    for (batch, length) in [(128, 50), (16, 200), (128, 200)] {
        let rows = Rows::from_lengths(vec![length; batch]);
        let tokens = rows.tokens();
        let (keys, values) = (variable(&[tokens, 128]), variable(&[tokens, 128]));
        // The plain twin holds every pair, several times over: 13 GB at 128 rows of 200.
        let twin = tokens < 25_600;
        report_where(twin, &format!("additive attention {batch}x{length}x128"), || {
            additive_attention(&keys, &keys, &v, &values, &rows, &Queries::All).map(Some)
        });
        let last = Queries::Picked {
            rows: Rows::from_lengths(vec![1; batch]),
            places: vec![length as u32 - 1; batch].into(),
        };
        let query = variable(&[batch, 128]);
        report(&format!("additive attention {batch}x1 of {length}"), || {
            additive_attention(&query, &keys, &v, &values, &rows, &last).map(Some)
        });
    }
}

fn main() {
    let tokens = 25_600;
    let (x, y, wide) = (variable(&[tokens, 64]), variable(&[tokens, 64]), variable(&[tokens, 256]));
    let (square, up, down) = (variable(&[64, 64]), variable(&[256, 64]), variable(&[64, 256]));
    let (bias, wide_bias) = (variable(&[64]), variable(&[256]));
    let drop = Some(Dropout { probability: 0.1, key: 5 });
    report("linear 25600x64x64", || linear(&x, &square, Some(&bias)).map(Some));
    report("linear 25600x64x256", || linear(&x, &up, Some(&wide_bias)).map(Some));
    report("linear 25600x256x64", || linear(&wide, &down, Some(&bias)).map(Some));
    report("gelu 25600x256", || gelu(&wide).map(Some));
    report("norm 25600x64 residual dropout", || norm(&x, Some(&y), drop, &bias, &bias).map(Some));
    report("dropout 25600x64", || dropout(&x, drop).map(Some));
    let rows = Rows::from_lengths([200; 128]);
    let map = (square.as_tensor(), bias.as_tensor());
    let sublayer = |attention: Attention| SelfAttention {
        dropout: attention.dropout,
        attention,
        asking_norm: None,
        query: map,
        key: map,
        value: map,
        output: Some(map),
        norm: (&bias, &bias),
    };
    for (name, dropout) in [("attention 128x200 2 heads", None), ("attention 128x200 2 heads dropout", drop)]
    {
        let attention =
            Attention { rows: rows.clone(), queries: Queries::All, heads: 2, causal: false, dropout };
        report(name, || sublayer(attention.clone()).forward(&x).map(Some));
    }
    let places: Vec<u32> = (0..128).flat_map(|_| (0..200).step_by(5)).collect();
    let picked = Queries::Picked { rows: Rows::from_lengths([40; 128]), places: places.into() };
    let attention = Attention { rows, queries: picked, heads: 2, causal: false, dropout: drop };
    report("attention 128x40 of 200 dropout", || sublayer(attention.clone()).forward(&x).map(Some));
    let feed_forward = FeedForward {
        up: (&up, &wide_bias),
        activation: Activation::Gelu,
        inner_dropout: None,
        down: (&down, &bias),
        dropout: drop,
        norm: (&bias, &bias),
    };
    report("feed-forward 25600x64x256 dropout", || feed_forward.forward(&x).map(Some));
    let few = variable(&[5120, 64]);
    recurrent();
    for items in [1349, 26_744] {
        let table = variable(&[items + 2, 64]);
        let token_ids = ids(&[tokens], items);
        report(&format!("embedding 25600 of {items}"), || embedding(&table, &token_ids).map(Some));
        let catalogue = Catalogue {
            weight: table.as_tensor().clone(),
            bias: Some(variable(&[items + 2]).into_inner()),
            items,
        };
        let targets = ids(&[5120], items);
        report(&format!("cross entropy 5120x{items}"), || catalogue.cross_entropy(&few, &targets).map(Some));
        let negatives = ids(&[tokens], items);
        report(&format!("binary cross entropy 25600 of {items}"), || {
            catalogue.binary_cross_entropy(&x, &token_ids, &negatives).map(Some)
        });
        let states = variable(&[960, 64]);
        let targets = ids(&[960], items);
        report(&format!("top 100 960x{items}"), || catalogue.top_k(&states, 100).map(|_| None));
        report(&format!("extremes 960x{items}"), || catalogue.extremes(&states).map(|_| None));
        report(&format!("ranks 960x{items}"), || catalogue.ranks(&states, &targets).map(|_| None));
        let answers = catalogue.top_k(&states, 100).unwrap();
        let draws = (ids(&[960, 100], items - 101) - 1.0).unwrap();
        report(&format!("outside 960x100 of {items}"), || outside(&answers, &draws, items).map(|_| None));
        let negatives = outside(&answers, &draws, items).unwrap();
        let margins = Margins { rank: 0.5, negative: 0.5 };
        report(&format!("ranking loss 960x100 of {items}"), || {
            Ok(Some(catalogue.ranking_loss(&states, &answers, &negatives, margins)?.loss))
        });
        report(&format!("swap loss 960x100 of {items}"), || {
            catalogue.swap_loss(&states, &answers, &negatives, 0.0).map(Some)
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
        report(&format!("adamw {items}x64"), || adamw(&param, &table, &first, &second, &step).map(|()| None));
    }
}
