//! Draws charts as SVG. The same chart gives the same bytes: sizes of letters are estimated, no font of the machine is asked.
//!
//! Colours are those of Okabe and Ito, which the colour-blind can tell apart; a way also has a dash and a mark of its own, for print
//! without colour. Names stand beside the lines' ends.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::combinators::BindKeyPoints as _;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::charts::{AT_ZERO, Axis, Bar, Chart, Drawing, Look, Scale, Series};
use crate::lab::table::nanos;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The whole picture as the text of an SVG file.
pub(in crate::lab) fn draw(chart: &Chart) -> Result<String> {
    let mut svg = String::new();
    let size = match &chart.drawing {
        Drawing::Lines { .. } => SIZE,
        Drawing::Bars { bars, .. } => (WIDE, 110 + KEY + BAR * bars.len() as u32),
    };
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let drawn = area.fill(&WHITE).map_err(|error| anyhow!("{error}")).and_then(|()| match &chart.drawing {
            Drawing::Lines { x, y, series } => lines(&area, x, y, series),
            Drawing::Bars { x, bars } => self::bars(&area, x, bars),
        });
        drawn.map_err(|error| error.context(format!("cannot draw {}", chart.name)))?;
        area.present().map_err(|error| anyhow!("cannot draw {}: {error}", chart.name))?;
    }
    Ok(svg)
}

fn lines(area: &Area<'_>, x: &Axis, y: &Axis, series: &[Series]) -> Result<()> {
    let points = || series.iter().flat_map(|series| &series.points);
    let xs = range(points().map(|point| x.scale.place(point.x)));
    let ys = range(points().flat_map(|point| [point.y].into_iter().chain(point.ends.into_iter().flatten())));
    let ((x_ticks, x_light), (y_ticks, y_light)) = (ticks(x.scale, xs), ticks(y.scale, ys));
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .margin_right(NAMES)
        .x_label_area_size(74)
        .y_label_area_size(112)
        .build_cartesian_2d(
            (xs[0]..xs[1]).log_scale().with_key_points(x_ticks).with_light_points(x_light),
            (ys[0]..ys[1]).log_scale().with_key_points(y_ticks).with_light_points(y_light),
        )?;
    chart
        .configure_mesh()
        .x_desc(&x.label)
        .y_desc(&y.label)
        .x_label_formatter(&|value| tick(x.scale, *value))
        .y_label_formatter(&|value| tick(y.scale, *value))
        .label_style(letters(TEXT))
        .axis_desc_style(letters(TEXT))
        .axis_style(QUIET)
        .bold_line_style(GRID)
        .light_line_style(LIGHT_GRID)
        .draw()?;
    let mut names = Vec::new();
    for series in series {
        let style = Style::of(series.look);
        let at = |point: &super::charts::Point| (x.scale.place(point.x), point.y);
        // Dashes are laid out in pixels, over the line as a whole.
        let line: Vec<_> = series.points.iter().map(|point| chart.backend_coord(&at(point))).collect();
        style.line(area, &line)?;
        for point in &series.points {
            if let Some([low, high]) = point.ends {
                let ends = [low, high].map(|end| chart.backend_coord(&(x.scale.place(point.x), end)));
                area.draw(&PathElement::new(ends, style.color.stroke_width(2)))?;
            }
        }
        let apart = if line.len() <= MARKED { 1 } else { line.len() / MARKS };
        line.iter().step_by(apart).try_for_each(|at| style.mark(area, *at))?;
        if let Some(end) = line.last() {
            names.push((end.1, &series.label, style));
        }
    }
    let spread = spread(names.iter().map(|(y, ..)| *y).collect(), area.dim_in_pixel().1 as i32 - 90);
    let left = area.dim_in_pixel().0 as i32 - NAMES as i32 + 12;
    for ((_, label, style), y) in names.iter().zip(spread) {
        style.line(area, &[(left, y), (left + 40, y)])?;
        style.mark(area, (left + 20, y))?;
        area.draw(&Text::new((*label).clone(), (left + 48, y), small(Pos::new(HPos::Left, VPos::Center))))?;
    }
    Ok(())
}

