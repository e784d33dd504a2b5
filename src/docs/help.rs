//! Help text, read back: a usage line, paragraphs, and sections of terms with their explanations.

/// One term of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HelpItem {
    /// Such as `-f` or `global=DIR`.
    pub term: String,
    /// What it means.
    pub text: String,
}

/// A heading and what stands under it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Section {
    /// Without its colon; empty for what comes before the first heading.
    pub title: String,
    /// Running text.
    pub paragraphs: Vec<String>,
    /// Terms.
    pub items: Vec<HelpItem>,
}

/// A whole help text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Help {
    /// The first line of those that begin with `Usage:`, without that word, and its continuations.
    pub usage: Vec<String>,
    /// Everything else.
    pub sections: Vec<Section>,
}

impl Help {
    /// Reads help text. A heading is a line that begins at the margin and ends with a colon; a term is indented by two
    /// columns and parted from its text by at least two blanks or a line break; deeper lines go on with the text.
    pub(crate) fn parse(text: &str) -> Help {
        let mut help = Help {
            usage: Vec::new(),
            sections: vec![Section::default()],
        };
        let mut in_usage = false;
        let mut in_paragraph = false;
        for line in text.lines() {
            let indent = line.len() - line.trim_start().len();
            let words = line.trim();
            let Some(section) = help.sections.last_mut() else {
                break;
            };
            if words.is_empty() {
                (in_usage, in_paragraph) = (false, false);
            } else if let Some(usage) = line.strip_prefix("Usage:") {
                help.usage.push(usage.trim().to_owned());
                in_usage = true;
            } else if in_usage {
                help.usage.push(words.trim_start_matches("| ").to_owned());
            } else if indent == 0 && words.ends_with(':') {
                help.sections.push(Section {
                    title: words.trim_end_matches(':').to_owned(),
                    ..Section::default()
                });
            } else if indent == 2 {
                let (term, text) = words.split_once("  ").unwrap_or((words, ""));
                section.items.push(HelpItem {
                    term: term.to_owned(),
                    text: text.trim().to_owned(),
                });
            } else if let (true, Some(item)) = (indent > 2, section.items.last_mut()) {
                join(&mut item.text, words);
            } else if let (true, Some(paragraph)) = (in_paragraph, section.paragraphs.last_mut()) {
                join(paragraph, words);
            } else {
                section.paragraphs.push(words.to_owned());
                in_paragraph = true;
            }
        }
        help
    }

    /// The terms of the sections whose title begins so.
    pub(crate) fn items<'a>(&'a self, title: &'a str) -> impl Iterator<Item = &'a HelpItem> {
        self.sections
            .iter()
            .filter(move |section| section.title.starts_with(title))
            .flat_map(|section| &section.items)
    }

    /// Every `-o` option's name: the terms of the titled sections that are no switches.
    pub(crate) fn mount_options(&self) -> Vec<(String, String)> {
        let named = self
            .sections
            .iter()
            .filter(|s| s.title.starts_with("Options of"));
        named
            .flat_map(|section| &section.items)
            .flat_map(|item| {
                let names = item
                    .term
                    .split(", ")
                    .map(str::trim)
                    .filter(|n| !n.is_empty());
                names.map(|name| (name.to_owned(), item.text.clone()))
            })
            .filter(|(name, _)| name.starts_with(|c: char| c.is_ascii_lowercase()))
            .collect()
    }
}

fn join(text: &mut String, more: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(more);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_paragraphs_and_terms_are_told_apart() {
        let help = Help::parse(
            "name - what\n\nUsage: name [-f] X\n\nFirst line\nsecond line.\n\n  -f, --force    do it\n                 anyway\n\nOptions of us:\n  a=N          a number\n  b, c\n               two\n",
        );
        assert_eq!(help.usage, ["name [-f] X"]);
        assert_eq!(help.sections[0].paragraphs[1], "First line second line.");
        assert_eq!(help.sections[0].items[0].text, "do it anyway");
        let options: Vec<String> = help.mount_options().into_iter().map(|o| o.0).collect();
        assert_eq!(options, ["a=N", "b", "c"]);
    }
}
