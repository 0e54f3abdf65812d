//! Processes from outside: starting them on a core of their own, and what they cost.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getrlimit, kill_process, set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::scene::Target;
use crate::{Outcome, Role};

/// Where the server runs, and the limit in its turn. What makes the load runs on the other core, where there are two.
pub const SERVER_CORE: usize = 0;
pub const LOAD_CORE: usize = 1;

/// More than any case here has use for.
const DESCRIPTORS: u64 = 65_536;

/// One tick of the clock of proc_pid_stat(5): `sysconf(_SC_CLK_TCK)` is 100 on every Linux of today.
const TICK: Duration = Duration::from_millis(10);

/// Raises the limit of open files, as far as may be; children inherit it.
pub fn raise_descriptors() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: Some(DESCRIPTORS), maximum: maximum.map(|most| most.max(DESCRIPTORS)) };
    if current.is_some_and(|now| now < DESCRIPTORS) && setrlimit(Resource::Nofile, wanted).is_err() {
        // Without the privilege the hard limit is all there is to have; `as_many_as_fit` goes by what came of it.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// As many connections fit into the server: it lets in as many as there are descriptors for less a fifth
/// (`ARCHITECTURE.md`, "Queues"). Some are left for what is not measured.
pub fn connections_max() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(DESCRIPTORS);
    usize::try_from(files / 5 * 4).unwrap_or(usize::MAX).saturating_sub(400)
}

/// `wanted` connections, or as many as fit, and then a sentence that says so.
pub fn as_many_as_fit(wanted: usize) -> (usize, Option<String>) {
    let most = connections_max();
    if wanted <= most {
        return (wanted, None);
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(DESCRIPTORS);
    (most, Some(format!("{most} connections and not {wanted}: a process may open {files} files here")))
}

/// Has this process end with the driver, however that ends: nothing of a run is left behind.
pub fn end_with_parent() -> Outcome<()> {
    Ok(set_parent_process_death_signal(Some(Signal::TERM))?)
}

/// Becomes the server.
pub fn become_server(program: &Path, config: &Path) -> Outcome<()> {
    Err(Command::new(program).arg("serve").arg("--config").arg(config).exec().into())
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Moves this thread to `core`, and with it the children that it starts from now on.
pub fn pin(core: usize) -> Outcome<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// A child that is killed when it is dropped.
pub struct Process {
    child: Child,
    /// Where it serves.
    pub address: SocketAddr,
}

impl Process {
    /// Starts `program` on `core`, and waits for the line that says where it listens.
    fn start(mut program: Command, core: Option<usize>) -> Outcome<Self> {
        if let Some(core) = core {
            pin(core)?;
        }
        let mut child = program.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        if core.is_some() {
            pin(LOAD_CORE)?;
        }
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let mut this = Self { child, address: SocketAddr::from(([0, 0, 0, 0], 0)) };
        this.address = listening(stdout)?;
        Ok(this)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop in order, and waits until it has.
    pub fn stop(mut self) -> Outcome<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the server ended with {status}").into()) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listening(stdout: ChildStdout) -> Outcome<SocketAddr> {
    for line in BufReader::new(stdout).lines() {
        if let Some((_, address)) = line?.split_once("http://") {
            return Ok(address.trim().parse()?);
        }
    }
    Err("the server ended instead of serving; its log is above".into())
}

/// A server as a user starts one, on a directory of its own.
pub struct Server {
    pub process: Process,
    home: tempfile::TempDir,
}

impl Server {
    /// Starts `program`. What is there to keep strangers in check is lifted, what is promised is as ever: there is no
    /// setting for it.
    pub fn start(program: &Path, pinned: bool) -> Outcome<Self> {
        Self::start_in(tempfile::tempdir()?, program, pinned)
    }

    /// Stops it in order, and starts it again on the same log.
    pub fn restart(self, program: &Path, pinned: bool) -> Outcome<Self> {
        let Self { process, home } = self;
        process.stop()?;
        Self::start_in(home, program, pinned)
    }

    fn start_in(home: tempfile::TempDir, program: &Path, pinned: bool) -> Outcome<Self> {
        let config = home.path().join("chinwag.toml");
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\ndata = {:?}\ndev = true\n[log]\nlevel = \"warn\"\n{}",
            home.path().join("data"),
            include_str!("../limits.toml"),
        );
        fs::write(&config, text)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--role", Role::Server.as_str(), "--server"]).arg(program).arg("--config").arg(config);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CHINWAG_")) {
            command.env_remove(name);
        }
        let process = Process::start(command, pinned.then_some(SERVER_CORE))?;
        Ok(Self { process, home })
    }

    /// On the disk where its log is.
    pub fn folder(&self) -> &Path {
        self.home.path()
    }

    /// Where its clients find it.
    pub fn target(&self) -> Target {
        let data = self.home.path().join("data");
        Target::Server { address: self.process.address, pid: self.process.pid(), data }
    }
}

/// The bare loop that the server is held against, on the same core.
pub fn start_limit(frame_bytes: usize, pinned: bool) -> Outcome<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--role", Role::Limit.as_str(), "--frame-bytes", &frame_bytes.to_string()]);
    Process::start(command, pinned.then_some(SERVER_CORE))
}

/// Has a generator carry out `plan`, and returns what it has measured.
pub fn generate<T: DeserializeOwned>(plan: &impl Serialize) -> Outcome<T> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--role", Role::Generator.as_str()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    stdin.write_all(&serde_json::to_vec(plan)?)?;
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err("the run is not valid; what the generator says is above".into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The processor time of a process at one moment.
pub struct Spent {
    threads: BTreeMap<u32, u64>,
    ticks: u64,
}

impl Spent {
    /// Reads it from `schedstat` of each thread, in nanoseconds (proc(5)).
    pub fn by(pid: u32) -> Outcome<Self> {
        let mut threads = BTreeMap::new();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let thread = thread?;
            // One that ends just now is noticed by `since`.
            let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
            let id = thread.file_name().to_string_lossy().parse()?;
            threads.insert(id, text.split(' ').next().unwrap_or_default().parse()?);
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
        // utime and stime are the 14th and 15th of all, the 12th and 13th behind the name.
        let ticks = fields.get(11..13).ok_or("stat has fewer fields than it should")?;
        let ticks = ticks.iter().map(|text| text.parse::<u64>()).sum::<Result<_, _>>()?;
        Ok(Self { threads, ticks })
    }

    /// What was spent since `before`. Threads that ended meanwhile are not in `schedstat` any more; then the coarser
    /// account of the whole process counts.
    pub fn since(&self, before: &Self) -> Duration {
        if before.threads.keys().any(|id| !self.threads.contains_key(id)) {
            return TICK * u32::try_from(self.ticks - before.ticks).unwrap_or(u32::MAX);
        }
        let spent = self.threads.iter().map(|(id, now)| now - before.threads.get(id).copied().unwrap_or(0)).sum();
        Duration::from_nanos(spent)
    }
}

/// The resident memory of a process in bytes: `Rss` of `smaps_rollup`, which is exact (proc_pid_smaps(5)).
pub fn resident(pid: u32) -> Outcome<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).ok_or("smaps_rollup has no Rss")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// The processor time of this process.
pub fn own_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
