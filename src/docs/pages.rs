//! The man pages.

use super::help::{Help, Section};
use roff::{Inline, Roff, bold, roman};

/// A subcommand: its name, its line in the list, its own help.
pub(crate) type CommandHelp = (String, String, Help);

/// What `etcfsctl help` explains besides its commands.
const TOPICS: &[(&str, &str)] = &[
    ("LIMITS", include_str!("topics/limits.txt")),
    ("FILE LOCKS", include_str!("topics/locks.txt")),
    ("RENAMES ACROSS SIDES", include_str!("topics/renames.txt")),
    ("PASSTHROUGH", include_str!("topics/passthrough.txt")),
    ("CACHE", include_str!("topics/cache.txt")),
    ("SECURITY", include_str!("topics/security.txt")),
    ("COSTS", include_str!("topics/costs.txt")),
    ("SURVIVAL", include_str!("topics/survival.txt")),
    ("SHUTDOWN", include_str!("topics/shutdown.txt")),
    ("FAULTS", include_str!("topics/faults.txt")),
];

/// etcfs(8).
pub(crate) fn etcfs(help: &Help) -> String {
    let mut page = begin("ETCFS", "8", "etcfs", "serves Bedrock Linux's /etc");
    synopsis(&mut page, &help.usage);
    page.control("SH", ["DESCRIPTION"]);
    for section in &help.sections {
        if !section.title.is_empty() {
            page.control("SH", [section.title.to_uppercase().as_str()]);
        }
        let skip = usize::from(section.title.is_empty());
        body(&mut page, section, skip);
    }
    for (title, text) in TOPICS {
        page.control("SH", [*title]);
        for section in &Help::parse(text).sections {
            if !section.title.is_empty() {
                page.control("SS", [section.title.as_str()]);
            }
            body(&mut page, section, 0);
        }
    }
    prose(&mut page, include_str!("etcfs.txt"));
    page.to_roff()
}

/// etcfsctl(8).
pub(crate) fn etcfsctl(help: &Help, commands: &[CommandHelp]) -> String {
    let mut page = begin(
        "ETCFSCTL",
        "8",
        "etcfsctl",
        "asks a running etcfs what it does",
    );
    synopsis(&mut page, &help.usage);
    page.control("SH", ["DESCRIPTION"]);
    for section in help
        .sections
        .iter()
        .filter(|s| !s.title.starts_with("Commands"))
    {
        if !section.title.is_empty() {
            page.control("SH", [section.title.to_uppercase().as_str()]);
        }
        body(&mut page, section, 0);
    }
    page.control("SH", ["COMMANDS"]);
    for (name, _, help) in commands {
        page.control("SS", [name.as_str()]);
        for line in &help.usage {
            page.text([bold(line.as_str())]);
            page.control("PP", [] as [&str; 0]);
        }
        // Said once, of the program.
        let own = |section: &&Section| !section.title.starts_with("Options of all");
        for section in help.sections.iter().filter(own) {
            body(&mut page, section, 0);
        }
    }
    prose(&mut page, include_str!("etcfsctl.txt"));
    page.to_roff()
}

/// etcfs-config(5).
pub(crate) fn config() -> String {
    let name = "etcfs-config";
    let what = "the file that configures a mount of etcfs, .bedrock-config-filesystem";
    let mut page = begin("ETCFS-CONFIG", "5", name, what);
    prose(&mut page, include_str!("etcfs-config.txt"));
    page.to_roff()
}

fn begin(title: &str, section: &str, name: &str, what: &str) -> Roff {
    let mut page = Roff::new();
    let version = concat!("etcfs ", env!("CARGO_PKG_VERSION"));
    page.control("TH", [title, section, "", version, "Bedrock Linux"]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{name} - {what}"))]);
    page
}

fn synopsis(page: &mut Roff, usage: &[String]) {
    page.control("SH", ["SYNOPSIS"]);
    for line in usage {
        page.text([bold(line.as_str())]);
        page.control("br", [] as [&str; 0]);
    }
}

/// Text in the form of help, under headings of its own.
fn prose(page: &mut Roff, text: &str) {
    for section in &Help::parse(text).sections {
        if !section.title.is_empty() {
            page.control("SH", [section.title.to_uppercase().as_str()]);
        }
        body(page, section, 0);
    }
}

/// Paragraphs, then terms. `skip`: paragraphs that say what the NAME section has said.
fn body(page: &mut Roff, section: &Section, skip: usize) {
    for paragraph in section.paragraphs.iter().skip(skip) {
        page.control("PP", [] as [&str; 0]);
        page.text([roman(paragraph.as_str())]);
    }
    for item in &section.items {
        page.control("TP", [] as [&str; 0]);
        page.text([bold(item.term.as_str())]);
        let text: Vec<Inline> = vec![roman(item.text.as_str())];
        page.text(text);
    }
}
