//! A machine with systemd as its first process, in namespaces of this one: a system and a user manager, their two
//! buses, and a session of an ordinary user in which a test goes on. Nothing of it outlives the test.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

const SYSTEMD: &str = "/lib/systemd/systemd";
const NEEDED: [&str; 5] =
    [SYSTEMD, "/usr/bin/busctl", "/usr/bin/systemctl", "/usr/bin/dbus-daemon", "/usr/bin/unshare"];
/// Far longer than it takes, about two seconds on a busy machine.
const BOOT_MAX: Duration = Duration::from_secs(25);

/// Makes the machine and becomes its first process. Arguments: control group, directory. What is not its own it
/// cannot write.
const SET_UP: &str = r#"
echo $$ > "$1/cgroup.procs"
exec unshare --cgroup --mount --pid --uts --ipc --fork --kill-child --mount-proc /bin/sh -euc '
    mount --make-rprivate /
    mount -o remount,bind,ro /
    mount --bind /proc/sys /proc/sys
    mount -o remount,bind,ro /proc/sys
    mount -t tmpfs tmpfs /run
    mount --bind "$2/console" /dev/console
    umount -l /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    exec env -i container=branch-proc SYSTEMD_UNIT_PATH="$2/system" PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=false
' sh "$@"
"#;

const BUS: &str = "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\n[Service]\nType=notify\nNotifyAccess=all\n\
    ExecStart=/usr/bin/dbus-daemon --@KIND --address=systemd: --nofork --nopidfile --systemd-activation --syslog-only\n";
const SOCKET: &str = "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=@PATH\n";
const TARGET: &str = "[Unit]\nDefaultDependencies=no\nWants=@WANTED\nAfter=@WANTED\n";
/// The user manager, as `user@.service` has it but for PAM and logind.
const MANAGER: &str = "[Unit]\nDefaultDependencies=no\nWants=dbus.service\nAfter=dbus.service\n\
    [Service]\nType=notify\nSlice=user-65534.slice\nUser=65534\nGroup=65534\nDelegate=yes\nKillMode=mixed\n\
    Environment=XDG_RUNTIME_DIR=/run/user/65534 SYSTEMD_UNIT_PATH=@DIRECTORY/user\n\
    ExecStartPre=+/usr/bin/install -d -o 65534 -g 65534 -m 700 /run/user/65534\n\
    ExecStart=/lib/systemd/systemd --user --unit=test.target\n";
/// A session: beside the user manager, and nobody's to make groups in but root's.
const SESSION: &str = "[Unit]\nDefaultDependencies=no\nWants=manager.service\nAfter=manager.service\n\
    [Service]\nSlice=user-65534.slice\nUser=65534\nGroup=65534\nExecStart=/bin/sh @DIRECTORY/session\n";

/// Why it cannot be made here.
pub(crate) fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can boot a systemd".to_owned());
    }
    if let Some(program) = NEEDED.iter().find(|program| !Path::new(program).exists()) {
        return Some(format!("there is no {program}"));
    }
    let mut tried = Command::new("unshare");
    tried.args(["--cgroup", "--mount", "--pid", "--uts", "--ipc", "--fork"]);
    let works = tried.args(["mount", "-t", "tmpfs", "tmpfs", "/run"]).output();
    if !works.is_ok_and(|output| output.status.success()) {
        return Some("namespaces and mounts are not to be had".to_owned());
    }
    let trial = cgroup2().map(|point| point.join(format!("branchfs-test-{}-trial", std::process::id())));
    match trial.map(|trial| fs::create_dir(&trial).and_then(|()| fs::remove_dir(&trial))) {
        Some(Ok(())) => None,
        _ => Some("no cgroup v2 in which groups can be made".to_owned()),
    }
}

fn cgroup2() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    line.split(' ').nth(4).map(PathBuf::from)
}

/// Runs a script as nobody in the session; what it says, and what the console has.
pub(crate) fn run_in_session(directory: &Path, script: &str) -> (String, String) {
    let write = |name: &str, text: &str| fs::write(directory.join(name), text).unwrap();
    for place in ["system", "user"] {
        fs::create_dir(directory.join(place)).unwrap();
    }
    let here = directory.display().to_string();
    write("system/dbus.service", &BUS.replace("@KIND", "system"));
    write("system/dbus.socket", &SOCKET.replace("@PATH", "/run/dbus/system_bus_socket"));
    write("system/manager.service", &MANAGER.replace("@DIRECTORY", &here));
    write("system/session.service", &SESSION.replace("@DIRECTORY", &here));
    write("system/test.target", &TARGET.replace("@WANTED", "session.service"));
    write("user/dbus.service", &BUS.replace("@KIND", "session"));
    write("user/dbus.socket", &SOCKET.replace("@PATH", "%t/bus"));
    write("user/test.target", &TARGET.replace("@WANTED", "dbus.socket"));
    write("console", "");
    let said = directory.join("said");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &said,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    fs::set_permissions(&said, fs::Permissions::from_mode(0o666)).unwrap();
    write("session", &format!("exec >{} 2>&1\n{script}", said.display()));
    let reader = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&said).unwrap();
    let machine = Machine::boot(directory);
    let text = read_to_the_end(reader, Instant::now() + BOOT_MAX);
    drop(machine);
    (text, fs::read_to_string(directory.join("console")).unwrap())
}

fn read_to_the_end(mut reader: File, deadline: Instant) -> String {
    let mut text = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut watched = [PollFd::new(&reader, PollFlags::IN)];
        if rustix::event::poll(&mut watched, Some(&timeout)).unwrap() == 0 {
            text.extend_from_slice(b"\nand no end of it came in time");
            break;
        }
        let mut piece = [0; 4096];
        match reader.read(&mut piece).unwrap() {
            0 => break,
            count => text.extend_from_slice(&piece[..count]),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Everything below one control group.
struct Machine {
    cgroup: PathBuf,
    unshare: Child,
}

impl Machine {
    fn boot(directory: &Path) -> Machine {
        let cgroup = cgroup2().unwrap().join(format!("branchfs-test-{}", std::process::id()));
        fs::create_dir(&cgroup).unwrap();
        let mut shell = Command::new("/bin/sh");
        let shell = shell.args(["-euc", SET_UP, "sh"]).arg(&cgroup).arg(directory);
        let console = || Stdio::from(File::options().append(true).open(directory.join("console")).unwrap());
        let unshare = shell.stdin(Stdio::null()).stdout(console()).stderr(console()).spawn().unwrap();
        Machine { cgroup, unshare }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let events = File::open(self.cgroup.join("cgroup.events")).unwrap();
        fs::write(self.cgroup.join("cgroup.kill"), "1").unwrap();
        self.unshare.kill().unwrap();
        self.unshare.wait().unwrap();
        let timeout = Timespec { tv_sec: BOOT_MAX.as_secs() as i64, tv_nsec: 0 };
        while fs::read_to_string(self.cgroup.join("cgroup.events")).unwrap().contains("populated 1") {
            let mut watched = [PollFd::new(&events, PollFlags::PRI)];
            assert!(rustix::event::poll(&mut watched, Some(&timeout)).unwrap() > 0, "something lives on");
        }
        remove(&self.cgroup);
    }
}

fn remove(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap().flatten().filter(|e| e.file_type().unwrap().is_dir()) {
        remove(&entry.path());
    }
    fs::remove_dir(directory).unwrap();
}
