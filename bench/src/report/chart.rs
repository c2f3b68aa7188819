//! The charts, as SVG.

use std::path::Path;

use plotters::prelude::*;

use super::judge::Judged;
use super::text::{factor, number};
use crate::results::{Comparison, Group, median};
use crate::sample::Side;
use crate::scenario::Goal;
use crate::trouble::{Result, Trouble};

const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0xb5);
const THEIRS: RGBColor = RGBColor(0xc4, 0x6a, 0x1b);
const MISSED: RGBColor = RGBColor(0xb5, 0x3a, 0x3a);

/// Pixels of one bar's line.
const LINE: i32 = 22;
/// Pixels for the names on the left.
const NAMES: i32 = 380;
/// Pixels for the bars.
const BARS: i32 = 420;
/// Pixels for the figures on the right.
const FIGURES: i32 = 130;

/// Charts of the scale scenario: series and caption.
pub(super) const SCALE: [(&str, &str); 4] = [
    ("create", "CPU per create at each size, µs"),
    (
        "process",
        "memory per idle process at each size, bytes of PSS",
    ),
    (
        "follower",
        "memory per idle follower at each size, bytes of PSS",
    ),
    ("get", "CPU per GET of one process at each size, µs"),
];

fn drawing<E: std::fmt::Display>(error: E) -> Trouble {
    Trouble::Setup(format!("a chart cannot be drawn: {error}"))
}

fn style(size: i32, color: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&color)
}

/// Factors of all rows that have a target, on a logarithmic axis; a mark shows the target.
pub(super) fn factors(path: &Path, judged: &[Judged]) -> Result<()> {
    let rows: Vec<(&Judged, f64, f64)> = judged
        .iter()
        .filter_map(|judged| match (judged.row.goal, judged.factor()) {
            (Goal::Factor(wanted), Some(factor)) => Some((judged, factor, wanted)),
            _ => None,
        })
        .collect();
    let height = 60 + LINE * i32::try_from(rows.len()).unwrap_or(0);
    let area =
        SVGBackend::new(path, ((NAMES + BARS + FIGURES) as u32, height as u32)).into_drawing_area();
    area.fill(&WHITE).map_err(drawing)?;
    // From a half to a thousand.
    let x = |value: f64| {
        NAMES + ((value.clamp(0.5, 1000.0) / 0.5).ln() / 2000f64.ln() * f64::from(BARS)) as i32
    };
    for tick in [
        0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0,
    ] {
        area.draw(&PathElement::new(
            [(x(tick), 30), (x(tick), height - 10)],
            GRID,
        ))
        .map_err(drawing)?;
        area.draw(&Text::new(
            format!("×{tick}"),
            (x(tick) - 8, 12),
            style(11, INK),
        ))
        .map_err(drawing)?;
    }
    for (index, (judged, value, wanted)) in rows.iter().enumerate() {
        let top = 36 + LINE * i32::try_from(index).unwrap_or(0);
        let name = format!("{}: {}", judged.scenario.name, judged.row.label);
        area.draw(&Text::new(name, (8, top), style(12, INK)))
            .map_err(drawing)?;
        let color = if value >= wanted { OURS } else { MISSED };
        let bar = [
            (x(1.0).min(x(*value)), top),
            (x(1.0).max(x(*value)), top + LINE - 8),
        ];
        area.draw(&Rectangle::new(bar, color.filled()))
            .map_err(drawing)?;
        let mark = [(x(*wanted), top - 3), (x(*wanted), top + LINE - 5)];
        area.draw(&PathElement::new(mark, INK.stroke_width(2)))
            .map_err(drawing)?;
        let text = format!("{} of {}", factor(*value), factor(*wanted));
        area.draw(&Text::new(text, (NAMES + BARS + 8, top), style(12, INK)))
            .map_err(drawing)?;
    }
    area.present().map_err(drawing)
}

