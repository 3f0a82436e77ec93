//! The program's memory: mimalloc, and giving back to the system what is not used.
//!
//! mimalloc gives back what has been free for a second, but only when a thread allocates or frees something that makes it
//! look. A worker whose clients have all gone quiet does neither, just when there is most to give back.

#![expect(unsafe_code, reason = "mimalloc's interface is C")]

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys as mi;

/// Has the allocator give back what the calling thread has not used for a while.
pub(super) fn give_back() {
    // SAFETY: it may be called at any time, by any thread, and touches only memory that nobody has allocated.
    unsafe { mi::mi_collect(false) }
}

/// What mimalloc aligns everything to that is at least as large.
const NATURAL: usize = 16;

/// The allocator of the program: mimalloc, asked for no more alignment than it gives anyway.
///
/// Asked for any by name it allocates more than it was asked for, and looks for the right place in it, whenever a size is
/// not a power of two.
#[derive(Debug)]
pub struct Allocator;

/// Whether a block of `size` bytes is aligned to `align` without being asked to.
fn is_natural(size: usize, align: usize) -> bool {
    align <= NATURAL && align <= size
}

// SAFETY: mimalloc's functions are allocators by themselves, from any thread; what one of them has allocated any of them
// may reallocate and free. Blocks are aligned as their layouts say: by the condition of `is_natural`, which is
// mimalloc's own, or because they are asked for with their alignment.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: a layout's alignment is a power of two.
        match is_natural(size, align) {
            true => unsafe { mi::mi_malloc(size) }.cast(),
            false => unsafe { mi::mi_malloc_aligned(size, align) }.cast(),
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as above.
        match is_natural(size, align) {
            true => unsafe { mi::mi_zalloc(size) }.cast(),
            false => unsafe { mi::mi_zalloc_aligned(size, align) }.cast(),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller says that it was allocated here.
        unsafe { mi::mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        // SAFETY: as above, for both.
        match is_natural(size, align) {
            true => unsafe { mi::mi_realloc(block.cast(), size) }.cast(),
            false => unsafe { mi::mi_realloc_aligned(block.cast(), size, align) }.cast(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_keep_what_is_in_them() {
        for align in [1, 2, 4, 8, 16, 32, 64, 4096] {
            for size in (1..200).chain([1000, 1023, 5000, 70_000, 3_000_000]) {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: the layouts are those of the blocks, none of size 0, and only their bytes are touched.
                unsafe {
                    let block = Allocator.alloc_zeroed(layout);
                    assert_eq!(block as usize % align, 0, "{layout:?}");
                    assert_eq!((*block, *block.add(size - 1)), (0, 0));
                    *block.add(size - 1) = 7;
                    let larger = Allocator.realloc(block, layout, size * 3 + 1);
                    assert_eq!(larger as usize % align, 0, "{layout:?}");
                    assert_eq!(*larger.add(size - 1), 7);
                    let layout = Layout::from_size_align(size * 3 + 1, align).unwrap();
                    let smaller = Allocator.realloc(larger, layout, size);
                    assert_eq!(smaller as usize % align, 0, "{layout:?}");
                    let layout = Layout::from_size_align(size, align).unwrap();
                    Allocator.dealloc(smaller, layout);
                }
            }
        }
    }
}
