//! The model on its own threads. Questions that arrive while it answers others wait together and are answered together: the busier
//! the service, the larger its batches, and nobody waits for a batch to fill.
//!
//! Each thread answers a batch from the first layer to the list by itself. None waits for another, as they would that shared a batch and
//! had to meet at its end: what one has answered leaves while the others are still at work.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use axum::http::StatusCode;
use metrics::{Answers, listed};
use service::black_box::BlackBox;
use service::guard::clients::Asker;
use tokio::sync::oneshot;

use crate::problem::Problem;
use crate::telemetry::Telemetry;

/// Questions answered together at most.
const TOGETHER: usize = 256;

/// Questions that a thread takes where so many wait, be it less than its share: with fewer, what each batch costs by itself is felt.
const FEWEST: usize = 16;

/// Questions that may wait; whoever comes then is told to come again.
const WAITING: usize = 1 << 16;

/// What a model is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Whose account it is.
    pub asker: Asker,
    /// Its history.
    pub history: Vec<u32>,
    /// Length of the list.
    pub k: usize,
}

/// Why there is no list: the model's failure, or that of whoever stands behind it.
#[derive(Clone, Debug)]
enum Failure {
    Ours(String),
    Theirs(String),
}

/// A question, and where its answer goes.
struct Job {
    asked: Asked,
    reply: oneshot::Sender<Result<Vec<u32>, Failure>>,
}

/// What waits, and for whom.
#[derive(Default)]
struct Queue {
    line: Mutex<Line>,
    come: Condvar,
}

#[derive(Default)]
struct Line {
    jobs: VecDeque<Job>,
    /// Threads that sleep.
    asleep: usize,
    /// Threads that are being woken.
    called: usize,
    /// Nobody will ask any more.
    closed: bool,
}

impl Queue {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets these questions wait, or none of them where it is too late or there are too many.
    fn join(&self, jobs: Vec<Job>) -> bool {
        let mut line = self.line();
        if line.closed || line.jobs.len() + jobs.len() > WAITING {
            return false;
        }
        let wanted = jobs.len().div_ceil(FEWEST);
        line.jobs.extend(jobs);
        self.wake(line, wanted);
        true
    }

    /// Wakes so many threads, or those that sleep where they are fewer.
    fn wake(&self, mut line: MutexGuard<'_, Line>, wanted: usize) {
        let wanted = wanted.min(line.asleep);
        line.asleep -= wanted;
        line.called += wanted;
        drop(line);
        for _ in 0..wanted {
            self.come.notify_one();
        }
    }

    /// Takes the share of one of `threads`, as soon as anything waits. False when nothing more will come.
    fn take(&self, threads: usize, jobs: &mut Vec<Job>) -> bool {
        let mut line = self.line();
        let mut yielded = false;
        loop {
            let waiting = line.jobs.len();
            if waiting >= FEWEST || (yielded && waiting > 0) {
                let share = waiting.div_ceil(threads).clamp(FEWEST, TOGETHER).min(waiting);
                jobs.extend(line.jobs.drain(..share));
                return true;
            }
            if waiting > 0 {
                // Whoever is just now at the door comes along, if a processor is needed to let him in.
                yielded = true;
                drop(line);
                std::thread::yield_now();
                line = self.line();
            } else if line.closed {
                return false;
            } else {
                yielded = false;
                line = self.sleep(line);
            }
        }
    }

    fn sleep<'a>(&self, mut line: MutexGuard<'a, Line>) -> MutexGuard<'a, Line> {
        line.asleep += 1;
        while line.called == 0 {
            line = self.come.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        line.called -= 1;
        line
    }

    /// Nobody asks any more: threads answer what waits, and end.
    fn close(&self) {
        let mut line = self.line();
        line.closed = true;
        self.wake(line, usize::MAX);
    }
}

/// The way to the model. When it is dropped, and everything is answered, the model goes too.
pub struct Engine {
    queue: Arc<Queue>,
}

