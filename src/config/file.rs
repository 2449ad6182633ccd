//! What is written: typed, strict access to a TOML document that collects every problem.

use std::{collections::BTreeMap, fmt};

use toml::{Table, Value};

use super::setting::{Setting, Shown};

/// One thing that is wrong with a configuration, as a sentence that names the key and the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(pub(super) String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Every key, as `table.key`, with the value that holds.
pub(super) type Values = BTreeMap<String, Shown>;

/// A configuration file, and what has been found wrong with it so far.
pub(super) struct Document {
    tables: Table,
    /// Every key asked for, which are all that exist.
    values: Values,
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
        Ok(Self { tables, values: Values::default(), problems: Vec::new() })
    }

    pub(super) fn empty() -> Self {
        Self { tables: Table::new(), values: Values::default(), problems: Vec::new() }
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
        Section { document: self, name, table, values: Vec::new() }
    }

    pub(super) fn problem(&mut self, sentence: String) {
        self.problems.push(Problem(sentence));
    }

    /// All keys and all problems, once every section has been read.
    pub(super) fn finish(mut self) -> (Values, Vec<Problem>) {
        let sections: Vec<_> = self.values.keys().filter_map(|key| Some(key.split_once('.')?.0)).collect();
        let mut unknown = Vec::new();
        for (name, value) in &self.tables {
            let what = if value.is_table() { format!("table [{name}]") } else { format!("key {name}") };
            let elsewhere =
                self.values.keys().find(|key| key.split_once('.').is_some_and(|(_, key)| key == name));
            let hint = match (elsewhere, nearest(name, &sections)) {
                (Some(key), _) if !value.is_table() => format!("; did you mean {key}?"),
                (_, Some(section)) => format!("; did you mean [{section}]?"),
                _ => String::new(),
            };
            unknown.push(Problem(format!("unknown {what}{hint}")));
        }
        self.problems.append(&mut unknown);
        (self.values, self.problems)
    }
}

/// One table. Keys are taken out as they are asked for; what remains is unknown.
pub(super) struct Section<'a> {
    document: &'a mut Document,
    name: &'static str,
    table: Table,
    values: Vec<(&'static str, Shown)>,
}

impl Section<'_> {
    /// The value of a key, or its default if it is absent or wrong; wrong ones are noted.
    pub(super) fn get<T: Setting>(&mut self, key: &'static str, default: T) -> T {
        let value = self.take(key).unwrap_or(default);
        self.values.push((key, value.show()));
        value
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
        let value: Option<T> = self.take(key);
        let shown = value.as_ref().map_or_else(|| Shown::One("not set".to_owned()), Setting::show);
        self.values.push((key, shown));
        value
    }

    fn take<T: Setting>(&mut self, key: &str) -> Option<T> {
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
            let known: Vec<_> = self.values.iter().map(|(key, _)| *key).collect();
            let hint = match nearest(unknown, &known) {
                Some(known) => format!("did you mean {}.{known}?", self.name),
                None => format!("[{}] has {}", self.name, known.join(", ")),
            };
            self.document.problems.push(Problem(format!("unknown key {}.{unknown}; {hint}", self.name)));
        }
        let values = self.values.into_iter().map(|(key, value)| (format!("{}.{key}", self.name), value));
        self.document.values.extend(values);
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
