//! The binary as a service manager and an operator meet it: notifications, a socket that is handed over, reloading,
//! health, the log, and what packages are made of.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_service_manager_is_told_of_the_start_of_a_reload_of_being_alive_and_of_the_end() {
    let home = TempDir::new().unwrap();
    let manager = Manager::new(home.path());
    let mut command = serve(home.path());
    command.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "200000").env_remove("WATCHDOG_PID");
    let server = Server::spawn(&mut command);
    let ready = manager.hears("READY=1");
    assert!(ready.contains(&format!("STATUS=listening on {}", server.url)), "{ready}");
    manager.hears("WATCHDOG=1");
    server.signal(Signal::HUP);
    let reloading = manager.hears("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.hears("READY=1");
    manager.hears("WATCHDOG=1");
    server.signal(Signal::TERM);
    manager.hears("STOPPING=1");
    assert_eq!(server.ended(), Some(0));
}

/// A server that is handed a listener as systemd does it (sd_listen_fds(3)): the descriptor is number 3, and the pid is
/// that of the process which is started.
fn activated(listener: &TcpListener, home: &Path) -> Command {
    rustix::io::fcntl_setfd(listener, rustix::io::FdFlags::empty()).unwrap();
    let script = format!(
        "exec 3<&{fd}; LISTEN_PID=$$ LISTEN_FDS=1 exec {binary} serve --data \"$0\" --listen 127.0.0.1:1 \"$@\"",
        fd = listener.as_raw_fd(),
        binary = env!("CARGO_BIN_EXE_chinwag")
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script]).arg(data(home));
    command
}

#[test]
fn dev_mode_refuses_a_socket_that_others_can_reach() {
    let home = TempDir::new().unwrap();
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let refused = run(activated(&listener, home.path()).arg("--dev"));
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    assert!(said(&refused.stderr).contains("dev mode is for this machine only"), "{refused:?}");
}

#[test]
fn a_socket_that_systemd_listens_on_is_taken_over() {
    let home = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut command = activated(&listener, home.path());
    // Who comes before the server does waits for it.
    let mut early = TcpStream::connect(address).unwrap();
    early.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let server = Server::spawn(&mut command);
    drop(listener);
    assert_eq!(server.url, format!("http://{address}"));
    early.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    early.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn a_reload_changes_what_it_can_names_what_it_cannot_and_keeps_all_when_there_is_a_mistake() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("chinwag.toml");
    fs::write(&file, "[log]\nformat = \"json\"\n").unwrap();
    let server = Server::spawn(serve(home.path()).arg("--config").arg(&file));
    server.says("ready");

    fs::write(&file, "[log]\nformat = \"json\"\nlevel = \"loud\"\nsample = 1\n[limits]\nheartbeet = \"1s\"\n").unwrap();
    server.signal(Signal::HUP);
    let mistakes = [server.says("a mistake in the configuration"), server.says("a mistake in the configuration")];
    assert!(text(&mistakes[0], "mistake").contains("chinwag.toml:3:9: log.level"), "{mistakes:?}");
    assert!(text(&mistakes[1], "mistake").contains("did you mean `heartbeat`?"), "{mistakes:?}");
    server.says("the configuration was not taken over; everything stays as it was");

    fs::write(&file, "[log]\nformat = \"json\"\nsample = 1\n[store]\ncache_mb = 65\n").unwrap();
    server.signal(Signal::HUP);
    let kept = server.says("this changes with the next start; until then it stays as it was");
    assert_eq!(text(&kept, "setting"), "store.cache_mb");
    server.says("the configuration was read again and taken over");
    // The new sample holds: before, no line about a request was written.
    assert!(get(&server.url, "/readyz?token=secret").starts_with("HTTP/1.1 200 "));
    let served = server.says("request served");
    assert_eq!((text(&served, "route"), &served["status"]), ("/readyz", &200.into()));
    assert!(!served.to_string().contains("secret"), "{served}");
}

