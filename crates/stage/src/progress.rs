//! Progress bars on stderr, drawn below the log. They hide by themselves where stderr is no terminal.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, WeakProgressBar};

/// How often progress is looked at that goes to the log.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The bars whose progress goes to the log; `None` where nobody asked for that.
static LOGGED: Mutex<Option<Vec<WeakProgressBar>>> = Mutex::new(None);

/// All bars of the process, so that the log can move them aside.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// The set that every bar belongs to.
pub(crate) fn bars() -> &'static MultiProgress {
    &BARS
}

/// A bar over `total` steps with rate and time left. Hidden when `quiet`. It vanishes with `finish_and_clear`.
pub fn bar(total: u64, label: &str, quiet: bool) -> ProgressBar {
    shown(total, label, quiet, "{msg} {wide_bar} {human_pos}/{human_len} {per_sec}, {eta} left")
}

/// A bar over `total` bytes, for reading and downloading.
pub fn byte_bar(total: u64, label: &str, quiet: bool) -> ProgressBar {
    shown(total, label, quiet, "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left")
}

fn shown(total: u64, label: &str, quiet: bool, template: &str) -> ProgressBar {
    if quiet {
        return ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
    }
    let bar = ProgressBar::new(total);
    if let Some(logged) = LOGGED.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        logged.push(bar.downgrade());
        // Said at once, so that work too short to be looked at is heard of too.
        tracing::info!(position = 0_u64, total, "{label}");
    }
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(label.to_owned());
    BARS.add(bar)
}

/// Log the progress of every bar from now on, whether it is drawn or not.
pub(crate) fn log() {
    *LOGGED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
    // It ends with the process, and what it has not said by then nobody needs.
    std::thread::spawn(|| {
        let mut last = None;
        loop {
            std::thread::sleep(LOOK_EVERY);
            let bars: Vec<ProgressBar> = match LOGGED.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
            {
                Some(logged) => {
                    logged.retain(|bar| bar.upgrade().is_some_and(|bar| !bar.is_finished()));
                    logged.iter().filter_map(WeakProgressBar::upgrade).collect()
                }
                None => return,
            };
            // The one that began last: another may be waiting for it to end.
            let Some(bar) = bars.last() else { continue };
            let (position, total, message) = (bar.position(), bar.length().unwrap_or(0), bar.message());
            let now = Some((position, total, message.clone()));
            if now != last {
                tracing::info!(position, total, "{message}");
                last = now;
            }
        }
    });
}
