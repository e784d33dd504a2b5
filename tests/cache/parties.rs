//! Three parties play at random on one tree, and a model says what is so: clients of the mount, clients of another stratum's, and
//! somebody beneath. What the two mounts show of what was changed through them is exact at each step; what was changed beneath
//! is seen after the window.
//!
//! A failure prints the seed and the step; `RANDOM_SEED` runs one seed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::harness::{Bases, Etcfs, Lower, Rng, number, private};
use crate::{DEADLINE, WINDOW, opts};

/// Steps of one seed.
const STEPS: usize = 1500;

/// What may be in the way of one another: local names, two directories, and global ones.
const NAMES: [&str; 10] = [
    "a", "b", "x/a", "x/b", "y/a", "y/b", "glob", "gdir/a", "gdir/b", "x/glob",
];

/// What stands at a name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum There {
    Nothing,
    /// Text and permission bits.
    File(String, u32),
    Link(String),
    Other(String),
}

fn look(path: &Path) -> There {
    match fs::symlink_metadata(path) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => There::Nothing,
        Err(error) => There::Other(error.to_string()),
        Ok(found) if found.is_symlink() => match fs::read_link(path) {
            Ok(to) => There::Link(to.to_string_lossy().into_owned()),
            Err(error) => There::Other(error.to_string()),
        },
        Ok(found) => match fs::read_to_string(path) {
            Ok(text) => There::File(text, found.permissions().mode() & 0o777),
            Err(error) => There::Other(error.to_string()),
        },
    }
}

fn is_global(name: &str) -> bool {
    name == "glob" || name == "x/glob" || name.starts_with("gdir/")
}

struct World {
    here: Etcfs,
    there: Etcfs,
    model: BTreeMap<&'static str, There>,
}

impl World {
    /// Where a party works: through the mount, through the other stratum's (global names only), or beneath.
    fn at(&self, party: u64, name: &str) -> PathBuf {
        match party {
            0 => self.here.mnt().join(name),
            1 => self.there.mnt().join(name),
            _ if is_global(name) => self.here.global().join(name),
            _ => self.here.local().join(name),
        }
    }

    /// What one party does to one name, or two.
    fn act(&mut self, rng: &mut Rng, party: u64, step: usize) -> String {
        let mine: Vec<&'static str> = NAMES
            .into_iter()
            .filter(|name| party != 1 || is_global(name))
            .collect();
        let name = mine[rng.below(mine.len() as u64) as usize];
        let path = self.at(party, name);
        let said = format!("{step}");
        let now = self.model[name].clone();
        let what = rng.below(6);
        let after = match (what, &now) {
            (0 | 1, There::Nothing | There::File(..)) => {
                fs::write(&path, &said).expect("write");
                let mode = match now {
                    There::File(_, mode) => mode,
                    _ => 0o644,
                };
                There::File(said, mode)
            }
            (2, There::Nothing) => {
                symlink(&said, &path).expect("symlink");
                There::Link(said)
            }
            (3, There::File(text, _)) => {
                let mode = 0o600 + rng.below(0o200) as u32;
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
                There::File(text.clone(), mode)
            }
            (4, There::File(..) | There::Link(_)) => {
                fs::remove_file(&path).expect("unlink");
                There::Nothing
            }
            (_, There::File(..) | There::Link(_)) => {
                let to = mine[rng.below(mine.len() as u64) as usize];
                // Beneath, the sides are two directories of one file system.
                fs::rename(&path, self.at(party, to)).expect("rename");
                if to != name {
                    self.model.insert(to, now);
                    self.model.insert(name, There::Nothing);
                }
                return format!("{name} -> {to}");
            }
            _ => return "nothing".to_owned(),
        };
        self.model.insert(name, after);
        format!("{what} {name}")
    }

    /// The names that the mount, or the other stratum's, shows as they are not.
    fn wrong(&self, party: u64) -> Vec<String> {
        let names = NAMES
            .into_iter()
            .filter(|name| party == 0 || is_global(name));
        let mut wrong = Vec::new();
        for name in names {
            let (seen, so) = (look(&self.at(party, name)), &self.model[name]);
            if seen != *so {
                wrong.push(format!("{name}: {seen:?}, but it is {so:?}"));
            }
        }
        if party == 0 {
            for dir in ["x", "y"] {
                let list = fs::read_dir(self.here.mnt().join(dir)).expect("list");
                let mut seen: Vec<String> = list
                    .flatten()
                    .map(|entry| format!("{dir}/{}", entry.file_name().to_string_lossy()))
                    .collect();
                seen.sort();
                let within = |name: &&str| name.starts_with(&format!("{dir}/"));
                let there = |name: &&str| self.model[name] != There::Nothing;
                let mut so: Vec<&str> = NAMES.into_iter().filter(within).filter(there).collect();
                so.sort_unstable();
                if seen != so {
                    wrong.push(format!("{dir} lists {seen:?}, but there are {so:?}"));
                }
            }
        }
        wrong
    }
}

fn play(seed: u64) {
    private(DEADLINE, move |env| {
        let mut rng = Rng::new(seed);
        let bases = Bases::new(env, Lower::Tmpfs);
        let other = bases.second(env, "other");
        let start = |bases| {
            let mut all = opts(&[]);
            all.config = ["glob", "gdir", "x/glob"]
                .map(|name| format!("add_global /{name}"))
                .into();
            Etcfs::serve(env, bases, all)
        };
        let world_model = NAMES.map(|name| (name, There::Nothing)).into();
        let mut world = World {
            here: start(bases),
            there: start(other),
            model: world_model,
        };
        for dir in ["x", "gdir"] {
            fs::create_dir(world.here.global().join(dir)).expect("mkdir");
        }
        for dir in ["x", "y"] {
            fs::create_dir(world.here.local().join(dir)).expect("mkdir");
            fs::create_dir_all(world.there.local().join(dir)).expect("mkdir");
        }
        for step in 0..STEPS {
            let party = rng.below(3);
            let what = world.act(&mut rng, party, step);
            let wrong = || [world.wrong(0), world.wrong(1)].concat();
            let mut seen = wrong();
            let end = Instant::now() + WINDOW;
            // What was changed beneath on the local side is seen after the window. The global side has none.
            while party == 2 && !seen.is_empty() && Instant::now() < end {
                seen = wrong();
            }
            assert!(
                seen.is_empty(),
                "seed {seed}, step {step}, party {party}, {what}: {seen:#?}"
            );
        }
        assert!(crate::cache(&world.here, "kept") > 0);
    });
}

#[test]
fn the_mounts_show_what_the_model_says() {
    match number("RANDOM_SEED") {
        Some(seed) => play(seed),
        None => (1..=3).for_each(play),
    }
}
