//! Caches in other places: what the flags leave open is in variables, or usual.

use std::time::Duration;

use super::UsageError;
use crate::build::Reach;
use crate::cli::args::{ActionsSpec, Age, CacheFailure, CacheSpec, CacheSpecError, CacheTo, Compression, S3Spec};
use crate::cli::environment::Environment;
use crate::config::Secret;
use crate::net::Url;
use crate::output::cache::{ActionsPlace, BucketIn, CachePlace, S3Keys, S3Names, S3Place};

/// The name that a cache has in a service.
const NAME: &str = "coracle";
/// What the cache of GitHub's Actions may take.
const TIMEOUT: Duration = Duration::from_secs(600);

/// A cache to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTarget {
    /// Where it goes; `None` for the image itself.
    pub place: Option<CachePlace>,
    /// Which steps.
    pub reach: Reach,
    /// How layers are packed that are not packed yet; `None` for the way of the image.
    pub compression: Option<Compression>,
    /// What a failure is.
    pub failure: CacheFailure,
}

impl CacheTarget {
    pub(super) fn new(to: CacheTo, environment: &Environment) -> Result<Self, UsageError> {
        let CacheTo { location, reach, compression, failure } = to;
        let place = location.map(|spec| place(spec, environment)).transpose()?;
        Ok(CacheTarget { place, reach, compression, failure })
    }
}

/// Returns where a cache is; paths are absolute.
pub(super) fn place(spec: CacheSpec, environment: &Environment) -> Result<CachePlace, UsageError> {
    Ok(match spec {
        CacheSpec::Image(mut location) => {
            if let Some(path) = location.path_mut() {
                *path = environment.absolute(path)?;
            }
            CachePlace::Image(location)
        }
        CacheSpec::S3(spec) => CachePlace::S3(bucket(*spec, environment)?),
        CacheSpec::Actions(spec) => CachePlace::Actions(actions(spec, environment)?),
    })
}

/// Returns the first of some variables that is set.
fn variable(environment: &Environment, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| environment.var(name)).map(|value| value.to_string_lossy().into_owned())
}

fn bucket(spec: S3Spec, environment: &Environment) -> Result<S3Place, UsageError> {
    let var = |names: &[&str]| variable(environment, names);
    let unset = |key, variable| CacheSpecError::Unset { kind: "s3", key, variable };
    let bucket = spec.bucket.or_else(|| var(&["AWS_BUCKET"])).ok_or_else(|| unset("bucket", "AWS_BUCKET"))?;
    let endpoint = spec.endpoint_url.or_else(|| var(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]));
    let region = spec.region.or_else(|| var(&["AWS_REGION", "AWS_DEFAULT_REGION"]));
    let (endpoint, region) = match (endpoint, region) {
        // Who is not Amazon has one region, as a rule, and this is its name.
        (Some(endpoint), region) => (endpoint, region.unwrap_or_else(|| "us-east-1".into())),
        (None, Some(region)) => (of_amazon(&region)?, region),
        (None, None) => return Err(unset("region", "AWS_REGION").into()),
    };
    let endpoint = url("endpoint_url", &endpoint)?;
    let keys = match (spec.access_key_id, spec.secret_access_key) {
        (Some(id), Some(secret)) => Some(S3Keys { id, secret, token: spec.session_token }),
        (None, None) => {
            let token = spec.session_token.or_else(|| var(&["AWS_SESSION_TOKEN"]).map(Secret::new));
            let secret = var(&["AWS_SECRET_ACCESS_KEY"]).map(Secret::new);
            var(&["AWS_ACCESS_KEY_ID"]).zip(secret).map(|(id, secret)| S3Keys { id, secret, token })
        }
        _ => return Err(CacheSpecError::HalfAKey.into()),
    };
    // What cannot be part of the name of a host, or of one that a certificate vouches for.
    let is_host = bucket.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
        && !(endpoint.scheme() == "https" && bucket.contains('.'))
        && endpoint.domain().is_some();
    Ok(S3Place {
        style: if spec.use_path_style || !is_host { BucketIn::Path } else { BucketIn::Host },
        endpoint,
        bucket,
        region,
        names: S3Names {
            prefix: spec.prefix,
            blobs: spec.blobs_prefix.unwrap_or_else(|| "blobs/".into()),
            manifests: spec.manifests_prefix.unwrap_or_else(|| "manifests/".into()),
            caches: if spec.names.is_empty() { vec![NAME.into()] } else { spec.names },
        },
        keys,
        parallel: spec.upload_parallelism.unwrap_or(4),
        refresh: spec.touch_refresh.map_or(Duration::from_secs(86_400), time),
    })
}

/// Returns the URL of Amazon in a region.
fn of_amazon(region: &str) -> Result<String, CacheSpecError> {
    if !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        let wanted = "it is the name of a region, as eu-central-1".into();
        return Err(CacheSpecError::Value { key: "region".into(), value: region.into(), wanted });
    }
    let china = if region.starts_with("cn-") { ".cn" } else { "" };
    Ok(format!("https://s3.{region}.amazonaws.com{china}"))
}

