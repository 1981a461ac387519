//! What the service tells of itself, in the text format of Prometheus. No account, no key and no item is in it, nor whom a guard
//! suspects: it may be read by everybody who may reach the service.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    path: &'static str,
    status: u16,
}

/// The counts.
pub struct Telemetry {
    registry: Registry,
    requests: Family<Kind, Counter>,
    seconds: Histogram,
    questions: Counter,
    together: Histogram,
    connections: Gauge,
    reloads: Counter<u64, AtomicU64>,
}

impl Default for Telemetry {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("gro");
        let telemetry = (
            Family::default(),
            Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]),
            Counter::default(),
            Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]),
            Gauge::default(),
            Counter::default(),
        );
        let (requests, seconds, questions, together, connections, reloads) = telemetry;
        registry.register("requests", "Requests answered, by path and status", requests.clone());
        registry.register("request_seconds", "Time from a request's head to its answer", seconds.clone());
        registry.register("questions", "Lists answered", questions.clone());
        registry.register("batch_questions", "Questions that the model answered together", together.clone());
        registry.register("connections", "Connections that are open", connections.clone());
        registry.register("reloads", "Times that the target was read again", reloads.clone());
        Self { registry, requests, seconds, questions, together, connections, reloads }
    }
}

impl Telemetry {
    /// A request was answered with this status. `path` is one of the service's own, or `other`.
    pub fn answered(&self, path: &'static str, status: u16, after: Duration) {
        self.requests.get_or_create(&Kind { path, status }).inc();
        self.seconds.observe(after.as_secs_f64());
    }

    /// The model answered so many questions together.
    pub fn passed(&self, questions: usize) {
        self.questions.inc_by(questions as u64);
        self.together.observe(questions as f64);
    }

    /// A connection was opened; it is closed when what is returned is dropped.
    pub fn connected(&self) -> Connected {
        self.connections.inc();
        Connected(self.connections.clone())
    }

    /// The target was read again.
    pub fn reloaded(&self) {
        self.reloads.inc();
    }

    /// All of it as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        _ = encode(&mut text, &self.registry);
        text
    }
}

/// A connection that is open.
pub struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}
