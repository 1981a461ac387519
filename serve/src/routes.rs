//! The paths of the service, and how a request becomes an answer.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use remote::Catalogue;
use remote::answer::Id;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use service::guard::clients::Asker;
use tower_http::catch_panic::CatchPanicLayer;

use crate::demo::{self, Demo};
use crate::engine::{Asked, Engine};
use crate::journal::{Journal, Record};
use crate::keys::{Holder, Keys, Kind};
use crate::problem::Problem;
use crate::protocol::{Ask, Asks, BATCH, Bounds, Object, Question};
use crate::telemetry::Telemetry;

/// The paths whose requests are counted one by one.
const COUNTED: [&str; 6] =
    ["/v1/recommend", "/v1/recommend/batch", "/v1/items", "/healthz", "/readyz", "/metrics"];

/// What is asked of without an account, where that is not needed.
const NAMELESS: &str = "anonymous";

/// The description of this interface.
const OPENAPI: &str = include_str!("openapi.json");

/// A target that answers.
pub struct Current {
    /// Its items.
    pub catalogue: Catalogue,
    /// Its model.
    pub engine: Engine,
    /// The answer of `/v1/items`.
    pub items: Bytes,
    /// What the page at `/` shows, where there is one.
    pub demo: Option<Demo>,
}

/// The service, as all requests share it.
pub struct Service {
    /// The target, which may give way to another.
    pub current: RwLock<Arc<Current>>,
    /// Who may ask; read anew with the target.
    pub keys: RwLock<Arc<Keys>>,
    /// Where it is written what was asked, if anywhere.
    pub journal: Option<Journal>,
    /// What may be asked.
    pub bounds: Bounds,
    /// Bytes of a request at most.
    pub body: usize,
    /// Time for a request at most, from its head to its answer.
    pub patience: Duration,
    /// Whether the lists are those of a recommender that others run.
    pub in_front: bool,
    /// Counts.
    pub telemetry: Arc<Telemetry>,
}

impl Service {
    /// The target that answers now.
    pub fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who may ask now.
    pub fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whoever asks, by the key of the request.
struct Asking(Arc<Holder>);

impl FromRequestParts<Arc<Service>> for Asking {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Problem> {
        let key = parts.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        Ok(Self(service.keys().who(key)?))
    }
}

/// Whether a request has arrived, as whoever watches the clock wants to know.
#[derive(Clone, Default)]
struct Arrival(Arc<AtomicBool>);

/// A body that has arrived, or what became of it.
struct Arrived(Result<Bytes, BytesRejection>);

impl FromRequest<Arc<Service>> for Arrived {
    type Rejection = Infallible;

    async fn from_request(request: Request, service: &Arc<Service>) -> Result<Self, Infallible> {
        let arrival = request.extensions().get::<Arrival>().cloned();
        let body = Bytes::from_request(request, service).await;
        if let Some(Arrival(arrived)) = arrival {
            arrived.store(true, Ordering::Relaxed);
        }
        Ok(Self(body))
    }
}

/// All paths.
pub fn router(service: Arc<Service>) -> Router {
    let body = service.body;
    let mut router = Router::new()
        .route("/v1/recommend", post(recommend))
        .route("/v1/recommend/batch", post(recommend_batch))
        .route("/v1/items", get(items))
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(async || ([(header::CONTENT_TYPE, "application/json")], OPENAPI)));
    let demo = service.current().demo.is_some();
    if demo {
        router = router.route("/", get(async || Html(demo::PAGE))).route("/demo/lists", post(demonstrate));
    }
    router = router
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "no such path; GET /openapi.json lists them"))
        .method_not_allowed_fallback(async |method: Method| {
            let detail = format!("{method} is not answered here; GET /openapi.json says what is");
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        });
    if demo {
        router = router.layer(middleware::from_fn(for_this_machine));
    }
    router
        .layer(CatchPanicLayer::custom(|_| {
            Problem::internal("the request made the service panic").into_response()
        }))
        .layer(DefaultBodyLimit::max(body))
        .layer(middleware::from_fn_with_state(Arc::clone(&service), watched))
        .with_state(service)
}

