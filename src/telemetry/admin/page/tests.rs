use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::*;

async fn ask(path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    TowerToHyperService::new(router::<()>()).call(request.body(Body::empty()).unwrap()).await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap()
}

async fn text(response: Response) -> String {
    String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
}

fn path(name: &str) -> String {
    format!("{FOLDER}{}/{name}", PAGE.version)
}

#[tokio::test]
async fn a_browser_does_nothing_for_the_page_but_run_it() {
    for (at, kind) in [("/".to_owned(), "text/html"), (path("main.js"), "text/javascript")] {
        let response = ask(&at, &[]).await;
        assert_eq!(response.status(), StatusCode::OK, "{at}");
        assert!(header(&response, "content-type").starts_with(kind), "{at}");
        let policy = header(&response, "content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(header(&response, "cross-origin-resource-policy"), "same-origin");
    }
}

#[tokio::test]
async fn files_are_kept_and_the_page_that_names_them_is_asked_for_again() {
    let index = ask("/", &[]).await;
    assert_eq!(header(&index, "cache-control"), "no-cache");
    let tag = header(&index, "etag").to_owned();
    let again = ask("/", &[("if-none-match", &format!("\"other\", W/{tag}"))]).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert!(text(again).await.is_empty());
    assert_eq!(ask("/", &[("if-none-match", "\"other\"")]).await.status(), StatusCode::OK);
    let file = ask(&path("style.css"), &[]).await;
    assert!(header(&file, "cache-control").contains("immutable"));
    for gone in [format!("{FOLDER}0000000000000000/style.css"), path("files.rs"), path("..%2fmod.rs")] {
        assert_eq!(ask(&gone, &[]).await.status(), StatusCode::NOT_FOUND, "{gone}");
    }
}

#[tokio::test]
async fn every_file_that_is_named_is_there_and_none_beside() {
    let index = text(ask("/", &[]).await).await;
    assert!(!index.contains(PLACEHOLDER));
    for file in FILES {
        let of_index = index.contains(&path(file.name));
        assert!(of_index, "{} is not loaded by index.html", file.name);
        assert_eq!(text(ask(&path(file.name), &[]).await).await, file.text);
        for (_, rest) in
            file.text.match_indices("from \"./").map(|(at, with)| file.text.split_at(at + with.len()))
        {
            let name = rest.split('"').next().unwrap();
            assert!(FILES.iter().any(|file| file.name == name), "{} imports {name}", file.name);
        }
    }
    assert!(!index.contains("<style") && !index.contains("style="), "the policy forbids it");
}

#[test]
fn nothing_is_made_of_text_but_text() {
    for file in FILES {
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "localStorage",
            "http:",
        ] {
            let allowed = forbidden == "http:"
                && file.text.replace("http://www.w3.org/2000/svg", "").find(forbidden).is_none();
            assert!(allowed || !file.text.contains(forbidden), "{} has {forbidden}", file.name);
        }
    }
}

#[test]
fn the_page_stays_small() {
    let bytes: usize = FILES.iter().map(|file| file.text.len()).sum::<usize>() + INDEX.len();
    assert!(bytes < 64 * 1024, "{bytes} bytes");
}
