//! Which paths a rule may name.

use crate::fs::ids::CONFIG_NAME;
use std::fmt;

/// Longest component in bytes: `NAME_MAX` of Linux, the limit of the lower file systems.
pub const COMPONENT_MAX: usize = 255;

/// Longest path in bytes, without the leading slash: `PATH_MAX` less the terminating NUL, the longest that one system
/// call can name.
pub const PATH_MAX: usize = 4095;

/// Most components in a path. Every component on the way to a rule is kept with its path from the root, so the bound
/// keeps the memory of one rule near 256 KiB at most, whatever its path looks like.
pub const DEPTH_MAX: usize = 64;

/// Why a path cannot be the path of a rule.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum PathProblem {
    /// Nothing, or only the leading slash: a rule names something below the root.
    Empty,
    /// A command names it without the leading slash.
    NoSlash,
    /// Two slashes in a row, or one at the end: it would be printed otherwise than it was written, and the writer
    /// compares lines byte by byte (D25).
    EmptyComponent,
    /// A component `.` or `..`, which the kernel resolves before any lookup: the rule would never apply.
    DotComponent,
    /// A space, tab or newline. Fields of the file are separated by blanks and lines by newlines, and the writer removes
    /// a rule by its third field (D26): with a blank inside it would name another path.
    Blank,
    /// A NUL byte, which no path can hold.
    Nul,
    /// A component longer than [`COMPONENT_MAX`].
    LongComponent,
    /// Longer than [`PATH_MAX`].
    Long,
    /// More than [`DEPTH_MAX`] components.
    Deep,
    /// [`CONFIG_NAME`] at the root, or anything below it.
    Reserved,
}

impl fmt::Display for PathProblem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            PathProblem::Empty => "the path is empty; name a path below the root, as in /default/grub",
            PathProblem::NoSlash => {
                "the path does not begin with a slash; write it as seen from the mount, as in /default/grub"
            }
            PathProblem::EmptyComponent => {
                "the path has an empty component; write single slashes and none at the end"
            }
            PathProblem::DotComponent => {
                "the path has a component . or ..; write the path these lead to"
            }
            PathProblem::Blank => {
                "the path has a space, tab or newline; a rule cannot name such a path, so name the directory above it"
            }
            PathProblem::Nul => "the path has a NUL byte; remove it",
            PathProblem::LongComponent => {
                "a component of the path is longer than 255 bytes; no file can have that name"
            }
            PathProblem::Long => {
                "the path is longer than 4,095 bytes; name a directory above it"
            }
            PathProblem::Deep => {
                "the path has more than 64 components; name a directory above it"
            }
            PathProblem::Reserved => {
                "the path is that of the configuration file itself; it is always served from here"
            }
        })
    }
}

/// The path of a rule: relative to the root of the mount, components separated by single slashes, no slash at either end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RulePath(Box<[u8]>);

impl RulePath {
    /// Takes a path as a command gives it, with or without one leading slash.
    ///
    /// # Errors
    ///
    /// Says which rule of the module it breaks; the first one in the order of the checks, so the answer to one path is
    /// always the same (D31).
    pub(crate) fn parse(text: &[u8]) -> Result<RulePath, PathProblem> {
        let path = text.strip_prefix(b"/").unwrap_or(text);
        if path.is_empty() {
            return Err(PathProblem::Empty);
        }
        if path.contains(&0) {
            return Err(PathProblem::Nul);
        }
        if path.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'\n')) {
            return Err(PathProblem::Blank);
        }
        if path.len() > PATH_MAX {
            return Err(PathProblem::Long);
        }
        let mut depth = 0;
        for component in components(path) {
            depth += 1;
            match component {
                b"" => return Err(PathProblem::EmptyComponent),
                b"." | b".." => return Err(PathProblem::DotComponent),
                _ if component.len() > COMPONENT_MAX => return Err(PathProblem::LongComponent),
                _ if depth == 1 && component == CONFIG_NAME.to_bytes() => {
                    return Err(PathProblem::Reserved);
                }
                _ if depth > DEPTH_MAX => return Err(PathProblem::Deep),
                _ => {}
            }
        }
        Ok(RulePath(path.into()))
    }

    /// The bytes, without a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The components of a path, without looking at them.
pub(in crate::fs) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
}

#[cfg(test)]
mod tests {
    use super::{PathProblem, RulePath};
    use crate::fs::ids::CONFIG_NAME;

    #[test]
    fn legal_paths_lose_their_leading_slash_and_nothing_else() {
        let long = [b'n'; 255];
        for path in [
            &b"passwd"[..],
            b"default/grub",
            b"modprobe.d/blacklist.conf",
            b"\xff\xfe/\x01",
            b"...",
            b"sub/.bedrock-config-filesystem",
            b".bedrock-config-filesystem2",
            &long,
        ] {
            assert_eq!(RulePath::parse(path).unwrap().as_bytes(), path);
            let slashed = [b"/", path].concat();
            assert_eq!(RulePath::parse(&slashed).unwrap().as_bytes(), path);
        }
    }

    #[test]
    fn illegal_paths_are_refused_each_for_its_reason() {
        let long_component = [b'n'; 256];
        let long = [b"n/".repeat(2047), b"nn".to_vec()].concat();
        let deep = [b"n/".repeat(64), b"n".to_vec()].concat();
        let below = [CONFIG_NAME.to_bytes(), b"/x"].concat();
        for (path, problem) in [
            (&b""[..], PathProblem::Empty),
            (b"/", PathProblem::Empty),
            (b"//", PathProblem::EmptyComponent),
            (b"//passwd", PathProblem::EmptyComponent),
            (b"a//b", PathProblem::EmptyComponent),
            (b"resolvconf/run/", PathProblem::EmptyComponent),
            (b".", PathProblem::DotComponent),
            (b"a/../b", PathProblem::DotComponent),
            (b"a b", PathProblem::Blank),
            (b"a\tb", PathProblem::Blank),
            (b"a\nb", PathProblem::Blank),
            (b"a\0b", PathProblem::Nul),
            (&long_component, PathProblem::LongComponent),
            (&long, PathProblem::Long),
            (&deep, PathProblem::Deep),
            (CONFIG_NAME.to_bytes(), PathProblem::Reserved),
            (&below, PathProblem::Reserved),
        ] {
            let shown = path.escape_ascii().to_string();
            assert_eq!(RulePath::parse(path), Err(problem), "{shown}");
            assert!(problem.to_string().contains(';'), "no remedy: {problem}");
        }
    }

    #[test]
    fn the_longest_and_the_deepest_legal_path_are_accepted() {
        let deepest = [b"n/".repeat(63), b"n".to_vec()].concat();
        assert!(RulePath::parse(&deepest).is_ok());
        let component = [&[b'n'; 255][..], b"/"].concat();
        let longest = &component.repeat(16)[..4095];
        assert_eq!(RulePath::parse(longest).unwrap().as_bytes().len(), 4095);
    }
}
