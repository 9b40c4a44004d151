//! What dispatch hands about, in the model checker: commands on their way in, bells, cancels,
//! completions on their way out. `tests/chaos/model -- dispatch`.

#[expect(dead_code, reason = "not all of it is dispatch's")]
#[path = "../cancel.rs"]
mod cancel;
#[path = "../dispatch/completions.rs"]
mod completions;
#[expect(dead_code, reason = "the model's reader never goes")]
#[path = "inbox.rs"]
mod inbox;

mod sync {
    pub(super) use loom::sync::atomic::AtomicBool;

    /// As the crate's: without poison.
    #[derive(Debug, Default)]
    pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(super) fn new(value: T) -> Self {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(super) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }
}

mod signal {
    use loom::sync::atomic::{AtomicU32, Ordering};

    /// A bell with a hook: the part of the crate's that dispatch uses.
    pub(super) struct Signal {
        word: AtomicU32,
        hook: Box<dyn Fn() + Send + Sync>,
    }

    impl std::fmt::Debug for Signal {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Signal")
        }
    }

    impl Signal {
        pub(super) fn with_hook(hook: impl Fn() + Send + Sync + 'static) -> Self {
            Signal {
                word: AtomicU32::new(0),
                hook: Box::new(hook),
            }
        }

        pub(super) fn ring(&self) {
            if self.word.swap(1, Ordering::SeqCst) == 0 {
                (self.hook)();
            }
        }

        pub(super) fn take(&self) {
            self.word.swap(0, Ordering::SeqCst);
        }
    }
}

use cancel::Cancel;
use completions::Completions;
use inbox::Inbox;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use signal::Signal;

/// An eventfd: readable until it is read.
#[derive(Default)]
struct EventFd(Mutex<bool>, Condvar);

impl EventFd {
    fn write(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_one();
    }

    fn read(&self) {
        *self.0.lock().unwrap() = false;
    }

    fn poll(&self) {
        let mut readable = self.0.lock().unwrap();
        while !*readable {
            readable = self.1.wait(readable).unwrap();
        }
    }

    fn is_readable(&self) -> bool {
        *self.0.lock().unwrap()
    }
}

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(model);
}

/// An inbox, the bell of its reader, and what the reader has seen.
struct Service {
    inbox: Inbox<u32>,
    bell: EventFd,
    seen: Mutex<Vec<u32>>,
    readers: Mutex<Vec<thread::JoinHandle<()>>>,
    failing: Mutex<u32>,
}

const STOP: u32 = 99;

impl Service {
    fn new(failing: u32) -> Arc<Self> {
        Arc::new(Service {
            inbox: Inbox::new(),
            bell: EventFd::default(),
            seen: Mutex::default(),
            readers: Mutex::default(),
            failing: Mutex::new(failing),
        })
    }

    /// As the service thread: takes, obeys, sleeps.
    fn run(&self) {
        loop {
            for command in self.inbox.take() {
                if command == STOP {
                    return;
                }
                self.seen.lock().unwrap().push(command);
            }
            self.bell.poll();
            self.bell.read();
        }
    }
}

fn send(service: &Arc<Service>, command: u32) -> Result<(), ()> {
    service.inbox.put(
        &mut Some(command),
        || start(service),
        || service.bell.write(),
    )
}

fn start(service: &Arc<Service>) -> Result<(), ()> {
    let mut failing = service.failing.lock().unwrap();
    if *failing > 0 {
        *failing -= 1;
        return Err(());
    }
    let me = service.clone();
    let reader = thread::spawn(move || me.run());
    service.readers.lock().unwrap().push(reader);
    Ok(())
}

/// Waits for the reader's end; what it has seen.
fn stop(service: &Arc<Service>) -> Vec<u32> {
    if !service.readers.lock().unwrap().is_empty() {
        send(service, STOP).unwrap();
    }
    let mut readers = std::mem::take(&mut *service.readers.lock().unwrap());
    assert!(readers.len() <= 1, "one reader");
    if let Some(reader) = readers.pop() {
        reader.join().unwrap();
    }
    let mut seen = service.seen.lock().unwrap().clone();
    seen.sort_unstable();
    seen
}

#[test]
fn every_command_is_heard() {
    check(3, || {
        let service = Service::new(0);
        let other = service.clone();
        let sender = thread::spawn(move || send(&other, 1).unwrap());
        send(&service, 2).unwrap();
        sender.join().unwrap();
        assert_eq!(stop(&service), [1, 2]);
    });
}

#[test]
fn a_reader_that_does_not_start_costs_its_own_command_only() {
    check(3, || {
        let service = Service::new(1);
        let other = service.clone();
        let sender = thread::spawn(move || send(&other, 1).is_ok());
        let mine = send(&service, 2).is_ok();
        let theirs = sender.join().unwrap();
        assert!(mine ^ theirs, "one start fails");
        assert_eq!(stop(&service), [if mine { 2 } else { 1 }]);
    });
}

/// A task waits for a lock that never comes; it was given a switch. Throwing it ends the wait, at
/// whatever moment.
#[test]
fn a_cancel_is_never_lost() {
    check(3, || {
        let inbox = Arc::new(Inbox::new());
        let fd = Arc::new(EventFd::default());
        let cancel = Cancel::new();
        let (rung, ring) = (inbox.clone(), fd.clone());
        let bell = std::sync::Arc::new(Signal::with_hook(move || {
            let sent = rung.put(&mut Some(()), || Ok::<_, ()>(()), || ring.write());
            sent.unwrap();
        }));
        let thrown = cancel.clone();
        let thrower = thread::spawn(move || thrown.cancel());
        // The task's first step, and the steps after a ring.
        cancel.attach(&bell);
        while !cancel.is_cancelled() {
            while inbox.take().is_empty() {
                fd.poll();
                fd.read();
            }
            bell.take();
        }
        thrower.join().unwrap();
    });
}

/// Whoever sleeps on the descriptor reaps everything, and it is quiet in the end.
#[test]
fn every_completion_is_reaped() {
    check(3, || {
        let done = Arc::new(Completions::new());
        let fd = Arc::new(EventFd::default());
        let (putting, ringing) = (done.clone(), fd.clone());
        let service = thread::spawn(move || {
            for completion in 0..3 {
                putting.put(completion, || ringing.write());
            }
        });
        let mut reaped = Vec::new();
        while reaped.len() < 3 {
            fd.poll();
            reaped.extend(done.reap(2, || {}, || fd.write(), || fd.read()));
        }
        service.join().unwrap();
        assert_eq!(reaped, [0, 1, 2]);
        assert!(!fd.is_readable(), "readable, and nothing to reap");
    });
}

/// The same for a loop that reads some of its answers itself, which adds completions while it reaps.
#[test]
fn every_completion_is_reaped_by_a_loop_that_reads() {
    check(3, || {
        let done = Arc::new(Completions::new());
        let fd = Arc::new(EventFd::default());
        let (putting, ringing) = (done.clone(), fd.clone());
        let service = thread::spawn(move || {
            for completion in [1, 2] {
                putting.put(completion, || ringing.write());
            }
        });
        let mut answers = vec![3, 4];
        let mut reaped = Vec::new();
        // An answer has arrived.
        fd.write();
        while reaped.len() < 4 {
            fd.poll();
            let read = || {
                for completion in answers.drain(..) {
                    done.put(completion, || fd.write());
                }
            };
            reaped.extend(done.reap(1, read, || fd.write(), || fd.read()));
        }
        service.join().unwrap();
        reaped.sort_unstable();
        assert_eq!(reaped, [1, 2, 3, 4]);
    });
}
