//! The terminal while `top` has it: the other screen, keys at once and not shown, no cursor.

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::style::{Attribute, Color, Print, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};
use std::io::{Stdout, Write as _, stdout};
use unicode_width::UnicodeWidthChar as _;

/// How a line stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Emphasis {
    #[default]
    Plain,
    Bold,
    Title,
    /// Reversed, the whole width.
    Keys,
}

/// One line of the picture.
#[derive(Debug, Clone, Default)]
pub(super) struct ScreenLine {
    emphasis: Emphasis,
    text: String,
}

impl ScreenLine {
    pub(super) fn new(emphasis: Emphasis, text: String) -> ScreenLine {
        ScreenLine { emphasis, text }
    }
}

/// The terminal, which is as it was before when this is dropped, panic included.
pub(super) struct Terminal(Stdout);

impl Terminal {
    /// Takes it.
    ///
    /// # Errors
    /// What the terminal says: there may be none.
    pub(super) fn take() -> std::io::Result<Terminal> {
        enable_raw_mode()?;
        let mut terminal = Terminal(stdout());
        execute!(terminal.0, EnterAlternateScreen, Hide)?;
        Ok(terminal)
    }

    /// Puts up a picture of as many lines as `lines` is told to make.
    ///
    /// # Errors
    /// What the terminal says.
    pub(super) fn draw(
        &mut self,
        lines: impl FnOnce(usize) -> Vec<ScreenLine>,
    ) -> std::io::Result<()> {
        let (columns, rows) = size()?;
        let out = &mut self.0;
        queue!(out, BeginSynchronizedUpdate)?;
        for (row, line) in (0..rows).zip(lines(rows.into())) {
            let (text, used) = cut(&line.text, columns.into());
            let rest = usize::from(columns) - used;
            queue!(out, MoveTo(0, row))?;
            match line.emphasis {
                Emphasis::Plain => {}
                Emphasis::Bold => queue!(out, SetAttribute(Attribute::Bold))?,
                Emphasis::Title => queue!(out, SetForegroundColor(Color::DarkCyan))?,
                Emphasis::Keys => queue!(out, SetAttribute(Attribute::Reverse))?,
            }
            queue!(out, Print(text))?;
            if line.emphasis == Emphasis::Keys {
                queue!(out, Print(" ".repeat(rest)))?;
            }
            queue!(out, SetAttribute(Attribute::Reset))?;
            // After the last column the cursor still stands on it, and what is there would be cleared.
            if rest > 0 && line.emphasis != Emphasis::Keys {
                queue!(out, Clear(ClearType::UntilNewLine))?;
            }
        }
        queue!(out, EndSynchronizedUpdate)?;
        out.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = execute!(self.0, Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

/// As much of `text` as `columns` have room for, without what would move the cursor, and the columns that it takes.
fn cut(text: &str, columns: usize) -> (String, usize) {
    let mut used = 0;
    let mut kept = String::new();
    for c in text.chars() {
        let Some(width) = c.width() else { continue };
        if used + width > columns {
            break;
        }
        used += width;
        kept.push(c);
    }
    (kept, used)
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn a_line_ends_with_the_last_character_that_has_room() {
        assert_eq!(cut("abc", 3), ("abc".to_owned(), 3));
        assert_eq!(cut("abcd", 3), ("abc".to_owned(), 3));
        assert_eq!(cut("a漢字", 4), ("a漢".to_owned(), 3));
        assert_eq!(cut("漢", 1), (String::new(), 0));
        assert_eq!(cut("e\u{301}x", 1), ("e\u{301}".to_owned(), 1));
    }

    #[test]
    fn what_would_move_the_cursor_is_left_out() {
        assert_eq!(cut("a\r\x1b[2Jb\n", 9), ("a[2Jb".to_owned(), 5));
    }
}
