//! The FUSE root, where the directory that is served lies in it: what the kernel asks when the mount is made of that directory,
//! before there is a tree or a worker. Nobody else gets there by a path.

use super::buffer::Buffer;
use super::head;
use etcfs_proto::abi::{Attr, AttrOut, EntryOut};
use etcfs_proto::init::Agreed;
use etcfs_proto::{Frame, Opcode, Reply};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::BorrowedFd;
use rustix::io::{self, Errno};
use std::ffi::CStr;

/// The one name in the FUSE root.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    /// Its bytes.
    pub name: &'static CStr,
    /// The number of the directory that it leads to.
    pub node: u64,
    /// What tells that number from the same one in an earlier mount.
    pub generation: u32,
}

/// Answers what `dev` has to ask until `done` is ready to be read.
pub fn answer_until(dev: BorrowedFd<'_>, agreed: &Agreed, name: Name, done: BorrowedFd<'_>) {
    let mut buffer = Buffer::own(agreed.buffer_size);
    let mut reply = Reply::with_capacity(size_of::<EntryOut>());
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(dev, PollFlags::IN),
            PollFd::from_borrowed_fd(done, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        if fds[0].revents().contains(PollFlags::IN) {
            let Ok(len) = io::read(dev, buffer.bytes_mut()) else {
                continue;
            };
            let message = &buffer.bytes()[..len];
            let Some(unique) = head::owed(message) else {
                continue;
            };
            reply.clear();
            let answer = match answer(message, name, &mut reply) {
                Ok(()) => reply.finish(unique),
                Err(errno) => reply.finish_error(unique, errno.raw_os_error()),
            };
            let _ = io::write(dev, answer);
        } else if fds.iter().any(|fd| !fd.revents().is_empty()) {
            return;
        }
    }
}

/// Puts the answer to `message` into `reply`. Attributes count for no time: the first who uses them asks who serves by then.
fn answer(message: &[u8], wanted: Name, reply: &mut Reply) -> Result<(), Errno> {
    let frame = Frame::cut(message).map_err(|_| Errno::IO)?;
    let attr = Attr {
        ino: wanted.node,
        mode: libc::S_IFDIR | 0o755,
        nlink: 2,
        blksize: 4096,
        ..Attr::default()
    };
    match frame.opcode() {
        Opcode::GETATTR => reply.put(&AttrOut {
            attr_valid: 0,
            attr_valid_nsec: 0,
            dummy: 0,
            attr,
        }),
        Opcode::LOOKUP if frame.name().is_ok_and(|name| name == wanted.name) => {
            reply.put(&EntryOut {
                nodeid: wanted.node,
                generation: wanted.generation.into(),
                entry_valid: 0,
                attr_valid: 0,
                entry_valid_nsec: 0,
                attr_valid_nsec: 0,
                attr,
            });
        }
        Opcode::LOOKUP => return Err(Errno::NOENT),
        Opcode::GETXATTR | Opcode::LISTXATTR => return Err(Errno::NODATA),
        _ => return Err(Errno::ACCESS),
    }
    Ok(())
}
