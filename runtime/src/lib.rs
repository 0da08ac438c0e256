//! Namespaces, id maps, mounts and processes: everything that talks to the kernel about isolation.
//!
//! This crate knows no images, prints nothing, and reads no configuration. A program that uses it
//!
//! 1. calls [`init`] first of all: parts of the work are done by the program itself, started again in a role;
//! 2. asks [`IdMaps::discover`] which users it can have (or takes [`IdMaps::single`]), and [`userns::enter`]s a user namespace with them, while it
//!    still has one thread;
//! 3. calls [`container::run`] for each command, from as many threads as it likes.
//!
//! [`probe`] tells what of that this machine allows. [`rootfs`] opens files below a directory that nobody trusts.

pub mod container;
pub mod owner;
pub mod probe;
pub mod rootfs;
pub mod userns;

mod around;
mod capability;
mod cgroup;
mod emulate;
mod error;
mod idmap;
mod lacking;
mod limits;
mod oci;
mod role;
mod seccomp;
mod sys;
mod wire;

pub use around::{Host, Surroundings};
pub use capability::{Capabilities, Capability};
pub use cgroup::NoGroup;
pub use error::{Errno, RuntimeError};
pub use idmap::{IdMaps, IdRange, MapKind};
pub use lacking::Lacking;
pub use role::init;
pub use sys::child::ends_with_us;
