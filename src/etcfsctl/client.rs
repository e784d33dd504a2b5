//! The connection to the daemon.

use crate::find::Mount;
use anyhow::{Context as _, Result, bail};
use etcfs::ctl::door;
use etcfs::ctl::wire::{self, Head, MESSAGE_MAX, Query};
use etcfs::printable::{tame, tame_json};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::borrow::Cow;
use std::time::{Duration, Instant};

/// How long a daemon may hang up again and again.
const HANGS_UP: Duration = Duration::from_secs(3);

/// How soon it is asked once more.
const AGAIN: Duration = Duration::from_millis(20);

/// What holds for every subcommand.
pub(crate) struct How {
    /// Print JSON.
    pub json: bool,
    /// Seconds to wait for the daemon.
    pub timeout: f64,
}

/// A connection whose answer has begun.
pub(crate) struct Connection {
    socket: OwnedFd,
    mount: Mount,
    pid: u32,
    timeout: Duration,
    buffer: Vec<u8>,
}

impl Connection {
    /// Asks the daemon of `mount`. One that hangs up without a word was ending: it served a mount whose device number this one has
    /// been given, or another server takes its place. So it is asked again, for a while.
    pub(crate) fn ask(how: &How, mount: &Mount, ask: &Query) -> Result<Connection> {
        let end = Instant::now() + HANGS_UP;
        loop {
            let pid = match Connection::try_ask(how, mount, ask)? {
                Ok(answered) => return Ok(answered),
                Err(pid) => pid,
            };
            if Instant::now() > end {
                bail!(
                    "{}: the daemon (pid {pid}) hung up; its log may say why",
                    mount.at.display()
                );
            }
            std::thread::sleep(AGAIN);
        }
    }

    /// Asks the daemon of `mount` for something over which it ends. Whether it answers or hangs up says nothing then.
    ///
    /// # Errors
    /// It refuses, and says why.
    pub(crate) fn ask_once(how: &How, mount: &Mount, ask: &Query) -> Result<()> {
        let timeout = How {
            json: how.json,
            timeout: how.timeout.max(6.0),
        };
        Connection::try_ask(&timeout, mount, ask).map(drop)
    }

    /// The answer's beginning, or the process that hung up.
    fn try_ask(how: &How, mount: &Mount, ask: &Query) -> Result<Result<Connection, u32>> {
        let timeout = Duration::try_from_secs_f64(how.timeout.max(0.001))
            .context("--timeout takes a number of seconds")?;
        let (socket, pid) = reach(mount, timeout)?;
        let mut connection = Connection {
            socket,
            mount: mount.clone(),
            pid,
            timeout,
            buffer: vec![0; MESSAGE_MAX],
        };
        let message = wire::write_query(ask);
        match send(&connection.socket, &message, SendFlags::NOSIGNAL) {
            // A daemon that hangs up has said why.
            Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => {}
            Err(errno) => return Err(connection.explain(errno)),
        }
        let Some(head) = connection.message()? else {
            return Ok(Err(pid));
        };
        let head: Head = serde_json::from_slice(head)
            .context("the daemon's answer cannot be read: is it an etcfs of another version?")?;
        if let Some(error) = head.error {
            bail!("{error}");
        }
        if head.etcfs != wire::PROTOCOL {
            bail!(
                "the daemon (version {}) speaks version {} of the control protocol, this etcfsctl {} (version {}): use \
                 the one that came with the daemon",
                head.version,
                head.etcfs,
                wire::PROTOCOL,
                env!("CARGO_PKG_VERSION")
            );
        }
        Ok(Ok(connection))
    }

    /// The daemon's next message; none at the end.
    pub(crate) fn message(&mut self) -> Result<Option<&[u8]>> {
        let mut was_reset = false;
        loop {
            match recv(&self.socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((0, _)) => return Ok(None),
                Ok((len, _)) => return Ok(Some(&self.buffer[..len])),
                Err(Errno::INTR) => {}
                // Told once, before what the daemon sent, if it hung up without having read everything.
                Err(Errno::CONNRESET) if was_reset => return Ok(None),
                Err(Errno::CONNRESET) => was_reset = true,
                Err(errno) => return Err(self.explain(errno)),
            }
        }
    }