/// Turns away whoever calls this machine by another name than its own: a page of the world in the browser of its owner, to which a name of
/// that page's leads here, is not to read what the defence hides.
async fn for_this_machine(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let named = request.uri().authority().map(axum::http::uri::Authority::as_str);
    if host.is_some_and(is_this_machine) && named.is_none_or(is_this_machine) {
        return next.run(request).await;
    }
    let detail = "with --demo only requests to localhost, 127.0.0.1 or [::1] are answered";
    Problem::new(StatusCode::FORBIDDEN, detail).into_response()
}

/// Whether a host, with a port or without, is this machine by an address or name that nobody else can have.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Counts a request, and ends it when it takes too long: to arrive, or to be answered.
async fn watched(State(service): State<Arc<Service>>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let arrival = Arrival::default();
    request.extensions_mut().insert(arrival.clone());
    // What is not the service's own is anybody's text.
    let path = COUNTED.into_iter().find(|&path| path == request.uri().path()).unwrap_or("other");
    let response = tokio::time::timeout(service.patience, next.run(request)).await.unwrap_or_else(|_| {
        let seconds = service.patience.as_secs();
        // A client whose request has arrived is not to blame.
        let (status, who) = match (arrival.0.load(Ordering::Relaxed), service.in_front) {
            (false, _) => (StatusCode::REQUEST_TIMEOUT, "the request took"),
            (true, true) => (StatusCode::GATEWAY_TIMEOUT, "the recommender behind this service takes"),
            (true, false) => (StatusCode::SERVICE_UNAVAILABLE, "the answer takes"),
        };
        Problem::new(status, format!("{who} longer than {seconds} s")).into_response()
    });
    service.telemetry.answered(path, response.status().as_u16(), begun.elapsed());
    response
}

/// A body, as what it says.
fn parsed<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>, most: usize) -> Result<T, Problem> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the request is longer than {most} bytes"))
        }
        status => Problem::new(status, "the request ended early"),
    })?;
    let read: Result<Object<T>, _> = serde_json::from_slice(&body);
    read.map(|Object(value)| value).map_err(|error| {
        // In words of those who ask.
        let error = error.to_string().replace("expected usize", "expected a whole number of 0 or more");
        let expected =
            "expected JSON such as {\"account\": \"7\", \"history\": [\"50\", \"181\"], \"k\": 10}";
        Problem::bad(format!("{error}; {expected}"))
    })
}

/// The account of a question, as logs name it.
///
/// # Errors
/// 403 where the key is another account's.
fn account(holder: &Holder, keyed: bool, asked: Option<&Id>) -> Result<String, Problem> {
    match (holder.kind, asked) {
        (Kind::Account, Some(Id(name))) if *name != *holder.name => {
            Err(Problem::new(StatusCode::FORBIDDEN, "this key is that of another account"))
        }
        (Kind::Account, _) => Ok(holder.name.clone()),
        (Kind::Client, asked) => {
            let name = asked.map_or(NAMELESS, |Id(name)| name);
            // Accounts of different clients are different, however they are called.
            Ok(if keyed { format!("{}/{name}", holder.name) } else { name.to_owned() })
        }
    }
}

/// What stands for an account where names are too long: equal for equal names.
fn number_of(account: &str) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(account.as_bytes()).as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Answers questions, and writes down what was answered.
async fn answer(
    service: &Service,
    current: &Current,
    holder: &Holder,
    asks: &[Ask],
) -> Result<Vec<Vec<u32>>, Problem> {
    let keyed = !service.keys().are_open();
    let one = |(place, ask): (usize, &Ask)| -> Result<(String, Question), Problem> {
        let understood = account(holder, keyed, ask.account.as_ref())
            .and_then(|account| Ok((account, ask.understood(&current.catalogue, service.bounds)?)));
        understood.map_err(|problem| match asks.len() {
            1 => problem,
            _ => Problem { detail: format!("requests[{place}]: {}", problem.detail), ..problem },
        })
    };
    let (accounts, questions): (Vec<String>, Vec<Question>) =
        asks.iter().enumerate().map(one).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    holder.limit.count(questions.len())?;
    let items = current.catalogue.items();
    // Where anybody may ask, strangers are no client, and answer for nobody but themselves.
    let client = (keyed && holder.kind == Kind::Client).then(|| number_of(&holder.name));
    let asked = |(account, question): (&String, &Question)| Asked {
        asker: Asker { client, account: number_of(account) },
        history: question.history.clone(),
        k: question.asked(items),
    };
    let asked = accounts.iter().zip(&questions).map(asked).collect();
    let lists = current.engine.ask(asked).await?;
    let lists: Vec<Vec<u32>> =
        questions.iter().zip(lists).map(|(question, list)| question.shown(list)).collect();
    if let Some(journal) = &service.journal {
        let records = accounts.into_iter().zip(questions).zip(&lists);
        let records =
            records.map(|((account, question), list)| Record::now(account, question.history, list.clone()));
        journal.answered(records.collect()).await?;
    }
    Ok(lists)
}

