//! Set-user-id, set-group-id and file capabilities go exactly when they go natively (B22, B30).

use crate::harness::{Root, User, errno};
use crate::{acl, file, look, on_each_lower, open, set_xattr, users};
use rustix::fs::{AtFlags, FallocateFlags, Gid, Mode, OFlags, Uid, chmodat, chownat};
use rustix::io::Result;
use rustix::thread::CapabilitySet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

const MODES: [u32; 6] = [0o4777, 0o2777, 0o6777, 0o2767, 0o6766, 0o4666];

type Change = fn(&Root, &str) -> Result<()>;

/// Everything that clears them natively for somebody.
const CHANGES: &[(&str, Change)] = &[
    ("write", |root, name| {
        let fd = open(root, name, OFlags::WRONLY)?;
        rustix::io::write(fd, b"x").map(drop)
    }),
    ("append", |root, name| {
        let fd = open(root, name, OFlags::WRONLY | OFlags::APPEND)?;
        rustix::io::write(fd, b"x").map(drop)
    }),
    ("write nothing", |root, name| {
        let fd = open(root, name, OFlags::WRONLY)?;
        rustix::io::write(fd, b"").map(drop)
    }),
    ("truncate by path", |root, name| truncate(root, name, 4)),
    ("truncate to the same length", |root, name| {
        truncate(root, name, 17)
    }),
    ("ftruncate", |root, name| {
        let fd = open(root, name, OFlags::WRONLY)?;
        rustix::fs::ftruncate(fd, 2)
    }),
    ("open to truncate", |root, name| {
        open(root, name, OFlags::WRONLY | OFlags::TRUNC).map(drop)
    }),
    ("allocate", |root, name| {
        let fd = open(root, name, OFlags::RDWR)?;
        rustix::fs::fallocate(fd, FallocateFlags::empty(), 0, 8192)
    }),
    ("punch", |root, name| {
        let fd = open(root, name, OFlags::RDWR)?;
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(fd, mode, 0, 4096)
    }),
    ("copy into", |root, name| {
        let from = open(root, "source", OFlags::RDONLY)?;
        let to = open(root, name, OFlags::WRONLY)?;
        rustix::fs::copy_file_range(from, None, to, None, 5).map(drop)
    }),
    ("chown to itself", |root, name| {
        chownat(&root.dir, name, None, None, AtFlags::empty())
    }),
    ("chgrp to 500", |root, name| {
        chownat(
            &root.dir,
            name,
            None,
            Some(Gid::from_raw(500)),
            AtFlags::empty(),
        )
    }),
    ("chown to the owner", |root, name| {
        chownat(
            &root.dir,
            name,
            Some(Uid::from_raw(1000)),
            None,
            AtFlags::empty(),
        )
    }),
    ("chown to 1001", |root, name| {
        chownat(
            &root.dir,
            name,
            Some(Uid::from_raw(1001)),
            None,
            AtFlags::empty(),
        )
    }),
    ("chmod with both", |root, name| {
        chmodat(
            &root.dir,
            name,
            Mode::from_raw_mode(0o6755),
            AtFlags::empty(),
        )
    }),
    ("set an attribute", |root, name| {
        set_xattr(root, name, "user.k", b"v")
    }),
    ("set an access list", |root, name| {
        let list = acl(&[
            (1, 7, u32::MAX),
            (2, 6, 1002),
            (4, 7, u32::MAX),
            (16, 7, u32::MAX),
            (32, 7, u32::MAX),
        ]);
        set_xattr(root, name, "system.posix_acl_access", &list)
    }),
    ("set a plain access list", |root, name| {
        let list = acl(&[(1, 6, u32::MAX), (4, 6, u32::MAX), (32, 6, u32::MAX)]);
        set_xattr(root, name, "system.posix_acl_access", &list)
    }),
    ("touch", |root, name| {
        let file = std::fs::File::open(root.join(name)).map_err(errno)?;
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(9);
        file.set_modified(time).map_err(errno)
    }),
];

fn truncate(root: &Root, name: &str, len: u64) -> Result<()> {
    let path =
        std::ffi::CString::new(root.join(name).as_os_str().as_encoded_bytes()).expect("no NUL");
    #[allow(unsafe_code)]
    // SAFETY: a C string and an integer.
    let rc = unsafe { libc::truncate(path.as_ptr(), len as libc::off_t) };
    if rc == 0 {
        return Ok(());
    }
    Err(errno(std::io::Error::last_os_error()))
}

