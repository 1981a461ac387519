//! `none`: a list is answered as the model ranks it.

use super::Policy;

/// The registry's entry.
pub(super) const POLICY: Policy =
    Policy { name: "none", title: "No defence: the target as it is", section: None, build: |_| Ok(None) };
