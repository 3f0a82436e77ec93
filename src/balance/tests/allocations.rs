//! Picking allocates nothing. This counts the allocations of the crate's unit tests, by thread.
#![expect(unsafe_code, reason = "a global allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Instant;

use super::{Balancer, KINDS, Pick, Server, Strategy, members};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed on to the system's allocator as it came. The counter needs no
// allocation itself: it is initialised at compile time and has nothing to drop.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[test]
fn picking_allocates_nothing() {
    let before = ALLOCATIONS.get();
    drop(Box::new(before));
    assert_eq!(ALLOCATIONS.get(), before + 1, "allocations are counted");

    for kind in KINDS {
        let balancer = Balancer::build(kind, &members(&[3, 1, 2, 1, 5, 9, 2, 6]), None);
        let mut set = [Server::idle(); 8];
        set[5].available = false;
        let mut rng = fastrand::Rng::with_seed(1);
        let now = Instant::now();

        let before = ALLOCATIONS.get();
        for hash in 0..10_000 {
            let rng = &mut rng;
            let picked = balancer.pick(
                &set,
                &mut Pick {
                    rng,
                    now,
                    hash,
                    retry: false,
                },
            );
            assert!(picked.is_some());
        }
        assert_eq!(ALLOCATIONS.get() - before, 0, "{kind:?}");
    }
}
