//! A service on the network, one exchange at a time: what was answered, whether a question that failed may have been answered
//! all the same, and what a person can do about it.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::{CertificateError, Error as TlsError};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Timeout};

use crate::pace::asked_to_wait;
use crate::{Error, Result};

/// Bytes of an answer at most.
const LONGEST_ANSWER: u64 = 64 << 20;
/// Bytes of a catalogue at most.
const LONGEST_CATALOGUE: u64 = 1 << 30;
/// How long a connection may take to come about.
const CONNECTING: Duration = Duration::from_secs(10);
/// How much is shown of what a service says of an error.
const SHOWN: usize = 300;

/// How an exchange ended.
#[derive(Debug)]
pub enum Outcome {
    /// With an answer, and how long the service wants to be left alone afterwards.
    Answered(Vec<u8>, Option<Duration>),
    /// The service, or the way to it, is not ready; the question was answered to nobody.
    NotNow {
        /// How long to wait, where the service says so.
        wait: Option<Duration>,
        /// What happened.
        why: String,
    },
    /// It failed where the service may have answered, and may have counted it.
    Perhaps(String),
    /// The service will not answer this; asking again is of no use.
    Refused {
        /// What it said, where it said anything.
        status: Option<StatusCode>,
        /// What happened and what to do.
        why: String,
    },
}

/// Whoever asks a service. Threads share one.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    headers: HeaderMap,
    /// The environment variable that the key came from.
    key_from: Option<String>,
    /// Whether the certificates to trust came from a file.
    own_authority: bool,
}

