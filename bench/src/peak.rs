//! The most memory a work holds. Measured in a process of its own, so that one work does not count the pages of
//! another: the suite starts itself again, with the name of a work in the environment.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::Work;

/// Holds the id of the work whose memory is to be measured.
const ASKED: &str = "BENCH_PEAK_OF";

/// Iterations until a work holds what it ever will: the first one makes what later ones reuse.
const ITERATIONS: usize = 2;

/// The id of the work that this process was started to measure, if it was.
pub fn asked() -> Option<String> {
    std::env::var(ASKED).ok()
}

/// Works, and returns the most memory that this process has held, in bytes.
///
/// # Errors
/// Those of the work; also where the system does not tell.
pub fn work_and_tell(works: &[Work], id: &str) -> Result<u64> {
    let work = works.iter().find(|work| work.id() == id).with_context(|| format!("there is no work {id}"))?;
    let mut iteration = work.prepare()?;
    for _ in 0..ITERATIONS {
        iteration()?;
    }
    let status = fs::read_to_string("/proc/self/status").context("this system does not tell peak memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()).context("no VmHWM in the status")?;
    Ok(kibibytes.parse::<u64>()? * 1024)
}

/// The most memory that a process holds which does this work and no other, in GB (of 10^9 bytes).
///
/// # Errors
/// Where the process cannot be started, or fails.
pub fn of(work: &Work) -> Result<f64> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let output = Command::new(program).env(ASKED, work.id()).output().context("cannot start this program")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed on its own: {}", work.id(), said.trim());
    let bytes: u64 = String::from_utf8_lossy(&output.stdout).trim().parse().context("no number of bytes")?;
    Ok(bytes as f64 / 1e9)
}
