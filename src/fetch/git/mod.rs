//! Trees from Git repositories, by the program git.
//!
//! A repository is hostile, and so is an address: git gets no configuration but ours, may use no other transports than those of
//! addresses, runs no hook and no filter, and nothing that came from outside stands where an option could.

mod checkout;
mod listing;
mod mirror;
mod pack;
mod program;
mod submodules;
mod tree;

pub(super) use checkout::check_out;
pub use checkout::{Checkout, GitDir, Trust};
pub use mirror::Commit;
pub(super) use mirror::resolve;
pub use pack::CommitPack;
pub(super) use pack::{pack, unpack};
pub use program::GitEnvironment;