/// One bar per alternative, of the first column.
pub(super) fn bars(path: &Path, group: &Group) -> Result<()> {
    let rows: Vec<(&str, f64)> = group
        .rows
        .iter()
        .filter_map(|row| {
            let values: Vec<f64> = row
                .rounds
                .iter()
                .filter_map(|round| round.first().copied())
                .collect();
            Some((row.name.as_str(), median(&values)?))
        })
        .collect();
    let height = 50 + LINE * i32::try_from(rows.len()).unwrap_or(0);
    let area =
        SVGBackend::new(path, ((NAMES + BARS + FIGURES) as u32, height as u32)).into_drawing_area();
    area.fill(&WHITE).map_err(drawing)?;
    let (name, unit) = group
        .columns
        .first()
        .map(|(name, unit)| (name.as_str(), unit.as_str()))
        .unwrap_or_default();
    area.draw(&Text::new(
        format!("{name} ({unit})"),
        (NAMES, 10),
        style(13, INK),
    ))
    .map_err(drawing)?;
    let most = rows
        .iter()
        .map(|(_, value)| *value)
        .fold(f64::MIN_POSITIVE, f64::max);
    for (index, (name, value)) in rows.iter().enumerate() {
        let top = 36 + LINE * i32::try_from(index).unwrap_or(0);
        area.draw(&Text::new((*name).to_owned(), (8, top), style(12, INK)))
            .map_err(drawing)?;
        let end = NAMES + (value / most * f64::from(BARS)) as i32;
        let color = if index == 0 { THEIRS } else { OURS };
        area.draw(&Rectangle::new(
            [(NAMES, top), (end, top + LINE - 8)],
            color.filled(),
        ))
        .map_err(drawing)?;
        area.draw(&Text::new(number(*value), (end + 6, top), style(12, INK)))
            .map_err(drawing)?;
    }
    area.present().map_err(drawing)
}

/// Cost per unit against size, every server, from the last round that has the series.
pub(super) fn scale(folder: &Path, prefix: &str, run: &Comparison) -> Result<()> {
    let Some(measured) = run
        .scenarios
        .iter()
        .find(|measured| measured.name == "scale")
    else {
        return Ok(());
    };
    for (key, caption) in SCALE {
        let series = |side| {
            measured
                .samples(side)
                .filter_map(|sample| sample.series.get(key))
                .last()
                .cloned()
        };
        let lines: Vec<_> = measured
            .sides()
            .map(|side| {
                let color = match side {
                    Side::Procring => OURS,
                    Side::Reference => THEIRS,
                    Side::Baseline => INK,
                };
                (side.name(), series(side).unwrap_or_default(), color)
            })
            .collect();
        let points = || {
            lines
                .iter()
                .flat_map(|(_, points, _)| points.iter().copied())
        };
        let right = points().map(|point| point.0).fold(1.0, f64::max);
        let top = points().map(|point| point.1).fold(1.0, f64::max) * 1.1;
        let path = folder.join(format!("{prefix}-{key}.svg"));
        let area = SVGBackend::new(&path, (720, 320)).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(caption, style(15, INK))
            .margin(12)
            .x_label_area_size(32)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..right * 1.03, 0.0..top)
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(GRID)
            .x_desc("processes and followers")
            .x_label_formatter(&|size| format!("{size:.0}"))
            .y_label_formatter(&|cost| number(*cost))
            .draw()
            .map_err(drawing)?;
        for (name, points, color) in lines {
            let circles = points
                .iter()
                .map(|point| Circle::new(*point, 3, color.filled()))
                .collect::<Vec<_>>();
            chart
                .draw_series(LineSeries::new(points, color.stroke_width(2)))
                .map_err(drawing)?
                .label(name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2))
                });
            chart.draw_series(circles).map_err(drawing)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE)
            .border_style(GRID)
            .label_font(style(12, INK))
            .draw()
            .map_err(drawing)?;
        area.present().map_err(drawing)?;
    }
    Ok(())
}
