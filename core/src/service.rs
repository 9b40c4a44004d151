//! The background threads of a process: watchdog, dispatch and releases whose reply was lost.
//!
//! One thread for all stores of this host, whose verbs take no time, and one for each store that is asked
//! over a network, so that a server that does not answer keeps no other store's leases from being renewed.
//! Started by the first thing that needs it, with every signal blocked; a forked child starts its own.
//! The first lives as long as the process, the others until they have had nothing to do for a while.

mod inbox;
#[cfg(all(loom, test))]
mod model;

use crate::capability::Scope;
use crate::codes::Code;
use crate::dispatch::Task;
use crate::dispatch::post::Went;
use crate::fork::{self, PerProcess, ProcessFd};
use crate::lease::BootTime;
use crate::phase::Step;
use crate::registry::Store;
use crate::store::pipe::{Arrived, Ask};
use crate::store::{Backend, Claim};
use crate::sync::{self, Mutex};
use crate::watchdog::{self, Watch};
use crate::{Error, Result};
use inbox::Inbox;
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Time is judged again at least this often while anything is due.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// How long the release of a claim without a lease is retried.
const BURN_WITHOUT_LEASE: Duration = Duration::from_secs(60);
/// How long a store's own thread stays without work.
const IDLE: Duration = Duration::from_secs(10);

pub(crate) enum Command {
    Watch(BootTime, Watch),
    Burn(Store, Claim),
    Collect(BootTime, Arc<dyn Backend>),
    Start(Box<Task>),
    Ring(u64),
    /// What a task has come to that was on its way.
    Arrived(Box<Task>, Result<Step>),
    /// An answer that takes what may block.
    Answered(Box<Task>, Ask, Arrived),
    /// A task whose request was not answered; until when, if it may have been carried out.
    Repeat(Box<Task>, Ask, Option<BootTime>),
    Job(Box<dyn FnOnce() + Send>),
}

/// Whose thread: that of the host's own stores, or of one that is far away.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Place(usize);

impl Place {
    const HERE: Place = Place(0);

    /// The store's.
    pub(crate) fn of(store: &Store) -> Self {
        let can = store.capabilities();
        if can.clock == "server" || can.scope == Scope::Cluster {
            Place::of_far(store.backend())
        } else {
            Place::HERE
        }
    }

    /// That of a store that is asked over a network.
    pub(crate) fn of_far(backend: &Arc<dyn Backend>) -> Self {
        if cfg!(canary = "one_thread") {
            return Place::HERE;
        }
        Place(address(backend))
    }
}

struct Service {
    place: Place,
    inbox: Inbox<Command>,
    bell: ProcessFd,
}

static SERVICES: PerProcess<Mutex<HashMap<Place, Arc<Service>>>> = PerProcess::new();

thread_local! {
    static IS_OURS: Cell<bool> = const { Cell::new(false) };
    /// Whose service thread this is.
    static SERVED: Cell<Option<Place>> = const { Cell::new(None) };
}

/// Whether this thread is one of the library's own.
pub(crate) fn is_this_thread() -> bool {
    IS_OURS.get()
}

/// Whether this is the service thread of that place.
pub(crate) fn serves(place: Place) -> bool {
    SERVED.get() == Some(place)
}

/// Hands a command to the store's thread, starting it if need be.
pub(crate) fn send(place: Place, command: Command) -> Result<()> {
    // What cannot be handed over is dropped without the lock: its end may be to send something.
    let mut command = Some(command);
    hand_over(place, &mut command)
}

fn hand_over(place: Place, command: &mut Option<Command>) -> Result<()> {
    // Under the lock, so that no thread goes that has something to do.
    let mut services = SERVICES.get_or_init(Mutex::default).lock();
    let service = match services.get(&place) {
        Some(service) => service.clone(),
        None => {
            let service = Arc::new(Service {
                place,
                inbox: Inbox::new(),
                bell: fork::eventfd()?,
            });
            services.insert(place, service.clone());
            service
        }
    };
    let ring = || {
        let one = 1u64;
        // SAFETY: writes eight bytes to an eventfd that `service` keeps.
        unsafe { libc::write(service.bell.as_raw_fd(), (&raw const one).cast(), 8) };
    };
    service.inbox.put(command, || spawn(&service), ring)
}

/// Has the thread of a place, if there is one, look what it has to watch.
pub(crate) fn ring(place: Place) {
    let Some(services) = SERVICES.get() else {
        return;
    };
    if let Some(service) = services.lock().get(&place) {
        let one = 1u64;
        // SAFETY: writes eight bytes to an eventfd that `service` keeps.
        unsafe { libc::write(service.bell.as_raw_fd(), (&raw const one).cast(), 8) };
    }
}

