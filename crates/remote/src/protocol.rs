//! The laboratory's own protocol: what is sent to `/v1/recommend`, `/v1/recommend/batch` or a program's standard input, and what
//! comes back. An item's id is text; an integer is read as its decimal text.

use serde::{Deserialize, Serialize};

use crate::answer::Id;

/// Where a service lists its items.
pub const ITEMS: &str = "/v1/items";
/// Where it answers one question.
pub const RECOMMEND: &str = "/v1/recommend";
/// Where it answers several.
pub const BATCH: &str = "/v1/recommend/batch";
/// Questions of a batch at most.
pub const MOST: usize = 256;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Question<'a> {
    /// Who asks.
    pub account: &'a str,
    /// Ids of the items of the history, oldest first.
    pub history: Vec<&'a str>,
    /// Length of the list that is asked for.
    pub k: usize,
}

#[derive(Serialize)]
struct Requests<'a> {
    requests: &'a [Question<'a>],
}

#[derive(Deserialize)]
#[serde(expecting = "an object with `items`")]
struct Items {
    items: Vec<Id>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with `answers`")]
struct Answers {
    answers: Vec<Items>,
}

/// The bytes of a question.
pub fn one(question: &Question<'_>) -> Vec<u8> {
    // Strings and numbers have no way to fail.
    serde_json::to_vec(question).unwrap_or_default()
}

/// The bytes of several questions.
pub fn several(questions: &[Question<'_>]) -> Vec<u8> {
    serde_json::to_vec(&Requests { requests: questions }).unwrap_or_default()
}

/// The list answered to a question.
///
/// # Errors
/// What is wrong with it, in words.
pub fn list(answer: &[u8]) -> Result<Vec<Id>, String> {
    let found: Items = serde_json::from_slice(answer)
        .map_err(|error| format!("expected {{\"items\": [\"…\", …]}}: {error}"))?;
    Ok(found.items)
}

/// The lists answered to so many questions.
///
/// # Errors
/// What is wrong with them, in words.
pub fn lists(answer: &[u8], questions: usize) -> Result<Vec<Vec<Id>>, String> {
    let found: Answers = serde_json::from_slice(answer)
        .map_err(|error| format!("expected {{\"answers\": [{{\"items\": [\"…\", …]}}, …]}}: {error}"))?;
    if found.answers.len() != questions {
        return Err(format!("{} answers to {questions} questions", found.answers.len()));
    }
    Ok(found.answers.into_iter().map(|answer| answer.items).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_are_those_of_the_protocol() {
        let question = Question { account: "17", history: vec!["50", "181"], k: 10 };
        let written = r#"{"account":"17","history":["50","181"],"k":10}"#;
        assert_eq!(String::from_utf8(one(&question)).unwrap(), written);
        assert_eq!(String::from_utf8(several(&[question])).unwrap(), format!("{{\"requests\":[{written}]}}"));
        let ids = |ids: &[&str]| ids.iter().map(|&id| Id(id.into())).collect::<Vec<_>>();
        assert_eq!(list(br#"{"items": ["7", 8], "model": 1}"#).unwrap(), ids(&["7", "8"]));
        let answers = br#"{"answers": [{"items": ["a"]}, {"items": []}]}"#;
        assert_eq!(lists(answers, 2).unwrap(), [ids(&["a"]), ids(&[])]);
        assert!(lists(answers, 3).unwrap_err().contains("2 answers to 3 questions"));
        assert!(list(b"{}").unwrap_err().contains("`items`"));
    }
}
