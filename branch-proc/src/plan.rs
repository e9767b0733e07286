//! From a request to what the kernel wants: every string made, every descriptor in place, before the clone.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::c_path::path_of;
use crate::cgroup::Home;
use crate::command::{Command, FD_TARGET_MAX, Stdio, Tmp};
use crate::confine::{Confinement, IdMaps, Namespaces, ProcRule, SharedMemory};
use crate::error::{SpawnError, Step};
use crate::ladder::{Requirement, Rung};
use crate::limits::Limits;
use crate::net::inside::Namespace;
use crate::net::{Egress, Net, environment as net_environment};
use crate::observe::Observe;
use crate::policy::{Policy, lets_through};
use crate::private_tmp::PrivateTmp;
use crate::program::{Program, StringArray};
use crate::sandbox::{ReadOnly, Sandbox};
use crate::sys;

/// Where programs are looked for when the program's environment has no PATH (`confstr(3)`, `_CS_PATH`).
const PATH_FALLBACK: &str = "/bin:/usr/bin";
/// The first number that is not a standard stream.
const FIRST_FREE: RawFd = 3;

/// What a group sees its own of.
const HIDDEN: [&str; 2] = ["/dev/shm", "/dev/mqueue"];

/// A request made ready.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) confinement: Confinement,
    pub(crate) program: Program,
    /// The proxy to be, for an allow list.
    pub(crate) egress: Option<Egress>,
    /// Descriptors that have to survive until exec lie at this number or above, out of the targets' way.
    pub(crate) floor: RawFd,
    /// The program's name, for messages.
    pub(crate) name: String,
    pub(crate) at_most: Rung,
    pub(crate) requirements: Vec<Requirement>,
    pub(crate) limits: Limits,
    /// Where its control groups are made, if not where the host says.
    pub(crate) home: Option<Home>,
}