#[test]
fn who_may_come_in_and_from_which_pages_changes_with_a_reload() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("chinwag.toml");
    fs::write(&file, "[log]\nformat = \"json\"\n").unwrap();
    let server = Server::spawn(serve(home.path()).arg("--config").arg(&file));
    let token = said(&run(chinwag(&["token", "create", "--user", "ann", "--data"]).arg(data(home.path()))).stdout);
    let publish = || {
        let command = format!("echo hello | {} pub lobby --create", env!("CARGO_BIN_EXE_chinwag"));
        let mut shell = Command::new("sh");
        let run =
            shell.args(["-c", &command]).env("CHINWAG_URL", &server.url).env("CHINWAG_TOKEN", token.trim()).output();
        run.unwrap().status.code()
    };
    let page = || {
        get_from(&server.url, "/healthz", "https://chat.example")
            .contains("access-control-allow-origin: https://chat.example")
    };
    assert_eq!((publish(), page()), (Some(0), false));

    // One mistake, deep in the options of identity, holds back all the rest.
    let origins =
        "[log]\nformat = \"json\"\n[server]\norigins = [\"https://chat.example\"]\n[auth]\nown_issuer = false\n";
    let issuer = "[[auth.issuers]]\nname = \"shop\"\niss = \"shop\"\naudiences = [\"chat\"]\n[[auth.issuers.keys]]\npem_file = \"/nowhere/key.pem\"\n";
    fs::write(&file, format!("{origins}{issuer}")).unwrap();
    let checked = run(chinwag(&["config", "check", "--config"]).arg(&file));
    assert_eq!(checked.status.code(), Some(78), "{checked:?}");
    assert!(said(&checked.stderr).contains("/nowhere/key.pem"), "{checked:?}");
    server.signal(Signal::HUP);
    server.says("the configuration was not taken over; everything stays as it was");
    assert_eq!((publish(), page()), (Some(0), false));

    fs::write(&file, origins).unwrap();
    server.signal(Signal::HUP);
    server.says("the configuration was read again and taken over");
    assert_eq!((publish(), page()), (Some(77), true));
}

#[test]
fn traffic_is_logged_when_asked_for_without_what_clients_say() {
    let home = TempDir::new().unwrap();
    let server = Server::spawn(serve(home.path()).env("CHINWAG_LOG__FORMAT", "json").env("CHINWAG_LOG__SAMPLE", "1"));
    let token = said(&run(chinwag(&["token", "create", "--user", "ann", "--data"]).arg(data(home.path()))).stdout);
    let mut publish = chinwag(&["pub", "no-such-room", "--url", &server.url, "--token", token.trim()]);
    let mut publishing = publish.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    publishing.stdin.take().unwrap().write_all(b"between us\n").unwrap();
    assert_eq!(publishing.wait().unwrap().code(), Some(65));
    let mut lines = Vec::new();
    for message in ["connection opened", "request served", "command refused", "connection closed"] {
        lines.push(server.says(message));
    }
    assert_eq!((&lines[1]["route"], &lines[1]["status"]), (&"/v1/ws".into(), &101.into()));
    assert_eq!(lines[2]["code"], "room_not_found");
    server.signal(Signal::TERM);
    server.says("stopping");
    server.says("stopped");
    let rest: Vec<_> = lines.iter().map(Value::to_string).chain(server.log.iter()).collect();
    for secret in [token.trim(), "between us"] {
        assert!(!rest.iter().any(|line| line.contains(secret)), "{rest:#?}");
    }
}

