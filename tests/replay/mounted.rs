//! A mount served by this very process, so that it can be recorded.

use crate::harness::Env;
use etcfs::fs::Fs;
use etcfs::fs::lower::BaseDir;
use etcfs::fs::settings::Settings;
use etcfs::mount::{self, MountRequest};
use etcfs::replay::recorder::Recorder;
use etcfs::session::{Session, handshake};
use etcfs_proto::flags::InitFlags;
use etcfs_proto::init::Wish;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Mounts over `local`, records `body` at work on the mount, and returns the recording once the mount is gone.
pub fn record(env: &Env, local: &Path, data: bool, body: impl FnOnce(&Path)) -> Vec<u8> {
    let base = |path: &Path| {
        let dir = mount::take_base(path).expect("a base directory").into_dir();
        BaseDir::new(&dir).expect("a base directory")
    };
    let settings = Settings {
        stratum: b"test".as_slice().into(),
        mountpoint: local.as_os_str().as_encoded_bytes().into(),
        exact_globals: false,
        dir_limit: 1000,
        privileged: true,
        ..Settings::default()
    };
    let fs = Fs::new(base(local), base(&env.dir("global")), settings).expect("a tree");
    let request = MountRequest {
        mountpoint: local.to_owned(),
        allow_other: true,
        ..MountRequest::default()
    };
    let prepared = mount::prepare(&request, mount::Point::open(local).expect("the mountpoint"))
        .expect("a mount");
    let wish = Wish {
        flags: InitFlags::INIT_EXT
            | InitFlags::POSIX_LOCKS
            | InitFlags::FLOCK_LOCKS
            | InitFlags::ATOMIC_O_TRUNC
            | InitFlags::BIG_WRITES
            | InitFlags::DONT_MASK
            | InitFlags::PARALLEL_DIROPS
            | InitFlags::POSIX_ACL
            | InitFlags::MAX_PAGES
            | InitFlags::HANDLE_KILLPRIV_V2
            | InitFlags::SETXATTR_EXT
            | InitFlags::CREATE_SUPP_GROUP
            | InitFlags::DIRECT_IO_ALLOW_MMAP,
        default_permissions: true,
        ..Wish::default()
    };
    let agreed = handshake(prepared.device.as_fd(), &wish).expect("INIT");
    let session: Arc<Session> = Session::new(prepared.device, fs, agreed, None).expect("a session");
    let recorder = Recorder::start(&session, data).expect("a recording");
    session.start(Some(2)).expect("workers");
    let attached = prepared.pending.attach().expect("attaching");
    body(local);
    attached.detach_lazily().expect("unmounting");
    let mut ended = [PollFd::from_borrowed_fd(session.ended(), PollFlags::IN)];
    poll(&mut ended, None).expect("the workers end");
    let mut bytes = Vec::new();
    loop {
        let more = recorder.take(Duration::from_millis(10));
        if more.is_empty() {
            return bytes;
        }
        bytes.extend(more);
    }
}
