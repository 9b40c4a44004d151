//! Counters and histograms of stores that are measured, as Prometheus reads them.
//!
//! A store is measured once somebody asked for it ([`crate::Store::measure`]). Until then a lock looks
//! at the one byte that says whether anybody listens, as it does anyhow. Counting takes no lock,
//! allocates nothing and asks the kernel nothing; each process has numbers of its own, and a child
//! begins at zero.

use crate::codes::Code;
use crate::event::{EventKind, Facts};
use crate::fork;
use std::fmt::Write;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::time::Duration;

/// How many stores have series of their own; what is opened beyond counts as the last one.
const MOST: usize = 64;

/// Upper ends of the buckets, in microseconds, and as Prometheus writes them in seconds.
const BUCKETS: [(u64, &str); 16] = [
    (10, "0.00001"),
    (100, "0.0001"),
    (1_000, "0.001"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
    (30_000_000, "30"),
    (60_000_000, "60"),
];

/// How acquires end, and what they are called.
const OUTCOMES: [&str; 7] = [
    "granted",
    "busy",
    "timeout",
    "cancelled",
    "reentered",
    "unavailable",
    "error",
];

/// Everything else that is counted: name and words.
const COUNTS: [(&str, &str); 6] = [
    ("waits", "Acquires that found the lock taken and waited."),
    (
        "attempts",
        "How often stores were asked by acquires that were granted or gave up.",
    ),
    ("releases", "Locks released by their holders."),
    ("refreshes", "Leases lengthened by their holders."),
    (
        "losses",
        "Held locks that were lost: expired, broken, or forgotten by their store.",
    ),
    (
        "forgotten",
        "Locks whose handle was dropped, or whose process ended, while they were held.",
    ),
];

/// Times in buckets.
#[derive(Debug)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS.len() + 1],
    /// Nanoseconds.
    sum: AtomicU64,
}

impl Histogram {
    const fn new() -> Self {
        Histogram {
            buckets: [const { AtomicU64::new(0) }; BUCKETS.len() + 1],
            sum: AtomicU64::new(0),
        }
    }

    fn note(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let place = BUCKETS.partition_point(|(end, _)| *end < micros);
        self.buckets[place].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    fn reset(&self) {
        self.sum.store(0, Ordering::Relaxed);
        for bucket in &self.buckets {
            bucket.store(0, Ordering::Relaxed);
        }
    }

    fn write(&self, name: &str, store: &str, out: &mut String) {
        let mut count = 0;
        for (place, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let end = BUCKETS.get(place).map_or("+Inf", |(_, text)| text);
            let _ = writeln!(
                out,
                "{name}_bucket{{store=\"{store}\",le=\"{end}\"}} {count}"
            );
        }
        let sum = Duration::from_nanos(self.sum.load(Ordering::Relaxed)).as_secs_f64();
        let _ = writeln!(out, "{name}_sum{{store=\"{store}\"}} {sum}");
        let _ = writeln!(out, "{name}_count{{store=\"{store}\"}} {count}");
    }
}

/// The numbers of one store.
#[derive(Debug)]
pub(crate) struct Meters {
    /// The URL without credentials, escaped as a label.
    store: String,
    /// Process whose numbers these are.
    generation: AtomicU64,
    acquires: [AtomicU64; OUTCOMES.len()],
    counts: [AtomicU64; COUNTS.len()],
    waited: Histogram,
    held: Histogram,
}

static ALL: [AtomicPtr<Meters>; MOST] = [const { AtomicPtr::new(std::ptr::null_mut()) }; MOST];

/// Those that there are. They live as long as the process.
fn all() -> impl Iterator<Item = &'static Meters> {
    let load = |place: &AtomicPtr<Meters>| place.load(Ordering::Acquire);
    // SAFETY: what stands there was leaked by `of`, and is never taken out.
    ALL.iter()
        .map_while(move |place| unsafe { load(place).as_ref() })
}

/// The meters of a store, made if they are not there.
pub(crate) fn of(url: &str) -> &'static Meters {
    let store = label(url);
    let mut last = None;
    for place in &ALL {
        let mut found = place.load(Ordering::Acquire);
        if found.is_null() {
            let fresh = Box::into_raw(Box::new(Meters::new(store.clone())));
            let null = std::ptr::null_mut();
            found = match place.compare_exchange(null, fresh, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => fresh,
                Err(theirs) => {
                    // SAFETY: was never shared.
                    drop(unsafe { Box::from_raw(fresh) });
                    theirs
                }
            };
        }
        // SAFETY: as in `all`.
        let meters: &'static Meters = unsafe { &*found };
        if meters.store == store {
            return meters;
        }
        last = Some(meters);
    }
    // There are so many stores already.
    last.unwrap_or_else(|| Box::leak(Box::new(Meters::new(store))))
}

impl Meters {
    fn new(store: String) -> Self {
        Meters {
            store,
            generation: AtomicU64::new(fork::generation()),
            acquires: [const { AtomicU64::new(0) }; OUTCOMES.len()],
            counts: [const { AtomicU64::new(0) }; COUNTS.len()],
            waited: Histogram::new(),
            held: Histogram::new(),
        }
    }

