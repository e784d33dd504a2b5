//! `etcfsctl top`: who keeps the mount busy, with what.

mod screen;
mod sums;
mod terminal;

use crate::client::{Connection, How, read, report};
use crate::find::{self, Mount};
use anyhow::{Context as _, Result, bail};
use argh::{ArgsInfo, FromArgs};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use etcfs::ctl::access::Access;
use etcfs::ctl::report::Stats;
use etcfs::ctl::wire::{Filter, Query};
use etcfs::printable::tame_json;
use screen::Screen;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use sums::{Sums, View, Window};
use terminal::Terminal;

/// Show live who keeps the mount busy: operations and time by process, path, request and rule. With --json one object
/// per interval.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "top")]
pub(crate) struct Args {
    /// seconds between two pictures (default 1)
    #[argh(option, default = "1.0")]
    interval: f64,
    /// with --json: end after so many intervals
    #[argh(option)]
    count: Option<u64>,
    /// the mount point
    #[argh(positional)]
    mount: Option<PathBuf>,
}

/// What the thread that reads the log and the one that draws share.
#[derive(Default)]
struct Board {
    window: Window,
    /// Why no more records come.
    ended: Option<String>,
}

fn lock(shared: &Mutex<Board>) -> MutexGuard<'_, Board> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shows the traffic until the user has seen enough.
pub(crate) fn run(how: &How, args: &Args) -> Result<ExitCode> {
    if !how.json && !std::io::stdout().is_terminal() {
        bail!(
            "top needs a terminal; `etcfsctl stats`, `etcfsctl log` and `etcfsctl --json top` do not"
        );
    }
    let interval = Duration::try_from_secs_f64(args.interval.max(0.1))
        .context("--interval takes a number of seconds")?;
    let mount = find::mount(args.mount.as_deref())?;
    let connection = Connection::ask(how, &mount, &Query::Log(Filter::default()))?;
    connection.wait_for_ever()?;
    let shared = Arc::new(Mutex::new(Board::default()));
    let collected = shared.clone();
    let (again, of) = (How { ..*how }, mount.clone());
    std::thread::spawn(move || collect(connection, &collected, (&again, &of)));
    if how.json {
        return print(&shared, interval, args.count.unwrap_or(u64::MAX));
    }
    let mut terminal = Terminal::take().context("the terminal")?;
    show(how, &mount, &shared, interval, &mut terminal)?;
    Ok(ExitCode::SUCCESS)
}

/// Adds up records until the daemon ends: `of` whom to ask for another server when this one has gone.
fn collect(mut connection: Connection, shared: &Mutex<Board>, of: (&How, &Mount)) {
    let why = loop {
        let message = match connection.message() {
            Ok(Some(message)) => message,
            Ok(None) => {
                let next = Connection::ask(of.0, of.1, &Query::Log(Filter::default()));
                match next.and_then(|next| next.wait_for_ever().map(|()| next)) {
                    Ok(next) => connection = next,
                    Err(_) => break "the daemon has ended".to_owned(),
                }
                continue;
            }
            Err(error) => break format!("{error:#}"),
        };
        match read::<Access>(message) {
            Ok((record, _)) => lock(shared).window.add(&record),
            Err(error) => break format!("a record cannot be read: {error}"),
        }
    };
    lock(shared).ended = Some(why);
}

/// One JSON object per interval.
fn print(shared: &Mutex<Board>, interval: Duration, count: u64) -> Result<ExitCode> {
    let mut out = std::io::stdout();
    for _ in 0..count {
        std::thread::sleep(interval);
        let sums = lock(shared).window.take();
        let text = tame_json(&serde_json::to_string(&sums)?);
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()?;
        if let Some(why) = &lock(shared).ended {
            bail!("{why}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The picture and the keys.
fn show(
    how: &How,
    mount: &Mount,
    shared: &Mutex<Board>,
    interval: Duration,
    terminal: &mut Terminal,
) -> Result<()> {
    let mut screen = Screen::new(mount.shown());
    let mut next = Instant::now() + interval;
    loop {
        terminal
            .draw(|rows| screen.lines(rows))
            .context("drawing")?;
        let wait = next.saturating_duration_since(Instant::now());
        if event::poll(wait).context("the keyboard")? {
            let leaves = match event::read().context("the keyboard")? {
                Event::Key(key) if key.kind == KeyEventKind::Press => !press(&mut screen, key),
                _ => false,
            };
            if leaves {
                return Ok(());
            }
            continue;
        }
        next += interval;
        let (sums, ended): (Sums, _) = {
            let mut shared = lock(shared);
            (shared.window.take(), shared.ended.clone())
        };
        if let Some(why) = ended {
            bail!("{}: {why}", mount.at.display());
        }
        // A daemon that hangs shows as a picture that says so, not as a frozen one.
        let stats = report::<Stats>(how, mount, &Query::Stats { reset: false });
        screen.update(sums, stats.map(|(stats, _)| stats));
    }
}

/// Carries out a key; false: leave.
fn press(screen: &mut Screen, key: KeyEvent) -> bool {
    if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
        return false;
    }
    if screen.is_typing() {
        match key.code {
            KeyCode::Esc => screen.end_filter(false),
            KeyCode::Enter => screen.end_filter(true),
            KeyCode::Backspace => screen.erase(),
            KeyCode::Char(c) => screen.type_in(c),
            _ => {}
        }
        return true;
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char(' ') => screen.pause(),
        KeyCode::Char('s') => screen.next_sort(),
        KeyCode::Char('/') => screen.begin_filter(),
        KeyCode::Tab => screen.next_view(),
        KeyCode::Char(c) => {
            if let Some(view) = View::ALL.into_iter().find(|view| view.key() == c) {
                screen.set_view(view);
            }
        }
        _ => {}
    }
    true
}
