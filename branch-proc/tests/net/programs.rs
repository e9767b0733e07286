//! Programs nobody here wrote, in a group with an allow list.

use std::io::{BufRead, BufReader};
use std::process::{self, Child};

use branch_proc::{CaptureOptions, Command, Policy, Preset, Stdio};

use crate::common::sh;
use crate::outside::Outside;

/// Whether this host has all of these; says so if not.
fn has(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| {
        process::Command::new(program).arg("version").stdin(process::Stdio::null()).output().is_err()
    });
    if let Some(program) = missing {
        println!("skipped: no {program} here");
    }
    missing.is_none()
}

/// Standard output, standard error and exit code of a shell script.
fn shell(script: &str, with: impl FnOnce(Command) -> Command) -> (String, String, i32) {
    let command = with(sh(script).env("PATH", "/usr/bin:/bin").stdin(Stdio::Null));
    let captured = command.capture(CaptureOptions::default()).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(captured.stdout.bytes), text(captured.stderr.bytes), captured.outcome.shell_code())
}

#[test]
fn curl_reaches_what_is_allowed_and_shows_why_not() {
    if !has(&["curl"]) {
        return;
    }
    let outside = Outside::new();
    let (web, trap) = (outside.web, outside.trap);
    let run = |script: String| shell(&script, outside.allowing(""));
    let (out, err, code) = run(format!("curl -sS http://allowed.example:{web}/"));
    assert_eq!((out.as_str(), code), ("hello", 0), "{err}");
    let (out, err, code) =
        run(format!("curl -sSL 'http://allowed.example:{web}/redirect?http://10.0.0.1:{trap}/'"));
    assert!(out.contains("10.0.0.1") && out.contains("--net allow=10.0.0.1"), "{out}{err}{code}");
    let (_, err, code) = run("curl -sSv https://evil.example/".to_owned());
    assert!(code != 0 && err.contains("evil.example:443 is not in the allow list"), "{err}");
    assert_eq!(outside.trapped(), 0);
}

#[test]
fn it_works_under_a_policy_too() {
    if !has(&["curl"]) {
        return;
    }
    let outside = Outside::new();
    let script = format!("curl -sS http://allowed.example:{}/; curl -sS http://10.0.0.1/", outside.web);
    let policy = Policy::preset(Preset::Build, None).unwrap();
    let with = outside.allowing("");
    let (out, err, code) = shell(&script, |command| with(command).policy(policy).current_dir("/"));
    assert!(
        out.starts_with("hellobranchfs: 10.0.0.1:80 is not in the allow list") && code == 0,
        "{out}{err}"
    );
}

/// A TLS server of its own, killed when dropped.
struct Tls {
    server: Child,
    port: u16,
    _files: tempfile::TempDir,
}

impl Tls {
    fn new() -> Tls {
        let files = tempfile::tempdir().unwrap();
        let (key, certificate) = (files.path().join("key"), files.path().join("certificate"));
        let made = process::Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-subj", "/CN=tls.example", "-days", "2", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut server = process::Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-www", "-key"])
            .arg(&key)
            .arg("-cert")
            .arg(&certificate)
            .stdin(process::Stdio::piped())
            .stdout(process::Stdio::piped())
            .stderr(process::Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
        let ready = lines.find_map(|line| line.strip_prefix("ACCEPT ")?.rsplit(':').next()?.parse().ok());
        // It goes on writing.
        std::thread::spawn(move || lines.for_each(drop));
        Tls { server, port: ready.unwrap(), _files: files }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

#[test]
fn real_tls_goes_through_and_asks_for_no_other_server() {
    if !has(&["curl", "openssl"]) {
        return;
    }
    let (outside, tls) = (Outside::new(), Tls::new());
    let port = tls.port;
    let run =
        |script: String| shell(&script, outside.allowing(&format!(",tls.example:{port},127.0.0.1:{port}")));
    let (out, err, code) = run(format!("curl -ksS https://tls.example:{port}/"));
    assert!(code == 0 && out.contains("s_server"), "{out}{err}");
    let fronted =
        format!("curl -ksS --connect-to evil.example:{port}:tls.example:{port} https://evil.example:{port}/");
    let (out, err, code) = run(fronted);
    assert!(code == 35 && err.contains("unrecognized name"), "{code} {out}{err}");
}