    /// What was counted before a fork is the parent's.
    fn own(&self) -> &Self {
        let (now, known) = (fork::generation(), self.generation.load(Ordering::Acquire));
        if known != now
            && self
                .generation
                .compare_exchange(known, now, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
        {
            for count in self.acquires.iter().chain(&self.counts) {
                count.store(0, Ordering::Relaxed);
            }
            self.waited.reset();
            self.held.reset();
        }
        self
    }

    fn count(&self, name: &str, by: u64) {
        if let Some(place) = COUNTS.iter().position(|(known, _)| *known == name) {
            self.counts[place].fetch_add(by, Ordering::Relaxed);
        }
    }

    fn ended(&self, outcome: &str, facts: &Facts<'_>) {
        if let Some(place) = OUTCOMES.iter().position(|known| *known == outcome) {
            self.acquires[place].fetch_add(1, Ordering::Relaxed);
        }
        self.count("attempts", facts.attempts.into());
        self.waited.note(facts.waited);
    }

    /// Counts what happened.
    pub(crate) fn note(&self, kind: EventKind, facts: &Facts<'_>) {
        let meters = self.own();
        match kind {
            EventKind::Acquired => meters.ended("granted", facts),
            EventKind::Refused => meters.ended(outcome(facts.code), facts),
            EventKind::Waiting => meters.count("waits", 1),
            EventKind::Released => {
                meters.count("releases", 1);
                meters.held.note(facts.held);
            }
            EventKind::Refreshed => meters.count("refreshes", 1),
            EventKind::Lost => {
                meters.count("losses", 1);
                meters.held.note(facts.held);
            }
            EventKind::Forgotten => meters.count("forgotten", 1),
            EventKind::Warning => {}
        }
    }
}

fn outcome(code: Code) -> &'static str {
    match code {
        Code::Busy => "busy",
        Code::Timeout => "timeout",
        Code::Cancelled => "cancelled",
        Code::Reentered => "reentered",
        Code::Unavailable | Code::Uncertain => "unavailable",
        _ => "error",
    }
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// The numbers of every store that this process measured, in Prometheus' text format (0.0.4).
pub fn text() -> String {
    let meters: Vec<&Meters> = all().map(Meters::own).collect();
    let mut out = String::new();
    head(
        &mut out,
        "synlock_acquires_total",
        "counter",
        "Acquires by how they ended.",
    );
    for one in &meters {
        for (place, outcome) in OUTCOMES.iter().enumerate() {
            let count = one.acquires[place].load(Ordering::Relaxed);
            let store = &one.store;
            let _ = writeln!(
                out,
                "synlock_acquires_total{{store=\"{store}\",outcome=\"{outcome}\"}} {count}"
            );
        }
    }
    for (place, (name, words)) in COUNTS.iter().enumerate() {
        let name = format!("synlock_{name}_total");
        head(&mut out, &name, "counter", words);
        for one in &meters {
            let count = one.counts[place].load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}{{store=\"{}\"}} {count}", one.store);
        }
    }
    head(
        &mut out,
        "synlock_waited_seconds",
        "histogram",
        "How long acquires took, whether granted or not.",
    );
    for one in &meters {
        one.waited
            .write("synlock_waited_seconds", &one.store, &mut out);
    }
    head(
        &mut out,
        "synlock_held_seconds",
        "histogram",
        "How long locks were held until they were released or lost.",
    );
    for one in &meters {
        one.held.write("synlock_held_seconds", &one.store, &mut out);
    }
    out
}

fn head(out: &mut String, name: &str, kind: &str, words: &str) {
    let _ = writeln!(out, "# HELP {name} {words}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_bounds_belong_to_theirs() {
        let histogram = Histogram::new();
        for micros in [10, 11, 60_000_000, 60_000_001] {
            histogram.note(Duration::from_micros(micros));
        }
        let mut text = String::new();
        histogram.write("h", "s", &mut text);
        for line in [
            "h_bucket{store=\"s\",le=\"0.00001\"} 1",
            "h_bucket{store=\"s\",le=\"0.0001\"} 2",
            "h_bucket{store=\"s\",le=\"30\"} 2",
            "h_bucket{store=\"s\",le=\"60\"} 3",
            "h_bucket{store=\"s\",le=\"+Inf\"} 4",
            "h_count{store=\"s\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn bounds_are_what_they_are_called() {
        for (micros, text) in BUCKETS {
            let seconds: f64 = text.parse().unwrap();
            assert_eq!((seconds * 1e6).round() as u64, micros);
        }
        assert!(BUCKETS.is_sorted());
    }

    #[test]
    fn a_label_is_escaped() {
        let meters = of("flock:/a\"b\\c\nd");
        assert_eq!(meters.store, "flock:/a\\\"b\\\\c\\nd");
        assert!(std::ptr::eq(meters, of("flock:/a\"b\\c\nd")));
        assert!(text().contains("store=\"flock:/a\\\"b\\\\c\\nd\""));
    }
}
