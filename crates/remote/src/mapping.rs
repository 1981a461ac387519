//! A JSON service of any kind, described in a small file of YAML or JSON: where a question goes, what it looks like, and where in
//! the answer the items are.
//!
//! ```yaml
//! url: /api/users/{account}/suggestions?limit={k}   # behind the target's address
//! method: POST                                      # POST where there is a body, else GET
//! headers:
//!   Authorization: Bearer ${SHOP_TOKEN}             # from the environment
//! body: {"seen": "{history}", "count": "{k}"}
//! answer: /result/items                             # JSON pointer to the list
//! id: /sku                                          # JSON pointer within an element; left out where it is the id itself
//! ```
//!
//! A string of the body that is `{history}` alone becomes an array of ids, `{k}` alone a number; `{account}` and `{last}`, the last
//! item of the history, become text. `{history:number}`, `{last:number}` and `{account:number}` send integers instead. Within a longer string
//! and in the address, a history is its ids with commas between them. `{{` is a brace.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Number, Value};
use ureq::http::{HeaderMap, HeaderName, Method};

use crate::answer::Id;
use crate::http::{from_environment, printable, secret, warn_of_plain};
use crate::protocol::Question;
use crate::{Error, Result};

/// A mapping, checked.
#[derive(Clone, Debug)]
pub struct Mapping {
    url: Template,
    /// How it is sent.
    pub method: Method,
    /// What goes with every question.
    pub headers: HeaderMap,
    body: Option<Value>,
    answer: String,
    id: String,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping with `answer` and, where needed, url, method, headers, body and id"
)]
struct Written {
    #[serde(default)]
    url: String,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: Option<Value>,
    answer: String,
    #[serde(default)]
    id: String,
}

/// Something that a question has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Account,
    History,
    Last,
    K,
}

/// Text and places to fill.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Filled {
        slot: Slot,
        /// Whether ids are sent as integers.
        number: bool,
    },
}

impl Mapping {
    /// The mapping in a file, for a service at `base`.
    ///
    /// # Errors
    /// A refusal for a file that cannot be read, a key or placeholder that is not known, an address elsewhere, an environment variable
    /// that is not set.
    pub fn read(path: &Path, base: &str) -> Result<Self> {
        let refused = |why: String| Error::refused(format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
        Self::parse(&text, base, &from_environment).map_err(refused)
    }

    /// The mapping in a text. `variable` looks up an environment variable.
    ///
    /// # Errors
    /// As [`Self::read`], in words.
    pub fn parse(
        text: &str,
        base: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> std::result::Result<Self, String> {
        let reader = serde_yaml::Deserializer::from_str(text);
        let written: Written = serde_path_to_error::deserialize(reader).map_err(|error| error.to_string())?;
        let url = behind(&written.url, base)?;
        if let Some(body) = &written.body {
            check(body)?;
        }
        for (key, pointer) in [("answer", &written.answer), ("id", &written.id)] {
            if !pointer.is_empty() && !pointer.starts_with('/') {
                return Err(format!("`{key}` is {pointer:?}, expected a JSON pointer such as /items"));
            }
        }
        let method = match &written.method {
            None if written.body.is_some() => Method::POST,
            None => Method::GET,
            Some(name) => match name.to_ascii_uppercase().as_str() {
                "GET" if written.body.is_some() => {
                    return Err("`method` is GET, which has no `body`".to_owned());
                }
                "GET" => Method::GET,
                "POST" => Method::POST,
                "PUT" => Method::PUT,
                _ => return Err(format!("`method` is {name:?}, expected GET, POST or PUT")),
            },
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &written.headers {
            let (value, is_secret) = filled_in(name, value, variable)?;
            let key = HeaderName::try_from(name)
                .map_err(|_| format!("`headers` names {name:?}, which is no header"))?;
            let value =
                secret(&value).ok_or_else(|| format!("header {name} has a value that no header can have"))?;
            headers.insert(key, value);
            if is_secret {
                warn_of_plain(base);
            }
        }
        let Written { body, answer, id, .. } = written;
        Ok(Self { url: Template::parse(&url)?, method, headers, body, answer, id })
    }

    /// Where a question goes, and its body.
    ///
    /// # Errors
    /// An id that is no integer where one is to be sent, in words.
    pub fn question(
        &self,
        question: &Question<'_>,
    ) -> std::result::Result<(String, Option<Vec<u8>>), String> {
        let url = self.url.text(question, true)?;
        let Some(body) = &self.body else { return Ok((url, None)) };
        let bytes = serde_json::to_vec(&fill(body, question)?).map_err(|error| error.to_string())?;
        Ok((url, Some(bytes)))
    }

    /// The items in an answer.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn list(&self, answer: &[u8]) -> std::result::Result<Vec<Id>, String> {
        let whole: Value = serde_json::from_slice(answer).map_err(|error| format!("no JSON: {error}"))?;
        let found = whole.pointer(&self.answer).and_then(Value::as_array).ok_or_else(|| {
            format!("no list at `answer`, {:?}: {}", self.answer, printable(&whole.to_string()))
        })?;
        let id = |element: &Value| -> std::result::Result<Id, String> {
            let id = element.pointer(&self.id).ok_or_else(|| {
                format!("no id at `id`, {:?}, of {}", self.id, printable(&element.to_string()))
            })?;
            Id::deserialize(id).map_err(|error| error.to_string())
        };
        found.iter().map(id).collect()
    }
}

/// The whole address: `url` behind the base, or one that begins with it. What goes with a question may be secret, and goes nowhere else.
fn behind(url: &str, base: &str) -> std::result::Result<String, String> {
    if url.is_empty() || url.starts_with(['/', '?']) {
        return Ok(format!("{}{url}", base.replace('{', "{{")));
    }
    let rest = url.strip_prefix(base).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    match rest {
        Some(rest) => Ok(format!("{}{rest}", base.replace('{', "{{"))),
        None => Err(format!("`url` is {url:?}, expected what stands behind {base}, such as /recommend")),
    }
}

/// The value of a header with `${NAME}` from the environment, and whether there was any.
fn filled_in(
    header: &str,
    value: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> std::result::Result<(String, bool), String> {
    let (mut filled, mut rest, mut any) = (String::new(), value, false);
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or_else(|| {
            format!("header {header} begins an environment variable with ${{ and does not end it")
        })?;
        let found = variable(name).ok_or_else(|| {
            format!("the environment variable {name:?}, which header {header} needs, is not set")
        })?;
        filled.push_str(before);
        filled.push_str(&found);
        (rest, any) = (after, true);
    }
    filled.push_str(rest);
    Ok((filled, any))
}

impl Template {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find('{') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('{') {
                plain.push('{');
                rest = after;
                continue;
            }
            let (name, after) = rest.split_once('}').ok_or_else(|| {
                format!("{text:?} begins a placeholder with {{ and does not end it; write {{{{ for a brace")
            })?;
            rest = after;
            let whole = name;
            let (name, number) = match name.split_once(':') {
                Some((name, "number")) => (name, true),
                _ => (name, false),
            };
            let slot = match (name, number) {
                ("account", _) => Slot::Account,
                ("history", _) => Slot::History,
                ("last", _) => Slot::Last,
                ("k", false) => Slot::K,
                _ => {
                    return Err(format!(
                        "{text:?} has the placeholder {{{whole}}}, expected {{account}}, {{history}} or {{last}}, with or without :number, or {{k}}, which is \
                         a number as it is; write {{{{ for a brace"
                    ));
                }
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Filled { slot, number });
        }
        plain.push_str(rest);
        if !plain.is_empty() || parts.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// The text for a question; within an address what is filled in is escaped.
    fn text(&self, question: &Question<'_>, address: bool) -> std::result::Result<String, String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Filled { slot, number } => {
                    let filled = slot.text(question, *number)?;
                    if address {
                        escape(&filled, &mut text);
                    } else {
                        text.push_str(&filled);
                    }
                }
            }
        }
        Ok(text)
    }
}

