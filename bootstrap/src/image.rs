//! The pilot's image: one static program on nothing, as an archive that container runtimes import.
//!
//! No engine and no daemon is needed for it: the archive is an OCI image layout in a tar file, with the older
//! `manifest.json` beside it for those that read only that. Equal programs and names give equal bytes. Pure.

use crate::names::is_label;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt;

/// Where the program lies in the image, and its entry point.
pub const ENTRY: &str = "/pilot";
/// Who runs it where the pod says nothing else: nobody in particular.
const USER: &str = "65532:65532";
/// Nothing in an image is of any time.
const MADE: &str = "1970-01-01T00:00:00Z";
const BLOCK: usize = 512;

/// Why there is no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageFault {
    /// The name.
    #[error(
        "the image's name is `{0}` but must be registry, path and tag: write registry.example/pilot:0.1.0 for instance"
    )]
    Name(String),
    /// No program at all, or not one of these machines.
    #[error(
        "the program is {0} but must be one for Linux on x86-64 or AArch64: give what `cargo build` made for such a target"
    )]
    NoProgram(&'static str),
    /// It would find no libraries.
    #[error(
        "the program wants the dynamic linker {0} but must be static, for the image holds nothing else: build it with \
         RUSTFLAGS=\"-C target-feature=+crt-static\" and --target, as docs/kubernetes.md tells"
    )]
    Dynamic(String),
}

/// A name with registry and tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    whole: String,
    tag: usize,
}

impl Name {
    /// Reads a name. Without a registry it would mean another image to each runtime, and without a tag `latest`, which
    /// kubelets pull again and again.
    ///
    /// # Errors
    /// When it has not the three parts, or a part has letters that it may not have.
    pub fn parse(text: &str) -> Result<Self, ImageFault> {
        let fault = || ImageFault::Name(text.to_owned());
        let (repository, tag) = text.rsplit_once(':').ok_or_else(fault)?;
        let (registry, path) = repository.split_once('/').ok_or_else(fault)?;
        let (host, port) = registry.split_once(':').map_or((registry, None), |(host, port)| (host, Some(port)));
        let is_host = host.split('.').all(is_label) && (host.contains('.') || port.is_some() || host == "localhost");
        let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
        let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_path = path.split('/').all(|part| {
            part.starts_with(lower) && part.ends_with(lower) && part.chars().all(|c| lower(c) || "._-".contains(c))
        });
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_tag = tag.len() <= 128 && tag.starts_with(word) && tag.chars().all(|c| word(c) || ".-".contains(c));
        if is_host && is_port && is_path && is_tag && text.len() <= 255 {
            Ok(Self { whole: text.to_owned(), tag: text.len() - tag.len() })
        } else {
            Err(fault())
        }
    }

    fn tag(&self) -> &str {
        &self.whole[self.tag..]
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.whole)
    }
}

/// The archive of an image that holds this program.
///
/// # Errors
/// When the program could not run in it.
pub fn archive(program: &[u8], name: &Name) -> Result<Vec<u8>, ImageFault> {
    let architecture = architecture(program)?;
    let mut layer = Vec::with_capacity(program.len() + 4 * BLOCK);
    entry(&mut layer, ENTRY.trim_start_matches('/'), program, 0o755);
    end(&mut layer);
    let layer = Blob::new("application/vnd.oci.image.layer.v1.tar", layer);
    let config = Blob::json(
        "application/vnd.oci.image.config.v1+json",
        &json!({
            "created": MADE,
            "architecture": architecture,
            "os": "linux",
            "config": {
                "User": USER,
                "Entrypoint": [ENTRY],
                "WorkingDir": "/",
                "Labels": {
                    "org.opencontainers.image.title": "pilot",
                    "org.opencontainers.image.licenses": "Apache-2.0",
                },
            },
            // Not compressed: what is stored is what is unpacked.
            "rootfs": { "type": "layers", "diff_ids": [layer.digest()] },
            "history": [{ "created": MADE, "created_by": "pilot image" }],
        }),
    );
    let manifest = Blob::json(
        "application/vnd.oci.image.manifest.v1+json",
        &json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.describe(),
            "layers": [layer.describe()],
        }),
    );
    let mut described = manifest.describe();
    described["platform"] = json!({ "architecture": architecture, "os": "linux" });
    described["annotations"] = json!({
        "io.containerd.image.name": name.to_string(),
        "org.opencontainers.image.ref.name": name.tag(),
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [described],
    });
    let older = json!([{ "Config": config.path(), "RepoTags": [name.to_string()], "Layers": [layer.path()] }]);

    let mut out = Vec::with_capacity(program.len() + 32 * BLOCK);
    entry(&mut out, "oci-layout", json!({ "imageLayoutVersion": "1.0.0" }).to_string().as_bytes(), 0o644);
    entry(&mut out, "index.json", index.to_string().as_bytes(), 0o644);
    entry(&mut out, "manifest.json", older.to_string().as_bytes(), 0o644);
    for blob in [&manifest, &config, &layer] {
        entry(&mut out, &blob.path(), &blob.bytes, 0o644);
    }
    end(&mut out);
    Ok(out)
}

