//! Which of the holders that members name are one and the same.

use super::rules::nth;
use crate::store::Holder;

/// Whether what two members tell may be of one holder. Most show how its token begins; some have its process
/// instead, or write the token in a peer's way, and what cannot be told apart is taken for one: it is there.
fn may_be_one(a: &Holder, b: &Holder) -> bool {
    let shows_token = |one: &Holder| {
        one.owner.len() == 8 && one.owner.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    if a.owner == b.owner || shows_token(a) && shows_token(b) {
        return a.owner == b.owner;
    }
    match (a.pid, b.pid) {
        (Some(one), Some(other)) => one == other && a.host == b.host,
        _ => true,
    }
}

/// Those whom at least `need` members name; `answers` are what each of them tells.
pub fn in_common(answers: impl Iterator<Item = Vec<Holder>>, need: usize) -> Vec<Holder> {
    let mut seen: Vec<Vec<Holder>> = Vec::new();
    for holders in answers {
        // A member names nobody twice.
        let mut open: Vec<usize> = (0..seen.len()).collect();
        for holder in holders {
            let by_name = |at: &usize| seen[*at].iter().any(|one| one.owner == holder.owner);
            let by_chance = |at: &usize| seen[*at].iter().all(|one| may_be_one(one, &holder));
            let known = open
                .iter()
                .position(by_name)
                .or_else(|| open.iter().position(by_chance));
            match known {
                Some(known) => seen[open.remove(known)].push(holder),
                None => seen.push(vec![holder]),
            }
        }
    }
    seen.retain(|same| same.len() >= need);
    seen.into_iter()
        .filter_map(|same| as_one(same, need))
        .collect()
}

/// What is told of one holder, by whoever knows the most.
fn as_one(same: Vec<Holder>, need: usize) -> Option<Holder> {
    let remaining = nth(same.iter().map(|holder| holder.remaining), need);
    let knows = |holder: &Holder| (holder.label.is_some(), holder.pid.is_some());
    // The first of equals.
    let best = same.into_iter().rev().max_by_key(knows)?;
    Some(Holder {
        remaining,
        // The members' own tokens are not the quorum's.
        fence: None,
        ..best
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(owner: &str, pid: Option<u32>) -> Holder {
        Holder {
            owner: owner.to_owned(),
            pid,
            host: pid.map(|_| "box".to_owned()),
            ..Holder::default()
        }
    }

    fn owners(answers: &[&[&Holder]], need: usize) -> Vec<String> {
        let told = |holders: &&[&Holder]| holders.iter().map(|one| (*one).clone()).collect();
        let found = in_common(answers.iter().map(told), need).into_iter();
        found.map(|holder| holder.owner).collect()
    }

    #[test]
    fn tokens_are_compared() {
        let (a, b) = (holder("0a1b2c3d", Some(7)), holder("ffffffff", Some(7)));
        assert_eq!(owners(&[&[&a], &[&a, &b], &[]], 2), ["0a1b2c3d"]);
        assert_eq!(owners(&[&[&a, &b], &[&b, &a]], 2).len(), 2);
        assert!(owners(&[&[&a], &[&b]], 2).is_empty());
    }

    #[test]
    fn a_kernel_knows_a_process_and_a_peers_format_neither() {
        let ours = holder("0a1b2c3d", Some(7));
        let [kernels, another] = [7, 8].map(|pid| holder(&format!("pid {pid}"), Some(pid)));
        let (peers, unknown) = (holder("MGExYjJj", None), holder("unknown", None));
        assert_eq!(owners(&[&[&kernels], &[&ours]], 2).len(), 1);
        assert!(owners(&[&[&another], &[&ours]], 2).is_empty());
        assert_eq!(owners(&[&[&kernels], &[&peers], &[&ours]], 3).len(), 1);
        assert_eq!(owners(&[&[&unknown], &[&peers]], 2).len(), 1);
    }

    #[test]
    fn whoever_knows_the_most_tells() {
        let label = Some("import".to_owned());
        let (plain, labelled) = (
            holder("pid 7", Some(7)),
            Holder {
                label: label.clone(),
                fence: Some(3),
                ..holder("0a1b2c3d", Some(7))
            },
        );
        let found = in_common([vec![plain], vec![labelled]].into_iter(), 2);
        assert_eq!((&found[0].label, found[0].fence), (&label, None));
    }
}
