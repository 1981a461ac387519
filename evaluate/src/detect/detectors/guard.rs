//! `guard`: the evidence of the target's own guard (docs/mathematics.md, section 6.1). It was fitted when the guard was made, to the users
//! of [`service::guard::fit::Part::Fit`].

use super::{Detector, Judge, Question};

/// The registry's entry.
pub(super) const DETECTOR: Detector = Detector {
    name: "guard",
    title: "From which places of the lists it takes, and whether it takes canaries",
    fit: |_| Box::new(Guard),
};

struct Guard;

impl Judge for Guard {
    fn scores(&self, account: &[Question]) -> Vec<f64> {
        account.iter().map(|question| question.nats).collect()
    }
}
