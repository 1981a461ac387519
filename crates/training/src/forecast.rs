//! How long a run will take, said once in the log, after its first steps: whoever began days of work by a published budget should
//! learn of it in the first minute, and which setting would make it an hour. A bar shows the same, but not in a log file.

use std::time::Duration;

/// What is looked at before anything is said.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// Steps before anything is said: the first ones allocate.
const FIRST_STEPS: u64 = 10;

/// Work that is shorter than this needs no word beside its bar.
const WORTH_SAYING: f64 = 15.0 * 60.0;

/// Work that is longer than this is told what would take an hour.
const WORTH_CHANGING: f64 = 90.0 * 60.0;

/// The setting that decides how long a run takes.
#[derive(Clone, Copy, Debug)]
pub struct Length {
    /// The setting, `train.epochs`.
    pub setting: &'static str,
    /// Its value.
    pub count: u64,
    /// Steps that each takes, such as those of an epoch.
    pub steps: u64,
    /// What each takes beside its steps, such as the validation of an epoch.
    pub beside: Duration,
    /// Whether the run may end before.
    pub may_end_early: bool,
}

/// A forecast that is still to be made.
#[derive(Debug)]
pub struct Forecast {
    length: Length,
    /// Steps done, of which the first ones by an earlier process.
    done: u64,
    /// Steps of this process, and what they took.
    taken: (u64, Duration),
    said: bool,
}

impl Forecast {
    /// Of a run that begins, or goes on, after `done` steps.
    pub fn new(length: Length, done: u64) -> Self {
        Self { length, done, taken: (0, Duration::ZERO), said: false }
    }

    /// What to say after `steps` more that took so long; nothing but once, and nothing about short work.
    pub fn advance(&mut self, took: Duration, steps: u64) -> Option<String> {
        self.done += steps;
        self.taken = (self.taken.0 + steps, self.taken.1 + took);
        let (taken, elapsed) = self.taken;
        if self.said || taken < FIRST_STEPS || elapsed < FIRST_LOOK {
            return None;
        }
        self.said = true;
        let done = self.done;
        let Length { setting, count, steps, beside, may_end_early } = self.length;
        let a_step = elapsed.as_secs_f64() / taken as f64;
        let each = a_step * steps as f64 + beside.as_secs_f64();
        let left = each * (count as f64 - done as f64 / steps.max(1) as f64);
        if left < WORTH_SAYING {
            return None;
        }
        let most = if may_end_early { "at most " } else { "" };
        let said = format!("{most}about {} left for {setting}={count} ({})", told(left), rate(a_step));
        if left < WORTH_CHANGING || count < 2 {
            return Some(said);
        }
        let hour = ((3600.0 / each) as u64).clamp(1, count - 1);
        Some(format!("{said}; {setting}={hour} would take {}", told(each * hour as f64)))
    }
}

/// Seconds as one would say them: 40 min, 31 h, 4 days.
pub fn told(seconds: f64) -> String {
    let (minutes, hours) = (seconds / 60.0, seconds / 3600.0);
    match () {
        () if seconds < 90.0 => format!("{seconds:.0} s"),
        () if minutes < 90.0 => format!("{minutes:.0} min"),
        () if hours < 10.0 => format!("{hours:.1} h"),
        () if hours < 72.0 => format!("{hours:.0} h"),
        () => format!("{:.0} days", hours / 24.0),
    }
}

/// Seconds a step, or steps a second where they are many.
fn rate(a_step: f64) -> String {
    if a_step >= 0.01 {
        format!("{a_step:.2} s a step")
    } else {
        format!("{:.0} steps a second", 1.0 / a_step)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Forecast, Length, told};

    const SECOND: Duration = Duration::from_secs(1);

    fn epochs(count: u64, beside: u64) -> Length {
        Length {
            setting: "train.epochs",
            count,
            steps: 1320,
            beside: SECOND * beside as u32,
            may_end_early: true,
        }
    }

    #[test]
    fn days_of_work_are_told_of_once() {
        let mut forecast = Forecast::new(epochs(200, 0), 0);
        assert_eq!(forecast.advance(9 * SECOND, 16), None, "too early");
        assert_eq!(
            forecast.advance(48 * SECOND, 84).as_deref(),
            Some(
                "at most about 42 h left for train.epochs=200 (0.57 s a step); train.epochs=4 would take 50 min"
            )
        );
        assert_eq!(forecast.advance(3 * SECOND, 5), None, "said already");
    }

    #[test]
    fn validations_count_and_what_is_done_does_not() {
        // 190 of 200 epochs were done before: ten are left, each 1,320 steps of .1 s and a validation of 68 s.
        let mut forecast = Forecast::new(epochs(200, 68), 190 * 1320);
        let said = forecast.advance(10 * SECOND, 100);
        assert_eq!(said.as_deref(), Some("at most about 33 min left for train.epochs=200 (0.10 s a step)"));
    }

    #[test]
    fn short_work_is_not_spoken_of() {
        assert_eq!(Forecast::new(epochs(2, 0), 0).advance(10 * SECOND, 1000), None);
    }

    #[test]
    fn nothing_is_said_of_a_few_steps_however_slow() {
        assert_eq!(Forecast::new(epochs(200, 0), 0).advance(1000 * SECOND, 9), None);
    }

    #[test]
    fn one_epoch_of_days_is_not_told_to_be_less_than_one() {
        let mut forecast = Forecast::new(epochs(1, 0), 0);
        let said = forecast.advance(1000 * SECOND, 10);
        assert_eq!(said.as_deref(), Some("at most about 36 h left for train.epochs=1 (100.00 s a step)"));
    }

    #[test]
    fn times_are_told_in_the_unit_one_would_use() {
        let cases =
            [(3.0, "3 s"), (600.0, "10 min"), (7000.0, "1.9 h"), (150_000.0, "42 h"), (1e6, "12 days")];
        for (seconds, expected) in cases {
            assert_eq!(told(seconds), expected);
        }
    }
}
