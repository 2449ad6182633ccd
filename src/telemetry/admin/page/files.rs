//! The files of the page, as they are in the repository.

/// What `/` answers with.
pub(super) const INDEX: &str = include_str!("index.html");

/// A file that `index.html`, or another file, names.
pub(super) struct File {
    /// Its name in the folder.
    pub(super) name: &'static str,
    /// Its media type.
    pub(super) kind: &'static str,
    /// All of it.
    pub(super) text: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// All but `index.html`.
pub(super) const FILES: &[File] = &[
    File { name: "style.css", kind: "text/css; charset=utf-8", text: include_str!("style.css") },
    File { name: "icon.svg", kind: "image/svg+xml", text: include_str!("icon.svg") },
    File { name: "main.js", kind: SCRIPT, text: include_str!("main.js") },
    File { name: "poll.js", kind: SCRIPT, text: include_str!("poll.js") },
    File { name: "layout.js", kind: SCRIPT, text: include_str!("layout.js") },
    File { name: "picture.js", kind: SCRIPT, text: include_str!("picture.js") },
    File { name: "trace.js", kind: SCRIPT, text: include_str!("trace.js") },
    File { name: "tables.js", kind: SCRIPT, text: include_str!("tables.js") },
    File { name: "format.js", kind: SCRIPT, text: include_str!("format.js") },
];
