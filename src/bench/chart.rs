//! The chart: how many times slower than native, row by row, on a logarithmic scale.

use super::report::{MODES, Results, Row};
use anyhow::Result;
use plotters::prelude::*;
use std::path::Path;

const WIDTH: u32 = 1000;
const LINE: u32 = 34;
const LABELS: u32 = 380;

/// Draws the rows of `results` into an SVG file.
pub fn draw(results: &Results, path: &Path) -> Result<()> {
    let rows: Vec<&Row> = results
        .rows
        .iter()
        .filter(|row| row.ratio("etcfs passthrough").is_some())
        .collect();
    let height = LINE * (rows.len() as u32 + 3);
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let most = rows
        .iter()
        .flat_map(|row| MODES.iter().filter_map(|mode| row.ratio(mode)))
        .fold(10.0_f64, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .caption(
            "times slower than native (less is better)",
            ("sans-serif", 20),
        )
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(LABELS)
        .build_cartesian_2d(
            (0.9_f64..most * 1.2).log_scale(),
            0.0_f64..rows.len() as f64,
        )?;
    let label = |at: &f64| {
        let index = at.floor() as usize;
        match rows.len().checked_sub(index + 1).and_then(|n| rows.get(n)) {
            Some(row) => format!("{}, {}", row.lower, row.name),
            None => String::new(),
        }
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(rows.len())
        .y_label_formatter(&label)
        .y_label_style(("sans-serif", 12))
        .draw()?;
    let colours = [(MODES[1], BLUE), (MODES[2], GREEN), (MODES[3], RED)];
    for (band, (mode, colour)) in colours.into_iter().enumerate() {
        let bars = rows.iter().enumerate().filter_map(|(index, row)| {
            let bottom = (rows.len() - index - 1) as f64 + 0.1 + 0.27 * (2 - band) as f64;
            let ratio = row.ratio(mode)?;
            Some(Rectangle::new(
                [(0.9, bottom), (ratio, bottom + 0.25)],
                colour.filled(),
            ))
        });
        chart
            .draw_series(bars)?
            .label(mode)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    root.present()?;
    Ok(())
}