fn spawn(service: &Arc<Service>) -> Result<()> {
    let service = service.clone();
    spawn_quiet("synlock", move || {
        SERVED.set(Some(service.place));
        Loop::new(service).run();
    })
}

/// Starts a thread on which no signal of the host is ever handled.
pub(crate) fn spawn_quiet(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // The thread inherits the mask.
    // SAFETY: both sets are local and initialised by the calls that fill them.
    unsafe {
        let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let made = std::thread::Builder::new()
        .name(name.into())
        .stack_size(512 * 1024)
        .spawn(|| {
            IS_OURS.set(true);
            run();
        });
    // SAFETY: `before` was filled by the call above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    made.map(|_| ()).map_err(|error| {
        Error::from_io(error, "no background thread").with_operation("start service")
    })
}

/// Looks at a hold when its time comes. Without a thread the lease runs out, and says so.
pub(crate) fn schedule(store: &Store, at: BootTime, watch: Watch) -> Result<()> {
    send(Place::of(store), Command::Watch(at, watch))
}

/// Releases a claim whose state is unknown, until the store confirms it or its TTL has passed; for all of the TTL
/// where a request that was cut off may arrive yet, ever more rarely: what it is granted then stands for no longer
/// than the request was late.
pub(crate) fn burn(store: Store, claim: Claim) {
    if claim.recurs || store.backend().release_later(&claim) {
        return;
    }
    let _ = send(Place::of(&store), Command::Burn(store, claim));
}

/// Has a store look for the answers to releases that nobody waits for, from then on.
#[cfg_attr(
    not(feature = "redis"),
    expect(dead_code, reason = "only Redis leaves releases")
)]
pub(crate) fn collect(backend: Arc<dyn Backend>, at: BootTime) -> Result<()> {
    send(Place::of_far(&backend), Command::Collect(at, backend))
}

/// Runs a job on the store's thread.
#[cfg_attr(
    not(feature = "redis"),
    expect(dead_code, reason = "only Redis leaves releases")
)]
pub(crate) fn run_for(
    backend: Arc<dyn Backend>,
    job: impl FnOnce() + Send + 'static,
) -> Result<()> {
    send(Place::of_far(&backend), Command::Job(Box::new(job)))
}

enum Timer {
    Burn {
        store: Store,
        claim: Claim,
        until: BootTime,
        pause: Duration,
    },
    Collect(Arc<dyn Backend>),
    Task(u64),
}

struct Loop {
    service: Arc<Service>,
    timers: BinaryHeap<Reverse<(BootTime, u64)>>,
    due: HashMap<u64, Timer>,
    /// The watchdog's entries among them; one that went along with another leaves its time behind.
    watches: HashMap<u64, Watch>,
    next: u64,
    tasks: HashMap<u64, Box<Task>>,
    /// The store, once it has a pipelined connection.
    piped: Option<Arc<dyn Backend>>,
    /// When something was done last.
    busy: BootTime,
    /// The stores of the tasks, by address, with how many tasks each has.
    stores: HashMap<usize, (Arc<dyn Backend>, usize)>,
}

impl Loop {
    fn new(service: Arc<Service>) -> Self {
        Loop {
            service,
            timers: BinaryHeap::new(),
            due: HashMap::new(),
            watches: HashMap::new(),
            next: 0,
            tasks: HashMap::new(),
            piped: None,
            busy: BootTime::now(),
            stores: HashMap::new(),
        }
    }