impl Plan {
    pub(crate) fn new(mut command: Command) -> Result<Plan, SpawnError> {
        agree_on_net(&mut command);
        let name = command.argv.first().ok_or_else(|| invalid("a command without arguments"))?;
        let display = name.to_string_lossy().into_owned();
        let env = environment(&command);
        let path = env.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_os_str());
        let candidates = candidates(name, path.unwrap_or(OsStr::new(PATH_FALLBACK)))?;
        let argv = command.argv.iter().map(|a| c_string(a)).collect::<Result<_, _>>()?;
        let env = env.iter().map(|(key, value)| assignment(key, value)).collect::<Result<_, _>>()?;
        let floor = command.fds.iter().map(|(_, target)| target + 1).fold(FIRST_FREE, RawFd::max);
        let mut sandbox = sandbox(&command, floor)?;
        let walls = sandbox.as_ref().filter(|sandbox| sandbox.has_walls());
        let read_only = walls.map(|sandbox| ReadOnly::new(&sandbox.rules)).transpose()?.flatten();
        let proc = match command.requirements.contains(&Requirement::FreshProc) {
            true => ProcRule::Require,
            false => ProcRule::Prefer,
        };
        let (mut binds, cwd) = (binds(&command)?, directory(&command)?);
        let mut shared_memory = shared_memory(&binds, cwd.as_deref(), name);
        let maps = id_maps();
        let overlay = command.overlay.as_ref().map(|overlay| overlay.ready(maps.is_none())).transpose()?;
        if let Some(overlay) = &overlay {
            let over = path_of(&overlay.over);
            if HIDDEN.iter().any(|place| over.starts_with(place)) {
                shared_memory = SharedMemory::Callers;
            }
            if command.tmp == Tmp::Own && over.starts_with("/tmp") {
                return Err(SpawnError::new(Step::Overlay, libc::ENOTSUP, "what a private /tmp hides"));
            }
        }
        let private_tmp = (command.tmp == Tmp::Own).then(|| {
            let mut tmp = PrivateTmp::default();
            binds.retain(|(view, over)| !tmp.take(view, over));
            tmp
        });
        let confinement = Confinement {
            namespaces: Namespaces::Own,
            maps,
            net: Namespace::of(&command.net),
            overlay,
            binds,
            private_tmp,
            shared_memory,
            proc,
            read_only,
            cwd,
        };
        let (at_most, home) = (command.at_most, command.home.clone());
        let (requirements, limits) = (command.requirements.clone(), command.limits.clone());
        let session = command.session;
        let egress = Egress::of(&command.net, &command.way);
        let gives_up = confinement.net != Namespace::Callers && confinement.maps.is_none();
        // A policy keeps fewer.
        let gives_up = gives_up && !sandbox.as_ref().is_some_and(Sandbox::has_walls);
        // A policy refuses more.
        let fenced =
            confinement.net != Namespace::Callers && !sandbox.as_ref().is_some_and(Sandbox::has_walls);
        let fds = descriptors(command, floor)?;
        if let Some(sandbox) = &mut sandbox {
            pass(sandbox, &fds);
        }
        let (argv, env) = (StringArray::new(argv), StringArray::new(env));
        let rlimits = Vec::new();
        let program = Program { candidates, argv, env, fds, session, gives_up, fenced, rlimits, sandbox };
        Ok(Plan { confinement, program, egress, floor, name: display, at_most, requirements, limits, home })
    }

    /// Whether the program is the same without namespaces, as far as it can tell.
    pub(crate) fn can_do_without_namespaces(&self) -> bool {
        let confinement = &self.confinement;
        confinement.binds.is_empty()
            && confinement.overlay.is_none()
            && confinement.net == Namespace::Callers
            && confinement.private_tmp.is_none()
            && self.program.sandbox.is_none()
            && self.requirements.is_empty()
    }

    /// Gives up the namespaces: what was to be bound is entered at its own path.
    pub(crate) fn give_up_namespaces(&mut self) -> Result<(), SpawnError> {
        let confinement = &mut self.confinement;
        let refused = |thing| Err(SpawnError::new(Step::Require, libc::ENOTSUP, thing));
        if confinement.net != Namespace::Callers {
            return refused("a network of its own");
        }
        if confinement.overlay.is_some() {
            return refused("a native view");
        }
        if confinement.private_tmp.is_some() {
            return refused("a /tmp of its own");
        }
        if self.program.sandbox.as_ref().is_some_and(Sandbox::has_walls) {
            return refused("a policy without namespaces");
        }
        confinement.namespaces = Namespaces::Callers;
        confinement.maps = None;
        for (view, over) in std::mem::take(&mut confinement.binds).iter().rev() {
            let Some(cwd) = &confinement.cwd else { break };
            if let Some(inside) = moved(cwd, over, view)? {
                confinement.cwd = Some(inside);
                break;
            }
        }
        Ok(())
    }
}

/// A path below `over` as the same below `view`; None if it is not below.
fn moved(path: &CStr, over: &CStr, view: &CStr) -> Result<Option<CString>, SpawnError> {
    match path_of(path).strip_prefix(path_of(over)) {
        // Joining nothing would add a slash.
        Ok(rest) if rest.as_os_str().is_empty() => Ok(Some(view.to_owned())),
        Ok(rest) => c_string(path_of(view).join(rest).as_os_str()).map(Some),
        Err(_) => Ok(None),
    }
}

/// A confinement without binds, for a look at what the host can do.
pub(crate) fn bare_confinement(maps: Option<IdMaps>, net: Namespace) -> Confinement {
    let (namespaces, binds, proc) = (Namespaces::Own, Vec::new(), ProcRule::Prefer);
    let shared_memory = SharedMemory::Own;
    let (overlay, private_tmp, read_only, cwd) = (None, None, None, None);
    Confinement { namespaces, maps, net, overlay, binds, private_tmp, proc, shared_memory, read_only, cwd }
}

/// The group's own, unless that would hide what it works on: a view, what is bound over, where it starts, or the
/// program itself.
pub(crate) fn shared_memory(
    binds: &[(CString, CString)],
    cwd: Option<&CStr>,
    program: &OsStr,
) -> SharedMemory {
    let named = binds.iter().flat_map(|(view, over)| [view.as_bytes(), over.as_bytes()]);
    let mut named = named.chain(cwd.map(CStr::to_bytes)).chain([program.as_bytes()]);
    let hidden = |path: &[u8]| {
        let path = Path::new(OsStr::from_bytes(path));
        HIDDEN.iter().any(|place| path.starts_with(place))
    };
    if named.any(hidden) { SharedMemory::Callers } else { SharedMemory::Own }
}

