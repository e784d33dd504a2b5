//! A UNIX socket is found by the inode that it was bound to (`unix_find_bsd`, net/unix/af_unix.c), and every mount has inodes
//! of its own: what is bound through one is not met through another, nor beneath. What the README says to do instead works.

use crate::DEADLINE;
use crate::harness::{Bases, Etcfs, Lower, Opts, User, as_user, private};
use rustix::io::{Errno, Result};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, connect, listen, socket};
use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The path through a descriptor of its directory, which a socket's address has room for.
fn address(at: &Path) -> (fs::File, SocketAddrUnix) {
    let dir = fs::File::open(at.parent().expect("a directory")).expect("open");
    let name = at.file_name().expect("a name").to_str().expect("UTF-8");
    let address = format!("/proc/self/fd/{}/{name}", dir.as_raw_fd());
    (dir, SocketAddrUnix::new(address).expect("a short path"))
}

/// A socket that waits for connections at `at`, from anybody.
fn bound(at: &Path) -> OwnedFd {
    let server = socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("socket");
    let (_dir, address) = address(at);
    bind(&server, &address).expect("bind");
    listen(&server, 64).expect("listen");
    fs::set_permissions(at, fs::Permissions::from_mode(0o666)).expect("chmod");
    server
}

/// What root and uid 1000 get for connecting to it.
fn reached(at: &Path) -> [Result<()>; 2] {
    [0, 1000].map(|uid| {
        as_user(&User::plain(uid), || {
            let client = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
            let (_dir, address) = address(at);
            connect(&client, &address)
        })
    })
}

const YES: [Result<()>; 2] = [Ok(()), Ok(())];
const NO: [Result<()>; 2] = [Err(Errno::CONNREFUSED), Err(Errno::CONNREFUSED)];

#[test]
fn sockets_are_met_through_the_mount_that_they_were_bound_through_and_by_the_remedies() {
    for (lower, passthrough) in [(Lower::Tmpfs, &[][..]), (Lower::Ext4, &["passthrough"])] {
        private(DEADLINE, move |env| {
            let bases = Bases::new(env, lower);
            let second = bases.second(env, "second");
            let opts = || Opts {
                options: passthrough.iter().map(|&o| o.to_owned()).collect(),
                config: vec!["add_global /glo".to_owned()],
                ..Opts::default()
            };
            fs::create_dir(bases.global().join("glo")).expect("mkdir");
            let [one, two] = [bases, second].map(|bases| Etcfs::serve(env, bases, opts()));

            let _native = bound(&one.native().join("socket"));
            assert_eq!(reached(&one.native().join("socket")), YES);
            for name in ["socket", "glo/socket"] {
                let _server = bound(&one.mnt().join(name));
                assert_eq!(
                    reached(&one.mnt().join(name)),
                    YES,
                    "the same mount: {name}"
                );
                let beneath = match name.strip_prefix("glo") {
                    Some(_) => one.global().join(name),
                    None => one.local().join(name),
                };
                assert_eq!(reached(&beneath), NO, "beneath: {name}");
            }
            assert_eq!(
                reached(&two.mnt().join("glo/socket")),
                NO,
                "another stratum"
            );
            let _beneath = bound(&one.local().join("beneath"));
            assert_eq!(reached(&one.mnt().join("beneath")), NO, "bound beneath");

            // A symlink override to where every stratum has the same socket.
            let _elsewhere = bound(&env.dir("run").join("socket"));
            let target = env.dir("run").join("socket");
            let line = format!("add_override symlink /linked {}", target.display());
            for etcfs in [&one, &two] {
                etcfs.write_config(&[&line]).expect("configure");
                assert_eq!(reached(&etcfs.mnt().join("linked")), YES, "a symlink");
            }
            // A bind mount of the socket itself.
            rustix::mount::mount_bind(one.local().join("beneath"), one.mnt().join("beneath"))
                .expect("bind mount");
            assert_eq!(reached(&one.mnt().join("beneath")), YES, "a bind mount");
        });
    }
}
