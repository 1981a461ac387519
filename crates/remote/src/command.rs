//! A recommender behind a pipe: a program that reads a question a line and writes an answer a line. It ends when its standard input
//! does. What it writes to standard error is the user's to read.
//!
//! Reading and writing have threads of their own, so that a program that hangs, or reads nothing, is waited for no longer than the
//! user allows.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Bytes of a line at most; a catalogue is one.
const LONGEST_LINE: u64 = 1 << 30;
/// How long a program may take to end once nobody asks it any more.
const PATIENCE: Duration = Duration::from_secs(2);

/// A program that answers.
#[derive(Debug)]
pub struct Program {
    child: Child,
    /// Lines on their way to it; none once it is told to end.
    questions: Option<Sender<Vec<u8>>>,
    /// Lines from it, each without its end; nothing more where it closed its output.
    answers: Receiver<std::io::Result<Vec<u8>>>,
    /// What messages call it.
    name: String,
    timeout: Duration,
}

impl Program {
    /// Starts a program, which is given `timeout` for each line.
    ///
    /// # Errors
    /// A refusal where there is none of that name.
    pub fn start(words: &[String], timeout: Duration) -> Result<Self> {
        let [program, arguments @ ..] = words else {
            return Err(Error::refused("`command:` names no program"));
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C is for the attacker, who ends after the answer that he waits for.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child =
            command.spawn().map_err(|error| Error::refused(format!("cannot start `{program}`: {error}")))?;
        let (questions, outgoing) = channel::<Vec<u8>>();
        let (incoming, answers) = channel();
        if let Some(mut input) = child.stdin.take() {
            // Where it no longer reads, it no longer answers either, and that is told.
            std::thread::spawn(move || {
                while let Ok(line) = outgoing.recv() {
                    if input.write_all(&line).and_then(|()| input.flush()).is_err() {
                        break;
                    }
                }
            });
        }
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut output = BufReader::new(output);
                while let Some(line) = next_line(&mut output).transpose() {
                    let failed = line.is_err();
                    if incoming.send(line).is_err() || failed {
                        break;
                    }
                }
            });
        }
        Ok(Self { child, questions: Some(questions), answers, name: format!("`{program}`"), timeout })
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next line that it writes.
    ///
    /// # Errors
    /// A failure where it ends or is silent for too long.
    pub fn line(&mut self) -> Result<Vec<u8>> {
        match self.answers.recv_timeout(self.timeout) {
            Ok(Ok(line)) => Ok(line),
            Ok(Err(error)) => Err(Error::Failed(format!("reading what {} writes: {error}", self.name))),
            Err(RecvTimeoutError::Timeout) => {
                self.kill();
                Err(Error::Failed(format!(
                    "{} wrote no line in {:?}, and was ended; --timeout allows more, and a program has to flush each line",
                    self.name, self.timeout
                )))
            }
            Err(RecvTimeoutError::Disconnected) => Err(Error::Failed(self.end())),
        }
    }

    /// Sends a line, which has no end yet, and waits for the one that answers it.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn ask(&mut self, mut line: Vec<u8>) -> Result<Vec<u8>> {
        line.push(b'\n');
        let sent = self.questions.as_ref().is_some_and(|questions| questions.send(line).is_ok());
        if sent { self.line() } else { Err(Error::Failed(self.end())) }
    }

    /// A line that is there although every question was answered, where there is one. Before each question, whoever asks looks for it: what
    /// stands there would be taken for an answer to the next.
    pub fn surplus(&mut self) -> Option<Vec<u8>> {
        self.answers.try_recv().ok().and_then(std::io::Result::ok)
    }

    /// Tells it that nobody asks any more, and waits a little for its end. Returns a line that it wrote and nobody asked for, where there is one.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        self.questions = None;
        self.answers.recv_timeout(PATIENCE).ok().and_then(std::io::Result::ok)
    }

    /// Ends it, and what it started: a script may not be what answers.
    fn kill(&mut self) {
        #[cfg(unix)]
        if let Some(group) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How it ended.
    fn end(&mut self) -> String {
        let status = self
            .wait(PATIENCE)
            .map_or_else(|| "closed its output".to_owned(), |status| format!("ended ({status})"));
        format!("{} {status} before it answered; what it says of that is on standard error", self.name)
    }

    fn wait(&mut self, patience: Duration) -> Option<std::process::ExitStatus> {
        let begun = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if begun.elapsed() < patience => std::thread::sleep(Duration::from_millis(5)),
                _ => return None,
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.questions = None;
        if self.wait(PATIENCE).is_none() {
            tracing::warn!("{} goes on although its standard input has ended, and was ended", self.name);
            self.kill();
        }
    }
}