impl Client {
    /// A client that sends `headers` with every question, waits `timeout` for an answer, and trusts the certificates in `authority`
    /// or, without one, those of the platform and of Mozilla. `key_from` says where a key came from, for messages.
    ///
    /// # Errors
    /// A refusal for a file that holds no certificate.
    pub fn new(
        headers: HeaderMap,
        key_from: Option<String>,
        timeout: Duration,
        authority: Option<&Path>,
    ) -> Result<Self> {
        let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(trusted(authority)?))).build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            // A question is sent where the user said, and nowhere else.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(timeout))
            .timeout_connect(Some(timeout.min(CONNECTING)))
            .user_agent(concat!("gro-rs/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self { agent, headers, key_from, own_authority: authority.is_some() })
    }

    /// Gets what stands at `url`: a catalogue.
    pub fn get(&self, url: &str) -> Outcome {
        self.exchange(&Method::GET, url, None, LONGEST_CATALOGUE)
    }

    /// Sends a question and waits for what comes back.
    pub fn ask(&self, method: &Method, url: &str, body: Option<Vec<u8>>) -> Outcome {
        self.exchange(method, url, body, LONGEST_ANSWER)
    }

    fn exchange(&self, method: &Method, url: &str, body: Option<Vec<u8>>, longest: u64) -> Outcome {
        let has_body = body.is_some();
        let mut request = Request::new(body.unwrap_or_default());
        *request.method_mut() = method.clone();
        match url.parse::<Uri>() {
            Ok(uri) => *request.uri_mut() = uri,
            Err(error) => {
                return Outcome::Refused { status: None, why: format!("{url} is no address: {error}") };
            }
        }
        *request.headers_mut() = self.headers.clone();
        let headers = request.headers_mut();
        headers.entry("accept").or_insert(HeaderValue::from_static("application/json"));
        if has_body {
            headers.entry("content-type").or_insert(HeaderValue::from_static("application/json"));
        }
        let sent = if has_body { self.agent.run(request) } else { self.agent.run(request.map(|_| ())) };
        let response = match sent {
            Ok(response) => response,
            Err(error) => return self.failed(url, &error),
        };
        let (parts, body) = response.into_parts();
        let read = body.into_with_config().limit(longest).read_to_vec();
        let wait = asked_to_wait(&parts.headers);
        match (parts.status, read) {
            (status, Ok(bytes)) if status.is_success() => Outcome::Answered(bytes, wait),
            (status, Err(ureq::Error::BodyExceedsLimit(most))) if status.is_success() => Outcome::Refused {
                status: Some(status),
                why: format!("{url} answered more than {most} bytes"),
            },
            (status, Err(error)) if status.is_success() => self.failed(url, &error),
            (status, read) => self.told(url, status, &parts.headers, wait, &read.unwrap_or_default()),
        }
    }

    /// What another status than success means.
    fn told(
        &self,
        url: &str,
        status: StatusCode,
        headers: &HeaderMap,
        wait: Option<Duration>,
        body: &[u8],
    ) -> Outcome {
        let why = format!("{url} answered {status}{}", said(body));
        let refused = |why: String| Outcome::Refused { status: Some(status), why };
        match status {
            StatusCode::TOO_MANY_REQUESTS => Outcome::NotNow { wait, why },
            StatusCode::SERVICE_UNAVAILABLE if wait.is_some() => Outcome::NotNow { wait, why },
            StatusCode::NOT_IMPLEMENTED => refused(why),
            StatusCode::REQUEST_TIMEOUT => Outcome::Perhaps(why),
            _ if status.is_server_error() => Outcome::Perhaps(why),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => refused(match &self.key_from {
                Some(name) => format!("{why}; the key came from {name}"),
                None => {
                    format!(
                        "{why}; if it wants a key, put it into an environment variable and name that with --key-env"
                    )
                }
            }),
            _ if status.is_redirection() => {
                let to = headers.get("location").and_then(|to| to.to_str().ok()).unwrap_or("elsewhere");
                refused(format!("{url} redirects to {}; give that address as the target", printable(to)))
            }
            _ => refused(why),
        }
    }

    /// What an error below HTTP means.
    fn failed(&self, url: &str, error: &ureq::Error) -> Outcome {
        if let Some(tls) = tls_error(error) {
            return self.untrusted(url, tls);
        }
        let why = format!("{url}: {error}");
        let never = Outcome::NotNow { wait: None, why: why.clone() };
        match error {
            ureq::Error::HostNotFound => {
                Outcome::NotNow { wait: None, why: format!("{url}: no such host is known") }
            }
            ureq::Error::ConnectionFailed | ureq::Error::Timeout(Timeout::Resolve) => never,
            ureq::Error::Timeout(Timeout::Connect) => {
                Outcome::NotNow { wait: None, why: format!("{url}: no connection came about in time") }
            }
            ureq::Error::Timeout(_) => {
                Outcome::Perhaps(format!("{url} did not answer in time; --timeout allows more"))
            }
            ureq::Error::Io(source) if never_sent(source) => never,
            ureq::Error::Http(_) | ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl => {
                Outcome::Refused { status: None, why }
            }
            _ => Outcome::Perhaps(why),
        }
    }

    /// A certificate that is not trusted, or no TLS at all: no question went out.
    fn untrusted(&self, url: &str, error: &TlsError) -> Outcome {
        let why = match error {
            TlsError::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ) => {
                let remedy = if self.own_authority {
                    "it was issued by none of those in the file given with --ca"
                } else {
                    "it is signed by itself or by an authority that is not known here; give that authority's certificate with --ca FILE"
                };
                format!("the certificate of {url} is not trusted: {remedy}")
            }
            TlsError::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            ) => {
                format!("the certificate of {url} has expired")
            }
            TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => format!("the certificate of {url} is for another name than that"),
            TlsError::InvalidCertificate(reason) if is_an_authority(reason) => format!(
                "the certificate of {url} is an authority's (CA:TRUE), and no service's, as `openssl req -x509` makes it; make one for the \
                 service with -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:NAME, and give it with --ca FILE"
            ),
            TlsError::InvalidCertificate(reason) => {
                format!("the certificate of {url} is not trusted: {reason}")
            }
            TlsError::InvalidMessage(_) => format!("{url} does not speak TLS; is its address http://…?"),
            other => format!("no secure connection to {url}: {other}"),
        };
        Outcome::Refused { status: None, why }
    }
}

/// Whether a certificate is refused because it is that of an authority. The library behind says so in an error of its own alone.
fn is_an_authority(reason: &CertificateError) -> bool {
    match reason {
        CertificateError::Other(other) => format!("{other:?}").contains("CaUsedAsEndEntity"),
        _ => false,
    }
}

/// The error of TLS behind one of the client.
fn tls_error(error: &ureq::Error) -> Option<&TlsError> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(source) => source.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// Whether an error of the network came before anything could be sent.
fn never_sent(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::AddrNotAvailable
    )
}

/// The certificates of the authorities that are trusted.
fn trusted(authority: Option<&Path>) -> Result<Vec<Certificate<'static>>> {
    let Some(path) = authority else {
        let known = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::debug!("certificates of the platform: {error}");
        }
        return Ok(known
            .chain(found.certs)
            .map(|certificate| Certificate::from_der(&certificate).to_owned())
            .collect());
    };
    let refused = |why: String| Error::refused(format!("--ca {}: {why}", path.display()));
    let read = CertificateDer::pem_file_iter(path).map_err(|error| refused(error.to_string()))?;
    let found = read
        .map(|certificate| Ok(Certificate::from_der(&certificate?).to_owned()))
        .collect::<std::result::Result<Vec<_>, rustls_pki_types::pem::Error>>()
        .map_err(|error| refused(error.to_string()))?;
    if found.is_empty() {
        return Err(refused(
            "holds no certificate, expected such as begin with -----BEGIN CERTIFICATE-----".to_owned(),
        ));
    }
    Ok(found)
}

