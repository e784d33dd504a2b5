//! The daemon's command line, in libfuse's syntax (contract D7): `etcfs [-dfs] [-o OPTION,...] [SOURCE] MOUNTPOINT`.
//!
//! `SOURCE` comes from fstab: mount.fuse3 runs `etcfs SOURCE MOUNTPOINT -o ...` for `SOURCE MOUNTPOINT fuse.etcfs`, and
//! `etcfs MOUNTPOINT -o ...` for `etcfs MOUNTPOINT fuse`. It appends `dev,suid` unless fstab says otherwise, which is nobody's
//! wish (contract D13): see [`asked_of_mount`].

mod error;
mod likely;
mod list;
mod mount8;
mod options;
mod table;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU16;
use std::path::PathBuf;

use lexopt::Arg;

pub use error::CliError;
pub use likely::likely;
pub use mount8::{Wanted, asked_of_mount};
pub use options::Options;
pub(crate) use options::{Cache, LogLevel};

/// The text of `--help`.
pub const HELP: &str = include_str!("cli/help.txt");

/// Where the directory with global files is found on Bedrock Linux; the mountpoint is appended (contract D8).
pub(crate) const BEDROCK_ROOT: &str = "/proc/1/root/bedrock/strata/bedrock";

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Mount and serve.
    Run(Box<Options>),
    /// Print [`HELP`] and leave with 0.
    Help,
    /// Print the version and leave with 0.
    Version,
}

