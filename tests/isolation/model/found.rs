//! What the random steps have found, in as few steps as show it: faults, and the differences that are known.

use rustix::fs::{IFlags, OFlags, RenameFlags};

use super::act::{Act, On};
use super::case;
use super::known::{KNOWN, find};
use super::party::Who;
use super::steps::{CAPABILITY, Step, Way};
use super::world::{Case, World};
use crate::DEADLINE;
use crate::harness::{Lower, private};

/// A row of steps under way.
struct Row {
    world: World,
    number: u32,
}

impl Row {
    /// Does one step on both sides and says what both have answered; what they answer differently is a failure, unless
    /// `mount` says what the mount answers.
    fn step(&mut self, who: Who, act: Act, mount: Option<&str>) -> String {
        self.number += 1;
        let step = Step {
            number: self.number,
            who,
            way: Way::Mount,
            base: None,
            inside: false,
            fd: None,
            other: None,
            act,
        };
        let outcome = self.world.step(&step).expect("its descriptor is kept");
        let wanted = mount.unwrap_or(&outcome.native);
        assert_eq!(
            outcome.mount, wanted,
            "{step:?}, natively {}",
            outcome.native
        );
        outcome.native
    }
}

/// Runs `steps` in new trees, and compares these at the end.
fn agree(case: Case, steps: fn(&mut Row)) {
    private(DEADLINE, move |env| {
        let world = World::new(env, case);
        let mut row = Row { world, number: 0 };
        steps(&mut row);
        assert_eq!(row.world.compare(true), "");
    });
}

/// Fault: nothing was believed of who is in another user namespace, its groups neither, and set-group-id went.
#[test]
fn groups_count_in_every_user_namespace() {
    agree(case(Lower::Tmpfs, false, false), |row| {
        // uid 1000's file of a group that it is in.
        let on = || On::Path("roots/s".into());
        let before = row.step(Who::Root, Act::Stat { on: on() }, None);
        row.step(
            Who::Namespace,
            Act::Chmod {
                on: on(),
                mode: 0o6777,
            },
            None,
        );
        let after = row.step(Who::Root, Act::Stat { on: on() }, None);
        assert_ne!(before, after);
    });
}

/// Fault: tmpfs takes set-group-id away with an ACL, even with none, and the caller's groups were not looked at.
#[test]
fn an_acl_that_is_not_there_is_removed_from_a_members_set_group_id_directory() {
    for lower in [Lower::Tmpfs, Lower::Ext4] {
        agree(case(lower, false, false), |row| {
            let on = || On::Path("acl".into());
            row.step(
                Who::Root,
                Act::Chmod {
                    on: on(),
                    mode: 0o2770,
                },
                None,
            );
            let name = "system.posix_acl_access".to_owned();
            row.step(Who::User, Act::RemoveAttribute { on: on(), name }, None);
            let seen = row.step(Who::User, Act::Stat { on: on() }, None);
            assert!(seen.starts_with(&format!("({},", 0o42770)), "{seen}");
        });
    }
}

/// Fault: who may remove a file's capabilities by those that it has in a user namespace only was told that it had.
#[test]
fn capabilities_that_stay_are_not_said_to_be_gone() {
    agree(case(Lower::Tmpfs, false, false), |row| {
        let name = || "security.capability".to_owned();
        let on = || On::Path("mine/b".into());
        let none = Act::RemoveAttribute {
            on: on(),
            name: name(),
        };
        row.step(Who::Namespace, none.clone(), Some("errno 1"));
        let set = Act::SetAttribute {
            on: on(),
            name: name(),
            value: CAPABILITY.to_vec(),
            flags: 0,
        };
        assert_eq!(row.step(Who::Root, set, None), "done");
        row.step(Who::Namespace, none.clone(), Some("errno 1"));
        assert_eq!(row.step(Who::Root, none, Some("done")), "errno 61");
    });
}

/// Fault: every root saw them.
#[test]
fn trusted_attributes_are_listed_for_who_may_administer() {
    agree(case(Lower::Tmpfs, false, false), |row| {
        let name = "trusted.three".to_owned();
        let set = Act::SetAttribute {
            on: on("pub/a"),
            name,
            value: vec![1],
            flags: 0,
        };
        row.step(Who::Root, set, None);
        let list = || Act::ListAttributes { on: on("pub/a") };
        assert_eq!(row.step(Who::Root, list(), None), "listed trusted.three");
        assert_eq!(row.step(Who::RootWithoutOwner, list(), None), "listed ");
        assert_eq!(row.step(Who::User, list(), None), "listed ");
    });
}

/// Fault: an open for writing said EISDIR, which is not the file's errno.
#[test]
fn a_file_whose_name_a_directory_has_is_stale_and_no_directory() {
    private(DEADLINE, |env| {
        let mut world = World::new(env, case(Lower::Tmpfs, false, false));
        let first = by(Who::Root, Way::Mount, open("pub/b", OFlags::PATH));
        let swap = by(
            Who::Root,
            Way::Beneath,
            rename("pub/b", "pub/d", RenameFlags::EXCHANGE),
        );
        let act = Act::Open {
            on: On::Proc,
            flags: OFlags::WRONLY.bits(),
            mode: 0,
            umask: 0,
        };
        let write = Step {
            fd: Some(0),
            ..by(Who::Root, Way::Mount, act)
        };
        let last = [first, swap, write].map(|step| world.step(&step).expect("kept").mount);
        assert_eq!(last[2], "errno 116");
    });
}

