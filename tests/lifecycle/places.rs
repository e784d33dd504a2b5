//! Where it runs: in a stratum that holds nothing, from fstab, on an older kernel, above its own mount.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, XattrFlags, lgetxattr, lsetxattr};
use rustix::mount::UnmountFlags;
use rustix::process::Signal;

use crate::harness::{Bases, CONFIG, Env, Etcfs, Lower, Opts, mounts, private};
use crate::{DEADLINE, binary, is_mounted, until};

/// A tree with nothing but what a stratum must have: the directories, /proc and /dev/fuse.
fn stratum(env: &Env) -> PathBuf {
    let root = env.dir("stratum");
    for dir in ["etc", "proc", "dev", "global"] {
        fs::create_dir(root.join(dir)).expect("mkdir");
    }
    fs::write(root.join("etc/local"), "l").expect("write");
    fs::write(root.join("global/shared"), "g").expect("write");
    fs::copy(binary(), root.join("etcfs")).expect("copy the daemon");
    rustix::mount::mount_bind("/proc", root.join("proc")).expect("bind");
    fs::write(root.join("dev/fuse"), "").expect("write");
    rustix::mount::mount_bind("/dev/fuse", root.join("dev/fuse")).expect("bind");
    root
}

#[test]
fn d1_d10_daemon_in_an_empty_stratum_serves_its_etc_and_stays_in_its_root() {
    // Contract D1, D8, D10, D12, K5: no libc, no /dev/null, no environment.
    private(DEADLINE, |env| {
        let root = stratum(env);
        let run = || {
            let mut command = Command::new("chroot");
            command.arg(&root).arg("/etcfs").args([
                "-o",
                "allow_other,global=/global,stratum=here",
                "/etc",
            ]);
            command
                .env("PATH", "/usr/sbin:/usr/bin")
                .output()
                .expect("run chroot")
        };
        let output = run();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.stderr, b"");
        let at = root.join("etc");
        fs::write(at.join(CONFIG), "add_global /shared\n").expect("configure");
        assert_eq!(fs::read(at.join("shared")).expect("global"), b"g");
        assert_eq!(fs::read(at.join("local")).expect("local"), b"l");
        let entry = mounts()
            .into_iter()
            .find(|mount| mount.at == at)
            .expect("it is mounted");
        assert_eq!(entry.fstype, "fuse.etcfs");
        let mut daemons = Vec::new();
        for process in fs::read_dir("/proc").expect("list").flatten() {
            if fs::read_link(process.path().join("root")).is_ok_and(|to| to == root) {
                daemons.push(process.file_name().to_string_lossy().into_owned());
            }
        }
        // Keeper, server and spare keeper.
        let processes = match std::env::var("ETCFS_KEEPER").as_deref() {
            Ok("no") => 1,
            _ => 3,
        };
        assert_eq!(
            daemons.len(),
            processes,
            "they have the stratum's root: {daemons:?}"
        );
        let pid =
            rustix::process::Pid::from_raw(daemons[0].parse().expect("a pid")).expect("a pid");
        rustix::process::kill_process(pid, Signal::TERM).expect("TERM");
        until("it is unmounted", || !is_mounted(&at));
    });
}

#[test]
fn attributes_of_what_cannot_be_opened_are_reached_without_proc() {
    private(DEADLINE, |env| {
        let root = stratum(env);
        rustix::mount::unmount(root.join("proc"), UnmountFlags::DETACH).expect("unmount");
        std::os::unix::fs::symlink("nowhere", root.join("etc/link")).expect("symlink");
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, root.join("etc/fifo"), fifo, Mode::RWXU, 0)
            .expect("mknod");
        let none = XattrFlags::empty();
        for name in ["link", "fifo"] {
            lsetxattr(
                root.join("etc").join(name),
                "trusted.below",
                b"native",
                none,
            )
            .expect("set");
        }
        let mut daemon = Command::new("chroot")
            .arg(&root)
            .args([
                "/etcfs",
                "-f",
                "-o",
                "allow_other,global=/global,stratum=here",
                "/etc",
            ])
            .stderr(Stdio::null())
            .spawn()
            .expect("run chroot");
        let at = root.join("etc");
        until("it is mounted", || is_mounted(&at));
        let get = |name: &str, attribute: &str| {
            let mut value = [0; 16];
            let len = lgetxattr(at.join(name), attribute, &mut value[..])?;
            rustix::io::Result::Ok(value[..len].to_vec())
        };
        for name in ["link", "fifo"] {
            assert_eq!(get(name, "trusted.below"), Ok(b"native".to_vec()), "{name}");
            assert_eq!(
                lsetxattr(at.join(name), "trusted.above", b"set", none),
                Ok(())
            );
            assert_eq!(get(name, "trusted.above"), Ok(b"set".to_vec()), "{name}");
        }
        rustix::mount::unmount(&at, UnmountFlags::DETACH).expect("unmount");
        daemon.kill().expect("kill");
        daemon.wait().expect("wait");
    });
}