fn bars(area: &Area<'_>, x: &Axis, bars: &[Bar]) -> Result<()> {
    let longest = bars.iter().flat_map(edges).fold(1.0, f64::max);
    let count = bars.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .margin_top(14 + KEY)
        .margin_right(NOTES)
        .x_label_area_size(74)
        .y_label_area_size(LABELS)
        .build_cartesian_2d(0.0..longest, count..0.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .x_labels(3)
        .x_desc(&x.label)
        .x_label_formatter(&|value| if *value == 0.0 { "0".to_owned() } else { nanos(*value) })
        .label_style(letters(TEXT))
        .axis_desc_style(letters(TEXT))
        .axis_style(QUIET)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (number, bar) in bars.iter().enumerate() {
        let middle = number as f64 + 0.5;
        let at = |ns: f64, side: f64| chart.backend_coord(&(ns, middle + side * 0.32));
        let [measured, fewer, faster] = edges(bar);
        let fill = Style::of(bar.look).color.filled();
        area.draw(&Rectangle::new([at(0.0, -1.0), at(measured, 1.0)], fill))?;
        striped(area, [at(measured, -1.0), at(fewer, 1.0)])?;
        light(area, [at(fewer, -1.0), at(faster, 1.0)])?;
        let (start, y) = at(0.0, 0.0);
        let (end, _) = at(measured.max(fewer).max(faster), 0.0);
        area.draw(&Text::new(bar.label.clone(), (start - 12, y), small(Pos::new(HPos::Right, VPos::Center))))?;
        area.draw(&Text::new(bar.note(), (end + 10, y), small(Pos::new(HPos::Left, VPos::Center))))?;
    }
    key(area)
}

/// Where a bar ends, and where what it saves by fewer and by faster calls does. What takes longer than today has no room of its own.
fn edges(bar: &Bar) -> [f64; 3] {
    let saved = bar.saved.as_ref().map_or([0.0; 2], |saved| [saved.fewer_ns, saved.faster_ns].map(|ns| ns.max(0.0)));
    [bar.ns, bar.ns + saved[0], bar.ns + saved[0] + saved[1]]
}

/// What the three parts of a bar are, above them.
fn key(area: &Area<'_>) -> Result<()> {
    let (y, height) = (14, KEY as i32 - 18);
    type Fill = fn(&Area<'_>, [(i32, i32); 2]) -> Result<()>;
    let solid: Fill = |area, corners| Ok(area.draw(&Rectangle::new(corners, QUIET.filled()))?);
    for (left, text, fill) in
        [(14, "measured", solid), (214, "saved by fewer calls", striped), (544, "saved by faster calls", light)]
    {
        fill(area, [(left, y), (left + 46, y + height)])?;
        let at = (left + 58, y + height / 2);
        area.draw(&Text::new(text, at, small(Pos::new(HPos::Left, VPos::Center))))?;
    }
    Ok(())
}

/// A rectangle of slanted lines with an edge.
fn striped(area: &Area<'_>, [(left, top), (right, bottom)]: [(i32, i32); 2]) -> Result<()> {
    if left >= right {
        return Ok(());
    }
    let height = bottom - top;
    for foot in (left - height..right).step_by(9) {
        let (from, to) = (foot.max(left), (foot + height).min(right));
        area.draw(&PathElement::new(
            [(from, bottom - (from - foot)), (to, bottom - (to - foot))],
            QUIET.stroke_width(2),
        ))?;
    }
    outline(area, [(left, top), (right, bottom)])
}

/// A light rectangle with an edge.
fn light(area: &Area<'_>, corners: [(i32, i32); 2]) -> Result<()> {
    if corners[0].0 >= corners[1].0 {
        return Ok(());
    }
    area.draw(&Rectangle::new(corners, LIGHT_GRID.filled()))?;
    outline(area, corners)
}

fn outline(area: &Area<'_>, corners: [(i32, i32); 2]) -> Result<()> {
    Ok(area.draw(&Rectangle::new(corners, QUIET.stroke_width(1)))?)
}

/// How a series looks.
#[derive(Clone, Copy)]
struct Style {
    color: RGBColor,
    /// Lengths of a dash and of the gap behind it; none for a line without gaps.
    dash: Option<(i32, i32)>,
    mark: Mark,
}

#[derive(Clone, Copy)]
enum Mark {
    None,
    Circle,
    Ring,
    Square,
    Triangle,
    Cross,
    Diamond,
}

impl Style {
    fn of(look: Look) -> Self {
        let (color, dash, mark) = match look {
            Look::Floor => (RGBColor(0, 0, 0), Some((4, 6)), Mark::None),
            Look::CopyFloor => (RGBColor(90, 90, 90), Some((14, 5)), Mark::None),
            Look::Way(0) => (RGBColor(213, 94, 0), None, Mark::Circle),
            Look::Way(1) => (RGBColor(230, 159, 0), Some((16, 7)), Mark::Triangle),
            Look::Way(2) => (RGBColor(86, 180, 233), Some((8, 6)), Mark::Square),
            Look::Way(3) => (RGBColor(0, 114, 178), None, Mark::Diamond),
            Look::Way(4) => (RGBColor(204, 121, 167), Some((22, 6)), Mark::Cross),
            Look::Way(5) => (RGBColor(0, 158, 115), Some((3, 5)), Mark::Ring),
            Look::Way(_) => (RGBColor(120, 120, 120), None, Mark::Ring),
        };
        Self { color, dash, mark }
    }

    /// A line through pixels.
    fn line(&self, area: &Area<'_>, points: &[(i32, i32)]) -> Result<()> {
        let style = self.color.stroke_width(3);
        match self.dash {
            None => area.draw(&PathElement::new(points.to_vec(), style))?,
            Some((dash, gap)) => area.draw(&DashedPathElement::new(points.iter().copied(), dash, gap, style))?,
        }
        Ok(())
    }

    fn mark(&self, area: &Area<'_>, at: (i32, i32)) -> Result<()> {
        let (x, y) = at;
        let filled = self.color.filled();
        let corners = |corners: &[(i32, i32)]| {
            Polygon::new(corners.iter().map(|(dx, dy)| (x + dx, y + dy)).collect::<Vec<_>>(), filled)
        };
        match self.mark {
            Mark::None => {}
            Mark::Circle => area.draw(&Circle::new(at, 7, filled))?,
            Mark::Ring => area.draw(&Circle::new(at, 7, self.color.stroke_width(3)))?,
            Mark::Square => area.draw(&corners(&[(-6, -6), (6, -6), (6, 6), (-6, 6)]))?,
            Mark::Triangle => area.draw(&corners(&[(0, -9), (8, 6), (-8, 6)]))?,
            Mark::Diamond => area.draw(&corners(&[(0, -9), (9, 0), (0, 9), (-9, 0)]))?,
            Mark::Cross => area.draw(&Cross::new(at, 7, self.color.stroke_width(3)))?,
        }
        Ok(())
    }
}

/// Some room around the values, on a logarithmic axis.
fn range(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let (low, high) = values
        .filter(|value| *value > 0.0)
        .fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    if low > high { [1.0, 10.0] } else { [low / 1.3, high * 1.3] }
}

/// Ticks with names, and lines between them.
fn ticks(scale: Scale, [low, high]: [f64; 2]) -> (Vec<f64>, Vec<f64>) {
    let inside = |values: Vec<f64>| values.into_iter().filter(|value| (low..=high).contains(value)).collect::<Vec<_>>();
    let decades = |steps: &[f64]| {
        inside((-1..12).flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power))).collect())
    };
    let between = [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
    match scale {
        Scale::Bytes => (inside((0..=10).map(|power| 4_f64.powi(power)).collect()), vec![]),
        Scale::Plain => (inside((0..=6).map(|power| 4_f64.powi(power)).collect()), vec![]),
        Scale::Percentile => (inside([vec![2.0], (1..6).map(|power| 10_f64.powi(power)).collect()].concat()), vec![]),
        Scale::Think => (inside([vec![AT_ZERO], (1..7).map(|power| 10_f64.powi(power)).collect()].concat()), vec![]),
        Scale::Time | Scale::Count if high / low < 30.0 => (decades(&[1.0, 2.0, 5.0]), decades(&between)),
        Scale::Time | Scale::Count => (decades(&[1.0]), decades(&between)),
    }
}

