//! `etcfsctl record`: the conversation with the kernel, into a file.

use crate::client::{Connection, How};
use crate::{files, find};
use anyhow::{Context as _, Result, bail};
use argh::{ArgsInfo, FromArgs};
use etcfs::ctl::wire::Query;
use etcfs::replay::tape::{Choice, Tape};
use etcfs::sys::signals::Signals;
use etcfs_proto::capture::{MAGIC, Redactor};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Record every request and its answer into FILE, until interrupted (Ctrl-C) or for some time. Contents of files and
/// extended attributes are left out. FILE can be read by `decode` and `replay`.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "record")]
pub(crate) struct Args {
    /// keep only the latest records, as many as fit into SIZE bytes (K, M and G are known), and write them at the end
    #[argh(option)]
    ring: Option<String>,
    /// write everything as it comes (the default)
    #[argh(switch)]
    stream: bool,
    /// record the contents of files and extended attributes too: a recording of /etc then holds its secrets
    #[argh(switch)]
    data: bool,
    /// hide names: every component becomes a token of the same length, the same throughout; extensions stay
    #[argh(switch)]
    redact: bool,
    /// end after so many seconds
    #[argh(option)]
    seconds: Option<f64>,
    /// where to; an existing file is replaced
    #[argh(positional)]
    file: PathBuf,
    /// the mount point
    #[argh(positional)]
    mount: Option<PathBuf>,
}

/// Records.
pub(crate) fn run(how: &How, args: &Args) -> Result<ExitCode> {
    if args.data && args.redact {
        bail!(
            "--redact hides names only: it would be of no use with --data, whose contents hold them"
        );
    }
    if args.stream && args.ring.is_some() {
        bail!("--ring and --stream exclude each other");
    }
    let mount = find::mount(args.mount.as_deref())?;
    let is_same = |around: find::Mount| around.device == mount.device;
    if find::mount_of(&args.file).is_ok_and(|(around, _)| is_same(around)) {
        bail!(
            "{}: a recording cannot be kept on the mount that it records: every write would be recorded and written",
            args.file.display()
        );
    }
    let end = match args.seconds {
        None => None,
        Some(seconds) => {
            let time = Duration::try_from_secs_f64(seconds).context("--seconds takes a number")?;
            Some(Instant::now() + time)
        }
    };
    let choice = Choice {
        redactor: args.redact.then(key).transpose()?.map(Redactor::new),
        ring: args.ring.as_deref().map(size).transpose()?,
    };
    // From here on an interrupt ends the recording, not the program.
    let signals = Signals::block().context("blocking the signals")?;
    let mut connection = Connection::ask(
        how,
        &mount,
        &Query::Record {
            data: args.data,
            resumes: true,
        },
    )?;
    let file = files::create(&args.file, 0o600)?;
    let mut tape = Tape::new(BufWriter::new(file), choice);
    connection.wait_for_ever()?;
    let mut asked_to_end = false;
    let mut parts = Parts::default();
    loop {
        if !asked_to_end && wait(&connection, &signals, end)? {
            asked_to_end = true;
            // What was recorded until now still comes.
            connection.hang_up()?;
        }
        match connection.message()? {
            Some(message) => tape.take(parts.next(message)?)?,
            None => break,
        }
    }
    let written = tape.finish()?;
    let file = args.file.display();
    if how.json {
        println!(
            "{}",
            serde_json::json!({
                "records": written.records, "lost": written.lost, "dropped": written.dropped
            })
        );
    } else {
        let mut line = format!("{file}: {} records", written.records);
        if written.dropped > 0 {
            line += &format!("; {} older ones did not fit into the ring", written.dropped);
        }
        if written.lost > 0 {
            line += &format!("; {} came too fast and are missing", written.lost);
        }
        crate::say(&line);
    }
    if !asked_to_end {
        eprintln!("etcfsctl: the daemon has ended");
    }
    Ok(ExitCode::SUCCESS)
}

