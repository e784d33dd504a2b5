//! Why a command line is refused, in the line that the user reads.

use std::ffi::OsString;
use std::fmt;

/// A refused command line. The text is one line, without the program's name, that names the option and the remedy; the exit
/// code is 1. [`CliError::NotRoot`]'s is what the C program prints, and goes to stderr without the program's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CliError {
    /// `allow_other` by somebody else than uid 0 (contract D6).
    NotRoot,
    /// No mountpoint, or an empty one.
    NoMountpoint,
    /// A third positional argument.
    TooMany(OsString),
    /// The mountpoint is `/dev/fd/N`.
    Premounted(OsString),
    /// `-o` at the end of the line.
    NoList,
    /// An unknown argument, as written.
    Argument(String),
    /// An unknown `-o` option, as written, and the known one that it most likely means.
    Unknown(OsString, Option<&'static str>),
    /// A known `-o` option that etcfs does not have, with the reason or the remedy.
    Refused(OsString, &'static str),
    /// `name=value` of an option that takes no value.
    TakesNoValue(OsString),
    /// An option without the value it needs: its name and what the value is.
    NeedsValue(&'static str, &'static str),
    /// An option with a value it cannot have, as written, and what it can be.
    BadValue(OsString, &'static str),
    /// `-s` and `threads=` with more than one.
    SingleAndThreads(u16),
}

impl CliError {
    /// What to do about it, for the one whose text does not say it: a second line.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        let remedy = "leave out allow_other, and the mount is for you alone; or run etcfs as root";
        matches!(self, Self::NotRoot).then_some(remedy)
    }

    pub(super) fn from_lexer(error: &lexopt::Error) -> Self {
        Self::Argument(match error {
            lexopt::Error::UnexpectedOption(option) => option.clone(),
            lexopt::Error::UnexpectedValue { option, .. } => format!("{option}=..."),
            other => other.to_string(),
        })
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRoot => f.write_str("error: not running as root."),
            Self::NoMountpoint => {
                f.write_str("no mountpoint given; usage: etcfs [-o OPTION,...] MOUNTPOINT (all of it: etcfs --help)")
            }
            Self::TooMany(arg) => {
                write!(f, "{arg:?}: unexpected after the mountpoint; give [SOURCE] MOUNTPOINT and nothing more")
            }
            Self::Premounted(path) => {
                write!(f, "{path:?}: cannot serve a mount made by somebody else; leave out drop_privileges")
            }
            Self::NoList => f.write_str("-o: needs a list of options, like -o allow_other"),
            Self::Argument(arg) => write!(f, "{}: unknown argument; etcfs --help lists all", arg.escape_debug()),
            Self::Unknown(item, likely) => {
                let written = item.to_string_lossy();
                match likely {
                    Some(name) => write!(f, "-o {written:?}: unknown option; did you mean {name}?"),
                    None => write!(f, "-o {written:?}: unknown option; etcfs --help lists all"),
                }
            }
            Self::Refused(item, why) => write!(f, "-o {:?}: {why}", item.to_string_lossy()),
            Self::TakesNoValue(item) => {
                write!(f, "-o {:?}: takes no value; leave out what follows =", item.to_string_lossy())
            }
            Self::NeedsValue(name, what) => write!(f, "-o {name}: needs a value; write {name}={what}"),
            Self::BadValue(item, what) => {
                write!(f, "-o {:?}: the value must be {what}", item.to_string_lossy())
            }
            Self::SingleAndThreads(n) => {
                write!(f, "-s and -o threads={n} contradict each other; leave out one of them")
            }
        }
    }
}

impl std::error::Error for CliError {}
