use super::Subscription;
use super::*;
use crate::observe::Observer;
use crate::observe::test_support::{TestProcess, wait_until};

/// Maximum time for a snapshot: longer than any scan takes.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(120);

async fn next(subscription: &mut Subscription) -> Arc<Snapshot> {
    tokio::time::timeout(SNAPSHOT_TIMEOUT, subscription.next()).await.unwrap()
}

#[tokio::test]
async fn a_subscription_receives_snapshots_until_it_is_dropped() {
    let running = TestProcess::shell("exec sleep 3010");
    let observer = Observer::new(None);
    assert!(!observer.shared.lock_demand().is_thread_running, "there is no subscription yet");
    let mut first = observer.subscribe();
    let mut second = observer.clone().subscribe();
    let before = next(&mut first).await;
    assert!(before.process(running.pid()).is_some());
    assert!(next(&mut second).await.process(running.pid()).is_some());
    drop(second);
    while next(&mut first).await.scanned_at < before.scanned_at + MIN_PAUSE {}
    drop(first);
    wait_until("the thread's end", || (!observer.shared.lock_demand().is_thread_running).then_some(()));
    let mut third = observer.subscribe();
    assert!(next(&mut third).await.scanned_at > before.scanned_at);
}

#[tokio::test]
async fn a_new_subscription_does_not_wait_for_the_next_regular_scan() {
    let observer = Observer::new(None);
    let mut first = observer.subscribe();
    let mut delays = Vec::new();
    // Some of the tries may be slow for another reason than the pause.
    while delays.len() < 20 && delays.last().is_none_or(|delay| *delay >= MIN_PAUSE) {
        next(&mut first).await;
        let subscribed_at = tokio::time::Instant::now();
        let mut second = observer.subscribe();
        let mut snapshot = next(&mut second).await;
        if snapshot.scanned_at < subscribed_at {
            // This scan had begun before the subscription.
            snapshot = next(&mut second).await;
        }
        delays.push(snapshot.scanned_at - subscribed_at);
    }
    assert!(delays.last().is_some_and(|delay| *delay < MIN_PAUSE), "{delays:?}");
}

#[tokio::test]
async fn the_watched_processes_of_a_subscription_are_dropped_with_it() {
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
fn the_cost_of_a_scan_sets_the_pause_after_it() {
    let ms = Duration::from_millis;
    assert_eq!(pause_after_scan(ms(0)), ms(250));
    assert_eq!(pause_after_scan(ms(1)), ms(250));
    assert_eq!(pause_after_scan(ms(5)), ms(1000));
    assert_eq!(pause_after_scan(ms(300)), ms(2000));
    assert_eq!(pause_after_scan(Duration::MAX), ms(2000));
}

#[test]
fn a_wait_is_described_the_same_with_other_credentials() {
    let running = TestProcess::shell("exec sleep 3011");
    for user in [None, Some(UserIds { uid: 65534, gid: 65534 })] {
        let observer = Observer::new(user);
        let wanted = "sleeping in hrtimer_nanosleep";
        wait_until(wanted, || observer.blocked_on(running.pid()).filter(|words| words == wanted));
    }
}
