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
pub use user::{Call, User, gone, processes_with, run, set_mode};

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

/// Returns the architecture of this machine, as images say it.
pub fn architecture() -> String {
    coracle::oci::Platform::host().architecture
}

/// Returns the platform of this machine: "linux/amd64".
pub fn here() -> String {
    format!("linux/{}", architecture())
}

/// Returns bytes that do not compress, the same ones each time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Returns the header of a member of a tar archive, with any name and link.
pub fn tar_header(name: &str, flag: u8, link: &str, size: u64, (mode, owner): (u32, u32)) -> [u8; 512] {
    let mut header = [0u8; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, format!("{owner:07o}\0").as_bytes());
    put(116, format!("{owner:07o}\0").as_bytes());
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000144\0");
    put(148, b"        ");
    put(156, &[flag]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
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
