//! A daemon that lacks something of the system: `/proc`, or a system call.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, XattrFlags, flock};
use rustix::io::{Errno, Result};
use rustix::process::Signal;
use seccompiler::{SeccompAction, SeccompFilter};

use crate::harness::{
    Bases, Env, Etcfs, Lower, Opts, Pair, Root, User, acl, errno, mounts, private,
};
use crate::{DEADLINE, user};

/// A member of the group 2000 besides its own.
fn member() -> User {
    user().in_groups(&[2000])
}

/// What asks the daemon to look at the caller, at a descriptor or at an attribute.
fn calls(root: &Root) -> Vec<(String, Result<String>)> {
    let path = |name: &str| root.join(name);
    let mode = |mode| fs::Permissions::from_mode(mode);
    let own =
        |what: &str, answer: std::io::Result<String>| (what.to_owned(), answer.map_err(errno));
    let shown = |name: &str| {
        let stat = rustix::fs::stat(path(name))?;
        Ok(format!(
            "{:o} {} {}",
            stat.st_mode, stat.st_uid, stat.st_gid
        ))
    };
    let nothing = |()| String::new();
    let kernel = |what: &str, answer: Result<String>| (what.to_owned(), answer);
    vec![
        own("create", fs::write(path("new"), "text").map(nothing)),
        own(
            "append",
            fs::OpenOptions::new()
                .append(true)
                .open(path("new"))
                .and_then(|mut file| std::io::Write::write_all(&mut file, b"more"))
                .map(nothing),
        ),
        own("read", fs::read_to_string(path("new"))),
        own(
            "chmod",
            fs::set_permissions(path("new"), mode(0o2750)).map(nothing),
        ),
        kernel("its mode", shown("new")),
        own(
            "chgrp to one's other group",
            std::os::unix::fs::chown(path("new"), None, Some(2000)).map(nothing),
        ),
        own(
            "chmod with the group's bit",
            fs::set_permissions(path("new"), mode(0o2755)).map(nothing),
        ),
        kernel("its mode with that", shown("new")),
        own(
            "chgrp to another",
            std::os::unix::fs::chown(path("new"), None, Some(3000)).map(nothing),
        ),
        own(
            "chmod of root's",
            fs::set_permissions(path("roots"), mode(0o777)).map(nothing),
        ),
        kernel(
            "setxattr",
            rustix::fs::setxattr(path("new"), "user.x", b"x", XattrFlags::empty()).map(nothing),
        ),
        kernel(
            "getxattr",
            rustix::fs::getxattr(path("new"), "user.x", &mut [0_u8; 8][..]).map(|n| n.to_string()),
        ),
        kernel(
            "an ACL",
            rustix::fs::setxattr(
                path("new"),
                "system.posix_acl_access",
                &acl(&[
                    (1, 6, u32::MAX),
                    (2, 4, 3000),
                    (4, 4, u32::MAX),
                    (16, 4, u32::MAX),
                    (32, 0, u32::MAX),
                ]),
                XattrFlags::empty(),
            )
            .map(nothing),
        ),
        kernel("its mode with an ACL", shown("new")),
        own(
            "link",
            fs::hard_link(path("new"), path("hard")).map(nothing),
        ),
        own(
            "symlink",
            std::os::unix::fs::symlink("new", path("link")).map(nothing),
        ),
        own(
            "readlink",
            fs::read_link(path("link")).map(|to| to.display().to_string()),
        ),
        own("mkdir", fs::create_dir(path("dir")).map(nothing)),
        own(
            "rename",
            fs::rename(path("hard"), path("dir/moved")).map(nothing),
        ),
        own(
            "list",
            fs::read_dir(path("dir")).map(|list| list.count().to_string()),
        ),
        kernel("nameless", {
            let flags = OFlags::RDWR | OFlags::TMPFILE;
            rustix::fs::openat(&root.dir, ".", flags, Mode::from_raw_mode(0o600))
                .map(|_| String::new())
        }),
        own(
            "flock",
            fs::File::open(path("new"))
                .and_then(|file| Ok(flock(&file, FlockOperation::LockExclusive)?))
                .map(nothing),
        ),
        own("unlink", fs::remove_file(path("dir/moved")).map(nothing)),
        own("rmdir", fs::remove_dir(path("dir")).map(nothing)),
        own(
            "statfs",
            rustix::fs::statfs(path("new"))
                .map(|_| String::new())
                .map_err(Into::into),
        ),
    ]
}

/// The trees as both sides of the comparison begin.
fn begin(dir: &Path) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).expect("chmod");
    fs::write(dir.join("roots"), "root's").expect("write");
}