fn by(who: Who, way: Way, act: Act) -> Step {
    Step {
        number: 0,
        who,
        way,
        base: None,
        inside: false,
        fd: None,
        other: None,
        act,
    }
}

fn on(path: &str) -> On {
    On::Path(path.into())
}

fn open(path: &str, flags: OFlags) -> Act {
    let flags = flags.bits();
    Act::Open {
        on: on(path),
        flags,
        mode: 0o2770,
        umask: 0,
    }
}

fn rename(from: &str, to: &str, flags: RenameFlags) -> Act {
    let (from, to) = (from.into(), to.into());
    Act::Rename {
        from,
        to,
        flags: flags.bits(),
    }
}

/// Steps whose last one shows a known difference; descriptors are those that the step before opened.
fn shown() -> Vec<(&'static str, Vec<Step>)> {
    let swap = RenameFlags::EXCHANGE;
    let beneath = |act| by(Who::Root, Way::Beneath, act);
    let with = |fd: u32, who, act| Step {
        fd: Some(fd),
        ..by(who, Way::Mount, act)
    };
    let chown = |path, uid| Act::Chown {
        on: on(path),
        uid: Some(uid),
        gid: None,
    };
    let chmod = |path, mode| Act::Chmod { on: on(path), mode };
    let user = |act| by(Who::User, Way::Mount, act);
    vec![
        (
            "a descriptor goes by attributes",
            vec![
                by(Who::Root, Way::Mount, open("roots/a", OFlags::RDONLY)),
                beneath(chown("roots/a", 1000)),
                with(
                    0,
                    Who::User,
                    Act::Chmod {
                        on: On::Fd,
                        mode: 0o600,
                    },
                ),
            ],
        ),
        (
            "root of a user namespace",
            vec![
                beneath(chmod("mine/d", 0o555)),
                by(
                    Who::Namespace,
                    Way::Mount,
                    Act::Mkdir {
                        path: "mine/d/x".into(),
                        mode: 0o755,
                        umask: 0,
                    },
                ),
            ],
        ),
        (
            "a descriptor that opens nothing",
            vec![
                user(open("mine/b", OFlags::PATH)),
                beneath(rename("mine/b", "mine/d", swap)),
                with(
                    0,
                    Who::User,
                    Act::Chmod {
                        on: On::Proc,
                        mode: 0o600,
                    },
                ),
            ],
        ),
        (
            "another fault is found",
            vec![
                by(
                    Who::Root,
                    Way::Mount,
                    Act::Flags {
                        on: on("team"),
                        flags: IFlags::APPEND.bits(),
                    },
                ),
                user(Act::Remove {
                    path: "team/d".into(),
                    dir: false,
                }),
            ],
        ),
        (
            "a rename that is the first",
            vec![
                user(Act::Stat { on: on("mine/d") }),
                beneath(rename("pub/b", "mine/d", swap)),
                by(
                    Who::Root,
                    Way::Mount,
                    rename("pub/b", "team/x", RenameFlags::empty()),
                ),
            ],
        ),
        (
            "a directory removed beneath",
            vec![
                by(Who::Other, Way::Mount, open("mine/d", OFlags::DIRECTORY)),
                beneath(Act::Remove {
                    path: "mine/d".into(),
                    dir: true,
                }),
                Step {
                    base: Some(0),
                    ..by(Who::Other, Way::Mount, open("y", OFlags::CREATE))
                },
            ],
        ),
        (
            "what is made in a kept directory",
            vec![
                user(open("team", OFlags::DIRECTORY)),
                beneath(chmod("team", 0o777)),
                Step {
                    base: Some(0),
                    ..by(Who::Other, Way::Mount, open("x", OFlags::CREATE))
                },
            ],
        ),
        (
            "a passed-through write",
            vec![
                by(Who::Root, Way::Mount, open("mine/s", OFlags::WRONLY)),
                with(
                    0,
                    Who::Root,
                    Act::Write {
                        at: 0,
                        len: 8,
                        word: 0,
                    },
                ),
            ],
        ),
    ]
}

/// What has gone away must be taken off the list, or hides the next fault of the kind.
#[test]
fn every_known_difference_is_still_there() {
    private(DEADLINE, |env| {
        let mut world = World::new(env, case(Lower::Ext4, true, false));
        let shown = shown();
        assert_eq!(shown.len(), KNOWN.len());
        for (what, steps) in shown {
            // Some are there for a tick of the clock only.
            let seen = (0..50).any(|_| {
                world.reset();
                let mut last = None;
                for step in &steps {
                    let outcome = world.step(step).expect("its descriptor is kept");
                    last = find(&mut world, step, (&outcome.mount, &outcome.native));
                }
                last.is_some_and(|index| KNOWN[index].what.starts_with(what))
            });
            assert!(seen, "{what}: is it true still?");
        }
    });
}
