//! A plan is played, its end is quiet, and what happened is judged.

use std::time::Duration;

use amop_protocol::Time;

use crate::{
    generate::QUIET,
    plan::{Plan, Step},
    world::World,
};

/// When all links are up and everybody knows of everybody, if nothing breaks.
const FORMED: Duration = Duration::from_secs(2);
/// Two gossip periods, and the time that links take to come up.
const CONVERGES: Duration = Duration::from_millis(10_500);
/// How soon everybody knows of a change where links are up.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Longer than the longest deadline.
const ALL_OUTCOMES: Duration = Duration::from_secs(61);
/// Longer than a message is remembered that was last asked about at its deadline.
const RETENTION: Duration = Duration::from_secs(330);

/// Plays a plan to its end.
pub fn play(plan: &Plan, verbose: bool) -> World {
    let mut world = World::new(plan, verbose);
    let at = |time: Duration| Time::from_start(time);
    let (before, after): (Vec<&Step>, Vec<&Step>) = plan.steps.iter().partition(|step| step.at < plan.heals);
    let begins = before.partition_point(|step| step.at < FORMED);
    run(&mut world, &before[..begins]);
    world.run_until(at(FORMED));
    if !before[..begins].iter().any(|step| step.act.disturbs()) {
        world.calm(true);
    }
    run(&mut world, &before[begins..]);
    world.run_until(at(plan.heals));
    if plan.steps.iter().any(|step| step.act.disturbs()) {
        world.repair();
    }
    world.run_for(CONVERGES);
    world.check_converged();
    world.run_until(at(plan.heals + QUIET - Duration::from_millis(1)));
    world.check_settled();
    world.calm(true);
    let changed = after.partition_point(|step| step.at <= plan.heals + QUIET);
    run(&mut world, &after[..changed]);
    world.run_for(AT_ONCE);
    world.check_converged();
    run(&mut world, &after[changed..]);
    world.run_for(ALL_OUTCOMES);
    world.finish();
    if plan.setup.to_the_end {
        world.end_handshakes();
        world.run_for(RETENTION);
        world.check_forgotten();
    }
    world
}

fn run(world: &mut World, steps: &[&Step]) {
    for Step { at, act } in steps {
        world.run_until(Time::from_start(*at));
        world.act(act);
        world.check_memory();
    }
}