/// `{"items": [...]}`.
fn write(list: &[u32], catalogue: &Catalogue, into: &mut String) {
    into.push_str("{\"items\":[");
    for (place, &item) in list.iter().enumerate() {
        if place > 0 {
            into.push(',');
        }
        catalogue.write_id(item, into);
    }
    into.push_str("]}");
}

fn json(body: impl Into<axum::body::Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}

async fn recommend(
    State(service): State<Arc<Service>>,
    Asking(holder): Asking,
    Arrived(body): Arrived,
) -> Result<Response, Problem> {
    let ask: Ask = parsed(body, service.body)?;
    let current = service.current();
    let lists = answer(&service, &current, &holder, std::slice::from_ref(&ask)).await?;
    let mut text = String::new();
    write(lists.first().map_or(&[][..], |list| list), &current.catalogue, &mut text);
    Ok(json(text))
}

async fn recommend_batch(
    State(service): State<Arc<Service>>,
    Asking(holder): Asking,
    Arrived(body): Arrived,
) -> Result<Response, Problem> {
    let Asks { requests } = parsed(body, service.body)?;
    if requests.is_empty() || requests.len() > BATCH {
        return Err(Problem::bad(format!("{} requests, expected 1 to {BATCH}", requests.len())));
    }
    let current = service.current();
    let lists = answer(&service, &current, &holder, &requests).await?;
    let mut text = String::from("{\"answers\":[");
    for (place, list) in lists.iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        write(list, &current.catalogue, &mut text);
    }
    text.push_str("]}");
    Ok(json(text))
}

async fn items(State(service): State<Arc<Service>>, Asking(holder): Asking) -> Response {
    let current = service.current();
    let Some(most) = holder.limit.rates().per_second else { return json(current.items.clone()) };
    // What a key may ask is its own, and stands behind what is the same for all.
    let common = current.items.strip_suffix(b"}").unwrap_or(&current.items);
    json([common, format!(",\"per_second\":{most}}}").as_bytes()].concat())
}

async fn ready(State(service): State<Arc<Service>>) -> Result<&'static str, Problem> {
    match &service.journal {
        Some(journal) if !journal.is_well() => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the log cannot be written"))
        }
        _ => Ok("ready\n"),
    }
}

async fn metrics(State(service): State<Arc<Service>>) -> impl IntoResponse {
    let version = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, version)], service.telemetry.text())
}

/// What the page asks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown {
    history: Vec<Id>,
}

async fn demonstrate(
    State(service): State<Arc<Service>>,
    Arrived(body): Arrived,
) -> Result<Json<demo::Lists>, Problem> {
    let Shown { history } = parsed(body, service.body)?;
    let current = service.current();
    let ask = Ask { account: None, history, k: demo::K.min(current.catalogue.items()), exclude_seen: false };
    let question = ask.understood(&current.catalogue, Bounds { k: demo::K, ..service.bounds })?;
    let shown = tokio::task::spawn_blocking(move || {
        let demo = current.demo.as_ref().ok_or_else(|| Problem::internal("no demonstration"))?;
        demo.lists(&question.history, question.k, &current.catalogue)
            .map_err(|error| Problem::internal(format!("{error:#}")))
    });
    shown.await.map_err(|_| Problem::internal("the demonstration failed"))?.map(Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_called_by_names_that_nobody_else_can_have() {
        for host in
            ["localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:80", "127.8.9.1", "[::1]", "[::1]:443"]
        {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example:80",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "0.0.0.0",
            "[::2]:80",
            "[::1",
            "x@localhost",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
