//! What a sender calls a file, made safe to use as a name in a directory of the receiver's choice.
//!
//! A pure function of the name: nothing here looks at a disk. Whether a name is taken is for whoever writes,
//! and only renaming without replacing can tell.
//!
//! **Invariant:** what [`safe`] gives is one entry of the directory it is put in, on Linux, macOS and Windows:
//! never a path, a device, a hidden file or nothing.

/// Bytes of UTF-8 that a safe name has at most. File systems allow 255; the rest is for what [`numbered`] adds.
pub(crate) const MAX_BYTES: usize = 200;

/// Bytes that count as an extension at most, the dot not counted. What is longer is part of the name.
const MAX_EXTENSION: usize = 16;

/// What replaces a character that is not safe: nothing is left out silently.
const INSTEAD: char = '_';

/// The name of a file whose sender gave it none that could be used.
const UNNAMED: &str = "unnamed";

/// Turns the name that a sender claims into one that is safe as a single entry of a directory.
///
/// - Separators, what Windows reserves (`<>:"|?*`), control characters and characters that nobody sees (directions
///   of text, joiners, fillers) become `_`. So do leading dots, which would hide the file or name a directory.
/// - White space at both ends and dots at the end go: Windows would take them away, and another name would result.
/// - Names of devices of Windows (`CON`, `com1.txt`) get a `_` in front.
/// - What is longer than [`MAX_BYTES`] is cut before its extension, at the boundary of a character.
///
/// All else stays as it is, Chinese names included; nothing is normalised. A safe name stays the same.
pub(crate) fn safe(claimed: &str) -> String {
    let replaced: String = claimed.chars().map(|c| if is_unsafe(c) { INSTEAD } else { c }).collect();
    let name = shortened(without_leading_dots(trimmed(&replaced)));
    match name {
        name if name.is_empty() => UNNAMED.to_owned(),
        // Devices are looked for last: cutting can leave one behind, and what is in front makes it none.
        name if is_device(&name) => shortened(format!("{INSTEAD}{name}")),
        name => name,
    }
}

/// The `n`th other name for a safe one that is taken: `report.pdf` becomes `report (1).pdf`.
///
/// Safe again, and at most 13 bytes longer.
pub(crate) fn numbered(safe: &str, n: u32) -> String {
    let (stem, extension) = split(safe);
    format!("{stem} ({n}){extension}")
}

/// Whether a character misleads a file system or whoever reads the name.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '/' | '\\' | '<' | '>' | ':' | '"' | '|' | '?' | '*'
            // Soft hyphen, the Arabic letter mark, the Mongolian vowel separator, the empty Braille cell.
            | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{2800}'
            // Of no width and marks of direction; separators of lines; embeddings and overrides of direction.
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            // Word joiner, invisible operators, isolates of direction, deprecated formats.
            | '\u{2060}'..='\u{206f}'
            // Hangul fillers, the byte order mark, annotations, tags.
            | '\u{3164}' | '\u{ffa0}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

fn trimmed(name: &str) -> &str {
    name.trim_start().trim_end_matches(|c: char| c == '.' || c.is_whitespace())
}

fn without_leading_dots(name: &str) -> String {
    let rest = name.trim_start_matches('.');
    let dots = name.len() - rest.len();
    INSTEAD.to_string().repeat(dots) + rest
}

/// The name cut to [`MAX_BYTES`], its extension kept.
fn shortened(name: String) -> String {
    if name.len() <= MAX_BYTES {
        return name;
    }
    let (stem, extension) = split(&name);
    let end = stem.floor_char_boundary(MAX_BYTES - extension.len());
    // Cutting may have left white space or a dot at the end.
    trimmed(&format!("{}{extension}", &stem[..end])).to_owned()
}

/// A name before its extension, and the extension with its dot: two of them after `.tar`, none if it is no such thing.
fn split(name: &str) -> (&str, &str) {
    let Some((stem, extension)) = name.rsplit_once('.') else { return (name, "") };
    let is_extension =
        (1..=MAX_EXTENSION).contains(&extension.len()) && extension.chars().all(char::is_alphanumeric);
    if stem.is_empty() || !is_extension {
        return (name, "");
    }
    let archive = stem.len().checked_sub(".tar".len()).filter(|&at| at > 0);
    let archive = archive.filter(|&at| stem.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(".tar")));
    name.split_at(archive.unwrap_or(stem.len()))
}

