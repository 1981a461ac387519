//! A recommender of somebody else's as a black box: questions go out a few at a time, at the pace that is allowed, each written down
//! before; what comes back is checked, kept, and handed on in the order of the questions. What is handed on depends neither on how many are
//! on their way at once, nor on what failed in between.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics::Answers;
use service::black_box::BlackBox;
use ureq::http::{HeaderMap, Method, StatusCode};

use crate::address::{base, words};
use crate::answer::{Id, check};
use crate::command::Program;
use crate::http::{Client, Outcome, key_header};
use crate::ledger::{Counts, Key, Ledger, key};
use crate::mapping::Mapping;
use crate::pace::{Pace, back_off};
use crate::protocol::{self, Question};
use crate::{Address, Catalogue, Error, Flags, Result};

/// How often a catalogue is asked for that does not come.
const CATALOGUE_RETRIES: u32 = 3;

/// A target that was found, with what it says of itself.
#[derive(Debug)]
pub struct Opened {
    /// Its items.
    pub catalogue: Catalogue,
    /// What messages and locks call it.
    pub name: String,
    way: Way,
    workers: usize,
    pace: Pace,
    retries: u32,
    prefix: Option<String>,
}

/// How it is reached.
#[derive(Debug)]
enum Way {
    /// A service of the laboratory's protocol.
    Own {
        client: Client,
        base: String,
        /// How many questions may go in one call; 1 once the service said that it knows no such thing.
        most: AtomicUsize,
    },
    /// Any other JSON service.
    Mapped { client: Client, mapping: Box<Mapping> },
    /// A program, once for each worker.
    Command {
        words: Vec<String>,
        timeout: Duration,
        /// Whether its first line has to be its catalogue; where that is in a file, it may be.
        introduces: bool,
        /// Each with whether it has not been asked yet.
        programs: Vec<Mutex<Option<(Program, bool)>>>,
    },
}

/// Finds the target at `address`, and asks which items it has unless a file says so.
///
/// # Errors
/// A refusal for an address, flag, key or file that cannot be used, or what is no catalogue; a failure where nobody answers.
pub fn open(address: &Address, flags: &Flags, interrupted: &dyn Fn() -> bool) -> Result<Opened> {
    flags.check(address)?;
    let given = flags.catalogue.as_deref().map(Catalogue::read).transpose()?;
    let (pace, workers) = (Pace::new(flags.rate), flags.workers(address));
    let (catalogue, way) = match address {
        Address::Directory(path) => {
            return Err(Error::refused(format!(
                "{} is a directory, and no target that others run",
                path.display()
            )));
        }
        Address::Http(text) => {
            let base = base(text)?;
            let mut headers = HeaderMap::new();
            let mapping = flags.mapping.as_deref().map(|path| Mapping::read(path, &base)).transpose()?;
            if let Some(mapping) = &mapping {
                headers.extend(mapping.headers.clone());
            }
            if let Some(name) = &flags.key_env {
                let (header, value) = key_header(name, &base)?;
                headers.insert(header, value);
            }
            let client = Client::new(headers, flags.key_env.clone(), flags.patience(), flags.ca.as_deref())?;
            let catalogue = match given {
                Some(catalogue) => catalogue,
                None => listed(&client, &base, &pace, flags.again().min(CATALOGUE_RETRIES), interrupted)?,
            };
            let way = match mapping {
                Some(mapping) => Way::Mapped { client, mapping: Box::new(mapping) },
                None => Way::Own { client, base, most: AtomicUsize::new(protocol::MOST) },
            };
            (catalogue, way)
        }
        Address::Command(command) => {
            let words = words(command)?;
            let (introduces, timeout) = (given.is_none(), flags.patience());
            let mut first = Program::start(&words, timeout)?;
            let catalogue = match given {
                Some(catalogue) => catalogue,
                None => Catalogue::from_json(&first.line()?, first.name())?,
            };
            let programs: Vec<_> = (0..workers).map(|_| Mutex::new(None)).collect();
            *lock(&programs[0]) = Some((first, true));
            (catalogue, Way::Command { words, timeout, introduces, programs })
        }
    };
    let (name, prefix) = (address.to_string(), flags.account_prefix.clone());
    let pace = match catalogue.per_second.map(f64::from) {
        Some(most) if flags.rate.is_none_or(|rate| rate > most) => {
            tracing::info!("{name} lets {most} questions a second be asked; no more go out");
            Pace::new(Some(most))
        }
        _ => pace,
    };
    Ok(Opened { catalogue, name, way, workers, pace, retries: flags.again(), prefix })
}

