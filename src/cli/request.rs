//! `amop request`: a message to one subscriber of a topic, its answer, and how long that took.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use amop_client::{RequestError, RequestOptions, Status};
use bytes::Bytes;

use crate::cli::{
    client::{
        self, Connection, EXIT_CODES, Message, Outcome, Text, To,
        private::{self, Target},
    },
    output,
};

/// What to ask, and where.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES, override_usage = "amop request [OPTIONS] --node <IP:PORT> --certs <DIR> <TOPIC> <MESSAGE|--file <FILE>>")]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// The topic
    topic: String,
    #[command(flatten)]
    message: Message,
    /// How long the answer may take, such as 500ms or 5s; otherwise as long as the node allows
    #[arg(long, value_name = "TIME", value_parser = client::parse_duration)]
    deadline: Option<Duration>,
    #[command(flatten)]
    to: To,
    #[command(flatten)]
    private: private::Publish,
    /// Ask this many times, one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
}

/// Asks and prints the answers. The exit code is that of the worst outcome.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let message = args.message.read()?;
    let client = match args.connection.open_to_send(&args.topic).await? {
        Ok(client) => client,
        Err(code) => return Ok(code),
    };
    let mut options = RequestOptions::default();
    options.deadline = args.deadline;
    options.to = args.to.address();
    let target = args.private.open(&client, &args.topic).await?;
    let mut times = Vec::new();
    let mut worst = Status::Success;
    for _ in 0..args.count {
        let (answer, took) = ask(&target, message.clone(), options.clone()).await;
        match &answer {
            Ok(_) => times.push(took),
            Err(error) => {
                let status = Status::from_code(error.code()).unwrap_or(Status::NoNode);
                worst = if status.severity() > worst.severity() { status } else { worst };
            }
        }
        print(&args, answer, took)?;
    }
    client.close().await;
    if args.count > 1 && !args.connection.json {
        output::note(summary(&mut times, args.count));
    }
    Ok(client::exit_code(worst.code()))
}

async fn ask(
    target: &Target<'_>,
    message: Bytes,
    options: RequestOptions,
) -> (Result<Bytes, RequestError>, Duration) {
    let asked = Instant::now();
    let answer = target.request(message, options).await;
    (answer, asked.elapsed())
}

fn print(args: &Args, answer: Result<Bytes, RequestError>, took: Duration) -> anyhow::Result<()> {
    match answer {
        Ok(answer) if args.connection.json => {
            output::json(&Outcome::ok(&args.topic, took, Some(Text::of(&answer))))
        }
        Ok(answer) => {
            let time = output::dim(format_args!("({})", client::time(took)));
            Ok(output::say(format_args!("{}  {time}", Text::of(&answer)))?)
        }
        Err(error) if args.connection.json => {
            let outcome = Outcome::failed(&args.topic, error.code(), error.cause(), error.to_string());
            output::json(&outcome.took(took, error.retry_after()).failed_at(error.hop(), error.retry()))
        }
        Err(error) => {
            output::failure(&anyhow::Error::msg(format!("{error}, after {}", client::time(took))));
            client::advice(error.kind()).into_iter().for_each(output::note);
            Ok(())
        }
    }
}

fn summary(times: &mut [Duration], asked: u32) -> String {
    times.sort_unstable();
    match times {
        [] => format!("0 of {asked} answered"),
        [fastest, ..] => {
            let (fastest, median) = (client::time(*fastest), client::time(times[times.len() / 2]));
            let slowest = client::time(times[times.len() - 1]);
            let answered = times.len();
            format!("{answered} of {asked} answered: fastest {fastest}, median {median}, slowest {slowest}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_the_middle() {
        let mut times = [30, 10, 20].map(Duration::from_micros);
        let text = summary(&mut times, 4);
        assert_eq!(text, "3 of 4 answered: fastest 10 µs, median 20 µs, slowest 30 µs");
        assert_eq!(summary(&mut [], 2), "0 of 2 answered");
    }
}
