//! Does the work fit into memory? A stage adds up what it is about to allocate, and is refused before it does where that is
//! clearly more than there is: the system would kill it without a word, an hour later or at once.
//!
//! An estimate may be off by half. So what is refused is only that of which even the half does not fit; where the whole does
//! not, a warning says so.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Refusal;

/// Memory of a process that does nothing much: the binary, its threads, buffers of operations.
const IDLE: f64 = 24.0 * MIB;
const MIB: f64 = 1024.0 * 1024.0;
const GIB: f64 = 1024.0 * MIB;
/// Share of an estimate that is needed for certain.
const CERTAIN: f64 = 0.5;

/// What a piece of work needs, part by part.
#[derive(Clone, Debug, Default)]
pub struct Need {
    parts: Vec<(String, f64, &'static [&'static str])>,
}

/// Memory that can still be had, and what sets its limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Available {
    /// Bytes.
    pub bytes: f64,
    /// In words.
    pub by: &'static str,
}

impl Need {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another part: what it is, its bytes, and the settings that make it larger or smaller.
    #[must_use]
    pub fn part(mut self, what: impl Into<String>, bytes: f64, settings: &'static [&'static str]) -> Self {
        self.parts.push((what.into(), bytes, settings));
        self
    }

    /// All parts together, and the process itself, in bytes.
    pub fn bytes(&self) -> f64 {
        IDLE + self.parts.iter().map(|(_, bytes, _)| bytes).sum::<f64>()
    }

    /// Holds the need against what the system has left.
    ///
    /// # Errors
    /// A refusal that names the largest parts and the settings to lower.
    pub fn check(&self) -> Result<(), Refusal> {
        tracing::debug!("about {} of memory is needed", in_words(self.bytes()));
        match available() {
            Some(available) => self.check_against(&available),
            None => Ok(()),
        }
    }

    /// The same, against this.
    ///
    /// # Errors
    /// As [`Need::check`].
    pub fn check_against(&self, available: &Available) -> Result<(), Refusal> {
        if self.bytes() <= available.bytes {
            return Ok(());
        }
        let mut parts: Vec<_> =
            self.parts.iter().filter(|(_, bytes, _)| *bytes >= 0.05 * self.bytes()).collect();
        parts.sort_by(|left, right| right.1.total_cmp(&left.1));
        let mut message = format!("this needs about {} of memory", in_words(self.bytes()));
        for (place, (what, bytes, _)) in parts.iter().enumerate() {
            let mark = if place == 0 { ':' } else { ',' };
            // Writing to a string cannot fail.
            write!(message, "{mark} {what} {}", in_words(*bytes)).ok();
        }
        let left = in_words(available.bytes.max(0.0));
        write!(message, "; {left} can be had ({})", available.by).ok();
        let mut settings: Vec<&str> = Vec::new();
        for name in parts.iter().flat_map(|(_, _, settings)| settings.iter()) {
            if !settings.contains(name) {
                settings.push(name);
            }
        }
        let advice = match settings.as_slice() {
            [] => "give it more".to_owned(),
            settings => format!("lower {}", settings.join(", ")),
        };
        if CERTAIN * self.bytes() > available.bytes {
            return Err(Refusal::new(format!("{message}; {advice}")));
        }
        tracing::warn!("{message}; if it does not fit, {advice}");
        Ok(())
    }
}

/// Holds what loading the checkpoint at `model` needs, the bytes of the file and the numbers they become, against what is left. A
/// file that is not there is for its reader to tell.
///
/// # Errors
/// As [`Need::check`].
pub fn check_loading(model: &Path) -> Result<(), Refusal> {
    let size = fs::metadata(model).map_or(0, |metadata| metadata.len());
    Need::new().part(format!("loading {}", model.display()), 2.0 * size as f64, &[]).check()
}

/// `1.5 GiB`, or MiB where it is less than one.
fn in_words(bytes: f64) -> String {
    match bytes {
        _ if bytes >= 1e6 * GIB => format!("{:.1e} GiB", bytes / GIB),
        _ if bytes >= GIB => format!("{:.1} GiB", bytes / GIB),
        _ => format!("{:.0} MiB", bytes / MIB),
    }
}

