//! The pages of `amop trace`: what became of a message, and which messages come by.

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;

use super::routes::Shared;
use crate::telemetry::trace::{Busy, read_seq};

/// How much of a message's way is asked for.
#[derive(Debug, Deserialize)]
struct Extent {
    /// Only what this very node knows, if anything is said.
    here: Option<String>,
}

/// Which messages are waited for.
#[derive(Debug, Deserialize)]
struct Wanted {
    topic: String,
    #[serde(default)]
    place: String,
}

pub(super) fn router() -> Router<Shared> {
    Router::new().route("/v1/trace", get(seen)).route("/v1/trace/{seq}", get(trace))
}

async fn trace(
    State(shared): State<Shared>,
    Path(seq): Path<String>,
    Query(Extent { here }): Query<Extent>,
) -> Response {
    let seq = match read_seq(&seq) {
        Ok(seq) => seq,
        Err(problem) => return (StatusCode::BAD_REQUEST, problem + "\n").into_response(),
    };
    match shared.source.traces() {
        None => nothing_kept(),
        Some(source) => {
            source.trace(seq, here.is_some()).await.map_or_else(busy, |it| Json(it).into_response())
        }
    }
}

async fn seen(State(shared): State<Shared>, Query(Wanted { topic, place }): Query<Wanted>) -> Response {
    match shared.source.traces() {
        None => nothing_kept(),
        Some(source) => source.seen(&topic, &place).await.map_or_else(busy, |it| Json(it).into_response()),
    }
}

fn nothing_kept() -> Response {
    (StatusCode::NOT_FOUND, "this node remembers no messages; set trace.entries in its configuration\n")
        .into_response()
}

fn busy(busy: Busy) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{busy}\n")).into_response()
}
