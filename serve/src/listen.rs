//! Connections: so many at a time, each with so long to say what it wants. Over TLS where there is a certificate.

use std::fs::File;
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::process::Resource;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use stage::Refusal;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

use crate::telemetry::Telemetry;

/// How long after a signal what was asked is still answered. The service ends within ten seconds, and the log needs its own.
const DRAIN: Duration = Duration::from_secs(5);

/// Clients that may wait in the queue of the system, as far as it allows: where it is full, a client hears nothing for a second and more.
const QUEUE: u32 = 4096;

/// Files that a service opens beside its connections: models, logs, calls of another service.
const OTHER_FILES: usize = 320;

/// How a service listens.
pub struct Door {
    /// Where.
    pub listener: TcpListener,
    /// Certificate and key, for TLS.
    pub tls: Option<TlsAcceptor>,
    /// Connections at most; more wait until one ends.
    pub connections: usize,
    /// How long a client may take for the head of a request, for a handshake, or to take what is written to him.
    pub patience: Duration,
}

/// Lets the process open as many files as so many connections need, as far as the system allows; says so where it does not.
pub fn make_room(connections: usize) {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    let (wanted, most) = ((connections + OTHER_FILES) as u64, limit.maximum.unwrap_or(u64::MAX));
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    limit.current = Some(wanted.min(most));
    if wanted > most || rustix::process::setrlimit(Resource::Nofile, limit).is_err() {
        tracing::warn!(
            "--connections {connections}: the system lets this process open {most} files, so fewer will be open at once"
        );
    }
}

/// Takes the address.
///
/// # Errors
/// A refusal for one that is taken, or not this machine's.
pub fn bind(address: SocketAddr) -> Result<TcpListener> {
    let bound = || -> std::io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // An address is free again as soon as the service before has ended.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(QUEUE)
    };
    Ok(bound().map_err(|source| {
        Refusal::because(format!("cannot listen on {address}; name another with --listen"), source)
    })?)
}

/// A certificate with its chain, and its private key, both as PEM.
///
/// # Errors
/// A refusal for files that hold none, or that do not belong together.
pub fn tls(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    let open = |path: &Path| -> Result<BufReader<File>> {
        let file = File::open(path);
        Ok(BufReader::new(
            file.map_err(|source| Refusal::because(format!("{}: cannot be read", path.display()), source))?,
        ))
    };
    let chain = CertificateDer::pem_reader_iter(open(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| Refusal::because(format!("{}: no PEM", certificate.display()), source))?;
    if chain.is_empty() {
        return Err(
            Refusal::new(format!("{}: holds no certificate, expected PEM", certificate.display())).into()
        );
    }
    let private = PrivateKeyDer::from_pem_reader(open(key)?).map_err(|source| {
        Refusal::because(format!("{}: holds no private key, expected PEM", key.display()), source)
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("TLS cannot be set up")?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|source| {
            Refusal::because(
                format!("{} and {} do not belong together", certificate.display(), key.display()),
                source,
            )
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Answers whoever comes until `end` is over, and then whoever is there.
pub async fn serve(door: Door, router: Router, telemetry: Arc<Telemetry>, end: impl Future<Output = ()>) {
    let Door { listener, tls, connections, patience } = door;
    let places = Arc::new(Semaphore::new(connections));
    let graceful = GracefulShutdown::new();
    let mut end = std::pin::pin!(end);
    loop {
        // Whoever finds no place waits in the queue of the system.
        let come = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            come = come => come,
            () = &mut end => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files, or a client that was gone: it passes.
                tracing::warn!("a connection could not be taken: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // An answer is one small packet, which nothing is gained by holding back.
        _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(patience));
        let (tls, router, watcher, telemetry) =
            (tls.clone(), router.clone(), graceful.watcher(), Arc::clone(&telemetry));
        tokio::spawn(async move {
            let _open = (place, telemetry.connected());
            let stream: Pin<Box<dyn Stream>> = match tls {
                None => Box::pin(stream),
                Some(tls) => match tokio::time::timeout(patience, tls.accept(Box::pin(stream))).await {
                    Ok(Ok(stream)) => Box::pin(stream),
                    Ok(Err(error)) => return tracing::debug!("no TLS: {error}"),
                    Err(_) => return tracing::debug!("no TLS: time is up"),
                },
            };
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                // An answer is small: copied to its head it costs less than a list of two parts.
                .writev(false)
                .header_read_timeout(patience)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!("a connection ended: {error}");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections that were still open after {} s are cut", DRAIN.as_secs());
    }
}

/// A connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}
