//! The rows: what is measured, in which order, and what has to be there before.

use super::client::STORM_NAMES;
use super::modes::{Bench, LowerFs, MeasuredMode, run};
use super::results::{BINDFS, Results, Unit, median, small_scale};
use super::targets::BUFFERS;
use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// The size of the smallest files.
const SMALLEST: usize = 4 * KIB;

/// One measurement of one mode: a workload by so many clients.
#[derive(Clone, Copy)]
struct Measurement {
    workload: &'static str,
    count: usize,
    size: usize,
    clients: usize,
    user: &'static str,
}

const fn job(workload: &'static str, count: usize, size: usize) -> Measurement {
    Measurement {
        workload,
        count,
        size,
        clients: 1,
        user: "root",
    }
}

/// How thoroughly to measure.
pub(crate) struct Selection {
    /// Rounds.
    pub rounds: usize,
    /// What every count is divided by.
    pub scale: usize,
    /// Only rows whose name contains this.
    pub only: Option<String>,
    /// bindfs in the first round only, and no rows of four clients: they take most of the time.
    pub short: bool,
}

/// Measures every row of `bench`, round by round.
pub(crate) fn measure(bench: &Bench, options: &Selection, results: &mut Results) -> Result<()> {
    for round in 0..options.rounds {
        let (lower, rounds) = (bench.lower.name(), options.rounds);
        eprintln!("{lower}: round {} of {rounds}", round + 1);
        let takes_part = |mode: &&MeasuredMode| round == 0 || !options.short || mode.name != BINDFS;
        let mut plan = Plan {
            bench,
            options,
            modes: bench.modes.iter().filter(takes_part).collect(),
            results: &mut *results,
        };
        plan.small_files("25,000 x 4 KiB", 25_000, 4 * KIB)?;
        plan.small_files("10,000 x 64 KiB", 10_000, 64 * KIB)?;
        plan.large_files("1,000 x 1 MiB", 1_000, MIB)?;
        plan.large_files("100 x 10 MiB", 100, 10 * MIB)?;
        plan.one_large_file()?;
        plan.rates()?;
        plan.buffers()?;
        plan.storm()?;
        plan.trees()?;
    }
    Ok(())
}

struct Plan<'a> {
    bench: &'a Bench,
    options: &'a Selection,
    /// The modes of this round.
    modes: Vec<&'a MeasuredMode>,
    results: &'a mut Results,
}