/// The next line without its end; none at the end of all.
fn next_line(output: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    output.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    match line.last() {
        None => return Ok(None),
        Some(b'\n') => {
            line.pop();
        }
        Some(_) if line.len() as u64 == LONGEST_LINE => {
            return Err(std::io::Error::other(format!("a line of more than {LONGEST_LINE} bytes")));
        }
        Some(_) => {}
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(line))
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration) -> Program {
        Program::start(&["sh", "-c", script].map(str::to_owned), timeout).unwrap()
    }

    #[test]
    fn a_line_is_answered_by_a_line() {
        let mut program =
            shell("echo hello; while read -r line; do echo \"<$line>\"; done", Duration::from_secs(20));
        assert_eq!(program.line().unwrap(), b"hello");
        assert_eq!(program.ask(b"one".to_vec()).unwrap(), b"<one>");
        assert_eq!(program.ask(b"two".to_vec()).unwrap(), b"<two>");
    }

    #[test]
    fn a_death_a_silence_and_a_name_of_nothing_are_told() {
        let message = shell("read -r line; exit 7", Duration::from_secs(20))
            .ask(b"one".to_vec())
            .unwrap_err()
            .to_string();
        assert!(message.contains("`sh` ended (exit status: 7) before it answered"), "{message}");
        let message =
            shell("sleep 60", Duration::from_millis(50)).ask(b"one".to_vec()).unwrap_err().to_string();
        assert!(message.contains("`sh` wrote no line in 50ms") && message.contains("--timeout"), "{message}");
        let message = Program::start(&["no-such-program".to_owned()], PATIENCE).unwrap_err().to_string();
        assert!(message.starts_with("cannot start `no-such-program`"), "{message}");
    }

    #[test]
    fn a_line_longer_than_a_pipe_holds_does_not_block() {
        let long = vec![b'x'; 1 << 20];
        let message = shell("sleep 60", Duration::from_millis(50)).ask(long.clone()).unwrap_err().to_string();
        assert!(message.contains("wrote no line"), "{message}");
        assert_eq!(shell("cat", Duration::from_secs(20)).ask(long.clone()).unwrap(), long);
    }

    #[test]
    fn a_line_that_nobody_asked_for_is_found() {
        let soon = |program: &mut Program| {
            let begun = Instant::now();
            loop {
                match program.surplus() {
                    None if begun.elapsed() < Duration::from_secs(20) => {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    found => return found,
                }
            }
        };
        let mut program =
            shell("while read -r line; do echo \"<$line>\"; echo more; done", Duration::from_secs(20));
        assert_eq!(program.surplus(), None);
        assert_eq!(program.ask(b"one".to_vec()).unwrap(), b"<one>");
        assert_eq!(soon(&mut program).unwrap(), b"more");
        assert_eq!(program.finish(), None);
        let mut program = shell("read -r line; echo \"$line\"; cat; echo bye", Duration::from_secs(20));
        assert_eq!(program.ask(b"one".to_vec()).unwrap(), b"one");
        assert_eq!(program.surplus(), None);
        assert_eq!(program.finish().unwrap(), b"bye");
    }

    #[test]
    fn it_ends_when_nobody_asks_any_more() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ended");
        drop(shell(&format!("cat; touch '{}'", path.display()), Duration::from_secs(20)));
        assert!(path.exists());
    }
}
