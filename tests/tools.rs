//! The Python programs that tests run against this one: DVC, Snakemake and pandas, from the Python registry into a virtual
//! environment below `target/`, once for each content of `requirements.txt`. Where that cannot be had, a run says so on stderr
//! and goes without them; on continuous integration (`CI` is set) it fails.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The folder of `dvc`, `snakemake` and a `python` with pandas, installed if need be.
pub(crate) fn tools() -> Option<&'static Path> {
    static TOOLS: OnceLock<Option<PathBuf>> = OnceLock::new();
    let tools = TOOLS.get_or_init(|| match install() {
        Ok(folder) => Some(folder),
        Err(message) => {
            assert!(std::env::var_os("CI").is_none(), "no DVC, Snakemake and pandas: {message}");
            // To stderr itself, which the test harness does not capture: what was not tested must be seen.
            let notice = format!(
                "tools: DVC, Snakemake and pandas SKIPPED, for they cannot be installed: {message}\n"
            );
            std::io::stderr().write_all(notice.as_bytes()).unwrap();
            None
        }
    });
    tools.as_deref()
}

/// A virtual environment with what `requirements.txt` lists. Its name is that of the contents, so that it is made once.
fn install() -> Result<PathBuf, String> {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("requirements.txt");
    let hash = artifact::digest::bytes(&fs::read(&requirements).unwrap());
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tools-{}", &hash[..12]));
    let whole = home.join("whole");
    // Another process of the same test may be at it.
    let lock = fs::File::create(home.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !whole.exists() {
        let _ = fs::remove_dir_all(&home);
        attempt(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
        attempt(Command::new(home.join("bin/python")).args(pip).arg(&requirements))?;
        fs::write(whole, "").unwrap();
    }
    Ok(home.join("bin"))
}

fn attempt(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", text(&output))) }
}

/// Everything that a command printed.
pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
