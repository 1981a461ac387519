//! The command `http`: reads a target, listens, and answers until it is told to end.

use remote::Catalogue;
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result};
use artifact::queries::QueryHeader;
use axum::body::Bytes;
use candle_core::Device;
use service::black_box::{BlackBox, ProtectedTarget};
use stage::output::place_beside;
use stage::{Interruption, Refusal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::demo::Demo;
use crate::engine::Engine;
use crate::journal::Journal;
use crate::keys::Keys;
use crate::limits::Rates;
use crate::listen::{self, Door};
use crate::protocol::Bounds;
use crate::routes::{Current, Service, router};
use crate::tally::{self, Tally};
use crate::telemetry::Telemetry;
use crate::{Machine, target};

/// What reads a target: at the start, and again at SIGHUP.
type Read = dyn Fn() -> Result<Source> + Send + Sync;

/// How often it is looked whether a signal came.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What `gro-serve http` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub target: target::Arguments,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub listening: Listening,
    /// Show a page at / on which lists with and without the defence stand side by side
    ///
    /// It shows what the defence hides, so the service must listen on this machine alone.
    #[arg(long, conflicts_with = "keys")]
    pub demo: bool,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub machine: Machine,
}

/// Where a service listens, to whom, and how much it lets be asked.
#[derive(Clone, Debug, clap::Args)]
pub struct Listening {
    /// Address or name, and port; port 0 takes a free one, which the first line on stdout names
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = address)]
    pub listen: SocketAddr,
    /// Answer only who has a key of this file, made by `gro-serve key`
    #[arg(long, value_name = "FILE", conflicts_with = "open")]
    pub keys: Option<PathBuf>,
    /// Answer everybody who can reach an address that is not this machine's own
    #[arg(long)]
    pub open: bool,
    /// Certificate with its chain, and private key, as PEM: answer over TLS
    #[arg(long, num_args = 2, value_names = ["CERTIFICATE", "KEY"])]
    pub tls: Option<Vec<PathBuf>>,
    /// Write what is asked and answered to this directory, as Parquet: k-N/queries-*.parquet for lists of N
    ///
    /// `gro-evaluate detect --queries DIR/k-N` reads them. What was answered in the last hour stands in a journal, which becomes Parquet
    /// when the service ends, or starts after it was killed.
    #[arg(long, value_name = "DIR")]
    pub log: Option<PathBuf>,
    /// Seconds after which the journal becomes Parquet
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, requires = "log")]
    pub log_every: u64,
    /// Longest list
    #[arg(long, value_name = "N", default_value = "100")]
    pub max_k: NonZeroUsize,
    /// Longest history
    #[arg(long, value_name = "N", default_value = "1000")]
    pub max_history: NonZeroUsize,
    /// Bytes of a request at most
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20)]
    pub max_body: usize,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub rates: Rates,
    /// Connections at most; who comes then waits
    #[arg(long, value_name = "N", default_value = "1024")]
    pub connections: NonZeroUsize,
    /// Seconds for a request to arrive and be answered, and for a client to take the answer
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
}

/// An address with its port, or that of a name. Of several the first of IPv4 is taken, where there is one.
fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let expected = "expected an address or a name with a port, such as 127.0.0.1:8080 or localhost:8080";
    let found: Vec<SocketAddr> =
        text.to_socket_addrs().map_err(|error| format!("{error}; {expected}"))?.collect();
    let chosen = found.iter().find(|address| address.is_ipv4()).or(found.first());
    chosen.copied().ok_or_else(|| expected.to_owned())
}

/// What a service answers for, and how it is called.
pub struct Source {
    /// What answers: the same service once for each thread that it is to have.
    pub services: Vec<Box<dyn BlackBox + Send>>,
    /// The items, by their names.
    pub catalogue: Catalogue,
    /// What is written of it in a log.
    pub header: QueryHeader,
    /// Items of a history that it reads.
    pub max_len: usize,
    /// Length of the longest list that it answers; that of the catalogue where nobody says.
    pub max_k: Option<usize>,
    /// What the page at `/` shows, where there is one.
    pub demo: Option<Demo>,
    /// Whether the lists are those of a recommender that others run.
    pub in_front: bool,
}

