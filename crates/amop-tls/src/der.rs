//! Writing DER, as far as certificates need it.

/// One element.
pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut der = vec![tag];
    if length < 0x80 {
        der.extend(u8::try_from(length));
    } else {
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        // At most eight bytes of length.
        der.extend(u8::try_from(bytes.len()).map(|count| 0x80 | count));
        der.extend(bytes);
    }
    der.extend_from_slice(content);
    der
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(0x30, &parts.concat())
}

#[cfg(feature = "mint")]
pub(crate) fn set(parts: &[&[u8]]) -> Vec<u8> {
    element(0x31, &parts.concat())
}

/// An integer that is not negative, from its big-endian bytes.
#[cfg(feature = "mint")]
pub(crate) fn integer(bytes: &[u8]) -> Vec<u8> {
    let significant: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    match significant.first() {
        Some(first) if *first < 0x80 => element(2, &significant),
        _ => element(2, &[&[0], significant.as_slice()].concat()),
    }
}

/// An object identifier, from its encoded content.
#[cfg(feature = "mint")]
pub(crate) fn oid(content: &[u8]) -> Vec<u8> {
    element(6, content)
}

#[cfg(feature = "mint")]
pub(crate) fn utf8(text: &str) -> Vec<u8> {
    element(0x0c, text.as_bytes())
}

/// Bits, all of which count.
pub(crate) fn bits(content: &[u8]) -> Vec<u8> {
    element(3, &[&[0], content].concat())
}

#[cfg(feature = "mint")]
pub(crate) fn octets(content: &[u8]) -> Vec<u8> {
    element(4, content)
}

/// A moment as certificates have it: two digits of the year up to 2049, four from then on.
#[cfg(feature = "mint")]
pub(crate) fn moment(moment: time::OffsetDateTime) -> Vec<u8> {
    let utc = moment.to_offset(time::UtcOffset::UTC);
    let (year, month, day) = (utc.year(), u8::from(utc.month()), utc.day());
    let rest = format!("{month:02}{day:02}{:02}{:02}{:02}Z", utc.hour(), utc.minute(), utc.second());
    match year {
        1950..=2049 => element(0x17, format!("{:02}{rest}", year % 100).as_bytes()),
        _ => element(0x18, format!("{year:04}{rest}").as_bytes()),
    }
}

#[cfg(all(test, feature = "mint"))]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_integers_are_minimal() {
        assert_eq!(element(4, &[7; 127])[..2], [4, 127]);
        assert_eq!(element(4, &[7; 128])[..3], [4, 0x81, 128]);
        assert_eq!(element(4, &[7; 256])[..4], [4, 0x82, 1, 0]);
        assert_eq!(integer(&[0, 0, 5]), [2, 1, 5]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[]), [2, 1, 0]);
    }

    #[test]
    fn years_from_2050_have_four_digits() {
        let at = |unix| moment(time::OffsetDateTime::from_unix_timestamp(unix).unwrap());
        assert_eq!(at(2_524_607_999), element(0x17, b"491231235959Z"));
        assert_eq!(at(2_524_608_000), element(0x18, b"20500101000000Z"));
    }
}