/// The header that carries a key, from an environment variable. Where the key would be shown on its way, a warning says so.
///
/// # Errors
/// A refusal for a variable that is not set, or holds what cannot stand in a header. The value is not repeated.
pub fn key_header(name: &str, base: &str) -> Result<(HeaderName, HeaderValue)> {
    let key = from_environment(name).ok_or_else(|| {
        Error::refused(format!(
            "the environment variable {name}, which --key-env names, is not set; it holds the key of {base}"
        ))
    })?;
    let value = secret(&format!("Bearer {key}"))
        .ok_or_else(|| Error::refused(format!("the environment variable {name} holds what no header can")))?;
    warn_of_plain(base);
    Ok((ureq::http::header::AUTHORIZATION, value))
}

/// The value of an environment variable, without white space around it; none where it is empty.
pub(crate) fn from_environment(name: &str) -> Option<String> {
    let value = std::env::var(name).ok()?.trim().to_owned();
    (!value.is_empty()).then_some(value)
}

/// The value of a header that is shown in no message.
pub(crate) fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Says aloud where a secret would be read on its way.
pub(crate) fn warn_of_plain(base: &str) {
    let host = base.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
    let here = host == "localhost" || host.starts_with("127.") || host == "[::1]";
    if base.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http:")) && !here {
        tracing::warn!(
            "the key goes to {base} unencrypted, and can be read on its way; use https:// if the service has it"
        );
    }
}

/// What a service says of an error, ready to be added to a message: `application/problem+json`, or the beginning of a text.
fn said(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Problem {
        title: Option<String>,
        detail: Option<String>,
    }
    let text = match serde_json::from_slice(body) {
        Ok(Problem { title: Some(title), detail: Some(detail) }) => format!("{title}: {detail}"),
        Ok(Problem { title, detail }) => title.or(detail).unwrap_or_default(),
        Err(_) => String::from_utf8_lossy(&body[..body.len().min(4 * SHOWN)]).into_owned(),
    };
    let text = printable(text.trim());
    if text.is_empty() { text } else { format!(": {text}") }
}

/// A text of somebody else's as part of one line: control characters escaped, and not at any length.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::new();
    for (place, character) in text.chars().enumerate() {
        if place == SHOWN {
            shown.push('…');
            break;
        }
        if character.is_control() {
            let _ = write!(shown, "{}", character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_says_is_one_short_line() {
        assert_eq!(said(br#"{"title": "No", "detail": "k is 0", "status": 400}"#), ": No: k is 0");
        assert_eq!(said(br#"{"detail": "only"}"#), ": only");
        assert_eq!(said(b"<html>\n\x1b[31mred"), ": <html>\\n\\u{1b}[31mred");
        assert_eq!(said(b""), "");
        assert_eq!(said("é".repeat(2000).as_bytes()).chars().count(), 2 + SHOWN + 1);
    }

    #[test]
    fn a_status_says_whether_the_question_may_have_been_answered() {
        let client = Client::new(HeaderMap::new(), None, Duration::from_secs(1), None).unwrap();
        let told = |status: u16, wait: Option<u64>| {
            let wait = wait.map(Duration::from_secs);
            client.told("u", StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), wait, b"")
        };
        assert!(matches!(told(429, None), Outcome::NotNow { wait: None, .. }));
        assert!(matches!(told(503, Some(3)), Outcome::NotNow { wait: Some(_), .. }));
        for status in [500, 502, 503, 504, 408] {
            assert!(matches!(told(status, None), Outcome::Perhaps(_)), "{status}");
        }
        for (status, expected) in [
            (401, "--key-env"),
            (403, "--key-env"),
            (404, "404"),
            (422, "422"),
            (301, "redirects"),
            (501, "501"),
        ] {
            let Outcome::Refused { why, .. } = told(status, None) else { panic!("{status}") };
            assert!(why.contains(expected), "{why}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        for (content, expected) in
            [("", "holds no certificate"), ("-----BEGIN CERTIFICATE-----\n!\n", "--ca")]
        {
            std::fs::write(&path, content).unwrap();
            let message = trusted(Some(&path)).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        assert!(!trusted(None).unwrap().is_empty());
    }
}
