//! What is answered.

use super::*;

#[tokio::test]
async fn what_a_node_says_is_what_a_client_reads() {
    let bed = Bed::local();
    let at = bed.at();
    let source = Fixed::default();
    assert_eq!(client::status(at).await.expect("status"), source.status());
    assert_eq!(client::topics(at).await.expect("topics"), source.topics(&Page::default()));
    assert_eq!(client::peers(at).await.expect("peers"), Vec::new());
    let text = client::get(at, "/metrics").await.expect("metrics");
    assert!(String::from_utf8_lossy(&text).ends_with("# EOF\n"));
    let (status, said) = refused(client::get(at, "/v1/nothing").await);
    assert!(status == 404 && said.contains("no such page"), "{said}");
}

#[tokio::test]
async fn a_page_of_a_list_is_asked_for() {
    let bed = Bed::local();
    let named = async |prefix: Option<&str>, after: Option<&str>, limit| {
        let page = Page { prefix: prefix.map(Into::into), after: after.map(Into::into), limit };
        let topics = bed.anybody().topics_on(&page).await.expect("topics");
        topics.into_iter().map(|topic| topic.topic).collect::<Vec<_>>()
    };
    assert_eq!(named(None, None, None).await.len(), 3);
    assert_eq!(named(Some("ü"), None, None).await, ["über"]);
    assert_eq!(named(None, Some("a b&c"), Some(1)).await, ["prices"]);
    let (status, _) = refused(client::get(bed.at(), "/v1/topics?limit=many").await);
    assert_eq!(status, 400);
}

#[tokio::test]
async fn the_web_page_is_everybodys_and_what_it_shows_is_not() {
    let strict = Bed::new(SocketAddr::from(([127, 0, 0, 1], 0)), |settings| settings.token_for_reads = true);
    let page = strict.anybody().ask(Method::GET, "/").await.expect("the page");
    assert!(page.starts_with(b"<!doctype html>"));
    assert_eq!(refused(strict.anybody().ask(Method::GET, "/v1/overview").await).0, 401);
    assert_eq!(refused(strict.anybody().ask(Method::POST, "/").await).0, 401);
    let own = strict.anybody().with(strict.secret.clone());
    let overview: Overview = own.read("/v1/overview?prefix=p&rows=1").await.expect("with the token");
    assert_eq!(overview.topics.iter().map(|spread| &*spread.topic).collect::<Vec<_>>(), ["prices"]);
    assert_eq!(refused(own.ask(Method::GET, "/v1/overview?rows=-1").await).0, 400);
    let foreign = raw(&strict, b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    assert!(foreign.starts_with("HTTP/1.1 403") && foreign.contains("default-src 'none'"), "{foreign}");
    let remote = Bed::remote();
    let without =
        Asker::plain(remote.at()).over(AskingTls::of_node(&remote.credentials).expect("TLS").config());
    assert!(without.ask(Method::GET, "/").await.is_ok());
    assert_eq!(refused(without.ask(Method::GET, "/v1/overview").await).0, 401);
}
