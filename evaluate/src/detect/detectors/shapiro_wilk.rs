//! The statistic W of Shapiro and Wilk: how near an ordered sample is to a normal one, 1 at best. Coefficients by Royston's
//! approximation (Applied Statistics algorithm AS R94, 1995), which needs no tables.

use std::f64::consts::{PI, SQRT_2};

/// W of a sample in ascending order; none where it has fewer than three values or no spread.
pub(super) fn statistic(ascending: &[f64]) -> Option<f64> {
    let count = ascending.len();
    if count < 3 {
        return None;
    }
    let mean = ascending.iter().sum::<f64>() / count as f64;
    let squares: f64 = ascending.iter().map(|value| (value - mean).powi(2)).sum();
    let spread = ascending[count - 1] - ascending[0];
    if squares <= 0.0 || spread <= 1e-12 * mean.abs() {
        return None;
    }
    let ends = weights(count);
    let pairs = ascending.iter().zip(ascending.iter().rev()).zip(&ends);
    let slope: f64 = pairs.map(|((low, high), weight)| weight * (high - low)).sum();
    Some((slope * slope / squares).min(1.0))
}

/// The weights of the upper half, the largest value's first; those of the lower half are the same, negative. Their squares sum to one half.
fn weights(count: usize) -> Vec<f64> {
    if count == 3 {
        return vec![0.5f64.sqrt()];
    }
    let half = count / 2;
    // Expected values of the order statistics (Blom), from the largest on.
    let expected: Vec<f64> =
        (1..=half).map(|place| -quantile((place as f64 - 0.375) / (count as f64 + 0.25))).collect();
    let squares = 2.0 * expected.iter().map(|value| value * value).sum::<f64>();
    let root = squares.sqrt();
    let u = (count as f64).sqrt().recip();
    let first =
        polynomial(&[0.0, 0.221_157, -0.147_981, -2.071_190, 4.434_685, -2.706_056], u) + expected[0] / root;
    let mut weights = vec![first];
    let mut left = squares - 2.0 * expected[0].powi(2);
    let mut share = 1.0 - 2.0 * first * first;
    if count > 5 {
        let second = polynomial(&[0.0, 0.042_981, -0.293_762, -1.752_461, 5.682_633, -3.582_633], u)
            + expected[1] / root;
        weights.push(second);
        left -= 2.0 * expected[1].powi(2);
        share -= 2.0 * second * second;
    }
    let scale = (left / share).sqrt();
    weights.extend(expected[weights.len()..].iter().map(|value| value / scale));
    weights
}

/// `coefficients[0] + coefficients[1] x + ..`
fn polynomial(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

/// The quantile of the standard normal distribution at a probability below one half: Newton's method from the right of it, where the
/// distribution function bends upwards, so that every step stays on that side.
fn quantile(probability: f64) -> f64 {
    let mut x = 0.0f64;
    for _ in 0..STEPS {
        let below = 0.5 * libm::erfc(-x / SQRT_2);
        let step = (below - probability) / ((-0.5 * x * x).exp() / (2.0 * PI).sqrt());
        x -= step;
        if step.abs() < 1e-14 {
            break;
        }
    }
    x
}

/// Steps of Newton's method at most; a probability of one in a million takes a dozen.
const STEPS: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_eleven_men_are_as_published() {
        // Shapiro and Wilk 1965: W = .79.
        let men = [148.0, 154.0, 158.0, 160.0, 161.0, 162.0, 166.0, 170.0, 182.0, 195.0, 236.0];
        let w = statistic(&men).unwrap();
        assert!((w - 0.79).abs() < 0.005);
        // SciPy 1.17.1, scipy.stats.shapiro; it works in single precision where it takes quantiles.
        assert!((w - 0.788_814_694_863_171_6).abs() < 1e-6, "{w}");
    }

    #[test]
    fn small_and_large_samples_are_as_scipy_has_them() {
        let scrambled: Vec<f64> = (1..=50).map(|place: u32| f64::from(place * 7919 % 101) / 10.0).collect();
        let squares: Vec<f64> = (1..=120u32).map(|place| f64::from(place * place)).collect();
        let cases: [(Vec<f64>, f64); 5] = [
            (vec![1.0, 2.0, 4.0], 0.964_285_714_285_714_3),
            (vec![1.0, 2.0, 3.0, 5.0, 9.0], 0.912_400_656_139_140_6),
            (vec![2.0, 4.0, 3.0, 7.0, 1.0, 9.0], 0.930_232_072_524_457_6),
            (scrambled, 0.953_953_031_917_788_5),
            (squares, 0.895_926_622_671_286_8),
        ];
        for (mut sample, expected) in cases {
            sample.sort_unstable_by(f64::total_cmp);
            let w = statistic(&sample).unwrap();
            assert!((w - expected).abs() < 1e-6, "{} values: {w} {expected}", sample.len());
        }
    }

    #[test]
    fn quantiles_are_those_of_the_normal_distribution() {
        // R: qnorm(c(.3, .025, .001, 1e-6)).
        let cases = [
            (0.3, -0.524_400_512_708_040_9),
            (0.025, -1.959_963_984_540_054),
            (0.001, -3.090_232_306_167_813),
            (1e-6, -4.753_424_308_822_899),
        ];
        for (probability, expected) in cases {
            assert!((quantile(probability) - expected).abs() < 1e-10, "{probability}");
        }
    }

    #[test]
    fn nothing_is_said_of_too_few_values_or_equal_ones() {
        assert_eq!(statistic(&[1.0, 2.0]), None);
        assert_eq!(statistic(&[3.0; 30]), None);
    }
}
