//! Python's dictionary literals, as `repr` prints them, one a line, or `pprint`, over several: the form in which the Steam reviews
//! are published.
//! The scanner goes over a line once and picks out the few fields that are wanted. It skips everything else, so no tree is
//! built, a review's text is never copied, and a string is decoded only where it is wanted and holds a backslash. What is
//! skipped is still checked: a line that Python would not read is an error.
//!
//! Weighed: py_literal, which builds a tree, refuses `u'…'`, which is how the reviews are published. Without the `u` it
//! takes 2.4 s for 100,000 short reviews, the scanner 0.06 s.
//!
//! Three deviations from Python. `nan`, which `repr` prints and Python does not read back, is a missing value. `'\xE9'` is the character É both with and without `u` (in Python 2 the latter is a byte), and half a
//! surrogate pair, which no text can hold, becomes U+FFFD.

use std::borrow::Cow;

use crate::read::fault::shorten;

/// How many wanted fields a line can have.
pub const FIELDS: usize = 8;
/// The texts of the wanted fields, in the order of their names; `None` where a line lacks one or has `None` there.
pub type Fields<'t> = [Option<Cow<'t, str>>; FIELDS];

/// Nested values deeper than this are refused: nothing that `repr` printed of a record is.
const DEEPEST: usize = 64;

/// The fields of the dictionary on `line` that are called `names` (at most [`FIELDS`]). Those from place `free` on may be true or
/// false.
///
/// # Errors
/// Where the line is no dictionary literal, or a wanted field is neither a string nor a number, a message.
pub fn fields<'t>(line: &'t str, names: &[String], free: usize) -> Result<Fields<'t>, String> {
    let mut scanner = Scanner { text: line, at: 0 };
    scanner.dictionary(names, free).map_err(|expected| {
        let rest = line.get(scanner.at..).unwrap_or_default();
        let found = if rest.is_empty() { "the end of the line".to_owned() } else { shorten(rest) };
        format!(
            "expected a Python dictionary; at byte {}, expected {expected}, found {found}",
            scanner.at + 1
        )
    })
}

/// The keys of the dictionary on `line`, as far as they can be read.
pub fn keys(line: &str) -> Vec<String> {
    let mut scanner = Scanner { text: line, at: 0 };
    let mut keys = Vec::new();
    if scanner.expect(b'{', "").is_err() {
        return keys;
    }
    while !scanner.closes(b'}') {
        let Ok(key) = scanner.key() else { break };
        keys.push(key.into_owned());
        let next = scanner.expect(b':', "").and_then(|()| scanner.value(0).map(drop));
        if next.and_then(|()| scanner.comma_or(b'}', "")).is_err() {
            break;
        }
    }
    keys
}

/// What was expected where the scanner stands.
type Expected = &'static str;

struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

/// A value that was scanned.
enum Value<'t> {
    Text(Quoted<'t>),
    /// Several texts side by side, which are one.
    Joined(String),
    Number(&'t str),
    None,
    /// True or False, as the settings have them.
    Truth(&'static str),
    /// A nested value.
    Other,
}

/// What stands between two quotation marks.
#[derive(Clone, Copy)]
struct Quoted<'t> {
    body: &'t str,
    /// Whether there is a backslash in it.
    escaped: bool,
}

impl<'t> Quoted<'t> {
    fn decode(self) -> Result<Cow<'t, str>, Expected> {
        if self.escaped { unescape(self.body).map(Cow::Owned) } else { Ok(Cow::Borrowed(self.body)) }
    }
}

