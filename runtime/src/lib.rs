//! Namespaces, id maps, mounts and processes.
/// Must be the first call of main.
pub fn init() {}