/// The catalogue at `/v1/items`.
fn listed(
    client: &Client,
    base: &str,
    pace: &Pace,
    retries: u32,
    interrupted: &dyn Fn() -> bool,
) -> Result<Catalogue> {
    let url = format!("{base}{}", protocol::ITEMS);
    let mut failures = 0;
    loop {
        if !pace.wait(1, interrupted) {
            return Err(Error::Failed(format!("interrupted before {url} answered")));
        }
        let (wait, why) = match client.get(&url) {
            Outcome::Answered(bytes, _) => return Catalogue::from_json(&bytes, &url),
            Outcome::Refused { status: Some(StatusCode::NOT_FOUND), why } => {
                return Err(Error::refused(format!(
                    "{why}; a service without that list needs --catalogue, and one that speaks otherwise --mapping as well"
                )));
            }
            Outcome::Refused { why, .. } => return Err(Error::refused(why)),
            Outcome::NotNow { wait, why } => (wait, why),
            Outcome::Perhaps(why) => (None, why),
        };
        failures += 1;
        if failures > retries {
            return Err(Error::Failed(format!("{why}; asked {failures} times")));
        }
        let wait = wait.unwrap_or_else(|| back_off(failures));
        tracing::warn!("{why}; asked again in {wait:?}");
        pace.pause(wait);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Opened {
    /// The black box. Questions are written down in `ledger`; none goes out once `interrupted` is true. `setting` is the key that says how
    /// long lists are, for messages, and account number i is called `prefix` and i, unless the user named another prefix.
    pub fn target<'a>(
        self,
        ledger: Ledger,
        interrupted: &'a (dyn Fn() -> bool + Sync),
        setting: &'static str,
        prefix: &str,
    ) -> RemoteTarget<'a> {
        let Self { catalogue, name, way, workers, pace, retries, prefix: named } = self;
        RemoteTarget {
            catalogue,
            name,
            way,
            workers,
            pace,
            retries,
            prefix: named.unwrap_or_else(|| prefix.to_owned()),
            ledger,
            interrupted,
            setting,
            queries: 0,
            accounts: 0,
            trouble: Mutex::new(BTreeMap::new()),
            progress: AtomicUsize::new(0),
        }
    }

    /// Refuses lists that are longer than the service says it answers.
    ///
    /// # Errors
    /// A refusal that names the `setting`, whose value `k` is.
    pub fn check_k(&self, setting: &str, k: usize) -> Result<()> {
        match self.catalogue.max_k {
            Some(most) if k > most => Err(Error::refused(format!(
                "{setting} is {k}, and {} answers lists of at most {most}; set it to {most} or less",
                self.name
            ))),
            _ => Ok(()),
        }
    }
}

/// A recommender that others run.
pub struct RemoteTarget<'a> {
    catalogue: Catalogue,
    name: String,
    way: Way,
    workers: usize,
    pace: Pace,
    retries: u32,
    prefix: String,
    ledger: Ledger,
    interrupted: &'a (dyn Fn() -> bool + Sync),
    setting: &'static str,
    queries: u64,
    accounts: u64,
    /// What failed, and how often.
    trouble: Mutex<BTreeMap<String, u64>>,
    /// How many calls were answered.
    progress: AtomicUsize,
}