/// Bytes that are named by their digest.
struct Blob {
    media: &'static str,
    bytes: Vec<u8>,
    hex: String,
}

impl Blob {
    fn new(media: &'static str, bytes: Vec<u8>) -> Self {
        let hex = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { media, bytes, hex }
    }

    fn json(media: &'static str, value: &Value) -> Self {
        Self::new(media, value.to_string().into_bytes())
    }

    fn digest(&self) -> String {
        format!("sha256:{}", self.hex)
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.hex)
    }

    fn describe(&self) -> Value {
        json!({ "mediaType": self.media, "digest": self.digest(), "size": self.bytes.len() })
    }
}

/// One file of a tar archive (POSIX ustar), of nobody and of no time.
fn entry(out: &mut Vec<u8>, path: &str, bytes: &[u8], mode: u32) {
    let mut header = [0_u8; BLOCK];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, path.as_bytes());
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{:011o}", bytes.len()).as_bytes());
    put(136, b"00000000000");
    // The sum counts its own field as blanks.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

/// Two empty blocks end an archive.
fn end(out: &mut Vec<u8>) {
    out.resize(out.len() + 2 * BLOCK, 0);
}

/// For which machine a program is, if it is one that needs nothing else.
fn architecture(program: &[u8]) -> Result<&'static str, ImageFault> {
    let half = |at: usize| Some(u16::from_le_bytes(program.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u64::from_le_bytes(program.get(at..at + 8)?.try_into().ok()?));
    let place = |at: usize| word(at).and_then(|n| usize::try_from(n).ok());
    // ELF, 64 bits, least byte first.
    if program.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err(ImageFault::NoProgram("no 64-bit ELF file"));
    }
    let architecture = match half(18) {
        Some(62) => "amd64",
        Some(183) => "arm64",
        Some(_) => return Err(ImageFault::NoProgram("for another machine")),
        None => return Err(ImageFault::NoProgram("cut off")),
    };
    let cut_off = ImageFault::NoProgram("cut off");
    let (Some(table), Some(size), Some(count)) = (place(32), half(54), half(56)) else { return Err(cut_off) };
    for number in 0..usize::from(count) {
        let at = number.checked_mul(usize::from(size)).and_then(|offset| offset.checked_add(table));
        let segment = at.and_then(|at| program.get(at..)?.get(..56));
        let Some(segment) = segment else { return Err(cut_off) };
        // PT_INTERP: who loads it.
        if segment[..4] == 3_u32.to_le_bytes() {
            let field = |at: usize| segment[at..at + 8].try_into().ok().map(u64::from_le_bytes).map(usize::try_from);
            let path = match (field(8), field(32)) {
                (Some(Ok(from)), Some(Ok(size))) => program.get(from..).and_then(|rest| rest.get(..size)),
                _ => None,
            };
            let path = String::from_utf8_lossy(path.unwrap_or_default());
            return Err(ImageFault::Dynamic(path.trim_end_matches('\0').to_owned()));
        }
    }
    Ok(architecture)
}
