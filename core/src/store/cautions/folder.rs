//! The folder in which a store of this host keeps its locks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Marks of folders that systemd and snap give to one service alone, under a name that all have.
const PRIVATE: [&str; 2] = ["systemd-private-", "snap-private-tmp"];
/// File systems that are a container's own.
const LAYERS: [&str; 2] = ["overlay", "aufs"];
/// File systems that forget with the next boot.
const VOLATILE: [&str; 2] = ["tmpfs", "ramfs"];
/// Where the rules of systemd-tmpfiles are; of files of one name, the first counts.
const RULES: [&str; 3] = ["/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/lib/tmpfiles.d"];

/// Words about a folder. `counts` says that fencing tokens are to grow over a restart of the host.
pub fn of_folder(folder: &Path, counts: bool) -> Vec<String> {
    let mut words = Vec::new();
    if let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") {
        words.extend(judge_mount(folder, &mounts, counts));
    }
    // Nobody else follows the rules.
    if Path::new("/run/systemd/system").exists() {
        words.extend(judge_rules(folder, &read_rules(&RULES.map(PathBuf::from))));
    }
    words
}

fn judge_mount(folder: &Path, mounts: &str, counts: bool) -> Vec<String> {
    // ID PARENT DEVICE ROOT POINT OPTIONS … - TYPE …; of several mounts on one point the last is on top.
    let Some((root, _, kind)) = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(3);
            let (root, point) = (words.next()?, words.next()?);
            Some((root, point, words.skip_while(|word| *word != "-").nth(1)?))
        })
        .filter(|(_, point, _)| folder.starts_with(point))
        .max_by_key(|(_, point, _)| point.len())
    else {
        return Vec::new();
    };
    let folder = folder.to_string_lossy();
    let is_private = root
        .split('/')
        .any(|part| PRIVATE.iter().any(|mark| part.starts_with(mark)));
    let mut words = Vec::new();
    if is_private {
        words.push(format!(
            "{folder} is in a private temporary directory: processes of other services have another one of that name, and the same locks in it; keep locks below /run or /var/lib"
        ));
    }
    if LAYERS.contains(&kind) {
        words.push(format!(
            "{folder} is in the file system of one container: processes outside it have the same locks elsewhere; mount a volume that all of them see there"
        ));
    }
    if counts && VOLATILE.contains(&kind) {
        words.push(format!(
            "{folder} is on a {kind}: its fencing tokens begin again when the host does; where they guard what outlives it, keep locks below /var/lib"
        ));
    }
    words
}

