//! Set-id bits and file capabilities go when a file is changed, as natively (FUSE_HANDLE_KILLPRIV_V2; B22, B30).

use crate::harness::{Lower, User, as_user, counted, errno, private};
use crate::how::Mapping;
use crate::{DEADLINE, passing};
use rustix::fs::{FallocateFlags, XattrFlags, copy_file_range, fallocate};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// `struct vfs_cap_data`, revision 2: CAP_NET_BIND_SERVICE permitted and effective.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

type Change = (&'static str, fn(&Path) -> Result<(), Errno>);

fn opened(path: &Path) -> Result<File, Errno> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.map_err(errno)
}

const CHANGES: [Change; 8] = [
    ("nothing", |path| opened(path).map(drop)),
    ("write", |path| {
        opened(path)?.write_all_at(b"y", 0).map_err(errno)
    }),
    ("append", |path| {
        let file = OpenOptions::new().append(true).open(path);
        file.and_then(|mut file| file.write_all(b"y"))
            .map_err(errno)
    }),
    ("ftruncate", |path| opened(path)?.set_len(3).map_err(errno)),
    ("O_TRUNC", |path| {
        let file = OpenOptions::new().write(true).truncate(true).open(path);
        file.map(drop).map_err(errno)
    }),
    ("fallocate", |path| {
        fallocate(opened(path)?, FallocateFlags::empty(), 0, 9000)
    }),
    ("copy_file_range", |path| {
        let file = opened(path)?;
        copy_file_range(&file, Some(&mut 0), &file, Some(&mut 5000), 100).map(drop)
    }),
    ("a shared mapping", |path| {
        let file = opened(path)?;
        Mapping::of(&file)?.store(b'y');
        file.sync_all().map_err(errno)
    }),
];

/// The mode after a write by somebody who has no CAP_FSETID.
fn without_set_ids(mode: u32) -> String {
    format!("{:o}", 0o100_000 | mode & !0o6000)
}

#[test]
fn set_ids_and_capabilities_go_with_every_change_as_natively() {
    private(DEADLINE, |env| {
        let etcfs = passing(env, Lower::Ext4);
        let mut gone = 0;
        for mode in [0o4777, 0o2777, 0o6777, 0o2767, 0o777] {
            for (name, change) in CHANGES {
                for uid in [0, 1000] {
                    let what = format!("{name} by {uid}, mode {mode:o}");
                    let outcomes = [etcfs.mnt(), etcfs.native()].map(|root| {
                        let path = root.join("f");
                        fs::write(&path, [b'x'; 5000]).expect("write");
                        // Set-id bits first: natively, too, chmod would not touch the capability.
                        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
                            .expect("chmod");
                        let capability = "security.capability";
                        rustix::fs::setxattr(&path, capability, &CAPABILITY, XattrFlags::CREATE)
                            .expect("setxattr");
                        let done = as_user(&User::plain(uid), || change(&path));
                        let mode = fs::metadata(&path).expect("stat").mode();
                        let mut value = [0; 64];
                        let capability = rustix::fs::getxattr(&path, capability, &mut value[..]);
                        fs::remove_file(&path).expect("unlink");
                        (done, format!("{mode:o}"), capability)
                    });
                    let [mut mount, mut native] = outcomes;
                    // The kernel writes a backing file with rights that are the same for every client, and without
                    // CAP_FSETID: root's write takes the bits too. Set-group-id without execution means nothing and may stay.
                    if uid == 0 && matches!(name, "write" | "append") {
                        native.1 = without_set_ids(mode);
                        if mode & 0o2010 == 0o2000 {
                            mount.1 = native.1.clone();
                        }
                    }
                    assert_eq!(mount, native, "{what}: mount, native");
                    gone += usize::from(native.2 == Err(Errno::NODATA));
                }
            }
        }
        assert!(gone > 40, "{gone} changes took the capability natively");
        for op in ["READ", "WRITE"] {
            assert_eq!(counted(&etcfs, op), 0, "{op}");
        }
    });
}
