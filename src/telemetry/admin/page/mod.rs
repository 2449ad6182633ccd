//! The web page: a few files that are part of the program, and read [`super::routes`] like anybody.
//!
//! They say nothing of the node, so they are given to everybody; what they show, the browser asks for
//! with the authority of whoever sits in front of it. `/` names all others under the hash of what is in
//! them: they never change under their names, and browsers keep them.

mod files;

use std::sync::LazyLock;

use axum::{
    Router,
    extract::Path,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, X_FRAME_OPTIONS,
        },
    },
    response::{IntoResponse, Response},
    routing::get,
};
use ring::digest::{Context, SHA256};

use self::files::{FILES, File, INDEX};

/// Where the files of the page are, followed by their version.
const FOLDER: &str = "/page/";
/// What stands for that in `index.html`.
const PLACEHOLDER: &str = "{folder}";
/// What a browser may do for the page: run and show its own files, and ask this very port.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The page as this program has it.
struct Page {
    /// `index.html`, naming the others.
    index: String,
    /// First digits of the hash over all files.
    version: String,
    /// The same, as an entity tag.
    tag: HeaderValue,
}

static PAGE: LazyLock<Page> = LazyLock::new(Page::new);

/// Whether the path is one of the page's own.
pub(super) fn is_its(path: &str) -> bool {
    path == "/" || path.starts_with(FOLDER)
}

/// The page's own routes.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(index)).route(&format!("{FOLDER}{{version}}/{{name}}"), get(file))
}

impl Page {
    fn new() -> Self {
        let mut all = Context::new(&SHA256);
        all.update(INDEX.as_bytes());
        for File { name, text, .. } in FILES {
            all.update(name.as_bytes());
            all.update(text.as_bytes());
        }
        let version: String =
            all.finish().as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let tag = HeaderValue::try_from(format!("\"{version}\""));
        Self {
            index: INDEX.replace(PLACEHOLDER, &format!("{FOLDER}{version}")),
            // Hex digits between quotes are always a value of a header.
            tag: tag.unwrap_or(HeaderValue::from_static("\"\"")),
            version,
        }
    }
}

/// Always asked for again, and sent again only if it has changed.
async fn index(headers: HeaderMap) -> Response {
    answer(&headers, "text/html; charset=utf-8", "no-cache", &PAGE.index)
}

async fn file(Path((version, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let found = FILES.iter().find(|file| file.name == name).filter(|_| version == PAGE.version);
    match found {
        Some(file) => answer(&headers, file.kind, "public, max-age=31536000, immutable", file.text),
        None => (StatusCode::NOT_FOUND, "this is not of this node's version; load the page again\n")
            .into_response(),
    }
}

fn answer(asked: &HeaderMap, kind: &'static str, caching: &'static str, text: &'static str) -> Response {
    let known = asked.get_all(IF_NONE_MATCH).iter().any(|tags| is_among(tags, &PAGE.tag));
    let headers = [
        (ETAG, PAGE.tag.clone()),
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (CACHE_CONTROL, HeaderValue::from_static(caching)),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (OPENER_POLICY, HeaderValue::from_static("same-origin")),
        (RESOURCE_POLICY, HeaderValue::from_static("same-origin")),
    ];
    match known {
        true => (StatusCode::NOT_MODIFIED, headers).into_response(),
        false => (headers, text).into_response(),
    }
}

fn is_among(tags: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(tags), Ok(tag)) = (tags.to_str(), tag.to_str()) else { return false };
    tags.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests;
