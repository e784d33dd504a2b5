//! A small Bedrock: a pid 1, in a pid namespace of its own, whose root directory holds `/bedrock/strata` with the strata
//! bedrock, alpha and beta, each with an `/etc` of its own, and the daemons started in it as Bedrock's scripts do.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{CONFIG, Env, Lower, Mount, linux, mounts, run};
use rustix::fs::XattrFlags;
use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive};

/// The strata in the order in which init brings them up.
pub const STRATA: [&str; 3] = ["bedrock", "alpha", "beta"];

/// Bedrock's form of a daemon's start (contract D1): file descriptor 9 closed, options and mount point as they are.
pub const START: &str = "/bedrock/libexec/etcfs -o allow_other /etc 9>&-";

/// A running world. Dropping it ends every process of its pid namespace.
pub struct World {
    root: PathBuf,
    init: Child,
}

impl World {
    /// Makes the root directory, the strata and pid 1. No daemon runs yet.
    pub fn new(env: &Env) -> Self {
        let root = env.dir("root");
        // tmpfs has user attributes, by which strata are told apart, from Linux 6.6 on.
        match linux() >= (6, 6) {
            true => mount("root", &root, "tmpfs", MountFlags::empty(), c"mode=0755")
                .expect("mount the root's tmpfs"),
            false => Lower::Ext4.mount(env, &root).expect("mount the root"),
        }
        skeleton(&root);
        let bedrock = root.join("bedrock");
        fs::create_dir_all(bedrock.join("libexec")).expect("mkdir");
        fs::create_dir_all(bedrock.join("share")).expect("mkdir");
        let binary: PathBuf = std::env::var_os("ETCFS_BIN")
            .map_or_else(|| env!("CARGO_BIN_EXE_etcfs").into(), Into::into);
        let installed = bedrock.join("libexec/etcfs");
        fs::write(&installed, "").expect("the mount point of the binary");
        mount_bind(&binary, &installed).expect("bind the binary");
        for stratum in STRATA {
            let dir = bedrock.join("strata").join(stratum);
            fs::create_dir_all(&dir).expect("mkdir");
            skeleton(&dir);
            run(Command::new("cp")
                .args(["-a", "/etc/."])
                .arg(dir.join("etc")))
            .expect("copy /etc");
            // Debian's installer writes this file; a root that debootstrap made has none.
            let hosts = dir.join("etc/hosts");
            if !hosts.exists() {
                fs::write(&hosts, "127.0.0.1\tlocalhost\n").expect("write hosts");
            }
            rustix::fs::lsetxattr(
                &dir,
                "user.bedrock.stratum",
                stratum.as_bytes(),
                XattrFlags::empty(),
            )
            .expect("mark a stratum");
        }
        let init = start_init(&root);
        for stratum in STRATA {
            let dir = bedrock.join("strata").join(stratum);
            fs::create_dir_all(dir.join("bedrock")).expect("mkdir");
            mount_bind_recursive(bedrock.join("libexec"), made(dir.join("bedrock/libexec")))
                .expect("bind libexec");
            mount_bind(bedrock.join("share"), made(dir.join("bedrock/share"))).expect("bind share");
            mount_bind(root.join("proc"), dir.join("proc")).expect("bind /proc");
        }
        Self { root, init }
    }

    /// The root directory of pid 1.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The root directory of a stratum.
    pub fn stratum(&self, name: &str) -> PathBuf {
        self.root.join("bedrock/strata").join(name)
    }

    /// A path below a stratum's /etc, as it looks there.
    pub fn etc(&self, stratum: &str, path: &str) -> PathBuf {
        self.stratum(stratum).join("etc").join(path)
    }

