//! What `top` shows: a head, a table, a line of keys.

use super::sums::{Sums, SumsRow, View};
use super::terminal::{Emphasis, ScreenLine};
use crate::stats::duration;
use anyhow::Result;
use etcfs::ctl::report::Stats;

/// The order of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Ops,
    Busy,
    Average,
    Failed,
    Name,
}

impl Sort {
    const ALL: [Sort; 5] = [
        Sort::Ops,
        Sort::Busy,
        Sort::Average,
        Sort::Failed,
        Sort::Name,
    ];

    fn title(self, view: View) -> &'static str {
        match self {
            Sort::Ops => "ops/s",
            Sort::Busy => "ms/s",
            Sort::Average => "avg us",
            Sort::Failed => "failed/s",
            Sort::Name => view.title(),
        }
    }

    fn sort(self, rows: &mut [&SumsRow]) {
        rows.sort_by(|a, b| match self {
            Sort::Ops => b.ops.total_cmp(&a.ops),
            Sort::Busy => b.busy_ms.total_cmp(&a.busy_ms),
            Sort::Average => b.average_us.total_cmp(&a.average_us),
            Sort::Failed => b.failed.total_cmp(&a.failed),
            Sort::Name => a.name.cmp(&b.name),
        });
    }
}

/// The state of the picture.
pub(super) struct Screen {
    mount: String,
    view: View,
    sort: Sort,
    filter: String,
    /// What is being typed, and what to go back to.
    typing: Option<String>,
    paused: bool,
    sums: Sums,
    stats: Option<Stats>,
    trouble: Option<String>,
}

impl Screen {
    /// An empty picture of `mount`.
    pub(super) fn new(mount: String) -> Screen {
        Screen {
            mount,
            view: View::Process,
            sort: Sort::Ops,
            filter: String::new(),
            typing: None,
            paused: false,
            sums: Sums::default(),
            stats: None,
            trouble: None,
        }
    }

    /// Takes the figures of an interval, unless paused.
    pub(super) fn update(&mut self, sums: Sums, stats: Result<Stats>) {
        if self.paused {
            return;
        }
        self.sums = sums;
        match stats {
            Ok(stats) => (self.stats, self.trouble) = (Some(stats), None),
            Err(error) => self.trouble = Some(format!("{error:#}")),
        }
    }

    /// Stops and goes on.
    pub(super) fn pause(&mut self) {
        self.paused = !self.paused;
    }

    /// Sorts by the next column.
    pub(super) fn next_sort(&mut self) {
        let at = Sort::ALL.iter().position(|sort| *sort == self.sort);
        self.sort = Sort::ALL[(at.unwrap_or(0) + 1) % Sort::ALL.len()];
    }

    /// Goes to the next view.
    pub(super) fn next_view(&mut self) {
        let at = View::ALL.iter().position(|view| *view == self.view);
        self.view = View::ALL[(at.unwrap_or(0) + 1) % View::ALL.len()];
    }

    /// Goes to a view.
    pub(super) fn set_view(&mut self, view: View) {
        self.view = view;
    }

    /// True while a filter is being typed.
    pub(super) fn is_typing(&self) -> bool {
        self.typing.is_some()
    }

    /// The filter is typed from here on.
    pub(super) fn begin_filter(&mut self) {
        self.typing = Some(std::mem::take(&mut self.filter));
    }

    /// One more character.
    pub(super) fn type_in(&mut self, c: char) {
        self.filter.push(c);
    }

    /// One less.
    pub(super) fn erase(&mut self) {
        self.filter.pop();
    }

    /// The filter holds, or the one before it.
    pub(super) fn end_filter(&mut self, take: bool) {
        if let Some(before) = self.typing.take().filter(|_| !take) {
            self.filter = before;
        }
    }

    /// The rows to show, in order.
    fn rows(&self) -> Vec<&SumsRow> {
        let rows = self.sums.rows(self.view).iter();
        let mut rows: Vec<&SumsRow> = rows.filter(|row| row.name.contains(&self.filter)).collect();
        self.sort.sort(&mut rows);
        rows
    }

    /// What stands in each of `rows` lines of the terminal: the head, as much of the table as there is room for, and the keys
    /// in the last one.
    pub(super) fn lines(&self, rows: usize) -> Vec<ScreenLine> {
        let mut lines = self.head();
        lines.extend(self.table());
        let above = rows.saturating_sub(1);
        lines.resize(above, ScreenLine::default());
        if rows > 0 {
            lines.push(ScreenLine::new(Emphasis::Keys, self.keys()));
        }
        lines
    }

    fn head(&self) -> Vec<ScreenLine> {
        let ops: f64 = self.sums.opcodes.iter().map(|row| row.ops).sum();
        let lost = self.sums.lost as f64 / self.sums.seconds.max(1e-3);
        let mut first = format!("{}  {:.0} ops/s", self.mount, ops + lost);
        if self.sums.lost > 0 {
            first.push_str(&format!(", {lost:.0} of them too fast to be told apart"));
        }
        if self.paused {
            first.push_str("  PAUSED");
        }
        let second = match (&self.trouble, &self.stats) {
            (Some(trouble), _) => trouble.clone(),
            (None, None) => "waiting for the first figures".to_owned(),
            (None, Some(stats)) => {
                let workers = stats.threads.iter().filter(|t| t.role == "worker").count();
                let mut text = format!(
                    "stratum {}, {workers} workers, {} nodes, {} handles, passthrough {}, in flight {}",
                    stats.stratum,
                    stats.nodes,
                    stats.handles,
                    if stats.passthrough.on { "on" } else { "off" },
                    stats.in_flight.len()
                );
                if let Some(oldest) = stats.in_flight.first() {
                    text.push_str(&format!(
                        " (oldest {}: {} {})",
                        duration(oldest.age_us / 1e6),
                        oldest.op,
                        oldest.path.as_deref().unwrap_or("?")
                    ));
                }
                text
            }
        };
        vec![
            ScreenLine::new(Emphasis::Bold, first),
            ScreenLine::new(Emphasis::Plain, second),
        ]
    }

    fn table(&self) -> impl Iterator<Item = ScreenLine> {
        let title = |sort: Sort| {
            let mark = if self.sort == sort { "*" } else { "" };
            format!("{mark}{}", sort.title(self.view))
        };
        let head = format!(
            "{:>9} {:>8} {:>8} {:>8}  {}",
            title(Sort::Ops),
            title(Sort::Busy),
            title(Sort::Average),
            title(Sort::Failed),
            title(Sort::Name)
        );
        let rows = self.rows().into_iter().map(|row| {
            let text = format!(
                "{:>9.1} {:>8.2} {:>8.1} {:>8.1}  {}",
                row.ops, row.busy_ms, row.average_us, row.failed, row.name
            );
            ScreenLine::new(Emphasis::Plain, text)
        });
        std::iter::once(ScreenLine::new(Emphasis::Title, head)).chain(rows)
    }

    fn keys(&self) -> String {
        if self.is_typing() {
            return format!("filter: {}_   Enter takes it, Esc does not", self.filter);
        }
        let views: Vec<String> = View::ALL
            .iter()
            .map(|view| format!("{} {}", view.key(), view.title()))
            .collect();
        let mut line = format!(
            "{}  s sort  / filter  space pause  q quit",
            views.join("  ")
        );
        if !self.filter.is_empty() {
            line.push_str(&format!("   [only {}]", self.filter));
        }
        line
    }
}
