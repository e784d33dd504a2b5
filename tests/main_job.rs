//! The main job on real input: a Debian `/etc` as the local side, Bedrock's default list of global names, and real
//! programs working on it in a chroot (issue 2).
//!
//! The chroot is an overlay over the machine's own root, so nothing of the machine changes; the programs' packages are
//! installed inside it, through the mount.

mod harness;

use harness::{Env, mounts, private, run};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(240);

/// The default of `[global] etc` (contract D39 names its shape: files, a directory, nested names).
const GLOBAL: &[&str] = &[
    "apt/trusted.gpg.d",
    "default/grub",
    "fstab",
    "group",
    "group-",
    "gshadow",
    "gshadow-",
    "hostname",
    "hosts",
    "locale.conf",
    "login.defs",
    "machine-id",
    "modprobe.d/blacklist.conf",
    "passwd",
    "passwd-",
    "resolv.conf",
    "resolvconf/run",
    "shadow",
    "shadow-",
    "subgid",
    "subgid-",
    "subuid",
    "subuid-",
    "sudoers",
];

struct Stratum {
    root: PathBuf,
    global: PathBuf,
    local: PathBuf,
    daemon: Child,
}

impl Stratum {
    fn new(env: &Env) -> Stratum {
        let root = env.dir("root");
        let (upper, work) = (env.dir("upper"), env.dir("work"));
        let options = format!(
            "lowerdir=/,upperdir={},workdir={}",
            upper.display(),
            work.display()
        );
        let mount = |args: &[&str], at: &Path| {
            run(Command::new("mount").args(args).arg(at)).expect("mount");
        };
        mount(&["-t", "overlay", "-o", &options, "overlay"], &root);
        for dir in ["proc", "dev", "sys"] {
            mount(&["--rbind", &format!("/{dir}")], &root.join(dir));
        }
        let local = env.dir("local");
        mount(&["--bind", &root.join("etc").display().to_string()], &local);
        // The global side begins with what the machine has, as Bedrock's hijack does.
        let global = env.dir("global");
        for name in GLOBAL {
            let (from, to) = (local.join(name), global.join(name));
            if fs::symlink_metadata(&from).is_ok() {
                fs::create_dir_all(to.parent().expect("a parent")).expect("mkdir");
                run(Command::new("cp").arg("-aL").arg(&from).arg(&to)).expect("copy");
            }
        }
        let daemon = Command::new(env!("CARGO_BIN_EXE_etcfs"))
            .arg("-f")
            .arg("-o")
            .arg(format!(
                "allow_other,stratum=debian,global={}",
                global.display()
            ))
            .arg(root.join("etc"))
            .stdin(Stdio::null())
            .spawn()
            .expect("start the daemon");
        while !mounts()
            .iter()
            .any(|m| m.fstype == "fuse.etcfs" && m.at == root.join("etc"))
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        let stratum = Stratum {
            root,
            global,
            local,
            daemon,
        };
        for name in GLOBAL {
            let line = format!("add_global /{name}\n");
            fs::OpenOptions::new()
                .append(true)
                .open(stratum.root.join("etc/.bedrock-config-filesystem"))
                .and_then(|mut file| std::io::Write::write_all(&mut file, line.as_bytes()))
                .unwrap_or_else(|e| panic!("{line}: {e}"));
        }
        stratum
    }

    /// Runs a command line in the chroot and returns what it prints.
    fn sh(&self, script: &str) -> String {
        let output = Command::new("chroot")
            .arg(&self.root)
            .args(["/bin/sh", "-ec", script])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .stdin(Stdio::null())
            .output()
            .expect("start chroot");
        assert!(
            output.status.success(),
            "{script}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for Stratum {
    fn drop(&mut self) {
        let at = self.root.join("etc");
        let _ = rustix::mount::unmount(&at, rustix::mount::UnmountFlags::DETACH);
        let _ = self.daemon.wait();
    }
}

fn line_of<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.lines().find(|line| line.starts_with(start))
}

#[test]
fn a_debian_etc_serves_account_tools_and_the_package_manager() {
    private(DEADLINE, |env| {
        let stratum = Stratum::new(env);
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        let before = read(stratum.local.join("passwd"));

        stratum.sh("groupadd --gid 4300 team && useradd --uid 4301 --gid team --create-home --shell /bin/sh worker");
        stratum.sh("echo worker:secret | chpasswd && passwd --status worker | grep -q '^worker P'");
        stratum.sh("usermod --append --groups users worker && gpasswd --add worker adm");
        let global = read(stratum.global.join("passwd"));
        assert!(
            line_of(&global, "worker:x:4301:4300:").is_some(),
            "{global}"
        );
        assert_eq!(
            read(stratum.local.join("passwd")),
            before,
            "the local passwd is beneath"
        );
        let shadow = fs::metadata(stratum.global.join("shadow")).expect("stat");
        assert_eq!(shadow.mode() & 0o777, 0o640, "shadow keeps its mode");
        assert_eq!(stratum.sh("id -un 4301").trim(), "worker");
        assert_eq!(stratum.sh("getent group team").trim(), "team:x:4300:");

        // dpkg's conffiles, a maintainer script's files, ldconfig's cache.
        stratum.sh("apt-get update -q && apt-get install -qy --no-install-recommends sudo cowsay >/tmp/said 2>&1 || { cat /tmp/said; exit 1; }");
        stratum.sh("visudo -c");
        let sudoers =
            fs::metadata(stratum.global.join("sudoers")).expect("sudo's configuration is global");
        assert_eq!(
            (sudoers.mode() & 0o777, sudoers.uid(), sudoers.gid()),
            (0o440, 0, 0)
        );
        assert!(
            fs::symlink_metadata(stratum.local.join("sudoers")).is_err(),
            "and not local"
        );
        assert!(
            stratum.local.join("sudoers.d").is_dir(),
            "what is not listed is local"
        );
        stratum.sh("echo 'worker ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/worker && chmod 0440 /etc/sudoers.d/worker");
        assert_eq!(
            stratum
                .sh("visudo -cq && su worker -c 'sudo -n id -u'")
                .trim(),
            "0"
        );
        stratum.sh("dpkg --verify sudo cowsay && SUDO_FORCE_REMOVE=yes apt-get purge -qy sudo >/dev/null 2>&1");
        assert!(
            fs::symlink_metadata(stratum.global.join("sudoers")).is_err(),
            "purged"
        );

        stratum.sh("userdel --remove worker 2>/dev/null && groupdel team");
        assert!(line_of(&read(stratum.global.join("passwd")), "worker:").is_none());
        let listing = stratum.sh("ls -A /etc");
        let leftovers: Vec<&str> = listing
            .lines()
            .filter(|name| {
                name.ends_with(".lock") && *name != ".pwd.lock" || name.contains("dpkg-new")
            })
            .collect();
        assert!(leftovers.is_empty(), "{leftovers:?}");
    });
}
