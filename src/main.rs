//! The `postern` binary: the allocator, and a call into the library's command line.

use std::process::ExitCode;

/// Workers allocate and free small buffers all the time; this one does so without waiting for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    postern::cli::main()
}
