//! Names that somebody has most likely meant. One slip is all that is looked for: less than a crate of edit distances.

/// The known name that `written` most likely means: the one that differs in one place only.
pub fn likely<'a>(written: &str, mut known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = written.split('=').next().unwrap_or(written);
    let close = |known: &str| {
        let (a, b) = (name.as_bytes(), known.as_bytes());
        let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
        let rest = (a.len() - head).min(b.len() - head);
        let tail = a.iter().rev().zip(b.iter().rev()).take(rest);
        let tail = tail.take_while(|(x, y)| x == y).count();
        a.len().max(b.len()) <= head + tail + 1 && a.len() > 2
    };
    known.find(|known| close(known))
}
