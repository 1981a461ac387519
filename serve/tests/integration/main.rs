//! The service as its clients and its operator see it: real processes, real sockets.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod answers;
mod keys;
mod log;
mod misuse;
mod once;
mod operation;
mod proxy;
mod scene;
mod tls;
