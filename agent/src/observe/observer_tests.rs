use super::Subscription;
use super::*;
use crate::observe::Observer;
use crate::observe::test_support::{TestProcess, wait_until};

/// Longer than any scan takes.
const SOON: Duration = Duration::from_secs(20);

async fn next(subscription: &mut Subscription) -> Arc<Snapshot> {
    tokio::time::timeout(SOON, subscription.next()).await.unwrap()
}

#[tokio::test]
async fn a_subscription_sees_looks_until_it_is_dropped() {
    let running = TestProcess::shell("exec sleep 3010");
    let observer = Observer::new(None);
    assert!(!observer.shared.lock_demand().thread_running, "there is no subscription yet");
    let mut first = observer.subscribe();
    let mut second = observer.clone().subscribe();
    let before = next(&mut first).await;
    assert!(before.process(running.pid()).is_some());
    assert!(next(&mut second).await.process(running.pid()).is_some());
    drop(second);
    while next(&mut first).await.scanned_at < before.scanned_at + MIN_PAUSE {}
    drop(first);
    wait_until("the thread's end", || (!observer.shared.lock_demand().thread_running).then_some(()));
    let mut again = observer.subscribe();
    assert!(next(&mut again).await.scanned_at > before.scanned_at);
}

#[tokio::test]
async fn the_first_look_does_not_wait_for_the_next_turn() {
    let observer = Observer::new(None);
    let mut first = observer.subscribe();
    next(&mut first).await;
    let asked = tokio::time::Instant::now();
    let mut second = observer.subscribe();
    let mut seen = next(&mut second).await;
    if seen.scanned_at < asked {
        // A scan that had begun already.
        seen = next(&mut second).await;
    }
    assert!(seen.scanned_at - asked < MIN_PAUSE, "{:?}", seen.scanned_at - asked);
}

#[tokio::test]
async fn each_subscription_watches_its_own_and_takes_that_along() {
    let observer = Observer::new(None);
    let (first, second) = (observer.subscribe(), observer.subscribe());
    first.watch_network(vec![1, 2]);
    second.watch_network(vec![3]);
    first.watch_network(vec![4]);
    let watched = || {
        let mut watched = observer.shared.watched_processes().unwrap();
        watched.sort_unstable();
        watched
    };
    assert_eq!(watched(), [3, 4]);
    drop(second);
    assert_eq!(watched(), [4]);
}

#[test]
fn what_a_look_costs_sets_the_time_to_the_next() {
    let ms = Duration::from_millis;
    assert_eq!(pause_after_scan(ms(0)), ms(250));
    assert_eq!(pause_after_scan(ms(1)), ms(250));
    assert_eq!(pause_after_scan(ms(5)), ms(1000));
    assert_eq!(pause_after_scan(ms(300)), ms(2000));
    assert_eq!(pause_after_scan(Duration::MAX), ms(2000));
}

#[test]
fn the_words_for_a_wait_are_the_same_through_other_eyes() {
    let running = TestProcess::shell("exec sleep 3011");
    for user in [None, Some(UserIds { uid: 65534, gid: 65534 })] {
        let observer = Observer::new(user);
        let wanted = "sleeping in hrtimer_nanosleep";
        wait_until(wanted, || observer.blocked_on(running.pid()).filter(|words| words == wanted));
    }
}