    /// A shell in the pid namespace, its root being pid 1's.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!(
                "--pid=/proc/{}/ns/pid_for_children",
                self.init.id()
            ))
            .arg(format!("--root={}", self.root.display()))
            .arg(format!("--wd={}", self.root.display()))
            .args(["--", "/bin/sh", "-uc", script])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null());
        command
    }

    /// Runs a shell script there; what it says, or how it failed.
    pub fn sh(&self, script: &str) -> Result<String, String> {
        let output = self.command(script).output().expect("run nsenter");
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(out);
        }
        let error = String::from_utf8_lossy(&output.stderr);
        Err(format!("{}: {out}{error}", output.status))
    }

    /// Runs a shell script inside a stratum, as `strat -r NAME` would.
    pub fn strat(&self, stratum: &str, script: &str) -> Result<String, String> {
        let script = script.replace('\'', "'\\''");
        self.sh(&format!(
            "exec chroot /proc/1/root/bedrock/strata/{stratum} /bin/sh -uc '{script}'"
        ))
    }

    /// Starts a stratum's daemon (contract D1).
    pub fn enable(&self, stratum: &str) -> Result<String, String> {
        self.sh(&format!(
            "exec 9>/tmp/lock; chroot /proc/1/root/bedrock/strata/{stratum} {START}"
        ))
    }

    /// Starts all daemons in Bedrock's order and configures each.
    pub fn start(&self, config: &[&str]) {
        for stratum in STRATA {
            self.enable(stratum)
                .unwrap_or_else(|e| panic!("{stratum}: {e}"));
            self.configure(stratum, config);
        }
    }

    /// Writes commands to a stratum's configuration file, one write(2) each.
    pub fn configure(&self, stratum: &str, lines: &[&str]) {
        use std::io::Write;
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(self.etc(stratum, CONFIG))
            .unwrap_or_else(|e| panic!("{stratum}: open the configuration file: {e}"));
        for line in lines {
            let line = format!("{line}\n");
            file.write_all(line.as_bytes())
                .unwrap_or_else(|e| panic!("{stratum}: {line:?}: {e}"));
        }
    }

    /// The process ids, in the test's own namespace, of the daemons whose root is the stratum's.
    pub fn daemons(&self, stratum: &str) -> Vec<i32> {
        let root = self.stratum(stratum);
        fs::read_dir("/proc")
            .expect("list /proc")
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| {
                fs::read_link(format!("/proc/{pid}/root")).is_ok_and(|link| link == root)
                    && fs::read_to_string(format!("/proc/{pid}/comm"))
                        .is_ok_and(|comm| comm == "etcfs\n")
            })
            .collect()
    }

    /// The process that serves a stratum: the only one that has threads.
    pub fn daemon(&self, stratum: &str) -> i32 {
        let mut found = self.daemons(stratum);
        found
            .retain(|pid| fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count) > 1);
        assert_eq!(found.len(), 1, "one server of {stratum}: {found:?}");
        found[0]
    }

    /// Kills everything that serves a stratum, and waits until it is gone.
    pub fn kill_all(&self, stratum: &str) {
        for pid in self.daemons(stratum) {
            let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        until("all are gone", || self.daemons(stratum).is_empty());
    }

    /// The mounts at a stratum's /etc, oldest first.
    pub fn etc_mounts(&self, stratum: &str) -> Vec<Mount> {
        let at = self.stratum(stratum).join("etc");
        mounts().into_iter().filter(|m| m.at == at).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // With unshare(1) its child goes, pid 1, and with that every process of the namespace.
        let _ = self.init.kill();
        let _ = self.init.wait();
    }
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn made(dir: PathBuf) -> PathBuf {
    fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("mkdir {}: {e}", dir.display()));
    dir
}

/// The directories of a root, with the machine's programs.
fn skeleton(root: &Path) {
    for dir in ["etc", "proc", "dev", "usr", "tmp", "run"] {
        made(root.join(dir));
    }
    for link in ["bin", "sbin", "lib", "lib64"] {
        let at = root.join(link);
        match fs::read_link(Path::new("/").join(link)) {
            Ok(target) => symlink(target, at).expect("symlink"),
            Err(_) => mount_bind(Path::new("/").join(link), made(at)).expect("bind"),
        }
    }
    mount_bind("/usr", root.join("usr")).expect("bind /usr");
    mount_bind("/dev", root.join("dev")).expect("bind /dev");
}

/// Starts pid 1: a shell that mounts /proc and takes in orphans, until it is killed.
fn start_init(root: &Path) -> Child {
    let script =
        "mount -t proc proc /proc && echo ready && trap '' TERM HUP && { sleep infinity & wait; }";
    let mut init = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child=KILL", "--root"])
        .arg(root)
        .args(["--wd", "/", "/bin/sh", "-c", script])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start unshare(1)");
    let mut line = String::new();
    let out = init.stdout.take().expect("stdout is piped");
    BufReader::new(out)
        .read_line(&mut line)
        .expect("hear from pid 1");
    assert_eq!(line, "ready\n", "pid 1 started");
    init
}