/// Calls of Linux 5.2 to 5.12 (as new as strace knows by name), each of which has an older way or is done without.
const NEWER_CALLS: &str = "fsopen,fsconfig,fsmount,move_mount,open_tree,openat2,faccessat2,\
                           close_range,mount_setattr";

#[test]
fn without_the_newer_system_calls_it_mounts_and_serves_all_the_same() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        fs::write(bases.local().join("file"), "local").expect("write");
        fs::write(bases.global().join("shared"), "global").expect("write");
        let trace = env.scratch().join("trace");
        let daemon = Etcfs::command(&bases, &Opts::default());
        let mut command = Command::new("strace");
        command
            .args(["-f", "-qq", "-e", &format!("trace={NEWER_CALLS},mount")])
            .args(["-e", &format!("inject={NEWER_CALLS}:error=ENOSYS")])
            .arg("-o")
            .arg(&trace)
            .arg(daemon.get_program())
            .args(daemon.get_args())
            .stdin(Stdio::null())
            .process_group(0);
        let mut child = command.spawn().expect("start strace");
        let at = bases.mnt();
        until("it is mounted", || is_mounted(&at));
        assert_eq!(fs::read(at.join("file")).expect("read"), b"local");
        fs::write(at.join(CONFIG), "add_global /shared\n").expect("configure");
        assert_eq!(fs::read(at.join("shared")).expect("read"), b"global");
        fs::write(at.join("new"), "new").expect("write");
        fs::rename(at.join("new"), at.join("shared")).expect("rename across sides");
        assert_eq!(
            fs::read(bases.global().join("shared")).expect("read"),
            b"new"
        );
        assert_eq!(fs::read_dir(&at).expect("list").count(), 3);
        let mount = mounts().into_iter().rfind(|m| m.at == at).expect("a mount");
        assert_eq!(
            (&*mount.fstype, &*mount.source, &*mount.options),
            ("fuse.etcfs", "etcfs", "rw,nosuid,nodev,relatime")
        );
        // The group, not the mount: strace is to see the daemon's end.
        let group = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process_group(group, Signal::TERM).expect("TERM");
        child.wait().expect("it ends");
        assert!(!is_mounted(&at));
        let text = fs::read_to_string(&trace).expect("the trace");
        assert!(
            text.contains("fsopen(") && text.contains("mount("),
            "{text}"
        );
    });
}