/// `VFS_CAP_REVISION_2` with CAP_NET_RAW permitted and effective.
const CAPABILITY: [u8; 20] = {
    let mut bytes = [0; 20];
    bytes[0] = 1;
    bytes[3] = 2;
    bytes[5] = 0x20;
    bytes
};

fn may_chmod(user: &User) -> bool {
    let owner = CapabilitySet::FOWNER;
    user.uid == 1000 || user.caps.map_or(user.uid == 0, |caps| caps.contains(owner))
}

/// The kernel writes a backing file with rights of its own, the same for every client, that are nobody's: a write takes from
/// everybody's file what natively it takes from a stranger's. Checks that of `mount` if it took anything from `native`'s
/// writer's, and makes both alike.
fn drop_as_fixed_rights_do(mount: &Path, native: &Path) {
    let mode = |path: &Path| std::fs::metadata(path).expect("stat").mode();
    // A write begins with the x, an append makes 18 bytes of the 17.
    let text = std::fs::read(native).expect("read");
    if text.starts_with(b"x") || text.len() == 18 {
        let left = mode(mount);
        assert_eq!(left & 0o4000, 0, "{}: set-user-id stays", mount.display());
        assert_ne!(
            left & 0o2010,
            0o2010,
            "{}: set-group-id stays",
            mount.display()
        );
    }
    for path in [mount, native] {
        let plain = std::fs::Permissions::from_mode(mode(path) & 0o777);
        std::fs::set_permissions(path, plain).expect("chmod");
    }
}

#[test]
fn b22_set_ids_and_capabilities_go_as_natively() {
    on_each_lower(|_, etcfs, pair| {
        let _ = pair.same("make", |root| file(root, "source", 0, 0, 0o644));
        let mut cleared = 0;
        let fixed = |what: &str| etcfs.passes_through() && matches!(what, "write" | "append");
        for user in users() {
            for (what, change) in CHANGES {
                // The kernel asks nobody's right to chown(-1, -1) on a FUSE file and removes its capabilities itself.
                if *what == "chown to itself" && !may_chmod(&user) {
                    continue;
                }
                let mut names = Vec::new();
                for mode in MODES {
                    let name = format!("f{mode:o}");
                    let made = pair.same("make", |root| {
                        file(root, &name, 1000, 500, mode)?;
                        // The kernel removes it before it asks whether a chown is allowed.
                        if user.caps == Some(CapabilitySet::CHOWN) {
                            return Ok(());
                        }
                        set_xattr(root, &name, "security.capability", &CAPABILITY)
                    });
                    assert_eq!(made, Ok(()), "make {name}");
                    names.push(name);
                }
                pair.each_as(&user, |root| {
                    names
                        .iter()
                        .map(|name| {
                            let result = change(root, name).map(|()| String::new());
                            (format!("{what} {name}"), result)
                        })
                        .collect()
                });
                for name in names.iter().filter(|_| fixed(what)) {
                    drop_as_fixed_rights_do(&etcfs.mnt().join(name), &etcfs.native().join(name));
                }
                for name in &names {
                    let after = pair.same(&format!("{name} after {what} by {user:?}"), |root| {
                        let caps = crate::get_xattr(root, name, "security.capability");
                        Ok(format!(
                            "{:?} {:?}",
                            look(root, name),
                            caps.map(|c| c.len())
                        ))
                    });
                    cleared += usize::from(after.is_ok_and(|a| a.contains("100777")));
                }
            }
        }
        assert!(cleared > 50, "the matrix does clear bits: {cleared}");
    });
}

#[test]
fn b30_an_unprivileged_write_to_a_set_id_file_succeeds_and_clears_it() {
    on_each_lower(|_, _, pair| {
        let _ = pair.same("make", |root| file(root, "f", 0, 0, 0o4777));
        let wrote = pair.same_as(&User::plain(1000), "write", |root| {
            let fd = open(root, "f", OFlags::WRONLY)?;
            rustix::io::write(fd, b"changed")
        });
        assert_eq!(wrote, Ok(7));
        let mode = pair.same("look", |root| look(root, "f"));
        assert_eq!(mode, Ok("100777 0:0 size 17".to_owned()));
    });
}
