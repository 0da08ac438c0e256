use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::archive::{Archive, compression};
use super::error::printable;
use super::source::{Failure, Meter, Source, copy, copy_in, read_file};
use super::tarball::Tarball;
use super::{Imported, OutputError};
use crate::oci::{
    DiffId, Digest, DigestReader, DigestWriter, ImageConfig, ImageError, MAX_LAYERS, Reference, media_type,
};
use crate::progress::Sink;
use crate::store::{Image, ImageLayer, Store, StoreError};

/// One image in the manifest.json of an archive.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Brings an image of an archive of `docker save` into the store. Its manifest is made here.
pub(super) fn import(
    archive: &Archive,
    reference: Option<&str>,
    store: &Store,
    sink: &dyn Sink,
) -> Result<Imported, OutputError> {
    let (entry, name) = choose(read_manifest(archive)?, reference, archive)?;
    let config_bytes = read_config(archive, &entry.config)?;
    let digest = Digest::of(&config_bytes);
    let layers = entry.layers.unwrap_or_default();
    if layers.len() > MAX_LAYERS {
        let what = format!("manifest.json in {}", archive.path().display());
        let (found, limit) = (layers.len() as u64, MAX_LAYERS as u64);
        return Err(ImageError::TooLarge { what, found, unit: "layers", limit }.into());
    }
    let config = ImageConfig::from_json(&config_bytes).and_then(|config| {
        config.check_layers(layers.len())?;
        Ok(config)
    });
    let config = config.map_err(|source| ImageError::Config { digest, source })?;
    let mut meter = Meter::new(sink, archive.path().display().to_string(), None);
    let mut known: BTreeMap<DiffId, Value> = BTreeMap::new();
    let mut described: Vec<Value> = Vec::with_capacity(layers.len());
    for (path, diff_id) in layers.iter().zip(&config.rootfs.diff_ids) {
        let descriptor = match known.get(diff_id) {
            Some(descriptor) => descriptor.clone(),
            None => import_layer(archive, path, diff_id, store, &mut meter)?,
        };
        known.insert(*diff_id, descriptor.clone());
        described.push(descriptor);
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "config": describe(media_type::CONFIG, &digest, config_bytes.len() as u64),
        "layers": described,
    });
    let manifest = serde_json::to_vec(&manifest).expect("JSON values always serialise");
    let image = Image::new(media_type::MANIFEST, manifest, config_bytes)?;
    store.put_blob(&image.config_bytes)?;
    store.put_blob(&image.manifest_bytes)?;
    Ok(Imported { name, descriptor: image.descriptor() })
}

fn read_manifest(archive: &Archive) -> Result<Vec<Entry>, OutputError> {
    let path = archive.path();
    let Some(bytes) = read_file(archive, "manifest.json")? else {
        let reason = if archive.open("oci-layout")?.is_some() {
            "it has no manifest.json; it may be an oci-archive"
        } else if archive.open("repositories")?.is_some() {
            "it has no manifest.json: archives of docker before 1.10 are not supported"
        } else {
            "it has no manifest.json"
        };
        return Err(OutputError::damaged(path, reason));
    };
    serde_json::from_slice(&bytes)
        .map_err(|error| OutputError::damaged(path, format!("manifest.json: {}", error.to_string().escape_debug())))
}

/// Returns the entry that `reference` means, and its name in full; without one, the only entry.
fn choose(
    mut entries: Vec<Entry>,
    reference: Option<&str>,
    archive: &Archive,
) -> Result<(Entry, Option<String>), OutputError> {
    let path = archive.path().to_path_buf();
    let tags = |entry: &Entry| entry.repo_tags.clone().unwrap_or_default();
    let full = |tag: &str| Reference::parse(tag).ok().map(|name| name.to_string());
    let all: Vec<String> = entries.iter().flat_map(&tags).collect();
    let names = || printable(all.iter().map(String::as_str));
    if let Some(wanted) = reference {
        let named = full(wanted);
        let same = |tag: &String| tag == wanted || (named.is_some() && full(tag) == named);
        let found = entries.into_iter().find(|entry| tags(entry).iter().any(same));
        return match found {
            Some(entry) => Ok((entry, named)),
            None => Err(OutputError::NoSuchImage { path, wanted: wanted.into(), names: names() }),
        };
    }
    match (entries.pop(), entries.is_empty()) {
        (None, _) => Err(OutputError::Empty { path }),
        (Some(_), false) => Err(OutputError::Several { path, names: names() }),
        (Some(entry), true) => {
            let name = tags(&entry).iter().find_map(|tag| full(tag));
            Ok((entry, name))
        }
    }
}

/// Returns the configuration `name`, whose name is its digest in what all but old tools write.
fn read_config(archive: &Archive, name: &str) -> Result<Vec<u8>, OutputError> {
    let what = || format!("configuration {name:?}");
    let missing = || OutputError::Missing { what: what(), path: archive.path().to_path_buf() };
    let bytes = read_file(archive, name)?.ok_or_else(missing)?;
    let stem = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".json").trim_start_matches("sha256:");
    if let Ok(expected) = format!("sha256:{stem}").parse::<Digest>() {
        let found = Digest::of(&bytes);
        if found != expected {
            return Err(OutputError::Digest { what: what(), expected, found });
        }
    }
    Ok(bytes)
}

