//! The three parts of bedrock.conf that concern etcfs.
//!
//! Sections are in square brackets, comments begin with `#`, a value may be several, separated by commas. A line goes
//! on in the next one after a backslash, or after a comma at its end. Read here: to a crate for INI files such a line is two.

use serde::Serialize;

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Warning {
    /// The line of the file.
    pub line: usize,
    /// A sentence without a full stop.
    pub text: String,
}

/// What the file says about /etc.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Conf {
    /// `[global] etc`: line and path.
    pub globals: Vec<(usize, String)>,
    /// `[etc-symlinks]`: line, path, target.
    pub symlinks: Vec<(usize, String, String)>,
    /// `[etc-inject]`: line, path, source.
    pub injects: Vec<(usize, String, String)>,
    /// What could not be read.
    pub warnings: Vec<Warning>,
}

impl Conf {
    /// Reads a file; `line` is where an entry begins.
    pub(super) fn parse(text: &str) -> Conf {
        let mut conf = Conf::default();
        let mut section = String::new();
        for (line, text) in joined(text) {
            if let Some(name) = text.strip_prefix('[') {
                match name.strip_suffix(']') {
                    Some(name) => section = name.trim().to_owned(),
                    None => conf.warn(line, format!("`{text}` is no section: the ] is missing")),
                }
                continue;
            }
            match text.split_once('=') {
                Some((key, value)) => conf.entry(&section, line, key.trim(), value.trim()),
                None => conf.warn(
                    line,
                    format!("`{text}` is neither a section nor `key = value`"),
                ),
            }
        }
        conf
    }

    fn entry(&mut self, section: &str, line: usize, key: &str, value: &str) {
        match section {
            "global" if key == "etc" => {
                let paths = value.split(',').map(str::trim);
                for path in paths.filter(|path| !path.is_empty()) {
                    self.globals.push((line, path.to_owned()));
                }
            }
            "etc-symlinks" => self.symlinks.push((line, key.to_owned(), value.to_owned())),
            "etc-inject" => self.injects.push((line, key.to_owned(), value.to_owned())),
            _ => {}
        }
    }

    fn warn(&mut self, line: usize, text: String) {
        self.warnings.push(Warning { line, text });
    }
}

/// Lines without comments and blank ones, with what goes on joined.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let (text, slash) = match line.strip_suffix('\\') {
            Some(text) => (text.trim_end(), true),
            None => (line, false),
        };
        match lines.last_mut() {
            Some((_, last)) if open => {
                last.push(' ');
                last.push_str(text);
            }
            _ => lines.push((at + 1, text.to_owned())),
        }
        open = slash || text.ends_with(',');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_on_over_commas_and_backslashes() {
        let text = "[global]\n# all\netc = a, b, # two\n  c\\\n, d\nshare = /boot\n[etc-inject]\nprofile=/x y\n";
        let conf = Conf::parse(text);
        let paths: Vec<_> = conf.globals.iter().map(|(l, p)| (*l, p.as_str())).collect();
        assert_eq!(paths, [(3, "a"), (3, "b"), (3, "c"), (3, "d")]);
        assert_eq!(conf.injects, [(8, "profile".to_owned(), "/x y".to_owned())]);
        assert_eq!(conf.warnings, []);
    }

    #[test]
    fn what_is_no_entry_is_told() {
        let conf = Conf::parse("[global\nnonsense\n");
        let lines: Vec<usize> = conf.warnings.iter().map(|w| w.line).collect();
        assert_eq!(lines, [1, 2]);
    }
}
