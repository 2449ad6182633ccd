//! Commands that ask a node over its admin port: which node, with what authority, and how often.

use std::{
    io::{self, IsTerminal, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use serde::Serialize;

use crate::{
    cli::{output, signals::Signals},
    config,
    identity::{AskingTls, Credentials},
    telemetry::{
        admin::Secret,
        client::{AskError, Asker},
    },
};

/// Which node to ask, and with what authority.
#[derive(Debug, clap::Args)]
pub(super) struct Node {
    /// The node's admin address
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:20300")]
    admin: SocketAddr,
    /// Take admin address, certificates and token from this node's configuration
    #[arg(long, value_name = "FILE", conflicts_with_all = ["admin", "certs"])]
    config: Option<PathBuf>,
    /// Ask over TLS with this client's certificate: ca.crt, sdk.crt and sdk.key. Beyond the loopback
    /// interface it takes this, or --config
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
    /// The node's admin token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Which node to ask, and how to print what it says.
#[derive(Debug, clap::Args)]
pub(super) struct Ask {
    #[command(flatten)]
    node: Node,
    /// Print JSON, for scripts
    #[arg(long)]
    json: bool,
    /// Show it again and again, every two seconds or as often as is said
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = seconds)]
    watch: Option<Duration>,
}

/// Whether a command needs authority over the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    /// It looks, and shows a token only if it is given one, or may need it.
    Read,
    /// It changes the node.
    Change,
}

impl Node {
    /// Ready to ask.
    pub(super) fn asker(&self, intent: Intent) -> anyhow::Result<Asker> {
        let asker = match (&self.config, &self.certs) {
            (Some(path), _) => self.by_config(path, intent)?,
            (None, Some(dir)) => Asker::plain(self.admin).over(AskingTls::of_client(dir)?.config()),
            (None, None) => Asker::plain(self.admin),
        };
        match &self.token_file {
            Some(path) => Ok(asker.with(Secret::load(path)?)),
            None => Ok(asker),
        }
    }

    fn by_config(&self, path: &Path, intent: Intent) -> anyhow::Result<Asker> {
        let config = config::load(path)?;
        let listen = config.admin.listen;
        let mut asker = Asker::plain(reachable(listen));
        let is_loopback = listen.ip().to_canonical().is_loopback();
        if !is_loopback {
            let credentials = Credentials::load(&config.node.paths)?;
            asker = asker.over(AskingTls::of_node(&credentials)?.config());
        }
        // Who looks at a node on this machine need not be able to read its token.
        let needed = intent == Intent::Change || !is_loopback || config.admin.token_for_reads;
        match config.admin.token.filter(|_| needed && self.token_file.is_none()) {
            Some(token) => Ok(asker.with(Secret::load(&token)?)),
            None => Ok(asker),
        }
    }
}

/// An address of this machine for one that stands for all of them.
fn reachable(listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, listen.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, listen.port()).into(),
        _ => listen,
    }
}

impl Ask {
    /// Asks and prints, once or until a signal comes. With `--watch` on a terminal each time takes the
    /// place of the one before; elsewhere they follow each other.
    pub(super) async fn run<T, A, F>(
        self,
        mut ask: A,
        mut describe: impl FnMut(&T) -> String,
    ) -> anyhow::Result<ExitCode>
    where
        T: Serialize,
        A: FnMut(Asker) -> F,
        F: Future<Output = Result<T, AskError>>,
    {
        let asker = self.node.asker(Intent::Read)?;
        let mut show = |answer: &T| {
            if self.json { serde_json::to_string(answer).map_err(Into::into) } else { Ok(describe(answer)) }
        };
        let Some(pause) = self.watch else {
            let text = show(&ask(asker).await?)?;
            output::say(text)?;
            return Ok(ExitCode::SUCCESS);
        };
        let mut signals = Signals::new()?;
        let in_place = io::stdout().is_terminal() && !self.json;
        let mut ticks = tokio::time::interval(pause);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while signals.unless(ticks.tick()).await.is_some() {
            let Some(answer) = signals.unless(ask(asker.clone())).await else { break };
            let text: anyhow::Result<String> = match answer {
                Ok(answer) => show(&answer),
                // A node that starts again is watched on.
                Err(error) if in_place => Ok(format!("{} {error}", output::warning("no answer:"))),
                Err(error) => return Err(error.into()),
            };
            let text = text?;
            if in_place { replace(&text)? } else { output::say(text)? }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Puts the text where the last one was: home, each line to its end, then what is below.
fn replace(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let lines = text.replace('\n', "\x1b[K\n");
    write!(out, "\x1b[H{lines}\x1b[K\n\x1b[J")?;
    out.flush()
}

fn seconds(text: &str) -> anyhow::Result<Duration> {
    let number: f64 = text.parse().context("give it in seconds, such as 5 or 0.5")?;
    let bounds = 0.1..=3600.0;
    anyhow::ensure!(bounds.contains(&number), "must be between 0.1 and 3600 seconds");
    Ok(Duration::from_secs_f64(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_seconds_within_reason() {
        assert_eq!(seconds("2").unwrap(), Duration::from_secs(2));
        assert_eq!(seconds("0.5").unwrap(), Duration::from_millis(500));
        for bad in ["", "x", "0", "-1", "NaN", "inf", "99999", "2s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn all_addresses_are_asked_at_one() {
        let at = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(at("0.0.0.0:5"), "127.0.0.1:5");
        assert_eq!(at("[::]:5"), "[::1]:5");
        assert_eq!(at("192.0.2.1:5"), "192.0.2.1:5");
    }
}