/// Whether Windows takes the name for a device, whatever its extension.
fn is_device(name: &str) -> bool {
    let base = name.split('.').next().unwrap_or(name).trim_end().to_ascii_uppercase();
    match base.as_str() {
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" | "CLOCK$" => true,
        base => base.strip_prefix("COM").or(base.strip_prefix("LPT")).is_some_and(is_port),
    }
}

/// One digit, of which Windows knows three in superscript.
fn is_port(number: &str) -> bool {
    let mut digits = number.chars();
    digits.next().is_some_and(|c| c.is_ascii_digit() || matches!(c, '¹' | '²' | '³'))
        && digits.next().is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(claimed: &str, expected: &str) {
        let name = safe(claimed);
        assert_eq!(name, expected, "{claimed:?}");
        assert_safe(&name);
    }

    /// What every safe name is, said in other words than those of the code.
    fn assert_safe(name: &str) {
        assert!(!name.is_empty() && name.len() <= MAX_BYTES, "{name:?}");
        assert!(
            !name.contains(['/', '\\', ':', '\0', '\n', '\u{7f}', '\u{85}', '\u{202e}', '\u{2066}']),
            "{name:?}"
        );
        assert!(
            !name.contains(['<', '>', '"', '|', '?', '*', '\u{200b}', '\u{feff}', '\u{2028}']),
            "{name:?}"
        );
        assert!(!name.starts_with('.') && !name.ends_with(['.', ' ', '\u{a0}', '\u{3000}']), "{name:?}");
        let base = name.split('.').next().unwrap().trim().to_uppercase();
        let devices =
            ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "COM0", "COM9", "LPT1", "COM¹", "LPT³"];
        assert!(!devices.contains(&base.as_str()), "{name:?}");
        assert_eq!(std::path::Path::new(name).file_name(), Some(name.as_ref()), "{name:?}");
        assert_eq!(safe(name), name);
    }

    #[test]
    fn ordinary_names_stay() {
        for name in [
            "report.pdf",
            "archive.tar.gz",
            "no extension",
            "年度报告（最终版）.docx",
            "Übersicht größer.txt",
            "отчёт.csv",
            "テスト　表.xlsx",
            "🌍.png",
            "cafe\u{301}.txt",
            "a.b.c",
            "_",
            "console.log",
            "COM10",
            "COM",
            "nulls.txt",
            "LPTx",
            "$HOME `id` ;'&",
        ] {
            check(name, name);
        }
    }

    #[test]
    fn paths_become_names() {
        check("../../etc/passwd", "___.._etc_passwd");
        check("..\\..\\windows\\system32", "___.._windows_system32");
        check("/etc/shadow", "_etc_shadow");
        check("C:\\autoexec.bat", "C__autoexec.bat");
        check("\\\\server\\share", "__server_share");
        check("\\\\?\\C:\\x", "____C__x");
        check("file.txt:stream:$DATA", "file.txt_stream_$DATA");
        check("a/../b", "a_.._b");
        check("../../x", "___.._x");
        check("dir/", "dir_");
    }

    #[test]
    fn nothing_hides_and_nothing_is_empty() {
        check("", "unnamed");
        check("   ", "unnamed");
        check(".", "unnamed");
        check("..", "unnamed");
        check("... . .", "unnamed");
        check(".bashrc", "_bashrc");
        check("..x", "__x");
        check(" .ssh", "_ssh");
        check(".amop", "_amop");
        check("\u{3000}报告\u{3000}", "报告");
        check("evil.exe . . ", "evil.exe");
        check("evil.exe\u{a0}", "evil.exe");
    }

    #[test]
    fn what_nobody_sees_is_replaced() {
        check("a\0b", "a_b");
        check("a\r\nb\t\u{1b}[31m", "a__b__[31m");
        check("\u{85}\u{9b}x", "__x");
        check("invoice\u{202e}fdp.exe", "invoice_fdp.exe");
        check("\u{2066}a\u{2069}", "_a_");
        check("pay\u{200b}pal\u{feff}", "pay_pal_");
        check("a\u{2028}b\u{2029}c", "a_b_c");
        check("\u{200b}.hidden", "_.hidden");
        check("a<b>c\"d|e?f*g", "a_b_c_d_e_f_g");
        check("\u{3164}\u{e0041}\u{ad}", "___");
    }

    #[test]
    fn devices_are_none() {
        check("CON", "_CON");
        check("nul", "_nul");
        check("Aux.txt", "_Aux.txt");
        check("con.tar.gz", "_con.tar.gz");
        check("PRN  .txt", "_PRN  .txt");
        check("con. ", "_con");
        check("  con", "_con");
        check("COM0", "_COM0");
        check("lpt9.log", "_lpt9.log");
        check("COM¹.txt", "_COM¹.txt");
        check("lpt³", "_lpt³");
        check("CONIN$", "_CONIN$");
        check("conout$.x", "_conout$.x");
    }

    #[test]
    fn long_names_are_cut_and_keep_their_extension() {
        check(&"a".repeat(MAX_BYTES), &"a".repeat(MAX_BYTES));
        check(&"a".repeat(MAX_BYTES + 1), &"a".repeat(MAX_BYTES));
        check(&format!("{}.pdf", "a".repeat(300)), &format!("{}.pdf", "a".repeat(196)));
        check(&format!("{}.tar.gz", "a".repeat(300)), &format!("{}.tar.gz", "a".repeat(193)));
        check(&format!("{}.pdf", "报".repeat(100)), &format!("{}.pdf", "报".repeat(65)));
        check(&format!("x.{}", "y".repeat(300)), &format!("x.{}", "y".repeat(198)));
        check(&format!("{}  .  {}", "a".repeat(198), "b".repeat(300)), &"a".repeat(198));
        // What is cut off must not leave a device, nor what marks a device make the name too long.
        check(&format!("CON{}x", " ".repeat(300)), "_CON");
        check(&format!("CON.{}", "x".repeat(300)), &format!("_CON.{}", "x".repeat(195)));
        check(&format!("{}x", " ".repeat(300)), "x");
    }

    #[test]
    fn numbers_stand_before_the_extension() {
        let check = |name: &str, n, expected: &str| {
            assert_eq!(numbered(name, n), expected);
            assert_safe(expected);
        };
        check("report.pdf", 1, "report (1).pdf");
        check("report.pdf", 12, "report (12).pdf");
        check("archive.tar.gz", 1, "archive (1).tar.gz");
        check("a.TAR.xz", 1, "a (1).TAR.xz");
        check("tar.gz", 1, "tar (1).gz");
        check("报告.文档", 3, "报告 (3).文档");
        check("README", 2, "README (2)");
        check("version 1. the last one", 1, "version 1. the last one (1)");
        check("_bashrc", 1, "_bashrc (1)");
        check("报tar.gz", 1, "报tar (1).gz");
        assert!(numbered(&"a".repeat(MAX_BYTES), u32::MAX).len() <= 255);
    }

    /// Names made of what attacks are made of, and of anything.
    fn claims() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            proptest::sample::select(vec![
                ".", "..", "/", "\\", " ", "CON", "nul", "COM1", "COM¹", "$", ":", "\0", "\u{202e}",
                "\u{3000}", "\u{a0}", "_", "报", ".tar", ".gz", "x", "é", "🌍",
            ])
            .prop_map(str::to_owned),
            any::<char>().prop_map(String::from),
            (0..260usize, proptest::sample::select(vec!["a", " ", ".", "报", "_"]))
                .prop_map(|(n, s)| s.repeat(n)),
        ];
        proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn every_claim_becomes_safe(claimed in claims()) {
            assert_safe(&safe(&claimed));
        }

        #[test]
        fn every_number_leaves_it_safe(claimed in claims(), n: u32) {
            let (name, other) = (safe(&claimed), numbered(&safe(&claimed), n));
            prop_assert!(other.len() <= name.len() + 13 && other != name);
            if other.len() <= MAX_BYTES {
                assert_safe(&other);
            }
        }
    }
}
