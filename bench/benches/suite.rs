//! Times every work of the `benchmarks` library with criterion, measures its memory in a process of its own, and keeps
//! both in `target/bench.json`.
//!
//! `cargo bench --workspace --bench suite` for all, `… -- gro/` for the works whose id matches that pattern; the entries
//! of the others stay as they were. `-- --quick` stops at the first stable figure; `-- --list` names the works.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use benchmarks::record::{self, Entry};
use benchmarks::{Iteration, Work, peak};
use criterion::{BenchmarkId, Criterion, SamplingMode};

/// The allocator of the stages: much of what an operation costs is fresh pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    // SAFETY: no thread has begun.
    unsafe { stage::set_threads(None) }?;
    // A suite that was built elsewhere says where its results go.
    let here = std::env::var_os("GRO_BENCH_DIR").map(PathBuf::from);
    let built = || Path::new(env!("CARGO_TARGET_TMPDIR")).parent().map(Path::to_path_buf);
    let target = here.or_else(built).context("no target directory")?;
    let works = benchmarks::works(&target.join("bench-data"))?;
    if let Some(id) = peak::asked() {
        #[expect(clippy::print_stdout, reason = "the answer to the process that asked")]
        {
            println!("{}", peak::work_and_tell(&works, &id)?);
        }
        return Ok(());
    }

    let (results, begun) = (target.join("criterion"), SystemTime::now());
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
        .configure_from_args()
        .output_directory(&results);
    let mut measured = Vec::new();
    for work in &works {
        time(&mut criterion, work);
        if let Some(seconds_median) = record::median(&results, work, begun)? {
            let entry = Entry {
                work: work.name.clone(),
                shape: work.shape.clone(),
                threads: work.threads.unwrap_or_else(rayon::current_num_threads),
                seconds_median,
                gflop: work.gflop,
                peak_gb: Some(peak::of(work)?),
            };
            record::keep(&target.join("bench.json"), &works, entry.clone())?;
            measured.push(entry);
        }
    }
    criterion.final_summary();
    if !measured.is_empty() {
        #[expect(clippy::print_stdout, reason = "the result")]
        {
            println!("{}", record::table(&measured));
        }
    }
    Ok(())
}

/// Times a work, unless it is filtered out; it is prepared only then.
fn time(criterion: &mut Criterion, work: &Work) {
    let mut prepared: Option<Iteration> = None;
    let mut group = criterion.benchmark_group(work.subject);
    group.sampling_mode(SamplingMode::Flat);
    group.bench_function(BenchmarkId::new(&work.name, &work.shape), |bencher| {
        let iteration = prepared.get_or_insert_with(|| succeed(work, work.prepare()));
        bencher.iter(|| succeed(work, iteration()));
    });
    group.finish();
}

/// Criterion takes no errors.
fn succeed<T>(work: &Work, outcome: Result<T>) -> T {
    outcome.unwrap_or_else(|error| panic!("{}: {error:#}", work.id()))
}