/// The maps for a user namespace, if there has to be one.
pub(crate) fn id_maps() -> Option<IdMaps> {
    sys::lacks_sys_admin().then(own_id_maps)
}

/// Maps the caller's effective ids to themselves.
pub(crate) fn own_id_maps() -> IdMaps {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    IdMaps { uid: format!("{uid} {uid} 1\n"), gid: format!("{gid} {gid} 1\n") }
}

/// Moves a descriptor to `floor` or above; close-on-exec in any case.
pub(crate) fn raise(fd: OwnedFd, floor: RawFd) -> Result<OwnedFd, SpawnError> {
    if fd.as_raw_fd() >= floor {
        return Ok(fd);
    }
    rustix::io::fcntl_dupfd_cloexec(&fd, floor)
        .map_err(|e| SpawnError::new(Step::Prepare, e.raw_os_error(), "descriptors"))
}

/// One network for the namespace and the policy: what was asked for in so many words, else the policy's.
fn agree_on_net(command: &mut Command) {
    if let Some(policy) = &mut command.policy {
        match command.net {
            Net::Open => command.net = policy.net.clone(),
            _ => policy.net = command.net.clone(),
        }
    }
}

/// The policy, for the paths the views are seen at, and what there is to look at.
fn sandbox(command: &Command, floor: RawFd) -> Result<Option<Sandbox>, SpawnError> {
    let policy = command.policy.as_ref();
    let default = if policy.is_some() { Observe::Denials } else { Observe::Nothing };
    let observe = command.observe.unwrap_or(default);
    if policy.is_none() && observe == Observe::Nothing {
        return Ok(None);
    }
    let bound = command.binds.iter().map(|(_, over)| over.clone());
    let branch: Vec<PathBuf> =
        bound.chain(command.overlay.iter().map(|overlay| overlay.over.clone())).collect();
    // Without a policy, what the strictest would deny is what there is to learn.
    let rules = policy.unwrap_or(&Policy::default()).rules(branch).on_this_host();
    Sandbox::new(policy, rules, observe, |fd| raise(fd, floor)).map(Some)
}

/// The program's standard streams and other descriptors, inherited ones included.
fn pass(sandbox: &mut Sandbox, fds: &[(OwnedFd, RawFd)]) {
    for (source, _) in fds {
        sandbox.pass(source.as_fd());
    }
    for number in (0..FIRST_FREE).filter(|number| fds.iter().all(|(_, target)| target != number)) {
        // SAFETY: only asked about, at once; that it may not be open is one of the answers.
        sandbox.pass(unsafe { BorrowedFd::borrow_raw(number) });
    }
}

/// The caller's environment, as far as the policy lets it through, with the requested changes, later ones
/// winning.
fn environment(command: &Command) -> Vec<(OsString, OsString)> {
    let mut env: Vec<_> = if command.env_clear { Vec::new() } else { std::env::vars_os().collect() };
    if let Some(policy) = &command.policy {
        env.retain(|(name, _)| lets_through(&policy.env, name));
    }
    for (key, value) in &command.env {
        match env.iter_mut().find(|(name, _)| name == key) {
            Some(entry) => entry.1 = value.clone(),
            None => env.push((key.clone(), value.clone())),
        }
    }
    for (key, value) in net_environment(&command.net) {
        env.retain(|(name, _)| name != key);
        env.extend(value.map(|value| (key.into(), value.into())));
    }
    env
}

/// The paths to try for a program, as `execvp(3)` does; an empty element of PATH is the current directory.
fn candidates(name: &OsStr, path: &OsStr) -> Result<Vec<CString>, SpawnError> {
    if name.is_empty() {
        return Err(invalid("a command with an empty name"));
    }
    if name.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(name)?]);
    }
    let in_directory = |dir: &[u8]| {
        let mut full = if dir.is_empty() { b".".to_vec() } else { dir.to_vec() };
        full.push(b'/');
        full.extend_from_slice(name.as_bytes());
        c_string(&OsString::from_vec(full))
    };
    path.as_bytes().split(|&byte| byte == b':').map(in_directory).collect()
}

