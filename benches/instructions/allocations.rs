//! An allocator that counts: how often memory was asked for, or asked to grow, by each thread.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

/// Counts what goes to another allocator.
pub(crate) struct Counting<A>(pub(crate) A);

thread_local! {
    // Neither made nor dropped at run time, so that an allocator may use it.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Allocations of this thread so far.
pub(crate) fn so_far() -> u64 {
    COUNT.get()
}

fn one_more() {
    COUNT.set(COUNT.get() + 1);
}

#[expect(unsafe_code, reason = "an allocator cannot be wrapped without; every call goes on as it came")]
// SAFETY: every call is passed on unchanged, so that what holds for the inner allocator holds for this one.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        one_more();
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        one_more();
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        one_more();
        unsafe { self.0.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { self.0.dealloc(pointer, layout) }
    }
}
