//! The types that keys have: how each is read, and how it is shown.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use amop_protocol::{NodeId, certificate::MAX_NAME_BYTES};
use toml::Value;

use crate::identity::Agency;

/// A value as the file would have it, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    One(String),
    Many(Vec<String>),
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(value) => f.write_str(value),
            Self::Many(values) => write!(f, "[{}]", values.join(", ")),
        }
    }
}

/// A type that a key can have.
pub(super) trait Setting: Sized {
    /// Reads it; the error says what to write instead.
    fn read(value: Value) -> Result<Self, String>;

    /// As the file would have it.
    fn show(&self) -> Shown;
}

impl Setting for bool {
    fn read(value: Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| expected("true or false", &value))
    }

    fn show(&self) -> Shown {
        Shown::One(self.to_string())
    }
}

impl Setting for usize {
    fn read(value: Value) -> Result<Self, String> {
        let number = value.as_integer().and_then(|n| Self::try_from(n).ok());
        number.ok_or_else(|| expected("a whole number", &value))
    }

    fn show(&self) -> Shown {
        Shown::One(self.to_string())
    }
}

impl Setting for String {
    fn read(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) if !text.is_empty() => Ok(text),
            other => Err(expected("text in quotes", &other)),
        }
    }

    fn show(&self) -> Shown {
        Shown::One(format!("{self:?}"))
    }
}

impl Setting for PathBuf {
    fn read(value: Value) -> Result<Self, String> {
        String::read(value).map(Self::from)
    }

    fn show(&self) -> Shown {
        Shown::One(format!("{self:?}"))
    }
}

impl Setting for SocketAddr {
    fn read(value: Value) -> Result<Self, String> {
        let parsed = value.as_str().and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| expected("an IP address and port such as \"127.0.0.1:20200\"", &value))
    }

    fn show(&self) -> Shown {
        Shown::One(self.to_string())
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

    fn show(&self) -> Shown {
        Shown::One(format!("{self:?}"))
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

    fn show(&self) -> Shown {
        match self {
            Self::On(value) => value.show(),
            Self::Off => Shown::One("off".to_owned()),
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

    fn show(&self) -> Shown {
        Shown::One(match self.0 {
            bytes if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
            bytes if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
            bytes => format!("{bytes} B"),
        })
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

    fn show(&self) -> Shown {
        Shown::One(self.0.to_string())
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

    fn show(&self) -> Shown {
        Shown::One(self.to_hex())
    }
}

/// An institution and its CA, as an inline table.
impl Setting for Agency {
    fn read(value: Value) -> Result<Self, String> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        match (text("institution"), text("ca"), value.as_table().map(toml::Table::len)) {
            (Some(institution), Some(ca), Some(2)) if is_name(institution) => {
                Ok(Self { institution: institution.to_owned(), ca: PathBuf::from(ca) })
            }
            _ => Err(expected("{ institution = \"NAME\", ca = \"FILE\" }", &value)),
        }
    }

    fn show(&self) -> Shown {
        Shown::One(format!("{{ institution = {:?}, ca = {:?} }}", self.institution, self.ca))
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

    fn show(&self) -> Shown {
        Shown::Many(self.iter().map(|value| value.show().to_string()).collect())
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
