//! How much somebody may ask: questions a second, and questions a day. A question of a batch counts as one of its own.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

const DAY: u64 = 24 * 60 * 60;

/// Most questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
pub struct Rates {
    /// Most questions a second, and at once; by default any number
    #[arg(long, value_name = "N")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<NonZeroU32>,
    /// Most questions a day (UTC); by default any number
    ///
    /// With --log the count survives the service; without, it begins anew with it.
    #[arg(long, value_name = "N")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_day: Option<NonZeroU32>,
}

impl Rates {
    /// These, and what they leave open as in `others`.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self { per_second: self.per_second.or(others.per_second), per_day: self.per_day.or(others.per_day) }
    }
}

/// What somebody asked on a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Day {
    /// Days since 1970 (UTC).
    pub number: u64,
    /// Questions.
    pub asked: u64,
}

/// What somebody has asked, and may.
#[derive(Debug)]
pub struct Limit {
    rates: Rates,
    second: Option<DefaultDirectRateLimiter>,
    day: Arc<Mutex<Day>>,
}

impl Limit {
    /// Nothing asked yet.
    pub fn new(rates: Rates) -> Self {
        let second = rates.per_second.map(|most| RateLimiter::direct(Quota::per_second(most)));
        Self { rates, second, day: Arc::default() }
    }

    /// What was asked stays, and from now on so much may be; what is asked of either counts for both.
    #[must_use]
    pub fn with_rates(&self, rates: Rates) -> Self {
        Self { day: Arc::clone(&self.day), ..Self::new(rates) }
    }

    fn day(&self) -> MutexGuard<'_, Day> {
        self.day.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was asked on the last day on which anything was.
    pub fn asked(&self) -> Day {
        *self.day()
    }

    /// Goes on from what was asked before the service started.
    pub fn resume(&self, day: Day) {
        *self.day() = day;
    }

    /// What may be asked.
    pub fn rates(&self) -> Rates {
        self.rates
    }

    /// Counts so many questions, or none of them.
    ///
    /// # Errors
    /// 429, with the time after which they may be asked; 413 where they are more than may ever be asked together.
    pub fn count(&self, questions: usize) -> Result<(), Problem> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        self.count_at(questions, now)
    }

    fn count_at(&self, questions: usize, now: u64) -> Result<(), Problem> {
        let Ok(questions) = u32::try_from(questions) else { return Err(Problem::bad("too many questions")) };
        let Some(questions) = NonZeroU32::new(questions) else { return Ok(()) };
        let refused = |detail: String| Problem::new(StatusCode::TOO_MANY_REQUESTS, detail);
        let mut day = self.day();
        if day.number != now / DAY {
            *day = Day { number: now / DAY, asked: 0 };
        }
        if let Some(most) = self.rates.per_day
            && day.asked + u64::from(questions.get()) > u64::from(most.get())
        {
            return Err(refused(format!("at most {most} questions a day")).after(DAY - now % DAY));
        }
        if let (Some(second), Some(most)) = (&self.second, self.rates.per_second) {
            match second.check_n(questions) {
                Ok(Ok(())) => {}
                Ok(Err(not_until)) => {
                    let wait = not_until.wait_time_from(DefaultClock::default().now());
                    return Err(
                        refused(format!("at most {most} questions a second")).after(wait.as_secs() + 1)
                    );
                }
                Err(_) => {
                    let detail = format!(
                        "{questions} questions at once, at most {most} a second may be asked; send fewer together"
                    );
                    return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
                }
            }
        }
        day.asked += u64::from(questions.get());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(per_second: u32, per_day: u32) -> Limit {
        Limit::new(Rates { per_second: NonZeroU32::new(per_second), per_day: NonZeroU32::new(per_day) })
    }

    #[test]
    fn a_day_has_its_questions_and_the_next_one_its_own() {
        let limit = limit(0, 5);
        let now = 10 * DAY + 100;
        assert!(limit.count_at(3, now).is_ok());
        let problem = limit.count_at(3, now).unwrap_err();
        assert_eq!((problem.status.as_u16(), problem.retry_after), (429, Some(DAY - 100)));
        assert!(limit.count_at(2, now).is_ok(), "what was refused is not counted");
        assert!(limit.count_at(1, now).is_err());
        let other = limit.with_rates(Rates { per_day: NonZeroU32::new(6), ..Rates::default() });
        assert!(other.count_at(2, now).is_err(), "what was asked stays");
        assert!(other.count_at(1, now).is_ok());
        assert_eq!((limit.asked(), other.asked()), (Day { number: 10, asked: 6 }, limit.asked()));
        let resumed = self::limit(0, 5);
        resumed.resume(Day { number: 10, asked: 4 });
        assert!(resumed.count_at(2, now).is_err() && resumed.count_at(1, now).is_ok());
        assert!(limit.count_at(5, now + DAY).is_ok());
    }

    #[test]
    fn a_second_has_its_questions() {
        let limit = limit(4, 0);
        assert_eq!(limit.count(5).unwrap_err().status.as_u16(), 413, "they never fit");
        assert!(limit.count(4).is_ok());
        let problem = limit.count(4).unwrap_err();
        assert_eq!((problem.status.as_u16(), problem.retry_after), (429, Some(1)));
    }

    #[test]
    fn who_has_no_limit_has_none() {
        let limit = limit(0, 0);
        assert!((0..100).all(|_| limit.count(1000).is_ok()));
    }
}