impl<'t> Scanner<'t> {
    /// The whole line: a dictionary and nothing behind it.
    fn dictionary(&mut self, names: &[String], free: usize) -> Result<Fields<'t>, Expected> {
        let mut fields = Fields::default();
        let mut found = [false; FIELDS];
        self.expect(b'{', "`{`")?;
        while !self.closes(b'}') {
            let key = self.key()?;
            self.expect(b':', "`:`")?;
            let wanted = names.iter().take(FIELDS).position(|name| *name == key);
            self.space();
            let start = self.at;
            let value = self.value(0)?;
            if let Some(place) = wanted {
                if std::mem::replace(&mut found[place], true) {
                    self.at = start;
                    return Err("this field once, and its key stands there twice");
                }
                fields[place] = match value {
                    Value::Text(text) => Some(text.decode().inspect_err(|_| self.at = start)?),
                    Value::Joined(text) => Some(Cow::Owned(text)),
                    Value::Number(number) => Some(Cow::Borrowed(number)),
                    Value::None => None,
                    Value::Truth(truth) if place >= free => Some(Cow::Borrowed(truth)),
                    Value::Truth(_) | Value::Other => {
                        self.at = start;
                        return Err("a string, a number or None for this field");
                    }
                };
            }
            self.comma_or(b'}', "`,` or `}`")?;
        }
        self.at += 1;
        self.space();
        if self.at < self.text.len() { Err("the end of the line") } else { Ok(fields) }
    }

    fn key(&mut self) -> Result<Cow<'t, str>, Expected> {
        match self.value(0)? {
            Value::Text(text) => text.decode(),
            Value::Joined(text) => Ok(Cow::Owned(text)),
            _ => Err("a string before this, for a key"),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value<'t>, Expected> {
        self.space();
        if self.begins_text() {
            return self.texts();
        }
        match self.peek() {
            Some(b'0'..=b'9' | b'-' | b'+' | b'.') => self.number(),
            Some(b'[') => self.nested(b']', false, depth),
            Some(b'(') => self.nested(b')', false, depth),
            Some(b'{') => self.nested(b'}', true, depth),
            Some(byte) if byte.is_ascii_alphabetic() => self.name(),
            _ => Err("a value"),
        }
    }

    /// Whether a string stands here, with a prefix or without.
    fn begins_text(&self) -> bool {
        match self.peek() {
            Some(b'\'' | b'"') => true,
            Some(b'u' | b'U' | b'b' | b'B') => matches!(self.ahead(1), Some(b'\'' | b'"')),
            _ => false,
        }
    }

    /// A string and those that follow it with nothing but blanks between: `pprint` cuts a long one into several.
    fn texts(&mut self) -> Result<Value<'t>, Expected> {
        let first = self.prefixed()?;
        let mut joined: Option<String> = None;
        loop {
            let end = self.at;
            self.space();
            if !self.begins_text() {
                self.at = end;
                return Ok(joined.map_or(Value::Text(first), Value::Joined));
            }
            let next = self.prefixed()?.decode()?;
            match &mut joined {
                Some(text) => text.push_str(&next),
                None => joined = Some(first.decode()?.into_owned() + &next),
            }
        }
    }

    /// A string, from its prefix on.
    fn prefixed(&mut self) -> Result<Quoted<'t>, Expected> {
        if !matches!(self.peek(), Some(b'\'' | b'"')) {
            self.at += 1;
        }
        self.quoted()
    }

    /// A string, from its opening quotation mark on.
    fn quoted(&mut self) -> Result<Quoted<'t>, Expected> {
        let bytes = self.text.as_bytes();
        let mark = bytes[self.at];
        let start = self.at + 1;
        let (mut at, mut escaped) = (start, false);
        while let Some(found) = memchr::memchr2(mark, b'\\', bytes.get(at..).unwrap_or_default()) {
            at += found;
            if bytes[at] == mark {
                self.at = at + 1;
                return Ok(Quoted { body: &self.text[start..at], escaped });
            }
            escaped = true;
            at += 2; // The byte after a backslash closes nothing; one that begins a longer character would not anyway.
        }
        Err("a string with a closing quotation mark")
    }

    fn number(&mut self) -> Result<Value<'t>, Expected> {
        let token = self.token();
        // Python 2 marks a long integer by an L.
        let number = token.strip_suffix(['L', 'l']).unwrap_or(token);
        if number.parse().is_ok_and(f64::is_finite) {
            return Ok(Value::Number(number));
        }
        self.at -= token.len();
        Err("a number")
    }

    fn name(&mut self) -> Result<Value<'t>, Expected> {
        let token = self.token();
        match token {
            "None" | "nan" | "NaN" => Ok(Value::None),
            "inf" => Ok(Value::Other),
            "True" => Ok(Value::Truth("true")),
            "False" => Ok(Value::Truth("false")),
            _ => {
                self.at -= token.len();
                Err("a value")
            }
        }
    }

    /// The letters, digits, signs and points from here on.
    fn token(&mut self) -> &'t str {
        let bytes = &self.text.as_bytes()[self.at..];
        let within = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._".contains(byte);
        let length = bytes.iter().position(|byte| !within(byte)).unwrap_or(bytes.len());
        self.at += length;
        &self.text[self.at - length..self.at]
    }

    /// Skips a list, a tuple, a set or a dictionary.
    fn nested(&mut self, close: u8, pairs: bool, depth: usize) -> Result<Value<'t>, Expected> {
        if depth == DEEPEST {
            return Err("fewer nested values");
        }
        self.at += 1;
        while !self.closes(close) {
            self.value(depth + 1)?;
            self.space();
            if pairs && self.peek() == Some(b':') {
                self.at += 1;
                self.value(depth + 1)?;
            }
            self.comma_or(close, "`,` or a closing bracket")?;
        }
        self.at += 1;
        Ok(Value::Other)
    }

    /// Whether the next thing is `close`, which is not taken.
    fn closes(&mut self, close: u8) -> bool {
        self.space();
        self.peek() == Some(close)
    }

    /// Takes a comma; `close`, which is left, may stand in its place.
    fn comma_or(&mut self, close: u8, expected: Expected) -> Result<(), Expected> {
        if self.closes(close) { Ok(()) } else { self.expect(b',', expected) }
    }

    fn expect(&mut self, byte: u8, expected: Expected) -> Result<(), Expected> {
        self.space();
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(expected)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.ahead(0)
    }

    fn ahead(&self, distance: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + distance).copied()
    }
}

