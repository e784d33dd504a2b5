//! The chart: how many times slower than native, a group of bars for every row, on a logarithmic scale.
//!
//! Drawn in pixels: the axes of a plotting library name the places between discrete rows, not the rows.

use super::results::{BINDFS, MODES, PASSED, ResultRow, Results, STRICT, WATCH};
use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: i32 = 1000;
/// Where the bars' scale begins and ends; names stand to the left of it, and the last value to the right.
const LEFT: i32 = 330;
const RIGHT: i32 = WIDTH - 50;
const TOP: i32 = 92;
const BOTTOM: i32 = 30;
/// Height of a bar, how many a row has, its height with the gap beneath it, and of a file system's heading.
const BAR: i32 = 8;
const BARS: i32 = COLOURS.len() as i32;
const ROW: i32 = BARS * BAR + 8;
const HEADING: i32 = 34;
/// The lines of the scale.
const TICKS: [f64; 10] = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];
const GREY: RGBColor = RGBColor(218, 218, 218);
/// What each mode's bars are filled with.
const COLOURS: [(&str, RGBColor); 4] = [
    (STRICT, RGBColor(150, 190, 230)),
    (PASSED, RGBColor(20, 90, 170)),
    (WATCH, RGBColor(40, 140, 90)),
    (BINDFS, RGBColor(225, 140, 40)),
];

/// A position on the scale, and how far it goes.
struct Scale {
    least: f64,
    most: f64,
}

impl Scale {
    fn of(rows: &[&ResultRow]) -> Scale {
        let all = || {
            rows.iter()
                .flat_map(|row| MODES.iter().filter_map(|mode| row.ratio(mode)))
        };
        let reaches = |tick: &&f64| all().all(|ratio| ratio <= **tick);
        let least = if all().any(|ratio| ratio < 0.97) {
            0.5
        } else {
            1.0
        };
        let most = TICKS.iter().skip(3).find(reaches).copied();
        Scale {
            least,
            most: most.unwrap_or(1000.0),
        }
    }

    fn x(&self, ratio: f64) -> i32 {
        let share = (ratio.clamp(self.least, self.most) / self.least).ln();
        let all = (self.most / self.least).ln();
        LEFT + (f64::from(RIGHT - LEFT) * share / all).round() as i32
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let (least, most) = (self.least, self.most);
        TICKS
            .into_iter()
            .filter(move |t| (least..=most).contains(t))
    }
}

/// Draws the rows of `results` into an SVG file.
pub(crate) fn draw(results: &Results, path: &Path) -> Result<()> {
    // Rows that only another row is compared with, and more of the same.
    let left_out = |row: &ResultRow| row.name.contains("2,500") || row.name.contains("4 clients");
    let rows: Vec<&ResultRow> = results
        .rows
        .iter()
        .filter(|row| row.ratio(PASSED).is_some() && !left_out(row))
        .collect();
    let mut lowers: Vec<&str> = rows.iter().map(|row| row.lower).collect();
    lowers.dedup();
    let end = TOP + lowers.len() as i32 * HEADING + rows.len() as i32 * ROW;
    let size = (WIDTH as u32, (end + BOTTOM) as u32);
    let area = SVGBackend::new(path, size).into_drawing_area();
    area.fill(&WHITE)?;
    let scale = Scale::of(&rows);
    frame(&area, &scale, end)?;
    let mut y = TOP;
    for lower in lowers {
        let title = format!("lower file system: {lower}");
        text(&area, &title, (10, y + HEADING / 2), 16, HPos::Left)?;
        y += HEADING;
        for row in rows.iter().filter(|row| row.lower == lower) {
            bars(&area, &scale, row, y)?;
            y += ROW;
        }
    }
    area.present()?;
    Ok(())
}

/// Title, legend, and the lines of the scale with their numbers above and beneath.
fn frame(area: &Area<'_>, scale: &Scale, end: i32) -> Result<()> {
    let title = "Times slower than native (logarithmic; shorter bars are better)";
    text(area, title, (10, 18), 20, HPos::Left)?;
    let mut x = 10;
    for (mode, colour) in COLOURS {
        area.draw(&Rectangle::new([(x, 40), (x + 22, 52)], colour.filled()))?;
        text(area, mode, (x + 28, 46), 15, HPos::Left)?;
        x += 60 + 9 * mode.len() as i32;
    }
    for tick in scale.ticks() {
        let x = scale.x(tick);
        let (colour, width) = if tick == 1.0 { (BLACK, 2) } else { (GREY, 1) };
        let line = [(x, TOP - 6), (x, end)];
        area.draw(&PathElement::new(line, colour.stroke_width(width)))?;
        let label = match tick {
            1.0 => "native".to_owned(),
            _ => format!("{tick}x"),
        };
        text(area, &label, (x, TOP - 16), 14, HPos::Center)?;
        text(area, &label, (x, end + 12), 14, HPos::Center)?;
    }
    Ok(())
}

/// One row: its name at the height of its middle bar, and a bar for every mode from native's line on.
fn bars(area: &Area<'_>, scale: &Scale, row: &ResultRow, y: i32) -> Result<()> {
    let name = row.name.split(" (").next().unwrap_or(&row.name);
    text(area, name, (LEFT - 12, y + BARS * BAR / 2), 14, HPos::Right)?;
    for (band, (mode, colour)) in COLOURS.into_iter().enumerate() {
        let Some(ratio) = row.ratio(mode) else {
            continue;
        };
        let top = y + band as i32 * BAR;
        let (from, to) = (scale.x(1.0), scale.x(ratio));
        // One that is as fast as native is seen as well.
        let (from, to) = (from.min(to), to.max(from + 2));
        let corners = [(from, top), (to, top + BAR - 1)];
        area.draw(&Rectangle::new(corners, colour.filled()))?;
        let value = format!("{ratio:.1}");
        text(area, &value, (to + 4, top + BAR / 2), 10, HPos::Left)?;
    }
    Ok(())
}

/// Writes `words` with the middle of their height at the given place.
fn text(area: &Area<'_>, words: &str, at: (i32, i32), size: i32, side: HPos) -> Result<()> {
    let style = ("sans-serif", size)
        .into_font()
        .color(&BLACK)
        .pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(words.to_owned(), at, style))?;
    Ok(())
}
