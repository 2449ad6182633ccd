//! Where there is a port, and what connections to it may do.

use super::*;

#[tokio::test]
async fn without_a_certificate_there_is_no_port_beyond_loopback() {
    let source = Arc::new(Fixed::default());
    let settings = Settings::new(SocketAddr::from(([0, 0, 0, 0], 0)));
    let error = Admin::start(settings, metrics::registry(), source.clone(), source).expect_err("no TLS");
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let first = Bed::local();
    let source = Arc::new(Fixed::default());
    let error = Admin::start(Settings::new(first.at()), metrics::registry(), source.clone(), source)
        .expect_err("in use")
        .to_string();
    assert!(error.contains(&first.at().to_string()) && error.contains("admin port"), "{error}");
}

#[tokio::test]
async fn a_connection_that_says_nothing_holds_up_no_end() {
    let bed = Bed::local();
    let silent = TcpStream::connect(bed.at()).await.expect("connect");
    assert!(client::get(bed.at(), "/healthz").await.is_ok());
    let begun = std::time::Instant::now();
    drop(bed);
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(silent);
}

#[tokio::test]
async fn requests_that_are_none_are_refused_and_closed() {
    let bed = Bed::local();
    let starts = async |bytes: &[u8], with: &str| {
        let answer = raw(&bed, bytes).await;
        assert!(answer.starts_with(with), "{answer:?} should start with {with:?}");
    };
    starts(b"GET /v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n", "HTTP/1.1 403").await;
    starts(b"GET /v1/status HTTP/1.1\r\n\r\n", "HTTP/1.1 403").await;
    starts(
        b"POST /v1/drain HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n",
        "HTTP/1.1 403",
    )
    .await;
    starts(
        b"POST /v1/drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
        "HTTP/1.1 401",
    )
    .await;
    starts(
        b"POST /v1/drain HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 401",
    )
    .await;
    starts(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not HTTP at all\r\n\r\n", "HTTP/1.1 400").await;
    let large = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024));
    starts(large.as_bytes(), "HTTP/1.1 431").await;
    for (reason, count) in [("Host", 2), ("Origin", 1), ("NoAuthority", 2)] {
        assert_eq!(bed.counted(&format!("amop_admin_refused_total{{reason=\"{reason}\"}}")).await, count);
    }
    assert!(bed.anybody().status().await.expect("status").ready, "nothing has changed");
}

#[tokio::test]
async fn those_who_only_sit_there_keep_nobody_out() {
    let bed = Bed::local();
    let mut silent = Vec::new();
    for _ in 0..2 * MAX_CONNECTIONS {
        silent.push(TcpStream::connect(bed.at()).await.expect("connect"));
    }
    assert!(bed.anybody().status().await.is_ok());
    let evicted = bed.counted("amop_admin_cut_total{reason=\"Evicted\"}").await;
    assert!(evicted >= MAX_CONNECTIONS as u64, "{evicted}");
}
