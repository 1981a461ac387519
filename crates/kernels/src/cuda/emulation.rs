//! The CUDA kernels against their CPU twins, without a GPU: `emulation.c` runs the kernels' own code on the CPU, and here the
//! bytes are compared. What this does not see is the GPU itself: its compiler, and races between threads that here take turns.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Tensor, Var};

use crate::catalogue::{
    cross_entropy, extremes,
    top_k::{self, LONGEST, order_key},
};
use crate::ops::{
    activation::Activation,
    adamw::{self, AdamWStep, Update},
    additive_attention,
    attention::QueryTokens,
    dropout::{Dropout, Factors},
    embedding, gru, norm,
};
use crate::rows::Rows;
use crate::testing::{assert_close, ids, numbers, values};

/// An argument of a kernel.
enum Argument<'a> {
    U32(u32),
    U64(u64),
    F32(f32),
    In(&'a [u32]),
    Out(&'a mut Vec<u32>),
    /// A tensor that is not given.
    Null,
}

/// The emulation, compiled by the C compiler that links Rust programs too.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cuda/emulation.c");
        let program = std::env::current_exe().unwrap().with_file_name("gro-emulation");
        let fresh = program.with_extension(std::process::id().to_string());
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let status = Command::new(compiler)
            // A fortified longjmp takes a jump to another stack for an error.
            .args(["-O1", "-std=gnu11", "-ffp-contract=off", "-U_FORTIFY_SOURCE", "-o"])
            .arg(&fresh)
            .args([source, "-lm"])
            .status();
        assert!(status.unwrap().success(), "a C compiler must compile {source}");
        std::fs::rename(&fresh, &program).unwrap();
        program
    })
}

/// Runs a kernel over so many blocks and threads; the `Out` buffers hold afterwards what it left there, whichever thread and
/// block came first.
fn launch(kernel: &str, blocks: usize, threads: usize, mut arguments: Vec<Argument<'_>>) {
    let left = ["forward", "backward"].map(|order| run(order, kernel, blocks, threads, &arguments));
    assert!(left[0] == left[1], "{kernel}: a thread has not waited for another");
    let mut words =
        left[0].chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    for argument in &mut arguments {
        if let Argument::Out(buffer) = argument {
            buffer.iter_mut().for_each(|word| *word = words.next().unwrap());
        }
    }
    assert_eq!(words.next(), None);
}

