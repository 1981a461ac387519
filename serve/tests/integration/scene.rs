//! The scene of the tests: small targets, open and guarded, the binary as a process, and a client who speaks HTTP by hand, so that he can
//! misbehave.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use artifact::checkpoint::{Checkpoint, Defence, Description, Kind, MODEL};
use artifact::dataset::{self, Dataset, UserSequence};
use artifact::settings::{Network, Sections};
use candle_core::Device;
use models::{Parameters, Recommender, Sizes, sasrec};
use serde_json::{Value, json};
use service::black_box::{BlackBox, ProtectedTarget};
use service::guard::fit::{Part, Wanted, fit};
use service::key::{Key, key_path};
use streams::{Purpose, Streams, below};
use tempfile::TempDir;

pub(crate) const ITEMS: usize = 90;
pub(crate) const K: usize = 30;
const USERS: usize = 80;

/// A directory of one test.
pub(crate) struct Scene {
    root: TempDir,
    model: Arc<dyn Recommender>,
    guarded: Description,
    short: Description,
    open: Description,
}

impl Scene {
    /// A dataset `data`, targets `open` and `guarded` for it, and `other`, of other weights.
    pub(crate) fn new() -> Self {
        let root = TempDir::new().unwrap();
        let (model, description, parameters) = model(1);
        let service = |description: &Description, key| {
            ProtectedTarget::new(Arc::clone(&model), description, key, Device::Cpu).unwrap()
        };
        let mut people = service(&description, None);
        let mut stream = Streams::new(2).open(Purpose::Generation, 0, 0, 0);
        let rows: Vec<Vec<u32>> = (0..USERS)
            .map(|user| {
                let mut row = vec![1 + below(&mut stream, ITEMS as u32)];
                while row.len() < 8 + user % 18 {
                    let list = people.top_k(&[&row], K).unwrap().ids;
                    row.push(list[below(&mut stream, 3) as usize]);
                }
                row
            })
            .collect();
        let sequences = rows.iter().map(|row| UserSequence {
            train: &row[..row.len() - 2],
            valid: row[row.len() - 2],
            test: Some(row[row.len() - 1]),
        });
        let data_path = root.path().join("data");
        fs::create_dir(&data_path).unwrap();
        let names = |what: &str, count: usize| -> Vec<String> {
            (1..=count).map(|number| format!("{what}{number}")).collect()
        };
        dataset::write(&data_path, &names("i", ITEMS), &names("u", USERS), sequences).unwrap();
        let data = Dataset::read(&data_path).unwrap();
        let fingerprint = data.fingerprint().to_owned();
        let none = Defence::answers("none", Sections::new());
        let open = Description { fingerprint, defence: none, ..description };

        let key = Key::of_seed(3);
        let of = |part| -> Vec<Vec<u32>> {
            let users = (0..USERS).filter(|&user| Part::of(user) == part);
            users.map(|user| [data.train(user), &[data.valid(user)]].concat()).collect()
        };
        let wanted = Wanted {
            honest: 5,
            canaries: 0.2,
            trust: 4.0,
            watermark: 0.2,
            false_alarms: 0.1,
            client_alarms: 0.01,
            top_k: K,
        };
        let parts = (of(Part::Fit), of(Part::Threshold));
        let fitted = fit(&wanted, &key, &*model, (&parts.0, &parts.1), &Device::Cpu, &|_| {}).unwrap();
        let Value::Object(fitted) = serde_json::to_value(&fitted).unwrap() else { panic!() };
        let guarded = Description { defence: Defence::answers("guard", fitted), ..open.clone() };
        let lengths = [("first", 3), ("doubles", 4), ("longest", 20)]
            .map(|(name, value)| (name.to_owned(), value.into()));
        let short =
            Description { defence: Defence::answers("short", Sections::from_iter(lengths)), ..open.clone() };
        checkpoint(&root.path().join("short"), short.clone(), &parameters);
        checkpoint(&root.path().join("open"), open.clone(), &parameters);
        checkpoint(&root.path().join("guarded"), guarded.clone(), &parameters);
        key.write(&key_path(&root.path().join("guarded"))).unwrap();
        checkpoint(&root.path().join("other"), open.clone(), &self::model(2).2);
        Self { root, model, guarded, short, open }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A target in this process, fresh.
    pub(crate) fn target(&self, name: &str) -> ProtectedTarget {
        let (description, key) = match name {
            "guarded" => (&self.guarded, Some(Key::of_seed(3))),
            "short" => (&self.short, None),
            _ => (&self.open, None),
        };
        ProtectedTarget::new(Arc::clone(&self.model), description, key, Device::Cpu).unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gro-serve"));
        command.args(arguments).current_dir(self.root.path());
        command
    }

    /// Runs the binary to its end, which a service that was to be refused would not come to.
    pub(crate) fn ended(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let id = child.id().to_string();
        let (done, ended) = std::sync::mpsc::channel::<()>();
        let watcher = std::thread::spawn(move || {
            if ended.recv_timeout(Duration::from_secs(30)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                _ = Command::new("kill").args(["-KILL", &id]).status();
            }
        });
        let output = child.wait_with_output().unwrap();
        drop(done);
        watcher.join().unwrap();
        output
    }

    /// A service of the target `name`, on a free port.
    pub(crate) fn serve(&self, name: &str, more: &[&str]) -> Serving {
        let arguments =
            ["http", "--target", name, "--listen", "127.0.0.1:0", "--data", "data", "--device", "cpu"];
        self.start(&[&arguments[..], more].concat())
    }

    /// Starts the binary, which is to listen.
    pub(crate) fn start(&self, arguments: &[&str]) -> Serving {
        let mut child =
            self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit_once("//").map(|(_, address)| address.parse().unwrap());
        let Some(address) = address else {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("it does not listen: {said}");
        };
        Serving { child, address }
    }

    /// Runs the binary, which must refuse.
    #[track_caller]
    pub(crate) fn refused(&self, arguments: &[&str], expected: &str) {
        let output = self.ended(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(errors.len() == 1 && errors[0].contains(expected), "{said}");
    }
}

fn model(seed: u64) -> (Arc<dyn Recommender>, Description, Parameters) {
    let network =
        Network { hidden: 8, blocks: 1, heads: 2, max_len: 12, dropout: 0.0, attention_dropout: 0.0 };
    let sizes = Sizes { items: ITEMS, network };
    let declared = (sasrec::ARCHITECTURE.declare)(&sizes);
    let parameters =
        Parameters::initial(&declared, 1.0, &Streams::new(seed), Purpose::TargetWeights, &Device::Cpu)
            .unwrap();
    let model = (sasrec::ARCHITECTURE.build)(&sizes, &parameters.detached()).unwrap();
    (model.into(), sizes.describe(Kind::Protected, sasrec::ARCHITECTURE, ""), parameters)
}

fn checkpoint(path: &Path, description: Description, parameters: &Parameters) {
    fs::create_dir_all(path).unwrap();
    Checkpoint { description, tensors: parameters.to_arrays().unwrap() }.write(&path.join(MODEL)).unwrap();
}

/// Raw ids.
pub(crate) fn raw(items: &[u32]) -> Vec<String> {
    items.iter().map(|item| format!("i{item}")).collect()
}

/// The body of a question.
pub(crate) fn question(account: &str, history: &[u32], k: usize) -> Value {
    json!({"account": account, "history": raw(history), "k": k})
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The list in it, as numbers.
    #[track_caller]
    pub(crate) fn items(&self) -> Vec<u32> {
        assert_eq!(self.status, 200, "{self:?}");
        items(&self.json())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// The list of an answer, as numbers.
pub(crate) fn items(answer: &Value) -> Vec<u32> {
    let ids = answer["items"].as_array().unwrap();
    ids.iter().map(|id| id.as_str().unwrap()[1..].parse().unwrap()).collect()
}

/// A service that runs; it is killed when this is dropped.
pub(crate) struct Serving {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

impl Serving {
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.client().post(path, body, "")
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.client().send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()).unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Ends it as an operator does. Returns its code and what it said.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        self.signal("-TERM");
        let code = self.child.wait().unwrap().code();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (code, said)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A connection.
pub(crate) struct Client(pub(crate) BufReader<TcpStream>);

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    pub(crate) fn post(&mut self, path: &str, body: &Value, headers: &str) -> Answer {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.send(request.as_bytes()).unwrap()
    }

    /// Sends bytes and reads an answer; None where there is none, the connection being closed.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Option<Answer> {
        self.0.get_mut().write_all(bytes).ok()?;
        self.answer()
    }

    pub(crate) fn answer(&mut self) -> Option<Answer> {
        read_answer(&mut self.0)
    }
}

/// An answer with a length, from a connection of any kind.
pub(crate) fn read_answer(reader: &mut impl BufRead) -> Option<Answer> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut answer = Answer { status, head, body: String::new() };
    let length: usize = answer.header("content-length")?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    answer.body = String::from_utf8(body).ok()?;
    Some(answer)
}
