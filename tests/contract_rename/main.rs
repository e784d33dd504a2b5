//! Renames from one side of the mount to the other (contract S7 to S10, B1, B2, B4, B33, D44), on real mounts, with
//! both sides on one lower file system and on two.

#[path = "../harness/mod.rs"]
mod harness;

mod carried;
mod failing;
mod meanwhile;
mod names;
mod rights;
mod steps;
mod tools;

use std::fs;
use std::path::Path;
use std::time::Duration;

use harness::{Bases, Env, Etcfs, Lower, Opts, private};

const DEADLINE: Duration = Duration::from_secs(120);

/// What the two sides lie on: the local first.
#[derive(Debug, Clone, Copy)]
enum Sides {
    /// Both on one file system.
    Same(Lower),
    /// Each on its own.
    Apart(Lower, Lower),
}

const EVERYWHERE: [Sides; 4] = [
    Sides::Same(Lower::Tmpfs),
    Sides::Same(Lower::Disk),
    Sides::Apart(Lower::Tmpfs, Lower::Disk),
    Sides::Apart(Lower::Ext4, Lower::Tmpfs),
];

const APART: Sides = Sides::Apart(Lower::Tmpfs, Lower::Disk);

impl Sides {
    fn make(self, env: &Env) -> Bases {
        match self {
            Self::Same(lower) => Bases::new(env, lower),
            Self::Apart(local, global) => {
                let bases = Bases::new(env, local);
                if let Err(e) = global.mount(env, &bases.global()) {
                    panic!("{e}");
                }
                bases
            }
        }
    }
}

/// Runs `body` on a mount with these sides, on which the names `global` and `gdir` are global.
fn on(sides: Sides, body: impl FnOnce(&Etcfs) + Send + 'static) {
    private(DEADLINE, move |env| {
        eprintln!("--- {sides:?}");
        let bases = sides.make(env);
        fs::create_dir(bases.global().join("gdir")).expect("mkdir");
        fs::create_dir(bases.local().join("gdir")).expect("mkdir");
        let etcfs = Etcfs::serve(env, bases, opts());
        body(&etcfs);
        assert_eq!(leftovers(&etcfs.local()), Vec::<String>::new());
        assert_eq!(leftovers(&etcfs.global()), Vec::<String>::new());
    });
}

fn opts() -> Opts {
    Opts {
        config: vec!["add_global /global".into(), "add_global /gdir".into()],
        ..Opts::default()
    }
}

/// Temporary names below `dir`, which none may see and nothing may leave behind.
fn leftovers(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("list").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(".etcfs") {
            found.push(name);
        } else if entry.file_type().expect("type").is_dir() {
            found.extend(leftovers(&entry.path()));
        }
    }
    found
}
