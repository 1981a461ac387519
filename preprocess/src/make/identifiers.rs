//! Dense ids. Models number users and items from 1, in ascending order of the raw ids: by value where every one of them is
//! a number, else by bytes. So neither the order of a file nor that of a hash table ever reaches a result.
//!
//! Weighed: a decimal type for `Number`. rust_decimal stops at 28 digits, bigdecimal allocates for every id, and both read
//! spellings (such as `+1`) that count as text here.

use std::cmp::Ordering;

use rayon::slice::ParallelSliceMut;

use crate::read::interner::Interner;

/// Dense ids of the texts that were kept.
#[derive(Debug, PartialEq, Eq)]
pub struct Identifiers {
    /// The id of each code, from 1; 0 where the text was filtered out.
    pub of_code: Vec<u32>,
    /// The code behind each id: that of id `i` stands at `i - 1`.
    pub codes: Vec<u32>,
}

impl Identifiers {
    /// Numbers the texts of `names` whose code is `kept`.
    pub fn assign(names: &Interner, kept: &[bool]) -> Self {
        let mut codes: Vec<u32> = (0..names.len() as u32).filter(|&code| kept[code as usize]).collect();
        let numbers: Option<Vec<(Number<'_>, u32)>> =
            codes.iter().map(|&code| Number::parse(names.text(code)).map(|number| (number, code))).collect();
        if let Some(mut numbers) = numbers {
            // Two spellings of one number (7, 07) are two raw ids; bytes decide between them.
            numbers.par_sort_unstable_by(|(left, left_code), (right, right_code)| {
                left.cmp(right).then_with(|| names.text(*left_code).cmp(names.text(*right_code)))
            });
            codes = numbers.into_iter().map(|(_, code)| code).collect();
        } else {
            codes.par_sort_unstable_by_key(|&code| names.text(code));
        }
        let mut of_code = vec![0; names.len()];
        for (id, &code) in (1..).zip(&codes) {
            of_code[code as usize] = id;
        }
        Self { of_code, codes }
    }

    /// Warns where numbers stand side by side that differ in their spelling alone, as `7` and `07` do.
    pub fn warn_of_two_spellings(&self, names: &Interner, kind: &str) {
        let pairs = || {
            self.codes.windows(2).filter_map(|pair| {
                let [left, right] = [names.text(pair[0]), names.text(pair[1])];
                (Number::parse(left)? == Number::parse(right)?).then_some((left, right))
            })
        };
        if let Some((left, right)) = pairs().next() {
            tracing::warn!(
                "{} {kind} differ from others in the spelling of a number alone, such as {left} and {right}; they stay two",
                pairs().count()
            );
        }
    }

    /// The raw ids, in the order of their ids.
    pub fn texts(&self, names: &Interner) -> Vec<String> {
        self.codes.iter().map(|&code| names.text(code).to_owned()).collect()
    }

    /// How many ids there are; they are `1..=len`.
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// Whether nothing was kept.
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }
}

/// A decimal number of any length, compared exactly: ids of twenty digits and more are common, and as floats
/// neighbouring ones would be equal.
#[derive(Debug, PartialEq, Eq)]
struct Number<'a> {
    negative: bool,
    /// Digits before the point, without leading zeros.
    whole: &'a [u8],
    /// Digits behind the point, without trailing zeros.
    fraction: &'a [u8],
}

impl<'a> Number<'a> {
    /// Reads an optional minus sign, digits, and optionally a point and more digits; `None` for anything else.
    fn parse(text: &'a str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (negative, digits) = match bytes.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, bytes),
        };
        let (whole, fraction) = match memchr::memchr(b'.', digits) {
            Some(point) => (&digits[..point], &digits[point + 1..]),
            None => (digits, &b"0"[..]),
        };
        let digits_only = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
        if !digits_only(whole) || !digits_only(fraction) {
            return None;
        }
        let first = whole.iter().position(|&digit| digit != b'0').unwrap_or(whole.len());
        let last = fraction.iter().rposition(|&digit| digit != b'0').map_or(0, |place| place + 1);
        let (whole, fraction) = (&whole[first..], &fraction[..last]);
        Some(Self { negative: negative && !(whole.is_empty() && fraction.is_empty()), whole, fraction })
    }
}

impl Ord for Number<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let magnitude = || {
            let whole = self.whole.len().cmp(&other.whole.len()).then_with(|| self.whole.cmp(other.whole));
            whole.then_with(|| self.fraction.cmp(other.fraction))
        };
        match (self.negative, other.negative) {
            (false, false) => magnitude(),
            (true, true) => magnitude().reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Number<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered<'a>(texts: &[&'a str]) -> Vec<&'a str> {
        let mut names = Interner::default();
        for text in texts {
            names.code(text).unwrap();
        }
        let ids = Identifiers::assign(&names, &vec![true; texts.len()]);
        assert!((1..).zip(&ids.codes).all(|(id, &code)| ids.of_code[code as usize] == id));
        ids.codes.iter().map(|&code| texts[code as usize]).collect()
    }

    #[test]
    fn numbers_order_by_value() {
        assert_eq!(ordered(&["10", "9", "100", "1"]), ["1", "9", "10", "100"]);
        assert_eq!(
            ordered(&[
                "-2",
                "0",
                "-10",
                "0.5",
                "-0.25",
                "07",
                "7",
                "18446744073709551617",
                "18446744073709551616",
                "0.45"
            ]),
            [
                "-10",
                "-2",
                "-0.25",
                "0",
                "0.45",
                "0.5",
                "07",
                "7",
                "18446744073709551616",
                "18446744073709551617"
            ]
        );
    }

    #[test]
    fn one_text_that_is_no_number_orders_all_by_bytes() {
        assert_eq!(ordered(&["10", "9", "B00", "a", "é", "100"]), ["10", "100", "9", "B00", "a", "é"]);
        for text in ["", "-", ".", "1.", ".5", "1e5", "+1", "1 ", "0x10", "1.2.3", "--1", "٣"] {
            assert_eq!(Number::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_was_filtered_out_gets_no_id_and_does_not_decide_the_order() {
        let mut names = Interner::default();
        for text in ["10", "x", "9"] {
            names.code(text).unwrap();
        }
        let ids = Identifiers::assign(&names, &[true, false, true]);
        assert_eq!(ids, Identifiers { of_code: vec![2, 0, 1], codes: vec![2, 0] });
    }
}
