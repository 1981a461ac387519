//! `hinge`: the two hinges of Yue et al. (RecSys 2021), neighbours of the list in order and each place above a negative of its own.

use artifact::settings::Invalid;
use kernels::Margins;

use super::ListLoss;

/// The registry's entry.
pub(super) const LOSS: ListLoss = ListLoss {
    name: "hinge",
    title: "Neighbours in order, and each place above an item outside (Yue et al.)",
    ordered: true,
    negatives: |settings, k| match settings.negatives {
        Some(count) if count != k => Err(Invalid::new(format!(
            "`distill.negatives` is {count}, but the loss hinge has one negative a place of lists of {k}; leave it out, or choose \
             another loss"
        ))),
        _ => Ok(k),
    },
    value: |catalogue, lists, settings| {
        let margins = Margins { rank: settings.margin_rank, negative: settings.margin_negative };
        Ok(catalogue.ranking_loss(lists.states, lists.answers, lists.negatives, margins)?.loss)
    },
};
