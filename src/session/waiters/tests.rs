//! What a real kernel sends too rarely to test on a mount.

use crate::fs::{Base, Fs, Settings};
use crate::session::Session;
use etcfs_proto::abi::{
    EntryOut, FileLock, InHeader, InterruptIn, LkIn, OpenIn, OpenOut, OutHeader,
};
use etcfs_proto::flags::LkFlags;
use etcfs_proto::init::{Offer, Wish, negotiate};
use etcfs_proto::{Frame, Opcode};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::fs::File;
use std::sync::Arc;
use zerocopy::{FromBytes, IntoBytes};

/// The kernel's end of a connection.
struct Kernel {
    socket: OwnedFd,
    session: Arc<Session>,
    dir: std::path::PathBuf,
    next: u64,
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Kernel {
    fn new(name: &str) -> Kernel {
        let dir = std::env::temp_dir().join(format!("etcfs-{name}-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("f"), "x").unwrap();
        let base = || {
            let fd = rustix::fs::open(&dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            Base::new(&fd.unwrap()).unwrap()
        };
        let settings = Settings {
            stratum: Box::from(*b"here"),
            mountpoint: Box::from(*b"/etc"),
            exact_globals: false,
            // Locks have as many descriptors, and one user a quarter of them.
            dir_limit: 1000,
            privileged: true,
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
        let session = Session::new(dev, fs, agreed, None).unwrap();
        session.start(Some(2)).unwrap();
        Kernel {
            socket,
            session,
            dir,
            next: 100,
        }
    }

    fn send(&mut self, opcode: Opcode, nodeid: u64, body: &[u8]) -> u64 {
        self.next += 2;
        self.send_as(self.next, opcode, nodeid, body);
        self.next
    }

    fn send_as(&self, unique: u64, opcode: Opcode, nodeid: u64, body: &[u8]) {
        let head = InHeader {
            len: (size_of::<InHeader>() + body.len()) as u32,
            opcode: opcode.0,
            unique,
            nodeid,
            uid: 1000,
            ..InHeader::default()
        };
        let message = [head.as_bytes(), body].concat();
        rustix::io::write(&self.socket, &message).unwrap();
    }

    /// The next answer: which request, and its body or errno.
    fn answer(&self) -> (u64, Result<Vec<u8>, Errno>) {
        let mut buffer = vec![0; 1 << 16];
        let len = rustix::io::read(&self.socket, &mut buffer[..]).unwrap();
        let (head, body) = OutHeader::read_from_prefix(&buffer[..len]).unwrap();
        let result = match head.error {
            0 => Ok(body.to_vec()),
            error => Err(Errno::from_raw_os_error(-error)),
        };
        (head.unique, result)
    }

    /// Looks the file up and opens it: node and handle.
    fn open(&mut self) -> (u64, u64) {
        self.send(Opcode::LOOKUP, 1, b"f\0");
        let body = self.answer().1.unwrap();
        let node = EntryOut::read_from_prefix(&body).unwrap().0.nodeid;
        (node, self.open_again(node))
    }

    fn open_again(&mut self, node: u64) -> u64 {
        self.send(Opcode::OPEN, node, OpenIn::default().as_bytes());
        let body = self.answer().1.unwrap();
        OpenOut::read_from_prefix(&body).unwrap().0.fh
    }
}

fn offer() -> Offer {
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

/// `flock(2)` of the whole file, exclusive, waiting.
fn exclusive(fh: u64) -> LkIn {
    LkIn {
        fh,
        owner: fh,
        lk: FileLock {
            end: i64::MAX as u64,
            r#type: libc::F_WRLCK as u32,
            ..FileLock::default()
        },
        lk_flags: LkFlags::FLOCK.bits(),
        ..LkIn::default()
    }
}

/// Two workers read one device, so the interrupt of a request may be handled before the request itself.
#[test]
fn an_interrupt_that_overtakes_its_request_is_not_lost() {
    let mut kernel = Kernel::new("overtaken");
    let (node, fh) = kernel.open();
    let native = File::open(kernel.dir.join("f")).unwrap();
    rustix::fs::flock(&native, rustix::fs::FlockOperation::LockExclusive).unwrap();
    for unique in (1000..1200).step_by(2) {
        let interrupt = InterruptIn { unique };
        kernel.send_as(unique | 1, Opcode::INTERRUPT, node, interrupt.as_bytes());
    }
    // A round trip later the interrupts have been read, and after this one they have been handled.
    for _ in 0..10 {
        kernel.open_again(node);
    }
    for unique in (1000..1200).step_by(2) {
        kernel.send_as(unique, Opcode::SETLKW, node, exclusive(fh).as_bytes());
        assert_eq!(kernel.answer(), (unique, Err(Errno::INTR)));
    }
    assert!(kernel.session.waiters.is_empty());
}

#[test]
fn interrupted_waiters_answer_eintr_once_and_leave() {
    let mut kernel = Kernel::new("interrupted");
    let (node, _) = kernel.open();
    let native = File::open(kernel.dir.join("f")).unwrap();
    rustix::fs::flock(&native, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let handles: Vec<u64> = (0..32).map(|_| kernel.open_again(node)).collect();
    for round in 0..20 {
        let first = 10_000 + round * 1000;
        for (&fh, unique) in handles.iter().zip((first..).step_by(2)) {
            kernel.send_as(unique, Opcode::SETLKW, node, exclusive(fh).as_bytes());
            let interrupt = InterruptIn { unique };
            kernel.send_as(unique | 1, Opcode::INTERRUPT, node, interrupt.as_bytes());
        }
        let mut answered: Vec<u64> = handles
            .iter()
            .map(|_| {
                let (unique, result) = kernel.answer();
                assert_eq!(result, Err(Errno::INTR));
                unique
            })
            .collect();
        answered.sort_unstable();
        answered.dedup();
        assert_eq!(answered.len(), handles.len());
    }
    assert!(kernel.session.waiters.is_empty());
    let fds = kernel.session.fs.locks.len();
    assert_eq!(fds, 0, "descriptions left");
}
