//! A handle is the file that was opened, whatever becomes of its name, its mode and the opener's rights (B5, B12, B32).

use crate::harness::{User, as_user, errno};
use crate::{compared, contents, on_each_lower, open};
use rustix::fs::{
    AtFlags, FallocateFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, fallocate, fchmod,
    fchown, fstat, ftruncate, futimens, openat,
};
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

const NEW: OFlags = OFlags::CREATE.union(OFlags::EXCL);

#[test]
fn b5_a_file_created_read_only_is_written_through_its_handle() {
    compared(|pair| {
        let _ = pair.same("chmod", |root| {
            fs::set_permissions(&root.path, open_to_all()).map_err(errno)
        });
        for user in [User::plain(0), User::plain(1000)] {
            for (name, mode, flags) in [
                ("read-only", 0o444, OFlags::WRONLY),
                ("write-only", 0o200, OFlags::RDWR),
                ("closed", 0, OFlags::RDWR),
            ] {
                let name = &format!("{name}-{}", user.uid);
                let seen = pair.same_as(&user, name, |root| {
                    let mode = Mode::from_raw_mode(mode);
                    let fd = openat(&root.dir, &**name, flags | NEW | OFlags::CLOEXEC, mode)?;
                    rustix::io::write(&fd, b"some text")?;
                    ftruncate(&fd, 4)?;
                    Ok((contents(&fd), fstat(&fd)?.st_size, fstat(&fd)?.st_mode))
                });
                assert_eq!(seen.expect("works natively").1, 4);
            }
        }
    });
}

fn open_to_all() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o777)
}

#[test]
fn b5_a_handle_outlives_its_openers_privileges() {
    compared(|pair| {
        let read = pair.same("open as root, read as another", |root| {
            fs::write(root.join("secret"), "known to root").map_err(errno)?;
            fs::set_permissions(
                root.join("secret"),
                std::os::unix::fs::PermissionsExt::from_mode(0o600),
            )
            .map_err(errno)?;
            let fd = open(root, "secret", OFlags::RDWR)?;
            as_user(&User::plain(1000), || {
                rustix::io::pwrite(&fd, b"K", 0)?;
                Ok((
                    contents(&fd)?,
                    fstat(&fd)?.st_mode,
                    open(root, "secret", OFlags::RDONLY).map(drop),
                ))
            })
        });
        let (bytes, _, again) = read.expect("works natively");
        assert_eq!(bytes, b"Known to root");
        assert_eq!(again, Err(Errno::ACCESS));
    });
}

#[test]
fn b12_an_unlinked_file_does_everything_through_its_handle() {
    compared(|pair| {
        let seen = pair.same("unlinked", |root| {
            let fd = open(root, "gone", OFlags::RDWR | NEW)?;
            rustix::io::write(&fd, b"before")?;
            rustix::fs::unlinkat(&root.dir, "gone", AtFlags::empty())?;
            rustix::io::pwrite(&fd, b"after!", 6)?;
            fchmod(&fd, Mode::from_raw_mode(0o4640))?;
            fchown(&fd, Some(Uid::from_raw(7)), Some(Gid::from_raw(8)))?;
            let time = Timespec {
                tv_sec: 5,
                tv_nsec: 6,
            };
            futimens(
                &fd,
                &Timestamps {
                    last_access: time,
                    last_modification: time,
                },
            )?;
            rustix::fs::fsetxattr(&fd, "user.k", b"v", rustix::fs::XattrFlags::empty())?;
            let mut value = [0; 8];
            let value_len = rustix::fs::fgetxattr(&fd, "user.k", &mut value[..])?;
            let first = fstat(&fd)?;
            fallocate(&fd, FallocateFlags::empty(), 0, 9000)?;
            ftruncate(&fd, 10)?;
            rustix::fs::fsync(&fd)?;
            let last = fstat(&fd)?;
            let names: Vec<_> = fs::read_dir(&root.path)
                .map_err(errno)?
                .flatten()
                .map(|e| e.file_name())
                .filter(|name| name != crate::harness::CONFIG)
                .collect();
            Ok((
                contents(&fd)?,
                value[..value_len].to_vec(),
                (
                    first.st_mode,
                    first.st_uid,
                    first.st_gid,
                    first.st_nlink,
                    first.st_mtime,
                    first.st_mtime_nsec,
                ),
                (last.st_size, last.st_nlink),
                names,
            ))
        });
        let (bytes, _, _, (size, nlink), names) = seen.expect("works natively");
        assert_eq!((bytes.as_slice(), size, nlink), (&b"beforeafte"[..], 10, 0));
        assert!(names.is_empty(), "no name stands for it: {names:?}");
    });
}

