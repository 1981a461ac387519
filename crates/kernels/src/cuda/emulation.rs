//! The CUDA kernels against their CPU twins, without a GPU: `emulation.c` runs the kernels' own code on the CPU, and here the
//! bytes are compared. What this does not see is the GPU itself: its compiler, and races between threads that here take turns.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, Layout};

use crate::catalogue::top_k::{self, LONGEST, order_key};
use crate::ops::{
    dropout::{Dropout, Factors},
    embedding,
};
use crate::testing::{ids, numbers};

/// An argument of a kernel.
enum Argument<'a> {
    U32(u32),
    U64(u64),
    F32(f32),
    In(&'a [u32]),
    Out(&'a mut Vec<u32>),
}

/// The emulation, compiled by the C compiler that links Rust programs too.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cuda/emulation.c");
        let program = std::env::current_exe().unwrap().with_file_name("gro-emulation");
        let fresh = program.with_extension(std::process::id().to_string());
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let status =
            Command::new(compiler).args(["-O1", "-std=gnu11", "-o"]).arg(&fresh).arg(source).status();
        assert!(status.unwrap().success(), "a C compiler must compile {source}");
        std::fs::rename(&fresh, &program).unwrap();
        program
    })
}

/// Runs a kernel over so many blocks and threads; the `Out` buffers hold afterwards what it left there.
fn launch(kernel: &str, blocks: usize, threads: usize, mut arguments: Vec<Argument<'_>>) {
    let mut command = Command::new(program());
    command.args([kernel, &blocks.to_string(), &threads.to_string()]);
    let mut input = Vec::new();
    for argument in &arguments {
        let (words, direction): (&[u32], _) = match argument {
            Argument::U32(value) => {
                command.arg(format!("u32:{value}"));
                continue;
            }
            Argument::U64(value) => {
                command.arg(format!("u64:{value}"));
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
    let mut words = output.stdout.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap()));
    for argument in &mut arguments {
        if let Argument::Out(buffer) = argument {
            buffer.iter_mut().for_each(|word| *word = words.next().unwrap());
        }
    }
    assert_eq!(words.next(), None);
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
            let (threshold, scale) = factors.threshold_and_scale();
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
    let (count, tiles) = (ids.len(), ids.len().div_ceil(2048));
    let passes = (usize::BITS - (rows - 1).leading_zeros()).div_ceil(8).max(1);
    let (mut keys, mut places) = (ids.to_vec(), vec![0; count]);
    for pass in 0..passes {
        let mut counts = vec![0; 256 * tiles];
        let shift = 8 * pass;
        let sizes = [Argument::U32(count as u32), Argument::U32(shift)];
        let [all, by] = sizes;
        launch("count_digits", tiles, 256, vec![Argument::In(&keys), Argument::Out(&mut counts), all, by]);
        let all = Argument::U32(256 * tiles as u32);
        launch("scan_counts", 1, 256, vec![Argument::Out(&mut counts), all]);
        let (mut moved_keys, mut moved_places) = (vec![0; count], vec![0; count]);
        let arguments = vec![
            Argument::In(&keys),
            Argument::In(&places),
            Argument::In(&counts),
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
    let arguments = vec![
        Argument::In(&g),
        Argument::In(&keys),
        Argument::In(&places),
        Argument::Out(&mut sums),
        Argument::U32(count as u32),
        Argument::U32(hidden as u32),
    ];
    launch("segment_sum", count, hidden.next_multiple_of(32).min(256), arguments);
    sums
}

#[test]
fn segment_sums_are_those_of_the_cpu() {
    for (rows, hidden, count) in [(1, 1, 1), (9, 5, 400), (300, 64, 2048), (70_000, 3, 5000), (2, 300, 40)] {
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