#[test]
fn limits_of_a_reload_hold_for_what_comes_after_it() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("chinwag.toml");
    fs::write(&file, "[log]\nformat = \"json\"\n").unwrap();
    let server = Server::spawn(serve(home.path()).arg("--config").arg(&file));
    let publish = |text: &str| {
        let token = String::from_utf8(
            run(chinwag(&["token", "create", "--user", "ann", "--data"]).arg(data(home.path()))).stdout,
        )
        .unwrap();
        let mut command = chinwag(&["pub", "lobby", "--create", "--url", &server.url, "--token", token.trim()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let long = format!("{}\n", "x".repeat(8 * 1024));
    assert!(publish(&long).status.success());
    fs::write(&file, "[log]\nformat = \"json\"\n[limits]\nframe_kb = 1\n").unwrap();
    server.signal(Signal::HUP);
    server.says("the configuration was read again and taken over");
    assert!(!publish(&long).status.success(), "a frame that is too large now");
    assert!(publish("short\n").status.success());
}

#[test]
fn a_server_that_others_can_reach_without_tls_says_so() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("chinwag.toml");
    fs::write(&file, "[log]\nformat = \"json\"\n[server]\nlisten = \"0.0.0.0:0\"\n").unwrap();
    let mut command = chinwag(&["serve", "--config"]);
    let server = Server::spawn(command.arg(&file).arg("--data").arg(data(home.path())));
    assert_eq!(
        server.says("others can reach this server and it speaks no TLS: a proxy in front of it must")["level"],
        "WARN"
    );
}

#[test]
fn a_certificate_and_a_key_that_do_not_belong_together_are_refused_at_the_start_and_kept_out_by_a_reload() {
    let home = TempDir::new().unwrap();
    let [one, other] = ["one", "other"].map(|name| pair(home.path(), name));
    let file = home.path().join("chinwag.toml");
    let write = |cert: &Path, key: &Path| {
        let text = format!("[log]\nformat = \"json\"\n[tls]\ncert = {cert:?}\nkey = {key:?}\n");
        fs::write(&file, text).unwrap();
    };
    write(&one.0, &other.1);
    let refused = run(serve(home.path()).arg("--config").arg(&file));
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    assert!(said(&refused.stderr).contains("tls.key does not belong to tls.cert"), "{refused:?}");
    let checked = run(chinwag(&["config", "check", "--config"]).arg(&file));
    assert_eq!(checked.status.code(), Some(78), "{checked:?}");

    write(&one.0, &one.1);
    let server = Server::spawn(serve(home.path()).arg("--config").arg(&file));
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    write(&one.0, &other.1);
    server.signal(Signal::HUP);
    server.says("the configuration was not taken over; everything stays as it was");
    write(&other.0, &other.1);
    server.signal(Signal::HUP);
    server.says("the configuration was read again and taken over");
}

#[test]
fn the_client_commands_speak_tls_to_a_server_whose_certificate_they_trust() {
    let home = TempDir::new().unwrap();
    let (cert, key) = pair(home.path(), "here");
    let file = home.path().join("chinwag.toml");
    fs::write(&file, format!("[tls]\ncert = {cert:?}\nkey = {key:?}\n")).unwrap();
    let server = Server::spawn(serve(home.path()).arg("--config").arg(&file));
    let url = server.url.replace("127.0.0.1", "localhost");
    let token = said(&run(chinwag(&["token", "create", "--user", "ann", "--data"]).arg(data(home.path()))).stdout);
    let client = |args: &[&str]| {
        let mut command = chinwag(args);
        command.args(["--url", &url, "--token", token.trim()]).env("SSL_CERT_FILE", &cert);
        command
    };
    let line = home.path().join("line");
    fs::write(&line, "hello\n").unwrap();
    let published = client(&["pub", "lobby", "--create"]).stdin(File::open(&line).unwrap()).output().unwrap();
    assert!(published.status.success(), "{published:?}");
    let distrusted = run(client(&["sub", "lobby"]).env_remove("SSL_CERT_FILE"));
    assert_eq!(distrusted.status.code(), Some(76), "{distrusted:?}");
    assert!(said(&distrusted.stderr).contains("SSL_CERT_FILE"), "{distrusted:?}");
    for transport in ["ws", "sse", "poll"] {
        let seen = run(&mut client(&["sub", "lobby", "--since", "start", "--limit", "3", "--transport", transport]));
        assert!(said(&seen.stdout).contains("{\"text\":\"hello\"}"), "{transport}: {seen:?}");
    }
}

#[test]
fn health_is_asked_for_through_the_data_directory_and_over_the_network() {
    let home = TempDir::new().unwrap();
    let by_data = || run(chinwag(&["health", "--data"]).arg(data(home.path())));
    assert_eq!(by_data().status.code(), Some(1), "there is no server");
    let server = Server::spawn(&mut serve(home.path()));
    let url = server.url.clone();
    let by_url = || run(&mut chinwag(&["health", "--url", &url]));
    for asked in [by_data(), by_url()] {
        assert_eq!((asked.status.code(), said(&asked.stdout).as_str()), (Some(0), "ready\n"), "{asked:?}");
    }
    server.signal(Signal::TERM);
    assert_eq!(server.ended(), Some(0));
    for asked in [by_data(), by_url()] {
        assert_eq!(asked.status.code(), Some(1), "{asked:?}");
    }
}

#[test]
fn a_data_directory_too_deep_for_a_socket_is_served_all_the_same() {
    let home = TempDir::new().unwrap();
    // sun_path has 108 bytes (unix(7)).
    let deep = home.path().join("d".repeat(100));
    let server = Server::spawn(chinwag(&["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&deep));
    let warned = server.line_with("no socket for the operator");
    assert!(warned.contains("chinwag health --data"), "{warned}");
    assert!(get(&server.url, "/readyz").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_configuration_is_checked_shown_and_begun_on_the_command_line() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("chinwag.toml");
    fs::write(&file, said(&run(&mut chinwag(&["config", "default"])).stdout)).unwrap();
    assert!(run(chinwag(&["config", "check", "--config"]).arg(&file)).status.success());
    fs::write(&file, "[limits]\nheartbeat = \"5s\"\n").unwrap();
    let shown = run(chinwag(&["config", "show", "--origin", "--config"]).arg(&file).env("CHINWAG_LOG__LEVEL", "warn"));
    for line in ["heartbeat = \"5s\"  # ", "chinwag.toml:2\n", "level = \"warn\"  # CHINWAG_LOG__LEVEL\n"] {
        assert!(said(&shown.stdout).contains(line), "{}", said(&shown.stdout));
    }
    fs::write(&file, "[limits]\nheartbeat = 5\nfrme_kb = 1\n[lgo]\n").unwrap();
    let checked = run(chinwag(&["config", "check", "--config"]).arg(&file));
    assert_eq!(checked.status.code(), Some(78));
    assert_eq!(
        said(&checked.stderr).matches('^').count(),
        1 + "frme_kb".len() + "lgo".len(),
        "{}",
        said(&checked.stderr)
    );
    let schema: Value = serde_json::from_str(&said(&run(&mut chinwag(&["config", "schema"])).stdout)).unwrap();
    assert_eq!(schema["properties"]["limits"]["properties"]["frame_kb"]["default"], 64);
}

#[test]
fn shells_and_man_are_told_of_every_command() {
    let man = said(&run(&mut chinwag(&["man"])).stdout);
    for part in
        [".TH chinwag 1", "CHINWAG SERVE", "CHINWAG TOKEN CREATE", "CHINWAG CONFIG SHOW", "EXIT STATUS", "accept"]
    {
        assert!(man.contains(part), "{part}: {man}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&mut chinwag(&["completions", shell]));
        assert!(script.status.success() && said(&script.stdout).contains("completions"), "{shell}");
    }
    let bash = said(&run(&mut chinwag(&["completions", "bash"])).stdout);
    let checked = Command::new("bash").args(["-n", "-c", &bash]).output().unwrap();
    assert!(checked.status.success(), "{}", said(&checked.stderr));
}

#[test]
fn systemd_understands_the_units() {
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        println!("NOTICE: systemd-analyze is not installed, so the units were not verified");
        return;
    };
    assert!(version.status.success());
    let home = TempDir::new().unwrap();
    let units = ["chinwag.service", "chinwag.socket"].map(|name| {
        let text = fs::read_to_string(root().join("packaging").join(name)).unwrap();
        let path = home.path().join(name);
        // It wants the binary to be there.
        fs::write(&path, text.replace("/usr/bin/chinwag", env!("CARGO_BIN_EXE_chinwag"))).unwrap();
        path
    });
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units).output().unwrap();
    let complaints = said(&verified.stderr);
    let ours: Vec<_> = complaints.lines().filter(|line| line.contains("chinwag")).collect();
    assert!(verified.status.success() && ours.is_empty(), "{complaints}");
    let rated = Command::new("systemd-analyze")
        .args(["security", "--offline=yes", "--threshold=20"])
        .arg(&units[0])
        .output()
        .unwrap();
    // From 0 to 10, here in tenths: 2.0 counts as "OK", and unconfined services have 9.6.
    assert!(rated.status.success(), "{}{}", said(&rated.stdout), said(&rated.stderr));
}

#[test]
fn what_packages_name_is_there() {
    let manifest: toml::Table = toml::from_str(&fs::read_to_string(root().join("Cargo.toml")).unwrap()).unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let assets = deb["assets"].as_array().unwrap();
    let sources: Vec<_> = assets.iter().map(|asset| asset[0].as_str().unwrap()).collect();
    // The binary and what it prints itself are built; the rest is in the repository.
    for source in sources.iter().filter(|source| !source.starts_with("target/")) {
        assert!(root().join(source).is_file(), "{source}");
    }
    for file in deb["conf-files"].as_array().unwrap() {
        let to = file.as_str().unwrap().trim_start_matches('/');
        let installed = |asset: &toml::Value| {
            let (from, into) = (asset[0].as_str().unwrap(), asset[1].as_str().unwrap());
            format!("{into}{}", if into.ends_with('/') { from.rsplit('/').next().unwrap() } else { "" })
        };
        assert!(assets.iter().any(|asset| installed(asset) == to), "{to} is installed by no asset");
    }
    let default = fs::read_to_string(root().join("packaging/chinwag.toml")).unwrap();
    let printed = said(&run(&mut chinwag(&["config", "default"])).stdout);
    assert!(default == printed, "write it anew: chinwag config default > packaging/chinwag.toml");
}

#[test]
fn metrics_have_an_address_of_their_own_and_clients_do_not_see_them() {
    let home = TempDir::new().unwrap();
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::spawn(serve(home.path()).env("CHINWAG_METRICS__LISTEN", address.to_string()));
    let read = get(&format!("http://{address}"), "/metrics");
    assert!(read.starts_with("HTTP/1.1 200 ") && read.trim_end().ends_with("# EOF"), "{read}");
    assert!(get(&server.url, "/metrics").starts_with("HTTP/1.1 404 "));
    assert!(get(&format!("http://{address}"), "/v1/ws").starts_with("HTTP/1.1 404 "));
}

/// A service manager that is told things.
struct Manager {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Manager {
    fn new(dir: &Path) -> Self {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { path, socket }
    }

    /// The next notification with `what` in it.
    fn hears(&self, what: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let bytes = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{what} was not said: {error}"));
            let told = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
            if told.lines().any(|line| line == what) {
                return told;
            }
        }
    }
}

/// A server process whose log is read; killed when dropped.
struct Server {
    child: std::cell::RefCell<Child>,
    url: String,
    log: mpsc::Receiver<String>,
}

impl Server {
    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (line, log) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let Some(url) = first.trim().strip_prefix("listening on ") else {
            let _ = child.wait();
            panic!("it is not ready: {first:?} {:?}", log.iter().collect::<Vec<_>>());
        };
        Self { url: url.to_owned(), child: child.into(), log }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child.borrow()), signal).unwrap();
    }

    /// The next line of the log with this in it.
    fn line_with(&self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut others = Vec::new();
        loop {
            match self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => others.push(line),
                Err(_) => panic!("{part:?} was not logged; this was: {others:#?}"),
            }
        }
    }

    /// The next line of the log, which is JSON, with this message.
    fn says(&self, message: &str) -> Value {
        loop {
            let line = self.line_with(message);
            let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if value["message"] == message {
                return value;
            }
        }
    }

    fn ended(&self) -> Option<i32> {
        self.child.borrow_mut().wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.get_mut().kill();
        let _ = self.child.get_mut().wait();
    }
}

/// The files of a certificate of its own, and of its key.
fn pair(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    fs::write(&files.0, made.cert.pem()).unwrap();
    fs::write(&files.1, made.signing_key.serialize_pem()).unwrap();
    files
}

fn get(url: &str, path: &str) -> String {
    get_with(url, path, "")
}

/// Asks as a page from `origin` would.
fn get_from(url: &str, path: &str, origin: &str) -> String {
    get_with(url, path, &format!("Origin: {origin}\r\n"))
}

fn get_with(url: &str, path: &str, more: &str) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The binary, in an environment without configuration.
fn chinwag(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chinwag"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CHINWAG_")) {
        command.env_remove(name);
    }
    command.args(args);
    command
}

fn serve(home: &Path) -> Command {
    let mut command = chinwag(&["serve", "--dev", "--listen", "127.0.0.1:0", "--data"]);
    command.arg(data(home));
    command
}

fn data(home: &Path) -> PathBuf {
    home.join("data")
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn text<'a>(line: &'a Value, field: &str) -> &'a str {
    line[field].as_str().unwrap_or_else(|| panic!("{line} has no {field}"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