/// What a member of several groups, and root, get otherwise than natively.
fn differences(mnt: &Path, native: &Path) -> Vec<String> {
    let mut pair = Pair::new(mnt, native);
    let answers = pair.each_as(&member(), calls);
    assert_eq!(answers[0].1, Ok(String::new()), "create");
    for dir in [mnt, native] {
        for left in ["new", "link"] {
            fs::remove_file(dir.join(left)).expect("unlink");
        }
    }
    pair.each_as(&User::plain(0), calls);
    pair.differences().to_vec()
}

/// Waits for a mount or for the daemon's end.
fn until_mounted(child: &mut Child, at: &Path) {
    let until = Instant::now() + Duration::from_secs(60);
    while !mounts().iter().any(|mount| mount.at == at) {
        let ended = child.try_wait().expect("wait");
        assert!(ended.is_none(), "it ended before it mounted: {ended:?}");
        assert!(Instant::now() < until, "no mount");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// In a root directory without `/proc`, as that of a stratum that lacks it.
fn without_proc(env: &Env, bases: &Bases, options: &str) -> Child {
    let dev = env.dir("dev");
    fs::write(dev.join("fuse"), "").expect("a place for the device");
    rustix::mount::mount_bind("/dev/fuse", dev.join("fuse")).expect("bind the device");
    let program = env.scratch().join("etcfs");
    fs::write(&program, "").expect("a place for the program");
    rustix::mount::mount_bind(env!("CARGO_BIN_EXE_etcfs"), &program).expect("bind the program");
    // Paths as seen from there.
    let inside = |path: &Path| {
        let path = path
            .strip_prefix(env.scratch())
            .expect("a path of the scratch directory");
        Path::new("/").join(path)
    };
    let list = format!(
        "allow_other,stratum=here,global={},{options}",
        inside(&bases.global()).display()
    );
    Command::new("chroot")
        .arg(env.scratch())
        .args(["/etcfs", "-f", "-o", &list])
        .arg(inside(&bases.mnt()))
        .stdin(Stdio::null())
        .spawn()
        .expect("chroot(8)")
}

#[test]
fn without_proc_it_serves_and_what_a_further_group_would_allow_is_refused() {
    for options in ["threads=2", "passthrough"] {
        private(DEADLINE, move |env| {
            let bases = Bases::new(env, Lower::Tmpfs);
            begin(&bases.local());
            begin(&bases.native());
            let mut child = without_proc(env, &bases, options);
            until_mounted(&mut child, &bases.mnt());
            // Only there the caller's further groups are to be had: what needs one is refused, never allowed.
            let differences = differences(&bases.mnt(), &bases.native());
            let of_groups = |line: &String| {
                let refused = line.starts_with("chgrp to one's other group ");
                let follows = line.starts_with("its mode with ");
                refused && line.contains("mount Err(Os { code: 1,")
                    || follows && line.contains("1000 2000")
            };
            assert!(differences.iter().all(of_groups), "{differences:?}");
            rustix::mount::unmount(bases.mnt(), rustix::mount::UnmountFlags::DETACH)
                .expect("unmount");
            assert!(child.wait().expect("it ends").success());
        });
    }
}

/// A filter that answers ENOSYS to memfd_create(2), for this thread and what it starts.
fn deny_memfd() {
    let rules = [(libc::SYS_memfd_create, Vec::new())].into_iter().collect();
    let deny = SeccompAction::Errno(Errno::NOSYS.raw_os_error() as u32);
    let arch = std::env::consts::ARCH
        .try_into()
        .expect("a known architecture");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, deny, arch).expect("a filter");
    let program: seccompiler::BpfProgram = filter.try_into().expect("a program");
    seccompiler::apply_filter(&program).expect("apply it");
}

#[test]
fn without_memfd_it_serves_and_says_what_is_missing() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        begin(&bases.local());
        begin(&bases.native());
        let said = env.scratch().join("said");
        let log = fs::File::create(&said).expect("create");
        let opts = Opts {
            options: vec!["log=info".to_owned(), "keeper=yes".to_owned()],
            ..Opts::default()
        };
        let mut command = Etcfs::command(&bases, &opts);
        command.stdin(Stdio::null()).stderr(log);
        let mut child = std::thread::scope(|scope| {
            let start = scope.spawn(|| {
                deny_memfd();
                command.spawn().expect("start the daemon")
            });
            start.join().expect("start it")
        });
        until_mounted(&mut child, &bases.mnt());
        assert_eq!(differences(&bases.mnt(), &bases.native()), [""; 0]);
        let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a pid");
        rustix::process::kill_process(pid, Signal::TERM).expect("end it");
        assert!(child.wait().expect("it ends").success());
        let said = fs::read_to_string(&said).expect("read");
        for missing in ["no keeper", "no control socket"] {
            assert!(said.contains(missing), "{missing}: {said}");
        }
    });
}
