//! Where a target is: in a directory, behind an address on the network, or at the other end of a pipe.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use ureq::http::Uri;

use crate::{Error, Result};

/// The value of `--target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A directory that a stage of the laboratory wrote.
    Directory(PathBuf),
    /// A service, as written: `http://…` or `https://…`.
    Http(String),
    /// A program and its arguments, as written, without the `command:`.
    Command(String),
}

impl Address {
    /// The directory, where it is one.
    pub fn directory(&self) -> Option<&PathBuf> {
        match self {
            Self::Directory(path) => Some(path),
            Self::Http(_) | Self::Command(_) => None,
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let begins =
            |scheme: &str| text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme));
        Ok(if begins("http://") || begins("https://") {
            Self::Http(text.to_owned())
        } else if let Some(command) = text.strip_prefix("command:") {
            Self::Command(command.to_owned())
        } else if let Some((scheme, _)) = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) {
            return Err(format!(
                "{scheme}:// leads to no target; expected http://…, https://…, command:… or a directory"
            ));
        } else {
            Self::Directory(text.into())
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(formatter, "{}", path.display()),
            Self::Http(base) => write!(formatter, "{base}"),
            Self::Command(words) => write!(formatter, "command:{words}"),
        }
    }
}

/// Whether an address may begin so (RFC 3986).
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|other| other.is_ascii_alphanumeric() || "+-.".contains(other))
}

/// The words of a command line, cut as a shell cuts them. No shell runs it: nothing is expanded.
///
/// # Errors
/// A refusal for a quotation that does not end, or no program at all.
pub fn words(command: &str) -> Result<Vec<String>> {
    match shlex::split(command) {
        Some(words) if !words.is_empty() => Ok(words),
        Some(_) => {
            Err(Error::refused("`command:` names no program; write --target 'command:PROGRAM ARGUMENTS'"))
        }
        None => Err(Error::refused(format!("command:{command}: a quotation does not end"))),
    }
}

/// The base of a service, without a slash at its end.
///
/// # Errors
/// A refusal for what is no such address, or holds a name and password, which would be written into files.
pub fn base(address: &str) -> Result<String> {
    // What stands before an @ is a secret, and is not repeated.
    if address
        .split_once("://")
        .is_some_and(|(_, rest)| rest.split(['/', '?', '#']).next().is_some_and(|host| host.contains('@')))
    {
        return Err(Error::refused(
            "the address of the target holds a name or password before an @, which would be written into files; give it with --key-env or a \
             header of a mapping",
        ));
    }
    let uri: Uri = address
        .parse()
        .map_err(|error| Error::refused(format!("{address} is no address of a service: {error}")))?;
    if uri.host().is_none_or(str::is_empty) {
        return Err(Error::refused(format!(
            "{address} names no host; expected such as https://shop.example"
        )));
    }
    if uri.query().is_some() || address.contains('#') {
        return Err(Error::refused(format!(
            "{address} has a query or a fragment; give the address before it, and the rest as `url` of a mapping"
        )));
    }
    Ok(address.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_service_a_program_or_a_directory() {
        let read = |text: &str| text.parse::<Address>().unwrap();
        assert_eq!(read("HTTPS://a.b/c"), Address::Http("HTTPS://a.b/c".to_owned()));
        assert_eq!(read("command:python3 'a b.py' 3"), Address::Command("python3 'a b.py' 3".to_owned()));
        assert_eq!(words("python3 'a b.py' 3").unwrap(), ["python3", "a b.py", "3"]);
        for directory in ["out/target", "https", "./httpx://a", "./command:a", "é://x"] {
            assert_eq!(read(directory), Address::Directory(directory.into()));
            assert_eq!(read(directory).to_string(), directory);
        }
        for other in ["ftp://x/model", "httpx://a", "file:///out/target"] {
            let message = other.parse::<Address>().unwrap_err();
            assert!(message.contains(":// leads to no target; expected http://"), "{message}");
        }
    }

    #[test]
    fn a_base_has_a_host_and_no_secret() {
        assert_eq!(base("http://127.0.0.1:80/api/").unwrap(), "http://127.0.0.1:80/api");
        for (address, expected) in [
            ("http://", "no address"),
            ("http://:80", "names no host"),
            ("http://a b", "no address"),
            ("http://a/?k=1", "a query or a fragment"),
            ("https://a/#x", "a query or a fragment"),
            ("https://me:secret@a/b", "before an @"),
        ] {
            let message = base(address).unwrap_err().to_string();
            assert!(message.contains(expected), "{address}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
        assert!(base("https://a/b@c").is_ok(), "an @ in a path is no secret");
        assert!(words("").is_err() && words("a 'b").is_err());
    }
}
