//! Drives a lock from Rust: `bench-worker URL NAME pair SECONDS`, or `… hand OUT START END HOLD_US`
//! (drive.h says what they do), or `… many TASKS SECONDS`: pairs of so many tasks of one event loop, each with a lock of its
//! own.

#![expect(
    clippy::print_stdout,
    reason = "the driver reads the result from stdout"
)]

use nix::time::{ClockId, clock_gettime};
use std::fmt::Write;
use std::time::{Duration, Instant};
use synlock_core::{Dispatch, Lock, Op, Outcome as Done, Store, Wait};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let [url, name, way @ ..] = words.as_slice() else {
        return Err("which lock?".into());
    };
    let store = Store::open(url)?;
    let lock = store.lock(name)?;
    match *way {
        ["many", tasks, seconds] => many(&store, name, tasks.parse()?, seconds.parse()?),
        ["pair", seconds] => pairs(&lock, url, seconds.parse()?),
        ["hand", out, start, end, hold] => {
            let hold = Duration::from_micros(hold.parse()?);
            turns(&lock, out, start.parse()?, end.parse()?, hold)
        }
        _ => Err("which way?".into()),
    }
}

fn pairs(lock: &Lock, url: &str, seconds: f64) -> Outcome {
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
    let (p50, p99, n) = (at(0.5), at(0.99), samples.len() * batch as usize);
    println!("{{\"p50_ns\":{p50:.1},\"p99_ns\":{p99:.1},\"n\":{n}}}");
    Ok(())
}

/// One lock for each task, so that nobody waits; a completion starts the task's next operation.
fn many(store: &Store, name: &str, tasks: usize, seconds: f64) -> Outcome {
    let locks = (0..tasks).map(|task| store.lock(format!("{name}/{task}")));
    let locks: Vec<Lock> = locks.collect::<Result<_, _>>()?;
    let dispatch = Dispatch::new()?;
    let submit = |task: usize, op| dispatch.submit(&locks[task], op, task as u64);
    for task in 0..tasks {
        submit(task, Op::Acquire(Wait::No))?;
    }
    let start = Instant::now();
    let (mut running, mut pairs, mut begun) = (tasks, 0u32, start);
    while running > 0 {
        let mut ready = libc::pollfd {
            fd: dispatch.fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid pollfd.
        unsafe { libc::poll(&raw mut ready, 1, -1) };
        for done in dispatch.reap(tasks) {
            let task = done.user as usize;
            if matches!(done.result?, Done::Acquired(_)) {
                submit(task, Op::Release)?;
            } else if start.elapsed().as_secs_f64() > seconds + 0.3 {
                running -= 1;
            } else {
                // The first turns connect.
                if begun == start && start.elapsed().as_secs_f64() > 0.3 {
                    (pairs, begun) = (0, Instant::now());
                }
                pairs += 1;
                submit(task, Op::Acquire(Wait::No))?;
            }
        }
    }
    println!(
        "{{\"pairs_per_s\":{:.0},\"n\":{pairs}}}",
        f64::from(pairs) / begun.elapsed().as_secs_f64()
    );
    Ok(())
}

fn now() -> nix::Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

fn turns(lock: &Lock, out: &str, start: u64, end: u64, hold: Duration) -> Outcome {
    lock.acquire(Wait::Forever, None)?;
    lock.release()?;
    std::thread::sleep(Duration::from_nanos(start.saturating_sub(now()?)));
    let mut log = String::new();
    loop {
        let request = now()?;
        if request >= end {
            break;
        }
        lock.acquire(Wait::Forever, None)?;
        let acquired = now()?;
        std::thread::sleep(hold);
        writeln!(log, "{request} {acquired} {}", now()?)?;
        lock.release()?;
    }
    std::fs::write(out, log)?;
    Ok(())
}