#[test]
fn an_unlinked_file_is_opened_again_through_proc() {
    compared(|pair| {
        let seen = pair.same("reopen", |root| {
            let fd = open(root, "gone", OFlags::RDWR | NEW)?;
            rustix::io::write(&fd, b"still here")?;
            rustix::fs::unlinkat(&root.dir, "gone", AtFlags::empty())?;
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
            let again = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::pwrite(&again, b"S", 0)?;
            contents(&fd)
        });
        assert_eq!(seen, Ok(b"Still here".to_vec()));
    });
}

#[test]
fn b32_a_file_removed_or_replaced_beneath_stays_open_as_it_was() {
    on_each_lower(|_, etcfs| {
        for flags in [OFlags::RDONLY, OFlags::RDWR] {
            let below = etcfs.local().join("f");
            fs::write(&below, "FIRST").expect("write");
            let open = || {
                rustix::fs::open(
                    etcfs.mnt().join("f"),
                    flags | OFlags::CLOEXEC,
                    Mode::empty(),
                )
            };
            let old = open().expect("open");
            let number = fstat(&old).expect("fstat").st_ino;
            fs::write(etcfs.local().join("f.new"), "SECOND").expect("write");
            fs::rename(etcfs.local().join("f.new"), &below).expect("rename");
            assert_eq!(contents(&old), Ok(b"FIRST".to_vec()), "{flags:?}");
            let new = open().expect("open the new one");
            assert_eq!(contents(&new), Ok(b"SECOND".to_vec()));
            assert_eq!(fstat(&old).map(|s| (s.st_ino, s.st_nlink)), Ok((number, 0)));
            if flags == OFlags::RDWR {
                assert_eq!(rustix::io::pwrite(&old, b"ONLY", 0), Ok(4));
                assert_eq!(fs::read(&below).expect("read"), b"SECOND");
            }
            fs::remove_file(&below).expect("remove");
            assert_eq!(contents(&old).map(|b| b.len()), Ok(5));
            assert_eq!(contents(&new), Ok(b"SECOND".to_vec()));
            assert_eq!(open().map(drop), Err(Errno::NOENT));
        }
    });
}

#[test]
fn an_o_path_descriptor_knows_its_file_after_rename_unlink_and_replacement() {
    compared(|pair| {
        let seen = pair.same("O_PATH", |root| {
            let mut all = Vec::new();
            for name in ["renamed", "unlinked", "replaced", "linked"] {
                fs::write(root.join(name), name).map_err(errno)?;
            }
            fs::write(root.join("other"), "other").map_err(errno)?;
            fs::hard_link(root.join("linked"), root.join("second")).map_err(errno)?;
            let fds = ["renamed", "unlinked", "replaced", "linked"]
                .map(|name| open(root, name, OFlags::PATH));
            rustix::fs::renameat(&root.dir, "renamed", &root.dir, "elsewhere")?;
            rustix::fs::unlinkat(&root.dir, "unlinked", AtFlags::empty())?;
            rustix::fs::renameat(&root.dir, "other", &root.dir, "replaced")?;
            rustix::fs::statat(&root.dir, "second", AtFlags::empty())?;
            rustix::fs::unlinkat(&root.dir, "second", AtFlags::empty())?;
            crate::a_tick();
            for fd in fds {
                let stat = fstat(&fd?);
                all.push(stat.map(|s| (s.st_size, s.st_nlink, s.st_mode)));
            }
            Ok(all)
        });
        let nlinks: Vec<_> = seen
            .expect("works natively")
            .into_iter()
            .map(|s| s.map(|s| s.1))
            .collect();
        assert_eq!(nlinks, [Ok(1), Ok(0), Ok(0), Ok(1)]);
    });
}

#[test]
fn descriptors_are_closed_when_clients_close_theirs() {
    on_each_lower(|_, etcfs| {
        let count = || {
            fs::read_dir(format!("/proc/{}/fd", etcfs.pid()))
                .expect("list")
                .count()
        };
        let dir = etcfs.mnt();
        fs::write(dir.join("f"), "x").expect("write");
        let before = count();
        for n in 0..200 {
            let name = dir.join(format!("f{n}"));
            fs::write(&name, "text").expect("write");
            fs::read(&name).expect("read");
            fs::remove_file(&name).expect("remove");
            fs::read_dir(&dir).expect("list").count();
        }
        // RELEASE and FORGET are not waited for by the clients; an id for passthrough is kept for up to 2 s.
        let mut after = count();
        for _ in 0..150 {
            if after <= before + 2 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            after = count();
        }
        assert!(
            after <= before + 2,
            "{before} descriptors before, {after} after"
        );
        assert!(dir.metadata().expect("stat").nlink() > 0);
    });
}
