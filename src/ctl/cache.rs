//! What the kernel keeps, told and let go of.

use super::Control;
use super::report::{CacheReport, Dropped};
use crate::fs::ids::Side;
use crate::fs::rules::Ruling;
use crate::fs::watch::Counted;
use std::ffi::CString;

impl Control {
    /// The state of the mode.
    pub(super) fn cache(&self) -> CacheReport {
        let watch = &self.session.fs.watch;
        let counted = watch.on().map(|on| on.counted());
        let of = |field: fn(&Counted) -> u64| counted.as_ref().map_or(0, field);
        CacheReport {
            mode: match (&counted, watch.why_off()) {
                (Some(_), _) => "watch".to_owned(),
                (None, Some(why)) => format!("strict, though cache=watch was asked for: {why}"),
                (None, None) => "strict".to_owned(),
            },
            kept: of(|c| c.kept as u64),
            watched: of(|c| c.watched as u64),
            most: of(|c| c.most as u64),
            bytes: of(|c| c.bytes as u64),
            dropped_by_event: of(|c| c.by_event),
            overflows: of(|c| c.overflows),
            evicted: of(|c| c.evicted),
            oldest_event_ms: of(|c| c.oldest),
            failed: counted.is_some_and(|c| c.failed),
        }
    }

    /// Whether the kernel keeps what `path`, without slashes around it, leads to, and why not.
    pub(super) fn keeps(&self, path: &str, found: &Ruling<'_>, side: Side) -> String {
        let fs = &self.session.fs;
        let Some(on) = fs.watch.on() else {
            return match fs.watch.why_off() {
                Some(why) => format!("no: {why}"),
                None => "no (cache=strict)".to_owned(),
            };
        };
        if side == Side::Global {
            return "no: global files are changed by other strata".to_owned();
        }
        if found.over.is_some() {
            return "no: it is overridden".to_owned();
        }
        if path.is_empty() {
            return "its attributes, while the directory is watched".to_owned();
        }
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let at = |path: &str| {
            let path = CString::new(path).ok()?;
            fs.explain.object_at(side, &path).ok()
        };
        let stat = at(path).map(|(stat, _)| stat);
        match at(above).and_then(|(_, node)| node) {
            Some(dir) => on
                .says(&dir, name.as_bytes(), stat.as_ref())
                .text()
                .to_owned(),
            None => "no: nobody has looked it up lately".to_owned(),
        }
    }

    /// Has the kernel let go of everything, or of what it keeps of one path.
    pub(super) fn let_go(&self, path: Option<&str>) -> Result<Dropped, String> {
        let fs = &self.session.fs;
        let Some(on) = fs.watch.on() else {
            return Err("the kernel keeps nothing (cache=strict)".to_owned());
        };
        let Some(path) = path else {
            let kept = on.counted().kept as u64;
            on.drop_everything();
            return Ok(Dropped { names: kept });
        };
        let parts: Vec<&str> = path
            .split('/')
            .filter(|part| !matches!(*part, "" | "."))
            .collect();
        let node = |parts: &[&str]| {
            let path = CString::new(parts.join("/")).ok()?;
            fs.explain.object_at(Side::Local, &path).ok()?.1
        };
        let mut names = 0;
        let within = parts.split_last();
        let within = within.and_then(|(name, above)| Some((name, node(above)?)));
        if let Some((name, dir)) = within {
            names += u64::from(on.drop_name(dir.id, name.as_bytes()));
        }
        if let Some(dir) = node(&parts).filter(|node| node.is_dir()) {
            names += on.drop_one(dir.id);
        }
        Ok(Dropped { names })
    }
}
