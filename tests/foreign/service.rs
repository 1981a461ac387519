//! A service for tests: a real protected target behind the laboratory's protocol on a socket of this machine, that can fail on purpose and
//! keeps count of what it was asked and what it answered.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use artifact::checkpoint::MODEL;
use artifact::dataset;
use candle_core::Device;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use service::black_box::{BlackBox, ProtectedTarget};
use service::policies::key_of;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A status, with the seconds of a `Retry-After`.
    Status(u16, Option<u64>),
    /// The questions are answered, and the connection is cut before anything is sent.
    Cut,
    /// The answer is late.
    Late(Duration),
    /// The last item of every list is missing.
    Short,
    /// The first item of every list is none of the catalogue.
    Unknown,
    /// The first item of every list is its second too.
    Twice,
    /// No JSON.
    Garbage,
}

/// How a service behaves.
#[derive(Clone, Default)]
pub(crate) struct Behaviour {
    /// What becomes of the call of a number, from 0; none of those that ask for the catalogue.
    pub(crate) fault: Option<fn(usize) -> Option<Fault>>,
    /// The key that it wants.
    pub(crate) key: Option<&'static str>,
    /// Whether it has no address for several questions at once.
    pub(crate) single: bool,
    /// How many questions it answers in one call; it asks whoever brings more to come again.
    pub(crate) at_most: Option<usize>,
    /// Certificate and key in PEM, for TLS.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// How long it takes for each question.
    pub(crate) slow: Duration,
    /// Whether it speaks as a service of somebody else's: another address, other words, and no list of items.
    pub(crate) foreign: bool,
    /// Whether it lists its items in the reverse order, and says no more of itself.
    pub(crate) reversed: bool,
}

/// What happened.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// How often each question was answered, by account and history, whether or not the answer arrived.
    pub(crate) answered: BTreeMap<(String, Vec<String>), usize>,
    /// When each of these was.
    pub(crate) times: Vec<Instant>,
    /// How many questions were in one call at most.
    pub(crate) together: usize,
}

impl Record {
    /// How many questions were answered.
    pub(crate) fn questions(&self) -> usize {
        self.answered.values().sum()
    }
}

struct Inner {
    target: Mutex<ProtectedTarget>,
    ids: Vec<String>,
    catalogue: String,
    behaviour: Behaviour,
    record: Mutex<Record>,
    calls: AtomicUsize,
    stopped: AtomicBool,
}

/// A service that runs.
pub(crate) struct Service {
    inner: Arc<Inner>,
    address: SocketAddr,
}

impl Service {
    /// Puts the checkpoint in `target` on a socket, with the items of `data`.
    pub(crate) fn start(target: &Path, data: &Path, behaviour: Behaviour) -> Self {
        let device = Device::Cpu;
        let model = target.join(MODEL);
        let (recommender, description) = models::load(&model, &device).unwrap();
        let key = key_of(&description, target, None).unwrap();
        let ids = dataset::read_raw_items(data).unwrap();
        let items: Vec<Value> =
            ids.iter().map(|id| json!({ "id": id, "title": format!("Item {id}") })).collect();
        let backwards = json!({ "items": items.iter().rev().collect::<Vec<_>>() });
        let catalogue = json!({
            "items": items,
            "fingerprint": description.fingerprint,
            "splits": description.splits,
            "target": artifact::digest::file(&model).unwrap().blake3,
            "max_len": description.network.max_len,
            "max_k": 50,
        });
        let target = ProtectedTarget::new(recommender.into(), &description, key, device).unwrap();
        let inner = Arc::new(Inner {
            target: Mutex::new(target),
            ids,
            catalogue: if behaviour.reversed { backwards.to_string() } else { catalogue.to_string() },
            behaviour,
            record: Mutex::default(),
            calls: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = Arc::clone(&inner);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let inner = Arc::clone(&accepting);
                // A client that goes away is no failure of the service.
                std::thread::spawn(move || inner.meet(stream.unwrap()));
            }
        });
        Self { inner, address }
    }

    /// The address to ask.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.inner.behaviour.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// What happened so far, which is forgotten.
    pub(crate) fn record(&self) -> Record {
        std::mem::take(&mut *self.inner.record.lock().unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.inner.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// A certificate for `name` that is signed by itself, ready to be served, and in PEM. It ends a day from now, or ended.
pub(crate) fn certificate(name: &str, expired: bool) -> (Arc<ServerConfig>, String) {
    certificate_of(name, expired, rcgen::IsCa::NoCa)
}

/// The same as `openssl req -x509` makes it: that of an authority.
pub(crate) fn authority_certificate(name: &str) -> (Arc<ServerConfig>, String) {
    certificate_of(name, false, rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained))
}

fn certificate_of(name: &str, expired: bool, is_ca: rcgen::IsCa) -> (Arc<ServerConfig>, String) {
    let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    parameters.is_ca = is_ca;
    if expired {
        parameters.not_before = rcgen::date_time_ymd(2001, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2002, 1, 1);
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .unwrap();
    (Arc::new(config), certificate.pem())
}

/// A call as it came.
struct Call {
    path: String,
    authorization: Option<String>,
    body: Vec<u8>,
}

/// The first byte of a client that expects TLS.
const HANDSHAKE: u8 = 22;

fn read_call(reader: &mut impl BufRead) -> Option<Call> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&read| read > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|&read| read > 0)?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "authorization" => authorization = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Call { path, authorization, body })
}

