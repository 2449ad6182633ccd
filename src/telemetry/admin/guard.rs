//! Who may do what: looked at before anything else is done for a request.
//!
//! One rule for all pages, so that no page can forget it: GET and HEAD read, everything else
//! changes the node. What changes the node needs the token. Reading needs nothing on the loopback
//! interface (unless configured), and elsewhere the token or the certificate of a client that the
//! configuration names. Only the web page's own files, which say nothing of the node, are everybody's.

use std::{net::IpAddr, sync::Arc};

use axum::{
    http::{
        HeaderMap, Method, Request, StatusCode, Uri,
        header::{AUTHORIZATION, CONTENT_LENGTH, HOST, ORIGIN, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};

use super::{Names, Settings, metrics::Refused, page, token::Known};

/// Bytes of a request's body that are read.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// Decides for all connections of a port.
#[derive(Debug)]
pub(super) struct Guard {
    token: Option<Known>,
    token_for_reads: bool,
    is_loopback: bool,
    names: Names,
}

/// What is known of whoever asks before it has asked anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Nothing.
    Anybody,
    /// The name in its certificate, which is good.
    Client(Arc<str>),
    /// Its certificate is good, but says nobody's name.
    Stranger,
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error(
        "this needs the node's admin token; give it with --token-file, or --config on the node's machine"
    )]
    NoAuthority,
    #[error(
        "this is not the node's admin token; it is in the file that admin.token names (admin.token beside the configuration)"
    )]
    WrongToken,
    #[error("this client's certificate may read, but not change the node; that needs the admin token")]
    OnlyReads,
    #[error("this client's name is not in the node's admin.clients; add it there, or give the admin token")]
    NotNamed,
    #[error(
        "this node takes no changes over its admin port: admin.token is \"off\", or could not be made when it started"
    )]
    NoChanges,
    #[error("this host name is not one of the node's; ask for it by address, or add the name to admin.hosts")]
    Host,
    #[error("a page of another origin may not change the node")]
    Origin,
    #[error("a request may bring at most {MAX_BODY} bytes")]
    TooLarge,
}

impl Refusal {
    pub(super) fn reason(self) -> Refused {
        match self {
            Self::NoAuthority => Refused::NoAuthority,
            Self::WrongToken => Refused::WrongToken,
            Self::OnlyReads | Self::NotNamed | Self::NoChanges => Refused::NotEnough,
            Self::Host => Refused::Host,
            Self::Origin => Refused::Origin,
            Self::TooLarge => Refused::TooLarge,
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::NoAuthority | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::FORBIDDEN,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = format!("{self}\n");
        match self.status() {
            StatusCode::UNAUTHORIZED => {
                (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer realm=\"amop\"")], text)
                    .into_response()
            }
            status => (status, text).into_response(),
        }
    }
}

impl Guard {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            token: settings.token.as_ref().map(Known::new),
            token_for_reads: settings.token_for_reads,
            is_loopback: settings.is_loopback(),
            names: settings.names.clone(),
        }
    }

    /// Lets a request in, or says why not.
    pub(super) fn check<B>(&self, request: &Request<B>, caller: &Caller) -> Result<(), Refusal> {
        let (headers, method) = (request.headers(), request.method());
        let host = host(headers, request.uri()).filter(|host| self.is_own(host)).ok_or(Refusal::Host)?;
        let changes = !matches!(*method, Method::GET | Method::HEAD);
        if changes && !is_own_origin(headers, host) {
            return Err(Refusal::Origin);
        }
        // The web page is the same at every node, and has to be there to ask for the token.
        if changes || !page::is_its(request.uri().path()) {
            self.authorise(headers, changes, caller)?;
        }
        match length(headers) {
            Some(length) if length > MAX_BODY as u64 => Err(Refusal::TooLarge),
            _ => Ok(()),
        }
    }

    fn authorise(&self, headers: &HeaderMap, changes: bool, caller: &Caller) -> Result<(), Refusal> {
        if changes && self.token.is_none() {
            return Err(Refusal::NoChanges);
        }
        match (headers.get(AUTHORIZATION), &self.token) {
            (Some(shown), Some(token)) => match bearer(shown.as_bytes()).is_some_and(|shown| token.is(shown))
            {
                true => return Ok(()),
                false => return Err(Refusal::WrongToken),
            },
            (Some(_), None) => return Err(Refusal::WrongToken),
            (None, _) => {}
        }
        match caller {
            Caller::Client(name) if self.names.has_client(name) => match changes {
                false => Ok(()),
                true => Err(Refusal::OnlyReads),
            },
            Caller::Client(_) | Caller::Stranger => Err(Refusal::NotNamed),
            Caller::Anybody if !changes && self.is_loopback && !self.token_for_reads => Ok(()),
            Caller::Anybody => Err(Refusal::NoAuthority),
        }
    }

    /// Whether a name is one that this node goes by. A page that has its own name resolve to this
    /// node's address would otherwise be taken for one of ours. Addresses cannot be made to do that.
    fn is_own(&self, host: &str) -> bool {
        let name = without_port(host);
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match address {
            Ok(address) => !self.is_loopback || address.is_loopback(),
            Err(_) => name.eq_ignore_ascii_case("localhost") || self.names.has_host(name),
        }
    }
}