impl Engine {
    /// Gives each of `targets`, the same service as often as it may be asked at once, a thread.
    ///
    /// # Errors
    /// Where the system starts no thread.
    pub fn start(targets: Vec<Box<dyn BlackBox + Send>>, telemetry: &Arc<Telemetry>) -> Result<Self> {
        let engine = Self { queue: Arc::default() };
        let threads = targets.len();
        // One target has the threads of the pool to share its work with; several do theirs in a pool of their own each.
        let shares = threads == 1 && rayon::current_num_threads() > 1;
        for target in targets {
            let (queue, telemetry) = (Arc::clone(&engine.queue), Arc::clone(telemetry));
            let work = move || answer(target, threads, &queue, &telemetry);
            let begun = if shares {
                std::thread::Builder::new()
                    .name("model".to_owned())
                    .spawn(work)
                    .map(drop)
                    .context("cannot start the model's thread")
            } else {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(1)
                    .thread_name(|_| "model".to_owned())
                    .build()
                    .map(|pool| pool.spawn(work))
                    .context("cannot start the model's threads; give fewer with --threads")
            };
            begun?;
        }
        Ok(engine)
    }

    /// The lists of all these questions, in their order.
    ///
    /// # Errors
    /// A problem where too many wait, or the model fails.
    pub async fn ask(&self, questions: Vec<Asked>) -> Result<Vec<Vec<u32>>, Problem> {
        let queued = |asked| {
            let (reply, answer) = oneshot::channel();
            (Job { asked, reply }, answer)
        };
        let (jobs, answers): (Vec<Job>, Vec<_>) = questions.into_iter().map(queued).unzip();
        if !self.queue.join(jobs) {
            let busy = "more is asked than the model can answer; try again";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, busy).after(1));
        }
        let mut lists = Vec::with_capacity(answers.len());
        for answer in answers {
            match answer.await {
                Ok(Ok(list)) => lists.push(list),
                Ok(Err(Failure::Ours(message))) => {
                    tracing::error!("{message}");
                    return Err(Problem::internal("the model failed; the service's log says how"));
                }
                Ok(Err(Failure::Theirs(message))) => {
                    tracing::error!("{message}");
                    let detail = "the recommender behind this service does not answer";
                    return Err(Problem::new(StatusCode::BAD_GATEWAY, detail).after(1));
                }
                Err(_) => return Err(Problem::internal("the model's thread has ended")),
            }
        }
        Ok(lists)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn answer(mut target: Box<dyn BlackBox + Send>, threads: usize, queue: &Queue, telemetry: &Telemetry) {
    let mut jobs = Vec::new();
    while queue.take(threads, &mut jobs) {
        // Nobody waits any more for an answer that took too long.
        jobs.retain(|job| !job.reply.is_closed());
        // The target is asked once for each length of lists, shorter histories first: such as are as long as each other may go on from
        // what the model has read.
        jobs.sort_by_key(|job| (job.asked.k, job.asked.history.len()));
        telemetry.passed(jobs.len());
        while let Some(k) = jobs.first().map(|job| job.asked.k) {
            let alike = jobs.partition_point(|job| job.asked.k == k);
            let answered = catch_unwind(AssertUnwindSafe(|| lists(&mut *target, &jobs[..alike], k)))
                .unwrap_or_else(|_| Err(Failure::Ours("the model panicked".to_owned())));
            for (row, job) in jobs.drain(..alike).enumerate() {
                // Whoever hung up wants no answer.
                _ = job.reply.send(match &answered {
                    Ok(answers) => Ok(listed(answers.row(row)).to_vec()),
                    Err(failure) => Err(failure.clone()),
                });
            }
        }
    }
}

