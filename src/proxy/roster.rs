//! The clients' connections of a worker: whom to wake when time is up, and all of them when the worker ends.
//!
//! A connection nearly always waits for something, and nearly never until its time is up. A timer and a notification for
//! each of them would be a good part of what an idle connection costs, and of what a short one does. Here both are one
//! entry in a list, which the worker goes through at every [`tick`](Roster::tick): a deadline is met when its time has
//! passed, at most a tick later, and never early.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

/// The slowest tick: how late a deadline may be at most.
const MAX_TICK: Duration = Duration::from_millis(500);
const MIN_TICK: Duration = Duration::from_millis(10);

/// So many places are kept in any case.
const FEW: usize = 1024;

/// A worker's connections.
#[derive(Debug)]
pub struct Roster {
    entries: RefCell<Entries>,
    /// When the last tick was.
    now: Cell<Instant>,
}

#[derive(Debug, Default)]
struct Entries {
    list: Vec<Entry>,
    /// Those that nobody has.
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Entry {
    waker: Option<Waker>,
    deadline: Option<Instant>,
}

/// A task's place in the roster, to be given back.
#[derive(Debug, Clone, Copy)]
pub struct Place(u32);

impl Default for Roster {
    fn default() -> Self {
        Self {
            entries: RefCell::default(),
            now: Cell::new(Instant::now()),
        }
    }
}

impl Roster {
    /// How often to tick when the shortest time that anybody asks for is `shortest`.
    pub fn interval(shortest: Duration) -> Duration {
        (shortest / 10).clamp(MIN_TICK, MAX_TICK)
    }

    /// Takes a place.
    pub fn join(&self) -> Place {
        let entries = &mut *self.entries.borrow_mut();
        Place(entries.free.pop().unwrap_or_else(|| {
            entries.list.push(Entry::default());
            u32::try_from(entries.list.len() - 1).expect("there are fewer file descriptors")
        }))
    }

    /// Gives a place back.
    pub fn leave(&self, Place(index): Place) {
        let entries = &mut *self.entries.borrow_mut();
        entries.list[index as usize] = Entry::default();
        entries.free.push(index);
    }

    /// Has the task woken when `deadline` has passed, and when everybody is. It must be the same task each time.
    ///
    /// True if the deadline has passed already, as far as those who are woken need to know: what counts is the time of
    /// the last tick, which costs no look at the clock.
    pub fn wait(&self, Place(index): Place, cx: &Context<'_>, deadline: Instant) -> bool {
        if deadline <= self.now.get() {
            return true;
        }
        let entry = &mut self.entries.borrow_mut().list[index as usize];
        entry.waker.get_or_insert_with(|| cx.waker().clone());
        entry.deadline = Some(deadline);
        false
    }

    /// Wakes those whose deadline has passed.
    pub fn tick(&self, now: Instant) {
        self.now.set(now);
        let entries = &mut *self.entries.borrow_mut();
        entries.trim();
        for entry in &mut entries.list {
            if let (Some(deadline), Some(waker)) = (entry.deadline, &entry.waker)
                && deadline <= now
            {
                entry.deadline = None;
                waker.wake_by_ref();
            }
        }
    }

    /// Wakes everybody.
    pub fn wake_all(&self) {
        let entries = self.entries.borrow();
        let wakers = entries.list.iter().filter_map(|entry| entry.waker.as_ref());
        wakers.for_each(Waker::wake_by_ref);
    }
}

impl Entries {
    /// Forgets places at the end once most are free, and has the first ones taken first.
    fn trim(&mut self) {
        let places = self.list.len();
        if self.free.len() <= places.max(FEW) / 2 {
            return;
        }
        self.free.sort_unstable_by(|a, b| b.cmp(a));
        let descending = (0..places as u32).rev();
        let unused = self.free.iter().zip(descending);
        let unused = unused.take_while(|(free, last)| *free == last).count();
        self.free.drain(..unused);
        self.list.truncate(places - unused);
        self.list.shrink_to(FEW);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Task {
        fn woken(&self) -> usize {
            self.0.swap(0, Ordering::Relaxed)
        }
    }

    fn wait(roster: &Roster, place: Place, task: &Arc<Task>, deadline: Instant) -> bool {
        let waker = Waker::from(Arc::clone(task));
        roster.wait(place, &Context::from_waker(&waker), deadline)
    }

    #[test]
    fn those_whose_time_is_up_are_woken_once_and_the_rest_when_all_are() {
        let roster = Roster::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let tasks: [Arc<Task>; 3] = Default::default();
        let places = [10, 20, 3600].map(|seconds| (roster.join(), after(seconds)));
        for (task, (place, deadline)) in tasks.iter().zip(places) {
            assert!(!wait(&roster, place, task, deadline));
        }
        let woken = || tasks.each_ref().map(|task| task.woken());
        roster.tick(after(9));
        assert_eq!(woken(), [0, 0, 0]);
        roster.tick(after(15));
        assert_eq!(woken(), [1, 0, 0]);
        let (first, _) = places[0];
        assert!(wait(&roster, first, &tasks[0], after(15)));
        assert!(!wait(&roster, first, &tasks[0], after(16)));
        roster.tick(after(20));
        assert_eq!(woken(), [1, 1, 0]);
        roster.wake_all();
        assert_eq!(woken(), [1, 1, 1]);
    }

    #[test]
    fn a_place_that_was_given_back_is_somebody_elses() {
        let roster = Roster::default();
        let tasks: [Arc<Task>; 2] = Default::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let first = roster.join();
        wait(&roster, first, &tasks[0], after(1));
        roster.leave(first);
        roster.tick(after(1));
        let second = roster.join();
        assert_eq!(second.0, first.0);
        wait(&roster, second, &tasks[1], after(2));
        roster.tick(after(2));
        assert_eq!((tasks[0].woken(), tasks[1].woken()), (0, 1));
    }

    #[test]
    fn a_crowd_that_has_left_is_forgotten() {
        let roster = Roster::default();
        let mut places: Vec<Place> = (0..10_000).map(|_| roster.join()).collect();
        let one = places.swap_remove(5000);
        places.into_iter().for_each(|place| roster.leave(place));
        roster.tick(Instant::now());
        assert_eq!(roster.entries.borrow().list.len(), 5001);
        let places = [roster.join(), roster.join()];
        assert_eq!(places.map(|Place(index)| index), [0, 1]);
        roster.leave(one);
        roster.tick(Instant::now());
        assert_eq!(roster.entries.borrow().list.len(), 2);
        places.into_iter().for_each(|place| roster.leave(place));
        let task = Arc::default();
        assert!(!wait(
            &roster,
            roster.join(),
            &task,
            Instant::now() + MAX_TICK
        ));
    }

    #[test]
    fn short_deadlines_have_short_ticks() {
        let interval = |millis| Roster::interval(Duration::from_millis(millis)).as_millis();
        assert_eq!([1, 300, 10_000].map(interval), [10, 30, 500]);
    }
}
