//! Progress bars on stderr, drawn below the log. They hide by themselves where stderr is no terminal.

use std::sync::LazyLock;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

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
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(label.to_owned());
    BARS.add(bar)
}
