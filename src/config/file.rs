//! What is written: typed, strict access to a TOML document that collects every problem.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use amop_protocol::{NodeId, certificate::MAX_NAME_BYTES};
use toml::{Table, Value};

use crate::identity::Agency;

/// One thing that is wrong with a configuration, as a sentence that names the key and the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(pub(super) String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A configuration file, and what has been found wrong with it so far.
pub(super) struct Document {
    tables: Table,
    /// Every key asked for, as `table.key`: all that exist.
    known: Vec<String>,
    problems: Vec<Problem>,
}

impl Document {
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let tables = text.parse::<Table>().map_err(|error| {
            let line =
                error.span().and_then(|span| text.get(..span.start)).map(|t| t.matches('\n').count() + 1);
            let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            Problem(format!("{place}not TOML: {}", error.message().replace('\n', ", ")))
        })?;
        Ok(Self { tables, known: Vec::new(), problems: Vec::new() })
    }

    pub(super) fn empty() -> Self {
        Self { tables: Table::new(), known: Vec::new(), problems: Vec::new() }
    }

    pub(super) fn section(&mut self, name: &'static str) -> Section<'_> {
        let table = match self.tables.remove(name) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(_) => {
                self.problem(format!("[{name}] must be a table; write its keys on lines below [{name}]"));
                Table::new()
            }
        };
        Section { document: self, name, table, known: Vec::new() }
    }

    pub(super) fn problem(&mut self, sentence: String) {
        self.problems.push(Problem(sentence));
    }

    /// All known keys and all problems, once every section has been read.
    pub(super) fn finish(mut self) -> (Vec<String>, Vec<Problem>) {
        let sections: Vec<_> = self.known.iter().filter_map(|key| Some(key.split_once('.')?.0)).collect();
        let mut unknown = Vec::new();
        for (name, value) in &self.tables {
            let what = if value.is_table() { format!("table [{name}]") } else { format!("key {name}") };
            let elsewhere =
                self.known.iter().find(|key| key.split_once('.').is_some_and(|(_, key)| key == name));
            let hint = match (elsewhere, nearest(name, &sections)) {
                (Some(key), _) if !value.is_table() => format!("; did you mean {key}?"),
                (_, Some(section)) => format!("; did you mean [{section}]?"),
                _ => String::new(),
            };
            unknown.push(Problem(format!("unknown {what}{hint}")));
        }
        self.problems.append(&mut unknown);
        (self.known, self.problems)
    }
}

/// One table. Keys are taken out as they are asked for; what remains is unknown.
pub(super) struct Section<'a> {
    document: &'a mut Document,
    name: &'static str,
    table: Table,
    known: Vec<&'static str>,
}

impl Section<'_> {
    /// The value of a key, or its default if it is absent or wrong; wrong ones are noted.
    pub(super) fn get<T: Setting>(&mut self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// As [`Section::get`], for a value that must lie within bounds.
    pub(super) fn within<T>(&mut self, key: &'static str, default: T, least: T, most: T) -> T
    where
        T: Setting + PartialOrd + Clone,
    {
        let value = self.get(key, default.clone());
        if least <= value && value <= most {
            return value;
        }
        let (least, most) = (least.show(), most.show());
        self.problem(key, format!("must be between {least} and {most}, it is {}", value.show()));
        default
    }

    /// The value of a key that has no default.
    pub(super) fn optional<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        self.known.push(key);
        match T::read(self.table.remove(key)?) {
            Ok(value) => Some(value),
            Err(cause) => {
                self.problem(key, cause);
                None
            }
        }
    }

    pub(super) fn problem(&mut self, key: &str, cause: impl fmt::Display) {
        let name = self.name;
        self.document.problem(format!("{name}.{key}: {cause}"));
    }

    /// Notes the keys nobody asked for.
    pub(super) fn finish(self) {
        for unknown in self.table.keys() {
            let hint = match nearest(unknown, &self.known) {
                Some(known) => format!("did you mean {}.{known}?", self.name),
                None => format!("[{}] has {}", self.name, self.known.join(", ")),
            };
            self.document.problems.push(Problem(format!("unknown key {}.{unknown}; {hint}", self.name)));
        }
        self.document.known.extend(self.known.iter().map(|key| format!("{}.{key}", self.name)));
    }
}

fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(word, known), *known))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
}

/// A type that a key can have.
pub(super) trait Setting: Sized {
    /// Reads it; the error says what to write instead.
    fn read(value: Value) -> Result<Self, String>;

    /// As the file would have it, for messages.
    fn show(&self) -> String {
        String::new()
    }
}

impl Setting for bool {
    fn read(value: Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| expected("true or false", &value))
    }
}