fn actions(spec: ActionsSpec, environment: &Environment) -> Result<ActionsPlace, UsageError> {
    let address = spec.url.or_else(|| variable(environment, &["ACTIONS_RESULTS_URL"]));
    let token = spec.token.or_else(|| variable(environment, &["ACTIONS_RUNTIME_TOKEN"]).map(Secret::new));
    Ok(ActionsPlace {
        url: address.map(|address| url("url_v2", &address)).transpose()?,
        token,
        scope: spec.scope.unwrap_or_else(|| NAME.into()),
        timeout: spec.timeout.map_or(TIMEOUT, time),
    })
}

fn time(Age(seconds): Age) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

/// Returns the URL of a service.
fn url(key: &str, text: &str) -> Result<Url, CacheSpecError> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.filter(|url| url.username().is_empty() && url.password().is_none());
    let wanted = || "it is a URL with http or https, without a password".into();
    // The value is not shown: there may be a password in it.
    url.ok_or_else(|| CacheSpecError::Value { key: key.into(), value: "…".into(), wanted: wanted() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::CacheFrom;

    fn placed(text: &str, vars: &[(&str, &str)]) -> Result<CachePlace, String> {
        let environment = Environment {
            vars: vars.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            cwd: Some("/w".into()),
            ..Environment::default()
        };
        let CacheFrom(spec) = text.parse().expect("a spec");
        place(spec, &environment).map_err(|error| error.to_string())
    }

    fn s3(text: &str, vars: &[(&str, &str)]) -> S3Place {
        match placed(text, vars) {
            Ok(CachePlace::S3(place)) => place,
            other => panic!("{text}: {other:?}"),
        }
    }

    const KEYS: [(&str, &str); 3] =
        [("AWS_ACCESS_KEY_ID", "i"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_SESSION_TOKEN", "t")];

    #[test]
    fn variables_say_what_the_flag_does_not() {
        let vars = [&KEYS[..], &[("AWS_REGION", "eu-west-1"), ("AWS_BUCKET", "b")]].concat();
        let place = s3("type=s3", &vars);
        assert_eq!(place.endpoint.as_str(), "https://s3.eu-west-1.amazonaws.com/");
        assert_eq!((place.bucket.as_str(), place.style), ("b", BucketIn::Host));
        let keys = place.keys.expect("keys");
        assert_eq!((keys.id.as_str(), keys.secret.reveal(), keys.token), ("i", "s", Some(Secret::new("t"))));
        // Keys of the flag have nothing to do with the token of other ones.
        let place = s3("type=s3,bucket=c,region=cn-north-1,access_key_id=a,secret_access_key=x", &vars);
        assert_eq!(place.endpoint.as_str(), "https://s3.cn-north-1.amazonaws.com.cn/");
        assert_eq!(place.keys.expect("keys").token, None);
        assert_eq!(place.names.caches, ["coracle"]);
    }

    #[test]
    fn the_bucket_is_in_the_path_where_it_cannot_be_in_the_host() {
        for (text, style) in [
            ("bucket=b,endpoint_url=https://s3.example.org", BucketIn::Host),
            ("bucket=b,endpoint_url=https://s3.example.org,use_path_style=true", BucketIn::Path),
            ("bucket=b,endpoint_url=http://127.0.0.1:9000", BucketIn::Path),
            ("bucket=b,endpoint_url=http://[::1]:9000", BucketIn::Path),
            ("bucket=b.c,endpoint_url=https://s3.example.org", BucketIn::Path),
            ("bucket=b.c,endpoint_url=http://s3.example.org", BucketIn::Host),
            ("bucket=Old_Name,region=us-east-1", BucketIn::Path),
        ] {
            assert_eq!(s3(&format!("type=s3,{text}"), &[]).style, style, "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_its_variable() {
        for (text, words) in [
            ("type=s3,region=a", "type=s3 needs bucket=, or AWS_BUCKET"),
            ("type=s3,bucket=a", "type=s3 needs region=, or AWS_REGION"),
            ("type=s3,bucket=a,region=a/b", "region=a/b makes no sense"),
            ("type=s3,bucket=a,endpoint_url=ftp://x", "endpoint_url=… makes no sense"),
            ("type=s3,bucket=a,endpoint_url=https://u:pw@x", "endpoint_url=… makes no sense"),
            ("type=s3,bucket=a,region=b,access_key_id=c", "belong together"),
        ] {
            let error = placed(text, &KEYS).expect_err("refused");
            assert!(error.contains(words), "{text}: {error}");
        }
        // In a job that gets no secrets that is a warning, later.
        assert_eq!(s3("type=s3,bucket=a,region=b", &[]).keys, None);
    }

    #[test]
    fn a_job_of_github() {
        let vars = [("ACTIONS_RESULTS_URL", "https://results.example.org/"), ("ACTIONS_RUNTIME_TOKEN", "t")];
        let Ok(CachePlace::Actions(place)) = placed("type=gha,scope=web", &vars) else { panic!("a place") };
        assert_eq!((place.token, place.scope.as_str(), place.timeout), (Some(Secret::new("t")), "web", TIMEOUT));
        let Ok(CachePlace::Actions(place)) = placed("type=gha,timeout=90s", &[]) else { panic!("a place") };
        assert_eq!((place.url, place.token, place.timeout), (None, None, Duration::from_secs(90)));
    }
}
