//! A fake kernel: the other end of a SOCK_SEQPACKET pair, over which a session of this process serves two scratch
//! directories. Needs no mount and no privilege.
//!
//! A message is a datagram, as it is one read or write of the device; the end of the pair reads as an empty one.
#![allow(dead_code, reason = "every test file uses its own part of this module")]

pub mod rows;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use etcfs::fs::Fs;
use etcfs::fs::lower::BaseDir;
use etcfs::fs::settings::Settings;
use etcfs::session::{HandshakeError, Session, handshake};
use etcfs_proto::Opcode;
use etcfs_proto::abi::{InHeader, InitIn, InitInCompat, OutHeader};
use etcfs_proto::flags::InitFlags;
use etcfs_proto::init::{Agreed, Wish};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The bit that marks a request that the kernel sends again.
pub const RESENT: u64 = 1 << 63;

/// How long an answer may take, in seconds.
const PATIENCE: i64 = 20;

/// Data of one request at most, so that every message fits a socket's buffer.
const MAX_WRITE: u32 = 64 * 1024;

/// The whole offer of a current kernel, as far as this daemon knows it.
pub const ALL_FLAGS: InitFlags = InitFlags::all();

/// What the daemon wishes, with smaller requests.
pub fn wish() -> Wish {
    Wish {
        flags: InitFlags::INIT_EXT
            | InitFlags::ATOMIC_O_TRUNC
            | InitFlags::BIG_WRITES
            | InitFlags::DONT_MASK
            | InitFlags::PARALLEL_DIROPS
            | InitFlags::POSIX_ACL
            | InitFlags::ABORT_ERROR
            | InitFlags::MAX_PAGES
            | InitFlags::HANDLE_KILLPRIV_V2
            | InitFlags::SETXATTR_EXT
            | InitFlags::CREATE_SUPP_GROUP
            | InitFlags::DIRECT_IO_ALLOW_MMAP
            | InitFlags::HAS_RESEND,
        max_write: MAX_WRITE,
        max_pages: 16,
        default_permissions: true,
        ..Wish::default()
    }
}

/// Two connected ends: the device and the kernel's.
pub fn device() -> (OwnedFd, OwnedFd) {
    let (dev, kernel) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .expect("a socket pair");
    for end in [&dev, &kernel] {
        rustix::net::sockopt::set_socket_send_buffer_size(end, 1 << 20).expect("a larger buffer");
    }
    (dev, kernel)
}

/// INIT as a kernel of this minor version sends it: 64 bytes from 7.36 on, 16 before.
pub fn init_message(major: u32, minor: u32, flags: InitFlags) -> Vec<u8> {
    let (low, high) = flags.split();
    let max_readahead = 128 * 1024;
    let body = if minor >= 36 {
        let init = InitIn {
            major,
            minor,
            max_readahead,
            flags: low,
            flags2: high,
            ..InitIn::default()
        };
        init.as_bytes().to_vec()
    } else {
        InitInCompat {
            major,
            minor,
            max_readahead,
            flags: low,
        }
        .as_bytes()
        .to_vec()
    };
    message(Opcode::INIT, 1, 0, &body)
}

/// One request.
pub fn message(opcode: Opcode, unique: u64, nodeid: u64, body: &[u8]) -> Vec<u8> {
    let head = InHeader {
        len: (size_of::<InHeader>() + body.len()) as u32,
        opcode: opcode.0,
        unique,
        nodeid,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        pid: std::process::id(),
        ..InHeader::default()
    };
    let mut all = head.as_bytes().to_vec();
    all.extend_from_slice(body);
    all
}

/// An answer: its header and its body.
pub type Answer = (OutHeader, Vec<u8>);

/// Reads one message, if one comes within `wait` seconds.
pub fn read(kernel: &OwnedFd, wait: Timespec) -> Option<Answer> {
    let mut fds = [PollFd::new(kernel, PollFlags::IN)];
    if poll(&mut fds, Some(&wait)).expect("poll") == 0 {
        return None;
    }
    let mut bytes = vec![0; 1 << 21];
    let len = rustix::io::read(kernel, &mut bytes[..]).expect("read an answer");
    if len == 0 {
        return None;
    }
    let (head, body) = OutHeader::read_from_prefix(&bytes[..len]).expect("a whole header");
    if head.unique == 0 && head.error > 0 {
        // A notice, by its code, which answers nothing.
        return read(kernel, wait);
    }
    assert_eq!(head.len as usize, len, "the length is the message's");
    assert!(
        head.error <= 0 && head.error > -512,
        "the kernel takes the error {}",
        head.error
    );
    assert!(head.error == 0 || body.is_empty(), "an error has no body");
    Some((head, body.to_vec()))
}

fn seconds(n: i64) -> Timespec {
    Timespec {
        tv_sec: n,
        tv_nsec: 0,
    }
}

/// A short time in which nothing is expected.
const MOMENT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// A session and the kernel that asks it.
pub struct Kernel {
    end: Option<OwnedFd>,
    session: Arc<Session>,
    agreed: Agreed,
    scratch: Scratch,
    unique: u64,
}

