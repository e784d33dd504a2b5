//! What real programs do in /etc, with the mount standing at /etc of a private mount namespace.

use super::harness::{Bases, Etcfs, Lower, Opts, private, run};
use super::{DEADLINE, Sides, leftovers};
use rustix::mount::UnmountFlags;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bedrock's default globals, as far as these programs use them.
const GLOBAL: [&str; 12] = [
    "group",
    "group-",
    "gshadow",
    "hosts",
    "login.defs",
    "passwd",
    "passwd-",
    "resolv.conf",
    "shadow",
    "shadow-",
    "shells",
    "tool.conf",
];

/// A mount over /etc whose local side is a copy of the machine's, less what is global.
struct Machine {
    etcfs: Etcfs,
}

impl Machine {
    fn global(&self, name: &str) -> PathBuf {
        self.etcfs.global().join(name)
    }

    fn local(&self, name: &str) -> PathBuf {
        self.etcfs.local().join(name)
    }

    /// The global file is there, with nothing of that name on the local side.
    fn read(&self, name: &str) -> String {
        assert!(
            !self.local(name).exists(),
            "{name} appeared on the local side"
        );
        fs::read_to_string(self.global(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount("/etc", UnmountFlags::DETACH);
    }
}

fn on_a_machine(sides: Sides, body: impl FnOnce(&Machine) + Send + 'static) {
    private(DEADLINE, move |env| {
        eprintln!("--- {sides:?}");
        let bases = sides.make(env);
        fill(&bases);
        let opts = Opts {
            config: GLOBAL
                .iter()
                .map(|name| format!("add_global /{name}"))
                .chain(["add_override symlink /fixed ../usr/fixed".into()])
                .collect(),
            ..Opts::default()
        };
        let etcfs = Etcfs::serve(env, bases, opts);
        // Only in this namespace, in which nothing is shared with the machine's own.
        rustix::mount::mount_bind(etcfs.mnt(), "/etc").expect("bind the mount over /etc");
        let machine = Machine { etcfs };
        body(&machine);
        assert_eq!(leftovers(&machine.etcfs.local()), Vec::<String>::new());
        assert_eq!(leftovers(&machine.etcfs.global()), Vec::<String>::new());
    });
}

fn fill(bases: &Bases) {
    run(Command::new("cp")
        .arg("-a")
        .arg("/etc/.")
        .arg(bases.local()))
    .expect("copy /etc");
    for name in GLOBAL {
        let local = bases.local().join(name);
        let global = bases.global().join(name);
        if fs::symlink_metadata(&local).is_ok() {
            run(Command::new("cp").arg("-aL").arg(&local).arg(&global)).expect("copy");
            fs::remove_file(&local).expect("remove");
        }
    }
    fs::write(bases.global().join("tool.conf"), "one\ntwo\nthree\n").expect("write");
}

const MACHINES: [Sides; 2] = [
    Sides::Same(Lower::Tmpfs),
    Sides::Apart(Lower::Disk, Lower::Tmpfs),
];

fn sh(script: &str) {
    run(Command::new("sh").args(["-euc", script])).expect("the shell script");
}

/// Owner, group and mode.
fn ownership(path: &Path) -> (u32, u32, u32) {
    let stat = fs::symlink_metadata(path).expect("stat");
    (stat.uid(), stat.gid(), stat.mode() & 0o7777)
}

#[test]
fn shadow_utils_change_the_global_accounts() {
    for sides in MACHINES {
        on_a_machine(sides, |machine| {
            let before: Vec<_> = ["passwd", "shadow", "group", "gshadow"]
                .map(|name| ownership(&machine.global(name)))
                .into();
            let old = machine.read("passwd");
            sh("groupadd --gid 4242 etcfsgroup
                useradd --no-create-home --uid 4243 --gid 4242 --shell /bin/sh etcfsuser
                usermod --comment 'Some Name' --append --groups etcfsgroup etcfsuser
                echo 'etcfsuser:$6$salt$hash' | chpasswd --encrypted
                id etcfsuser
                passwd --lock etcfsuser");
            assert!(
                machine
                    .read("passwd")
                    .contains("etcfsuser:x:4243:4242:Some Name:")
            );
            assert!(machine.read("shadow").contains("etcfsuser:!$6$salt$hash:"));
            assert!(machine.read("group").contains("etcfsgroup:x:4242:"));
            assert!(
                machine.read("passwd-").starts_with(&old),
                "the backup is the old file"
            );
            sh("userdel etcfsuser; groupdel etcfsgroup || true");
            assert_eq!(machine.read("passwd"), old);
            assert!(!machine.read("shadow").contains("etcfsuser"));
            let after: Vec<_> = ["passwd", "shadow", "group", "gshadow"]
                .map(|name| ownership(&machine.global(name)))
                .into();
            assert_eq!(after, before);
            for lock in ["passwd.lock", "shadow.lock", "passwd+", "shadow+"] {
                assert!(!machine.local(lock).exists(), "{lock} is left");
            }
        });
    }
}

#[test]
fn d44_files_are_replaced_as_brl_does_it() {
    for sides in MACHINES {
        on_a_machine(sides, |machine| {
            let before = machine.read("login.defs");
            // ensure_line and enforce_shells of Bedrock's scripts, in their form.
            sh(
                "(cat /etc/login.defs; echo '# ensured') > /etc/login.defs-new
                mv /etc/login.defs-new /etc/login.defs
                echo /bin/etcfs-test-shell >> /etc/shells
                cat /etc/shells | sort | uniq > /etc/shells-
                mv /etc/shells- /etc/shells
                mkdir -p /etc/a/b/c
                rm -f /etc/mtab
                ln -s /proc/self/mounts /etc/mtab
                mv /etc/mtab /etc/mtab-; mv /etc/mtab- /etc/mtab",
            );
            assert_eq!(machine.read("login.defs"), before + "# ensured\n");
            let shells = machine.read("shells");
            let mut sorted: Vec<_> = shells.lines().collect();
            sorted.sort_unstable();
            assert!(shells.contains("/bin/etcfs-test-shell\n"));
            assert_eq!(sorted.len(), shells.lines().count());
            assert!(!machine.local("login.defs-new").exists());
        });
    }
}

#[test]
fn resolv_conf_is_replaced_as_network_managers_do_it() {
    for sides in MACHINES {
        on_a_machine(sides, |_| {
            let etc = Path::new("/etc");
            // NetworkManager: a temporary file, fsync, chmod, rename; then the same with a symlink.
            for n in 0..3 {
                let temporary = etc.join(format!("resolv.conf.{n}XY"));
                let file = fs::File::create(&temporary).expect("create");
                std::io::Write::write_all(
                    &mut &file,
                    format!("nameserver 10.0.0.{n}\n").as_bytes(),
                )
                .expect("write");
                file.set_permissions(fs::Permissions::from_mode(0o644))
                    .expect("chmod");
                file.sync_all().expect("fsync");
                drop(file);
                fs::rename(&temporary, etc.join("resolv.conf")).expect("rename");
                let text = fs::read_to_string(etc.join("resolv.conf")).expect("read");
                assert_eq!(text, format!("nameserver 10.0.0.{n}\n"));
                let link = etc.join(".resolv.conf.NetworkManager");
                symlink(format!("/run/NetworkManager/{n}.conf"), &link).expect("symlink");
                fs::rename(&link, etc.join("resolv.conf")).expect("rename the link");
                let target = fs::read_link(etc.join("resolv.conf")).expect("readlink");
                assert_eq!(
                    target,
                    PathBuf::from(format!("/run/NetworkManager/{n}.conf"))
                );
            }
            // resolvconf: the symlink is made anew with ln -s, the file that is there is saved beside it.
            sh("rm -f /etc/resolv.conf
                echo 'nameserver 10.9.9.9' > /etc/resolv.conf
                mv /etc/resolv.conf /etc/resolv.conf.dpkg-old
                ln -s ../run/resolvconf/resolv.conf /etc/resolv.conf
                grep -q 10.9.9.9 /etc/resolv.conf.dpkg-old
                rm /etc/resolv.conf
                mv /etc/resolv.conf.dpkg-old /etc/resolv.conf
                grep -q 10.9.9.9 /etc/resolv.conf");
        });
    }
}

#[test]
fn editors_save_global_files() {
    for sides in MACHINES {
        on_a_machine(sides, |machine| {
            let path = machine.global("tool.conf");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
            std::os::unix::fs::chown(&path, Some(1000), Some(1001)).expect("chown");
            let expected = (1000, 1001, 0o640);

            sh("sed -i 's/two/2/' /etc/tool.conf");
            assert_eq!(machine.read("tool.conf"), "one\n2\nthree\n");
            assert_eq!(ownership(&path), expected, "after sed");

            // Without a backup, with one made by rename, and with one made by copying.
            for (n, copy) in ["auto", "no", "yes"].into_iter().enumerate() {
                sh(&format!(
                    "TERM=dumb vim.tiny -u NONE -es -c 'set backup writebackup backupcopy={copy}' \
                     -c 'set backupdir=.' -c 'normal! Gonumber {n}' -c wq /etc/tool.conf < /dev/null"
                ));
                assert!(
                    machine
                        .read("tool.conf")
                        .ends_with(&format!("number {n}\n")),
                    "{copy}"
                );
                assert_eq!(
                    ownership(&path),
                    expected,
                    "after vim with backupcopy={copy}"
                );
                assert!(!machine.read("tool.conf").is_empty());
                let saved = fs::read_to_string(machine.local("tool.conf~")).expect("the backup");
                assert!(!saved.contains(&format!("number {n}")));
            }

            // Its terminal is made by script(1); ^O saves, ^X leaves.
            sh(
                "(sleep 1; printf 'typed '; sleep 0.3; printf '\\017'; sleep 0.3; printf '\\r'
                 sleep 0.3; printf '\\030'; sleep 0.3) |
                TERM=xterm script -qec 'nano --ignorercfiles --backup /etc/tool.conf' /dev/null \
                    > /dev/null",
            );
            assert!(machine.read("tool.conf").starts_with("typed one\n"));
            assert_eq!(ownership(&path), expected, "after nano");
            assert!(machine.local("tool.conf~").exists());
        });
    }
}

#[test]
fn dpkg_handles_a_global_conffile() {
    for sides in MACHINES {
        on_a_machine(sides, |machine| {
            fs::remove_file("/etc/tool.conf").expect("remove");
            let scratch = machine.etcfs.native();
            sh(&format!(
                "cd {dir}
                 mkdir -p admin/info admin/updates admin/triggers
                 : > admin/status; : > admin/available
                 for version in 1 2 3; do
                     mkdir -p pkg$version/DEBIAN pkg$version/etc
                     printf 'Package: etcfs-test\\nVersion: %s\\nArchitecture: all\\nMaintainer: nobody <n@example>\\nDescription: test\\n' \
                         $version > pkg$version/DEBIAN/control
                     echo /etc/tool.conf > pkg$version/DEBIAN/conffiles
                     echo version $version > pkg$version/etc/tool.conf
                     chmod 640 pkg$version/etc/tool.conf
                     dpkg-deb --root-owner-group -b pkg$version $version.deb > /dev/null
                 done",
                dir = scratch.display()
            ));
            let install = |version: u32, choice: &str| {
                let admin = scratch.join("admin");
                run(Command::new("dpkg")
                    .arg(format!("--admindir={}", admin.display()))
                    .args(["--force-not-root", "--log=/dev/null", choice, "-i"])
                    .arg(scratch.join(format!("{version}.deb"))))
                .expect("dpkg -i");
            };
            install(1, "--force-confdef");
            assert_eq!(machine.read("tool.conf"), "version 1\n");
            assert_eq!(ownership(&machine.global("tool.conf")), (0, 0, 0o640));
            fs::write("/etc/tool.conf", "edited\n").expect("edit");
            install(2, "--force-confold");
            assert_eq!(machine.read("tool.conf"), "edited\n");
            assert_eq!(
                fs::read_to_string(machine.local("tool.conf.dpkg-dist")).expect("read"),
                "version 2\n"
            );
            install(3, "--force-confnew");
            assert_eq!(machine.read("tool.conf"), "version 3\n");
            // dpkg makes that backup with link(2), which does not cross sides (S6), and goes on with a warning.
            assert!(!machine.local("tool.conf.dpkg-old").exists());
            assert_eq!(ownership(&machine.global("tool.conf")), (0, 0, 0o640));
        });
    }
}

#[test]
fn d43_xbps_makes_a_file_at_an_override_on_the_second_try() {
    on_a_machine(Sides::Same(Lower::Tmpfs), |machine| {
        let path = Path::new("/etc/fixed");
        assert_eq!(
            fs::read_link(path).expect("the override"),
            Path::new("../usr/fixed")
        );
        let try_once = || {
            let _ = fs::remove_file(path);
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(path)
        };
        let file = try_once()
            .or_else(|_| try_once())
            .expect("on the second try");
        std::io::Write::write_all(&mut &file, b"from a package").expect("write");
        drop(file);
        std::thread::sleep(std::time::Duration::from_millis(2500));
        assert_eq!(
            fs::read_link(path).expect("the override again"),
            Path::new("../usr/fixed")
        );
        assert!(fs::symlink_metadata(machine.local("fixed")).is_ok());
    });
}

#[test]
fn b3_an_override_replaced_by_rename_is_put_back() {
    on_a_machine(Sides::Same(Lower::Tmpfs), |_| {
        let path = Path::new("/etc/fixed");
        assert!(fs::read_link(path).is_ok());
        fs::write("/etc/fixed.new", "a package's").expect("write");
        fs::rename("/etc/fixed.new", path).expect("the rename itself is allowed");
        std::thread::sleep(std::time::Duration::from_millis(2500));
        assert_eq!(
            fs::read_link(path).expect("the override again"),
            Path::new("../usr/fixed")
        );
    });
}

#[test]
fn etckeeper_keeps_etc_in_git() {
    for sides in MACHINES {
        on_a_machine(sides, |machine| {
            let git = "git -C /etc -c user.name=n -c user.email=e@example -c gc.auto=0 \
                       -c safe.directory=/etc -c core.hooksPath=/nowhere";
            sh(&format!(
                "export HOME=/nowhere GIT_CONFIG_NOSYSTEM=1
                 {git} init -q
                 {git} add -A
                 {git} commit -qm one
                 test -z \"$({git} status --porcelain)\"
                 echo changed >> /etc/tool.conf
                 echo changed >> /etc/hostname
                 test \"$({git} status --porcelain | wc -l)\" = 2
                 {git} commit -qam two
                 {git} checkout -q HEAD~1
                 ! grep -q changed /etc/tool.conf
                 {git} checkout -q -
                 grep -q changed /etc/tool.conf
                 {git} repack -qad
                 {git} fsck --no-progress
                 test -z \"$({git} status --porcelain)\""
            ));
            assert!(machine.read("tool.conf").contains("changed"));
            let tracked = Command::new("git")
                .args(["-C", "/etc", "-c", "safe.directory=/etc", "ls-files"])
                .output()
                .expect("git ls-files");
            let tracked = String::from_utf8_lossy(&tracked.stdout).into_owned();
            assert!(tracked.lines().any(|l| l == "passwd"));
            assert!(!tracked.contains(".etcfs-hidden"));
        });
    }
}
