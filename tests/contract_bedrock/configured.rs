//! What the configuration means, seen from the strata: D33, D39 to D44.

use super::minibedrock::STRATA;
use super::world;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

#[test]
fn d33_an_injects_source_is_read_in_the_stratum() {
    world(|world| {
        for stratum in ["alpha", "beta"] {
            fs::write(
                world.stratum(stratum).join("run/source"),
                format!("# of {stratum}\n"),
            )
            .expect("write");
            fs::write(world.etc(stratum, "injected"), "first\n").expect("write");
            world.configure(stratum, &["add_override inject /injected /run/source"]);
        }
        for stratum in ["alpha", "beta"] {
            assert_eq!(
                fs::read_to_string(world.etc(stratum, "injected")).expect("read"),
                format!("first\n# of {stratum}\n")
            );
        }
    });
}

#[test]
fn d39_what_is_below_a_global_directory_is_global() {
    world(|world| {
        world
            .strat("alpha", "mkdir -p /etc/resolvconf/run/interface; echo ns > /etc/resolvconf/run/interface/eth0")
            .expect("as resolvconf does");
        assert_eq!(
            world.strat("beta", "ls /etc/resolvconf/run/interface; cat /etc/resolvconf/run/interface/eth0"),
            // beta has no resolvconf directory of its own, so the path is not there (D40).
            Err("exit status: 1: ls: cannot access '/etc/resolvconf/run/interface': No such file or directory\n\
                 cat: /etc/resolvconf/run/interface/eth0: No such file or directory\n".to_owned())
        );
        world.strat("beta", "mkdir /etc/resolvconf").expect("mkdir");
        assert_eq!(
            world.strat(
                "beta",
                "ls /etc/resolvconf/run/interface; cat /etc/resolvconf/run/interface/eth0"
            ),
            Ok("eth0\nns\n".to_owned())
        );
        assert!(
            world
                .etc("bedrock", "resolvconf/run/interface/eth0")
                .exists()
        );
        assert_eq!(
            world.strat("beta", "ls -d /etc/resolvconf/*"),
            Ok("/etc/resolvconf/run\n".to_owned())
        );
    });
}

#[test]
fn d40_a_global_file_gets_its_missing_global_directory() {
    world(|world| {
        let parent = world.etc("bedrock", "default");
        fs::remove_dir_all(&parent).expect("remove");
        fs::create_dir_all(world.etc("alpha", "default")).expect("mkdir");
        fs::write(world.etc("alpha", "default/grub"), "GRUB\n").expect("write");
        let made = fs::metadata(&parent).expect("stat");
        assert_eq!(
            (made.uid(), made.gid(), made.mode() & 0o7777),
            (0, 0, 0o755)
        );
        assert_eq!(
            fs::read_to_string(world.etc("bedrock", "default/grub")).expect("read"),
            "GRUB\n"
        );
        fs::write(world.etc("alpha", "default/local"), "x").expect("write");
        assert!(!parent.join("local").exists());
    });
}

#[test]
fn d41_d42_overrides_hold_in_every_stratum() {
    world(|world| {
        for stratum in STRATA {
            let etc = |name: &str| world.etc(stratum, name);
            assert_eq!(
                fs::read_link(etc("localtime")).expect("readlink"),
                Path::new("/usr/share/zoneinfo/UTC")
            );
            assert_eq!(
                fs::read_link(etc("mtab")).expect("readlink"),
                Path::new("../proc/self/mounts")
            );
            let zsh = fs::metadata(etc("zsh")).expect("stat");
            assert!(zsh.is_dir());
            assert_eq!((zsh.uid(), zsh.gid(), zsh.mode() & 0o7777), (0, 0, 0o755));
            let profile = fs::read_to_string(etc("profile")).expect("read");
            assert!(
                profile.ends_with("# bedrock's profile\n"),
                "{stratum}: {profile}"
            );
            assert_eq!(
                profile.matches("# bedrock's profile").count(),
                1,
                "{stratum}"
            );
        }
    });
}

#[test]
fn d41_injection_makes_no_file_and_leaves_empty_ones_alone() {
    world(|world| {
        world.configure(
            "alpha",
            &[
                "add_override inject /absent /bedrock/share/profile",
                "add_override inject /empty /bedrock/share/profile",
            ],
        );
        fs::write(world.etc("alpha", "empty"), "").expect("write");
        assert!(!world.etc("alpha", "absent").exists());
        assert_eq!(fs::read(world.etc("alpha", "empty")).expect("read"), b"");
        let listed = world.strat("alpha", "ls /etc").expect("ls");
        assert!(!listed.lines().any(|name| name == "absent"));
    });
}

#[test]
fn b6_b8_a_global_file_with_an_injection_has_it_once_and_keeps_its_owner() {
    world(|world| {
        let sudoers = world.etc("alpha", "sudoers");
        fs::write(&sudoers, "root ALL=(ALL:ALL) ALL").expect("write");
        fs::set_permissions(&sudoers, fs::Permissions::from_mode(0o440)).expect("chmod");
        for stratum in STRATA {
            world.configure(
                stratum,
                &["add_override inject /sudoers /bedrock/share/profile"],
            );
        }
        let expected = "root ALL=(ALL:ALL) ALL\n# bedrock's profile\n";
        for stratum in STRATA {
            // A user's look must not leave its group on what is made.
            world
                .strat(stratum, "setpriv --reuid 1000 --regid 1000 --clear-groups stat /etc/sudoers > /dev/null")
                .expect("stat");
            assert_eq!(
                fs::read_to_string(world.etc(stratum, "sudoers")).expect("read"),
                expected,
                "{stratum}"
            );
        }
        let stat = fs::metadata(&sudoers).expect("stat");
        assert_eq!(
            (stat.uid(), stat.gid(), stat.mode() & 0o7777),
            (0, 0, 0o440)
        );
        // The copy in force is edited, wherever it is.
        fs::write(world.root().join("bedrock/share/profile"), "# newer\n").expect("write");
        for stratum in STRATA {
            world.configure(
                stratum,
                &["add_override inject /sudoers /bedrock/share/profile"],
            );
        }
        for stratum in STRATA {
            assert_eq!(
                fs::read_to_string(world.etc(stratum, "sudoers")).expect("read"),
                "root ALL=(ALL:ALL) ALL\n# newer\n",
                "{stratum}"
            );
        }
        for stratum in STRATA {
            world.configure(stratum, &["rm_override /sudoers"]);
        }
        assert_eq!(
            fs::read_to_string(&sudoers).expect("read"),
            "root ALL=(ALL:ALL) ALL\n"
        );
    });
}

#[test]
fn d44_a_stratum_starts_the_way_bedrock_prepares_it() {
    world(|world| {
        for stratum in ["alpha", "beta"] {
            world
                .strat(
                    stratum,
                    "rm -f /etc/resolv.conf; ln -s ../run/resolv.conf /etc/resolv.conf
                     rm -f /etc/mtab; ln -s ../proc/self/mounts /etc/mtab
                     mkdir -p /etc/systemd/system /etc/zsh
                     cat /etc/login.defs | sort > /etc/login.defs-; mv /etc/login.defs- /etc/login.defs
                     (cat /etc/shells; echo /bin/new) | sort -u > /etc/shells-; mv /etc/shells- /etc/shells",
                )
                .unwrap_or_else(|e| panic!("{stratum}: {e}"));
            assert_eq!(
                fs::read_link(world.etc("bedrock", "resolv.conf")).expect("readlink"),
                Path::new("../run/resolv.conf")
            );
            assert!(!world.etc(stratum, "login.defs-").exists());
        }
    });
}
