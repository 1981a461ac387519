//! What a service keeps of the questions before: somebody who grows a sequence asks about one prefix after another, and where
//! each history goes on from the one before by a single item, a causal model reads that item alone. Who comes back to a sequence
//! that he left has it read whole once, and item by item from then on. The answers are those to whole histories, to the byte.

use candle_core::{Device, Tensor};
use models::{KvCache, Mode, Recommender};

use crate::Result;

/// The latest histories that were asked about together, and what the model keeps of them.
#[derive(Default)]
pub(crate) struct PrefixCache {
    histories: Vec<Vec<u32>>,
    /// What the model keeps of these; none where it has read them as whole histories, and nobody has gone on from them yet.
    cache: Option<KvCache>,
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
        let (before, cache) = (std::mem::take(&mut self.histories), self.cache.take());
        if !kernels::fused(device) {
            return states(model, histories, device);
        }
        let longest = model.sizes().max_len;
        let goes_on = |(before, history): (&Vec<u32>, &&[u32])| {
            history.len() <= longest && history.split_last().is_some_and(|(_, rest)| rest == before)
        };
        let item = |place: usize| -> Vec<u32> { histories.iter().map(|history| history[place]).collect() };
        let length = histories.first().map_or(0, |history| history.len());
        let alike = histories.iter().all(|history| history.len() == length);
        let begun = alike && length == 1;
        let continued = alike && before.len() == histories.len() && before.iter().zip(histories).all(goes_on);
        let (mut cache, from) = match cache {
            _ if begun => (KvCache::new(histories.len()), 0),
            Some(cache) if continued => (cache, length - 1),
            // Somebody goes on from histories that were read whole: more is to come, so they are read again, item by item.
            None if continued => (KvCache::new(histories.len()), 0),
            _ => {
                self.histories = histories.iter().map(|history| history.to_vec()).collect();
                return states(model, histories, device);
            }
        };
        let mut extended = None;
        for place in from..length {
            extended = model.extend(&mut cache, &Tensor::from_vec(item(place), histories.len(), device)?)?;
            if extended.is_none() {
                break;
            }
        }
        let Some(extended) = extended else { return states(model, histories, device) };
        self.histories = histories.iter().map(|history| history.to_vec()).collect();
        self.cache = Some(cache);
        Ok(extended)
    }
}

/// The states after whole histories, `(histories, hidden)`.
pub(crate) fn states(model: &dyn Recommender, histories: &[&[u32]], device: &Device) -> Result<Tensor> {
    Ok(model.encode(&model.contexts(histories).upload(device)?, Mode::Evaluate)?)
}
