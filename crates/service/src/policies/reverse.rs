//! `reverse`: a list is answered worst first.

use super::{AnswerPolicy, Policy};

/// The registry's entry.
pub(super) const POLICY: Policy = Policy {
    name: "reverse",
    title: "Answers every query with its list reversed",
    section: None,
    build: |_| Ok(Some(Box::new(Reverse))),
};

struct Reverse;

impl AnswerPolicy for Reverse {
    fn answer(&self, _: &[u32], list: &mut [u32]) {
        list.reverse();
    }
}
