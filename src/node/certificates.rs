//! The certificates a node lives by, and how long they last.

use std::time::{SystemTime, UNIX_EPOCH};

use amop_protocol::certificate::Description;
use rustls_pki_types::CertificateDer;

use crate::{
    config::Config,
    identity::{Credentials, pem},
    telemetry::status::Certificate,
};

/// Seconds of a day.
const DAY: i64 = 86_400;

/// What is known of each certificate from start on; only the days change.
#[derive(Debug, Default)]
pub(super) struct Certificates(Vec<(&'static str, Description)>);

impl Certificates {
    /// The node's own chain, and the roots it believes.
    pub(super) fn of(config: &Config, credentials: &Credentials) -> Self {
        // Credentials made from memory, as tests have them, have no file of roots.
        let roots = pem::certificates(&config.node.paths.ca).unwrap_or_default();
        let own = credentials.chain().iter().enumerate();
        let own = own.map(|(at, der)| (if at == 0 { "node" } else { "issuer" }, der));
        let all = own.chain(roots.iter().map(|der| ("root", der)));
        let describe = |(of, der): (_, &CertificateDer<'_>)| Some((of, Description::parse(der).ok()?));
        Self(all.filter_map(describe).collect())
    }

    /// As they are now.
    pub(super) fn status(&self) -> Vec<Certificate> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let status = |(of, description): &(&str, Description)| Certificate {
            of: (*of).to_owned(),
            subject: description.subject.clone(),
            issuer: description.issuer.clone(),
            serial: description.serial.clone(),
            not_before: description.not_before,
            not_after: description.not_after,
            days_left: days_left(description.not_after, now),
        };
        self.0.iter().map(status).collect()
    }

    /// Seconds until the first of them expires, Unix time; `None` if there is none.
    pub(super) fn first_to_expire(&self) -> Option<i64> {
        self.0.iter().map(|(_, description)| description.not_after).min()
    }
}

fn days_left(not_after: i64, now: i64) -> i64 {
    not_after.saturating_sub(now).div_euclid(DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_whole_and_negative_once_it_has_expired() {
        assert_eq!(days_left(10 * DAY, DAY / 2), 9);
        assert_eq!(days_left(DAY, DAY), 0);
        assert_eq!(days_left(DAY, DAY + 1), -1);
    }
}