/// Brings the layer `name` into the store as it is, and returns its descriptor. Its tar must be `diff_id`.
fn import_layer(
    archive: &Archive,
    name: &str,
    diff_id: &DiffId,
    store: &Store,
    meter: &mut Meter<'_>,
) -> Result<Value, OutputError> {
    let what = || format!("layer {name:?}");
    let reading = |source| OutputError::io("read", archive.path(), source);
    let open = || {
        let missing = || OutputError::Missing { what: what(), path: archive.path().to_path_buf() };
        archive.open(name)?.ok_or_else(missing)
    };
    let (start, size) = open()?;
    let mut magic = Vec::new();
    start.take(4).read_to_end(&mut magic).map_err(reading)?;
    let Some(method) = compression(&magic) else {
        if !store.blob_is_sound(&diff_id.0, size) {
            copy_in(archive, open()?, (&diff_id.0, size), store, meter).map_err(|error| match error {
                OutputError::Digest { expected, found, .. } => OutputError::Digest { what: what(), expected, found },
                other => other,
            })?;
        }
        return Ok(describe(media_type::LAYER, &diff_id.0, size));
    };
    // A compressed layer stays as it is; its name in the store is another digest than the one in the configuration.
    let found = measure(open()?.0).map_err(reading)?.0;
    if found != diff_id.0 {
        return Err(OutputError::Digest { what: what(), expected: diff_id.0, found });
    }
    let mut writer = store.blob_writer()?;
    copy(&mut open()?.0, &mut writer, size, meter).map_err(|failure| match failure {
        Failure::Read(source) => reading(source),
        Failure::Write(source) => writer.error(source).into(),
    })?;
    let (digest, size) = writer.finish()?;
    let kind = if method == "gzip" { media_type::LAYER_GZIP } else { media_type::LAYER_ZSTD };
    Ok(describe(kind, &digest, size))
}

fn describe(media_type: &str, digest: &Digest, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

/// Returns digest and length of what `reader` gives, decompressed.
fn measure(reader: impl Read + Send) -> io::Result<(Digest, u64)> {
    let mut tar = crate::layer::decompress(reader)?;
    let mut hash = DigestWriter::new(io::sink());
    let mut buffer = vec![0; 256 << 10];
    loop {
        match tar.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => hash.write_all(&buffer[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let (_, digest, size) = hash.finish();
    Ok((digest, size))
}

/// Writes an archive as `docker save` does, with `image` under `names`: layers as plain tars, named by their digests.
pub(super) fn write_archive(
    image: &Image,
    store: &Store,
    names: &[String],
    out: &mut dyn Write,
    sink: &dyn Sink,
) -> Result<(), OutputError> {
    let repo_tags = repo_tags(names)?;
    let config = format!("{}.json", image.config_digest().hex());
    let file = |diff_id: &DiffId| format!("{}.tar", diff_id.0.hex());
    let paths: Vec<String> = image.config.rootfs.diff_ids.iter().map(file).collect();
    let mut meter = Meter::new(sink, "docker-archive".into(), None);
    let mut tar = Tarball::new(out);
    let mut layers: BTreeMap<String, ImageLayer<'_>> = BTreeMap::new();
    layers.extend(image.layers().into_iter().map(|layer| (file(&layer.diff_id), layer)));
    let mut config_written = false;
    for (name, layer) in &layers {
        if !config_written && config < *name {
            tar.file(&config, &image.config_bytes).map_err(OutputError::Stream)?;
            config_written = true;
        }
        write_layer(&mut tar, name, layer, store, &mut meter)?;
    }
    if !config_written {
        tar.file(&config, &image.config_bytes).map_err(OutputError::Stream)?;
    }
    let entry = Entry { config, repo_tags: Some(repo_tags), layers: Some(paths) };
    let manifest = serde_json::to_vec(&[entry]).expect("strings and lists always serialise");
    tar.file("manifest.json", &manifest).map_err(OutputError::Stream)?;
    tar.finish().map_err(OutputError::Stream)?;
    Ok(())
}

/// The length must be in front of the content, so a compressed layer is read twice: to measure it, and to write it.
fn write_layer(
    tar: &mut Tarball<&mut dyn Write>,
    name: &str,
    layer: &ImageLayer<'_>,
    store: &Store,
    meter: &mut Meter<'_>,
) -> Result<(), OutputError> {
    let path = store.blob_path(&layer.digest);
    let reading = |source| OutputError::from(StoreError::Io { call: "read", path: path.clone(), source });
    let what = || format!("layer {}", layer.digest);
    let (found, size) = measure(store.open_blob(&layer.digest)?).map_err(reading)?;
    if found != layer.diff_id.0 {
        return Err(OutputError::Digest { what: what(), expected: layer.diff_id.0, found });
    }
    let reader = crate::layer::decompress(store.open_blob(&layer.digest)?).map_err(reading)?;
    let mut reader = DigestReader::new(reader);
    tar.begin(name, size).map_err(OutputError::Stream)?;
    let copied = copy(&mut reader, tar.out(), size, meter).map_err(|failure| match failure {
        Failure::Read(source) => reading(source),
        Failure::Write(source) => OutputError::Stream(source),
    })?;
    super::source::check_length(&what(), size, copied)?;
    let (_, again, _) = reader.finish();
    if again != found {
        return Err(OutputError::Digest { what: what(), expected: found, found: again });
    }
    tar.end(size).map_err(OutputError::Stream)
}

/// Returns `names` as docker writes them. A name with a digest but no tag cannot be in an archive and is left out.
fn repo_tags(names: &[String]) -> Result<Vec<String>, OutputError> {
    let mut tags = Vec::new();
    for name in names {
        let failed = |source| OutputError::Name { name: name.clone(), source };
        let reference = Reference::parse(name).map_err(failed)?;
        if let Some(tag) = reference.tag() {
            tags.push(Reference::parse(&format!("{}:{tag}", reference.name())).map_err(failed)?.familiar());
        }
    }
    Ok(tags)
}