/// The lines of all files of rules that count.
fn read_rules(folders: &[PathBuf]) -> Vec<String> {
    let mut files = BTreeMap::new();
    for folder in folders {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            files.entry(entry.file_name()).or_insert(entry.path());
        }
    }
    let texts = files
        .into_values()
        .filter_map(|path| std::fs::read_to_string(path).ok());
    texts
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// Whether what lies in a folder is removed when it is old: `TYPE PATH MODE USER GROUP AGE …`.
fn judge_rules(folder: &Path, rules: &[String]) -> Option<String> {
    let mut nearest: Option<(&str, &str)> = None;
    for rule in rules {
        let words: Vec<&str> = rule.split_whitespace().collect();
        let &[kind, path, ..] = words.as_slice() else {
            continue;
        };
        // Of names with wildcards, an exception alone may be ours.
        if kind.starts_with('#') || path.contains(['*', '?', '[', '%']) || !folder.starts_with(path)
        {
            continue;
        }
        let age = match (kind.chars().next(), words.get(5)) {
            (Some('x' | 'X'), _) => "-",
            (Some('d' | 'D' | 'e' | 'v' | 'q' | 'Q' | 'C'), Some(age)) => age,
            _ => continue,
        };
        if nearest.is_none_or(|(known, _)| path.len() >= known.len()) {
            nearest = Some((path, age));
        }
    }
    let (path, age) = nearest.filter(|(_, age)| *age != "-")?;
    Some(format!(
        "systemd-tmpfiles removes what has been in {path} for {age}, locks among it that are held so long: keep locks below /run or /var/lib, or exempt {} by an `x` line in /etc/tmpfiles.d",
        folder.to_string_lossy()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str =
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 0:5 / /run rw shared:5 - tmpfs tmpfs rw\n";

    fn words(folder: &str, mounts: &str, counts: bool) -> String {
        judge_mount(Path::new(folder), mounts, counts).join("\n")
    }

    #[test]
    fn the_mount_on_top_counts() {
        let private = format!(
            "{PLAIN}40 22 8:1 /tmp/systemd-private-9f-web.service-x/tmp /tmp rw - ext4 /dev/sda1 rw\n"
        );
        let covered = format!("{private}41 40 8:1 /srv/tmp /tmp rw - ext4 /dev/sda1 rw\n");
        let says = |folder: &str, mounts: &str| words(folder, mounts, false).contains("private");
        assert!(!says("/tmp/locks", PLAIN));
        assert!(says("/tmp/locks", &private));
        assert!(!says("/tmpfiles", &private));
        assert!(!says("/run/locks", &private));
        assert!(!says("/tmp/locks", &covered));
        assert!(!says("/tmp/locks", "nonsense\n"));
    }

    #[test]
    fn a_containers_layer_is_told_and_a_volume_in_it_is_not() {
        let inside = "22 1 0:50 / / rw - overlay overlay rw,lowerdir=/l\n23 22 8:1 /data /srv rw - ext4 /dev/sda1 rw\n";
        assert!(words("/tmp/locks", inside, false).contains("one container"));
        assert_eq!(words("/srv/locks", inside, false), "");
        assert_eq!(words("/tmp/locks", PLAIN, false), "");
    }

    #[test]
    fn counters_on_a_volatile_file_system_are_told() {
        assert!(words("/run/locks", PLAIN, true).contains("on a tmpfs"));
        assert_eq!(words("/run/locks", PLAIN, false), "");
        assert_eq!(words("/var/lib/locks", PLAIN, true), "");
    }

    #[test]
    fn the_nearest_rule_of_clean_up_counts() {
        let says = |folder: &str, rules: &[&str]| {
            let rules: Vec<String> = rules.iter().map(|rule| (*rule).to_owned()).collect();
            judge_rules(Path::new(folder), &rules).is_some()
        };
        let aged = [
            "# comment",
            "q /tmp 1777 root root 10d",
            "d /run/x 755 - - -",
        ];
        assert!(says("/tmp/locks", &aged));
        assert!(!says("/run/x", &aged));
        assert!(!says("/var/lib/locks", &aged));
        assert!(!says("/tmp/locks", &["D /tmp 1777 root root -"]));
        assert!(!says("/tmp/locks", &["#q /tmp 1777 root root 10d"]));
        let exempt = [aged[1], "x /tmp/locks"];
        assert!(!says("/tmp/locks", &exempt));
        assert!(says("/tmp/others", &exempt));
    }

    #[test]
    fn an_administrators_file_of_rules_covers_the_systems() {
        let folder = tempfile();
        let (ours, theirs) = (folder.join("etc"), folder.join("usr"));
        for (at, rule) in [
            (&ours, "D /tmp 1777 - - -"),
            (&theirs, "q /tmp 1777 - - 10d"),
        ] {
            std::fs::create_dir_all(at).unwrap();
            std::fs::write(at.join("tmp.conf"), format!("{rule}\n")).unwrap();
        }
        let read = read_rules(&[ours, theirs, folder.join("none")]);
        assert_eq!(read, ["D /tmp 1777 - - -"]);
        std::fs::remove_dir_all(folder).unwrap();
    }

    fn tempfile() -> PathBuf {
        std::env::temp_dir().join(format!("synlock-rules-{}", std::process::id()))
    }
}
