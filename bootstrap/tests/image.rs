//! The pilot's image as runtimes read it: an archive whose every part is where the one before says, with its digest.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

use bootstrap::image::{ImageFault, Name, archive};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::process::Command;

/// A program of 64 bits with these program headers: (type, what it names).
fn program(machine: u16, segments: &[(u32, &str)]) -> Vec<u8> {
    let mut elf = vec![0_u8; 64];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[18..20].copy_from_slice(&machine.to_le_bytes());
    elf[32..40].copy_from_slice(&64_u64.to_le_bytes());
    elf[54..56].copy_from_slice(&56_u16.to_le_bytes());
    elf[56..58].copy_from_slice(&u16::try_from(segments.len()).unwrap().to_le_bytes());
    let mut named = 64 + 56 * segments.len();
    for (kind, text) in segments {
        let mut segment = [0_u8; 56];
        segment[..4].copy_from_slice(&kind.to_le_bytes());
        segment[8..16].copy_from_slice(&u64::try_from(named).unwrap().to_le_bytes());
        segment[32..40].copy_from_slice(&u64::try_from(text.len() + 1).unwrap().to_le_bytes());
        elf.extend_from_slice(&segment);
        named += text.len() + 1;
    }
    for (_, text) in segments {
        elf.extend_from_slice(text.as_bytes());
        elf.push(0);
    }
    elf.extend_from_slice(&[7; 1000]);
    elf
}

fn fixed() -> Vec<u8> {
    program(62, &[(1, "load"), (2, "dynamic")])
}

fn name() -> Name {
    Name::parse("registry.example/db/pilot:0.1.0").unwrap()
}

/// The files of a tar archive; asks a real tar.
fn files(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let folder = tempdir();
    let file = folder.join("archive.tar");
    std::fs::write(&file, tar).unwrap();
    let list = Command::new("tar").arg("--list").arg("--file").arg(&file).output().unwrap();
    assert!(list.status.success() && list.stderr.is_empty(), "{list:?}");
    let names = String::from_utf8(list.stdout).unwrap();
    let read = |name: &str| {
        let out =
            Command::new("tar").args(["--extract", "--to-stdout", "--file"]).arg(&file).arg(name).output().unwrap();
        assert!(out.status.success(), "{out:?}");
        (name.to_owned(), out.stdout)
    };
    let files = names.lines().map(read).collect();
    std::fs::remove_dir_all(folder).unwrap();
    files
}

fn tempdir() -> std::path::PathBuf {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("pilot-image-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// What a description names, which must be there, as long as it says, with the digest that it says.
fn blob<'f>(files: &'f BTreeMap<String, Vec<u8>>, described: &Value) -> &'f [u8] {
    let digest = described["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let bytes = &files[&format!("blobs/sha256/{digest}")];
    assert_eq!(described["size"].as_u64(), Some(u64::try_from(bytes.len()).unwrap()));
    assert_eq!(digest, sha256(bytes));
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn from_the_index_to_the_program_every_digest_and_size_is_right() {
    let files = files(&archive(&fixed(), &name()).unwrap());
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    assert_eq!(json(&files["oci-layout"])["imageLayoutVersion"], "1.0.0");
    let index = json(&files["index.json"]);
    let described = &index["manifests"][0];
    assert_eq!(described["annotations"]["io.containerd.image.name"], "registry.example/db/pilot:0.1.0");
    assert_eq!(described["annotations"]["org.opencontainers.image.ref.name"], "0.1.0");
    let manifest = json(blob(&files, described));
    let config = json(blob(&files, &manifest["config"]));
    assert_eq!(config["architecture"], "amd64");
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/pilot"]));
    assert_eq!(config["config"]["User"], "65532:65532");
    let layer = blob(&files, &manifest["layers"][0]);
    assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!([format!("sha256:{}", sha256(layer))]));
    let inside = self::files(layer);
    assert_eq!(inside.keys().collect::<Vec<_>>(), ["pilot"]);
    assert_eq!(inside["pilot"], fixed());
    // What older programs read names the same files.
    let older = json(&files["manifest.json"]);
    assert!(files.contains_key(older[0]["Config"].as_str().unwrap()));
    assert!(files.contains_key(older[0]["Layers"][0].as_str().unwrap()));
    assert_eq!(files.len(), 6, "and nothing else: {:?}", files.keys());
}

#[test]
fn everybody_may_run_the_program_and_nobody_owns_it() {
    let files = files(&archive(&fixed(), &name()).unwrap());
    let layer = files.values().max_by_key(|bytes| bytes.len()).unwrap();
    let folder = tempdir();
    let file = folder.join("layer.tar");
    std::fs::write(&file, layer).unwrap();
    let verbose = ["--list", "--verbose", "--numeric-owner", "--utc", "--file"];
    let list = Command::new("tar").args(verbose).arg(&file).output().unwrap();
    let said = String::from_utf8(list.stdout).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    assert!(said.starts_with("-rwxr-xr-x 0/0 ") && said.contains("1970-01-01 00:00 pilot"), "{said}");
}

#[test]
fn equal_programs_give_equal_bytes_and_another_one_another_digest() {
    let one = archive(&fixed(), &name()).unwrap();
    assert_eq!(one, archive(&fixed(), &name()).unwrap());
    let mut other = fixed();
    *other.last_mut().unwrap() = 8;
    assert_ne!(
        files(&one).keys().collect::<Vec<_>>(),
        files(&archive(&other, &name()).unwrap()).keys().collect::<Vec<_>>()
    );
    let arm = archive(&program(183, &[(1, "load")]), &name()).unwrap();
    assert!(String::from_utf8_lossy(&arm).contains("\"architecture\":\"arm64\""));
}

#[test]
fn what_could_not_run_in_the_image_is_refused() {
    let refused = |program: &[u8]| archive(program, &name()).unwrap_err();
    assert_eq!(refused(b"#!/bin/sh\n"), ImageFault::NoProgram("no 64-bit ELF file"));
    assert_eq!(refused(&program(8, &[])), ImageFault::NoProgram("for another machine"));
    let dynamic = program(62, &[(1, "load"), (3, "/lib64/ld-linux-x86-64.so.2")]);
    assert_eq!(refused(&dynamic), ImageFault::Dynamic("/lib64/ld-linux-x86-64.so.2".to_owned()));
    // This very test is linked dynamically wherever tests are built as usual.
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    assert!(cfg!(target_feature = "crt-static") || matches!(refused(&own), ImageFault::Dynamic(_)));
    for length in 0..64 + 2 * 56 {
        assert!(matches!(refused(&fixed()[..length]), ImageFault::NoProgram(_)), "cut after {length} bytes");
    }
}

#[test]
fn a_name_has_registry_path_and_tag() {
    for good in
        ["registry.example/pilot:0.1.0", "localhost/pilot:1", "host:5000/a/b-c/pilot:v1_2.x", "lab.local/pilot:1"]
    {
        assert_eq!(Name::parse(good).unwrap().to_string(), good);
    }
    for bad in [
        "",
        "pilot",
        "pilot:1",
        "registry.example/pilot",
        "registry.example/Pilot:1",
        "registry.example/pilot:",
        "a/pilot:1",
        "host:99999/pilot:1",
        "registry.example//pilot:1",
        "registry.example/pilot:1 2",
        "registry.example/pilot@sha256:0",
    ] {
        assert_eq!(Name::parse(bad), Err(ImageFault::Name(bad.to_owned())), "{bad}");
    }
}
