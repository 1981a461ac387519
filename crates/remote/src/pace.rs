//! How fast a service is asked: never above the rate that the user allows, never before it asks to be asked again, and after a
//! failure later and later.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ureq::http::HeaderMap;

/// How long a wait goes on at most without looking for an interruption.
const GLANCE: Duration = Duration::from_millis(50);
/// The first wait after a failure; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait after a failure for which the service names none.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A number of seconds above this is a point in time.
const EPOCH: u64 = 1_000_000_000;

/// When the next question may go out. Threads share one.
#[derive(Debug)]
pub struct Pace {
    /// Time that a question takes up; zero where no rate was named.
    each: Duration,
    /// When all that was allowed so far is over, and until when the service asks for quiet.
    next: Mutex<Instant>,
}

impl Pace {
    /// The pace of so many questions a second at most.
    pub fn new(rate: Option<f64>) -> Self {
        let each = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        Self { each, next: Mutex::new(Instant::now()) }
    }

    /// Questions that may go out together: those of a second.
    pub fn at_once(&self) -> usize {
        if self.each.is_zero() {
            usize::MAX
        } else {
            (1.0 / self.each.as_secs_f64()).round().max(1.0) as usize
        }
    }

    /// Waits until so many questions may go out together, and takes up their time. False where `interrupted` was true first: then
    /// nothing may go out.
    pub fn wait(&self, questions: usize, interrupted: &dyn Fn() -> bool) -> bool {
        loop {
            if interrupted() {
                return false;
            }
            let left = {
                let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
                let now = Instant::now();
                if *next <= now {
                    *next = now + self.each.saturating_mul(questions as u32);
                    return true;
                }
                *next - now
            };
            std::thread::sleep(left.min(GLANCE));
        }
    }

    /// Nothing goes out for so long.
    pub fn pause(&self, wait: Duration) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        // A wait beyond what a clock can tell is one that never ends; a day later it is looked at again.
        let until = Instant::now().checked_add(wait.min(Duration::from_secs(24 * 3600)));
        *next = (*next).max(until.unwrap_or_else(Instant::now));
    }
}

/// The wait after the `failures`-th failure in a row, from 1.
pub fn back_off(failures: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << (failures.clamp(1, 16) - 1)).min(LONGEST_WAIT)
}

/// How long a service asks to be left alone, by the headers of an answer: `Retry-After` (seconds or a date), or, where nothing is left
/// of a quota, the time until it is renewed (`RateLimit`, `RateLimit-Remaining` and `RateLimit-Reset`, the same with `X-`).
pub fn asked_to_wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(after) = text("retry-after").and_then(retry_after) {
        return Some(after);
    }
    let number = |names: [&str; 2]| names.into_iter().find_map(|name| text(name)?.parse::<u64>().ok());
    let quota = match (
        number(["ratelimit-remaining", "x-ratelimit-remaining"]),
        number(["ratelimit-reset", "x-ratelimit-reset"]),
    ) {
        (Some(left), Some(reset)) => Some((left, reset)),
        _ => text("ratelimit").and_then(combined),
    };
    let (left, reset) = quota?;
    (left == 0).then(|| seconds_until(reset))
}

/// The value of `Retry-After`.
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO))
}

/// What is left of a quota and in how many seconds it is renewed, from `limit=10, remaining=0, reset=7` or `"name";r=0;t=7`.
fn combined(text: &str) -> Option<(u64, u64)> {
    let parameters = text.split([',', ';']).filter_map(|part| {
        let (name, value) = part.split_once('=')?;
        Some((name.trim(), value.trim().parse::<u64>().ok()?))
    });
    let (mut left, mut reset) = (None, None);
    for (name, value) in parameters {
        match name {
            "remaining" | "r" => left = Some(value),
            "reset" | "t" => reset = Some(value),
            _ => {}
        }
    }
    left.zip(reset)
}

/// Some services name a point in time where others name the seconds left.
fn seconds_until(reset: u64) -> Duration {
    if reset < EPOCH {
        return Duration::from_secs(reset);
    }
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(reset.min(u64::from(u32::MAX)));
    then.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn waits(headers: &[(&'static str, &str)]) -> Option<u64> {
        let map: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        asked_to_wait(&map).map(|wait| wait.as_secs())
    }

    #[test]
    fn headers_say_how_long_to_wait() {
        assert_eq!(waits(&[("retry-after", "7")]), Some(7));
        assert_eq!(
            waits(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")]),
            Some(0),
            "a date that is over"
        );
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        assert!((98..=100).contains(&waits(&[("retry-after", &later)]).unwrap()));
        assert_eq!(waits(&[("ratelimit-remaining", "0"), ("ratelimit-reset", "9")]), Some(9));
        assert_eq!(waits(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1000000001")]), Some(0));
        assert_eq!(waits(&[("ratelimit", "limit=10, remaining=0, reset=8")]), Some(8));
        assert_eq!(waits(&[("ratelimit", "\"default\";r=0;t=6")]), Some(6));
        for enough in
            [&[("ratelimit-remaining", "1"), ("ratelimit-reset", "9")][..], &[("retry-after", "soon")], &[]]
        {
            assert_eq!(waits(enough), None, "{enough:?}");
        }
    }

    #[test]
    fn each_failure_makes_the_wait_longer_up_to_a_minute() {
        let waits: Vec<f64> = (1..=9).map(|failures| back_off(failures).as_secs_f64()).collect();
        assert_eq!(waits, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
        assert_eq!((back_off(0), back_off(u32::MAX)), (FIRST_WAIT, LONGEST_WAIT));
    }

    #[test]
    fn questions_go_out_no_faster_than_the_rate() {
        let pace = Pace::new(Some(100.0));
        let begun = Instant::now();
        for questions in [3, 1, 4, 1] {
            assert!(pace.wait(questions, &|| false));
        }
        // The last has to wait for the eight before it.
        assert!(begun.elapsed() >= Duration::from_millis(80));
    }

    #[test]
    fn an_interruption_ends_a_wait_and_nothing_goes_out() {
        let pace = Pace::new(None);
        pace.pause(Duration::from_secs(3600));
        let looks = Cell::new(0);
        assert!(!pace.wait(1, &|| looks.replace(looks.get() + 1) == 2));
        assert_eq!(looks.get(), 3);
    }
}
