//! Times acquire + release of one uncontended lock from Rust.
//! `bench-pair URL NAME SECONDS` prints one line of JSON: p50 and p99 in ns per pair, and the count.

#![expect(
    clippy::print_stdout,
    reason = "the driver reads the result from stdout"
)]

use std::time::{Duration, Instant};
use synlock_core::{Store, Wait};

fn main() -> synlock_core::Result<()> {
    let mut args = std::env::args().skip(1);
    let (url, name) = (
        args.next().unwrap_or_default(),
        args.next().unwrap_or_default(),
    );
    let seconds: f64 = args
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0.3);
    let lock = Store::open(&url)?.lock(&name)?;
    let batch = if url.starts_with("redis") { 1 } else { 100 };
    let pairs = |count: u32| -> synlock_core::Result<Duration> {
        let start = Instant::now();
        for _ in 0..count {
            lock.acquire(Wait::No, None)?;
            lock.release()?;
        }
        Ok(start.elapsed())
    };
    pairs(batch * 20)?;
    let mut samples = Vec::new();
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    while Instant::now() < end {
        samples.push(pairs(batch)?.as_nanos() as f64 / f64::from(batch));
    }
    samples.sort_by(f64::total_cmp);
    let at = |share: f64| samples[((samples.len() - 1) as f64 * share) as usize];
    println!(
        r#"{{"p50_ns":{:.1},"p99_ns":{:.1},"n":{}}}"#,
        at(0.5),
        at(0.99),
        samples.len() as u32 * batch
    );
    Ok(())
}
