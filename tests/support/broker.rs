//! The server as a process: started, waited for, stopped and killed by its id.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than any start may take; a start that hangs fails the test.
const START_MAX: Duration = Duration::from_secs(60);

/// As the server is measured, so it is killed.
const LIMITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/limits.toml");

/// A server process. Killed when dropped, also by a panic, also when it has been stopped.
pub struct Broker {
    child: Child,
    lines: mpsc::Receiver<String>,
    log: PathBuf,
    started: Instant,
}

impl Broker {
    /// Starts a server on `data`; `port` 0 takes a free one. Its log goes to `data` with `.log` behind its name, so
    /// outside the directory itself.
    pub fn start(data: &Path, port: u16) -> Self {
        Self::start_with(data, port, &["--config".as_ref(), LIMITS.as_ref()])
    }

    /// The same, with this on the command line in the place of the limits that are measured with.
    pub fn start_with(data: &Path, port: u16, more: &[&OsStr]) -> Self {
        let dev = [&[OsStr::new("--dev")], more].concat();
        Self::serve(data, port, &dev)
    }

    /// The same without `--dev`: every limit holds that the command line does not set otherwise.
    pub fn serve(data: &Path, port: u16, more: &[&OsStr]) -> Self {
        let log = data.with_extension("log");
        let mut child = program()
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data"])
            .arg(data)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(&log).expect("the log opens"))
            .spawn()
            .expect("the server starts as a process");
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let (line, lines) = mpsc::channel();
        // Ends with the process, whose end closes the pipe; reads on so that the process never waits for us.
        std::thread::spawn(move || {
            for text in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = line.send(text);
            }
        });
        Self { child, lines, log, started: Instant::now() }
    }

    /// Waits for the line that says it serves; returns its port and how long it took.
    ///
    /// Blocks the thread: clients of ours have nothing to talk to meanwhile.
    pub fn ready(&mut self) -> Result<(u16, Duration), String> {
        let deadline = self.started + START_MAX;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(mpsc::RecvTimeoutError::Timeout) => return Err(self.complaint("did not become ready")),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(self.complaint("ended instead of serving")),
            };
            if let Some((_, port)) = line.rsplit_once("http://127.0.0.1:") {
                let digits: String = port.chars().take_while(char::is_ascii_digit).collect();
                let port = digits.parse().map_err(|_| self.complaint(&format!("printed {line:?}")))?;
                return Ok((port, self.started.elapsed()));
            }
        }
    }

    /// An error where the server has ended by itself.
    pub fn check_alive(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(_)) | Err(_) => Err(self.complaint("ended by itself")),
        }
    }

    /// Of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kill -9, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop in order.
    pub fn terminate(&self) -> Result<(), String> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).map_err(|error| error.to_string())
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it is our child")
    }

    /// Stops the process where it stands, and waits until none of its threads runs.
    pub fn freeze(&self) -> Result<(), String> {
        kill_process(Pid::from_child(&self.child), Signal::STOP).map_err(|e| e.to_string())?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.is_frozen() {
            if Instant::now() > deadline {
                return Err("the server did not stop within 10 s".to_owned());
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Every thread stopped, none in the middle of a write: state `T` in proc_pid_stat(5).
    fn is_frozen(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.child.id())) else { return false };
        threads.flatten().all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    fn complaint(&mut self, what: &str) -> String {
        let ended = self.child.try_wait().ok().flatten();
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(15)..].join("\n    ");
        format!("the server {what}; status {ended:?}; the end of its log:\n    {tail}")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A token for `user`, valid as long as any run.
pub fn token(data: &Path, user: &str) -> Result<String, String> {
    let made = program().args(["token", "create", "--user", user, "--ttl", "12h", "--data"]).arg(data).output();
    let made = made.map_err(|e| e.to_string())?;
    if !made.status.success() {
        return Err(format!("no token for {user}: {}", String::from_utf8_lossy(&made.stderr)));
    }
    Ok(String::from_utf8_lossy(&made.stdout).trim().to_owned())
}

/// Runs `data verify`; the error is what it said.
pub fn verify(data: &Path) -> Result<(), String> {
    let checked = program().args(["data", "verify", "--data"]).arg(data).output().map_err(|e| e.to_string())?;
    if checked.status.success() {
        return Ok(());
    }
    let (out, err) = (String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    Err(format!("data verify: {}: {out}{err}", checked.status))
}

/// The binary under test, without the variables that size the tests; `CHINWAG_BIN` names another than the one just
/// built, such as one that is broken on purpose.
fn program() -> Command {
    let binary = std::env::var_os("CHINWAG_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_chinwag").into());
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CHINWAG_")) {
        command.env_remove(name);
    }
    command
}
