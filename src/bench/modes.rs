//! The modes side by side: one lower directory, reached natively, through etcfs, through etcfs with passthrough, and
//! through bindfs. All of them show the same files, so that what one reads the others have made warm.

use super::results::{BINDFS, NATIVE, PASSED, STRICT, WATCH};
use anyhow::{Context as _, Result, bail};
use rustix::mount::{MountFlags, MountPropagationFlags};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a mount may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the files lie on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LowerFs {
    /// Memory: no disk noise.
    Tmpfs,
    /// ext4 in an image on a loop device.
    Ext4,
}

impl LowerFs {
    /// The one with that name, or all.
    pub(crate) fn named(name: Option<&str>) -> Result<Vec<LowerFs>> {
        match name {
            None => Ok(vec![LowerFs::Tmpfs, LowerFs::Ext4]),
            Some("tmpfs") => Ok(vec![LowerFs::Tmpfs]),
            Some("ext4") => Ok(vec![LowerFs::Ext4]),
            Some(other) => bail!("--lower {other}: it is tmpfs or ext4"),
        }
    }

    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            LowerFs::Tmpfs => "tmpfs",
            LowerFs::Ext4 => "ext4",
        }
    }
}

/// One way to the files.
pub(crate) struct MeasuredMode {
    /// Its name in the table.
    pub name: &'static str,
    /// Where the files are seen.
    pub dir: PathBuf,
    served_by: Option<Child>,
}

/// A lower file system with every mode over it. Dropping it unmounts everything.
pub(crate) struct Bench {
    /// What the files lie on.
    pub lower: LowerFs,
    /// The modes; native is the first.
    pub modes: Vec<MeasuredMode>,
    scratch: PathBuf,
}

impl Bench {
    /// Mounts everything below a new directory in `TMPDIR`.
    pub(crate) fn new(lower: LowerFs, etcfs: &Path, with_bindfs: bool) -> Result<Bench> {
        rustix::mount::mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )
        .context("making the mounts private")?;
        let name = format!("etcfs-bench-{}-{}", std::process::id(), lower.name());
        let scratch = std::env::temp_dir().join(name);
        let fs = scratch.join("fs");
        std::fs::create_dir_all(&fs).with_context(|| fs.display().to_string())?;
        let mut bench = Bench {
            lower,
            modes: Vec::new(),
            scratch,
        };
        bench.mount_lower(&fs)?;
        let files = fs.join("files");
        let global = fs.join("global");
        std::fs::create_dir(&files)?;
        std::fs::create_dir(&global)?;
        bench.add(NATIVE, files.clone(), None);
        let keeps = keeps_names(etcfs)?;
        for (name, options) in [
            (STRICT, ""),
            (PASSED, ",passthrough"),
            (WATCH, ",passthrough,cache=watch"),
        ] {
            if name == WATCH && !keeps {
                continue;
            }
            let at = bench.bind(&files, name)?;
            let options = format!(
                "allow_other,stratum=bench,global={}{options}",
                global.display()
            );
            let mut command = Command::new(etcfs);
            command.args(["-f", "-o", &options]).arg(&at);
            bench.serve(name, &mut command, at)?;
        }
        if with_bindfs {
            let at = bench.bind(&files, BINDFS)?;
            let mut command = Command::new("bindfs");
            command.arg("-f").arg(&files).arg(&at);
            bench.serve(BINDFS, &mut command, at)?;
        }
        Ok(bench)
    }

    fn mount_lower(&self, at: &Path) -> Result<()> {
        match self.lower {
            LowerFs::Tmpfs => {
                rustix::mount::mount("bench", at, "tmpfs", MountFlags::empty(), c"mode=0755")
                    .context("mounting a tmpfs")
            }
            LowerFs::Ext4 => {
                let image = self.scratch.join("ext4.img");
                std::fs::File::create(&image)?.set_len(6 << 30)?;
                run(Command::new("mkfs.ext4")
                    .args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
                    .arg(&image))?;
                run(Command::new("mount")
                    .args(["-o", "loop"])
                    .arg(&image)
                    .arg(at))
            }
        }
    }

    /// A mount point of its own over the same files: a daemon serves the directory that it is mounted on.
    fn bind(&self, files: &Path, name: &str) -> Result<PathBuf> {
        let at = self.scratch.join(name.replace(' ', "-"));
        std::fs::create_dir(&at)?;
        rustix::mount::mount_bind(files, &at).context("binding the files")?;
        Ok(at)
    }

    fn serve(&mut self, name: &'static str, command: &mut Command, at: PathBuf) -> Result<()> {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        self.add(name, at.clone(), Some(child));
        let began = Instant::now();
        let wanted = format!(" {} ", at.display());
        while began.elapsed() < PATIENCE {
            let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
            if mounts
                .lines()
                .any(|line| line.contains(&wanted) && line.contains(" - fuse"))
            {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("{command:?} did not mount within {PATIENCE:?}")
    }

    fn add(&mut self, name: &'static str, dir: PathBuf, served_by: Option<Child>) {
        self.modes.push(MeasuredMode {
            name,
            dir,
            served_by,
        });
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for mode in self.modes.iter_mut().rev() {
            if let Some(child) = &mut mode.served_by {
                let _ = rustix::mount::unmount(&mode.dir, rustix::mount::UnmountFlags::DETACH);
                let _ = child.wait();
                let _ = rustix::mount::unmount(&mode.dir, rustix::mount::UnmountFlags::DETACH);
            }
        }
        let fs = self.scratch.join("fs");
        let _ = rustix::mount::unmount(&fs, rustix::mount::UnmountFlags::DETACH);
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

/// Whether a daemon can have the kernel keep names.
fn keeps_names(etcfs: &Path) -> Result<bool> {
    let mut command = Command::new(etcfs);
    let help = command
        .arg("--help")
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    Ok(String::from_utf8_lossy(&help.stdout).contains("cache="))
}

/// Runs a program that has to succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("starting {command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}
