//! The least that makes a FUSE mount answer: INIT and GETATTR; everything else is ENOSYS.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use etcfs::mount::{Attached, MountRequest, Pending, Prepared};

use crate::prepare;
use rustix::io::Errno;

const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// The root directory's mode, by which an answered stat is recognised.
pub const MODE: u32 = 0o040_751;

/// A thread that answers until the mount is gone. The device closes with it.
pub struct Server {
    thread: JoinHandle<Errno>,
    initialised: Receiver<()>,
}

impl Server {
    pub fn start(device: OwnedFd) -> Self {
        let (tell, initialised) = channel();
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 17];
            loop {
                let length = match rustix::io::read(&device, &mut buffer) {
                    Ok(length) => length,
                    Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => continue,
                    Err(errno) => return errno,
                };
                let Some(answer) = answer(&buffer[..length]) else {
                    continue;
                };
                let _ = rustix::io::write(&device, &answer);
                if word(&buffer, 4) == INIT {
                    let _ = tell.send(());
                }
            }
        });
        Self {
            thread,
            initialised,
        }
    }

    /// Waits until INIT is answered.
    pub fn wait_for_init(&self) {
        self.initialised
            .recv_timeout(Duration::from_secs(30))
            .expect("INIT comes");
    }

    /// Waits for the end, and says with which errno the device ended.
    pub fn ended(self) -> Errno {
        self.thread.join().expect("the server does not panic")
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// `struct fuse_in_header`: len, opcode, unique (u64), nodeid (u64), ...; `struct fuse_out_header`: len, error, unique.
fn answer(request: &[u8]) -> Option<Vec<u8>> {
    let opcode = word(request, 4);
    let (error, body) = match opcode {
        FORGET | BATCH_FORGET | INTERRUPT => return None,
        INIT => {
            // major, minor, max_readahead, flags, max_background and threshold, max_write, then zeros.
            let mut body: Vec<u8> = [7, 31, 0, 0, 0, 4096]
                .iter()
                .flat_map(|n: &u32| n.to_ne_bytes())
                .collect();
            body.resize(64, 0);
            (0, body)
        }
        GETATTR => {
            // struct fuse_attr_out: 16 bytes, then fuse_attr: ino, size, blocks, 3 times, 3 nanoseconds, mode, nlink, ...
            let mut body = vec![0; 104];
            body[16..24].copy_from_slice(&1u64.to_ne_bytes());
            body[76..80].copy_from_slice(&MODE.to_ne_bytes());
            body[80..84].copy_from_slice(&2u32.to_ne_bytes());
            (0, body)
        }
        _ => (-Errno::NOSYS.raw_os_error(), Vec::new()),
    };
    let mut answer = u32::try_from(16 + body.len())
        .expect("short")
        .to_ne_bytes()
        .to_vec();
    answer.extend_from_slice(&error.to_ne_bytes());
    answer.extend_from_slice(&request[8..16]);
    answer.extend_from_slice(&body);
    Some(answer)
}

/// Prepares and serves a mount up to INIT's answer.
pub fn serve(request: &MountRequest) -> (Pending, Server) {
    serve_prepared(prepare(request).unwrap_or_else(|e| panic!("{e}")))
}

/// Serves what was prepared, up to INIT's answer.
pub fn serve_prepared(prepared: Prepared) -> (Pending, Server) {
    let Prepared { device, pending } = prepared;
    let server = Server::start(device);
    server.wait_for_init();
    (pending, server)
}

/// Makes a mount that answers.
pub fn mount(request: &MountRequest) -> (Attached, Server) {
    let (pending, server) = serve(request);
    (pending.attach().unwrap_or_else(|e| panic!("{e}")), server)
}

/// Makes a mount whose daemon is dead.
pub fn dead_mount(request: &MountRequest) -> Attached {
    let Prepared { device, pending } = prepare(request).unwrap_or_else(|e| panic!("{e}"));
    let attached = pending.attach().unwrap_or_else(|e| panic!("{e}"));
    drop(device);
    attached
}
