//! The flags of stages that train: how work is taken up again that was cut off.

use std::time::Duration;

/// Flags of a stage that saves its state as it goes; flatten it into the stage's own.
#[derive(Clone, Debug, clap::Args)]
pub struct Resume {
    /// Go on where an interrupted run of the same command was
    ///
    /// The state lies in OUT.state; the result is the same bytes as without the interruption. Where there is no state, the
    /// work begins anew.
    #[arg(long)]
    pub resume: bool,

    /// Save the state for --resume at least every so many seconds; at the end of an epoch it is saved anyway
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub save_every: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "expected a number of seconds, 0 or more".to_owned())
}
