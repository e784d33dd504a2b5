//! The parties: threads that have taken other credentials, and a process that is root of a user namespace of its own. All
//! are told what to do, and get the descriptors for it, over a socket.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use super::act::Act;
use super::doing::{Came, Given, run};
use crate::harness::{Env, User, as_user};

/// Set for the process that becomes a party.
const MARK: &str = "ETCFS_TEST_MODEL_PARTY";

/// Longer than any message.
const MESSAGE: usize = 64 * 1024;

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// With all capabilities.
    Root,
    /// Without those that overrule permissions.
    RootWithoutDac,
    /// Without those that overrule ownership.
    RootWithoutOwner,
    /// uid 1000, in the groups 500 and 501.
    User,
    /// uid 1001, in the group 501.
    Other,
    /// uid 1000 as root of a user namespace.
    Namespace,
}

pub const ALL: [Who; 6] = [
    Who::Root,
    Who::RootWithoutDac,
    Who::RootWithoutOwner,
    Who::User,
    Who::Other,
    Who::Namespace,
];

impl Who {
    fn credentials(self) -> User {
        let dac = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        let owner = CapabilitySet::FOWNER | CapabilitySet::CHOWN | CapabilitySet::FSETID;
        match self {
            Who::Root => User::plain(0),
            Who::RootWithoutDac => User::root_without(dac),
            Who::RootWithoutOwner => User::root_without(owner | CapabilitySet::SYS_ADMIN),
            Who::User | Who::Namespace => User::plain(1000).in_groups(&[500, 501]),
            Who::Other => User::plain(1001).in_groups(&[501]),
        }
    }
}

/// What is sent ahead of the descriptors.
#[derive(Serialize, Deserialize)]
struct Ask {
    act: Act,
    inside: bool,
    has_fd: bool,
}

/// A party under the test's command.
pub struct Party {
    who: Who,
    socket: OwnedFd,
    child: Option<Child>,
}

impl Party {
    pub fn start(env: &Env, who: Who) -> Party {
        let kind = SocketType::SEQPACKET;
        let (socket, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
            .expect("a socket pair");
        let user = who.credentials();
        let child = match who {
            Who::Namespace => Some(as_user(&user, || in_namespace(env, theirs))),
            _ => {
                std::thread::spawn(move || as_user(&user, || serve(&theirs)));
                None
            }
        };
        Party { who, socket, child }
    }

    /// Has `act` done with the descriptors `given`.
    pub fn act(&self, act: &Act, given: &Given<'_>) -> Came {
        let ask = Ask {
            act: act.clone(),
            inside: given.inside,
            has_fd: given.fd.is_some(),
        };
        let fds: Vec<_> = [Some(given.base), given.fd, given.other]
            .into_iter()
            .flatten()
            .collect();
        let text = serde_json::to_vec(&ask).expect("an act as text");
        send(&self.socket, &text, &fds).expect("tell the party");
        let (text, mut fds) = receive(&self.socket).expect("hear of the party");
        assert!(!text.is_empty(), "{:?} has ended", self.who);
        (String::from_utf8_lossy(&text).into_owned(), fds.pop())
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// This program once more, as root of a user namespace that the calling thread's user makes.
fn in_namespace(env: &Env, socket: OwnedFd) -> Child {
    Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(env.scratch().join("program"))
        .args([
            "--exact",
            "model::party_process",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(MARK, "1")
        .stdin(socket)
        .stdout(Stdio::null())
        .spawn()
        .expect("start unshare(1)")
}

/// Makes this program runnable by everybody, wherever it lies.
pub fn prepare(env: &Env) {
    let program = env.scratch().join("program");
    std::fs::write(&program, "").expect("a mount point");
    let exe = std::env::current_exe().expect("the test's own path");
    rustix::mount::mount_bind(exe, program).expect("bind the program");
}

/// True, once it is over, if this is the process of a party.
pub fn serve_if_told() -> bool {
    let told = is_told();
    if told {
        serve(std::io::stdin());
    }
    told
}

/// True in such a process.
pub fn is_told() -> bool {
    std::env::var_os(MARK).is_some()
}

fn serve(socket: impl AsFd) {
    while let Ok((text, fds)) = receive(&socket) {
        if text.is_empty() {
            break;
        }
        let ask: Ask = serde_json::from_slice(&text).expect("an act");
        let mut fds = fds.iter().map(|fd| fd.as_fd());
        let base = fds.next().expect("a base directory");
        let fd = if ask.has_fd { fds.next() } else { None };
        let given = Given {
            base,
            fd,
            other: fds.next(),
            inside: ask.inside,
        };
        let (text, opened) = run(&ask.act, &given);
        let opened: Vec<_> = opened.iter().map(|fd| fd.as_fd()).collect();
        if send(&socket, text.as_bytes(), &opened).is_err() {
            break;
        }
    }
}

fn send(socket: impl AsFd, text: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(
        socket,
        &[IoSlice::new(text)],
        &mut control,
        SendFlags::NOSIGNAL,
    )
    .map(drop)
}

fn receive(socket: impl AsFd) -> rustix::io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut text = vec![0; MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(&mut text)];
    let message = recvmsg(socket, slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    text.truncate(message.bytes);
    Ok((text, fds))
}
