//! One line of the configuration file's write side.

use super::error::{CommandError, Problem};
use crate::fs::rules::{OverrideKind, PathProblem, RulePath};

/// Longest content of an override in bytes: `PATH_MAX` of Linux less the terminating NUL, the longest symlink target
/// and the longest path of an inject's source.
pub const CONTENT_MAX: usize = 4095;

/// The largest text that an inject override may add, in bytes.
pub const INJECT_MAX: u64 = 1 << 20;

/// A parsed command (D27).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `add_global P`: the name lives in the global directory.
    AddGlobal(RulePath),
    /// `rm_global P`: no longer.
    RmGlobal(RulePath),
    /// `add_override TYPE P C`.
    AddOverride {
        /// What to enforce.
        kind: OverrideKind,
        /// Where.
        path: RulePath,
        /// The rest of the line, byte for byte. For an inject it is the path of the source, which whoever applies the
        /// command reads first, relative to the daemon's root (D33).
        content: Box<[u8]>,
    },
    /// `rm_override P`, whatever its type.
    RmOverride(RulePath),
}

impl Command {
    /// The command as a line without newline, the path with its slash.
    pub(crate) fn line(&self) -> Vec<u8> {
        match self {
            Command::AddGlobal(path) => [b"add_global /", path.as_bytes()].concat(),
            Command::RmGlobal(path) => [b"rm_global /", path.as_bytes()].concat(),
            Command::AddOverride {
                kind,
                path,
                content,
            } => [
                b"add_override ",
                kind.word().as_bytes(),
                b" /",
                path.as_bytes(),
                b" ",
                content,
            ]
            .concat(),
            Command::RmOverride(path) => [b"rm_override /", path.as_bytes()].concat(),
        }
    }

    /// The path of the override that the command adds, replaces or removes.
    pub(crate) fn override_path(&self) -> Option<&RulePath> {
        match self {
            Command::AddOverride { path, .. } | Command::RmOverride(path) => Some(path),
            Command::AddGlobal(_) | Command::RmGlobal(_) => None,
        }
    }

    /// The path of the file whose bytes [`super::Config::apply`] needs for this command.
    pub fn source(&self) -> Option<&[u8]> {
        match self {
            Command::AddOverride {
                kind: OverrideKind::Inject,
                content,
                ..
            } => Some(content),
            _ => None,
        }
    }
}

/// Parses one line, given without its newline.
///
/// # Errors
///
/// Every line that is not exactly a command of [`Command`]'s grammar, always with the same error for the same line
/// (D31). An empty path, which Bedrock's own writer sends for each global it removes, is one of them (D29).
pub fn parse_line(line: &[u8]) -> Result<Command, CommandError> {
    parse(line).map_err(|problem| CommandError::new(line, problem))
}

fn parse(line: &[u8]) -> Result<Command, Problem> {
    let (word, rest) = cut(line);
    match word {
        b"add_global" => Ok(Command::AddGlobal(path(rest)?)),
        b"rm_global" => Ok(Command::RmGlobal(path(rest)?)),
        b"rm_override" => Ok(Command::RmOverride(path(rest)?)),
        b"add_override" => {
            let (kind, rest) = cut(rest);
            let kind = match kind {
                b"symlink" => OverrideKind::Symlink,
                b"directory" => OverrideKind::Directory,
                b"inject" => OverrideKind::Inject,
                _ => return Err(Problem::UnknownType),
            };
            let (subject, content) = cut(rest);
            Ok(Command::AddOverride {
                kind,
                path: path(subject)?,
                content: self::content(content)?.into(),
            })
        }
        _ => Err(Problem::UnknownCommand),
    }
}

/// What is before the first space, and what is behind it; both empty where there is nothing.
fn cut(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == b' ') {
        Some(space) => (&text[..space], &text[space + 1..]),
        None => (text, &[]),
    }
}

/// The path of a command, which begins with a slash, as the C program wants it.
fn path(text: &[u8]) -> Result<RulePath, Problem> {
    let path = RulePath::parse(text).map_err(Problem::Path)?;
    match text.starts_with(b"/") {
        true => Ok(path),
        false => Err(Problem::Path(PathProblem::NoSlash)),
    }
}

