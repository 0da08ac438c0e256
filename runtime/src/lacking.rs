use serde::{Deserialize, Serialize};

/// What a step wants and a full map of ids has not got, and emulated owners have. Its text ends a sentence about the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Lacking {
    /// A user or a group.
    #[error("the id {0} is not in it")]
    Id(u32),
    /// Devices that look like devices.
    #[error("no device can be made in it")]
    Devices,
}