impl Setting for usize {
    fn read(value: Value) -> Result<Self, String> {
        let number = value.as_integer().and_then(|n| Self::try_from(n).ok());
        number.ok_or_else(|| expected("a whole number", &value))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for String {
    fn read(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) if !text.is_empty() => Ok(text),
            other => Err(expected("text in quotes", &other)),
        }
    }
}

impl Setting for PathBuf {
    fn read(value: Value) -> Result<Self, String> {
        String::read(value).map(Self::from)
    }
}

impl Setting for SocketAddr {
    fn read(value: Value) -> Result<Self, String> {
        let parsed = value.as_str().and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| expected("an IP address and port such as \"127.0.0.1:20200\"", &value))
    }
}

impl Setting for Duration {
    fn read(value: Value) -> Result<Self, String> {
        let parsed = value.as_str().and_then(|text| {
            let (number, unit) = number_and_unit(text)?;
            let seconds = match unit {
                "ms" => 0.001,
                "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
            Self::try_from_secs_f64(number * seconds).ok()
        });
        parsed.ok_or_else(|| expected("a duration with its unit (ms, s, min or h) such as \"5s\"", &value))
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

/// Something that may be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch<T> {
    On(T),
    Off,
}

impl<T> Switch<T> {
    pub(super) fn on(self) -> Option<T> {
        match self {
            Self::On(value) => Some(value),
            Self::Off => None,
        }
    }
}

impl<T: Setting> Setting for Switch<T> {
    fn read(value: Value) -> Result<Self, String> {
        match value.as_str() {
            Some("off") => Ok(Self::Off),
            _ => T::read(value).map(Self::On).map_err(|cause| format!("{cause} (or \"off\")")),
        }
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size(pub(super) usize);

impl Setting for Size {
    fn read(value: Value) -> Result<Self, String> {
        let parsed = value.as_str().and_then(|text| {
            let (number, unit) = number_and_unit(text)?;
            let unit: u64 = match unit {
                "B" => 1,
                "KiB" => 1 << 10,
                "MiB" => 1 << 20,
                "GiB" => 1 << 30,
                _ => return None,
            };
            let bytes = number * unit as f64;
            (bytes.fract() == 0.0 && bytes < MAX_SIZE).then_some(Self(bytes as usize))
        });
        parsed.ok_or_else(|| expected("a size with its unit (B, KiB, MiB or GiB) such as \"16 MiB\"", &value))
    }

    fn show(&self) -> String {
        match self.0 {
            bytes if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
            bytes if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
            bytes => format!("{bytes} B"),
        }
    }
}

/// One TiB: far more than any bound needs, and exact as a decimal.
const MAX_SIZE: f64 = (1_u64 << 40) as f64;

/// Megabits per second.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(super) struct Bandwidth(pub(super) f64);

impl Setting for Bandwidth {
    fn read(value: Value) -> Result<Self, String> {
        let number = value.as_float().or_else(|| value.as_integer().map(|n| n as f64));
        match number {
            Some(number) if number.is_finite() && number > 0.0 => Ok(Self(number)),
            _ => Err(expected(
                "Mbit/s as a number above 0, such as 12.5; leave the key out for no limit",
                &value,
            )),
        }
    }
}

/// A node id in hex: 64 digits, or the 128 that SDKs show.
impl Setting for NodeId {
    fn read(value: Value) -> Result<Self, String> {
        let wrong = || expected("a node id of 64 or 128 hex digits", &value);
        let text =
            value.as_str().filter(|t| matches!(t.len(), 64 | 128) && t.is_ascii()).ok_or_else(wrong)?;
        let mut x = [0; 32];
        for (at, byte) in x.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
        }
        match text.chars().all(|c| c.is_ascii_hexdigit()) {
            true => Ok(Self::new(x)),
            false => Err(wrong()),
        }
    }
}

/// An institution and its CA, as an inline table.
impl Setting for Agency {
    fn read(value: Value) -> Result<Self, String> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        match (text("institution"), text("ca"), value.as_table().map(Table::len)) {
            (Some(institution), Some(ca), Some(2)) if is_name(institution) => {
                Ok(Self { institution: institution.to_owned(), ca: PathBuf::from(ca) })
            }
            _ => Err(expected("{ institution = \"NAME\", ca = \"FILE\" }", &value)),
        }
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME_BYTES && !text.contains(char::is_control)
}

impl<T: Setting> Setting for Vec<T> {
    fn read(value: Value) -> Result<Self, String> {
        match value {
            Value::Array(values) => values.into_iter().map(T::read).collect(),
            other => Err(expected("a list in square brackets", &other)),
        }
    }
}

/// A number and what follows it, spaces between them allowed.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    Some((text[..end].parse().ok()?, text[end..].trim()))
}

fn expected(what: &str, found: &Value) -> String {
    let found: String = found.to_string().chars().filter(|c| !c.is_control()).take(60).collect();
    format!("expected {what}, found {found}")
}