    /// The whole of a report, as text; what has come of it, if the daemon ends meanwhile.
    pub(crate) fn report(mut self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        while let Some(part) = self.message()? {
            text.extend_from_slice(part);
        }
        Ok(text)
    }

    /// The socket, for waiting until a message comes.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Tells the daemon that a stream has had its end; what it has sent, and may still send, can be read.
    pub(crate) fn hang_up(&self) -> Result<()> {
        shutdown(&self.socket, Shutdown::Write).context("ending the stream")
    }

    /// From here on messages may be long in coming.
    pub(crate) fn wait_for_ever(&self) -> Result<()> {
        set_socket_timeout(&self.socket, Timeout::Recv, None).context("the control socket")
    }

    /// What an error of the connection means.
    fn explain(&self, errno: Errno) -> anyhow::Error {
        let at = self.mount.at.display();
        let pid = self.pid;
        if errno != Errno::AGAIN {
            return anyhow::anyhow!("{at}: talking to the daemon (pid {pid}): {errno}");
        }
        anyhow::anyhow!(
            "{at}: the daemon (pid {pid}) does not answer within {:?}{}{}",
            self.timeout,
            state_of(pid),
            waiting(self.mount.device)
        )
    }
}

/// A socket connected to the daemon, and the daemon's pid.
fn reach(mount: &Mount, timeout: Duration) -> Result<(OwnedFd, u32)> {
    door::reach(mount.device, mount.user, timeout).map_err(|why| {
        let (major, minor) = mount.device;
        anyhow::anyhow!(
            "{}: {why} (device {major}:{minor}){}",
            mount.at.display(),
            waiting(mount.device)
        )
    })
}

/// What the kernel says about a process that does not answer.
fn state_of(pid: u32) -> String {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return ": there is no such process any more".to_owned();
    };
    let state = status
        .lines()
        .find_map(|line| line.strip_prefix("State:"))
        .map_or("?", str::trim);
    let hint = if state.starts_with('T') {
        format!("; kill -CONT {pid} lets it go on")
    } else {
        String::new()
    };
    format!(": its state is {state}{hint}")
}

/// How many requests wait for the daemon, where the kernel shows it.
fn waiting(device: (u32, u32)) -> String {
    let path = format!("/sys/fs/fuse/connections/{}/waiting", device.1);
    match std::fs::read_to_string(path) {
        Ok(count) => format!("; requests waiting: {}", count.trim()),
        Err(_) => String::new(),
    }
}

/// A report as its type, with its text. A server that is replaced while it reports is followed by another one, which is asked.
pub(crate) fn report<T: DeserializeOwned>(
    how: &How,
    mount: &Mount,
    ask: &Query,
) -> Result<(T, String)> {
    let end = Instant::now() + HANGS_UP;
    loop {
        let text = Connection::ask(how, mount, ask)?.report()?;
        let is_cut_short =
            serde_json::from_slice::<Value>(&text).is_err_and(|error| error.is_eof());
        if !is_cut_short || Instant::now() > end {
            return read(&text)
                .context("the daemon's report cannot be read: is it an etcfs of another version?");
        }
        std::thread::sleep(AGAIN);
    }
}

/// What a daemon has said: as a value whose strings show on a terminal as they are, and as JSON for programs, which has the
/// strings as they came. The one place where it is read: the daemon may be an ordinary user's, and say anything.
pub(crate) fn read<T: DeserializeOwned>(json: &[u8]) -> Result<(T, String)> {
    let mut value: Value = serde_json::from_slice(json)?;
    let text = tame_json(&value.to_string());
    tame_strings(&mut value);
    Ok((serde_json::from_value(value)?, text))
}

fn tame_strings(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(tamed) = tame(text) {
                *text = tamed;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(tame_strings),
        Value::Object(fields) => {
            let old = std::mem::take(fields);
            fields.extend(old.into_iter().map(|(name, mut value)| {
                tame_strings(&mut value);
                (tame(&name).into_owned(), value)
            }));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
