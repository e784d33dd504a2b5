//! Why mounting failed, in the line that the user reads.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// A failure that names the path, the operation and what to do about it. `Display` is one line without the program's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountError {
    path: PathBuf,
    operation: Cow<'static, str>,
    errno: Option<Errno>,
    remedy: Cow<'static, str>,
}

impl MountError {
    pub(super) fn new(
        path: &Path,
        operation: impl Into<Cow<'static, str>>,
        errno: impl Into<Option<Errno>>,
        remedy: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            operation: operation.into(),
            errno: errno.into(),
            remedy: remedy.into(),
        }
    }

    /// The kernel's answer, if it was the kernel that refused.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        self.errno
    }
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}",
            self.path.display().to_string().escape_debug(),
            self.operation
        )?;
        if let Some(errno) = self.errno {
            write!(f, ": {errno}")?;
        }
        write!(f, "; {}", self.remedy)
    }
}

impl std::error::Error for MountError {}
