//! How good a model is while it trains: NDCG@10 and HR@10 over all items, one held-out item a history.

use artifact::dataset::Dataset;
use candle_core::{Device, Tensor};
use models::{Mode, Recommender, Result};

/// Ranks (1 is best, ties count against the model) of the held-out item after each history, among all items.
pub fn ranks(
    model: &dyn Recommender,
    histories: &[&[u32]],
    held_out: &[u32],
    batch: usize,
    device: &Device,
) -> Result<Vec<u32>> {
    let mut ranks = Vec::with_capacity(histories.len());
    for (histories, held_out) in histories.chunks(batch).zip(held_out.chunks(batch)) {
        let states = model.encode(&model.contexts(histories).upload(device)?, Mode::Evaluate)?;
        let targets = Tensor::from_slice(held_out, held_out.len(), device)?;
        ranks.extend(model.catalogue().ranks(&states, &targets)?.to_vec1::<u32>()?);
    }
    Ok(ranks)
}

/// NDCG@10 and HR@10 of a model on the validation items of a data set: after each user's train sequence, the
/// rank of the item before the last. Of these users ([`some_users`]).
pub fn on_dataset(
    model: &dyn Recommender,
    dataset: &Dataset,
    users: &[usize],
    batch: usize,
    device: &Device,
) -> Result<(f64, f64)> {
    let histories: Vec<&[u32]> = users.iter().map(|&user| dataset.train(user)).collect();
    let held_out: Vec<u32> = users.iter().map(|&user| dataset.valid(user)).collect();
    Ok(ndcg_and_hit_rate_at_10(&ranks(model, &histories, &held_out, batch, device)?))
}

/// At most `most` of so many users, evenly spaced; all of them where it says nothing.
pub fn some_users(users: usize, most: Option<usize>) -> Vec<usize> {
    let chosen = most.map_or(users, |most| most.min(users));
    (0..chosen).map(|place| place * users / chosen).collect()
}

/// Mean NDCG@10 and HR@10 of these ranks; 0 for none.
pub fn ndcg_and_hit_rate_at_10(ranks: &[u32]) -> (f64, f64) {
    let count = ranks.len().max(1) as f64;
    let mean = |value: fn(Option<u32>, usize) -> f64| {
        ranks.iter().map(|&rank| value(Some(rank), 10)).sum::<f64>() / count
    };
    (mean(metrics::ndcg), mean(metrics::hit))
}

/// Mean share of the target's ten best items that are among the surrogate's, after each history.
pub fn agreement_at_10(
    target: &dyn Recommender,
    surrogate: &dyn Recommender,
    histories: &[&[u32]],
    batch: usize,
    device: &Device,
) -> Result<f64> {
    let k = 10.min(target.sizes().items);
    let mut sum = 0.0;
    for histories in histories.chunks(batch) {
        let lists = |model: &dyn Recommender| -> Result<Vec<Vec<u32>>> {
            let states = model.encode(&model.contexts(histories).upload(device)?, Mode::Evaluate)?;
            Ok(model.catalogue().top_k(&states, k)?.to_vec2()?)
        };
        let pairs = lists(target)?.into_iter().zip(lists(surrogate)?);
        sum += pairs.map(|(ours, theirs)| metrics::agreement(&ours, &theirs, k)).sum::<f64>();
    }
    Ok(sum / histories.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_chosen_from_first_to_last() {
        assert_eq!(some_users(10, Some(4)), [0, 2, 5, 7]);
        assert_eq!(some_users(3, Some(4)), [0, 1, 2]);
        assert_eq!(some_users(3, None), [0, 1, 2]);
    }

    #[test]
    fn discounts_by_place() {
        let (ndcg, hit_rate) = ndcg_and_hit_rate_at_10(&[1, 3, 10, 11]);
        assert_eq!(hit_rate, 0.75);
        assert!((ndcg - (1.0 + 0.5 + 1.0 / 11f64.log2()) / 4.0).abs() < 1e-12);
        assert_eq!(ndcg_and_hit_rate_at_10(&[]), (0.0, 0.0));
    }
}