/// The text that a string with backslashes stands for.
fn unescape(body: &str) -> Result<String, Expected> {
    let mut text = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(backslash) = memchr::memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..backslash]);
        rest = &rest[backslash + 1..];
        let Some(letter) = rest.chars().next() else { return Err("a character behind the backslash") };
        rest = &rest[letter.len_utf8()..];
        let plain = match letter {
            '\\' | '\'' | '"' => letter,
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0C',
            'v' => '\x0B',
            'x' => character(hexadecimal(&mut rest, 2)?),
            'U' => character(hexadecimal(&mut rest, 8)?),
            'u' => {
                let unit = hexadecimal(&mut rest, 4)?;
                wide(unit, &mut rest)?
            }
            '0'..='7' => octal(letter, &mut rest),
            'N' => return Err("a character by its code, not by its name (\\N)"),
            // Python leaves an escape that it does not know as it is.
            other => {
                text.push('\\');
                other
            }
        };
        text.push(plain);
    }
    text.push_str(rest);
    Ok(text)
}

/// The character of a code; U+FFFD where it is none.
fn character(code: u32) -> char {
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Takes `digits` hexadecimal digits.
fn hexadecimal(rest: &mut &str, digits: usize) -> Result<u32, Expected> {
    let taken = rest.get(..digits).filter(|taken| taken.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let code = taken.and_then(|taken| u32::from_str_radix(taken, 16).ok());
    let code = code.ok_or("hexadecimal digits behind \\x (2), \\u (4) or \\U (8)")?;
    *rest = &rest[digits..];
    Ok(code)
}

/// The character of the UTF-16 unit `first`, together with the escape behind it where the two are a surrogate pair.
fn wide(first: u32, rest: &mut &str) -> Result<char, Expected> {
    if (0xD800..0xDC00).contains(&first)
        && let Some(mut behind) = rest.strip_prefix("\\u")
    {
        let second = hexadecimal(&mut behind, 4)?;
        if (0xDC00..0xE000).contains(&second) {
            *rest = behind;
            return Ok(character(0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)));
        }
    }
    Ok(character(first))
}

/// The character of up to three octal digits.
fn octal(first: char, rest: &mut &str) -> char {
    let mut code = first as u32 - '0' as u32;
    for _ in 0..2 {
        let Some(digit) = rest.chars().next().and_then(|digit| digit.to_digit(8)) else { break };
        code = code * 8 + digit;
        *rest = &rest[1..];
    }
    character(code)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn names() -> [String; 3] {
        ["username", "product_id", "date"].map(str::to_owned)
    }

    fn read(line: &str) -> Result<[Option<String>; 3], String> {
        let [user, item, date, ..] = fields(line, &names(), 3)?;
        Ok([user, item, date].map(|field| field.map(Cow::into_owned)))
    }

    fn username(line: &str) -> String {
        read(line).unwrap()[0].clone().unwrap()
    }

    #[test]
    fn a_review_as_it_is_published() {
        let line = r#"{u'username': u'Chaos "X" Syren', u'hours': 0.1, u'text': u"it's\nfine, {really}", u'products': 41L, 'product_id': 725280, u'early_access': False, u'found': None, u'compensation': [u'Product', (1, {}, {'a': {1, 2}},)], u'date': u'2017-12-17', }"#;
        let expected = ["Chaos \"X\" Syren", "725280", "2017-12-17"].map(|text| Some(text.to_owned()));
        assert_eq!(read(line).unwrap(), expected);
        assert_eq!(read(" { } \r").unwrap(), [None, None, None]);
        // As pprint prints what is long, and repr what is missing.
        let line = "{'date': nan,\n 'hours': inf,\n 'username': 'Ann '\n             u'\\x42' \"ob\"}";
        assert_eq!(read(line).unwrap(), [Some("Ann Bob".to_owned()), None, None]);
        assert_eq!(keys(line), ["date", "hours", "username"]);
        assert_eq!(read("{'a': None, 'date': 'x', 'a': 'y'}").unwrap()[2].as_deref(), Some("x"));
    }

    #[test]
    fn escapes_mean_what_they_mean_in_python() {
        for (body, text) in [
            (r#"it\'s \"so\" \\"#, "it's \"so\" \\"),
            (r"a\tb\nc\rd\a\b\f\v", "a\tb\nc\rd\x07\x08\x0C\x0B"),
            (r"\xe9\u20ac\U0001F600", "é€😀"),
            (r"\ud83d\ude00 \ud83d \ude00\ud83dx", "😀 \u{FFFD} \u{FFFD}\u{FFFD}x"),
            (r"\101\0\18", "A\0\u{1}8"),
            (r"\d\é", r"\d\é"),
        ] {
            assert_eq!(username(&format!("{{'username': '{body}'}}")), text, "{body}");
        }
        assert_eq!(username(r#"{"username": "it's"}"#), "it's");
        assert_eq!(username(r"{'us\x65rname': b'x'}"), "x");
    }

    #[test]
    fn what_python_would_not_read_is_refused() {
        for (line, part) in [
            ("", "at byte 1, expected `{`, found the end of the line"),
            ("not a dictionary", "expected `{`"),
            ("{'username': 'x'", "expected `,` or `}`, found the end of the line"),
            ("{'username': 'x}", "a closing quotation mark, found \"'x}\""),
            ("{'username': 'x\\'}", "a closing quotation mark"),
            ("{'username' 'x'}", "expected `:`"),
            ("{'username': 'x' 'date': 'y'}", "expected `,` or `}`"),
            ("{'username': 'x'} {", "expected the end of the line"),
            ("{1: 'x'}", "for a key"),
            ("{'date': None, 'date': 'y'}", "its key stands there twice, found \"'y'}"),
            ("{'username': ['x']}", "expected a string, a number or None"),
            ("{'username': True}", "expected a string, a number or None"),
            ("{'hours': nun}", "expected a value, found \"nun}\""),
            ("{'hours': 1.2.3}", "expected a number"),
            ("{'hours': }", "expected a value"),
            ("{'a': [1, 2}", "a closing bracket"),
            ("{'a': [1 2]}", "a closing bracket"),
            ("{'a': (,)}", "expected a value"),
            (r"{'username': '\xg1'}", "hexadecimal digits"),
            (r"{'username': '\u12'}", "hexadecimal digits"),
            (r"{'username': '\u12é'}", "hexadecimal digits"),
            (r"{'username': '\N{DASH}'}", "by its code"),
        ] {
            let message = read(line).unwrap_err();
            assert!(message.contains(part), "{line}: {message}");
        }
        let deep = format!("{{'a': {}{}}}", "[".repeat(2000), "]".repeat(2000));
        assert!(read(&deep).unwrap_err().contains("fewer nested values"));
    }

    /// A Python value.
    #[derive(Clone, Debug)]
    enum Python {
        Text(String),
        Word(&'static str),
        Integer(i64),
        Float(f64),
        List(Vec<Python>),
        Tuple(Vec<Python>),
        Dictionary(Vec<(String, Python)>),
    }

    fn value() -> impl Strategy<Value = Python> {
        let leaf = prop_oneof![
            any::<String>().prop_map(Python::Text),
            prop::sample::select(vec!["None", "True", "False"]).prop_map(Python::Word),
            any::<i64>().prop_map(Python::Integer),
            any::<f64>()
                .prop_filter("repr of nan is no literal", |value| value.is_finite())
                .prop_map(Python::Float),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Python::List),
                prop::collection::vec(inner.clone(), 0..4).prop_map(Python::Tuple),
                prop::collection::vec((any::<String>(), inner), 0..4).prop_map(Python::Dictionary),
            ]
        })
    }

    /// A source of choices among spellings.
    struct Choices(Vec<u8>);

    impl Choices {
        fn below(&mut self, bound: u8) -> u8 {
            let choice = self.0.pop().unwrap_or_default();
            self.0.insert(0, choice.wrapping_mul(5).wrapping_add(1));
            choice % bound
        }
    }

    /// Writes a string as Python may: with either mark, any prefix, and characters plain or escaped.
    fn write_text(out: &mut String, text: &str, choices: &mut Choices) {
        let mark = ['\'', '"'][choices.below(2) as usize];
        out.push_str(["", "u", "U", "b"][choices.below(4) as usize]);
        out.push(mark);
        for character in text.chars() {
            let code = character as u32;
            match (character, choices.below(4)) {
                ('\n', _) => out.push_str("\\n"),
                ('\\', _) => out.push_str("\\\\"),
                (_, _) if character == mark => write!(out, "\\{mark}").unwrap(),
                (_, 0) if code < 0x100 => write!(out, "\\x{code:02x}").unwrap(),
                (_, 1) if code < 0x1_0000 => write!(out, "\\u{code:04x}").unwrap(),
                (_, 1) => {
                    let mut units = [0; 2];
                    for unit in character.encode_utf16(&mut units) {
                        write!(out, "\\u{unit:04X}").unwrap();
                    }
                }
                (_, 2) => write!(out, "\\U{code:08x}").unwrap(),
                _ => out.push(character),
            }
        }
        out.push(mark);
    }

    fn write_items<T>(
        out: &mut String,
        brackets: &str,
        items: &[T],
        choices: &mut Choices,
        write: impl Fn(&mut String, &T, &mut Choices),
    ) {
        out.push_str(&brackets[..1]);
        for (place, item) in items.iter().enumerate() {
            out.push_str(if place == 0 { "" } else { [",", ", ", " ,\t"][choices.below(3) as usize] });
            write(out, item, choices);
        }
        // A tuple of one needs a comma, the others may have one.
        out.push_str(if !items.is_empty() && choices.below(2) == 0 { "," } else { "" });
        out.push_str(&brackets[1..]);
    }

    fn write_pair(out: &mut String, (key, value): &(String, Python), choices: &mut Choices) {
        write_text(out, key, choices);
        out.push_str([":", ": ", " :"][choices.below(3) as usize]);
        write_value(out, value, choices);
    }

    fn write_value(out: &mut String, value: &Python, choices: &mut Choices) {
        match value {
            Python::Text(text) => write_text(out, text, choices),
            Python::Word(word) => out.push_str(word),
            Python::Integer(number) => write!(out, "{number}").unwrap(),
            Python::Float(number) => write!(out, "{number:e}").unwrap(),
            Python::List(items) => write_items(out, "[]", items, choices, write_value),
            Python::Tuple(items) => write_items(out, "()", items, choices, write_value),
            Python::Dictionary(pairs) => write_items(out, "{}", pairs, choices, write_pair),
        }
    }

    /// A record with the three wanted fields among others, in any order, and its line.
    fn record() -> impl Strategy<Value = ([Option<String>; 3], String)> {
        let wanted = || prop::option::weighted(0.8, any::<String>());
        let others = prop::collection::vec((any::<String>(), value()), 0..4);
        (wanted(), wanted(), wanted(), others, any::<[u8; 16]>()).prop_map(
            |(user, item, date, others, choices)| {
                let mut choices = Choices(choices.to_vec());
                let wanted = [user, item, date];
                let mut pairs = others;
                for (name, text) in names().into_iter().zip(&wanted) {
                    let place = choices.below(pairs.len() as u8 + 1) as usize;
                    match text {
                        Some(text) => pairs.insert(place, (name, Python::Text(text.clone()))),
                        None if choices.below(2) == 0 => pairs.insert(place, (name, Python::Word("None"))),
                        None => {}
                    }
                }
                let mut line = String::new();
                write_items(&mut line, "{}", &pairs, &mut choices, write_pair);
                (wanted, line)
            },
        )
    }

    proptest! {
        #[test]
        fn what_python_writes_is_read_back((wanted, line) in record()) {
            prop_assert_eq!(read(&line), Ok(wanted), "{}", line);
        }

        #[test]
        fn a_line_that_breaks_off_is_refused((_, line) in record(), share in 0.0..1.0f64) {
            let mut end = (line.len() as f64 * share) as usize;
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            prop_assert!(read(&line[..end]).is_err(), "{}", &line[..end]);
        }

        #[test]
        fn no_text_makes_the_scanner_stumble(text in "[{}\\[\\](),:'\"u\\\\xUN0-9a-f.é -]{0,40}") {
            let line = format!("{{'username': {text}");
            drop(read(&text));
            drop(read(&line));
        }
    }
}