#[test]
fn fstab_line_is_mounted_through_mount_fuse3() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        fs::write(bases.local().join("here"), "").expect("write");
        // mount(8) gives its helpers a PATH of its own.
        let programs = env.dir("programs");
        fs::copy(binary(), programs.join("etcfs")).expect("copy the daemon");
        rustix::mount::mount_bind(&programs, "/usr/local/bin").expect("bind");
        let (at, global) = (bases.mnt(), bases.global());
        let fstab = env.scratch().join("fstab");
        // mount.fuse3 says dev and suid by itself; they count where somebody has said them.
        for (line, source, fstab_says, mount_says, shown) in [
            ("etcfs MNT fuse.etcfs", "etcfs", "ro", "", "nosuid,nodev,"),
            ("none MNT fuse.etcfs", "none", "ro", "", "nosuid,nodev,"),
            ("etcfs MNT fuse", "etcfs", "ro", "", "nosuid,nodev,"),
            ("etcfs#a MNT fuse", "a", "ro", "", "nosuid,nodev,"),
            ("etcfs MNT fuse.etcfs", "etcfs", "ro,dev", "", "nosuid,"),
            (
                "etcfs MNT fuse.etcfs",
                "etcfs",
                "ro,nodev,suid",
                "",
                "nodev,",
            ),
            ("etcfs MNT fuse.etcfs", "etcfs", "ro", "dev,suid", ""),
            (
                "etcfs MNT fuse.etcfs",
                "etcfs",
                "ro,dev",
                "nodev",
                "nosuid,nodev,",
            ),
        ] {
            let line = line.replace("MNT", &at.display().to_string());
            let list = format!(
                "{fstab_says},allow_other,nofail,_netdev,x-test=1,stratum=here,global={}",
                global.display()
            );
            fs::write(&fstab, format!("{line} {list} 0 0\n")).expect("write");
            let mut mount = Command::new("mount");
            if !mount_says.is_empty() {
                mount.args(["-o", mount_says]);
            }
            let output = mount
                .arg("-T")
                .arg(&fstab)
                .arg(&at)
                .output()
                .expect("run mount");
            assert!(
                output.status.success(),
                "{line}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            let entry = mounts()
                .into_iter()
                .rfind(|mount| mount.at == at)
                .expect("it is mounted");
            assert_eq!(
                (&*entry.fstype, &*entry.source),
                ("fuse.etcfs", source),
                "{line}"
            );
            assert_eq!(
                entry.options,
                format!("ro,{shown}relatime"),
                "{line} {list}"
            );
            fs::metadata(at.join("here")).expect("it answers");
            rustix::mount::unmount(&at, UnmountFlags::DETACH).expect("unmount");
        }
        until("all daemons have left", || {
            !running(&programs.join("etcfs"))
        });
    });
}

/// Whether a process runs this program.
fn running(program: &Path) -> bool {
    let processes = fs::read_dir("/proc").expect("list").flatten();
    processes
        .into_iter()
        .any(|process| fs::read_link(process.path().join("exe")).is_ok_and(|exe| exe == program))
}

#[test]
fn d21_nothing_is_opened_by_an_absolute_path_once_it_is_mounted() {
    // Contract D21.
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        fs::write(bases.local().join("file"), "x").expect("write");
        let trace = env.scratch().join("trace");
        let daemon = Etcfs::command(&bases, &Opts::default());
        let mut command = Command::new("strace");
        command
            .args(["-f", "-qq", "-e", "trace=%file,move_mount,execve", "-o"])
            .arg(&trace);
        command
            .arg(daemon.get_program())
            .args(daemon.get_args())
            .stdin(Stdio::null())
            .process_group(0);
        let mut child = command.spawn().expect("start strace");
        until("it is mounted", || is_mounted(&bases.mnt()));
        let at = bases.mnt();
        assert_eq!(fs::read(at.join("file")).expect("read"), b"x");
        fs::write(at.join("new"), "y").expect("write");
        fs::rename(at.join("new"), at.join("file")).expect("rename");
        fs::write(at.join(CONFIG), "add_global /g\n").expect("configure");
        fs::write(at.join("g"), "z").expect("write a global file");
        assert_eq!(fs::read_dir(&at).expect("list").count(), 3);
        let group = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("a pid"))
            .expect("a pid");
        rustix::process::kill_process_group(group, Signal::TERM).expect("TERM");
        child.wait().expect("it ends");
        let text = fs::read_to_string(&trace).expect("the trace");
        let mut lines = text
            .lines()
            .skip_while(|line| !line.contains("move_mount("));
        assert!(
            lines.next().is_some(),
            "no move_mount in the trace:\n{text}"
        );
        let mount = format!("\"{}", at.display());
        let mut calls = 0;
        for line in lines {
            calls += 1;
            // Only what sends no request, and the unmount, names the mountpoint: O_PATH stops at its root.
            let allowed = ["O_PATH", "AT_STATX_DONT_SYNC", "umount2(", "\"/proc/"];
            let absolute = line.contains("\"/");
            assert!(
                !absolute || allowed.iter().any(|part| line.contains(part)),
                "{line}"
            );
            let opens = line.contains("open") && !line.contains("O_PATH");
            assert!(!line.contains(&mount) || !opens, "{line}");
        }
        assert!(calls > 5, "the trace shows the daemon at work:\n{text}");
    });
}
