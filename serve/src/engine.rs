//! The model on its own threads. Questions that arrive while it answers others wait together and are answered together: the busier
//! the service, the larger its batches, and nobody waits for a batch to fill.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::http::StatusCode;
use metrics::listed;
use service::black_box::BlackBox;
use service::guard::clients::Asker;
use tokio::sync::{mpsc, oneshot};

use crate::problem::Problem;
use crate::telemetry::Telemetry;

/// Questions answered together at most.
const TOGETHER: usize = 256;

/// Requests that may wait; whoever comes then is told to come again.
const WAITING: usize = 4096;

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

/// Lists, or why there are none: the model's failure, or that of whoever stands behind it.
type Answered = Result<Vec<Vec<u32>>, Failure>;

#[derive(Clone, Debug)]
enum Failure {
    Ours(String),
    Theirs(String),
}

/// The questions of a request, and where their answers go.
struct Job {
    questions: Vec<Asked>,
    reply: oneshot::Sender<Answered>,
}

/// The way to the model. When the last one is dropped, and everything is answered, the model goes too.
#[derive(Clone)]
pub struct Engine {
    jobs: mpsc::Sender<Job>,
}

impl Engine {
    /// Gives the target a thread, from which it shares the pool.
    ///
    /// # Errors
    /// Where the system starts no thread.
    pub fn start(target: Box<dyn BlackBox + Send>, telemetry: Arc<Telemetry>) -> Result<Self> {
        let (jobs, waiting) = mpsc::channel(WAITING);
        std::thread::Builder::new()
            .name("model".to_owned())
            .spawn(move || answer(target, waiting, &telemetry))
            .context("cannot start the model's thread")?;
        Ok(Self { jobs })
    }

    /// The lists of all these questions, in their order.
    ///
    /// # Errors
    /// A problem where too many wait, or the model fails.
    pub async fn ask(&self, questions: Vec<Asked>) -> Result<Vec<Vec<u32>>, Problem> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job { questions, reply }).map_err(|_| {
            let busy = "more is asked than the model can answer; try again";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, busy).after(1)
        })?;
        match answer.await {
            Ok(Ok(lists)) => Ok(lists),
            Ok(Err(Failure::Ours(message))) => {
                tracing::error!("{message}");
                Err(Problem::internal("the model failed; the service's log says how"))
            }
            Ok(Err(Failure::Theirs(message))) => {
                tracing::error!("{message}");
                let detail = "the recommender behind this service does not answer";
                Err(Problem::new(StatusCode::BAD_GATEWAY, detail).after(1))
            }
            Err(_) => Err(Problem::internal("the model's thread has ended")),
        }
    }
}

fn answer(mut target: Box<dyn BlackBox + Send>, mut waiting: mpsc::Receiver<Job>, telemetry: &Telemetry) {
    let mut jobs = Vec::new();
    while let Some(first) = waiting.blocking_recv() {
        let mut questions = first.questions.len();
        jobs.push(first);
        while questions < TOGETHER {
            let Ok(job) = waiting.try_recv() else { break };
            questions += job.questions.len();
            jobs.push(job);
        }
        // Nobody waits any more for an answer that took too long.
        jobs.retain(|job| !job.reply.is_closed());
        let asked: Vec<&Asked> = jobs.iter().flat_map(|job| &job.questions).collect();
        telemetry.passed(asked.len());
        let answered = catch_unwind(AssertUnwindSafe(|| lists(&mut *target, &asked)))
            .unwrap_or_else(|_| Err(Failure::Ours("the model panicked".to_owned())));
        match answered {
            Ok(lists) => {
                let mut lists = lists.into_iter();
                for job in jobs.drain(..) {
                    let own = lists.by_ref().take(job.questions.len()).collect();
                    // Whoever hung up wants no answer.
                    _ = job.reply.send(Ok(own));
                }
            }
            Err(failure) => {
                for job in jobs.drain(..) {
                    _ = job.reply.send(Err(failure.clone()));
                }
            }
        }
    }
}

/// The lists of questions of any lengths. The target is asked once for each length of lists, shorter histories first: such as are as long
/// as each other may go on from what the model has read.
fn lists(target: &mut dyn BlackBox, asked: &[&Asked]) -> Answered {
    let mut order: Vec<usize> = (0..asked.len()).collect();
    order.sort_by_key(|&place| (asked[place].k, asked[place].history.len()));
    let mut lists = vec![Vec::new(); asked.len()];
    for places in order.chunk_by(|&a, &b| asked[a].k == asked[b].k) {
        let histories: Vec<&[u32]> = places.iter().map(|&place| &*asked[place].history).collect();
        let askers: Vec<Asker> = places.iter().map(|&place| asked[place].asker).collect();
        let answers = target.top_k_of(&askers, &histories, asked[places[0]].k);
        let answers = answers.map_err(|error| match error {
            service::Error::Failed(_) => Failure::Theirs(format!("{error:#}")),
            error => Failure::Ours(format!("{error:#}")),
        })?;
        for (&place, list) in places.iter().zip(answers.iter()) {
            lists[place] = listed(list).to_vec();
        }
    }
    Ok(lists)
}
