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

impl Lacking {
    /// Returns the same as a sentence of its own.
    pub fn sentence(self) -> String {
        match self {
            Lacking::Id(id) => format!("the id {id} is not in the id map of this user namespace"),
            Lacking::Devices => "devices cannot be made in this user namespace".into(),
        }
    }
}
