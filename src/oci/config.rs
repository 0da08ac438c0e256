use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{DiffId, Platform};

/// An image configuration (image-spec, config.md). What it does not know it keeps and writes again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What it runs on: architecture, os and the rest.
    #[serde(flatten)]
    pub platform: Platform,
    /// How to run it.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub config: ExecConfig,
    /// Its layers.
    pub rootfs: RootFs,
    /// How each layer came to be, oldest first.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// All other members.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How to run an image: the member `config` of the configuration. `None` and an empty list are different things
/// in `entrypoint` and `cmd`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExecConfig {
    /// `USER`, as written.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `EXPOSE`: "80/tcp" and so on.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Value>,
    /// `ENV`: "NAME=value", in order.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// `ENTRYPOINT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// `CMD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// `VOLUME`.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Value>,
    /// `WORKDIR`.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// `LABEL`.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `STOPSIGNAL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// `SHELL`, which is Docker's and not in the specification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// `ONBUILD`, which is Docker's and not in the specification.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// All other members (Healthcheck, ArgsEscaped, …).
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always "layers".
    #[serde(rename = "type")]
    pub kind: String,
    /// Bottom first.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub diff_ids: Vec<DiffId>,
}

/// One step in the making of an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark; "buildkit.dockerfile.v0" for what came from a Dockerfile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// All other members.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Default for RootFs {
    fn default() -> Self {
        RootFs { kind: "layers".into(), diff_ids: Vec::new() }
    }
}

/// A configuration contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not the JSON of an image configuration.
    #[error("not an image configuration: {reason}")]
    Json {
        /// What the JSON parser says.
        reason: String,
    },
    /// The count of layers in the manifest, rootfs and history differ.
    #[error("{layers} layers in the manifest, but {diff_ids} diff_ids in the configuration")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
}

impl ImageConfig {
    /// Returns the configuration in `json`.
    ///
    /// # Errors
    /// [`ConfigError::Json`].
    pub fn from_json(json: &[u8]) -> Result<Self, ConfigError> {
        serde_json::from_slice(json).map_err(|error| ConfigError::Json { reason: error.to_string() })
    }

    /// Returns the JSON of this configuration, without white space, members in a fixed order.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and maps with string keys always serialise")
    }

    /// Checks that a manifest with `layers` layers can belong to this configuration.
    ///
    /// # Errors
    /// [`ConfigError::LayerCount`].
    pub fn check_layers(&self, layers: usize) -> Result<(), ConfigError> {
        let diff_ids = self.rootfs.diff_ids.len();
        if layers == diff_ids { Ok(()) } else { Err(ConfigError::LayerCount { layers, diff_ids }) }
    }
}

impl ExecConfig {
    /// Returns the value of the environment variable `name`.
    pub fn env_value(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
    }

    /// Sets the environment variable `name`, in its old place where it is there already.
    pub fn set_env(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        match self.env.iter_mut().find(|old| old.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))) {
            Some(old) => *old = entry,
            None => self.env.push(entry),
        }
    }
}

/// Go programs write `null` for an empty list or map, and read it as the empty value of anything.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_the_same_as_nothing() {
        let text = r#"{"architecture":"amd64","os":"linux","variant":null,"created":null,
            "config":{"User":null,"WorkingDir":null,"Env":null,"Cmd":null,"Labels":null,"StopSignal":null},
            "rootfs":{"type":"layers","diff_ids":null},"history":[{"created_by":null,"empty_layer":null}]}"#;
        let config = ImageConfig::from_json(text.as_bytes()).expect("a configuration");
        assert_eq!(config.config, ExecConfig::default());
        assert_eq!(config.history, [History::default()]);
        let written = String::from_utf8(config.to_json()).expect("JSON");
        assert!(!written.contains("null"), "{written}");
    }
}
