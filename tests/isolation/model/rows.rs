//! Rows of steps that belong together: a file is taken over or exchanged beneath, and then comes who had it before.

use rustix::fs::{OFlags, RenameFlags};

use super::act::{Act, On};
use super::party::Who;
use super::places::{on_descriptor, shorten, wants_descriptor};
use super::steps::{LATEST, Step, Steps, Way};

impl Steps {
    /// A step of `who` by `way` on names below the tree, or with the descriptor kept latest.
    fn given(&mut self, who: Who, way: Way, act: Act) {
        let fd = wants_descriptor(&act).then_some(LATEST);
        let other = matches!(act, Act::Copy { .. }).then_some(0);
        self.waiting.push_back(Step {
            number: 0,
            who,
            way,
            base: None,
            inside: false,
            fd,
            other,
            act,
        });
    }

    fn beside(&mut self) -> Way {
        self.rng.pick(&[Way::Beneath, Way::Beneath, Way::Second])
    }

    /// A user keeps a descriptor of its own file, root takes the file over beneath, and the user goes on.
    pub fn taken_over(&mut self) {
        let (user, path) = (self.user(), self.path());
        let uid = if user == Who::Other { 1001 } else { 1000 };
        let flags = self
            .rng
            .pick(&[OFlags::RDONLY, OFlags::PATH, OFlags::RDWR, OFlags::WRONLY]);
        let way = self.beside();
        let on = || On::Path(path.clone());
        let first = Act::Chown {
            on: on(),
            uid: Some(uid),
            gid: Some(uid),
        };
        self.given(Who::Root, Way::Beneath, first);
        self.given(
            user,
            Way::Mount,
            Act::Open {
                on: on(),
                flags: flags.bits(),
                mode: 0,
                umask: 0,
            },
        );
        let gid = self.rng.pick(&[Some(0), Some(500), None]);
        self.given(
            Who::Root,
            way,
            Act::Chown {
                on: on(),
                uid: Some(0),
                gid,
            },
        );
        let mode = self.mode();
        self.given(Who::Root, way, Act::Chmod { on: on(), mode });
        for _ in 0..self.rng.below(3) + 1 {
            let on = self.rng.pick(&[0, 1]);
            let on = if on == 0 { On::Fd } else { On::Proc };
            let act = match self.rng.below(4) {
                0 => self.extended(),
                1 => self.data(),
                2 => Act::Link {
                    on: on.clone(),
                    to: self.path(),
                },
                _ => self.attributes(),
            };
            self.given(user, Way::Mount, on_descriptor(act, on));
        }
    }

    /// Who has capabilities uses them: root of a user namespace on its maker's objects, root on a set-id file.
    pub fn overruled(&mut self) {
        let path = format!("{}/{}", self.top(), self.rng.pick(&["b", "s", "d", "x"]));
        let on = || On::Path(path.clone());
        let mode = self.rng.pick(&[0o000, 0o555, 0o070, 0o6775]);
        self.given(
            Who::Root,
            Way::Beneath,
            Act::Chown {
                on: on(),
                uid: Some(1000),
                gid: Some(1000),
            },
        );
        self.given(Who::Root, Way::Beneath, Act::Chmod { on: on(), mode });
        let who = self.rng.pick(&[
            Who::Namespace,
            Who::Namespace,
            Who::RootWithoutDac,
            Who::Root,
        ]);
        let (umask, at) = (self.umask(), self.rng.below(100));
        let act = match self.rng.below(5) {
            0 => Act::Truncate { on: on(), len: at },
            1 => Act::Mkdir {
                path: format!("{path}/y"),
                mode: 0o2755,
                umask,
            },
            2 => self.extended(),
            _ => {
                let flags = self
                    .rng
                    .pick(&[OFlags::RDWR, OFlags::WRONLY | OFlags::TRUNC])
                    .bits();
                self.given(
                    who,
                    Way::Mount,
                    Act::Open {
                        on: on(),
                        flags,
                        mode: 0,
                        umask,
                    },
                );
                Act::Write {
                    at,
                    len: 10,
                    word: at,
                }
            }
        };
        self.given(who, Way::Mount, act);
    }

    /// Two names are exchanged beneath, and a party uses one of them.
    pub fn exchanged(&mut self) {
        let top = self.top();
        let (way, flags) = (self.beside(), RenameFlags::EXCHANGE.bits());
        let rng = &mut self.rng;
        let (from, to) = (rng.pick(&["a", "b", "c"]), rng.pick(&["s", "d", "x"]));
        let (from, to) = (format!("{top}/{from}"), format!("{top}/{to}"));
        let (look, user) = (On::Path(from.clone()), self.user());
        self.given(user, Way::Mount, Act::Stat { on: look });
        self.given(Who::Root, way, Act::Rename { from, to, flags });
        for _ in 0..2 {
            let mut step = self.step();
            step.who = user;
            self.waiting.push_back(step);
        }
    }

    /// A user keeps a directory, which is closed to it, and works in it.
    pub fn directory_closed(&mut self) {
        let (user, way) = (self.user(), self.beside());
        let path = match self.rng.one_in(3) {
            true => format!("{}/d", self.top()),
            false => self.top().to_owned(),
        };
        let on = || On::Path(path.clone());
        let flags = self.rng.pick(&[OFlags::PATH, OFlags::RDONLY]) | OFlags::DIRECTORY;
        self.given(
            user,
            Way::Mount,
            Act::Open {
                on: on(),
                flags: flags.bits(),
                mode: 0,
                umask: 0,
            },
        );
        let mode = self.rng.pick(&[0o700, 0o1777, 0o755, 0o711, 0o2770, 0o777]);
        self.given(Who::Root, way, Act::Chmod { on: on(), mode });
        if self.rng.one_in(2) {
            let uid = self.rng.pick(&[Some(0), Some(1000), Some(1001)]);
            self.given(
                Who::Root,
                way,
                Act::Chown {
                    on: on(),
                    uid,
                    gid: None,
                },
            );
        }
        for _ in 0..2 {
            let mut act = match self.rng.below(3) {
                0 => self.open(),
                1 => self.look(),
                _ => self.names(),
            };
            shorten(&mut act);
            let inside = self.rng.one_in(2);
            let fd = wants_descriptor(&act).then_some(0);
            let base = Some(LATEST);
            self.waiting.push_back(Step {
                number: 0,
                who: user,
                way: Way::Mount,
                base,
                inside,
                fd,
                other: None,
                act,
            });
        }
    }
}
