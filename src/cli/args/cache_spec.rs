//! Caches in services: what `--cache-from` and `--cache-to` say about them, and what of that is not shown.

use std::ffi::OsStr;
use std::marker::PhantomData;
use std::str::FromStr;

use clap::builder::TypedValueParser;
use clap::error::Error;
use clap::{Arg, Command};

use super::cache::{Age, CacheSpecError, Parts};
use super::output::bool;
use crate::config::Secret;
use crate::output::Location;

/// Where a cache is, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheSpec {
    /// Where images are: `type=registry` and `type=local`.
    Image(Location),
    /// A bucket: `type=s3`.
    S3(Box<S3Spec>),
    /// The cache of GitHub's Actions: `type=gha`.
    Actions(ActionsSpec),
}

/// A bucket. What is not said is in variables, or usual.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct S3Spec {
    /// `bucket=`.
    pub bucket: Option<String>,
    /// `region=`.
    pub region: Option<String>,
    /// `endpoint_url=`.
    pub endpoint_url: Option<String>,
    /// `use_path_style=`.
    pub use_path_style: bool,
    /// `prefix=`.
    pub prefix: String,
    /// `blobs_prefix=`.
    pub blobs_prefix: Option<String>,
    /// `manifests_prefix=`.
    pub manifests_prefix: Option<String>,
    /// `name=`: names with `;` between them; none where it is not given.
    pub names: Vec<String>,
    /// `access_key_id=`.
    pub access_key_id: Option<String>,
    /// `secret_access_key=`.
    pub secret_access_key: Option<Secret>,
    /// `session_token=`.
    pub session_token: Option<Secret>,
    /// `upload_parallelism=`.
    pub upload_parallelism: Option<usize>,
    /// `touch_refresh=`.
    pub touch_refresh: Option<Age>,
}

/// The cache of GitHub's Actions. What is not said is in variables, or usual.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActionsSpec {
    /// `url_v2=`.
    pub url: Option<String>,
    /// `token=`.
    pub token: Option<Secret>,
    /// `scope=`.
    pub scope: Option<String>,
    /// `timeout=`.
    pub timeout: Option<Age>,
}

fn wrong(key: &str, value: &str, wanted: &str) -> CacheSpecError {
    CacheSpecError::Value { key: key.into(), value: value.into(), wanted: wanted.into() }
}

/// Whether objects may have a name with this in it: it is part of a URL, in which `..` would lead elsewhere.
fn is_name(text: &str) -> bool {
    !text.chars().any(char::is_control) && !text.split('/').any(|part| matches!(part, "." | ".."))
}

