//! What happens in a run: clients that come and go, messages, faults, and a quiet end.

use std::time::Duration;

use amop_protocol::broker::event::Mode;
use rand::RngExt;

use crate::{
    oracle::Behaviour,
    world::{DEADLINE, World},
};

/// Longer than a message is remembered that was last asked about at its deadline.
const RETENTION: Duration = Duration::from_secs(300);

/// Topics of the simulation.
pub const TOPICS: u32 = 3;

/// Plays the run that the world's seed decides.
pub fn play(world: &mut World) {
    build(world);
    world.run_for(Duration::from_millis(3_000));
    let faulty = world.rng.random_bool(0.75);
    world.oracle.calm = !faulty;
    world.calm(!faulty);
    let steps = world.rng.random_range(20..80);
    for _ in 0..steps {
        step(world, faulty);
    }
    if world.rng.random_bool(0.1) {
        shut_down(world);
    }
    if faulty && world.rng.random_bool(0.05) {
        // Longer than lists outlive their nodes: what is left are tombstones.
        world.run_for(Duration::from_secs(80));
    }
    heal(world);
    // Two gossip periods for what was lost, and the time that silent failures take to be noticed.
    world.run_for(Duration::from_secs(20));
    world.check_converged();
    world.run_for(DEADLINE);
    world.finish();
    if world.rng.random_bool(0.03) {
        world.run_for(RETENTION);
        world.check_forgotten();
    }
}

fn step(world: &mut World, faulty: bool) {
    match world.rng.random_range(0..100) {
        0..13 if faulty => fault(world),
        0..3 => churn(world),
        3..13 => client_change(world),
        13..16 => publish_twice(world),
        _ => publish(world),
    }
    let pause = world.rng.random_range(0..400_000);
    // Now and then a burst, so that messages could overtake each other.
    let pause = if world.rng.random_bool(0.3) { pause / 400 } else { pause };
    world.run_for(Duration::from_micros(pause));
}

fn build(world: &mut World) {
    let nodes = world.rng.random_range(2..=12);
    for _ in 0..nodes {
        world.add_node();
    }
    for node in 1..nodes {
        let other = world.rng.random_range(0..node);
        world.add_link(node, other);
    }
    for _ in 0..world.rng.random_range(0..=nodes) {
        let (a, b) = (world.rng.random_range(0..nodes), world.rng.random_range(0..nodes));
        if a != b {
            world.add_link(a, b);
        }
    }
    for (a, b) in world.link_pairs() {
        world.link_up(a, b);
    }
    for node in 0..nodes {
        for _ in 0..world.rng.random_range(0..3) {
            open(world, node);
        }
    }
}

fn open(world: &mut World, node: usize) {
    let behaviour = match world.rng.random_range(0..20) {
        0 => Behaviour::Silent,
        1 => Behaviour::Refuses,
        2 => Behaviour::Stuck,
        _ => Behaviour::Prompt(Duration::from_micros(world.rng.random_range(0..50_000))),
    };
    let certificate = world.rng.random_range(0..200);
    if let Some(session) = world.open(node, certificate, behaviour) {
        let topics = some_topics(world);
        world.report(node, session, topics);
    }
}

fn some_topics(world: &mut World) -> Vec<u32> {
    (0..TOPICS).filter(|_| world.rng.random_bool(0.4)).collect()
}

fn publish(world: &mut World) {
    let alive = world.alive();
    let Some(node) = alive.get(world.rng.random_range(0..alive.len().max(1))).copied() else { return };
    let sessions = world.sessions(node);
    if sessions.is_empty() {
        return open(world, node);
    }
    let session = sessions[world.rng.random_range(0..sessions.len())];
    let mode = if world.rng.random_bool(0.7) { Mode::Unicast } else { Mode::Multicast };
    let topic = world.rng.random_range(0..TOPICS);
    let message = world.new_message();
    world.publish(node, session, message, mode, topic);
    if world.rng.random_bool(0.1) {
        let pause = world.rng.random_range(0..100_000);
        world.run_for(Duration::from_micros(pause));
        world.publish(node, session, message, mode, topic);
    }
}

