//! The committed vectors of names, read by every language; see `tests/vectors`.

#![cfg(feature = "flock")]

use std::collections::HashSet;
use synlock_core::Name;
use synlock_core::store::flock::file_name;

/// The value of a key in an object that stands on one line; enough JSON for this file, whose
/// strings we look for contain no escapes.
fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let rest = line.split_once(&format!("\"{key}\": "))?.1;
    match rest.strip_prefix('"') {
        Some(text) => text.split('"').next(),
        None => rest.split([',', '}']).next(),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|place| u8::from_str_radix(&text[2 * place..2 * place + 2], 16).unwrap())
        .collect()
}

#[test]
fn names_become_the_files_that_the_vectors_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/names.json");
    let text = std::fs::read_to_string(path).unwrap();
    let (mut names, mut files) = (HashSet::new(), HashSet::new());
    for line in text.lines().filter(|line| line.contains("\"flock\"")) {
        let name = match field(line, "hex") {
            Some(hex) => unhex(hex),
            None => {
                let times: usize = field(line, "times").unwrap().parse().unwrap();
                unhex(field(line, "byte").unwrap()).repeat(times)
            }
        };
        Name::new(&name).unwrap();
        let file = file_name(&name);
        assert_eq!(Some(file.as_str()), field(line, "flock"), "{line}");
        assert!(files.insert(file), "two names, one file: {line}");
        assert!(names.insert(name), "a name twice: {line}");
    }
    assert!(names.len() >= 50, "{} names", names.len());
}

#[test]
fn templates_make_the_names_that_the_vectors_say() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/vectors/templates.tsv"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let mut rows = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split('\t');
        let (template, name) = (fields.next().unwrap(), fields.next().unwrap());
        let values: Vec<_> = fields.map(|field| field.split_once('=').unwrap()).collect();
        let made = synlock_core::name::template::render_with(template.as_bytes(), &values);
        match name {
            "!" => assert_eq!(
                made.unwrap_err().code(),
                synlock_core::Code::InvalidArgument
            ),
            name => assert_eq!(made.unwrap(), name.as_bytes(), "{line}"),
        }
        rows += 1;
    }
    assert!(rows >= 28, "{rows} rows");
}
