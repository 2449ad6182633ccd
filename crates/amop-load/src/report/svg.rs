//! A percentile plot: latency over the percentile, whose axis is stretched towards 100 so that the tail can be read.

use std::fmt::Write as _;

use crate::{record::Latencies, report::duration};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 50.0;
/// Points of a line.
const POINTS: u32 = 160;
/// Lines of a plot; further ones are left out.
const MOST_LINES: usize = 8;
/// Characters of a title or name; further ones are left out.
const MOST_TEXT: usize = 120;
/// Colours that can be told apart on white and on black, also by most who see few.
const COLOURS: [&str; MOST_LINES] =
    ["#0a84d6", "#d9730d", "#189a5b", "#b44ac0", "#c9a20c", "#d63a5e", "#3fa7b5", "#8a8a8a"];

/// A plot of these, each with its name, as a whole SVG document. It follows the reader's light or dark colours, has nothing from
/// elsewhere in it, and at most some 30 KiB. Empty latencies are left out.
pub fn plot(title: &str, lines: &[(&str, &Latencies)]) -> String {
    let lines: Vec<_> =
        lines.iter().filter(|(_, latencies)| latencies.samples() > 0).take(MOST_LINES).collect();
    let samples = lines.iter().map(|(_, latencies)| latencies.samples()).max().unwrap_or(1);
    let least =
        lines.iter().map(|(_, latencies)| nanos(latencies.quantile(0.0))).fold(f64::INFINITY, f64::min);
    let most = lines.iter().map(|(_, latencies)| nanos(latencies.max())).fold(0.0, f64::max);
    let axes = Axes::new(samples, least, most);
    let mut svg = head(title);
    axes.draw(&mut svg);
    for (number, (name, latencies)) in lines.iter().enumerate() {
        axes.line(&mut svg, COLOURS[number % COLOURS.len()], latencies);
        legend(&mut svg, number, name);
    }
    svg.push_str("</svg>\n");
    svg
}

fn nanos(duration: std::time::Duration) -> f64 {
    duration.as_nanos() as f64
}

