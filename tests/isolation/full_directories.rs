//! rmdir(2) of a directory that is not empty costs the same however full it is.

use std::fs;

use etcfs_proto::Opcode;
use rustix::io::Errno;

use crate::DEADLINE;
use crate::harness::{Etcfs, Opts, Trace, User, as_user, errno, private};

/// Far more than a daemon looks at, and than fits into one answer of the lower file system.
const MANY: usize = 20_000;

/// The daemon's system calls for one refused rmdir(2) of a directory with these names.
fn calls(names: impl Iterator<Item = String> + Send + 'static, errno_expected: Errno) -> usize {
    let (tell, told) = std::sync::mpsc::channel();
    private(DEADLINE, move |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let dir = etcfs.local().join("u/dir");
        fs::create_dir_all(&dir).expect("mkdir");
        for path in [etcfs.local().join("u"), dir.clone()] {
            std::os::unix::fs::chown(path, Some(1000), Some(1000)).expect("chown");
        }
        for name in names {
            fs::write(dir.join(name), "").expect("write");
        }
        let rmdir = || {
            as_user(&User::plain(1000), || {
                fs::remove_dir(etcfs.mnt().join("u/dir")).map_err(errno)
            })
        };
        assert_eq!(rmdir(), Err(errno_expected));
        let trace = Trace::of(env, &etcfs);
        assert_eq!(rmdir(), Err(errno_expected));
        let requests = trace.end();
        let rmdir = requests.iter().find(|r| r.opcode == Opcode::RMDIR);
        let count = rmdir.expect("it was asked").calls.len();
        tell.send(count).expect("tell");
    });
    told.recv().expect("a count")
}

#[test]
fn rmdir_of_a_full_directory_takes_as_many_calls_as_of_one_with_a_file_in_it() {
    let one = calls(std::iter::once("file".to_owned()), Errno::NOTEMPTY);
    let full = calls((0..MANY).map(|n| format!("file-{n}")), Errno::NOTEMPTY);
    // A worker that has served somebody else puts the caller's identity on first.
    assert!(full < one + 10, "{full} calls, {one} with one file");
}

#[test]
fn rmdir_of_a_directory_full_of_hidden_names_ends() {
    // Names that its owner has made natively, one after the other of which would be looked at.
    let hidden = |n| format!(".etcfs-hidden-{n:016x}");
    let few = calls((0..10).map(hidden), Errno::NOTEMPTY);
    let full = calls((0..MANY).map(hidden), Errno::NOTEMPTY);
    assert!(full < few + 60, "{full} calls, {few} with ten names");
}
