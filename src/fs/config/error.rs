//! Why a command was refused.

use crate::fs::rules::PathProblem;
use rustix::io::Errno;
use std::fmt;

/// Bytes of the offending line that a message shows.
const SHOWN: usize = 200;

/// What is wrong with a command.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The first word is no command.
    UnknownCommand,
    /// The second word of `add_override` is no type.
    UnknownType,
    /// The path cannot be a rule's.
    Path(PathProblem),
    /// `add_override` without content.
    NoContent,
    /// A NUL or newline in the content.
    ContentBytes,
    /// A content beyond [`super::CONTENT_MAX`].
    LongContent,
    /// A line beyond [`LINE_MAX`](super::lines::LINE_MAX).
    LongLine,
    /// The handle was closed with a line that has no newline.
    Unfinished,
    /// The source of an inject could not be read, with the errno of the attempt (D31).
    Source(Errno),
    /// An inject came to [`super::Config::apply`] without the text of its source.
    SourceNotRead,
    /// The configuration would exceed [`super::TEXT_MAX`].
    Full,
    /// The texts that are injected would exceed what there is room for, in bytes: less where the process may have few addresses.
    NoRoom(usize),
}

/// A refused command. Its text is one line that names the offending one and the remedy; the daemon logs it, because the
/// writer sees only the errno.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError {
    line: Box<[u8]>,
    problem: Problem,
}

impl CommandError {
    /// The error for `line`, of which no more than a message shows is kept.
    pub(crate) fn new(line: &[u8], problem: Problem) -> CommandError {
        CommandError {
            line: line[..line.len().min(SHOWN + 1)].into(),
            problem,
        }
    }

    /// What is wrong.
    pub fn problem(&self) -> Problem {
        self.problem
    }

    /// The errno for write(2), positive. Anything wrong in the shape of a line is EINVAL (D31).
    pub(crate) fn errno(&self) -> i32 {
        match self.problem {
            Problem::LongContent
            | Problem::Path(PathProblem::LongComponent | PathProblem::Long) => Errno::NAMETOOLONG,
            Problem::Source(errno) => errno,
            Problem::Full | Problem::NoRoom(_) => Errno::NOSPC,
            Problem::UnknownCommand
            | Problem::UnknownType
            | Problem::Path(_)
            | Problem::NoContent
            | Problem::ContentBytes
            | Problem::LongLine
            | Problem::Unfinished
            | Problem::SourceNotRead => Errno::INVAL,
        }
        .raw_os_error()
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.line[..self.line.len().min(SHOWN)];
        let more = if self.line.len() > SHOWN { "..." } else { "" };
        write!(out, "line \"{}{more}\" refused: ", shown.escape_ascii())?;
        match self.problem {
            Problem::UnknownCommand => out.write_str(
                "unknown command; use add_global, rm_global, add_override or rm_override and one space",
            ),
            Problem::UnknownType => {
                out.write_str("unknown type of override; use symlink, directory or inject and one space")
            }
            Problem::Path(PathProblem::Empty) if self.line.starts_with(b"rm_global") => out.write_str(
                "the path is empty; it is the second field of a line \"global /path\", where that of an override is \
                 the third",
            ),
            Problem::Path(problem) => problem.fmt(out),
            Problem::NoContent => out.write_str(
                "the content is missing; write it after the path: a symlink's target, x for a directory, the file to \
                 inject",
            ),
            Problem::ContentBytes => {
                out.write_str("the content has a NUL byte or a newline; remove it")
            }
            Problem::LongContent => {
                out.write_str("the content is longer than 4,095 bytes; a path of that length cannot be used")
            }
            Problem::LongLine => {
                out.write_str("longer than any command can be; end each command with a newline")
            }
            Problem::Unfinished => {
                out.write_str("it had no newline when the file was closed; end each command with a newline")
            }
            Problem::Source(errno) => write!(
                out,
                "the file to inject cannot be read ({errno}); put it in place in this stratum, then repeat the command",
            ),
            Problem::SourceNotRead => {
                out.write_str("the file to inject was not read; repeat the command")
            }
            Problem::Full => {
                out.write_str("the configuration would exceed 4 MiB; remove rules first")
            }
            Problem::NoRoom(room) => write!(
                out,
                "the texts of all injections would exceed {} KiB; remove inject overrides, or shorten what they inject",
                room >> 10
            ),
        }
    }
}

impl std::error::Error for CommandError {}

#[cfg(test)]
mod tests {
    use super::{CommandError, Problem};
    use crate::fs::rules::PathProblem;
    use rustix::io::Errno;

    #[test]
    fn messages_name_the_line_and_a_remedy() {
        let error = CommandError::new(b"rm_global ", Problem::Path(PathProblem::Empty));
        assert_eq!(
            error.to_string(),
            "line \"rm_global \" refused: the path is empty; it is the second field of a line \
             \"global /path\", where that of an override is the third"
        );
        for problem in [
            Problem::UnknownCommand,
            Problem::UnknownType,
            Problem::Path(PathProblem::Blank),
            Problem::NoContent,
            Problem::ContentBytes,
            Problem::LongContent,
            Problem::LongLine,
            Problem::Unfinished,
            Problem::Source(Errno::NOENT),
            Problem::SourceNotRead,
            Problem::Full,
        ] {
            let text = CommandError::new(b"\x01\xff", problem).to_string();
            let (found, remedy) = text.split_once("; ").unwrap();
            assert!(found.contains(r#""\x01\xff""#), "{text}");
            assert!(!remedy.is_empty(), "{text}");
        }
    }

    #[test]
    fn d31_an_unreadable_source_has_its_own_errno() {
        let error = CommandError::new(b"add_override inject /a /b", Problem::Source(Errno::ACCESS));
        assert_eq!(error.errno(), Errno::ACCESS.raw_os_error());
    }

    #[test]
    fn a_long_line_is_shown_in_part() {
        let text = CommandError::new(&[b'a'; 1 << 20], Problem::LongLine).to_string();
        assert!(text.contains("aaa...\" refused"), "{text}");
        assert!(text.len() < 400, "{text}");
    }
}