impl Plan<'_> {
    fn wants(&self, row: &str) -> bool {
        let only = self.options.only.as_ref();
        only.is_none_or(|only| row.contains(only))
    }

    fn scaled(&self, count: usize) -> usize {
        (count / self.options.scale).max(1)
    }

    /// Written anew, read warm and cold, and removed, by every mode in a directory of its own.
    fn small_files(&mut self, what: &str, count: usize, size: usize) -> Result<()> {
        let row = |verb: &str| format!("{verb} {what}");
        if !self.wants(&row("write, read, unlink")) && !self.wants(&row("read")) {
            return Ok(());
        }
        let count = match size {
            SMALLEST => (count / small_scale(self.options.scale)).max(1),
            _ => self.scaled(count),
        };
        let sub = fresh_dir(&self.bench.modes[0].dir, "small-files")?;
        for mode in self.modes.clone() {
            let dir = mode.dir.join(&sub);
            if size == SMALLEST {
                self.a_tenth(mode, &dir, count / 10, size)?;
            }
            let write = seconds(&dir, job("write", count, size))?;
            let read = seconds(&dir, job("read", count, size))?;
            self.note(&row("write"), mode, write, Unit::Seconds);
            self.note(&row("read"), mode, read, Unit::Seconds);
            if self.bench.lower == LowerFs::Ext4 && size == 4 * KIB {
                drop_caches()?;
                let cold = seconds(&dir, job("read", count, size))?;
                self.note(&format!("{}, cold", row("read")), mode, cold, Unit::Seconds);
            }
            let unlink = seconds(&dir, job("unlink", count, size))?;
            self.note(&row("unlink"), mode, unlink, Unit::Seconds);
        }
        Ok(())
    }

    /// The same with a tenth of the files, to see how the time grows; the median of three, because it is short.
    fn a_tenth(
        &mut self,
        mode: &MeasuredMode,
        dir: &Path,
        count: usize,
        size: usize,
    ) -> Result<()> {
        let verbs = ["write", "read", "unlink"];
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..3 {
            for (verb, times) in verbs.into_iter().zip(&mut times) {
                times.push(seconds(dir, job(verb, count.max(1), size))?);
            }
        }
        for (verb, times) in verbs.into_iter().zip(times) {
            let row = format!("{verb} 2,500 x 4 KiB");
            let time = median(times).context("no time")?;
            self.note(&row, mode, time, Unit::Seconds);
        }
        Ok(())
    }

    /// Overwritten and read: a GiB of page cache never touched before costs what the host pleases, in every mode.
    fn large_files(&mut self, what: &str, count: usize, size: usize) -> Result<()> {
        let row = |verb: &str| format!("{verb} {what}");
        if !self.wants(&row("overwrite")) && !self.wants(&row("read")) {
            return Ok(());
        }
        let count = self.scaled(count);
        let native = &self.bench.modes[0].dir;
        let sub = fresh_dir(native, "large-files")?;
        seconds(&native.join(&sub), job("write", count, size))?;
        seconds(&native.join(&sub), job("read", count, size))?;
        for mode in self.modes.clone() {
            let dir = mode.dir.join(&sub);
            let write = seconds(&dir, job("overwrite", count, size))?;
            let read = seconds(&dir, job("read", count, size))?;
            self.note(&row("overwrite"), mode, write, Unit::Seconds);
            self.note(&row("read"), mode, read, Unit::Seconds);
        }
        std::fs::remove_dir_all(native.join(&sub))?;
        Ok(())
    }

    fn one_large_file(&mut self) -> Result<()> {
        if !self.wants("1 GiB file") {
            return Ok(());
        }
        let native = &self.bench.modes[0].dir;
        let sub = fresh_dir(native, "one-file")?;
        let path = native.join(&sub).join("large");
        let mut file = std::fs::File::create(&path)?;
        for _ in 0..self.scaled(1024) {
            file.write_all(&vec![b'y'; MIB])?;
        }
        drop(file);
        let random = self.scaled(200_000);
        // Of a smaller file more often: the start and end of a short time would be most of it.
        let often = self.options.scale.min(8);
        seconds(&native.join(&sub), job("sequential-write", 1, MIB))?;
        for mode in self.modes.clone() {
            let dir = mode.dir.join(&sub);
            for (row, workload, count, size) in [
                ("random 4 KiB reads", "random-read", random, 4 * KIB),
                ("random 4 KiB overwrites", "random-write", random, 4 * KIB),
                ("sequential overwrite", "sequential-write", often, MIB),
                ("sequential read", "sequential-read", often, MIB),
            ] {
                let time = seconds(&dir, job(workload, count, size))?;
                let row = format!("{row} of a 1 GiB file");
                self.note(&row, mode, time, Unit::Seconds);
            }
        }
        std::fs::remove_dir_all(native.join(&sub))?;
        Ok(())
    }

    /// Operations per second on a file in the mount's root, by one, two and four clients, and by an ordinary user.
    fn rates(&mut self) -> Result<()> {
        let native = &self.bench.modes[0].dir;
        std::fs::set_permissions(native, std::fs::Permissions::from_mode(0o777))?;
        std::fs::write(native.join("f0"), vec![b'z'; 4 * KIB])?;
        let _ = std::os::unix::fs::symlink("f0", native.join("link"));
        std::fs::create_dir_all(native.join("small"))?;
        for n in 0..20 {
            std::fs::write(native.join(format!("small/e{n}")), "")?;
        }
        for (row, workload, count) in [
            ("stat", "stat", 100_000),
            ("stat of a missing name", "stat-missing", 50_000),
            ("open + close", "open-close", 30_000),
            ("open + read 4 KiB + close", "open-read-close", 30_000),
            ("readlink", "readlink", 50_000),
            ("create + unlink", "create-unlink", 5_000),
            ("list 20 entries", "list", 10_000),
        ] {
            for (clients, user) in [(1, "root"), (2, "root"), (4, "root"), (1, "user")] {
                let alone = matches!(workload, "stat-missing" | "create-unlink" | "list");
                if clients > 1 && (alone || self.options.short && clients > 2) {
                    continue;
                }
                let who = match (clients, user) {
                    (_, "user") => "uid 1000".to_owned(),
                    (1, _) => "1 client".to_owned(),
                    (n, _) => format!("{n} clients"),
                };
                let row = format!("{row}, {who}");
                if !self.wants(&row) {
                    continue;
                }
                let count = self.scaled(count);
                for mode in self.modes.clone() {
                    let job = Measurement {
                        clients,
                        user,
                        ..job(workload, count, 4 * KIB)
                    };
                    let time = seconds(&mode.dir, job)?;
                    let rate = (count * clients) as f64 / time;
                    self.note(&row, mode, rate, Unit::PerSecond);
                }
            }
        }
        Ok(())
    }

    /// A small file read into memory that was never touched, of which it fills the beginning. Direct I/O has all of it made
    /// and held at each read (`fuse_get_user_pages`).
    fn buffers(&mut self) -> Result<()> {
        std::fs::write(self.bench.modes[0].dir.join("f0"), vec![b'z'; SMALLEST])?;
        for (what, size) in [("4 KiB", SMALLEST), ("128 KiB", 128 * KIB), ("1 MiB", MIB)] {
            let row = format!("{BUFFERS} {what}");
            if !self.wants(&row) {
                continue;
            }
            // As much memory as all of them make together.
            let count = self.scaled(10_000.min((512 << 20) / size));
            for mode in self.modes.clone() {
                let time = seconds(&mode.dir, job("read-fresh", count, size))?;
                self.note(&row, mode, count as f64 / time, Unit::PerSecond);
            }
        }
        Ok(())
    }

    fn storm(&mut self) -> Result<()> {
        let row = "systemd storm (98k readlink, 46k open, 39k list)";
        if !self.wants(row) {
            return Ok(());
        }
        let native = &self.bench.modes[0].dir;
        let units = native.join("systemd");
        std::fs::create_dir_all(units.join("wants"))?;
        for n in 0..STORM_NAMES {
            std::fs::write(units.join(format!("u{n}")), "[Unit]\n")?;
            let _ = std::os::unix::fs::symlink(format!("u{n}"), units.join(format!("l{n}")));
        }
        for n in 0..10 {
            std::fs::write(units.join(format!("wants/w{n}")), "")?;
        }
        let count = self.scaled(98_565);
        for mode in self.modes.clone() {
            let time = seconds(&mode.dir, job("storm", count, 4 * KIB))?;
            self.note(row, mode, time, Unit::Seconds);
        }
        Ok(())
    }

    /// Programs over a tree of 5,000 files.
    fn trees(&mut self) -> Result<()> {
        let native = &self.bench.modes[0].dir;
        if !native.join("tree").exists() {
            for n in 0..self.scaled(5_000) {
                let dir = native.join(format!("tree/d{}", n / 50));
                std::fs::create_dir_all(&dir)?;
                std::fs::write(dir.join(format!("f{n}")), format!("file {n}\n"))?;
            }
        }
        for (row, script) in [
            ("find", "find tree"),
            ("ls -lR", "ls -lR tree"),
            ("grep -r", "grep -r needle tree; true"),
            ("tar", "tar -cf - tree | cat"),
        ] {
            let row = format!("{row} of 5,000 files");
            if !self.wants(&row) {
                continue;
            }
            for mode in self.modes.clone() {
                let mut command = Command::new("sh");
                command.args(["-c", script]).current_dir(&mode.dir);
                run(&mut command)?;
                let began = Instant::now();
                run(&mut command)?;
                self.note(&row, mode, began.elapsed().as_secs_f64(), Unit::Seconds);
            }
        }
        Ok(())
    }

    fn note(&mut self, row: &str, mode: &MeasuredMode, value: f64, unit: Unit) {
        eprintln!("  {row}, {}: {value:.3}", mode.name);
        self.results
            .add(self.bench.lower.name(), row, mode.name, value, unit);
    }
}