/// Answers for a target until a signal comes.
///
/// # Errors
/// Refusals: an address that is taken or that everybody can reach, a target or keys that cannot be read, a log that is another's.
pub fn http(arguments: &Arguments) -> Result<()> {
    if arguments.demo && !arguments.listening.listen.ip().is_loopback() {
        return Err(Refusal::new(format!(
            "--demo shows what the defence hides, and others can reach {}; listen on 127.0.0.1",
            arguments.listening.listen
        ))
        .into());
    }
    let listening = &arguments.listening;
    let arguments = arguments.clone();
    serve(listening, move || {
        let target = target::read(&arguments.target, &arguments.machine)?;
        let demo = arguments.demo.then(|| Demo::new(&target, &arguments.target)).transpose()?;
        let header = QueryHeader {
            items: target.catalogue.items(),
            fingerprint: target.description.fingerprint.clone(),
            splits: target.description.splits.clone(),
            target: Some(target.digest),
            ..QueryHeader::default()
        };
        let max_len = target.description.network.max_len;
        Ok(Source {
            services: side_by_side(target.service.remembering(), &target.device),
            catalogue: target.catalogue,
            header,
            max_len,
            max_k: None,
            demo,
            in_front: false,
        })
    })
}

/// The service once for each thread of the pool; once on a device that computes by itself.
fn side_by_side(service: ProtectedTarget, device: &Device) -> Vec<Box<dyn BlackBox + Send>> {
    let threads = if kernels::fused(device) { rayon::current_num_threads() } else { 1 };
    let mut services: Vec<Box<dyn BlackBox + Send>> = Vec::with_capacity(threads);
    services.extend((1..threads).map(|_| Box::new(service.beside()) as Box<dyn BlackBox + Send>));
    services.push(Box::new(service));
    services
}