impl S3Spec {
    pub(super) fn take(parts: &mut Parts) -> Result<Self, CacheSpecError> {
        let mut take = |key: &str| parts.take(key).filter(|value| !value.is_empty());
        let (mut bucket, mut names) = (take("bucket"), Vec::new());
        if let Some(name) = &bucket
            && (name.contains('/') || !is_name(name) || name.len() > 255)
        {
            return Err(wrong("bucket", &bucket.take().unwrap_or_default(), "it is the name of a bucket alone"));
        }
        if let Some(text) = take("name") {
            names.extend(text.split(';').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
            if names.is_empty() {
                return Err(wrong("name", &text, "there is no name in it"));
            }
        }
        let prefixes = ["prefix", "blobs_prefix", "manifests_prefix"].map(|key| (key, take(key)));
        let odd = prefixes.iter().filter_map(|(key, value)| Some((*key, value.as_deref()?)));
        if let Some((key, value)) =
            odd.chain(names.iter().map(|name| ("name", name.as_str()))).find(|(_, value)| !is_name(value))
        {
            return Err(wrong(key, value, "it is part of the name of an object, without . and .."));
        }
        let [(_, prefix), (_, blobs_prefix), (_, manifests_prefix)] = prefixes;
        let path_style = take("use_path_style");
        let upload_parallelism = match take("upload_parallelism") {
            None => None,
            Some(text) => match text.parse() {
                Ok(number @ 1..=64) => Some(number),
                _ => return Err(wrong("upload_parallelism", &text, "it is a number from 1 to 64")),
            },
        };
        Ok(S3Spec {
            bucket,
            region: take("region"),
            endpoint_url: take("endpoint_url"),
            use_path_style: path_style.map(bool).transpose()?.unwrap_or_default(),
            prefix: prefix.unwrap_or_default(),
            blobs_prefix,
            manifests_prefix,
            names,
            access_key_id: take("access_key_id"),
            secret_access_key: take("secret_access_key").map(Secret::new),
            session_token: take("session_token").map(Secret::new),
            upload_parallelism,
            touch_refresh: take("touch_refresh").map(|text| text.parse()).transpose()?,
        })
    }
}

impl ActionsSpec {
    pub(super) fn take(parts: &mut Parts) -> Result<Self, CacheSpecError> {
        let mut take = |key: &str| parts.take(key).filter(|value| !value.is_empty());
        match take("version").as_deref() {
            None | Some("2") => {}
            Some("1") => return Err(wrong("version", "1", "that version of the service is shut down, 2 is there")),
            Some(other) => return Err(wrong("version", other, "it is 2")),
        }
        if let Some(url) = take("url") {
            return Err(wrong("url", &url, "it is that of version 1 of the service, which is shut down; give url_v2="));
        }
        let scope = take("scope");
        if let Some(scope) = scope.as_deref().filter(|scope| {
            scope.len() > 200 || scope.contains(',') || scope.contains('#') || scope.chars().any(char::is_control)
        }) {
            return Err(wrong("scope", scope, "it has up to 200 letters, without commas and #"));
        }
        Ok(ActionsSpec {
            url: take("url_v2"),
            token: take("token").map(Secret::new),
            scope,
            timeout: take("timeout").map(|text| text.parse()).transpose()?,
        })
    }
}

/// Parses a spec. Where it is refused, what is secret in it is not shown with it.
#[derive(Debug)]
pub(super) struct SpecParser<T>(PhantomData<fn() -> T>);

impl<T> SpecParser<T> {
    pub fn new() -> Self {
        SpecParser(PhantomData)
    }
}

impl<T> Clone for SpecParser<T> {
    fn clone(&self) -> Self {
        SpecParser(PhantomData)
    }
}

impl<T> TypedValueParser for SpecParser<T>
where
    T: FromStr<Err = CacheSpecError> + Clone + Send + Sync + 'static,
{
    type Value = T;

    fn parse_ref(&self, cmd: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, Error> {
        let text = value.to_string_lossy();
        let result = if value.to_str().is_some() { text.parse::<T>() } else { Err(CacheSpecError::NotUtf8) };
        match result {
            Ok(parsed) => Ok(parsed),
            Err(error) => {
                let refuse = move |_: &str| Err::<T, CacheSpecError>(error.clone());
                refuse.parse_ref(cmd, arg, OsStr::new(&shown(&text)))
            }
        }
    }
}

/// Returns a spec without what is secret in it.
fn shown(text: &str) -> String {
    let is_secret = |field: &str| {
        let key = field.split('=').next().unwrap_or_default().trim_matches([' ', '"']).to_ascii_lowercase();
        key.contains("secret") || key.contains("token") || key.contains("password")
    };
    let fields: Vec<&str> = text.split(',').collect();
    // A secret with quotes may have commas in it: then nobody knows where it ends.
    let whole = !(text.contains('"') && fields.iter().any(|field| is_secret(field)));
    let mut seen = fields.iter().map(|field| match field.split_once('=') {
        Some((key, _)) if is_secret(field) => format!("{key}=…"),
        _ => (*field).to_owned(),
    });
    if whole { seen.collect::<Vec<_>>().join(",") } else { format!("{},…", seen.next().unwrap_or_default()) }
}

#[cfg(test)]
mod tests {
    use super::super::{CacheFrom, CacheTo};
    use super::*;

    fn s3(text: &str) -> S3Spec {
        match text.parse() {
            Ok(CacheFrom(CacheSpec::S3(spec))) => *spec,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn buckets() {
        assert_eq!(s3("type=s3,bucket=b,region=eu-west-1").bucket.as_deref(), Some("b"));
        assert_eq!(s3("type=s3"), S3Spec::default());
        let spec = s3("type=s3,bucket=b,endpoint_url=http://127.0.0.1:9000,use_path_style=true,prefix=ci/,\
                       blobs_prefix=b/,manifests_prefix=m/,name=topic;main,access_key_id=i,secret_access_key=s,\
                       session_token=t,upload_parallelism=8,touch_refresh=48h");
        assert_eq!(spec.names, ["topic", "main"]);
        assert!(spec.use_path_style);
        assert_eq!((spec.upload_parallelism, spec.touch_refresh), (Some(8), Some(Age(172_800))));
        assert_eq!(spec.secret_access_key, Some(Secret::new("s")));
        assert!(!format!("{spec:?}").contains("\"s\""), "{spec:?}");
    }

    #[test]
    fn actions() {
        let Ok(CacheFrom(CacheSpec::Actions(spec))) = "type=gha,scope=web,timeout=5m,version=2".parse() else {
            panic!("it is one")
        };
        assert_eq!((spec.scope.as_deref(), spec.timeout), (Some("web"), Some(Age(300))));
    }

    #[test]
    fn what_is_refused_and_how() {
        for (text, words) in [
            ("type=s3,bucket=a/b", "bucket=a/b makes no sense: it is the name of a bucket alone"),
            ("type=s3,prefix=../x", "prefix=../x makes no sense: it is part of the name of an object"),
            ("type=s3,name=a;..", "name=.. makes no sense"),
            ("type=s3,upload_parallelism=0", "it is a number from 1 to 64"),
            ("type=s3,acl=private", "type=s3 has no key \"acl\""),
            ("type=gha,version=1", "that version of the service is shut down, 2 is there"),
            ("type=gha,url=https://example.org", "give url_v2="),
            ("type=gha,scope=a#b", "without commas and #"),
            ("type=azblob", "a cache of type azblob is not supported"),
        ] {
            let error = text.parse::<CacheTo>().expect_err("it is refused").to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn secrets_are_not_shown_with_what_is_wrong() {
        for (text, is) in [
            ("type=s3,secret_access_key=hunter2,acl=x", "type=s3,secret_access_key=…,acl=x"),
            ("type=s3,\"secret_access_key=hun,ter2\",acl=x", "type=s3,…"),
            ("type=gha,Token=hunter2", "type=gha,Token=…"),
            ("type=local,dest=a", "type=local,dest=a"),
        ] {
            assert_eq!(shown(text), is);
        }
    }
}
