//! The clients of a work: connected, reached, watched over.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    payload::{self, Template},
    system::{Cluster, Failure, Requester},
    work::{Error, Phase, Progress},
};

/// Connections that are set up at once.
pub(crate) const AT_ONCE: usize = 16;
/// How long one may take.
const CONNECT: Duration = Duration::from_secs(40);
/// How long messages may not get through at first.
pub(crate) const REACH: Duration = Duration::from_secs(20);
/// How long one of the first messages may take.
const PROBE: Duration = Duration::from_millis(200);
/// From one of them to the next.
const AGAIN: Duration = Duration::from_millis(10);
/// How often nodes are looked after.
const LOOK: Duration = Duration::from_millis(100);

/// Connects so many clients, several at once; `make` is given their numbers.
pub(crate) async fn connect<T, F>(
    who: &'static str,
    count: usize,
    at_once: usize,
    progress: &Progress,
    make: impl Fn(usize) -> F,
) -> Result<Vec<T>, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let mut connected = Vec::with_capacity(count);
    let mut under_way = JoinSet::new();
    let mut next = 0;
    while connected.len() < count {
        while next < count && under_way.len() < at_once.max(1) {
            let client = make(next);
            under_way.spawn(async move { timeout(CONNECT, client).await });
            next += 1;
        }
        let client = match under_way.join_next().await {
            Some(Ok(Ok(client))) => client,
            Some(Ok(Err(_))) => Err(Failure::new("timed_out", format!("not connected within {CONNECT:?}"))),
            Some(Err(error)) => Err(Failure::new("panicked", error.to_string())),
            None => break,
        };
        connected.push(client.map_err(|source| Error::Connect { who, source })?);
        progress.advance(1);
    }
    Ok(connected)
}

/// Resolves when each requester has had an answer.
pub(crate) async fn reach<R: Requester>(requesters: &[Arc<R>], progress: &Progress) -> Result<(), Error> {
    progress.enter(Phase::Reaching, 0);
    let template = Template::new(64);
    for requester in requesters {
        let (began, mut last) = (Instant::now(), None);
        loop {
            match timeout(PROBE, ask(&**requester, &template, 0)).await {
                Ok(Ok(())) => break,
                Ok(Err(failure)) => last = Some(failure),
                Err(_) => {}
            }
            if began.elapsed() > REACH {
                return Err(Error::NotReady { after: REACH, last });
            }
            sleep(AGAIN).await;
        }
    }
    Ok(())
}

/// One request, its answer checked.
pub(crate) async fn ask<R: Requester>(
    requester: &R,
    template: &Template,
    moment: u64,
) -> Result<(), Failure> {
    let payload = template.fill(moment);
    let number = payload::number(&payload);
    let answer = requester.request(payload).await?;
    match payload::acknowledges(&answer, number) {
        true => Ok(()),
        false => Err(Failure::new("wrong_answer", "an answer came that is not the one to this request")),
    }
}

/// Lets time pass, while nodes are looked after.
pub(crate) async fn watch<C: Cluster>(
    cluster: &C,
    progress: &Progress,
    phase: Phase,
    duration: Duration,
) -> Result<(), Error> {
    let began = Instant::now();
    progress.enter(phase, millis(duration));
    loop {
        cluster.alive().map_err(Error::Died)?;
        let passed = began.elapsed();
        progress.set(millis(passed));
        match duration.checked_sub(passed) {
            None | Some(Duration::ZERO) => return Ok(()),
            Some(left) => sleep(left.min(LOOK)).await,
        }
    }
}

/// What comes of `work`, unless a node dies before.
pub(crate) async fn while_alive<C: Cluster, T>(
    cluster: &C,
    work: impl Future<Output = T>,
) -> Result<T, Error> {
    let died = async {
        loop {
            if let Err(failure) = cluster.alive() {
                return failure;
            }
            sleep(LOOK).await;
        }
    };
    tokio::select! {
        biased;
        done = work => Ok(done),
        failure = died => Err(Error::Died(failure)),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
