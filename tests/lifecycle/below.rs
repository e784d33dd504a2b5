//! What is mounted is a directory below the FUSE root, where the kernel lets it be; whatever is done with the mount comes to
//! the same as with the FUSE root itself.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::mount::UnmountFlags;

use crate::harness::{Bases, Env, Etcfs, Lower, Mount, all_of, mounts, private};
use crate::{DEADLINE, background, until};

/// Has the daemon meet kernels of other ages, and what mountinfo then shows as the mount's root.
const KERNELS: [(&str, &[&str], &str); 3] = [
    ("from Linux 6.15", &[], "/etc"),
    // open_tree(2) copies no detached mount.
    (
        "from Linux 5.2",
        &["inject=open_tree:error=EINVAL:when=1"],
        "/etc",
    ),
    ("before", &["inject=open_tree:error=ENOSYS"], "/"),
];

/// A daemon in the background that serves `bases` on such a kernel.
fn start(bases: &Bases, inject: &[&str]) {
    let daemon = Etcfs::command(bases, &background());
    let mut command = match inject {
        [] => Command::new(daemon.get_program()),
        _ => {
            let mut strace = Command::new("strace");
            strace
                .args(["-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null"])
                .args(["-e", "trace=open_tree"])
                .args(inject.iter().flat_map(|inject| ["-e", inject]))
                .arg(daemon.get_program());
            strace
        }
    };
    let status = command
        .args(daemon.get_args())
        .stdin(Stdio::null())
        .status();
    assert!(status.expect("start it").success());
}

fn filled(env: &Env) -> Bases {
    let bases = Bases::new(env, Lower::Tmpfs);
    for tree in [bases.local(), bases.native()] {
        fs::create_dir_all(tree.join("sub/deep")).expect("mkdir");
        fs::write(tree.join("file"), "text").expect("write");
        // In the served directory this is a name like any other.
        fs::write(tree.join("etc"), "etc").expect("write");
    }
    bases
}

fn mount_at(at: &Path) -> Mount {
    let mut all: Vec<_> = mounts().into_iter().filter(|m| m.at == at).collect();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn end(at: &Path) {
    assert!(!all_of(at).is_empty());
    rustix::mount::unmount(at, UnmountFlags::empty()).expect("unmount");
    ended(at);
}

fn ended(at: &Path) {
    until("the daemon has ended", || all_of(at).is_empty());
}

#[test]
fn mount_table_shows_the_same_on_every_kernel_but_for_the_root() {
    private(DEADLINE, |env| {
        let bases = filled(env);
        let at = bases.mnt();
        for (kernel, inject, root) in KERNELS {
            let before = mounts().len();
            start(&bases, inject);
            let mount = mount_at(&at);
            assert_eq!(mount.root, Path::new(root), "{kernel}");
            assert_eq!(
                (
                    &*mount.fstype,
                    &*mount.source,
                    &*mount.options,
                    &*mount.propagation
                ),
                ("fuse.etcfs", "etcfs", "rw,nosuid,nodev,relatime", ""),
                "{kernel}"
            );
            assert_eq!(
                mounts().len(),
                before + 1,
                "{kernel}: nothing else is left mounted"
            );
            assert_eq!(fs::read(at.join("etc")).expect("read"), b"etc", "{kernel}");
            end(&at);
        }
    });
}

/// What users and Bedrock do with a mount, as lines for a shell in which `M` is the mount. What they leave is as it was.
const USES: [&str; 14] = [
    "ls -a $M $M/.. | grep -v bedrock; stat -c '%F %a %h %u' $M $M/sub/..",
    "cd $M/sub/deep && pwd -P && cd ../.. && pwd -P && ls",
    "df --output=source,fstype,target $M | sed 1d; stat -f -c '%T %l' $M $M/file",
    "findmnt -n -o FSTYPE,OPTIONS,TARGET $M; mountpoint -q $M && echo yes",
    "mount --bind $M $X && ls $X $X/sub && echo new >$X/new && cat $M/new; rm $M/new; umount $X",
    "mount --bind $M/sub $X && ls $X && (cd $X && ls .. | grep -c deep); umount $X; echo $?",
    "touch $T; mount --bind $M/file $T && cat $T; umount $T; echo $?",
    "mount --bind $L $M/sub && ls $M/sub && umount $M/sub && ls $M/sub",
    "mount -i -o remount,ro $M; touch $M/x 2>&1 | grep -c Read-only; mount -i -o remount,rw $M; touch $M/x && rm $M/x && echo rw",
    "mount -o remount,bind,ro $M; touch $M/x 2>&1 | grep -c Read-only; mount -o remount,bind,rw $M; touch $M/x && rm $M/x",
    "mount --make-shared $M && mount --make-private $M; echo $?",
    "mount -t tmpfs t $X && mkdir $X/up $X/work $X/all && \
     mount -t overlay o -o lowerdir=$M,upperdir=$X/up,workdir=$X/work $X/all && ls $X/all && \
     echo more >>$X/all/file && cat $X/all/file $M/file; umount $X/all; umount $X; echo $?",
    "unshare -Urm ls $M; unshare -m --propagation private sh -c \"umount $M && ls $M | head -1\"",
    "cd $M; umount $M 2>&1 | grep -c busy; cd /; flock $M/file echo locked",
];

/// The same for its end.
const ENDS: [&str; 5] = [
    "exec 3<$M/file; umount -l $M; cat <&3; ls $M | head -1; exec 3<&-",
    "cd $M/sub; umount -l $M; ls; ls ..; /bin/pwd 2>/dev/null | grep -c unreachable; cd /",
    "umount $M; ls $M | head -1",
    "kill -9 $D; umount $M; ls $M | head -1",
    "mount --bind $M $X; umount $M; ls $X; umount $X; ls $M",
];

#[test]
fn whatever_is_done_with_the_mount_comes_to_the_same_as_on_a_fuse_root() {
    private(DEADLINE, |env| {
        let bases = filled(env);
        let (at, other) = (bases.mnt(), env.dir("other"));
        let outcome = |line: &'static str| {
            let words: Vec<_> = all_of(&at).iter().map(ToString::to_string).collect();
            let output = Command::new("sh")
                .args(["-c", line])
                .env("M", &at)
                .env("L", bases.global())
                .env("X", &other)
                .env("T", env.scratch().join("bound"))
                .env("D", words.join(" "))
                .env("LC_ALL", "C")
                .output();
            let output = output.expect("run sh");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (line, text(&output.stdout), text(&output.stderr))
        };
        let outcomes = |inject: &[&str], root: &str| {
            start(&bases, inject);
            assert_eq!(mount_at(&at).root, Path::new(root));
            let mut outcomes: Vec<_> = USES.map(outcome).into();
            end(&at);
            for line in ENDS {
                start(&bases, inject);
                outcomes.push(outcome(line));
                ended(&at);
            }
            outcomes
        };
        let [(_, new, below), .., (_, old, root)] = KERNELS;
        let (new, old) = (outcomes(new, below), outcomes(old, root));
        for (new, old) in new.iter().zip(&old) {
            assert_eq!(new, old);
            assert!(!new.1.is_empty(), "{new:?}");
        }
    });
}