    fn run(mut self) {
        loop {
            let commands = self.service.inbox.take();
            self.run_timers();
            for command in commands {
                self.obey(command);
                // A burst of commands must not let a lease run out.
                self.run_timers();
            }
            if let Some(pipe) = self.piped.as_ref().and_then(|store| store.pipe()) {
                contain(|| pipe.pump());
            }
            if self.sleep() {
                self.busy = BootTime::now();
            } else if self.ends() {
                break;
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.timers.is_empty() && self.tasks.is_empty()
    }

    /// Whether there is nothing to stay for: the next command starts another thread.
    fn ends(&self) -> bool {
        if self.service.place == Place::HERE || !self.is_idle() {
            return false;
        }
        let Some(services) = SERVICES.get() else {
            return false;
        };
        let piped = self.piped.clone();
        let pipe = piped.as_ref().and_then(|store| store.pipe());
        if pipe.is_some() && self.busy.after(IDLE) > BootTime::now() {
            return false;
        }
        let mut services = services.lock();
        let ends = self.service.inbox.is_empty() && pipe.is_none_or(|pipe| pipe.close());
        if ends {
            services.remove(&self.service.place);
        }
        ends
    }

    fn at(&mut self, when: BootTime, timer: Timer) {
        self.next += 1;
        self.timers.push(Reverse((when, self.next)));
        self.due.insert(self.next, timer);
    }

    fn watch_at(&mut self, when: BootTime, watch: Watch) {
        self.next += 1;
        self.timers.push(Reverse((when, self.next)));
        self.watches.insert(self.next, watch);
    }

    /// Looks at a hold that has come due, and at those that go along with it.
    fn look(&mut self, watch: Watch, now: BootTime) {
        let mut round = vec![watch];
        if let Some(company) = round.first().and_then(Watch::company) {
            let others = self
                .watches
                .iter()
                .filter(|(_, other)| other.goes_with(company, now))
                .map(|(id, _)| *id);
            let others: Vec<u64> = others.take(Watch::MOST_OTHERS).collect();
            round.extend(others.iter().filter_map(|id| self.watches.remove(id)));
        }
        let looked = std::panic::AssertUnwindSafe(|| watchdog::look(round));
        for (at, watch) in std::panic::catch_unwind(looked).unwrap_or_default() {
            self.watch_at(at, watch);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Watch(at, watch) => self.watch_at(at, watch),
            Command::Burn(store, mut claim) => {
                claim.deadline = None;
                let until = BootTime::now().after(
                    claim
                        .ttl
                        .unwrap_or(BURN_WITHOUT_LEASE)
                        .max(Duration::from_secs(15)),
                );
                self.at(
                    BootTime::now(),
                    Timer::Burn {
                        store,
                        claim,
                        until,
                        pause: Duration::from_millis(20),
                    },
                );
            }
            Command::Collect(at, backend) => self.at(at, Timer::Collect(backend)),
            Command::Start(task) => self.start(task),
            Command::Ring(id) => self.step(id, false),
            Command::Arrived(task, step) => self.settle(task, step),
            Command::Answered(task, ask, arrived) => contain(|| task.arrived(ask, arrived)),
            Command::Repeat(task, ask, lost) => contain(|| task.repeat(ask, lost)),
            Command::Job(job) => contain(job),
        }
    }

    fn start(&mut self, task: Box<Task>) {
        let backend = task.backend().clone();
        let Some(pipe) = backend.pipe() else {
            let id = task.id();
            self.add_task(id, task);
            self.step(id, true);
            return;
        };
        // Without one the ordinary way says why.
        let is_open = pipe.open(task.queues()).is_ok();
        if is_open && self.piped.is_none() {
            self.piped = Some(backend.clone());
        }
        let task = if is_open {
            self.post(task, true)
        } else {
            Some(task)
        };
        if let Some(task) = task {
            let id = task.id();
            self.add_task(id, task);
            self.step(id, true);
        }
        pipe.ahead().fetch_sub(1, Ordering::AcqRel);
    }

    /// Sends a task on its way, if it can go by the pipelined connection.
    fn post(&mut self, task: Box<Task>, first: bool) -> Option<Box<Task>> {
        let backend = task.backend().clone();
        match backend.pipe() {
            Some(pipe) if pipe.is_open(task.queues()) => match task.post(pipe, first) {
                Went::Away => None,
                Went::Stays(task) => Some(task),
                Went::Over(task, step) => {
                    self.settle(task, step);
                    None
                }
            },
            _ => Some(task),
        }
    }

    /// Ends a task that is over; otherwise it sleeps.
    fn settle(&mut self, mut task: Box<Task>, step: Result<Step>) {
        let settled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| task.settle(step)));
        if let Ok(Some(until)) = settled {
            let id = task.id();
            let is_rung = task.is_rung();
            self.add_task(id, task);
            if is_rung {
                self.step(id, false);
            } else {
                self.task_at(until, id);
            }
        }
    }

    fn task_at(&mut self, until: BootTime, id: u64) {
        let until = until.min(BootTime::now().after(Duration::from_secs(3600)));
        self.at(until, Timer::Task(id));
    }

    fn add_task(&mut self, id: u64, task: Box<Task>) {
        let entry = self
            .stores
            .entry(address(task.backend()))
            .or_insert_with(|| (task.backend().clone(), 0));
        entry.1 += 1;
        self.tasks.insert(id, task);
    }

    fn remove_task(&mut self, id: u64) -> Option<Box<Task>> {
        let task = self.tasks.remove(&id)?;
        let address = address(task.backend());
        if let Some(entry) = self.stores.get_mut(&address) {
            entry.1 -= 1;
            if entry.1 == 0 {
                self.stores.remove(&address);
            }
        }
        Some(task)
    }