impl Kernel {
    /// A current kernel.
    pub fn new() -> Self {
        Self::of_minor(45)
    }

    /// A kernel of protocol 7.`minor` that offers all it may.
    pub fn of_minor(minor: u32) -> Self {
        let (dev, end) = device();
        let flags = if minor >= 36 {
            ALL_FLAGS
        } else {
            InitFlags::from_bits_retain(ALL_FLAGS.bits() & 0x3fff_ffff)
        };
        rustix::io::write(&end, &init_message(7, minor, flags)).expect("send INIT");
        let agreed = handshake(dev.as_fd(), &wish()).expect("an agreement");
        let (head, _) = read(&end, seconds(PATIENCE)).expect("the answer to INIT");
        assert_eq!((head.unique, head.error), (1, 0));
        let scratch = Scratch::new();
        let session = Session::new(dev, scratch.tree(), agreed, None).expect("a session");
        session.start(Some(2)).expect("workers");
        Self {
            end: Some(end),
            session,
            agreed,
            scratch,
            unique: 2,
        }
    }

    /// What INIT agreed on.
    pub fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    /// The session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The local directory.
    pub fn local(&self) -> PathBuf {
        self.scratch.0.join("local")
    }

    fn end(&self) -> &OwnedFd {
        self.end.as_ref().expect("not ended")
    }

    /// A number for the next request; even, as the kernel's are.
    pub fn unique(&mut self) -> u64 {
        self.unique += 2;
        self.unique
    }

    /// Sends bytes as they are.
    pub fn send(&self, message: &[u8]) {
        assert!(
            !message.is_empty(),
            "an empty message is the end of the connection"
        );
        rustix::io::write(self.end(), message).expect("send a request");
    }

    /// The next answer, whichever request it belongs to.
    pub fn answer(&self) -> Answer {
        read(self.end(), seconds(PATIENCE)).expect("an answer in time")
    }

    /// An answer that should not be there.
    pub fn stray_answer(&self) -> Option<Answer> {
        read(self.end(), MOMENT)
    }

    /// Sends a request and returns its answer's body or errno; it must be the only answer that comes.
    pub fn call(&mut self, opcode: Opcode, nodeid: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
        let unique = self.unique();
        self.send(&message(opcode, unique, nodeid, body));
        let (head, body) = self.answer();
        assert_eq!(head.unique, unique, "the answer to {opcode}");
        match head.error {
            0 => Ok(body),
            error => Err(-error),
        }
    }

    /// As [`Kernel::call`], for an answer that is one struct.
    pub fn ask<T: FromBytes + Immutable>(
        &mut self,
        opcode: Opcode,
        nodeid: u64,
        body: &[u8],
    ) -> Result<T, i32> {
        let body = self.call(opcode, nodeid, body)?;
        Ok(T::read_from_prefix(&body).expect("a body of that type").0)
    }

    /// True if the session still answers: a GETATTR of the root.
    pub fn lives(&mut self) -> bool {
        self.call(Opcode::GETATTR, 1, &[0; 16]).is_ok()
    }

    /// How many answers come before that to a GETATTR of the root, which must be a good one. Some workers may be late with
    /// theirs.
    pub fn answers_before_getattr(&mut self) -> usize {
        let unique = self.unique();
        self.send(&message(Opcode::GETATTR, unique, 1, &[0; 16]));
        for before in 0.. {
            let (head, _) = self.answer();
            if head.unique == unique {
                assert_eq!(head.error, 0, "the answer to GETATTR");
                return before;
            }
        }
        unreachable!("there are not so many requests")
    }

    /// Ends the connection and waits for the workers to end.
    pub fn end_connection(&mut self) {
        self.end = None;
        let ended = self.session.ended();
        let mut fds = [PollFd::from_borrowed_fd(ended, PollFlags::IN)];
        let n = poll(&mut fds, Some(&seconds(PATIENCE))).expect("poll");
        assert_eq!(n, 1, "the workers end with the connection");
    }
}

/// Offers INIT and returns what the daemon made of it and what it answered.
pub fn offer(message: &[u8]) -> (Result<Agreed, HandshakeError>, Option<Answer>) {
    let (dev, end) = device();
    rustix::io::write(&end, message).expect("send INIT");
    let result = handshake(dev.as_fd(), &wish());
    (result, read(&end, MOMENT))
}

/// Two directories that go with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("etcfs-kernel-{}-{n}", std::process::id()));
        for sub in ["local", "global"] {
            std::fs::create_dir_all(dir.join(sub)).expect("make scratch directories");
        }
        Self(dir)
    }

    fn tree(&self) -> Fs {
        let settings = Settings {
            stratum: (*b"fake").into(),
            mountpoint: (*b"/etc").into(),
            exact_globals: false,
            dir_limit: 64,
            privileged: rustix::process::geteuid().is_root(),
            ..Settings::default()
        };
        let base = |name: &str| {
            let base = open_dir(&self.0.join(name));
            BaseDir::new(&base).expect("a base directory")
        };
        Fs::new(base("local"), base("global"), settings).expect("a tree")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open_dir(path: &Path) -> OwnedFd {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).expect("open a scratch directory")
}
