//! What needs the token.

use super::*;

#[tokio::test]
async fn a_node_that_is_told_to_drain_is_alive_but_not_ready() {
    let bed = Bed::local();
    assert!(client::get(bed.at(), "/readyz").await.is_ok());
    let (status, said) = refused(bed.anybody().drain().await);
    assert!(status == 401 && said.contains("--token-file"), "{said}");
    assert!(client::get(bed.at(), "/readyz").await.is_ok(), "nothing has changed");
    let operator = bed.anybody().with(bed.secret.clone());
    assert_eq!(operator.drain().await.expect("it is allowed").phase, Phase::Draining);
    assert!(client::get(bed.at(), "/healthz").await.is_ok());
    let (status, said) = refused(client::get(bed.at(), "/readyz").await);
    assert_eq!((status, &*said), (503, ": not ready: draining"));
    assert_eq!(bed.anybody().draining().await.expect("anybody may see it").in_flight, 2);
    assert_eq!(bed.counted("amop_admin_refused_total{reason=\"NoAuthority\"}").await, 1);
}

#[tokio::test]
async fn a_wrong_token_is_refused_everywhere() {
    let bed = Bed::local();
    let path = bed.dir.path().join("other");
    let wrong = bed.anybody().with(Secret::load_or_make(&path).expect("another token"));
    assert_eq!(refused(wrong.drain().await).0, 401);
    assert_eq!(refused(wrong.status().await).0, 401);
    assert_eq!(bed.counted("amop_admin_refused_total{reason=\"WrongToken\"}").await, 2);
}

#[tokio::test]
async fn every_method_but_two_needs_authority() {
    let bed = Bed::local();
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        for path in ["/v1/status", "/v1/drain", "/metrics", "/nothing"] {
            let answer = bed.anybody().ask(method.clone(), path).await;
            assert_eq!(refused(answer).0, StatusCode::UNAUTHORIZED.as_u16(), "{method} {path}");
        }
    }
    let answer = bed.anybody().with(bed.secret.clone()).ask(Method::POST, "/v1/status").await;
    assert_eq!(refused(answer).0, StatusCode::METHOD_NOT_ALLOWED.as_u16());
}
