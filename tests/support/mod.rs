//! What the tests are written with: a [`User`] with a home and a store, a [`Project`] to build, and the [`Image`] that
//! comes out.
//!
//! The program always runs as an ordinary user: `scripts/as-user` makes one where the tests run as root.
#![allow(dead_code, unused_imports)]

pub mod actions;
pub mod base;
pub mod bucket;
pub mod environment;
pub mod gate;
mod image;
pub mod nodes;
mod outcome;
mod project;
pub mod registry;
pub mod repositories;
pub mod schema;
pub mod service;
pub mod ssh;
mod tree;
mod user;
pub mod web;

pub use image::Image;
pub use outcome::{Outcome, Running};
pub use project::{Built, Project};
pub use tree::{Kind, Layer, Node, Tree};
pub use user::{Call, User, processes_with, set_mode};

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

/// Returns the folder of the project.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns whether a program is installed. Says so where it is not, and panics in CI: there nothing may be skipped.
pub fn require_tool(name: &str) -> bool {
    let found = tool(name).is_some();
    if !found {
        assert!(std::env::var_os("CI").is_none(), "{name} is not installed: see scripts/need");
        eprintln!("skipped: {name} is not installed (scripts/need test)");
    }
    found
}

/// Returns where a program lies.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').map(|dir| Path::new(dir).join(name)).find(|file| file.is_file())
}

/// Returns `text` without the indentation that all its lines share.
pub fn dedent(text: &str) -> String {
    let lines = || text.trim_start_matches('\n').lines();
    let indent = lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.len() - line.trim_start().len())
        .min()
        .unwrap_or(0);
    lines().map(|line| line.get(indent..).unwrap_or("").trim_end().to_string() + "\n").collect()
}

/// Starts a server on the loopback, for which `serve` does what there is to do for each connection, in a thread of its own. Returns
/// its port.
pub fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    port
}

/// Returns a port of the loopback that nobody has, for a server of somebody else. It is none of those that the kernel gives away: of
/// those, anybody may have it before that server does, even who only asks whether it is up.
pub fn free_port() -> u16 {
    use std::hash::{BuildHasher, Hasher};
    loop {
        let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
        let port = 10_000 + u16::try_from(random % 20_000).expect("a small number");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