fn tick(scale: Scale, value: f64) -> String {
    match scale {
        Scale::Time => {
            let (value, unit) = match value {
                ns if ns < 1e3 => (ns, "ns"),
                ns if ns < 1e6 => (ns / 1e3, "µs"),
                ns if ns < 1e9 => (ns / 1e6, "ms"),
                ns => (ns / 1e9, "s"),
            };
            format!("{} {unit}", (value * 100.0).round() / 100.0)
        }
        Scale::Count if value >= 1e6 => format!("{} M", value / 1e6),
        Scale::Count if value >= 1e3 => format!("{} k", value / 1e3),
        Scale::Bytes if value >= 1024.0 => format!("{} Ki", value / 1024.0),
        Scale::Percentile => {
            // One in 1000 is beyond 99.9 %: as many digits as are needed, and no rounding up to 100.
            let digits = (value.log10().round() as usize).saturating_sub(2);
            format!("{:.digits$}", (1.0 - 1.0 / value) * 100.0)
        }
        Scale::Think if value <= AT_ZERO => "none".to_owned(),
        _ => format!("{}", value.round()),
    }
}

/// Heights for names that would like to be at these, none nearer to another than a line's height.
fn spread(wanted: Vec<i32>, lowest: i32) -> Vec<i32> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|at| wanted[*at]);
    let mut placed = wanted.clone();
    let mut above = i32::MIN / 2;
    for &at in &order {
        placed[at] = wanted[at].max(above + LINE).max(24);
        above = placed[at];
    }
    let mut below = lowest + LINE;
    for &at in order.iter().rev() {
        placed[at] = placed[at].min(below - LINE);
        below = placed[at];
    }
    placed
}

fn letters(color: RGBColor) -> TextStyle<'static> {
    ("sans-serif", LETTERS).into_font().color(&color)
}

fn small(pos: Pos) -> TextStyle<'static> {
    letters(TEXT).pos(pos)
}

/// Pixels, twice as many as are shown: positions are whole numbers.
const SIZE: (u32, u32) = (900, 600);
/// Of bars, which have names before and notes behind them.
const WIDE: u32 = 1100;
/// Room for the names of series, for the names of bars, for the notes behind bars.
const NAMES: u32 = 252;
const LABELS: u32 = 296;
const NOTES: u32 = 286;
/// Height of the key above bars, of a bar with its gap, of a line of names, of letters.
const KEY: u32 = 48;
const BAR: u32 = 46;
const LINE: i32 = 30;
const LETTERS: u32 = 27;
/// A line of more points than these has so many marks only.
const MARKED: usize = 24;
const MARKS: usize = 6;
const TEXT: RGBColor = RGBColor(34, 34, 34);
const QUIET: RGBColor = RGBColor(120, 120, 120);
const GRID: RGBColor = RGBColor(214, 214, 214);
const LIGHT_GRID: RGBColor = RGBColor(238, 238, 238);