/// What has come of a recording. A server that takes another's place sends again what may not have been sent.
#[derive(Default)]
struct Parts {
    /// How many bytes of the recording there are.
    had: u64,
    /// The daemon is of a version whose messages do not begin with their position.
    bare: bool,
}

impl Parts {
    /// The part of a message that has not come before.
    fn next<'m>(&mut self, message: &'m [u8]) -> Result<&'m [u8]> {
        // The first position is 0.
        self.bare |= self.had == 0 && message.starts_with(&MAGIC);
        if self.bare {
            self.had += message.len() as u64;
            return Ok(message);
        }
        let (at, bytes) = message
            .split_first_chunk()
            .context("a part of the recording without its position")?;
        let Some(known) = self.had.checked_sub(u64::from_le_bytes(*at)) else {
            bail!("a part of the recording is missing");
        };
        let known = usize::try_from(known).map_or(bytes.len(), |known| known.min(bytes.len()));
        let new = &bytes[known..];
        self.had += new.len() as u64;
        Ok(new)
    }
}

/// Waits for the daemon's next message; true if it is time to end.
fn wait(connection: &Connection, signals: &Signals, end: Option<Instant>) -> Result<bool> {
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(true);
        }
        let left = left
            .map(Timespec::try_from)
            .transpose()
            .context("--seconds")?;
        let mut fds = [
            PollFd::from_borrowed_fd(connection.socket(), PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).context("waiting"),
        }
        if !fds[1].revents().is_empty() {
            return Ok(true);
        }
        if !fds[0].revents().is_empty() {
            return Ok(false);
        }
    }
}

/// A random key, which is forgotten at the end.
fn key() -> Result<[u8; 16]> {
    let mut key = [0; 16];
    rustix::rand::getrandom(&mut key[..], rustix::rand::GetRandomFlags::empty())
        .context("a random key")?;
    Ok(key)
}

/// A number of bytes.
fn size(text: &str) -> Result<usize> {
    let (digits, unit) = match text.strip_suffix(['K', 'k', 'M', 'm', 'G', 'g']) {
        None => (text, 1),
        Some(digits) => match text.as_bytes()[digits.len()].to_ascii_uppercase() {
            b'K' => (digits, 1 << 10),
            b'M' => (digits, 1 << 20),
            _ => (digits, 1 << 30),
        },
    };
    let number: usize = digits
        .parse()
        .with_context(|| format!("--ring {text}: a number of bytes, such as 65536, 64K or 16M"))?;
    number
        .checked_mul(unit)
        .filter(|bytes| *bytes > 0)
        .with_context(|| format!("--ring {text}: a number of bytes above 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_twice_is_taken_once_and_a_gap_is_an_error() {
        let message = |at: u64, bytes: &[u8]| [&at.to_le_bytes(), bytes].concat();
        let mut parts = Parts::default();
        let mut all: Vec<u8> = Vec::new();
        for (at, bytes) in [
            (0, "abc"),
            (3, "def"),
            (3, "def"),
            (3, "defgh"),
            (1, "bc"),
            (8, ""),
        ] {
            all.extend(parts.next(&message(at, bytes.as_bytes())).unwrap());
        }
        assert_eq!(all, b"abcdefgh");
        assert!(parts.next(&message(9, b"x")).is_err());
        assert!(parts.next(b"short").is_err());
        let mut bare = Parts::default();
        for bytes in [b"etcfsrec and more".as_slice(), b"short"] {
            assert_eq!(bare.next(bytes).unwrap(), bytes);
        }
    }

    #[test]
    fn sizes_are_bytes_with_or_without_a_unit() {
        let sizes = ["5", "64K", "16m", "2G"].map(|text| size(text).unwrap());
        assert_eq!(sizes, [5, 65_536, 16 << 20, 2 << 30]);
        for text in ["", "0", "x", "-1", "5T", "99999999999999999999"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
