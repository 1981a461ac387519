//! Targets that others run, met through real sockets and pipes by the real programs: the same bytes as from files, a budget
//! that holds whatever fails, attackers that are killed and lose nothing, and one clear error for what cannot work.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test should say where")]

mod budget;
mod measured;
mod mistakes;
mod pipeline;
mod programs;
mod scene;
mod served;
mod service;
#[path = "../tools.rs"]
mod tools;
