//! Where a client comes in. A name that a socket is bound to can be bound by anybody first, and an abstract one by every
//! user; so the way in has none. The daemon makes a pair of sockets and keeps both ends. A client with the right to do so
//! takes a copy of one from the daemon itself (pidfd_getfd(2), Linux 5.6), and sends through it a socket of its own, on which
//! the two then talk. Nothing of it is in a file system or bound to a network namespace, and nothing is left of it when the
//! daemon ends, however that happens.
//!
//! What tells the client which process and which descriptor is a third one: an empty memfd, whose name the kernel shows in
//! `/proc/PID/fd`: [`Label`]. Anybody can make such a file; what the client believes is who made the socket pair, which the
//! kernel has noted (SO_PEERCRED).
//!
//! Where descriptors cannot be taken (an older kernel, a container without CAP_SYS_PTRACE, an ordinary user under Yama) there
//! is a listening socket too, with an abstract name of which half is random, so that nobody can have bound it before. The
//! client finds it among the names of `/proc/net/unix`, and both sides ask the kernel who the other is: others may bind
//! names that look alike, and are passed over.

mod find;
mod label;

pub use find::{Unreachable, end_server, reach, serving};
pub use label::Label;

use crate::sys::inherit::Inherited;
use label::names;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd as _, AsRawFd as _, IntoRawFd, OwnedFd, RawFd};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{self, Errno};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix,
    SocketFlags, SocketType, accept_with, bind, listen, recvmsg, socket_with, socketpair, sockopt,
};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::thread::{CapabilitySet, capabilities};
use serde::{Deserialize, Serialize};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;

/// A door that was left, by its descriptors.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Numbers {
    inner: RawFd,
    outer: RawFd,
    label: RawFd,
    listener: Option<RawFd>,
}

impl Numbers {
    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = RawFd> {
        [self.inner, self.outer, self.label]
            .into_iter()
            .chain(self.listener)
    }
}

/// The daemon's side.
#[derive(Debug)]
pub struct Door {
    /// What clients send arrives here.
    inner: OwnedFd,
    /// What clients take a copy of.
    _outer: OwnedFd,
    _label: OwnedFd,
    listener: Option<OwnedFd>,
}

impl Door {
    /// Makes the way in to the daemon of the mount with this device number, and this number of its own if the kernel tells it.
    ///
    /// # Errors
    /// No descriptor is free, or the kernel lacks memfd_create(2) (before Linux 3.17).
    pub fn open(device: (u32, u32), mount: Option<u64>) -> io::Result<Door> {
        let kind = SocketType::SEQPACKET;
        let (inner, outer) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        let listener = if can_be_taken(&outer) {
            None
        } else {
            Some(listener(device)?)
        };
        let end = outer.as_raw_fd();
        let mount = mount.unwrap_or(0);
        let label = Label { device, end, mount }.to_string();
        Ok(Door {
            inner,
            _outer: outer,
            _label: memfd_create(label, MemfdFlags::CLOEXEC)?,
            listener,
        })
    }

    /// Leaves its descriptors open, for whoever is told their numbers.
    pub(crate) fn leave(self) -> Numbers {
        Numbers {
            inner: self.inner.into_raw_fd(),
            outer: self._outer.into_raw_fd(),
            label: self._label.into_raw_fd(),
            listener: self.listener.map(IntoRawFd::into_raw_fd),
        }
    }

    /// The door that was left. None: it is not there any more.
    pub(crate) fn over(numbers: &Numbers, inherited: &Inherited) -> Option<Door> {
        Some(Door {
            inner: inherited.take(numbers.inner)?,
            _outer: inherited.take(numbers.outer)?,
            _label: inherited.take(numbers.label)?,
            listener: match numbers.listener {
                Some(listener) => Some(inherited.take(listener)?),
                None => None,
            },
        })
    }

    /// Waits for the next client. Who it is has not been looked at.
    ///
    /// # Errors
    /// EINTR, ECONNABORTED, EINVAL (what came is no socket of the kind): ask again. Others: no descriptor is free.
    pub fn next(&self) -> io::Result<OwnedFd> {
        let listener = self.listener.as_ref().unwrap_or(&self.inner);
        let mut ends = [
            PollFd::new(&self.inner, PollFlags::IN),
            PollFd::new(listener, PollFlags::IN),
        ];
        poll(&mut ends, None)?;
        if ends[0].revents().contains(PollFlags::IN) {
            return self.take();
        }
        accept_with(listener, SocketFlags::CLOEXEC)
    }

    /// Takes what a client has sent.
    fn take(&self) -> io::Result<OwnedFd> {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let mut parts = [IoSliceMut::new(&mut byte)];
        recvmsg(&self.inner, &mut parts, &mut control, flags)?;
        let sent = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        // Only who may take the daemon's descriptors can send something else; that it cannot talk on would be its own loss,
        // but a file of some other kind could make the daemon wait.
        let client = sent.ok_or(Errno::INVAL)?;
        let is_socket = sockopt::socket_domain(&client) == Ok(AddressFamily::UNIX)
            && sockopt::socket_type(&client) == Ok(SocketType::SEQPACKET);
        is_socket.then_some(client).ok_or(Errno::INVAL)
    }
}

/// Whether root's client may take a descriptor from this process: the kernel has the call and no filter hides it, and root
/// here holds the capability that Yama and the check of a process's capabilities ask for (`ptrace_may_access`).
fn can_be_taken(descriptor: &OwnedFd) -> bool {
    let held = capabilities(None).is_ok_and(|sets| {
        let needed = CapabilitySet::SYS_PTRACE;
        sets.permitted.contains(needed)
    });
    let works = pidfd_open(getpid(), PidfdFlags::empty()).and_then(|own| {
        let end = descriptor.as_fd().as_raw_fd();
        pidfd_getfd(own, end, PidfdGetfdFlags::empty())
    });
    held && works.is_ok()
}

/// A listening socket with a name of 128 random bits.
fn listener(device: (u32, u32)) -> io::Result<OwnedFd> {
    let mut random = [0; 16];
    getrandom(&mut random[..], GetRandomFlags::empty())?;
    let name = format!("{}{:032x}", names(device), u128::from_ne_bytes(random));
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes())?;
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    bind(&socket, &address)?;
    listen(&socket, 8)?;
    Ok(socket)
}
