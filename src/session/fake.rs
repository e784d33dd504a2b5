//! A fake kernel for this crate's own tests: the other end of a SOCK_SEQPACKET pair.

use super::connection::Session;
use super::observe::Observer;
use crate::fs::Fs;
use crate::fs::lower::BaseDir;
use crate::fs::settings::Settings;
use etcfs_proto::abi::{EntryOut, InHeader, OpenIn, OpenOut, OutHeader};
use etcfs_proto::init::{Offer, Wish, negotiate};
use etcfs_proto::{Frame, Opcode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::sync::Arc;
use zerocopy::{FromBytes, IntoBytes};

/// The kernel's end of a connection.
pub(crate) struct FakeKernel {
    socket: OwnedFd,
    pub(crate) session: Arc<Session>,
    pub(crate) dir: std::path::PathBuf,
    next: u64,
}

impl Drop for FakeKernel {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl FakeKernel {
    /// A session with two workers over a directory with a file `f`.
    pub(crate) fn new(name: &str) -> FakeKernel {
        FakeKernel::watched(name, None)
    }

    /// As [`FakeKernel::new`], with somebody who watches.
    pub(crate) fn watched(name: &str, observer: Option<Arc<dyn Observer>>) -> FakeKernel {
        let dir = std::env::temp_dir().join(format!("etcfs-{name}-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("f"), "x").unwrap();
        let base = || {
            let fd = rustix::fs::open(&dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            BaseDir::new(&fd.unwrap()).unwrap()
        };
        let settings = Settings {
            stratum: Box::from(*b"here"),
            mountpoint: Box::from(*b"/etc"),
            exact_globals: false,
            // Locks have as many descriptors, and one user a quarter of them.
            dir_limit: 1000,
            privileged: true,
            ..Settings::default()
        };
        let fs = Fs::new(base(), base(), settings).unwrap();
        let (socket, dev) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let agreed = negotiate(&offer(), &Wish::default()).unwrap();
        let session = Session::new(dev, fs, agreed, observer).unwrap();
        session.start(Some(2)).unwrap();
        FakeKernel {
            socket,
            session,
            dir,
            next: 100,
        }
    }

    /// A request of uid 1000; its number.
    pub(crate) fn send(&mut self, opcode: Opcode, nodeid: u64, body: &[u8]) -> u64 {
        self.next += 2;
        self.send_as(self.next, opcode, nodeid, body);
        self.next
    }

    pub(crate) fn send_as(&self, unique: u64, opcode: Opcode, nodeid: u64, body: &[u8]) {
        self.send_of(1000, unique, opcode, nodeid, body);
    }

    /// A request of `uid`.
    pub(crate) fn send_of(&self, uid: u32, unique: u64, opcode: Opcode, nodeid: u64, body: &[u8]) {
        let head = InHeader {
            len: (size_of::<InHeader>() + body.len()) as u32,
            opcode: opcode.0,
            unique,
            nodeid,
            uid,
            ..InHeader::default()
        };
        let message = [head.as_bytes(), body].concat();
        rustix::io::write(&self.socket, &message).unwrap();
    }

    /// The next answer: which request, and its body or errno.
    pub(crate) fn answer(&self) -> (u64, Result<Vec<u8>, Errno>) {
        let mut buffer = vec![0; 1 << 16];
        let len = rustix::io::read(&self.socket, &mut buffer[..]).unwrap();
        let (head, body) = OutHeader::read_from_prefix(&buffer[..len]).unwrap();
        if head.unique == 0 && head.error > 0 {
            // A notice, by its code, which answers nothing.
            return self.answer();
        }
        let result = match head.error {
            0 => Ok(body.to_vec()),
            error => Err(Errno::from_raw_os_error(-error)),
        };
        (head.unique, result)
    }

    /// As [`FakeKernel::answer`], if one comes within so many milliseconds.
    pub(crate) fn answer_within(&self, ms: i64) -> Option<(u64, Result<Vec<u8>, Errno>)> {
        let time = Timespec {
            tv_sec: ms / 1000,
            tv_nsec: ms % 1000 * 1_000_000,
        };
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        (poll(&mut fds, Some(&time)).unwrap() > 0).then(|| self.answer())
    }

    /// Looks the file up and opens it: node and handle.
    pub(crate) fn open(&mut self) -> (u64, u64) {
        self.send(Opcode::LOOKUP, 1, b"f\0");
        let body = self.answer().1.unwrap();
        let node = EntryOut::read_from_prefix(&body).unwrap().0.nodeid;
        (node, self.open_again(node))
    }

    /// Opens it once more.
    pub(crate) fn open_again(&mut self, node: u64) -> u64 {
        self.send(Opcode::OPEN, node, OpenIn::default().as_bytes());
        let body = self.answer().1.unwrap();
        OpenOut::read_from_prefix(&body).unwrap().0.fh
    }
}

pub(crate) fn offer() -> Offer {
    let head = InHeader {
        len: 104,
        opcode: Opcode::INIT.0,
        unique: 2,
        ..InHeader::default()
    };
    let mut body = [0_u32; 16];
    body[..4].copy_from_slice(&[7, 45, 1 << 17, 0]);
    let message: Vec<u64> = [head.as_bytes(), body.as_bytes()]
        .concat()
        .chunks(8)
        .map(|word| u64::from_ne_bytes(word.try_into().unwrap()))
        .collect();
    Offer::of(&Frame::cut(message.as_bytes()).unwrap()).unwrap()
}