/// The host that is asked for, exactly one: the target's where it names one.
fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let mut named = headers.get_all(HOST).iter();
    let (host, more) = (named.next()?.to_str().ok()?, named.next());
    let same = uri.authority().is_none_or(|authority| authority.as_str() == host);
    (more.is_none() && same).then_some(host)
}

/// Whether what changes the node comes from no page at all, or from one of this very port.
fn is_own_origin(headers: &HeaderMap, host: &str) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    origins.all(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        let of = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        of.is_some_and(|of| of.eq_ignore_ascii_case(host))
    })
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // What is left of an IPv6 address keeps its brackets.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::telemetry::admin::Secret;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn guard(listen: &str, change: impl FnOnce(&mut Settings)) -> Guard {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, TOKEN).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut settings = Settings::new(listen.parse::<SocketAddr>().unwrap());
        settings.token = Some(Secret::load(&path).unwrap());
        change(&mut settings);
        Guard::new(&settings)
    }

    fn local() -> Guard {
        guard("127.0.0.1:20300", |_| {})
    }

    fn remote() -> Guard {
        guard("10.0.0.1:20300", |settings| {
            settings.names = Names::new(vec!["prometheus".into()], vec!["node.bank".into()]);
        })
    }

    fn reader() -> Caller {
        Caller::Client("prometheus".into())
    }

    fn check(guard: &Guard, caller: Caller, method: &str, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut request = Request::builder().method(method).uri("/v1/status");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        guard.check(&request.body(()).unwrap(), &caller)
    }

    const HERE: (&str, &str) = ("host", "127.0.0.1:20300");
    const GOOD: (&str, &str) = ("authorization", "Bearer 0123456789abcdef0123456789abcdef");

    #[test]
    fn on_loopback_anybody_reads_and_only_the_token_changes() {
        let get = |headers: &[_]| check(&local(), Caller::Anybody, "GET", headers);
        assert_eq!(get(&[HERE]), Ok(()));
        assert_eq!(get(&[HERE, GOOD]), Ok(()));
        assert_eq!(check(&local(), Caller::Anybody, "HEAD", &[HERE]), Ok(()));
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "NEW"] {
            let ask = |headers: &[_]| check(&local(), Caller::Anybody, method, headers);
            assert_eq!(ask(&[HERE]), Err(Refusal::NoAuthority), "{method}");
            assert_eq!(ask(&[HERE, GOOD]), Ok(()), "{method}");
        }
    }

    #[test]
    fn a_token_is_right_or_wrong() {
        let post = |value| check(&local(), Caller::Anybody, "POST", &[HERE, ("authorization", value)]);
        assert_eq!(post("bearer 0123456789abcdef0123456789abcdef"), Ok(()));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcdef0123456789abcdeF",
            "Bearer 0123456789abcdef0123456789abcde",
            "Bearer 0123456789abcdef0123456789abcdef0",
            "Basic 0123456789abcdef0123456789abcdef",
            "0123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(post(wrong), Err(Refusal::WrongToken), "{wrong:?}");
        }
        let long = format!("Bearer {}", "a".repeat(10_000));
        assert_eq!(post(&long), Err(Refusal::WrongToken));
        let get = check(&local(), Caller::Anybody, "GET", &[HERE, ("authorization", "Bearer x")]);
        assert_eq!(get, Err(Refusal::WrongToken), "who shows a token means it");
    }

    #[test]
    fn without_a_token_nothing_changes_and_reads_may_need_it() {
        let off = guard("127.0.0.1:1", |settings| settings.token = None);
        assert_eq!(check(&off, Caller::Anybody, "GET", &[HERE]), Ok(()));
        assert_eq!(check(&off, Caller::Anybody, "POST", &[HERE, GOOD]), Err(Refusal::NoChanges));
        let strict = guard("127.0.0.1:1", |settings| settings.token_for_reads = true);
        assert_eq!(check(&strict, Caller::Anybody, "GET", &[HERE]), Err(Refusal::NoAuthority));
        assert_eq!(check(&strict, Caller::Anybody, "GET", &[HERE, GOOD]), Ok(()));
    }

    #[test]
    fn beyond_loopback_reading_takes_a_named_client_or_the_token() {
        let host = ("host", "10.0.0.1:20300");
        let ask = |caller, method, headers: &[_]| check(&remote(), caller, method, headers);
        assert_eq!(ask(Caller::Anybody, "GET", &[host]), Err(Refusal::NoAuthority));
        assert_eq!(ask(Caller::Anybody, "GET", &[host, GOOD]), Ok(()));
        assert_eq!(ask(reader(), "GET", &[host]), Ok(()));
        assert_eq!(ask(reader(), "POST", &[host]), Err(Refusal::OnlyReads));
        assert_eq!(ask(reader(), "POST", &[host, GOOD]), Ok(()));
        for nobody in [Caller::Stranger, Caller::Client("till".into()), Caller::Client("".into())] {
            assert_eq!(ask(nobody, "GET", &[host]), Err(Refusal::NotNamed));
        }
        assert_eq!(ask(Caller::Stranger, "GET", &[host, GOOD]), Ok(()));
    }

    #[test]
    fn a_name_that_is_not_the_nodes_is_refused() {
        let local = |host| check(&local(), Caller::Anybody, "GET", &[("host", host)]);
        for good in
            ["127.0.0.1", "127.0.0.1:80", "127.9.9.9", "localhost", "LOCALHOST:20300", "[::1]:1", "[::1]"]
        {
            assert_eq!(local(good), Ok(()), "{good}");
        }
        for bad in [
            "evil.example",
            "evil.example:20300",
            "10.0.0.1",
            "localhost.evil",
            "127.0.0.1.evil",
            "",
            ":",
            "[::2]:1",
        ] {
            assert_eq!(local(bad), Err(Refusal::Host), "{bad}");
        }
        let remote = |host| check(&remote(), reader(), "GET", &[("host", host)]);
        for good in ["10.0.0.1:20300", "192.0.2.1", "node.bank", "Node.Bank:1", "localhost:1"] {
            assert_eq!(remote(good), Ok(()), "{good}");
        }
        assert_eq!(remote("evil.example"), Err(Refusal::Host));
        let ask = |headers: &[_]| check(&super::tests::local(), Caller::Anybody, "GET", headers);
        assert_eq!(ask(&[]), Err(Refusal::Host), "none");
        assert_eq!(ask(&[HERE, ("host", "evil.example")]), Err(Refusal::Host), "two");
    }

    #[test]
    fn names_may_change() {
        let guard = remote();
        let ask = |caller, host| check(&guard, caller, "GET", &[("host", host)]);
        assert_eq!(ask(reader(), "node.bank"), Ok(()));
        let names = &guard.names;
        names.replace(vec!["grafana".into()], vec!["other.bank".into()]);
        assert_eq!(ask(reader(), "10.0.0.1"), Err(Refusal::NotNamed));
        assert_eq!(ask(Caller::Client("grafana".into()), "other.bank"), Ok(()));
        assert_eq!(ask(Caller::Client("grafana".into()), "node.bank"), Err(Refusal::Host));
    }

    #[test]
    fn a_target_with_another_host_is_refused() {
        let request = Request::builder().uri("http://evil.example/v1/status").header("host", "127.0.0.1");
        assert_eq!(local().check(&request.body(()).unwrap(), &Caller::Anybody), Err(Refusal::Host));
    }

    #[test]
    fn a_page_of_others_changes_nothing_even_with_the_token() {
        let post = |origin| check(&local(), Caller::Anybody, "POST", &[HERE, GOOD, ("origin", origin)]);
        assert_eq!(post("http://127.0.0.1:20300"), Ok(()));
        for foreign in [
            "http://evil.example",
            "null",
            "",
            "http://127.0.0.1:20301",
            "file://",
            "http://127.0.0.1:20300.evil",
        ] {
            assert_eq!(post(foreign), Err(Refusal::Origin), "{foreign}");
        }
    }

    #[test]
    fn who_has_no_authority_learns_nothing_of_other_bounds() {
        let large = ("content-length", "999999999");
        let post = |headers: &[_]| check(&local(), Caller::Anybody, "POST", headers);
        assert_eq!(post(&[HERE, large]), Err(Refusal::NoAuthority));
        assert_eq!(post(&[HERE, GOOD, large]), Err(Refusal::TooLarge));
    }
}