impl Slot {
    fn ids<'a>(self, question: &Question<'a>) -> Vec<&'a str> {
        match self {
            Self::Account => vec![question.account],
            Self::History => question.history.clone(),
            Self::Last => question.history.last().copied().into_iter().collect(),
            Self::K => Vec::new(),
        }
    }

    fn text(self, question: &Question<'_>, number: bool) -> std::result::Result<String, String> {
        if self == Self::K {
            return Ok(question.k.to_string());
        }
        let ids = self.ids(question);
        if number {
            ids.iter().try_for_each(|id| integer(id).map(drop))?;
        }
        Ok(ids.join(","))
    }

    fn value(self, question: &Question<'_>, number: bool) -> std::result::Result<Value, String> {
        if self == Self::K {
            return Ok(question.k.into());
        }
        let of = |id: &str| if number { integer(id).map(Value::Number) } else { Ok(id.into()) };
        let values = self.ids(question).into_iter().map(of).collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(match self {
            Self::History => Value::Array(values),
            _ => values.into_iter().next().unwrap_or_default(),
        })
    }
}

/// An id as an integer.
fn integer(id: &str) -> std::result::Result<Number, String> {
    let number = id.parse::<u64>().map(Number::from).or_else(|_| id.parse::<i64>().map(Number::from));
    number.map_err(|_| format!("{id:?} is no integer, which the mapping sends with :number"))
}

/// Escapes what may not stand in an address as it is.
fn escape(text: &str, address: &mut String) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~,".contains(&byte) {
            address.push(byte as char);
        } else {
            let _ = write!(address, "%{byte:02X}");
        }
    }
}

