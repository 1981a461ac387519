//! `listmle`: the likelihood that the list is drawn in its order (Xia et al., ICML 2008), negatives among what is left.

use super::{ListLoss, as_set};

/// The registry's entry.
pub(super) const LOSS: ListLoss = ListLoss {
    name: "listmle",
    title: "The likelihood of the list item after item, against those below and items outside",
    ordered: true,
    negatives: as_set,
    value: |catalogue, lists, _| Ok(catalogue.list_mle(lists.states, lists.answers, lists.negatives)?),
};
