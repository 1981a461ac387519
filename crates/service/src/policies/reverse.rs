//! `reverse`: a list is answered worst first.

use super::{AnswerPolicy, Answering, Build, Policy};

/// The registry's entry.
pub(super) const POLICY: Policy = Policy {
    name: "reverse",
    title: "Answers every query with its list reversed",
    section: None,
    build: Build::Open(|_| Ok(Answering::ByQuestion(Box::new(Reverse)))),
};

struct Reverse;

impl AnswerPolicy for Reverse {
    fn answer(&self, _: &[u32], _: usize, list: &mut [u32]) {
        list.reverse();
    }
}