/// Answers for what `read` reads, at the start and at each SIGHUP, until a signal comes.
///
/// # Errors
/// Refusals, those of `read` among them.
pub fn serve(listening: &Listening, read: impl Fn() -> Result<Source> + Send + Sync + 'static) -> Result<()> {
    check(listening)?;
    let read: Arc<Read> = Arc::new(read);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // The model has as many threads as there are cores: it needs most of the time, and with it these share them.
    builder.worker_threads(rayon::current_num_threads().div_ceil(2));
    let runtime = builder.enable_all().build().context("cannot start the threads of the service")?;
    listen::make_room(listening.connections.get());
    let listener = {
        let _within = runtime.enter();
        listen::bind(listening.listen)?
    };
    let tls = match listening.tls.as_deref() {
        Some([certificate, key]) => Some(listen::tls(certificate, key)?),
        _ => None,
    };
    let telemetry = Arc::new(Telemetry::default());
    let keys = keys(listening, None)?;
    let source = read()?;
    let header = source.header.clone();
    let longest = listening.max_k.get().min(source.max_k.unwrap_or(usize::MAX));
    let in_front = source.in_front;
    let current = current(source, listening, &telemetry)?;
    let log = listening.log.as_deref();
    log.map(tally::check).transpose()?;
    let journal =
        log.map(|log| Journal::open(log, header, Duration::from_secs(listening.log_every))).transpose()?;
    let (journal, writing) = journal.unzip();
    let service = Arc::new(Service {
        current: RwLock::new(Arc::new(current)),
        keys: RwLock::new(Arc::new(keys)),
        journal,
        bounds: Bounds { k: longest, history: listening.max_history.get() },
        body: listening.max_body,
        patience: Duration::from_secs(listening.timeout),
        in_front,
        telemetry: Arc::clone(&telemetry),
    });
    let counting = Arc::clone(&service);
    let tally = log.map(|log| Tally::keep(log, &service.keys(), move || counting.keys())).transpose()?;
    if tally.is_none() && service.keys().holders().any(|holder| holder.limit.rates().per_day.is_some()) {
        tracing::warn!("without --log, the day's count begins anew whenever the service does");
    }
    let interruption = Interruption::watch_saying("what was asked is answered, and the service ends");
    let scheme = if tls.is_some() { "https" } else { "http" };
    let address = listener.local_addr().context("the address is not known")?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on {scheme}://{address}").and_then(|()| stdout.flush())?;
    let door = Door {
        listener,
        tls,
        connections: listening.connections.get(),
        patience: Duration::from_secs(listening.timeout),
    };
    runtime.block_on(async {
        // On the threads of HTTP, so that whoever comes while this one reads another target is let in.
        let (end, ended) = oneshot::channel::<()>();
        let serving = tokio::spawn(listen::serve(door, router(Arc::clone(&service)), telemetry, async {
            _ = ended.await;
        }));
        let interrupted = async {
            while !interruption.requested() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            () = interrupted => drop(end),
            // It comes back where it cannot heed signals.
            failed = reload_at_signals(&service, listening, &read) => return failed,
        }
        if let Some(journal) = &service.journal {
            journal.ending().await;
        }
        serving.await.context("what lets clients in has failed")
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    if let Some(tally) = tally {
        tally.end()?;
    }
    drop(service);
    if let Some(writing) = writing {
        writing.join().map_err(|_| anyhow::anyhow!("the log's thread panicked"))??;
    }
    interruption.done();
    Ok(())
}

fn check(arguments: &Listening) -> Result<(), Refusal> {
    let loopback = arguments.listen.ip().is_loopback();
    if !loopback && arguments.keys.is_none() && !arguments.open {
        return Err(Refusal::new(format!(
            "--listen {}: others can reach this address, and without keys everybody would be answered; give --keys FILE \
             (`gro-serve key` makes one), or --open if that is meant",
            arguments.listen
        )));
    }
    arguments.log.as_deref().map(|log| place_beside("--log", log)).transpose()?;
    Ok(())
}

fn keys(arguments: &Listening, before: Option<&Keys>) -> Result<Keys> {
    match &arguments.keys {
        None => Ok(Keys::open(arguments.rates)),
        Some(path) => Keys::read(path, arguments.rates, before),
    }
}

fn current(source: Source, listening: &Listening, telemetry: &Arc<Telemetry>) -> Result<Current> {
    let Source { services, mut catalogue, header, max_len, max_k, demo, .. } = source;
    let max_k = listening.max_k.get().min(catalogue.items()).min(max_k.unwrap_or(usize::MAX));
    catalogue.splits = header.splits;
    catalogue.target = header.target;
    catalogue.max_len = Some(max_len);
    catalogue.max_k = Some(max_k);
    catalogue.shorter = services.iter().any(|service| service.shortens());
    let items = Bytes::from(catalogue.to_json());
    Ok(Current { catalogue, engine: Engine::start(services, telemetry)?, items, demo })
}

/// At each SIGHUP, reads target and keys again. What cannot be read is told, and what was there stays.
async fn reload_at_signals(service: &Arc<Service>, listening: &Listening, read: &Arc<Read>) -> Result<()> {
    let mut hangups = signal(SignalKind::hangup()).context("cannot heed SIGHUP")?;
    loop {
        hangups.recv().await;
        match reload(service, listening, read).await {
            Ok(None) => tracing::info!("read again; the target is the same"),
            Ok(Some(header)) => {
                if let Some(journal) = &service.journal {
                    journal.target(header).await;
                }
                service.telemetry.reloaded();
                tracing::info!("read again; another target answers");
            }
            Err(error) => tracing::error!("not read again, all stays as it was: {error:#}"),
        }
    }
}

/// Returns what the log is to say of a target that is another than before.
async fn reload(service: &Service, listening: &Listening, read: &Arc<Read>) -> Result<Option<QueryHeader>> {
    let keys = keys(listening, Some(&service.keys()))?;
    let source = read_aside(read).await?;
    let before = service.current();
    if source.catalogue.ids() != before.catalogue.ids() {
        return Err(Refusal::new("the target is of another catalogue; start another service for it").into());
    }
    let header = source.header.clone();
    let current = current(source, listening, &service.telemetry)?;
    let same = current.items == before.items;
    *service.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(current);
    *service.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    Ok((!same).then_some(header))
}

/// Reads on a thread of its own. That takes a moment, in which the others go on, and longer where a recommender does not answer: whoever is
/// told to end meanwhile does not wait for it.
async fn read_aside(read: &Arc<Read>) -> Result<Source> {
    let (told, source) = oneshot::channel();
    let read = Arc::clone(read);
    let work = move || {
        // Whoever ended wants no word of it.
        _ = told.send(read());
    };
    std::thread::Builder::new().name("reload".to_owned()).spawn(work).context("cannot start a thread")?;
    source.await.context("what reads the target has failed")?
}