fn binds(command: &Command) -> Result<Vec<(CString, CString)>, SpawnError> {
    let pair = |(view, over): &(_, _)| Ok((c_string(AsRef::as_ref(view))?, c_string(AsRef::as_ref(over))?));
    command.binds.iter().map(pair).collect()
}

/// Where to start: as requested, else where the caller is, by path, so that a caller inside the base lands
/// in the view.
fn directory(command: &Command) -> Result<Option<CString>, SpawnError> {
    if let Some(dir) = command.cwd.as_ref().filter(|dir| dir.is_absolute()) {
        return c_string(dir.as_os_str()).map(Some);
    }
    match std::env::current_dir() {
        Ok(here) => {
            let dir = command.cwd.as_ref().map_or(here.clone(), |relative| here.join(relative));
            c_string(dir.as_os_str()).map(Some)
        }
        // Without binds an inherited directory is as good as its path, even when it has none any more.
        Err(_) if command.cwd.is_none() && command.binds.is_empty() => Ok(None),
        Err(e) => {
            let errno = e.raw_os_error().unwrap_or(libc::ENOENT);
            Err(SpawnError::new(
                Step::Prepare,
                errno,
                "the caller's own working directory (name one instead)",
            ))
        }
    }
}

/// Standard streams and passed descriptors, each source moved out of every target's way.
fn descriptors(command: Command, floor: RawFd) -> Result<Vec<(OwnedFd, RawFd)>, SpawnError> {
    let mut fds = Vec::new();
    for (stream, target) in command.stdio.into_iter().zip(0..) {
        match stream {
            Stdio::Inherit => {}
            Stdio::Null => fds.push((raise(dev_null()?, floor)?, target)),
            Stdio::Fd(fd) => fds.push((raise(fd, floor)?, target)),
        }
    }
    for (fd, target) in command.fds {
        if !(FIRST_FREE..=FD_TARGET_MAX).contains(&target) {
            return Err(invalid(&format!("descriptor number {target} (3 to {FD_TARGET_MAX} can be passed)")));
        }
        fds.push((raise(fd, floor)?, target));
    }
    Ok(fds)
}

fn dev_null() -> Result<OwnedFd, SpawnError> {
    rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| SpawnError::new(Step::Prepare, e.raw_os_error(), "/dev/null"))
}

fn assignment(key: &OsStr, value: &OsStr) -> Result<CString, SpawnError> {
    let mut text = key.to_os_string();
    text.push("=");
    text.push(value);
    c_string(&text)
}

fn c_string(text: &OsStr) -> Result<CString, SpawnError> {
    CString::new(text.as_bytes()).map_err(|_| invalid(&format!("{text:?}, which contains a NUL byte")))
}

fn invalid(thing: &str) -> SpawnError {
    SpawnError::new(Step::Prepare, libc::EINVAL, thing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked_up(name: &str, path: &str) -> Vec<String> {
        let found = candidates(OsStr::new(name), OsStr::new(path)).unwrap();
        found.into_iter().map(|c| c.into_string().unwrap()).collect()
    }

    #[test]
    fn a_plain_name_is_looked_up_in_every_directory_of_path() {
        assert_eq!(looked_up("make", "/usr/bin:/bin"), ["/usr/bin/make", "/bin/make"]);
        assert_eq!(looked_up("make", "/bin:"), ["/bin/make", "./make"]);
    }

    #[test]
    fn a_name_with_a_slash_is_not_looked_up() {
        assert_eq!(looked_up("./configure", "/bin"), ["./configure"]);
    }

    #[test]
    fn a_nul_byte_is_refused_before_anything_is_created() {
        let error = Plan::new(Command::new(["true", "a\0b"])).unwrap_err();
        assert_eq!((error.step, error.errno), (Step::Prepare, libc::EINVAL));
    }
}
