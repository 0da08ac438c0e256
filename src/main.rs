//! The `coracle` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A re-executed helper process never returns from here.
    coracle_runtime::init();
    coracle::cli::main()
}
