//! Threads that ask members side by side: started when a round needs them, at most [`MOST`] per store,
//! gone after half a minute without work. A forked child starts its own.

use crate::service::spawn_quiet;
use crate::sync::Mutex;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// The most threads of one store.
pub(super) const MOST: usize = 32;
const IDLE: Duration = Duration::from_secs(30);

pub(super) type Job = Box<dyn FnOnce() + Send>;

#[derive(Debug, Default)]
pub(super) struct Pool(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    idle: Vec<(u64, Sender<Job>)>,
    alive: usize,
    named: u64,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} threads, {} idle", self.alive, self.idle.len())
    }
}

impl Pool {
    /// Runs a job on a thread of its own; gives it back if there is none to be had.
    pub fn run(&self, job: Job) -> Result<(), Job> {
        let mut inner = self.0.lock();
        let mut job = job;
        while let Some((_, worker)) = inner.idle.pop() {
            match worker.send(job) {
                Ok(()) => return Ok(()),
                Err(back) => job = back.0,
            }
        }
        if inner.alive == MOST {
            return Err(job);
        }
        inner.alive += 1;
        inner.named += 1;
        let name = inner.named;
        drop(inner);
        // What a thread that could not be started was to do must not be lost with it.
        let (sender, receiver) = channel::<Job>();
        let pool = self.0.clone();
        let own = sender.clone();
        let started = spawn_quiet("synlock-quorum", move || {
            let mut own = Some(own);
            loop {
                let job = match receiver.recv_timeout(IDLE) {
                    Ok(job) => job,
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {
                        let mut inner = pool.lock();
                        let place = inner.idle.iter().position(|(idle, _)| *idle == name);
                        let Some(place) = place else {
                            // Work is on its way.
                            continue;
                        };
                        inner.idle.swap_remove(place);
                        break;
                    }
                };
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
                if let Some(own) = &own {
                    pool.lock().idle.push((name, own.clone()));
                }
            }
            own = None;
            drop(own);
            pool.lock().alive -= 1;
        });
        if started.is_err() {
            self.0.lock().alive -= 1;
            return Err(job);
        }
        sender.send(job).map_err(|back| back.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn jobs_run_beside_each_other_and_threads_are_bounded() {
        let pool = Pool::default();
        let done = Arc::new(AtomicUsize::new(0));
        let (hold, held) = std::sync::mpsc::sync_channel::<()>(0);
        let held = Arc::new(Mutex::new(held));
        let mut refused = 0;
        for _ in 0..MOST + 3 {
            let (done, held) = (done.clone(), held.clone());
            let job: Job = Box::new(move || {
                let _ = held.lock().recv();
                done.fetch_add(1, Ordering::SeqCst);
            });
            refused += usize::from(pool.run(job).is_err());
        }
        assert_eq!(refused, 3);
        for _ in 0..MOST {
            hold.send(()).unwrap();
        }
        while done.load(Ordering::SeqCst) < MOST {
            std::thread::yield_now();
        }
        let again = done.clone();
        pool.run(Box::new(move || {
            again.fetch_add(1, Ordering::SeqCst);
        }))
        .map_err(drop)
        .unwrap();
        while done.load(Ordering::SeqCst) <= MOST {
            std::thread::yield_now();
        }
        assert!(pool.0.lock().alive <= MOST);
    }
}
