//! Follows the hosts' routes: a snapshot, then its changes, again after a gap.

use crate::core::Shared;
use crate::table::Keeper;
use crate::{autostop, drain};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use wire::routes::{Route, RouteChange, RouteSnapshot};

/// Changes applied before they are shown. Hosts that never pause must not keep
/// the table from the cores.
const AT_ONCE: usize = 256;

type Numbered = (u64, RouteChange);
type Subscription = (RouteSnapshot, Receiver<Numbered>);
type Changes = (u64, Receiver<Numbered>);

/// Takes the first snapshot, and goes on following in a task.
pub(crate) async fn follow(shared: &Arc<Shared>, mut keeper: Keeper) {
    let first = shared.workers.subscribe().await;
    let changes = take(shared, &mut keeper, first);
    let shared = shared.clone();
    shared.tasks.clone().spawn_until_stop(async move {
        let mut changes = changes;
        let mut backoff = resubscribe_pauses();
        let rng = rt::Rng::from_os();
        loop {
            if follow_on(&shared, &mut keeper, changes).await {
                backoff = resubscribe_pauses();
            }
            tokio::time::sleep(backoff.pause(&rng)).await;
            let again = shared.workers.subscribe().await;
            changes = take(&shared, &mut keeper, again);
        }
    });
}

fn resubscribe_pauses() -> rt::Backoff {
    rt::Backoff::new(Duration::from_millis(5), Duration::from_secs(2))
}

fn take(shared: &Arc<Shared>, keeper: &mut Keeper, (snapshot, changes): Subscription) -> Changes {
    let generation = snapshot.generation;
    snapshot.routes.iter().for_each(|route| autostop::warn_of_no_return(shared, route));
    keeper.replace(snapshot);
    keeper.take_stopping().into_iter().for_each(|stop| drain::begin(shared, stop));
    (generation, changes)
}

/// Applies changes until there is a gap or the end. Says whether there were any.
async fn follow_on(shared: &Arc<Shared>, keeper: &mut Keeper, (start, mut from): Changes) -> bool {
    let mut generation = start;
    let warn = |route: &Route| autostop::warn_of_no_return(shared, route);
    while let Some(first) = from.recv().await {
        let gap = apply(keeper, &mut generation, first, &mut from, warn);
        keeper.publish();
        keeper.take_stopping().into_iter().for_each(|stop| drain::begin(shared, stop));
        if let Err(Gap(number)) = gap {
            tracing::warn!(number, generation, "gap in the hosts' route changes");
            break;
        }
    }
    generation > start
}

/// The number of a change that came too early.
#[derive(Debug)]
struct Gap(u64);

/// Applies `first` and what has piled up behind it, to be shown at once. Tells
/// `new` of each new config.
fn apply(
    keeper: &mut Keeper,
    generation: &mut u64,
    first: Numbered,
    from: &mut Receiver<Numbered>,
    new: impl Fn(&Route),
) -> Result<(), Gap> {
    let piled_up = std::iter::from_fn(|| from.try_recv().ok());
    for (number, change) in std::iter::once(first).chain(piled_up).take(AT_ONCE) {
        if number > *generation + 1 {
            return Err(Gap(number));
        }
        if number <= *generation {
            continue;
        }
        *generation = number;
        if let RouteChange::Upsert(route) = &change
            && keeper.is_new_config(route)
        {
            new(route);
        }
        keeper.apply(change);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::keeper;
    use tokio::sync::mpsc;

    fn change(number: usize) -> Numbered {
        (number as u64, RouteChange::Remove { machine: format!("m{number}") })
    }

    #[tokio::test]
    async fn changes_are_shown_though_more_are_waiting() {
        let (to, mut from) = mpsc::channel(3 * AT_ONCE);
        (2..=2 * AT_ONCE).for_each(|n| to.try_send(change(n)).unwrap());
        let (mut keeper, mut generation) = (keeper(&[80]), 0);
        apply(&mut keeper, &mut generation, change(1), &mut from, |_| {}).unwrap();
        assert_eq!((generation as usize, from.len()), (AT_ONCE, AT_ONCE));
        let next = from.try_recv().unwrap();
        apply(&mut keeper, &mut generation, next, &mut from, |_| {}).unwrap();
        assert_eq!((generation as usize, from.len()), (2 * AT_ONCE, 0));
    }

    #[tokio::test]
    async fn a_change_from_before_is_passed_over_and_a_gap_ends_it() {
        let (to, mut from) = mpsc::channel(9);
        [6, 8, 9].into_iter().for_each(|n| to.try_send(change(n)).unwrap());
        let (mut keeper, mut generation) = (keeper(&[80]), 5);
        let gap = apply(&mut keeper, &mut generation, change(4), &mut from, |_| {});
        assert!(matches!(gap, Err(Gap(8))), "{gap:?}");
        assert_eq!(generation, 6);
    }
}