/// One client, connected to two nodes, sends the same message through both.
fn publish_twice(world: &mut World) {
    let alive = world.alive();
    if alive.len() < 2 {
        return;
    }
    let at = world.rng.random_range(0..alive.len());
    let (node, other) = (alive[at], alive[(at + 1) % alive.len()]);
    let Some(session) = world.sessions(node).first().copied() else { return open(world, node) };
    let Some(certificate) = world.certificate(node, session) else { return };
    let prompt = Behaviour::Prompt(Duration::from_millis(5));
    let Some(second) = world.open(other, certificate, prompt) else { return };
    let mode = if world.rng.random_bool(0.5) { Mode::Unicast } else { Mode::Multicast };
    let topic = world.rng.random_range(0..TOPICS);
    let message = world.new_message();
    world.publish(node, session, message, mode, topic);
    let pause = world.rng.random_range(0..50_000);
    world.run_for(Duration::from_micros(pause));
    world.publish(other, second, message, mode, topic);
}

/// A client with many topics changes them every few milliseconds.
fn churn(world: &mut World) {
    let alive = world.alive();
    let Some(node) = alive.get(world.rng.random_range(0..alive.len().max(1))).copied() else { return };
    let Some(session) = world.open(node, 0, Behaviour::Prompt(Duration::ZERO)) else { return };
    let many = world.rng.random_range(10..300);
    for round in 0..world.rng.random_range(10..60) {
        let topics = (round..round + many).map(|number| TOPICS + number).collect();
        world.report(node, session, topics);
        let pause = world.rng.random_range(500..15_000);
        world.run_for(Duration::from_micros(pause));
        if !world.alive().contains(&node) {
            return;
        }
    }
    world.close(node, session);
}

/// A node shuts down in an orderly way, with sends in flight.
fn shut_down(world: &mut World) {
    world.oracle.calm = false;
    world.calm(false);
    let alive = world.alive();
    let Some(node) = alive.get(world.rng.random_range(0..alive.len().max(1))).copied() else { return };
    for _ in 0..6 {
        publish(world);
    }
    let Some(session) = world.sessions(node).first().copied() else { return };
    for mode in [Mode::Unicast, Mode::Multicast] {
        let message = world.new_message();
        world.publish(node, session, message, mode, 0);
    }
    world.run_for(Duration::from_millis(1));
    world.drain(node);
    let message = world.new_message();
    world.publish(node, session, message, Mode::Unicast, 0);
    let grace = world.rng.random_range(0..5_000_000);
    world.run_for(Duration::from_micros(grace));
    world.stop(node);
}

fn client_change(world: &mut World) {
    let alive = world.alive();
    let Some(node) = alive.get(world.rng.random_range(0..alive.len().max(1))).copied() else { return };
    let sessions = world.sessions(node);
    if sessions.is_empty() || world.rng.random_bool(0.3) {
        return open(world, node);
    }
    let session = sessions[world.rng.random_range(0..sessions.len())];
    if world.rng.random_bool(0.3) {
        world.close(node, session);
    } else {
        let topics = some_topics(world);
        world.report(node, session, topics);
    }
}

fn fault(world: &mut World) {
    let pairs = world.link_pairs();
    let node = world.rng.random_range(0..world.nodes());
    let (a, b) = pairs[world.rng.random_range(0..pairs.len())];
    match world.rng.random_range(0..11) {
        10 => partition(world),
        0..4 => world.link_down(a, b),
        4..7 => world.link_up(a, b),
        7 => world.crash(node),
        8 => restart(world, node),
        _ => {
            world.crash(node);
            restart(world, node);
        }
    }
}

/// All links between two halves are lost at once.
fn partition(world: &mut World) {
    let half: Vec<bool> = (0..world.nodes()).map(|_| world.rng.random_bool(0.5)).collect();
    for (a, b) in world.link_pairs() {
        if half[a] != half[b] {
            world.link_down(a, b);
        }
    }
}

fn restart(world: &mut World, node: usize) {
    if world.alive().contains(&node) {
        return;
    }
    world.start_node(node);
    for (a, b) in world.link_pairs() {
        if a == node || b == node {
            world.link_up(a, b);
        }
    }
    if world.rng.random_bool(0.7) {
        open(world, node);
    }
}

fn heal(world: &mut World) {
    for node in 0..world.nodes() {
        restart(world, node);
    }
    for (a, b) in world.link_pairs() {
        world.link_up(a, b);
    }
}