/// The lists of `k` that these questions are to have.
fn lists(target: &mut dyn BlackBox, jobs: &[Job], k: usize) -> Result<Answers, Failure> {
    let histories: Vec<&[u32]> = jobs.iter().map(|job| &*job.asked.history).collect();
    let askers: Vec<Asker> = jobs.iter().map(|job| job.asked.asker).collect();
    target.top_k_of(&askers, &histories, k).map_err(|error| match error {
        service::Error::Failed(_) => Failure::Theirs(format!("{error:#}")),
        error => Failure::Ours(format!("{error:#}")),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use super::*;

    /// Answers with the last item of the history, over and over, waits where told to, and panics at item 13.
    struct Echo {
        gate: Arc<Mutex<()>>,
        _end: mpsc::Sender<()>,
    }

    impl BlackBox for Echo {
        fn top_k(&mut self, histories: &[&[u32]], k: usize) -> service::Result<Answers> {
            drop(self.gate.lock().unwrap_or_else(PoisonError::into_inner));
            let last = |history: &&[u32]| history[history.len() - 1];
            assert!(!histories.iter().any(|history| last(history) == 13), "thirteen");
            Ok(Answers { k, ids: histories.iter().flat_map(|history| vec![last(history); k]).collect() })
        }

        fn items(&self) -> usize {
            20
        }

        fn queries(&self) -> u64 {
            0
        }

        fn accounts(&self) -> u64 {
            0
        }
    }

    /// An engine of so many threads, a gate at which they can be stopped, and what falls silent when they have ended.
    fn engine(threads: usize) -> (Engine, Arc<Mutex<()>>, mpsc::Receiver<()>) {
        let (end, ended) = mpsc::channel();
        let gate = Arc::default();
        let target =
            |_| -> Box<dyn BlackBox + Send> { Box::new(Echo { gate: Arc::clone(&gate), _end: end.clone() }) };
        let engine = Engine::start((0..threads).map(target).collect(), &Arc::default()).unwrap();
        (engine, gate, ended)
    }

    fn asked(item: u32, k: usize) -> Asked {
        let asker = Asker { client: None, account: 1 };
        Asked { asker, history: vec![1; 1 + item as usize % 3].into_iter().chain([item]).collect(), k }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap()
    }

    #[test]
    fn everybody_gets_what_he_asked_for() {
        let (engine, ..) = engine(3);
        let engine = Arc::new(engine);
        runtime().block_on(async {
            let asking: Vec<_> = (0..300usize)
                .map(|number| {
                    let engine = Arc::clone(&engine);
                    tokio::spawn(async move {
                        let of =
                            |place: usize| (1 + (number + place) as u32 % 12, 1 + (number * 7 + place) % 4);
                        let questions = (0..=number % 40).map(of);
                        let lists = engine.ask(questions.clone().map(|(item, k)| asked(item, k)).collect());
                        let expected: Vec<Vec<u32>> = questions.map(|(item, k)| vec![item; k]).collect();
                        assert_eq!(lists.await.unwrap(), expected);
                    })
                })
                .collect();
            for asking in asking {
                asking.await.unwrap();
            }
        });
    }

    #[test]
    fn a_model_that_panics_is_asked_again() {
        let (engine, ..) = engine(1);
        runtime().block_on(async {
            let problem = engine.ask(vec![asked(2, 1), asked(13, 1)]).await.unwrap_err();
            assert_eq!(problem.status, StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(engine.ask(vec![asked(2, 1)]).await.unwrap(), [[2]]);
        });
    }

    #[test]
    fn whoever_finds_too_many_waiting_is_sent_away() {
        let (engine, gate, _ended) = engine(2);
        let (engine, runtime) = (Arc::new(engine), runtime());
        let held = gate.lock().unwrap();
        let others = Arc::clone(&engine);
        let all = runtime.spawn(async move { others.ask(vec![asked(3, 2); WAITING]).await });
        let begun = Instant::now();
        // Until the threads stand at the gate with what they took, and the others wait.
        while engine.queue.line().jobs.len() != WAITING - 2 * TOGETHER {
            assert!(begun.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        }
        let problem = runtime.block_on(engine.ask(vec![asked(3, 2); 2 * TOGETHER + 1])).unwrap_err();
        assert_eq!((problem.status.as_u16(), problem.retry_after), (503, Some(1)));
        drop(held);
        assert_eq!(runtime.block_on(all).unwrap().unwrap().len(), WAITING);
    }

    #[test]
    fn threads_end_with_the_engine_once_all_is_answered() {
        let (engine, gate, ended) = engine(3);
        let held = gate.lock().unwrap();
        let (reply, answer) = oneshot::channel();
        assert!(engine.queue.join(vec![Job { asked: asked(4, 1), reply }]));
        drop(engine);
        drop(held);
        assert_eq!(answer.blocking_recv().unwrap().unwrap(), [4]);
        let silent = ended.recv_timeout(Duration::from_secs(20));
        assert_eq!(silent, Err(mpsc::RecvTimeoutError::Disconnected));
    }

    #[test]
    fn a_thread_takes_its_share_but_no_crumbs() {
        let queue = Queue::default();
        let jobs = (0..100).map(|_| Job { asked: asked(1, 1), reply: oneshot::channel().0 }).collect();
        assert!(queue.join(jobs));
        let shares: Vec<usize> = std::iter::from_fn(|| {
            let mut jobs = Vec::new();
            (!queue.line().jobs.is_empty() && queue.take(2, &mut jobs)).then_some(jobs.len())
        })
        .collect();
        assert_eq!(shares, [50, 25, 16, 9]);
    }
}
