//! Vectors that peers' own code made: names, files and keys of theirs, which ours must equal.

#![cfg(all(feature = "flock", feature = "sysv"))]

use serde_json::Value;
use synlock_core::store::flock::symfony_file_name;
use synlock_core::store::sysv::{Generation, symfony_key};

/// The rows of a file of vectors: a name, and what the peer makes of it.
fn rows(file: &str) -> Vec<(Vec<u8>, Value)> {
    let path = format!("{}/../tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let rows = all["rows"].as_array().unwrap();
    rows.iter()
        .map(|row| (bytes(&row["name"]), row["expect"].clone()))
        .collect()
}

/// Bytes that are no text stand as `{"hex": "…"}`.
fn bytes(value: &Value) -> Vec<u8> {
    if let Some(text) = value.as_str() {
        return text.as_bytes().to_vec();
    }
    let hex = value["hex"].as_str().unwrap();
    (0..hex.len() / 2)
        .map(|place| u8::from_str_radix(&hex[2 * place..2 * place + 2], 16).unwrap())
        .collect()
}

#[test]
fn symfonys_files_are_as_symfony_names_them() {
    let rows = rows("symfony_lock.json");
    assert!(rows.len() >= 64, "{} rows", rows.len());
    for (name, expect) in rows {
        let file = symfony_file_name(&name);
        assert_eq!(
            Some(file.as_str()),
            expect["flock_file"].as_str(),
            "{expect}"
        );
    }
}

#[test]
fn symfonys_keys_are_as_the_kernel_has_them() {
    for (name, expect) in rows("symfony_lock.json") {
        for (generation, field) in [
            (Generation::Crc32, "crc32"),
            (Generation::Md5, "md5"),
            (Generation::Xxh128, "xxh128"),
        ] {
            let key = i64::from(symfony_key(generation, &name));
            assert_eq!(
                Some(key),
                expect["sysv_key"][field].as_i64(),
                "{field} {expect}"
            );
        }
    }
}
