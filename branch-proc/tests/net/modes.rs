//! What each network mode is, seen from inside.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use branch_proc::{Net, PROXY_PORT, Rung, Step, host};

use crate::common::{sh, stdout_of};
use crate::inside::{hex, ordered, ordered_and};
use crate::outside::Outside;

fn orders(of: &[&str]) -> Vec<String> {
    of.iter().map(|order| (*order).to_owned()).collect()
}

#[test]
fn everything_here_holds_for_an_ordinary_user_too() {
    crate::common::again_as_an_ordinary_user("everything_here_holds_for_an_ordinary_user_too");
}

#[test]
fn none_has_no_network_at_all() {
    let all = orders(&["loopback", "tcp 127.0.0.1:80", "udp 8.8.8.8:53"]);
    let seen = ordered(&all, |command| command.net(Net::None));
    assert_eq!(seen[1..3], ["NetworkUnreachable", "NetworkUnreachable"]);
    assert_ne!(seen[0], "\"reached\"");
}

#[test]
fn loopback_is_its_own_and_all_there_is() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let outside = format!("tcp {}", listener.local_addr().unwrap());
    let all = orders(&["loopback", &outside, "tcp 169.254.169.254:80", "udp 8.8.8.8:53"]);
    let seen = ordered(&all, |command| command.net(Net::Loopback));
    assert_eq!(seen, ["\"reached\"", "ConnectionRefused", "NetworkUnreachable", "NetworkUnreachable"]);
}

#[test]
fn open_is_the_callers_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let outside = format!("tcp {}", listener.local_addr().unwrap());
    assert_eq!(ordered(&[outside], |command| command.net(Net::Open)), ["\"connected\""]);
}

#[test]
fn an_allow_list_has_a_loopback_of_its_own_and_a_proxy_there() {
    let outside = Outside::new();
    let get = format!("GET http://allowed.example:{}/ HTTP/1.1\r\nConnection: close\r\n\r\n", outside.web);
    let all = orders(&["loopback", &format!("proxy {}", hex(get.as_bytes())), "tcp 8.8.8.8:53"]);
    let seen = ordered(&all, outside.allowing(""));
    assert_eq!((seen[0].as_str(), seen[2].as_str()), ("\"reached\"", "NetworkUnreachable"));
    assert!(seen[1].starts_with("\"HTTP/1.1 200 OK") && seen[1].ends_with("hello\""), "{}", seen[1]);
}

#[test]
fn a_network_of_its_own_is_had_on_every_rung_with_namespaces_and_never_given_up_silently() {
    let outside = Outside::new();
    for rung in [Rung::CgroupV2, Rung::CgroupHybrid, Rung::PidNamespace] {
        let allowing = outside.allowing("");
        let seen =
            ordered(&orders(&["loopback", "tcp 8.8.8.8:53"]), |command| allowing(command).at_most(rung));
        assert_eq!(seen, ["\"reached\"", "NetworkUnreachable"], "{rung:?}");
    }
    for net in ["none", "loopback", "allow=a.example"] {
        let error = sh("exit 0").net(net.parse().unwrap()).at_most(Rung::Subreaper).spawn().unwrap_err();
        assert_eq!(error.step, Step::Require, "{error}");
        assert!(error.to_string().contains("a network of its own"), "{error}");
    }
}

#[test]
fn a_network_of_its_own_is_no_way_to_the_hypervisor() {
    let all = orders(&["hypervisor", "io_uring"]);
    for net in ["none", "loopback", "allow=a.example"] {
        let seen = ordered(&all, |command| command.net(net.parse().unwrap()));
        assert_eq!(seen, ["PermissionDenied", "PermissionDenied"], "{net}");
    }
    // Kernels without such sockets say so, and no order gets as far as to be made: the parameters are missing.
    let seen = ordered(&all[..1], |command| command);
    assert_ne!(seen, ["PermissionDenied"], "it shows nothing where it is denied anyway");
}