fn head(title: &str) -> String {
    let title = escape(title);
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="system-ui, sans-serif" font-size="12">
<title>{title}</title>
<style>
text {{ fill: #333 }} .grid {{ stroke: #8886; stroke-width: 1 }} .line {{ fill: none; stroke-width: 2; stroke-linejoin: round }}
@media (prefers-color-scheme: dark) {{ text {{ fill: #ddd }} }}
</style>
<text x="10" y="20" font-size="13" font-weight="600">{title}</text>
"#
    )
}

fn legend(svg: &mut String, number: usize, name: &str) {
    let (x, y) = (LEFT + 10.0, TOP + 16.0 + 18.0 * number as f64);
    let (colour, name) = (COLOURS[number % COLOURS.len()], escape(name));
    put(svg, format_args!(r#"<rect x="{x}" y="{:.0}" width="14" height="4" fill="{colour}"/>"#, y - 6.0));
    put(svg, format_args!(r#"<text x="{}" y="{y}">{name}</text>"#, x + 20.0));
}

/// Both axes are logarithmic: the horizontal one in 1 / (1 - part), the vertical one in nanoseconds.
struct Axes {
    /// Nines that are shown: 3 for 99.9 %.
    nines: f64,
    least: f64,
    most: f64,
}

impl Axes {
    fn new(samples: u64, least: f64, most: f64) -> Self {
        let nines = (samples as f64).log10().clamp(1.0, 7.0);
        // A line that rises by nothing is drawn in the middle.
        let least = if least.is_finite() { (least / 1.2).max(1.0) } else { 1.0 };
        Self { nines, least, most: (most * 1.2).max(least * 2.0) }
    }

    fn x(&self, nines: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (nines / self.nines).clamp(0.0, 1.0)
    }

    fn y(&self, nanos: f64) -> f64 {
        let part = (nanos / self.least).max(1.0).log10() / (self.most / self.least).log10();
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part.clamp(0.0, 1.0)
    }

    fn draw(&self, svg: &mut String) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for (part, name) in PARTS {
            let nines = -(1.0 - part).log10();
            if nines <= self.nines + 1e-9 {
                let x = self.x(nines);
                put(
                    svg,
                    format_args!(r#"<line class="grid" x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{bottom}"/>"#),
                );
                put(
                    svg,
                    format_args!(
                        r#"<text x="{x:.1}" y="{}" text-anchor="middle">{name}</text>"#,
                        bottom + 18.0
                    ),
                );
            }
        }
        for exponent in 0..14 {
            for step in [1.0, 2.0, 5.0] {
                let value = step * 10_f64.powi(exponent);
                if value >= self.least && value <= self.most {
                    let y = self.y(value);
                    let name = tick(value);
                    put(
                        svg,
                        format_args!(
                            r#"<line class="grid" x1="{LEFT}" y1="{y:.1}" x2="{right}" y2="{y:.1}"/>"#
                        ),
                    );
                    put(
                        svg,
                        format_args!(
                            r#"<text x="{}" y="{:.1}" text-anchor="end">{name}</text>"#,
                            LEFT - 8.0,
                            y + 4.0
                        ),
                    );
                }
            }
        }
        put(
            svg,
            format_args!(
                r#"<text x="{}" y="{}" text-anchor="middle">percentile</text>"#,
                WIDTH / 2.0,
                HEIGHT - 10.0
            ),
        );
    }

    fn line(&self, svg: &mut String, colour: &str, latencies: &Latencies) {
        let own = (latencies.samples() as f64).log10().clamp(0.0, self.nines);
        let points = (0..=POINTS).map(|number| {
            let nines = own * f64::from(number) / f64::from(POINTS);
            let part = 1.0 - 10_f64.powf(-nines);
            format!("{:.1},{:.1}", self.x(nines), self.y(nanos(latencies.quantile(part))))
        });
        let points: Vec<String> = points.collect();
        put(svg, format_args!(r#"<polyline class="line" stroke="{colour}" points="{}"/>"#, points.join(" ")));
    }
}

const PARTS: [(f64, &str); 9] = [
    (0.0, "0"),
    (0.5, "50"),
    (0.9, "90"),
    (0.99, "99"),
    (0.999, "99.9"),
    (0.999_9, "99.99"),
    (0.999_99, "99.999"),
    (0.999_999, "99.9999"),
    (0.999_999_9, "99.99999"),
];

fn tick(nanos: f64) -> String {
    let text = duration(std::time::Duration::from_nanos(nanos as u64));
    text.replace(".00 ", " ").replace(".0 ", " ")
}

fn put(svg: &mut String, element: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "{element}");
}

fn escape(text: &str) -> String {
    let mut safe = String::new();
    for letter in text.chars().filter(|letter| !letter.is_control()).take(MOST_TEXT) {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Every element closed, in order; nothing beside them but text.
    fn well_formed(svg: &str) {
        let mut open = Vec::new();
        for part in svg.split('<').skip(1) {
            let (tag, _) = part.split_once('>').expect("a tag ends");
            let name =
                tag.split(|c: char| !c.is_alphanumeric()).find(|name| !name.is_empty()).expect("a name");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            match (tag.starts_with('/'), tag.ends_with('/')) {
                (true, _) => assert_eq!(open.pop(), Some(name), "{tag}"),
                (false, true) => {}
                (false, false) => open.push(name),
            }
        }
        assert!(open.is_empty(), "{open:?} are not closed");
    }

    /// Every number of every point lies on the canvas.
    fn inside(svg: &str) {
        for points in svg.split("points=\"").skip(1) {
            for point in points.split('"').next().expect("points").split(' ') {
                let (x, y) = point.split_once(',').expect("two numbers");
                let (x, y): (f64, f64) = (x.parse().expect("x"), y.parse().expect("y"));
                assert!(
                    (LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y),
                    "{point}"
                );
            }
        }
    }

    fn latencies(micros: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::default();
        micros.into_iter().for_each(|micros| latencies.record(Duration::from_micros(micros)));
        latencies
    }

    #[test]
    fn plots_are_well_formed_and_bounded() {
        let (usual, one) = (latencies(50..150_000), latencies([80]));
        let (none, wide) = (latencies([]), latencies([0, 3_600_000_000_000]));
        let name = "<script>&\"'".repeat(100);
        for lines in [
            vec![],
            vec![("none", &none)],
            vec![("one", &one)],
            vec![("a", &usual), (&*name, &one), ("wide", &wide)],
            vec![("same", &usual); 100],
        ] {
            let svg = plot(&name, &lines);
            well_formed(&svg);
            inside(&svg);
            assert!(svg.len() < 32 * 1024, "{} bytes", svg.len());
            assert!(!svg.contains("<script"));
        }
    }

    #[test]
    fn the_tail_is_on_the_right_and_above() {
        let axes = Axes::new(100_000, 1e4, 1e7);
        assert!(axes.x(3.0) > axes.x(2.0) && axes.y(1e6) < axes.y(1e5));
        assert_eq!([tick(2e3), tick(5e8), tick(1e9)], ["2 µs", "500 ms", "1 s"]);
    }
}