/// A question that is to go out.
struct Pending<'a> {
    /// Its place among those that were asked for.
    row: usize,
    account: String,
    history: &'a [u32],
    key: Key,
}

/// The lists in an answer, or what is wrong with it.
type ReadLists<'a> = dyn Fn(&[u8]) -> std::result::Result<Vec<Vec<Id>>, String> + 'a;

/// What came of asking several questions together, or why none was answered.
enum Reply {
    Lists(Vec<Result<Vec<Id>>>),
    NotNow(Option<Duration>, String),
    Perhaps(String),
    /// None was answered; asking again is of no use.
    Refused(String),
    /// None was answered, and they may be asked one by one.
    OneByOne,
    /// It may have been answered; asking again is of no use.
    Broken(Error),
}

impl RemoteTarget<'_> {
    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.ledger.counts()
    }

    /// Questions ever asked for the output.
    pub fn ever_asked(&self) -> u64 {
        self.ledger.ever_asked()
    }

    /// The items of the service.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Says in the log what it took, and lets programs end.
    ///
    /// # Errors
    /// A disk that cannot be written; a refusal where a program wrote more lines than it was asked questions.
    pub fn conclude(&self) -> Result<()> {
        self.ledger.flush()?;
        let counts = self.counts();
        tracing::info!(
            "{}: {} questions asked, {} answered, {} lost",
            self.name,
            counts.asked,
            counts.answered,
            counts.lost()
        );
        for (why, times) in lock(&self.trouble).iter().filter(|(_, times)| **times > 1) {
            tracing::warn!("{times} times: {why}");
        }
        if let Way::Command { introduces, programs, .. } = &self.way {
            for program in programs {
                let Some((program, fresh)) = &mut *lock(program) else { continue };
                let may_introduce = *fresh && !introduces;
                if let Some(line) = program.finish().filter(|line| !(may_introduce && is_introduction(line)))
                {
                    return Err(self.surplus(&line));
                }
            }
        }
        Ok(())
    }

    /// What is wrong with a program that wrote a line which nobody asked for.
    fn surplus(&self, line: &[u8]) -> Error {
        let beginning = String::from_utf8_lossy(&line[..line.len().min(200)]);
        let beginning = crate::http::printable(beginning.trim());
        let kept = self.ledger.path().parent().map_or_else(String::new, |kept| {
            format!(
                "; what it answered before may stand beside the wrong question, so remove {} before it is asked again",
                kept.display()
            )
        });
        Error::refused(format!(
            "{} wrote more lines than it was asked questions, expected one for each, in their order; one begins with {beginning:?}{kept}",
            self.name
        ))
    }

    /// Asks all that is pending, several at once. Returns the answers with their rows, in no order.
    fn ask_all(&self, pending: &[Pending<'_>], k: usize) -> Result<Vec<(usize, Vec<u32>)>> {
        let together = self.together(pending.len());
        let chunks: Vec<&[Pending<'_>]> = pending.chunks(together).collect();
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (answers, failure) = (Mutex::new(Vec::with_capacity(pending.len())), Mutex::new(None));
        let work = |worker: usize| {
            while !stop.load(Ordering::Relaxed) {
                let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                if let Err(error) = self.ask_chunk(worker, chunk, k, &stop, &answers) {
                    stop.store(true, Ordering::Relaxed);
                    // The first error is what happened; what the others say follows from it.
                    lock(&failure).get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for worker in 1..self.workers.min(chunks.len()) {
                let work = &work;
                scope.spawn(move || work(worker));
            }
            work(0);
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(answers.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// How many of so many questions go in one call.
    fn together(&self, questions: usize) -> usize {
        match &self.way {
            Way::Own { most, .. } => {
                let most = most.load(Ordering::Relaxed).min(self.pace.at_once());
                questions.div_ceil(self.workers).clamp(1, most.max(1))
            }
            Way::Mapped { .. } | Way::Command { .. } => 1,
        }
    }

    /// Asks some questions together, again where that failed, until all are answered and kept.
    fn ask_chunk(
        &self,
        worker: usize,
        chunk: &[Pending<'_>],
        k: usize,
        stop: &AtomicBool,
        answers: &Mutex<Vec<(usize, Vec<u32>)>>,
    ) -> Result<()> {
        let interrupted = || stop.load(Ordering::Relaxed) || (self.interrupted)();
        let (mut left, mut failures, mut seen) = (chunk, 0, 0);
        while !left.is_empty() {
            let together = left.len().min(self.most());
            if !self.pace.wait(together, &interrupted) {
                return Err(Error::Interrupted(self.ledger.path().to_owned()));
            }
            let sent = &left[..self.ledger.reserve(together)?];
            let (wait, why, of_all) = match self.send(worker, sent, k) {
                Reply::Lists(lists) => {
                    self.progress.fetch_add(1, Ordering::Relaxed);
                    self.take(sent, lists, k, answers)?;
                    (left, failures) = (&left[sent.len()..], 0);
                    continue;
                }
                Reply::Refused(why) => {
                    self.ledger.withdraw(sent.len())?;
                    return Err(Error::refused(why));
                }
                Reply::OneByOne => {
                    self.ledger.withdraw(sent.len())?;
                    continue;
                }
                Reply::NotNow(wait, why) => {
                    self.ledger.withdraw(sent.len())?;
                    if failures > 0 {
                        // Perhaps so many at once are always too many.
                        self.allow(sent.len() / 2);
                    }
                    (wait, why, true)
                }
                Reply::Perhaps(why) => (None, why, false),
                Reply::Broken(error) => return Err(error),
            };
            // Where a service answers some calls and turns away others, each gets its turn in the end.
            let progress = self.progress.load(Ordering::Relaxed);
            failures = if of_all && progress != seen { 1 } else { failures + 1 };
            seen = progress;
            if failures > self.retries {
                let path = self.ledger.path().display();
                return Err(Error::Failed(format!(
                    "{why}; asked {failures} times. What was answered is kept in {path}, and --resume goes on from there"
                )));
            }
            // A service that names no time, or that turns away whoever comes when it said, is left alone longer and longer.
            let pause = wait.map_or_else(|| back_off(failures), |wait| wait.max(back_off(failures) / 8));
            self.note(&why, pause);
            if of_all {
                // What turns one away turns all away.
                self.pace.pause(pause);
            } else if !rest(pause, &interrupted) {
                return Err(Error::Interrupted(self.ledger.path().to_owned()));
            }
        }
        Ok(())
    }

    /// How many questions may go in one call.
    fn most(&self) -> usize {
        match &self.way {
            Way::Own { most, .. } => most.load(Ordering::Relaxed),
            Way::Mapped { .. } | Way::Command { .. } => 1,
        }
    }

    /// Lets no more than so many questions go in one call from now on.
    fn allow(&self, questions: usize) {
        if let Way::Own { most, .. } = &self.way {
            most.fetch_min(questions.max(1), Ordering::Relaxed);
        }
    }

    /// Says what failed, once aloud.
    fn note(&self, why: &str, wait: Duration) {
        let mut trouble = lock(&self.trouble);
        // What a service says may be new each time; the log is not to be filled with it.
        let known = trouble.contains_key(why) || trouble.len() >= 20;
        if known {
            tracing::debug!("{why}; asked again in {wait:?}");
        } else {
            tracing::warn!("{why}; asked again in {wait:?}");
        }
        if trouble.len() < 20 || trouble.contains_key(why) {
            *trouble.entry(why.to_owned()).or_default() += 1;
        }
    }

    /// Checks and keeps the lists answered to the questions that were sent. Those that can be used are kept whatever the others are.
    fn take(
        &self,
        sent: &[Pending<'_>],
        lists: Vec<Result<Vec<Id>>>,
        k: usize,
        answers: &Mutex<Vec<(usize, Vec<u32>)>>,
    ) -> Result<()> {
        let (mut kept, mut wrong) = (Vec::with_capacity(sent.len()), None);
        for (pending, list) in sent.iter().zip(lists) {
            match list.and_then(|list| check(&list, &self.catalogue, k, self.setting, &self.name)) {
                Ok(ids) => kept.push((pending.row, pending.key, ids)),
                Err(error) => wrong = wrong.or(Some(error)),
            }
        }
        let records: Vec<(Key, Vec<u32>)> = kept.iter().map(|(_, key, ids)| (*key, ids.clone())).collect();
        self.ledger.keep(&records)?;
        lock(answers).extend(kept.into_iter().map(|(row, _, ids)| (row, ids)));
        wrong.map_or(Ok(()), Err)
    }

    /// Sends some questions in one call.
    fn send(&self, worker: usize, sent: &[Pending<'_>], k: usize) -> Reply {
        let questions: Vec<Question<'_>> = sent
            .iter()
            .map(|pending| Question {
                account: &pending.account,
                history: pending.history.iter().map(|&item| self.catalogue.id(item)).collect(),
                k,
            })
            .collect();
        match &self.way {
            Way::Own { client, base, .. } => self.send_own(client, base, &questions),
            Way::Mapped { client, mapping } => {
                let (url, body) = match mapping.question(&questions[0]) {
                    Ok(question) => question,
                    Err(why) => return Reply::Refused(why),
                };
                self.reply(client.ask(&mapping.method, &url, body), &|bytes| Ok(vec![mapping.list(bytes)?]))
            }
            Way::Command { words, timeout, introduces, programs } => {
                let mut program = lock(&programs[worker]);
                let surplus = |line: &[u8]| self.surplus(line);
                match ask_program(&mut program, words, *timeout, *introduces, &questions[0], &surplus) {
                    Ok(line) => Reply::Lists(vec![
                        protocol::list(&line).map_err(|why| unreadable(&self.name, &why, &line)),
                    ]),
                    Err(error) => Reply::Broken(error),
                }
            }
        }
    }

    fn send_own(&self, client: &Client, base: &str, questions: &[Question<'_>]) -> Reply {
        if let [question] = questions {
            let url = format!("{base}{}", protocol::RECOMMEND);
            let outcome = client.ask(&Method::POST, &url, Some(protocol::one(question)));
            return self.reply(outcome, &|bytes| Ok(vec![protocol::list(bytes)?]));
        }
        let url = format!("{base}{}", protocol::BATCH);
        match client.ask(&Method::POST, &url, Some(protocol::several(questions))) {
            Outcome::Refused {
                status:
                    Some(
                        StatusCode::NOT_FOUND
                        | StatusCode::METHOD_NOT_ALLOWED
                        | StatusCode::PAYLOAD_TOO_LARGE,
                    ),
                why,
            } => {
                tracing::debug!("{why}; questions go one by one");
                self.allow(1);
                Reply::OneByOne
            }
            outcome => self.reply(outcome, &|bytes| protocol::lists(bytes, questions.len())),
        }
    }

    fn reply(&self, outcome: Outcome, lists: &ReadLists<'_>) -> Reply {
        match outcome {
            Outcome::Answered(bytes, wait) => {
                if let Some(wait) = wait {
                    self.pace.pause(wait);
                }
                match lists(&bytes) {
                    Ok(lists) => Reply::Lists(lists.into_iter().map(Ok).collect()),
                    Err(why) => Reply::Broken(unreadable(&self.name, &why, &bytes)),
                }
            }
            Outcome::NotNow { wait, why } => Reply::NotNow(wait, why),
            Outcome::Perhaps(why) => Reply::Perhaps(why),
            Outcome::Refused { why, .. } => Reply::Refused(why),
        }
    }
}

/// Waits; false where `interrupted` was true first.
fn rest(wait: Duration, interrupted: &dyn Fn() -> bool) -> bool {
    let own = Pace::new(None);
    own.pause(wait);
    own.wait(0, interrupted)
}

/// An answer that cannot be read.
fn unreadable(name: &str, why: &str, answer: &[u8]) -> Error {
    let beginning = String::from_utf8_lossy(&answer[..answer.len().min(200)]);
    let beginning = crate::http::printable(beginning.trim());
    Error::refused(format!("{name} answered what is no list: {why}; it began with {beginning:?}"))
}

/// Asks the program of a worker, which is started where it is not there yet.
fn ask_program(
    program: &mut Option<(Program, bool)>,
    words: &[String],
    timeout: Duration,
    introduces: bool,
    question: &Question<'_>,
    surplus: &dyn Fn(&[u8]) -> Error,
) -> Result<Vec<u8>> {
    let (program, fresh) = match program {
        Some((program, fresh)) => (program, std::mem::take(fresh)),
        none => {
            let mut started = Program::start(words, timeout)?;
            if introduces {
                started.line()?;
            }
            (&mut none.insert((started, false)).0, true)
        }
    };
    let mut may_introduce = fresh && !introduces;
    while let Some(line) = program.surplus() {
        if !std::mem::take(&mut may_introduce) || !is_introduction(&line) {
            return Err(surplus(&line));
        }
    }
    let line = program.ask(protocol::one(question))?;
    if may_introduce && is_introduction(&line) {
        return program.line();
    }
    Ok(line)
}

/// Whether a line is the catalogue of a program, with which one may begin although a file said what is in it.
fn is_introduction(line: &[u8]) -> bool {
    protocol::list(line).is_err() && Catalogue::from_json(line, "it").is_ok()
}

impl BlackBox for RemoteTarget<'_> {
    /// As [`Self::top_k_for`], of accounts that are numbered as they come.
    fn top_k(&mut self, histories: &[&[u32]], k: usize) -> service::Result<Answers> {
        let accounts: Vec<u64> = (self.queries..).take(histories.len()).collect();
        self.top_k_for(&accounts, histories, k)
    }

    fn top_k_for(&mut self, accounts: &[u64], histories: &[&[u32]], k: usize) -> service::Result<Answers> {
        let mut lists: Vec<Vec<u32>> = vec![Vec::new(); histories.len()];
        let mut pending = Vec::new();
        for (row, (&account, &history)) in accounts.iter().zip(histories).enumerate() {
            if history.is_empty() || history.iter().any(|&item| self.catalogue.id(item).is_empty()) {
                return Err(service::Error::Request(format!(
                    "history {row} is empty or holds an item that is not known"
                )));
            }
            let key = key(account, history, k);
            match self.ledger.recall(&key)? {
                Some(ids) if ids.len() == k => lists[row] = ids,
                _ => {
                    pending.push(Pending { row, account: format!("{}{account}", self.prefix), history, key });
                }
            }
        }
        if !pending.is_empty() {
            for (row, ids) in self.ask_all(&pending, k)? {
                lists[row] = ids;
            }
            if (self.interrupted)() {
                self.ledger.flush()?;
                return Err(service::Error::Interrupted(self.ledger.path().to_owned()));
            }
        }
        self.queries += histories.len() as u64;
        self.accounts += histories.iter().filter(|history| history.len() == 1).count() as u64;
        Ok(Answers { k, ids: lists.concat() })
    }

    fn shortens(&self) -> bool {
        self.catalogue.shorter
    }

    fn items(&self) -> usize {
        self.catalogue.items()
    }

    /// Those answered before an interruption too.
    fn queries(&self) -> u64 {
        self.queries
    }

    /// Those from before an interruption too.
    fn accounts(&self) -> u64 {
        self.accounts
    }
}