/// What the kernel leaves in the `Out` buffers, one after the other.
fn run(order: &str, kernel: &str, blocks: usize, threads: usize, arguments: &[Argument<'_>]) -> Vec<u8> {
    let mut command = Command::new(program());
    command.args([order, kernel, &blocks.to_string(), &threads.to_string()]);
    let mut input = Vec::new();
    for argument in arguments {
        let (words, direction): (&[u32], _) = match argument {
            Argument::U32(value) => {
                command.arg(format!("u32:{value}"));
                continue;
            }
            Argument::U64(value) => {
                command.arg(format!("u64:{value}"));
                continue;
            }
            Argument::Null => {
                command.arg("u64:0");
                continue;
            }
            Argument::F32(value) => {
                command.arg(format!("f32:{}", value.to_bits()));
                continue;
            }
            Argument::In(words) => (words, "in"),
            Argument::Out(words) => (words, "out"),
        };
        command.arg(format!("{direction}:{}", 4 * words.len()));
        input.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(&input).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{kernel}: {}", output.status);
    output.stdout
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn dropout_factors_are_those_of_the_cpu() {
    for (parts, sharers, rows, width, lengths) in
        [(1, 1, 1, 3000, vec![3000]), (6, 2, 5, 7, vec![7, 3, 1]), (1, 1, 1, 1, vec![1])]
    {
        for probability in [0.1, 0.5] {
            let dropout = Dropout { probability, key: 0xdead_beef_1234_5678 };
            let factors = Factors { dropout, parts, sharers, rows, width };
            let layout = Layout::contiguous(lengths.len());
            let (expected, _) = factors.cpu_fwd(&CpuStorage::U32(lengths.clone()), &layout).unwrap();
            let CpuStorage::F32(expected) = expected else { panic!("not f32") };
            let (threshold, scale) = factors.dropout.threshold_and_scale();
            let mut found = vec![0; factors.count()];
            let arguments = vec![
                Argument::Out(&mut found),
                Argument::In(&lengths),
                Argument::U64(dropout.key),
                Argument::U32(threshold),
                Argument::F32(scale),
                Argument::U32(parts as u32),
                Argument::U32(sharers as u32),
                Argument::U32(rows as u32),
                Argument::U32(width as u32),
            ];
            launch("dropout_factors", factors.count().div_ceil(256), 256, arguments);
            assert_eq!(found, bits(&expected), "{parts} parts of {rows} x {width}");
        }
    }
}

/// As `cuda::segment_sum` launches it.
fn segment_sum(g: &[f32], ids: &[u32], rows: usize, hidden: usize) -> Vec<u32> {
    let (count, tiles) = (ids.len(), ids.len().div_ceil(256));
    let passes = (usize::BITS - (rows - 1).leading_zeros()).div_ceil(8).max(1);
    let (mut keys, mut places) = (ids.to_vec(), vec![0; count]);
    for pass in 0..passes {
        let mut counts = vec![0; 256 * tiles];
        let shift = 8 * pass;
        let sizes = [Argument::U32(count as u32), Argument::U32(shift)];
        let [all, by] = sizes;
        launch("count_digits", tiles, 256, vec![Argument::In(&keys), Argument::Out(&mut counts), all, by]);
        let (mut totals, of_each) = (vec![0; 256], Argument::U32(tiles as u32));
        launch(
            "scan_counts",
            256,
            256,
            vec![Argument::Out(&mut counts), Argument::Out(&mut totals), of_each],
        );
        let (mut moved_keys, mut moved_places) = (vec![0; count], vec![0; count]);
        let arguments = vec![
            Argument::In(&keys),
            Argument::In(&places),
            Argument::In(&counts),
            Argument::In(&totals),
            Argument::Out(&mut moved_keys),
            Argument::Out(&mut moved_places),
            Argument::U32(count as u32),
            Argument::U32(shift),
            Argument::U32(u32::from(pass == 0)),
        ];
        launch("move_keys", tiles, 256, arguments);
        (keys, places) = (moved_keys, moved_places);
    }
    assert!(keys.is_sorted(), "keys are sorted");
    assert!(
        (1..count).all(|i| keys[i - 1] < keys[i] || places[i - 1] < places[i]),
        "equal keys keep their order"
    );
    let (mut sums, g) = (vec![0; rows * hidden], bits(g));
    let lanes = hidden.next_multiple_of(32).min(256);
    let arguments = vec![
        Argument::In(&g),
        Argument::In(&keys),
        Argument::In(&places),
        Argument::Out(&mut sums),
        Argument::U32(count as u32),
        Argument::U32(hidden as u32),
        Argument::U32(lanes as u32),
    ];
    launch("segment_sum", count.div_ceil(256 / lanes), 256, arguments);
    sums
}

#[test]
fn segment_sums_are_those_of_the_cpu() {
    for (rows, hidden, count) in [
        (1, 1, 1),
        (1, 3, 777),
        (9, 5, 400),
        (300, 64, 2048),
        (70_000, 3, 5000),
        (2, 300, 40),
        (3, 70, 70_000),
    ] {
        let (g, ids) = (numbers(1, count * hidden), ids(2, count, rows as u32));
        let expected = bits(&embedding::gradient(&g, &ids, rows, hidden));
        assert_eq!(segment_sum(&g, &ids, rows, hidden), expected, "{rows} rows, {count} ids");
    }
}

#[test]
fn lists_are_those_of_the_cpu() {
    for (rows, columns, k) in [(1, 1, 1), (3, 40, 40), (2, 9001, 100), (2, 3000, LONGEST), (2, 700, 3)] {
        let mut scores = numbers(3, rows * columns);
        for place in (0..scores.len()).step_by(3).skip(1) {
            scores[place] = scores[place - 1]; // ties
        }
        for (place, special) in
            [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0, 1e-40].into_iter().enumerate()
        {
            if columns > 40 {
                scores[7 * place + 1] = special;
            }
        }
        let mut expected = vec![0; rows * k];
        for (ids, scores) in expected.chunks_exact_mut(k).zip(scores.chunks_exact(columns)) {
            top_k::best(scores, ids);
        }
        let mut found = vec![0; rows * k];
        let (words, wide, long) = (bits(&scores), Argument::U32(columns as u32), Argument::U32(k as u32));
        launch("top_k", rows, 256, vec![Argument::In(&words), Argument::Out(&mut found), wide, long]);
        assert_eq!(found, expected, "{k} of {columns}");
    }
}

#[test]
fn extremes_are_those_of_the_cpu() {
    for columns in [1, 40, 2048, 9001] {
        let mut scores = numbers(3, 4 * columns);
        scores[columns..2 * columns].fill(f32::NAN);
        scores[2 * columns..3 * columns].fill(-0.0);
        for (place, special) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0].into_iter().enumerate() {
            if columns > 40 {
                scores[7 * place + 1] = special;
                scores[2 * columns + 9 * place] = special.min(0.0);
            }
        }
        let expected: Vec<u32> = scores.chunks_exact(columns).flat_map(extremes::of_row).collect();
        let mut found = vec![0; 8];
        let words = bits(&scores);
        let arguments = vec![Argument::In(&words), Argument::Out(&mut found), Argument::U32(columns as u32)];
        launch("extremes", 4, 256, arguments);
        assert_eq!(found, expected, "{columns} columns");
    }
}

#[test]
fn softmax_losses_are_those_of_the_cpu() {
    for columns in [1, 300, 5000] {
        let (rows, share) = (3, 0.25);
        let scores: Vec<f32> = numbers(5, rows * columns).iter().map(|x| 30.0 * x).collect();
        let targets = ids(6, rows, columns as u32);
        let mut expected = scores.clone();
        let losses: Vec<f32> = expected
            .chunks_exact_mut(columns)
            .zip(&targets)
            .map(|(scores, &target)| cross_entropy::softmax_loss(scores, target as usize, share))
            .collect();
        let (mut gradient, mut found) = (bits(&scores), vec![0; rows]);
        let arguments = vec![
            Argument::Out(&mut gradient),
            Argument::In(&targets),
            Argument::Out(&mut found),
            Argument::F32(share),
            Argument::U32(columns as u32),
        ];
        launch("softmax_loss", rows, 256, arguments);
        assert_close("losses", &floats(&found), &losses, 1e-5);
        assert_close("gradient", &floats(&gradient), &expected, 1e-5);
    }
}

/// One thread sees more scores above all others' than a list can hold, and what they have in common narrows nothing down.
#[test]
fn a_row_whose_best_are_one_threads_is_listed_all_the_same() {
    let columns = 256 * (LONGEST + 50);
    let mut scores = numbers(7, columns);
    for place in (0..columns).step_by(256) {
        scores[place] += 4.0;
    }
    for k in [3, 256] {
        let (mut expected, mut found) = (vec![0; k], vec![0; k]);
        top_k::best(&scores, &mut expected);
        let (words, wide, long) = (bits(&scores), Argument::U32(columns as u32), Argument::U32(k as u32));
        launch("top_k", 1, 256, vec![Argument::In(&words), Argument::Out(&mut found), wide, long]);
        assert_eq!(found, expected, "the best {k}");
    }
}

#[test]
fn a_row_of_one_score_throughout_is_listed_by_id() {
    let scores = bits(&[0.25; 600]);
    let mut found = vec![0; 300];
    launch(
        "top_k",
        1,
        256,
        vec![Argument::In(&scores), Argument::Out(&mut found), Argument::U32(600), Argument::U32(300)],
    );
    assert!(found.iter().copied().eq(1..=300));
    assert!(order_key(0.25, 1) < order_key(0.25, 2));
}

fn floats(bits: &[u32]) -> Vec<f32> {
    bits.iter().map(|&bits| f32::from_bits(bits)).collect()
}

/// A tensor of numbers, and the same as a kernel takes them.
fn both(seed: u64, shape: &[usize]) -> (Tensor, Vec<u32>) {
    let numbers = numbers(seed, shape.iter().product());
    let words = bits(&numbers);
    (Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap(), words)
}

#[test]
fn steps_of_adamw_are_those_of_the_cpu() {
    for (count, clip_norm) in [(1, 5.0), (70_001, 1e6), (70_001, f64::INFINITY), (3000, 0.5)] {
        let step = AdamWStep {
            lr: 1e-2,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-9,
            weight_decay: 0.05,
            clip_norm,
            step: 3,
        };
        let [(param, mut p), (grad, g), (first, mut m)] = [1, 2, 3].map(|seed| both(seed, &[count]));
        let second = first.sqr().unwrap();
        let mut v = bits(&values(&second));
        let [param, first, second] = [param, first, second].map(|x| Var::from_tensor(&x).unwrap());
        adamw::fused(&param, &grad, &first, &second, &step).unwrap();

        let parts = if clip_norm.is_finite() { count.div_ceil(256).min(256) } else { 0 };
        let mut squares = vec![0; parts.max(1)];
        let elements = || Argument::U32(count as u32);
        if parts > 0 {
            launch(
                "square_sums",
                parts,
                256,
                vec![Argument::In(&g), Argument::Out(&mut squares), elements()],
            );
        }
        let update = Update::new(&step);
        let numbers = [
            clip_norm as f32,
            step.beta1 as f32,
            (1.0 - step.beta1) as f32,
            step.beta2 as f32,
            (1.0 - step.beta2) as f32,
            update.keep,
            update.rate,
            update.root,
            update.epsilon,
        ];
        let mut arguments = vec![
            Argument::Out(&mut p),
            Argument::Out(&mut m),
            Argument::Out(&mut v),
            Argument::In(&g),
            Argument::In(&squares),
            elements(),
            Argument::U32(parts as u32),
        ];
        arguments.extend(numbers.map(Argument::F32));
        launch("adamw", count.div_ceil(256).min(100), 256, arguments);
        for (what, found, expected) in
            [("parameter", &p, &param), ("first", &m, &first), ("second", &v, &second)]
        {
            if clip_norm == 0.5 {
                assert_close(what, &floats(found), &values(expected), 1e-6);
            } else {
                assert_eq!(found, &bits(&values(expected)), "{what} of {count}, clipped to {clip_norm}");
            }
        }
    }
}

#[test]
fn recurrent_states_and_gradients_are_those_of_the_cpu() {
    for (lengths, hidden, threads) in [(vec![1], 1, 32), (vec![3, 1, 7], 5, 32), (vec![9, 2], 40, 64)] {
        let rows = Rows::from_lengths(lengths.iter().copied());
        let (tokens, width) = (rows.tokens(), 3 * hidden);
        let starts: Vec<u32> = rows.offsets().iter().map(|&start| start as u32).collect();
        let [(x, x_bits), (weight, weight_bits)] =
            [(1, [tokens, width]), (2, [width, hidden])].map(|(seed, shape)| both(seed, &shape));
        let ((bias, bias_bits), (g, g_bits)) = (both(3, &[width]), both(4, &[tokens, hidden]));
        let inputs = [&x, &weight, &bias].map(|x| Var::from_tensor(x).unwrap());
        let y = gru::fused(&inputs[0], &inputs[1], &inputs[2], &rows).unwrap();

        let transposed = bits(&values(&weight.t().unwrap().contiguous().unwrap()));
        let mut states = vec![0; tokens * hidden];
        let arguments = vec![
            Argument::In(&x_bits),
            Argument::In(&transposed),
            Argument::In(&bias_bits),
            Argument::In(&starts),
            Argument::Out(&mut states),
            Argument::U32(hidden as u32),
        ];
        launch("gru_states", rows.len(), threads, arguments);
        assert_close("states", &floats(&states), &values(&y), 1e-5);

        let mut previous = vec![0f32; tokens * hidden];
        for row in 0..rows.len() {
            for token in rows.row(row).skip(1) {
                let state = floats(&states[(token - 1) * hidden..][..hidden]);
                previous[token * hidden..][..hidden].copy_from_slice(&state);
            }
        }
        let before = Tensor::from_vec(previous.clone(), (tokens, hidden), &Device::Cpu).unwrap();
        let a = before.matmul(&weight.t().unwrap()).unwrap().broadcast_add(&bias).unwrap();
        let (a, previous) = (bits(&values(&a)), bits(&previous));
        let (mut dx, mut da) = (vec![0; tokens * width], vec![0; tokens * width]);
        let mut arguments: Vec<Argument<'_>> =
            [&g_bits, &x_bits, &a, &previous, &weight_bits, &starts].map(|x| Argument::In(x)).into();
        arguments.extend([Argument::Out(&mut dx), Argument::Out(&mut da), Argument::U32(hidden as u32)]);
        launch("gru_gradients", rows.len(), threads, arguments);
        let gradients = (y * g).unwrap().sum_all().unwrap().backward().unwrap();
        let expected = |place: usize| values(gradients.get(&inputs[place]).unwrap());
        assert_close("gradient of x", &floats(&dx), &expected(0), 1e-5);
        let da = Tensor::from_vec(floats(&da), (tokens, width), &Device::Cpu).unwrap();
        let of_weight = da.t().unwrap().contiguous().unwrap().matmul(&before).unwrap();
        assert_close("gradient of the weight", &values(&of_weight), &expected(1), 1e-5);
        assert_close("gradient of the bias", &values(&da.sum(0).unwrap()), &expected(2), 1e-5);
    }
}

/// The gradient of the first input, and of the others, of the inner product of `y` with `g`.
fn gradients<const N: usize>(y: &Tensor, g: &Tensor, inputs: [&Var; N]) -> [Vec<f32>; N] {
    let store = (y * g).unwrap().sum_all().unwrap().backward().unwrap();
    inputs.map(|input| values(store.get(input).unwrap()))
}

fn variables<const N: usize>(tensors: [&Tensor; N]) -> [Var; N] {
    tensors.map(|tensor| Var::from_tensor(tensor).unwrap())
}

#[test]
fn dropout_and_residual_sums_are_those_of_the_cpu() {
    let ((x, x_bits), (residual, residual_bits)) = (both(1, &[37, 20]), both(2, &[37, 20]));
    for probability in [0.0, 0.3] {
        let dropout = Dropout { probability, key: 0xdead_beef };
        let (threshold, scale) = dropout.threshold_and_scale();
        let dropped = crate::dropout(&x, Some(dropout)).unwrap();
        for sum in [false, true] {
            let mut y = vec![0; x_bits.len()];
            let arguments = vec![
                Argument::In(&x_bits),
                if sum { Argument::In(&residual_bits) } else { Argument::Null },
                Argument::Out(&mut y),
                Argument::U64(dropout.key),
                Argument::U32(threshold),
                Argument::F32(scale),
                Argument::U32(x_bits.len() as u32),
            ];
            launch("drop_add", 2, 256, arguments);
            let expected = if sum { (&residual + &dropped).unwrap() } else { dropped.clone() };
            assert_eq!(y, bits(&values(&expected)), "probability {probability}, sum {sum}");
        }
    }
}

#[test]
fn activations_are_those_of_the_cpu() {
    let (x, g) = (both(1, &[3000]).0.affine(5.0, 0.0).unwrap(), both(2, &[3000]));
    let x_bits = bits(&values(&x));
    for (kind, activation) in [(0, Activation::Gelu), (1, Activation::Relu)] {
        let [input] = variables([&x]);
        let expected = activation.plain(&input).unwrap();
        let [gradient] = gradients(&expected, &g.0, [&input]);
        for (with, expected) in [(false, values(&expected)), (true, gradient)] {
            let mut y = vec![0; 3000];
            let arguments = vec![
                Argument::In(&x_bits),
                if with { Argument::In(&g.1) } else { Argument::Null },
                Argument::Out(&mut y),
                Argument::U32(kind),
                Argument::U32(3000),
            ];
            launch("activate", 3, 256, arguments);
            assert_close("activation", &floats(&y), &expected, 1e-5);
        }
    }
}

#[test]
fn biases_and_sums_of_columns_are_those_of_the_cpu() {
    for (rows, width) in [(1, 1), (150, 20), (700, 300)] {
        let ((x, mut y), (bias, bias_bits)) = (both(1, &[rows, width]), both(2, &[width]));
        let (parts, words) = (rows.div_ceil(64), y.clone());
        let (mut of_parts, mut sums) = (vec![0; parts * width], vec![0; width]);
        let size = |size: usize| Argument::U32(size as u32);
        launch(
            "add_bias",
            2,
            256,
            vec![Argument::Out(&mut y), Argument::In(&bias_bits), size(width), size(rows * width)],
        );
        assert_eq!(y, bits(&values(&x.broadcast_add(&bias).unwrap())));
        let arguments =
            vec![Argument::In(&words), Argument::Out(&mut of_parts), size(rows), size(width), size(64)];
        launch("column_parts", parts, 256, arguments);
        launch(
            "add_columns",
            width,
            256,
            vec![Argument::In(&of_parts), Argument::Out(&mut sums), size(parts), size(width)],
        );
        assert_close("sums", &floats(&sums), &values(&x.sum(0).unwrap()), 1e-5);
    }
}

#[test]
fn norms_are_those_of_the_cpu() {
    for (rows, hidden) in [(1, 2), (9, 5), (300, 64)] {
        let (x, g) = (both(1, &[rows, hidden]), both(4, &[rows, hidden]));
        let (weight, bias) = (both(2, &[hidden]), both(3, &[hidden]));
        let [input, of_weight, of_bias] = variables([&x.0, &weight.0, &bias.0]);
        let expected = norm::plain(&input, None, None, &of_weight, &of_bias).unwrap();
        let size = |size: usize| Argument::U32(size as u32);
        let mut y = vec![0; rows * hidden];
        let mut arguments: Vec<Argument<'_>> = [&x.1, &weight.1, &bias.1].map(|x| Argument::In(x)).into();
        arguments.extend([Argument::Out(&mut y), size(rows), size(hidden)]);
        launch("normalise", rows.div_ceil(8), 256, arguments);
        assert_close("norm", &floats(&y), &values(&expected), 1e-5);

        let blocks = rows.div_ceil(16).div_ceil(8);
        let (mut dx, mut parts) = (vec![0; rows * hidden], vec![0; blocks * 8 * 2 * hidden]);
        let mut arguments: Vec<Argument<'_>> = [&g.1, &x.1, &weight.1].map(|x| Argument::In(x)).into();
        arguments.extend([
            Argument::Out(&mut dx),
            Argument::Out(&mut parts),
            size(rows),
            size(hidden),
            size(16),
        ]);
        launch("normalise_gradients", blocks, 256, arguments);
        let [of_x, of_weight, of_bias] = gradients(&expected, &g.0, [&input, &of_weight, &of_bias]);
        assert_close("gradient", &floats(&dx), &of_x, 1e-4);
        let parts = Tensor::from_vec(floats(&parts), (blocks * 8, 2 * hidden), &Device::Cpu).unwrap();
        assert_close(
            "gradients of both",
            &values(&parts.sum(0).unwrap()),
            &[of_weight, of_bias].concat(),
            1e-5,
        );
    }
}

#[test]
fn heads_are_padded_and_back() {
    let rows = Rows::from_lengths([3, 0, 7, 1]);
    let (heads, size) = (2, 5);
    let starts: Vec<u32> = rows.offsets().iter().map(|&start| start as u32).collect();
    let (x, mut words) = both(1, &[rows.tokens(), heads * size]);
    let count = rows.len() * heads * rows.longest() * size;
    let mut padded = vec![0; count];
    let numbers =
        |back: u32| [heads as u32, rows.longest() as u32, size as u32, back, count as u32].map(Argument::U32);
    let before = words.clone();
    let mut arguments = vec![Argument::Out(&mut words), Argument::Out(&mut padded), Argument::In(&starts)];
    arguments.extend(numbers(0));
    launch("pad_heads", 3, 256, arguments);
    for row in 0..rows.len() {
        for head in 0..heads {
            for place in 0..rows.longest() {
                let found = floats(&padded[((row * heads + head) * rows.longest() + place) * size..][..size]);
                let expected = if place < rows.length(row) {
                    let token = x.narrow(0, rows.row(row).start + place, 1).unwrap();
                    values(&token.narrow(1, head * size, size).unwrap())
                } else {
                    vec![0.0; size]
                };
                assert_eq!(found, expected, "row {row}, head {head}, place {place}");
            }
        }
    }
    let mut again = vec![0; before.len()];
    let mut arguments = vec![Argument::Out(&mut again), Argument::Out(&mut padded), Argument::In(&starts)];
    arguments.extend(numbers(1));
    launch("pad_heads", 3, 256, arguments);
    assert_eq!(again, before);
}

#[test]
fn probabilities_and_their_gradients_are_those_of_the_cpu() {
    let (batch, heads, queries, keys, scale) = (3, 2, 5, 40, 0.3);
    let parts = batch * heads;
    let lengths = vec![40u32, 1, 17];
    // The last query of each row is padding.
    let visible: Vec<u32> =
        lengths.iter().flat_map(|&length| [length, 1, length.min(9), length, 0]).collect();
    let (scores, g) = (both(1, &[parts, queries, keys]), both(2, &[parts, queries, keys]));
    for probability in [0.0, 0.4] {
        let dropout = Dropout { probability, key: 99 };
        let (threshold, kept) = dropout.threshold_and_scale();
        let of_parts = Factors { dropout, parts, sharers: heads, rows: queries, width: keys };
        let (factors, _) =
            of_parts.cpu_fwd(&CpuStorage::U32(lengths.clone()), &Layout::contiguous(batch)).unwrap();
        let CpuStorage::F32(factors) = factors else { panic!("not f32") };
        let seen = (0..parts * queries).flat_map(|row| {
            let seen = visible[row / queries / heads * queries + row % queries];
            (0..keys as u32).map(move |key| if key < seen { 0f32 } else { -1e9 })
        });
        let shape = (parts, queries, keys);
        let seen = Tensor::from_vec(seen.collect::<Vec<_>>(), shape, &Device::Cpu).unwrap();
        let factors = Tensor::from_vec(factors, shape, &Device::Cpu).unwrap();
        let real = seen.ge(-1f32).unwrap().to_dtype(candle_core::DType::F32).unwrap();
        let [input] = variables([&scores.0]);
        let masked = ((input.as_tensor() * scale).unwrap() + seen).unwrap();
        let expected = candle_nn::ops::softmax(&masked, 2).unwrap();
        let expected = ((expected * factors).unwrap() * real).unwrap();
        let [gradient] = gradients(&expected, &g.0, [&input]);
        for (with, expected) in [(false, values(&expected)), (true, gradient)] {
            let mut y = vec![0; parts * queries * keys];
            let mut arguments = vec![
                Argument::In(&scores.1),
                if with { Argument::In(&g.1) } else { Argument::Null },
                Argument::Out(&mut y),
                Argument::In(&visible),
                Argument::In(&lengths),
                Argument::F32(scale as f32),
                Argument::U64(dropout.key),
                Argument::U32(threshold),
                Argument::F32(kept),
            ];
            let sizes = [parts * queries, heads, queries, keys];
            arguments.extend(sizes.map(|size| Argument::U32(size as u32)));
            launch("attend", (parts * queries).div_ceil(8), 256, arguments);
            assert_close(&format!("probability {probability}, {with}"), &floats(&y), &expected, 1e-5);
        }
    }
}

#[test]
fn additive_attention_is_that_of_the_cpu() {
    let rows = Rows::from_lengths([1, 7, 19]);
    let picked =
        QueryTokens::Picked { rows: Rows::from_lengths([1, 0, 3]), places: vec![0, 0, 18, 5].into() };
    for queries in [QueryTokens::All, picked] {
        let query_rows = queries.query_rows(&rows).clone();
        let (count, tokens, width, hidden) = (query_rows.tokens(), rows.tokens(), 37, 20);
        let ((query, _), (keys, _)) = (both(1, &[count, width]), both(2, &[tokens, width]));
        // Far enough that some lie beyond the bends.
        let [query, keys] = [query, keys].map(|x| (x * 4.0).unwrap());
        let ((v, v_bits), (x, _), (g, g_bits)) =
            (both(3, &[width]), both(4, &[tokens, hidden]), both(5, &[count, hidden]));
        let (query_bits, both_bits) =
            (bits(&values(&query)), bits(&values(&Tensor::cat(&[&keys, &x], 1).unwrap())));
        let inputs = variables([&query, &keys, &v, &x]);
        let expected =
            additive_attention::fused(&inputs[0], &inputs[1], &inputs[2], &inputs[3], &rows, &queries)
                .unwrap();

        let each = |row: usize| (0..query_rows.length(row)).map(move |i| (row, i));
        let of_queries: Vec<(usize, usize)> = (0..rows.len()).flat_map(each).collect();
        let firsts: Vec<u32> = of_queries.iter().map(|&(row, _)| rows.row(row).start as u32).collect();
        let visible: Vec<u32> = of_queries.iter().map(|&(row, i)| queries.visible(row, i) as u32).collect();
        let longest = rows.longest();
        let (mut probabilities, mut y) = (vec![0; count * longest], vec![0; count * hidden]);
        let sizes = || [width, hidden, longest].map(|size| Argument::U32(size as u32));
        let mut arguments: Vec<Argument<'_>> =
            [&query_bits, &both_bits, &v_bits, &firsts, &visible].map(|x| Argument::In(x)).into();
        arguments.extend([Argument::Out(&mut probabilities), Argument::Out(&mut y)]);
        arguments.extend(sizes());
        launch("add_attend", count, 256, arguments);
        assert_close("attended", &floats(&y), &values(&expected), 1e-5);

        let (mut ds, mut dq, mut dv) =
            (vec![0; count * longest], vec![0; count * width], vec![0; count * width]);
        let mut arguments: Vec<Argument<'_>> =
            [&g_bits, &query_bits, &both_bits, &v_bits, &firsts, &visible, &probabilities]
                .map(|x| Argument::In(x))
                .into();
        arguments.extend([Argument::Out(&mut ds), Argument::Out(&mut dq), Argument::Out(&mut dv)]);
        arguments.extend(sizes());
        launch("add_attend_queries", count, 256, arguments);

        let of_tokens: Vec<(usize, usize)> =
            (0..rows.len()).flat_map(|row| (0..rows.length(row)).map(move |i| (row, i))).collect();
        let places: Vec<u32> = of_tokens.iter().map(|&(_, i)| i as u32).collect();
        let starts: Vec<u32> = of_tokens.iter().map(|&(row, _)| query_rows.row(row).start as u32).collect();
        let ends: Vec<u32> = of_tokens.iter().map(|&(row, _)| query_rows.row(row).end as u32).collect();
        let mut dk = vec![0; tokens * (width + hidden)];
        let mut arguments: Vec<Argument<'_>> =
            [&g_bits, &query_bits, &both_bits, &v_bits, &probabilities, &ds, &places, &starts, &ends]
                .map(|x| Argument::In(x))
                .into();
        arguments.push(Argument::Out(&mut dk));
        arguments.extend(sizes());
        launch("add_attend_keys", tokens, 256, arguments);

        let [of_query, of_keys, of_v, of_x] = gradients(&expected, &g, inputs.each_ref());
        assert_close("query", &floats(&dq), &of_query, 1e-5);
        let dv = Tensor::from_vec(floats(&dv), (count, width), &Device::Cpu).unwrap();
        assert_close("v", &values(&dv.sum(0).unwrap()), &of_v, 1e-5);
        let dk = Tensor::from_vec(floats(&dk), (tokens, width + hidden), &Device::Cpu).unwrap();
        assert_close("keys", &values(&dk.narrow(1, 0, width).unwrap()), &of_keys, 1e-5);
        assert_close("values", &values(&dk.narrow(1, width, hidden).unwrap()), &of_x, 1e-5);
    }
}