impl Inner {
    fn meet(&self, stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        match &self.behaviour.tls {
            None => self.talk(stream),
            Some(config) => {
                let connection = ServerConnection::new(Arc::clone(config)).unwrap();
                self.talk(StreamOwned::new(connection, stream));
            }
        }
    }

    fn talk(&self, stream: impl Read + Write) {
        let mut stream = BufReader::new(stream);
        if stream.fill_buf().is_ok_and(|bytes| bytes.first() == Some(&HANDSHAKE)) {
            let _ = stream.get_mut().write_all(b"HTTP/1.1 400 x\r\n\r\n");
            return;
        }
        while let Some(call) = read_call(&mut stream) {
            let Some((status, headers, body)) = self.answer(&call) else { return };
            let head = format!(
                "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n",
                body.len()
            );
            let bytes = [head.as_bytes(), body.as_bytes()].concat();
            if stream.get_mut().write_all(&bytes).and_then(|()| stream.get_mut().flush()).is_err() {
                return;
            }
        }
    }

    /// Status, further headers and body; none for a connection that is cut.
    fn answer(&self, call: &Call) -> Option<(u16, String, String)> {
        let problem = |status: u16, detail: &str| {
            let body = json!({ "title": "No", "status": status, "detail": detail });
            Some((status, String::new(), body.to_string()))
        };
        let Behaviour { key, fault, single, foreign, .. } = self.behaviour;
        if key.is_some_and(|key| call.authorization.as_deref() != Some(&format!("Bearer {key}"))) {
            return problem(401, "a key is needed");
        }
        if call.path == "/v1/items" && !foreign {
            return Some((200, String::new(), self.catalogue.clone()));
        }
        let questions: Vec<Value> = match call.path.as_str() {
            "/v1/recommend" if !foreign => vec![serde_json::from_slice(&call.body).unwrap()],
            "/v1/recommend/batch" if !single && !foreign => {
                let body: Value = serde_json::from_slice(&call.body).unwrap();
                body["requests"].as_array().unwrap().clone()
            }
            path if foreign && path.starts_with("/api/next?n=") => {
                let body: Value = serde_json::from_slice(&call.body).unwrap();
                let k: usize = path.trim_start_matches("/api/next?n=").parse().unwrap();
                vec![json!({ "account": body["user"]["name"], "history": body["seen"], "k": k })]
            }
            _ => return problem(404, "no such address"),
        };
        if self.behaviour.at_most.is_some_and(|most| questions.len() > most) {
            return Some((429, "retry-after: 0\r\n".to_owned(), String::new()));
        }
        let fault = fault.and_then(|fault| fault(self.calls.fetch_add(1, Ordering::SeqCst)));
        if let Some(Fault::Status(status, wait)) = fault {
            let headers = wait.map_or(String::new(), |seconds| format!("retry-after: {seconds}\r\n"));
            // A service that fails may have done its work before.
            if status >= 500 && wait.is_none() {
                self.lists(&questions);
            }
            return Some((status, headers, json!({ "title": "Later", "status": status }).to_string()));
        }
        let mut lists = self.lists(&questions);
        match fault {
            Some(Fault::Cut) => return None,
            Some(Fault::Late(time)) => std::thread::sleep(time),
            Some(Fault::Garbage) => return Some((200, String::new(), "<html>".to_owned())),
            Some(Fault::Short) => lists.iter_mut().for_each(|list| drop(list.pop())),
            Some(Fault::Unknown) => lists.iter_mut().for_each(|list| "nothing".clone_into(&mut list[0])),
            Some(Fault::Twice) => lists.iter_mut().for_each(|list| list[1] = list[0].clone()),
            _ => {}
        }
        let answers: Vec<Value> = lists.into_iter().map(|items| json!({ "items": items })).collect();
        let body = match call.path.as_str() {
            "/v1/recommend" => answers[0].to_string(),
            "/v1/recommend/batch" => json!({ "answers": answers }).to_string(),
            _ => {
                let items = answers[0]["items"].as_array().unwrap().iter();
                let hits: Vec<Value> = items.map(|id| json!({ "sku": id, "score": 1 })).collect();
                json!({ "result": { "hits": hits } }).to_string()
            }
        };
        Some((200, String::new(), body))
    }

    fn lists(&self, questions: &[Value]) -> Vec<Vec<String>> {
        let mut lists = Vec::new();
        for question in questions {
            let account = question["account"].as_str().unwrap().to_owned();
            let history: Vec<String> = question["history"]
                .as_array()
                .unwrap()
                .iter()
                .map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned))
                .collect();
            let number = |id: &String| self.ids.iter().position(|known| known == id).unwrap() as u32 + 1;
            let ids: Vec<u32> = history.iter().map(number).collect();
            let k = question["k"].as_u64().unwrap() as usize;
            std::thread::sleep(self.behaviour.slow);
            let answers = self.target.lock().unwrap().top_k(&[&ids], k).unwrap();
            lists.push(answers.ids.iter().map(|&id| self.ids[id as usize - 1].clone()).collect());
            let mut record = self.record.lock().unwrap();
            *record.answered.entry((account, history)).or_default() += 1;
            record.times.push(Instant::now());
            record.together = record.together.max(questions.len());
        }
        lists
    }
}