/// The least of what the machine, the control group and the process' own limits leave. `None` where the system says nothing.
pub fn available() -> Option<Available> {
    let found = [machine(), group(), limits()];
    found.into_iter().flatten().min_by(|left, right| left.bytes.total_cmp(&right.bytes))
}

/// A line `NAME: 123 kB` of a file below `/proc`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()? * 1024.0)
}

/// What is free, or could be made so, and swap.
fn machine() -> Option<Available> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let bytes = kilobytes(&text, "MemAvailable")? + kilobytes(&text, "SwapFree").unwrap_or(0.0);
    Some(Available { bytes, by: "of this machine's memory" })
}

/// What the control groups that this process is in leave: of a container, or of a job under a scheduler.
fn group() -> Option<Available> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut least: Option<f64> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        // Version 2 has no list of controllers; in version 1 memory has a tree of its own.
        let (root, limit, usage) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max", "memory.current"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
            _ => continue,
        };
        let root = PathBuf::from(root);
        let mut directory = root.join(path.trim_start_matches('/'));
        // The limit of every group above holds as well. In a container the path may be that of the host: then the root is it.
        loop {
            let number =
                |name: &str| fs::read_to_string(directory.join(name)).ok()?.trim().parse::<f64>().ok();
            if let (Some(limit), Some(usage)) = (number(limit), number(usage)) {
                let statistics = fs::read_to_string(directory.join("memory.stat")).unwrap_or_default();
                let cached = |name: &str| {
                    let line = statistics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
                    line.and_then(|line| line.trim().parse::<f64>().ok()).unwrap_or(0.0)
                };
                // Files in the cache give way.
                let left = limit - usage + cached("inactive_file") + cached("active_file");
                least = Some(least.map_or(left, |least| least.min(left)));
            }
            if directory == root || !directory.pop() || !directory.starts_with(&root) {
                break;
            }
        }
    }
    Some(Available { bytes: least?, by: "left by the memory limit of the container or job" })
}

/// What `ulimit -v` and `ulimit -d` leave. The allocator reserves addresses that it has not handed out yet, so what counts is the
/// memory in use and not the addresses taken.
#[cfg(unix)]
fn limits() -> Option<Available> {
    use rustix::process::{Resource, getrlimit};
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let used = kilobytes(&status, "VmRSS").unwrap_or(0.0);
    let least = [Resource::As, Resource::Data].into_iter().filter_map(|of| getrlimit(of).current).min()?;
    Some(Available {
        bytes: least as f64 - used,
        by: "left by the limit of this process, `ulimit -v` or `-d`",
    })
}

/// What limits of a process leave: not known here.
#[cfg(not(unix))]
fn limits() -> Option<Available> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(gib: f64) -> Need {
        Need::new()
            .part("604,000,000 parameters", gib * GIB, &["model.hidden", "model.blocks"])
            .part("a batch", 0.3 * gib * GIB, &["train.batch", "model.hidden"])
            .part("crumbs", 1.0, &["evaluate.batch"])
    }

    #[test]
    fn what_does_not_fit_by_half_is_refused_with_the_settings_to_lower() {
        let available = Available { bytes: 4.0 * GIB, by: "of this machine's memory" };
        assert!(need(2.0).check_against(&available).is_ok());
        // 5.2 GiB may be 2.6.
        assert!(need(4.0).check_against(&available).is_ok());
        let message = need(10.0).check_against(&available).unwrap_err().to_string();
        assert_eq!(
            message,
            "this needs about 13.0 GiB of memory: 604,000,000 parameters 10.0 GiB, a batch 3.0 GiB; 4.0 GiB can be had (of this \
             machine's memory); lower model.hidden, model.blocks, train.batch"
        );
        let small = Available { bytes: 10.0 * MIB, by: "of this machine's memory" };
        let alone = Need::new().part("loading model.safetensors", 100.0 * MIB, &[]).check_against(&small);
        let message = alone.unwrap_err().to_string();
        assert!(message.ends_with("10 MiB can be had (of this machine's memory); give it more"), "{message}");
        let endless = need(1e12).check_against(&available).unwrap_err().to_string();
        assert!(endless.contains("1.3e12 GiB"), "{endless}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_says_what_is_left() {
        let left = available().unwrap();
        assert!(left.bytes > 10.0 * MIB && left.bytes < 1e6 * GIB, "{left:?}");
    }
}
