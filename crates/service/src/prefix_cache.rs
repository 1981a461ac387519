//! What a service keeps of the questions before: somebody who grows a sequence asks about one prefix after another, and where
//! each history goes on from the one before by a single item, a causal model reads that item alone. The answers are those to
//! whole histories, to the byte.

use candle_core::{Device, Tensor};
use models::{KvCache, Mode, Recommender};

use crate::Result;

/// The latest histories that were asked about together, and what the model keeps of them.
#[derive(Default)]
pub(crate) struct PrefixCache {
    histories: Vec<Vec<u32>>,
    cache: KvCache,
}

impl PrefixCache {
    /// The states after histories, `(histories, hidden)`.
    pub(crate) fn states(
        &mut self,
        model: &dyn Recommender,
        histories: &[&[u32]],
        device: &Device,
    ) -> Result<Tensor> {
        // Taken, so that whatever goes wrong, what is kept is never of other histories.
        let before = std::mem::take(&mut self.histories);
        let longest = model.sizes().max_len;
        let goes_on = |(before, history): (&Vec<u32>, &&[u32])| {
            history.len() <= longest && history.split_last().is_some_and(|(_, rest)| rest == before)
        };
        if histories.iter().all(|history| history.len() == 1) {
            self.cache = KvCache::new(histories.len());
        } else if before.len() != histories.len() || !before.iter().zip(histories).all(goes_on) {
            return states(model, histories, device);
        }
        let latest: Vec<u32> = histories.iter().filter_map(|history| history.last().copied()).collect();
        let latest = Tensor::from_vec(latest, histories.len(), device)?;
        let extended = if kernels::fused(device) { model.extend(&mut self.cache, &latest)? } else { None };
        let Some(extended) = extended else { return states(model, histories, device) };
        self.histories = histories.iter().map(|history| history.to_vec()).collect();
        Ok(extended)
    }
}

/// The states after whole histories, `(histories, hidden)`.
pub(crate) fn states(model: &dyn Recommender, histories: &[&[u32]], device: &Device) -> Result<Tensor> {
    Ok(model.encode(&model.contexts(histories).upload(device)?, Mode::Evaluate)?)
}
