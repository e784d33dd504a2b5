//! The rules that a recording was made under, as lines of text; see `etcfs_proto::capture` for their form.

use crate::fs::Fs;
use crate::fs::config::{Command, Config, parse_line};
use crate::fs::configuration::Sources;
use crate::fs::ids::Side;
use crate::fs::rules::side_of;
use crate::fs::rules::{OverrideKind, Rules};
use std::collections::HashMap;
use std::sync::Arc;

/// The longest text of a record, bytes: half of what a record may have.
const TEXT_MAX: usize = (etcfs_proto::capture::MESSAGE_MAX / 2) as usize;

/// The rules in force in `fs`.
pub(crate) fn write(fs: &Fs) -> Vec<u8> {
    let config = fs.configuration.get();
    let mut lines: Vec<Vec<u8>> = Vec::new();
    if fs.settings.exact_globals {
        lines.push(b"legacy_global exact".to_vec());
    }
    lines.extend(
        config
            .globals()
            .map(|path| [b"add_global /", path].concat()),
    );
    for over in config.overrides() {
        if over.kind == OverrideKind::Inject {
            let len = format!("source {} ", over.text.len());
            lines.push([len.as_bytes(), &over.content].concat());
        }
        let kind = over.kind.word().as_bytes();
        let words: [&[u8]; 6] = [
            b"add_override ",
            kind,
            b" /",
            &over.path,
            b" ",
            &over.content,
        ];
        lines.push(words.concat());
    }
    let mut text = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if text.len() + line.len() > TEXT_MAX {
            text.extend_from_slice(format!("more {}\n", lines.len() - at).as_bytes());
            break;
        }
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text
}

/// The rules of a recording from one of its requests on.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// Only listed names are global.
    pub(crate) exact: bool,
    /// The commands that make the configuration.
    pub(crate) commands: Vec<Command>,
    /// The paths of injected texts, and the texts' lengths.
    pub(crate) sources: Vec<(Box<[u8]>, usize)>,
    /// Lines that are missing or not understood.
    pub missing: u64,
}

impl Recorded {
    /// Reads the text of a record.
    pub(crate) fn read(text: &[u8]) -> Recorded {
        let mut rules = Recorded::default();
        for line in text
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            if rules.line(line).is_none() {
                rules.missing += 1;
            }
        }
        rules
    }

    fn line(&mut self, line: &[u8]) -> Option<()> {
        let number =
            |digits: &[u8]| -> Option<u64> { std::str::from_utf8(digits).ok()?.parse().ok() };
        if line == b"legacy_global exact" {
            self.exact = true;
        } else if let Some(rest) = line.strip_prefix(b"more ") {
            self.missing += number(rest)?;
        } else if let Some(rest) = line.strip_prefix(b"source ") {
            let blank = rest.iter().position(|&byte| byte == b' ')?;
            let len = usize::try_from(number(&rest[..blank])?).ok()?;
            let most = crate::fs::configuration::INJECT_MAX as usize;
            self.sources.push((rest[blank + 1..].into(), len.min(most)));
        } else {
            self.commands.push(parse_line(line).ok()?);
        }
        Some(())
    }

    /// Texts of the recorded lengths in place of those that were injected.
    pub(crate) fn made_up_sources(all: &[(usize, Recorded)]) -> Sources {
        let sources = all.iter().flat_map(|(_, rules)| &rules.sources);
        sources
            .map(|(path, len)| (path.clone(), made_up(path, *len)))
            .collect()
    }

    /// These rules, for asking about paths.
    pub(crate) fn compile(&self) -> Compiled {
        let texts: HashMap<_, _> = self
            .sources
            .iter()
            .map(|(path, len)| (path, *len))
            .collect();
        let mut config = Config::new();
        for command in &self.commands {
            let text = command
                .source()
                .map(|path| made_up(path, texts.get(&Box::from(path)).copied().unwrap_or(0)));
            if let Ok(changed) = config.apply(command, text) {
                config = changed;
            }
        }
        Compiled {
            rules: config.compile(1),
            exact: self.exact,
        }
    }
}

/// A text of `len` bytes that no other source has.
fn made_up(path: &[u8], len: usize) -> Arc<[u8]> {
    let line = [b"# ", path, b"\n"].concat();
    line.iter().copied().cycle().take(len).collect()
}

/// Rules that can be asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Compiled {
    rules: Rules,
    exact: bool,
}

impl Compiled {
    /// The side of `path`.
    pub(crate) fn side(&self, path: &[u8]) -> Side {
        side_of(&self.rules.find(path), &self.rules, self.exact)
    }

    /// The text that is injected into `path`.
    pub(crate) fn injected(&self, path: &[u8]) -> Option<Arc<[u8]>> {
        let over = self.rules.find(path).over?;
        (over.kind == OverrideKind::Inject).then(|| over.text.clone())
    }

    /// The target that the symlink `path` is made to have.
    pub(crate) fn target(&self, path: &[u8]) -> Option<Vec<u8>> {
        let over = self.rules.find(path).over?;
        (over.kind == OverrideKind::Symlink).then(|| over.content.to_vec())
    }
}