    /// Takes a task one step further; a finished one goes.
    fn step(&mut self, id: u64, first: bool) {
        if !first && self.piped.is_some() {
            let Some(task) = self.remove_task(id) else {
                return;
            };
            match self.post(task, false) {
                None => return,
                Some(task) => self.add_task(id, task),
            }
        }
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let next = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| task.step(first)));
        match next {
            Ok(Some(until)) => self.task_at(until, id),
            Ok(None) => {
                self.remove_task(id);
            }
            Err(_) => {
                if let Some(task) = self.remove_task(id) {
                    contain(move || {
                        task.fail(Error::new(Code::Internal, "the service thread met a bug"))
                    });
                }
            }
        }
    }

    fn run_timers(&mut self) {
        let now = BootTime::now();
        while let Some(&Reverse((at, id))) = self.timers.peek() {
            if at > now {
                break;
            }
            self.timers.pop();
            if let Some(watch) = self.watches.remove(&id) {
                self.look(watch, now);
            } else if let Some(timer) = self.due.remove(&id) {
                self.run_timer(timer, now);
            }
        }
    }

    fn run_timer(&mut self, timer: Timer, now: BootTime) {
        match timer {
            Timer::Burn {
                store,
                claim,
                until,
                pause,
            } => {
                let is_answered = store.backend().release(&claim).is_ok();
                // Canary of row 16.
                let is_over = is_answered
                    && (!store.backend().may_be_late() || cfg!(canary = "release_once"));
                if !is_over && !until.has_passed() {
                    let pause_next = if is_answered {
                        pause * 2
                    } else {
                        (pause * 2).min(LONGEST_SLEEP)
                    };
                    self.at(
                        BootTime::now().after(pause).min(until),
                        Timer::Burn {
                            store,
                            claim,
                            until,
                            pause: pause_next,
                        },
                    );
                }
            }
            Timer::Collect(backend) => {
                let collect = std::panic::AssertUnwindSafe(|| backend.collect(false));
                let later = || Some(BootTime::now().after(LONGEST_SLEEP));
                let next = std::panic::catch_unwind(collect).unwrap_or_else(|_| later());
                if let Some(at) = next {
                    self.at(at, Timer::Collect(backend));
                }
            }
            // A task that was rung meanwhile has a later timer too; a step too many does no harm.
            Timer::Task(task) => {
                let due = self.tasks.get(&task).is_some_and(|task| task.is_due(now));
                if due {
                    self.step(task, false);
                }
            }
        }
    }

    /// Waits for a command, a wake-up of a store, or the next timer; whether anything came.
    fn sleep(&mut self) -> bool {
        let watched: Vec<(libc::c_int, Arc<dyn Backend>)> = self
            .stores
            .values()
            .filter_map(|(store, _)| store.pump_fd().map(|fd| (fd, store.clone())))
            .collect();
        let pipe = self.piped.as_ref().and_then(|store| store.pipe());
        let pipe = pipe.and_then(|pipe| pipe.watched());
        let polled = |fd, reads, writes| libc::pollfd {
            fd: if reads || writes { fd } else { -1 },
            events: if reads { libc::POLLIN } else { 0 } | if writes { libc::POLLOUT } else { 0 },
            revents: 0,
        };
        let mut fds = vec![polled(self.service.bell.as_raw_fd(), true, false)];
        fds.extend(watched.iter().map(|(fd, _)| polled(*fd, true, false)));
        // What a loop of the host reads wakes that loop alone.
        fds.extend(pipe.map(|pipe| polled(pipe.fd, pipe.reads, pipe.writes)));
        let next = self.timers.peek().map(|Reverse((at, _))| *at);
        let late = pipe.and_then(|pipe| pipe.until);
        if pipe.is_some_and(|pipe| pipe.is_used) {
            self.busy = BootTime::now();
        }
        let timeout = match next.into_iter().chain(late).min() {
            // What others write meanwhile must not be waited for without end.
            None if pipe.is_some() => LONGEST_SLEEP.as_millis() as libc::c_int,
            None if self.service.place == Place::HERE || !self.is_idle() => -1,
            None => IDLE.as_millis() as libc::c_int,
            Some(at) => {
                let left = at.left().min(LONGEST_SLEEP);
                // Rounded up, so as not to come a fraction too early and spin.
                libc::c_int::try_from(left.as_micros().div_ceil(1000)).unwrap_or(1000)
            }
        };
        // SAFETY: `fds` is valid for its length during the call.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout) };
        if ready <= 0 {
            return false;
        }
        if fds.first().is_some_and(|fd| fd.revents != 0) {
            let mut count = 0u64;
            // SAFETY: reads eight bytes from a non-blocking eventfd.
            unsafe { libc::read(self.service.bell.as_raw_fd(), (&raw mut count).cast(), 8) };
        }
        for (fd, (_, store)) in fds.iter().skip(1).zip(&watched) {
            if fd.revents != 0 {
                contain(|| store.pump());
            }
        }
        true
    }
}

pub(crate) fn address(store: &Arc<dyn Backend>) -> usize {
    Arc::as_ptr(store).cast::<()>() as usize
}

/// A bug in one job must not end the thread that renews everybody's leases.
pub(crate) fn contain(job: impl FnOnce()) {
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
}
