//! Who waits, who is let in, and who is turned away.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use tokio::time::timeout;

use super::*;

fn waiter(from: u8, priority: Priority) -> Waiter {
    Waiter {
        client: IpAddr::from([192, 0, 2, from]),
        priority,
    }
}

fn enter(queue: &Arc<Queue>, from: u8) -> Ticket {
    queue
        .enter(waiter(from, Priority::Normal), 100)
        .expect("room")
}

/// The word that has been said, if one has.
async fn heard(ticket: &mut Ticket) -> Option<Word> {
    timeout(Duration::ZERO, ticket.called()).await.ok()
}

#[tokio::test]
async fn a_free_slot_calls_one_and_only_one() {
    let queue = Arc::default();
    let (mut first, mut second) = (enter(&queue, 1), enter(&queue, 2));
    assert_eq!(heard(&mut first).await, None);
    queue.call_one();
    assert_eq!(heard(&mut second).await, None);
    assert_eq!(heard(&mut first).await, Some(Word::Come));
    assert_eq!(queue.len(), 2, "it has no server yet");
    first.served();
    assert_eq!(queue.len(), 1);
    queue.call_one();
    assert_eq!(heard(&mut second).await, Some(Word::Come));
    second.served();
    assert!(queue.is_empty());
}

#[tokio::test]
async fn whoever_leaves_passes_its_call_on_heard_or_not() {
    let queue = Arc::default();
    let (mut first, second, mut third) = (enter(&queue, 1), enter(&queue, 2), enter(&queue, 3));
    queue.call_one();
    assert_eq!(heard(&mut first).await, Some(Word::Come));
    drop(first); // the second is called, and has not heard it
    assert_eq!(heard(&mut third).await, None);
    drop(second);
    assert_eq!(heard(&mut third).await, Some(Word::Come));
    drop(third);
    assert!(queue.is_empty());
}

#[tokio::test]
async fn who_finds_no_room_after_all_is_next_again() {
    let queue = Arc::default();
    let (mut first, mut second) = (enter(&queue, 1), enter(&queue, 2));
    queue.call_one();
    assert_eq!(heard(&mut first).await, Some(Word::Come));
    first.again();
    assert_eq!(heard(&mut first).await, None);
    queue.call_one();
    assert_eq!(heard(&mut first).await, Some(Word::Come));
    assert_eq!(heard(&mut second).await, None);
    first.served();
    drop(second);
    assert!(queue.is_empty());
}

#[tokio::test]
async fn as_many_are_called_as_find_room_and_are_not_called_already() {
    let queue = Arc::default();
    let mut tickets: Vec<_> = (0..4).map(|from| enter(&queue, from)).collect();
    queue.call_as_many_as(|most| {
        assert_eq!(most, 4);
        2
    });
    queue.call_as_many_as(|_| 2); // these two are theirs
    let mut called = 0;
    for ticket in &mut tickets {
        called += usize::from(heard(ticket).await.is_some());
    }
    assert_eq!(called, 2);
}

#[tokio::test]
async fn a_full_queue_takes_those_who_matter_more_in_place_of_others() {
    let queue = Arc::default();
    let enter = |from, priority| Queue::enter(&queue, waiter(from, priority), 2);
    let mut low = enter(1, Priority::Low).expect("room");
    let mut normal = enter(1, Priority::Normal).expect("room");
    assert!(enter(2, Priority::Low).is_none());
    let high = enter(2, Priority::High);
    assert!(high.is_some());
    assert_eq!(heard(&mut low).await, Some(Word::Leave));
    assert_eq!(heard(&mut normal).await, None);
    assert_eq!(queue.len(), 2);
    drop(low);
    assert_eq!(queue.len(), 2, "it was out already");
    assert!(Queue::enter(&queue, waiter(3, Priority::High), 0).is_none());
}

#[test]
fn no_call_is_lost_between_threads() {
    use crate::upstream::load::InFlightCount;
    const EACH: usize = 2_000;
    let queue: Arc<Queue> = Arc::default();
    let load = InFlightCount::new(Arc::clone(&queue));
    load.set_limit(Some(2));
    let (queue, load) = (&queue, &load);
    thread::scope(|scope| {
        for worker in 0..4 {
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    for _ in 0..EACH {
                        if queue.is_used() || !load.begin() {
                            take_turn(queue, load, worker).await;
                        }
                        // Others run, on this thread and elsewhere, while this one has its slot.
                        tokio::task::yield_now().await;
                        load.end();
                    }
                });
            });
        }
    });
    assert!(queue.is_empty());
    assert_eq!(load.get(), 0);
}

async fn take_turn(queue: &Arc<Queue>, load: &crate::upstream::load::InFlightCount, from: u8) {
    let mut ticket = enter(queue, from);
    loop {
        queue.call_as_many_as(|_| load.room() as usize);
        let word = timeout(Duration::from_secs(10), ticket.called()).await;
        assert_eq!(word.expect("a call was lost"), Word::Come);
        if load.begin() {
            ticket.served();
            queue.call_as_many_as(|_| load.room() as usize);
            return;
        }
        ticket.again();
    }
}
