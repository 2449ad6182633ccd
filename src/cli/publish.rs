//! `amop publish`: a message to every subscriber of a topic.

use std::{process::ExitCode, time::Instant};

use amop_client::{PublishOptions, Recipients};

use crate::cli::{
    client::{self, Connection, EXIT_CODES, Message, Outcome, To, private},
    output,
};

/// What to send, and where.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES, override_usage = "amop publish [OPTIONS] --node <IP:PORT> --certs <DIR> <TOPIC> <MESSAGE|--file <FILE>>")]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// The topic
    topic: String,
    #[command(flatten)]
    message: Message,
    #[command(flatten)]
    to: To,
    #[command(flatten)]
    private: private::Publish,
    /// Wait for every subscriber and say how each fared
    #[arg(long)]
    report: bool,
}

/// Sends and says whether anybody was handed the message.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let message = args.message.read()?;
    let json = args.connection.json;
    let client = match args.connection.open_to_send(&args.topic).await? {
        Ok(client) => client,
        Err(code) => return Ok(code),
    };
    let target = args.private.open(&client, &args.topic).await?;
    let started = Instant::now();
    let mut options = PublishOptions::default();
    options.to = args.to.address();
    options.report = args.report;
    let sent = target.publish(message, options).await;
    let took = started.elapsed();
    client.close().await;
    let report = match &sent {
        Ok(recipients) => recipients.clone(),
        Err(error) => error.recipients(),
    };
    let report = Some(&report).filter(|_| args.report);
    let Err(error) = sent else {
        if json {
            output::json(&Outcome::ok(&args.topic, took, None).report(report))?;
        } else {
            output::say(format_args!("{} in {}", output::good("delivered"), client::time(took)))?;
            report.map_or(Ok(()), print)?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    if json {
        let outcome = Outcome::failed(&args.topic, error.code(), error.cause(), error.to_string());
        let outcome = outcome.took(took, error.retry_after()).failed_at(error.hop(), error.retry());
        output::json(&outcome.report(report))?;
    } else {
        output::failure(&anyhow::Error::msg(error.to_string()));
        report.map_or(Ok(()), print)?;
        client::advice(error.kind()).into_iter().for_each(output::note);
    }
    Ok(client::exit_code(error.code()))
}

/// How each recipient fared, for people.
fn print(report: &Recipients) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for node in &report.nodes {
        let at = if node.name.is_empty() { node.node.to_hex() } else { client::name(&node.name) };
        let at = if node.institution.is_empty() {
            at
        } else {
            format!("{}/{at}", client::name(&node.institution))
        };
        for recipient in &node.recipients {
            let who =
                recipient.client.as_ref().map_or_else(|| "somebody".into(), |who| client::name(&who.name));
            rows.push([at.clone(), who, recipient.cause.to_string()]);
        }
        if let Some(cause) = node.cause {
            rows.push([at, "the node".into(), cause.to_string()]);
        }
    }
    if !rows.is_empty() {
        output::say(output::table(["NODE", "CLIENT", "OUTCOME"], &rows))?;
    }
    Ok(output::say(format_args!("{} handed, {} failed", report.handed, report.failed))?)
}
