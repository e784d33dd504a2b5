//! FIFOs, sockets and devices: opened by the kernel, checked by the kernel, quiet below (B29, S5).

use crate::harness::{Etcfs, Pair, User, as_user, errno};
use crate::{on_each_lower, open, own, short_path, users};
use rustix::fs::{FileType, Mode, OFlags, makedev, mknodat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

#[test]
fn b29_fifos_open_for_the_same_users_as_natively() {
    on_each_lower(|_, _, pair| {
        for mode in [0, 0o600, 0o640, 0o622, 0o666] {
            let name = &format!("fifo{mode:o}");
            let made = pair.same("make", |root| {
                mknodat(
                    &root.dir,
                    &**name,
                    FileType::Fifo,
                    Mode::from_raw_mode(0o600),
                    0,
                )?;
                own(root, name, 1000, 500, mode)
            });
            assert_eq!(made, Ok(()));
            for user in users() {
                let seen = pair.each_as(&user, |root| {
                    [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR]
                        .map(|flags| {
                            let result = open(root, name, flags | OFlags::NONBLOCK);
                            (
                                format!("open {name} {flags:?}"),
                                result.map(|_| String::new()),
                            )
                        })
                        .to_vec()
                });
                if mode == 0 && user == User::plain(1001) {
                    assert_eq!(seen[0].1, Err(Errno::ACCESS));
                }
            }
        }
    });
}

#[test]
fn s5_a_fifo_carries_bytes_between_clients_and_stays_quiet_below() {
    on_each_lower(|_, etcfs: &Etcfs, pair: &mut Pair| {
        let _ = pair.same("make", |root| {
            mknodat(
                &root.dir,
                "fifo",
                FileType::Fifo,
                Mode::from_raw_mode(0o666),
                0,
            )
        });
        let got = pair.same("write and read", |root| {
            let reader = open(root, "fifo", OFlags::RDONLY | OFlags::NONBLOCK)?;
            let writer = open(root, "fifo", OFlags::WRONLY | OFlags::NONBLOCK)?;
            rustix::io::write(&writer, b"through")?;
            let mut bytes = [0; 16];
            let n = rustix::io::read(&reader, &mut bytes)?;
            Ok(bytes[..n].to_vec())
        });
        assert_eq!(got, Ok(b"through".to_vec()));
        // Opened for reading below, a writer would find a reader; the daemon has none.
        let below = rustix::fs::open(
            etcfs.local().join("fifo"),
            OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        );
        assert_eq!(below.map(drop), Err(Errno::NXIO));
    });
}

#[test]
fn b29_sockets_are_bound_and_connected_with_the_native_checks() {
    on_each_lower(|_, _, pair| {
        for mode in [0, 0o600, 0o620, 0o666] {
            let name = &format!("sock{mode:o}");
            let bound = pair.same("bind", |root| {
                let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
                let address = SocketAddrUnix::new(short_path(root, name))?;
                rustix::net::bind(&socket, &address)?;
                rustix::net::listen(&socket, 64)?;
                own(root, name, 1000, 500, mode)?;
                // Kept open for the life of the process: the test connects to it below.
                std::mem::forget(socket);
                Ok(())
            });
            assert_eq!(bound, Ok(()));
            for user in users() {
                let seen = pair.each_as(&user, |root| {
                    let connect = || {
                        let socket =
                            rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
                        rustix::net::connect(&socket, &SocketAddrUnix::new(short_path(root, name))?)
                    };
                    let opened = open(root, name, OFlags::RDONLY);
                    vec![
                        (format!("connect {name}"), connect().map(|()| String::new())),
                        (format!("open {name}"), opened.map(|_| String::new())),
                    ]
                });
                if mode == 0 && user == User::plain(1001) {
                    assert_eq!(seen[0].1, Err(Errno::ACCESS));
                }
            }
        }
    });
}

#[test]
fn s5_devices_show_their_numbers_and_the_mount_refuses_to_open_them() {
    on_each_lower(|_, _, pair| {
        for (n, (major, minor)) in [(1, 3), (8, 255), (259, 300), (511, 0xfffff)]
            .into_iter()
            .enumerate()
        {
            for kind in [FileType::CharacterDevice, FileType::BlockDevice] {
                let name = format!("dev{n}-{kind:?}");
                let rdev = pair.same("make", |root| {
                    mknodat(
                        &root.dir,
                        &*name,
                        kind,
                        Mode::from_raw_mode(0o666),
                        makedev(major, minor),
                    )?;
                    Ok(
                        rustix::fs::statat(&root.dir, &*name, rustix::fs::AtFlags::empty())?
                            .st_rdev,
                    )
                });
                assert_eq!(rdev, Ok(makedev(major, minor)));
            }
        }
        for user in [User::plain(0), User::plain(1000)] {
            // nodev is part of the contract (D13), so the native neighbour, which has it not, is no measure here.
            let opened = as_user(&user, || {
                std::fs::File::open(pair.mount_path().join("dev0-CharacterDevice")).map_err(errno)
            });
            assert_eq!(opened.map(drop), Err(Errno::ACCESS), "{user:?}");
        }
    });
}