impl Options {
    /// Reads a command line without the program's name. Of options that say the opposite of each other (`ro`, `rw`) the
    /// last one holds, as with mount(8).
    ///
    /// # Errors
    /// Everything that is unknown, ill-valued, contradictory or missing; the error's text is the line for the user.
    pub fn parse<I>(args: I) -> Result<Parsed, CliError>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        let mut options = Self::default();
        let mut positionals = Vec::new();
        let mut parser = lexopt::Parser::from_args(args);
        while let Some(arg) = parser.next().map_err(|e| CliError::from_lexer(&e))? {
            match arg {
                Arg::Short('h') | Arg::Long("help") => return Ok(Parsed::Help),
                Arg::Short('V') | Arg::Long("version") => return Ok(Parsed::Version),
                Arg::Short('d') | Arg::Long("debug") => options.set_debug(),
                Arg::Short('f') => options.foreground = true,
                Arg::Short('s') => options.single = true,
                Arg::Short('o') => {
                    let list = parser.value().map_err(|_| CliError::NoList)?;
                    options.take_list(&list, !positionals.is_empty())?;
                }
                Arg::Value(value) => positionals.push(value),
                other => return Err(CliError::from_lexer(&other.unexpected())),
            }
        }
        options.place(positionals)?;
        options.settle()?;
        Ok(Parsed::Run(Box::new(options)))
    }

    /// Switches passthrough on if `value`, the environment's `ETCFS_ENABLE_PASSTHROUGH`, is `1` or `yes` (contract U11).
    /// Every other value leaves it off; one that does not look like a refusal either is kept, to be told about.
    pub fn take_environment(&mut self, value: Option<&OsStr>) {
        let Some(value) = value else { return };
        if value == "1" || value == "yes" {
            self.passthrough = true;
        } else if !(value.is_empty() || value == "0" || value == "no") {
            self.odd_passthrough = Some(value.to_owned());
        }
    }

    /// As the option `survive_shutdown` if `value`, the environment's `ETCFS_SURVIVE_SHUTDOWN`, is `1` or `yes`: the command
    /// line of Bedrock is fixed (contract D1).
    pub fn take_survival(&mut self, value: Option<&OsStr>) {
        self.survive_shutdown |= value.is_some_and(|value| value == "1" || value == "yes");
    }

    /// As the option `keeper=` with `value`, the environment's `ETCFS_KEEPER`, unless an option has said it: the command line
    /// of Bedrock is fixed (contract D1). A value that is neither `yes` nor `no` is kept, to be told about.
    pub fn take_keeper(&mut self, value: Option<&OsStr>) {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return;
        };
        match (self.keeper, table::yes_or_no(value)) {
            (Some(_), _) => {}
            (None, Ok(keeper)) => self.keeper = Some(keeper),
            (None, Err(_)) => self.odd_keeper = Some(value.to_owned()),
        }
    }

    /// As the option `cache=` with `value`, the environment's `ETCFS_CACHE`, unless an option has said it: the command line of
    /// Bedrock is fixed (contract D1). A value that is none of the modes is kept, to be told about.
    pub fn take_cache(&mut self, value: Option<&OsStr>) {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return;
        };
        match (self.said_cache, table::cache(value)) {
            (Some(_), _) => {}
            (None, Ok(cache)) => self.cache = cache,
            (None, Err(_)) => self.odd_cache = Some(value.to_owned()),
        }
    }

    /// Whether there is to be a keeper: not in the foreground, where somebody watches, unless that was said.
    pub(crate) fn is_kept(&self) -> bool {
        self.keeper.unwrap_or(!self.foreground)
    }

    /// Takes the mode of the system call filter from `value`, the environment's `ETCFS_SECCOMP`, unless an option has said it:
    /// the command line of Bedrock is fixed (contract D1). A value that is no mode is kept, to be told about.
    pub fn take_seccomp(&mut self, value: Option<&OsStr>) {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return;
        };
        match (self.seccomp, table::seccomp(value)) {
            (Some(_), _) => {}
            (None, Ok(mode)) => self.seccomp = Some(mode),
            (None, Err(_)) => self.odd_seccomp = Some(value.to_owned()),
        }
    }

    /// Refuses `allow_other` for anybody but uid 0 (contract D6), and takes `dev` and `suid` from nobody else: as with
    /// fusermount3 they are left out.
    ///
    /// # Errors
    /// [`CliError::NotRoot`].
    pub fn check_user(&mut self, euid: u32) -> Result<(), CliError> {
        if euid == 0 {
            return Ok(());
        }
        self.mount.dev = false;
        self.mount.suid = false;
        if self.mount.allow_other {
            return Err(CliError::NotRoot);
        }
        Ok(())
    }

    /// Takes `dev` and `suid`, which mount.fuse3 has appended, if `asked` says that somebody wants them.
    pub fn take_appended(&mut self, asked: impl FnOnce(&std::path::Path) -> Wanted) {
        let Wanted { dev, suid } = self.appended;
        if dev || suid {
            let asked = asked(&self.mount.mountpoint);
            self.mount.dev |= dev && asked.dev;
            self.mount.suid |= suid && asked.suid;
        }
    }

    /// The directory with the global files: `global=`, or the mountpoint within [`BEDROCK_ROOT`] (contract D8).
    /// `mountpoint` is absolute.
    #[must_use]
    pub(crate) fn global_dir(&self, mountpoint: &std::path::Path) -> PathBuf {
        self.global.clone().unwrap_or_else(|| {
            let mut dir = OsString::from(BEDROCK_ROOT);
            dir.push(mountpoint);
            PathBuf::from(dir)
        })
    }

    fn set_debug(&mut self) {
        self.foreground = true;
        self.log = LogLevel::Debug;
    }

    /// One `-o` list, which may be mount.fuse3's if it comes after the mountpoint.
    fn take_list(&mut self, list: &OsStr, after: bool) -> Result<(), CliError> {
        let mut items = list::split(list);
        if after {
            if let Some(appended) = mount8::without_appended(&mut items) {
                self.appended = appended;
            }
        }
        for item in items.iter().filter(|item| !item.is_empty()) {
            table::apply(self, item)?;
        }
        Ok(())
    }

    /// `MOUNTPOINT` or `SOURCE MOUNTPOINT`.
    fn place(&mut self, positionals: Vec<OsString>) -> Result<(), CliError> {
        let mut positionals = positionals.into_iter();
        let (first, second) = (positionals.next(), positionals.next());
        if let Some(third) = positionals.next() {
            return Err(CliError::TooMany(third));
        }
        let mountpoint = match (first, second) {
            (Some(source), Some(mountpoint)) => {
                // `etcfs#` in fstab leaves an empty one.
                if !source.is_empty() {
                    self.mount.source = source;
                }
                mountpoint
            }
            (Some(mountpoint), None) => mountpoint,
            (None, _) => return Err(CliError::NoMountpoint),
        };
        if mountpoint.is_empty() {
            return Err(CliError::NoMountpoint);
        }
        // mount.fuse3 mounts by itself and passes the open device this way if `drop_privileges` is among the options.
        // The directory beneath could no longer be taken then.
        if mountpoint.as_encoded_bytes().starts_with(b"/dev/fd/") {
            return Err(CliError::Premounted(mountpoint));
        }
        if let Some(fsname) = self.fsname.take() {
            self.mount.source = fsname;
        }
        self.mount.mountpoint = PathBuf::from(mountpoint);
        Ok(())
    }

    /// What can be judged only when everything was read.
    fn settle(&mut self) -> Result<(), CliError> {
        match (self.single, self.threads) {
            (true, None) => self.threads = NonZeroU16::new(1),
            (true, Some(n)) if n.get() > 1 => return Err(CliError::SingleAndThreads(n.get())),
            _ => {}
        }
        Ok(())
    }
}
