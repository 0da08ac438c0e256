use std::collections::BTreeMap;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::OutputError;
use super::archive::{Archive, compression};
use super::bounded::Bounded;
use super::content::{Blob, Content, Origin, Top, read_failed, stream};
use super::error::printable;
use super::out::Out;
use super::source::{Failure, Meter, Source, blob_name, copy_bytes, read_file};
use super::tarball::Tarball;
use crate::oci::{DiffId, Digest, DigestWriter, ImageConfig, ImageError, MAX_LAYERS, Reference, digest_of, media_type};
use crate::progress::Sink;
use crate::store::{Image, ImageLayer};

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

/// An image in an archive of `docker save`. Its manifest is made here: there is none in the archive.
pub(super) struct DockerOrigin<'a> {
    archive: &'a Archive,
    names: Vec<String>,
    image: Image,
    /// Which file holds a layer.
    files: BTreeMap<Digest, String>,
}

impl<'a> DockerOrigin<'a> {
    /// Finds the image that `reference` means. Compressed layers are read once, to know their digests.
    pub(super) fn open(archive: &'a Archive, reference: Option<&str>) -> Result<Self, OutputError> {
        let (entry, names) = choose(read_manifest(archive)?, reference, archive)?;
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
        let mut files: BTreeMap<Digest, String> = BTreeMap::new();
        let mut known: BTreeMap<DiffId, Value> = BTreeMap::new();
        let mut described: Vec<Value> = Vec::with_capacity(layers.len());
        for (path, diff_id) in layers.iter().zip(&config.rootfs.diff_ids) {
            let descriptor = match known.get(diff_id) {
                Some(descriptor) => descriptor.clone(),
                None => {
                    let (kind, digest, size) = examine(archive, path, diff_id)?;
                    files.insert(digest, path.clone());
                    describe(kind, &digest, size)
                }
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
        Ok(DockerOrigin { archive, names, image, files })
    }
}

impl Origin for DockerOrigin<'_> {
    fn place(&self) -> String {
        self.archive.path().display().to_string()
    }

    fn top(&self) -> Result<Top, OutputError> {
        Ok(Top { starts: vec![self.image.descriptor()], names: self.names.clone() })
    }

    fn document(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, OutputError> {
        match digest_of(descriptor)? {
            digest if digest == self.image.digest => Ok(self.image.manifest_bytes.clone()),
            digest if digest == self.image.config_digest() => Ok(self.image.config_bytes.clone()),
            _ => Err(OutputError::Missing { what: what.into(), path: self.archive.path().to_path_buf() }),
        }
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Blob<'_>, OutputError> {
        let digest = digest_of(descriptor)?;
        let what = self.blob_name(&digest);
        let missing = || OutputError::Missing { what, path: self.archive.path().to_path_buf() };
        match self.files.get(&digest) {
            Some(file) => self.archive.open(file)?.ok_or_else(missing),
            None => Err(missing()),
        }
    }

    fn blob_name(&self, digest: &Digest) -> String {
        match self.files.get(digest) {
            Some(file) => format!("layer {file:?}"),
            None => format!("blob {digest} in {}", self.place()),
        }
    }
}

/// Returns what is in the archive: for each image what to ask for, and its names in full.
pub(super) fn list(archive: &Archive) -> Result<Vec<(String, Vec<String>)>, OutputError> {
    let entries = read_manifest(archive)?;
    let named = |(at, entry): (usize, &Entry)| {
        let tags = entry.repo_tags.iter().flatten();
        let names = tags.filter_map(|tag| Some(Reference::parse(tag).ok()?.to_string())).collect();
        (format!("@{at}"), names)
    };
    Ok(entries.iter().enumerate().map(named).collect())
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

/// Returns the entry that `reference` means, and its names in full; without one, the only entry.
fn choose(
    mut entries: Vec<Entry>,
    reference: Option<&str>,
    archive: &Archive,
) -> Result<(Entry, Vec<String>), OutputError> {
    let path = archive.path().to_path_buf();
    let tags = |entry: &Entry| entry.repo_tags.clone().unwrap_or_default();
    let full = |tag: &str| Reference::parse(tag).ok().map(|name| name.to_string());
    let all: Vec<String> = entries.iter().flat_map(&tags).collect();
    let names = || printable(all.iter().map(String::as_str));
    if let Some(wanted) = reference {
        let at = wanted.strip_prefix('@').and_then(|number| number.parse::<usize>().ok());
        if let Some(at) = at.filter(|at| *at < entries.len()) {
            let entry = entries.swap_remove(at);
            let names = tags(&entry).iter().filter_map(|tag| full(tag)).collect();
            return Ok((entry, names));
        }
        let named = full(wanted);
        let same = |tag: &String| tag == wanted || (named.is_some() && full(tag) == named);
        let found = entries.into_iter().find(|entry| tags(entry).iter().any(same));
        return match found {
            Some(entry) => Ok((entry, named.into_iter().collect())),
            None => Err(OutputError::NoSuchImage { path, wanted: wanted.into(), names: names() }),
        };
    }
    match (entries.pop(), entries.is_empty()) {
        (None, _) => Err(OutputError::Empty { path }),
        (Some(_), false) => Err(OutputError::Several { path, names: names() }),
        (Some(entry), true) => {
            let names = tags(&entry).iter().filter_map(|tag| full(tag)).collect();
            Ok((entry, names))
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

/// Returns media type, digest and length of the layer `name`, whose tar must be `diff_id`. A plain tar is not read here: whoever
/// reads it verifies it.
fn examine(archive: &Archive, name: &str, diff_id: &DiffId) -> Result<(&'static str, Digest, u64), OutputError> {
    let what = || format!("layer {name:?}");
    let reading = |source| OutputError::io("read", archive.path(), source);
    let open = || {
        let missing = || OutputError::Missing { what: what(), path: archive.path().to_path_buf() };
        archive.open(name)?.ok_or_else(missing)
    };
    let (start, size) = open()?;
    let mut magic = Vec::new();
    start.take(4).read_to_end(&mut magic).map_err(reading)?;
    // A compressed layer stays as it is; its name is another digest than the one in the configuration.
    let kind = match compression(&magic) {
        None => return Ok((media_type::LAYER, diff_id.0, size)),
        Some("gzip") => media_type::LAYER_GZIP,
        Some(_) => media_type::LAYER_ZSTD,
    };
    let found = measure(open()?.0).map_err(reading)?.0;
    if found != diff_id.0 {
        return Err(OutputError::Digest { what: what(), expected: diff_id.0, found });
    }
    let mut hash = DigestWriter::new(io::sink());
    io::copy(&mut open()?.0, &mut hash).map_err(reading)?;
    let (_, digest, size) = hash.finish();
    Ok((kind, digest, size))
}

fn describe(media_type: &str, digest: &Digest, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

/// Returns digest and length of what `reader` gives, decompressed.
fn measure(reader: impl Read + Send) -> io::Result<(Digest, u64)> {
    let mut tar = Bounded::new(crate::layer::decompress(reader)?);
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

/// Writes an archive as `docker save` does, with images under their names: layers as plain tars, named by their digests. In
/// `scratch` a layer is unpacked where `out` is a stream.
pub(super) fn write_archive(
    contents: &[(&Content, Vec<String>)],
    from: &dyn Origin,
    scratch: &Path,
    out: &mut dyn Out,
    sink: &dyn Sink,
) -> Result<(), OutputError> {
    let file = |diff_id: &DiffId| format!("{}.tar", diff_id.0.hex());
    let mut images: Vec<(Image, Vec<String>)> = Vec::with_capacity(contents.len());
    for (content, names) in contents {
        let one = |content: &Content| OutputError::OneImage { digest: content.digest() };
        images.push((content.image()?.ok_or_else(|| one(content))?, repo_tags(names)?));
    }
    let meter = Meter::new(sink, "docker-archive".into(), None);
    let mut tar = Tarball::new(out);
    let mut entries: Vec<Entry> = Vec::new();
    let mut files: BTreeMap<String, Part<'_>> = BTreeMap::new();
    for (image, repo_tags) in &images {
        let config = format!("{}.json", image.config_digest().hex());
        let paths: Vec<String> = image.config.rootfs.diff_ids.iter().map(file).collect();
        files.insert(config.clone(), Part::Config(&image.config_bytes));
        files.extend(image.layers().into_iter().map(|layer| (file(&layer.diff_id), Part::Layer(layer))));
        entries.push(Entry { config, repo_tags: Some(repo_tags.clone()), layers: Some(paths) });
    }
    for (name, part) in &files {
        match part {
            Part::Config(bytes) => tar.file(name, bytes).map_err(OutputError::Stream)?,
            Part::Layer(layer) => write_layer(&mut tar, name, layer, from, scratch, &meter)?,
        }
    }
    let manifest = serde_json::to_vec(&entries).expect("strings and lists always serialise");
    tar.file("manifest.json", &manifest).map_err(OutputError::Stream)?;
    tar.finish().map_err(OutputError::Stream)?;
    Ok(())
}

/// Returns the manifest.json of an archive in which the images lie as in an OCI layout, layers as they are.
pub(super) fn manifest_in_layout(contents: &[(&Content, Vec<String>)]) -> Result<Vec<u8>, OutputError> {
    let mut entries: Vec<Entry> = Vec::with_capacity(contents.len());
    for (content, names) in contents {
        let image = content.image()?.ok_or_else(|| OutputError::OneImage { digest: content.digest() })?;
        let layers = image.layers().iter().map(|layer| blob_name(&layer.digest)).collect();
        let config = blob_name(&image.config_digest());
        entries.push(Entry { config, repo_tags: Some(repo_tags(names)?), layers: Some(layers) });
    }
    Ok(serde_json::to_vec(&entries).expect("strings and lists always serialise"))
}

enum Part<'a> {
    Config(&'a [u8]),
    Layer(ImageLayer<'a>),
}

/// The length must be in front of the content. A plain tar has it in its descriptor; that of a compressed layer is known when it was
/// decompressed, which is done once: into a file, where the length is filled in behind, and on its way to a stream, into a file in
/// `scratch`. Only where that cannot be made it is decompressed once more, to be measured.
fn write_layer(
    tar: &mut Tarball<&mut dyn Out>,
    name: &str,
    layer: &ImageLayer<'_>,
    from: &dyn Origin,
    scratch: &Path,
    meter: &Meter<'_>,
) -> Result<(), OutputError> {
    let is_tar = matches!(
        layer.descriptor.media_type().as_ref(),
        media_type::LAYER | media_type::DOCKER_LAYER | media_type::LAYER_FOREIGN
    );
    if is_tar && layer.digest == layer.diff_id.0 {
        tar.begin(name, layer.size).map_err(OutputError::Stream)?;
        stream(from, layer.descriptor, tar.out(), meter, &OutputError::Stream)?;
        return tar.end(layer.size).map_err(OutputError::Stream);
    }
    if tar.out().can_rewrite() {
        let open = tar.begin_open(name).map_err(OutputError::Stream)?;
        let size = unpack(from, layer, tar.out(), Some(meter), &OutputError::Stream)?;
        return tar.end_open(&open, size).map_err(OutputError::Stream);
    }
    let size = match tempfile::tempfile_in(scratch) {
        Ok(mut file) => {
            let failed = |source| OutputError::io("write", scratch, source);
            let size = unpack(from, layer, &mut file, None, &failed)?;
            file.rewind().map_err(failed)?;
            tar.begin(name, size).map_err(OutputError::Stream)?;
            copy_bytes(&mut file, tar.out(), size, meter).map_err(|failure| match failure {
                Failure::Read(source) => OutputError::io("read", scratch, source),
                Failure::Write(source) => OutputError::Stream(source),
            })?;
            size
        }
        // A store that may only be read.
        Err(_) if !from.is_remote() => {
            let size = unpack(from, layer, &mut io::sink(), None, &OutputError::Stream)?;
            tar.begin(name, size).map_err(OutputError::Stream)?;
            let again = unpack(from, layer, tar.out(), Some(meter), &OutputError::Stream)?;
            super::source::check_length(&format!("layer {}", layer.digest), size, again)?;
            size
        }
        Err(source) => return Err(OutputError::io("create a temporary file in", scratch, source)),
    };
    tar.end(size).map_err(OutputError::Stream)
}

/// Unpacks the layer into `out`, and returns the length of its tar. Where that is not the tar of the configuration, it is an error at
/// its end.
fn unpack(
    from: &dyn Origin,
    layer: &ImageLayer<'_>,
    out: &mut dyn Write,
    meter: Option<&Meter<'_>>,
    write_error: &dyn Fn(io::Error) -> OutputError,
) -> Result<u64, OutputError> {
    let reading = |source| read_failed(from, &layer.digest, source);
    let (reader, length) = from.blob(layer.descriptor)?;
    if length != layer.size {
        return Err(from.wrong((layer.digest, layer.size), (layer.digest, length)));
    }
    let mut tar = Bounded::new(crate::layer::decompress(reader).map_err(reading)?);
    let mut hash = DigestWriter::new(out);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match tar.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                hash.write_all(&buffer[..n]).map_err(write_error)?;
                meter.iter().for_each(|meter| meter.advance(n as u64));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(reading(error)),
        }
    }
    let (_, found, size) = hash.finish();
    if found != layer.diff_id.0 {
        let what = format!("layer {}", layer.digest);
        return Err(OutputError::Digest { what, expected: layer.diff_id.0, found });
    }
    Ok(size)
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