/// Makes an empty directory for everybody and returns its name.
fn fresh_dir(root: &Path, name: &str) -> Result<String> {
    let dir = root.join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir(&dir)?;
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777))?;
    Ok(name.to_owned())
}

/// The longest time that one of the job's clients took, all of them having begun together.
fn seconds(dir: &Path, job: Measurement) -> Result<f64> {
    let mut clients = (0..job.clients)
        .map(|_| Runner::start(dir, job))
        .collect::<Result<Vec<_>>>()?;
    for client in &mut clients {
        client.go()?;
    }
    let mut longest: f64 = 0.0;
    for client in clients {
        longest = longest.max(client.finish()?);
    }
    Ok(longest)
}

struct Runner {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Runner {
    fn start(dir: &Path, job: Measurement) -> Result<Runner> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("client")
            .arg(job.workload)
            .arg(dir)
            .args([job.count.to_string(), job.size.to_string()])
            .arg(job.user)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a client")?;
        let mut out = BufReader::new(child.stdout.take().context("a pipe")?);
        let mut line = String::new();
        out.read_line(&mut line)?;
        if line.trim() != "ready" {
            bail!("a client said {line:?}");
        }
        Ok(Runner { child, out })
    }

    fn go(&mut self) -> Result<()> {
        let mut pipe = self.child.stdin.take().context("a pipe")?;
        Ok(pipe.write_all(b"go\n")?)
    }

    fn finish(mut self) -> Result<f64> {
        let mut text = String::new();
        self.out.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("a client failed: {status}");
        }
        text.trim()
            .parse()
            .with_context(|| format!("a client said {text:?}"))
    }
}

fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("/proc/sys/vm/drop_caches")
}
