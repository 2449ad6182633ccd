//! The JSON list of topics in a 0x32, read piece by piece: a list too long is refused at the
//! bound, whatever follows.

use std::{collections::BTreeSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::Topic;

/// What a 0x32 says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TopicList {
    /// Valid topics, each once.
    pub(super) topics: BTreeSet<Topic>,
    /// Elements that are no topic names.
    pub(super) refused: u64,
}

/// Why a 0x32 says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopicListError {
    /// Not a JSON array.
    NotAList,
    /// More topics than a session may have.
    TooMany,
}

impl TopicList {
    pub(super) fn from_json(body: &[u8], max: usize) -> Result<Self, TopicListError> {
        let mut list = Self::default();
        let mut json = serde_json::Deserializer::from_slice(body);
        let read = Fill { list: &mut list, max }.deserialize(&mut json).and_then(|()| json.end());
        match read {
            _ if list.topics.len() > max => Err(TopicListError::TooMany),
            Ok(()) => Ok(list),
            Err(_) => Err(TopicListError::NotAList),
        }
    }
}

struct Fill<'a> {
    list: &'a mut TopicList,
    max: usize,
}

impl<'de> DeserializeSeed<'de> for Fill<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Fill<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of topics")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(Element(topic)) = seq.next_element()? {
            match topic {
                Some(topic) => drop(self.list.topics.insert(topic)),
                None => self.list.refused += 1,
            }
            if self.list.topics.len() > self.max {
                return Err(A::Error::custom("too many topics"));
            }
        }
        Ok(())
    }
}

/// One element, whatever it is; `None` if it is no topic name.
struct Element(Option<Topic>);

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ElementVisitor).map(Self)
    }
}

struct ElementVisitor;

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Option<Topic>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Topic::parse(name).ok())
    }

    // Official nodes take numbers for their text.
    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Topic::parse(&number.to_string()).ok())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Topic::parse(&number.to_string()).ok())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}
