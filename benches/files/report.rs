//! Figures, for people and for programs.

use serde_json::json;

/// Prints figures as they come.
pub(crate) struct Report {
    as_json: bool,
    part: &'static str,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    None,
    /// The median is at least this.
    AtLeast(f64),
    /// The median is at most this.
    Below(f64),
    /// The largest value is at most this.
    NeverAbove(f64),
}

impl Report {
    pub(crate) fn new(as_json: bool) -> Self {
        let report = Self { as_json, part: "" };
        if !as_json {
            println!(
                "{:<66} {:>4} {:>9} {:>9} {:>9} {:<6} {:>12}",
                "FIGURE", "N", "MIN", "MEDIAN", "MAX", "UNIT", "AIM"
            );
        }
        report
    }

    /// Figures from here on are of this part.
    pub(crate) fn part(&mut self, name: &'static str) {
        self.part = name;
    }

    /// Something that is no figure.
    pub(crate) fn remark(&self, text: &str) {
        match self.as_json {
            true => println!("{}", json!({ "part": self.part, "remark": text })),
            false => println!("# {text}"),
        }
    }

    /// A figure with a value per round.
    pub(crate) fn figure(&self, name: &str, unit: &str, values: &[f64], aim: Aim) {
        let Some(Spread { min, median, max }) = Spread::of(values) else { return };
        let (wanted, met) = match aim {
            Aim::None => (String::new(), true),
            Aim::AtLeast(least) => (format!("≥ {least}"), median >= least),
            Aim::Below(most) => (format!("< {most}"), median < most),
            Aim::NeverAbove(most) => (format!("max ≤ {most}"), max <= most),
        };
        if self.as_json {
            let figure = json!({
                "part": self.part, "figure": name, "unit": unit, "n": values.len(),
                "min": min, "median": median, "max": max, "values": values, "aim": wanted, "met": met,
            });
            println!("{figure}");
        } else {
            let (min, median, max) = (short(min), short(median), short(max));
            let missed = if met { "" } else { " MISSED" };
            println!(
                "{name:<66} {:>4} {min:>9} {median:>9} {max:>9} {unit:<6} {wanted:>12}{missed}",
                values.len()
            );
        }
    }
}

/// Smallest, middle and largest of some values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (upper, lower) = (sorted.len() / 2, sorted.len().checked_sub(1)? / 2);
        Some(Self {
            min: *sorted.first()?,
            median: f64::midpoint(*sorted.get(lower)?, *sorted.get(upper)?),
            max: *sorted.last()?,
        })
    }
}

/// Three digits that matter.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}