fn content(text: &[u8]) -> Result<&[u8], Problem> {
    if text.is_empty() {
        Err(Problem::NoContent)
    } else if text.iter().any(|byte| matches!(byte, 0 | b'\n')) {
        Err(Problem::ContentBytes)
    } else if text.len() > CONTENT_MAX {
        Err(Problem::LongContent)
    } else {
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Command, parse_line};
    use crate::fs::config::Problem;
    use crate::fs::rules::{OverrideKind, PathProblem, RulePath};
    use proptest::prelude::*;
    use rustix::io::Errno;

    fn path(text: &[u8]) -> RulePath {
        RulePath::parse(text).unwrap()
    }

    #[test]
    fn d27_each_command_is_parsed() {
        let cases = [
            (
                &b"add_global /default/grub"[..],
                Command::AddGlobal(path(b"default/grub")),
            ),
            (b"add_global /passwd", Command::AddGlobal(path(b"passwd"))),
            (b"rm_global /passwd", Command::RmGlobal(path(b"passwd"))),
            (
                b"rm_override /localtime",
                Command::RmOverride(path(b"localtime")),
            ),
            (
                b"add_override directory /zsh x",
                Command::AddOverride {
                    kind: OverrideKind::Directory,
                    path: path(b"zsh"),
                    content: (*b"x").into(),
                },
            ),
            (
                b"add_override symlink /a  two spaces, and a trailing one ",
                Command::AddOverride {
                    kind: OverrideKind::Symlink,
                    path: path(b"a"),
                    content: (*b" two spaces, and a trailing one ").into(),
                },
            ),
            (
                b"add_override inject /profile /bedrock/share/resources/etc/profile",
                Command::AddOverride {
                    kind: OverrideKind::Inject,
                    path: path(b"profile"),
                    content: (*b"/bedrock/share/resources/etc/profile").into(),
                },
            ),
        ];
        for (line, command) in cases {
            let parsed = parse_line(line).unwrap();
            assert_eq!(parsed, command);
            assert_eq!(parse_line(&parsed.line()).unwrap(), command);
            let inject = line.starts_with(b"add_override inject");
            assert_eq!(parsed.source().is_some(), inject);
        }
    }

    #[test]
    fn d29_d31_everything_else_is_refused_with_its_errno() {
        let long = [&b"add_override symlink /a "[..], &[b'c'; 4096]].concat();
        let name = [&b"add_global /"[..], &[b'c'; 256]].concat();
        let cases: &[(&[u8], Problem, Errno)] = &[
            (b"", Problem::UnknownCommand, Errno::INVAL),
            (b" ", Problem::UnknownCommand, Errno::INVAL),
            (b"global /passwd", Problem::UnknownCommand, Errno::INVAL),
            (
                b"add_globals /passwd",
                Problem::UnknownCommand,
                Errno::INVAL,
            ),
            (
                b" add_global /passwd",
                Problem::UnknownCommand,
                Errno::INVAL,
            ),
            (
                b"add_global\t/passwd",
                Problem::UnknownCommand,
                Errno::INVAL,
            ),
            (
                b"add_global",
                Problem::Path(PathProblem::Empty),
                Errno::INVAL,
            ),
            (
                b"rm_global ",
                Problem::Path(PathProblem::Empty),
                Errno::INVAL,
            ),
            (
                b"rm_global /",
                Problem::Path(PathProblem::Empty),
                Errno::INVAL,
            ),
            (
                b"rm_override ",
                Problem::Path(PathProblem::Empty),
                Errno::INVAL,
            ),
            (
                b"add_global  /passwd",
                Problem::Path(PathProblem::Blank),
                Errno::INVAL,
            ),
            (
                b"add_global /passwd ",
                Problem::Path(PathProblem::Blank),
                Errno::INVAL,
            ),
            (
                b"add_global /a\0",
                Problem::Path(PathProblem::Nul),
                Errno::INVAL,
            ),
            (b"add_override", Problem::UnknownType, Errno::INVAL),
            (
                b"add_override hardlink /a b",
                Problem::UnknownType,
                Errno::INVAL,
            ),
            (
                b"add_override symlink",
                Problem::Path(PathProblem::Empty),
                Errno::INVAL,
            ),
            (
                b"add_override  symlink /a b",
                Problem::UnknownType,
                Errno::INVAL,
            ),
            (
                b"add_override symlink  /a b",
                Problem::Path(PathProblem::Empty),
                Errno::INVAL,
            ),
            (b"add_override symlink /a", Problem::NoContent, Errno::INVAL),
            (
                b"add_override directory /a ",
                Problem::NoContent,
                Errno::INVAL,
            ),
            (
                b"add_override symlink /a b\0c",
                Problem::ContentBytes,
                Errno::INVAL,
            ),
            (
                b"add_override symlink /a b\nc",
                Problem::ContentBytes,
                Errno::INVAL,
            ),
            (
                b"rm_override symlink /a",
                Problem::Path(PathProblem::Blank),
                Errno::INVAL,
            ),
            (&long, Problem::LongContent, Errno::NAMETOOLONG),
            (
                &name,
                Problem::Path(PathProblem::LongComponent),
                Errno::NAMETOOLONG,
            ),
        ];
        for (line, problem, errno) in cases {
            let error = parse_line(line).unwrap_err();
            assert_eq!(error.problem(), *problem, "{error}");
            assert_eq!(error.errno(), errno.raw_os_error(), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_command_that_prints_the_same_or_an_error_in_one_line(
            word in proptest::sample::select(vec![
                "", "add_global ", "rm_global ", "rm_override ", "add_override symlink ", "add_override inject /a ",
            ]),
            rest in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let line = [word.as_bytes(), &rest].concat();
            match parse_line(&line) {
                Ok(command) => prop_assert_eq!(parse_line(&command.line()).unwrap(), command),
                Err(error) => {
                    prop_assert!(error.errno() > 0);
                    prop_assert!(!error.to_string().contains('\n'));
                }
            }
        }
    }
}