/// Refuses a body with a placeholder that is not known.
fn check(body: &Value) -> std::result::Result<(), String> {
    match body {
        Value::String(text) => Template::parse(text).map(drop),
        Value::Array(values) => values.iter().try_for_each(check),
        Value::Object(values) => values.values().try_for_each(check),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// The body of a question.
fn fill(body: &Value, question: &Question<'_>) -> std::result::Result<Value, String> {
    Ok(match body {
        Value::String(text) => {
            let template = Template::parse(text)?;
            match template.0.as_slice() {
                [Part::Filled { slot, number }] => slot.value(question, *number)?,
                _ => template.text(question, false)?.into(),
            }
        }
        Value::Array(values) => Value::Array(
            values.iter().map(|value| fill(value, question)).collect::<std::result::Result<_, _>>()?,
        ),
        Value::Object(values) => Value::Object(
            values
                .iter()
                .map(|(key, value)| Ok((key.clone(), fill(value, question)?)))
                .collect::<std::result::Result<_, String>>()?,
        ),
        plain => plain.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "https://shop.example";

    fn parse(text: &str) -> std::result::Result<Mapping, String> {
        Mapping::parse(text, BASE, &|name| (name == "TOKEN").then(|| "s3cret".to_owned()))
    }

    fn asked(mapping: &Mapping, account: &str, history: &[&str]) -> (String, String) {
        let (url, body) = mapping.question(&Question { account, history: history.to_vec(), k: 5 }).unwrap();
        (url, String::from_utf8(body.unwrap_or_default()).unwrap())
    }

    #[test]
    fn a_question_is_put_as_the_file_says() {
        let mapping = parse(
            r#"
url: /users/{account}/next?n={k}&seen={history}
headers: {Authorization: "Bearer ${TOKEN}", X-Client: research}
body: {"seen": "{history}", "ids": ["{last:number}", "{k}"], "text": "{account} of {{k} {history}", "all": "{history:number}", "deep": {"fixed": 3}}
answer: /result/items
id: /sku
"#,
        )
        .unwrap();
        let (url, body) = asked(&mapping, "a/ü 7", &["50", "181"]);
        assert_eq!(url, "https://shop.example/users/a%2F%C3%BC%207/next?n=5&seen=50,181");
        assert_eq!(
            body,
            r#"{"seen":["50","181"],"ids":[181,5],"text":"a/ü 7 of {k} 50,181","all":[50,181],"deep":{"fixed":3}}"#
        );
        assert_eq!(mapping.method, Method::POST);
        assert_eq!(mapping.headers["authorization"], "Bearer s3cret");
        assert!(!format!("{:?}", mapping.headers).contains("s3cret"), "a secret is not printed");
        let list = mapping.list(br#"{"result": {"items": [{"sku": "x"}, {"sku": 4}]}}"#).unwrap();
        assert_eq!(list, [Id("x".into()), Id("4".into())]);
    }

    #[test]
    fn without_a_body_it_is_got_and_elements_may_be_ids() {
        let mapping = parse("{url: 'https://shop.example/similar/{last}', answer: /items}").unwrap();
        assert_eq!(
            asked(&mapping, "a", &["1", "2"]),
            ("https://shop.example/similar/2".to_owned(), String::new())
        );
        assert_eq!(mapping.method, Method::GET);
        assert_eq!(mapping.list(br#"{"items": ["x"]}"#).unwrap(), [Id("x".into())]);
        for (answer, expected) in [
            ("[]", "no list at `answer`"),
            (r#"{"items": 3}"#, "no list at `answer`"),
            (r#"{"items": [{}]}"#, "expected an id, text or an integer"),
            ("<html>", "no JSON"),
        ] {
            let message = mapping.list(answer.as_bytes()).unwrap_err();
            assert!(message.contains(expected), "{answer}: {message}");
        }
        let bare = parse("{answer: ''}").unwrap();
        assert_eq!(bare.list(b"[1]").unwrap(), [Id("1".into())]);
        assert_eq!(asked(&bare, "a", &["1"]).0, BASE);
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        for (text, expected) in [
            ("{}", "missing field `answer`"),
            ("{answer: items}", "a JSON pointer such as /items"),
            ("{answer: /items, bodi: 1}", "unknown field `bodi`"),
            (
                "{answer: /items, url: 'https://elsewhere.example/x'}",
                "expected what stands behind https://shop.example",
            ),
            ("{answer: /items, url: 'https://shop.example.evil/x'}", "expected what stands behind"),
            ("{answer: /items, body: {a: ['{acount}']}}", "the placeholder {acount}"),
            ("{answer: /items, body: {a: '{k:number}'}}", "the placeholder {k:number}, expected {account}"),
            ("{answer: /items, body: '{history'}", "does not end it"),
            ("{answer: /items, method: DELETE}", "expected GET, POST or PUT"),
            ("{answer: /items, method: get, body: {}}", "which has no `body`"),
            (
                "{answer: /items, headers: {A: 'x ${NOWHERE}'}}",
                "\"NOWHERE\", which header A needs, is not set",
            ),
            ("{answer: /items, headers: {'a b': c}}", "no header"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
        let numbers = parse("{answer: /items, body: '{history:number}'}").unwrap();
        let question = Question { account: "a", history: vec!["x"], k: 1 };
        assert!(numbers.question(&question).unwrap_err().contains("\"x\" is no integer"));
    }
}
