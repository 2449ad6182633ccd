//! `amop publish`: a message to every subscriber of a topic.

use std::{process::ExitCode, time::Instant};

use crate::cli::{
    client::{self, Connection, EXIT_CODES, Message, Outcome},
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
}

/// Sends and says whether anybody was handed the message.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let message = args.message.read()?;
    let json = args.connection.json;
    let client = match args.connection.open_to_send(&args.topic).await? {
        Ok(client) => client,
        Err(code) => return Ok(code),
    };
    let started = Instant::now();
    let sent = client.publish(&args.topic, message).await;
    let took = started.elapsed();
    client.close().await;
    let Err(error) = sent else {
        if json {
            output::json(&Outcome::ok(&args.topic, took, None))?;
        } else {
            output::say(format_args!("{} in {}", output::good("delivered"), client::time(took)))?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    if json {
        let outcome = Outcome::failed(&args.topic, error.code(), error.cause(), error.to_string());
        output::json(&outcome.took(took, error.retry_after()))?;
    } else {
        output::failure(&anyhow::Error::msg(error.to_string()));
        client::advice(error.kind()).into_iter().for_each(output::note);
    }
    Ok(client::exit_code(error.code()))
}