/// A socket where systemd's resolver has its own, for as long as it lives.
struct Resolver(std::path::PathBuf);

impl Resolver {
    fn new() -> Option<Resolver> {
        let directory = std::path::Path::new("/run/systemd/resolve");
        let path = directory.join("io.systemd.Resolve");
        // Only where there is nothing of systemd's resolver at all.
        std::fs::create_dir(directory).ok()?;
        let listener = UnixListener::bind(&path).unwrap();
        // As long as this process: it need not answer.
        std::mem::forget(listener);
        Some(Resolver(path))
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
        std::fs::remove_dir(self.0.parent().unwrap()).unwrap();
    }
}

#[test]
fn a_resolver_behind_a_socket_file_is_hidden() {
    let Some(resolver) = Resolver::new() else {
        println!("skipped: there is a resolver here, or this user cannot make one for the test");
        return;
    };
    let order = [format!("unix {}", resolver.0.display())];
    assert_eq!(ordered(&order, |command| command.net(Net::Open)), ["\"connected\""]);
    for net in [Net::None, Net::Loopback] {
        assert_eq!(ordered(&order, |command| command.net(net)), ["ConnectionRefused"]);
    }
}

#[test]
fn programs_are_pointed_to_the_proxy_and_away_from_what_they_cannot_reach() {
    let script = "echo $http_proxy $HTTPS_PROXY $no_proxy";
    let with = |net: &str| sh(script).env("http_proxy", "http://outer:1").net(net.parse().unwrap());
    let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
    assert_eq!(stdout_of(with("allow=a.example")), format!("{proxy} {proxy} localhost,127.0.0.1,::1\n"));
    assert_eq!(stdout_of(sh("echo $http_proxy$HTTPS_PROXY").env("http_proxy", "x").net(Net::None)), "\n");
    assert!(stdout_of(with("open")).starts_with("http://outer:1"));
}

#[test]
fn root_gives_up_what_would_let_it_leave_and_keeps_the_rest() {
    if host::Report::probe().user == branch_proc::UserNamespace::Own {
        println!("skipped: this user has no capabilities outside its own user namespace");
        return;
    }
    let bounding = |net| {
        let text = stdout_of(sh("grep CapBnd /proc/self/status").net(net));
        u64::from_str_radix(text.trim().rsplit('\t').next().unwrap(), 16).unwrap()
    };
    let (open, confined) = (bounding(Net::Open), bounding(Net::Loopback));
    let (sys_admin, net_admin, sys_ptrace, chown) = (1 << 21, 1 << 12, 1 << 19, 1);
    assert_eq!(confined & (sys_admin | net_admin | sys_ptrace), 0);
    assert_eq!(open & chown, confined & chown);
    assert_eq!(confined & !open, 0);
}

#[test]
fn what_was_refused_is_told_to_the_program_and_to_its_caller() {
    let outside = Outside::new();
    let ask =
        |target: &str| format!("proxy {}", hex(format!("CONNECT {target} HTTP/1.1\r\n\r\n").as_bytes()));
    let all = [ask("evil.example:443"), ask("evil.example:443"), ask("10.0.0.1:443")];
    let mut denials = Vec::new();
    let seen = ordered_and(&all, outside.allowing(""), |captured| {
        denials = captured.outcome.denials.clone();
    });
    let words = "evil.example:443 is not in the allow list; add it with --net allow=evil.example";
    assert!(seen[0].contains(&format!("HTTP/1.1 403 branchfs: {words}\\r\\n")), "{}", seen[0]);
    assert!(seen[0].ends_with(&format!("branchfs: {words}\\n\"")), "{}", seen[0]);
    let told: Vec<_> = denials.iter().map(|d| (d.op.as_str(), d.object.as_str(), d.count)).collect();
    assert_eq!(told, [("connect", "evil.example:443", 2), ("connect", "10.0.0.1:443", 1)]);
    assert_eq!(denials[0].words, words);
}
