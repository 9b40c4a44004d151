//! Waiting in the kernel: a caller's thread for itself, and up to eight threads for event loops.
//!
//! A thread that sleeps in `semtimedop` hears no bell. So each wait begins with two steps that change
//! nothing, and that fail once a semaphore of the set is raised as high as it goes: the *kick*, by which
//! a cancel, in the same process, ends just those waits that have its number. Whoever is hit without being
//! meant begins again.

use super::hold::{self, Gate, Held, Look, Wish};
use super::kernel::{self, Done};
use super::store::Process;
use crate::lease::BootTime;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::{Signal, Wake};
use crate::sync::Mutex;
use crate::{Error, Result};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Threads that wait for event loops; those for whom there is none poll.
const MOST_THREADS: usize = 8;
pub(super) const POLL: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_micros(100);
/// How long a kick is tried while another process has it raised.
const PATIENCE: Duration = Duration::from_secs(1);
/// A thread looks up from the kernel's queue at least this often.
const TURN: Duration = Duration::from_secs(1);

/// A thread's wait in the kernel, and how to end it.
#[derive(Debug, Default)]
pub(super) struct Sleep(Mutex<Option<Sleeping>>);

#[derive(Clone, Copy, Debug)]
struct Sleeping {
    gate: Gate,
    number: u8,
    is_kicked: bool,
}

impl Sleep {
    /// Waits for `wish`, until `until` or a kick.
    fn wait(&self, gate: Gate, wish: &Wish, until: BootTime) -> Result<Look> {
        let number = wish.token.as_bytes()[0];
        // `begin` may have been told to stop before this.
        let looked = hold::wait(gate, wish, number, until);
        if !self.end() && matches!(looked, Ok(Look::Woken(Done::Overflow))) {
            // Somebody else was meant, who lowers it in a moment.
            std::thread::sleep(PAUSE);
        }
        looked
    }

    /// From here on a kick is heard.
    fn begin(&self, gate: Gate, wish: &Wish) {
        *self.0.lock() = Some(Sleeping {
            gate,
            number: wish.token.as_bytes()[0],
            is_kicked: false,
        });
    }

    /// From here on none is. Lowers one that was; whether there was one.
    fn end(&self) -> bool {
        let kicked = self.0.lock().take().filter(|sleeping| sleeping.is_kicked);
        if let Some(Sleeping { gate, number, .. }) = kicked {
            let (_, down) = gate.kick(number);
            let _ = kernel::operate(gate.id(), &[down]);
        }
        kicked.is_some()
    }

    /// Ends the wait, if there is one.
    fn kick(&self) {
        let until = BootTime::now().after(PATIENCE);
        while !cfg!(canary = "no_kick") {
            if let Some(sleeping) = &mut *self.0.lock()
                && !sleeping.is_kicked
            {
                let (up, _) = sleeping.gate.kick(sleeping.number);
                match kernel::operate(sleeping.gate.id(), &[up]) {
                    Ok(Done::Yes) => sleeping.is_kicked = true,
                    // Raised already, for another wait: that may be lowered before ours begins.
                    Ok(Done::Overflow) if !until.has_passed() => {}
                    _ => return,
                }
                if sleeping.is_kicked {
                    return;
                }
            } else {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// A claim that waits on its own thread.
#[derive(Debug)]
pub(super) struct Parked {
    wish: Wish,
    gate: Gate,
    bell: Arc<Signal>,
    sleep: Arc<Sleep>,
}

/// Claims that wait on their own threads.
#[derive(Debug, Default)]
pub(super) struct Parking(Mutex<Vec<Arc<Parked>>>);

impl Parking {
    pub(super) fn add(&self, gate: Gate, wish: Wish, bell: &Arc<Signal>) {
        let sleep: Arc<Sleep> = Arc::default();
        let kicked = sleep.clone();
        bell.also(move || kicked.kick());
        let parked = Parked {
            wish,
            gate,
            bell: bell.clone(),
            sleep,
        };
        self.0.lock().push(Arc::new(parked));
    }

    /// The gate of a claim that waits; it waits no more.
    pub(super) fn take(&self, token: OwnerToken) -> Option<Gate> {
        let mut all = self.0.lock();
        let place = all.iter().position(|one| one.wish.token == token)?;
        Some(all.swap_remove(place).gate)
    }

    pub(super) fn gate(&self, token: OwnerToken) -> Option<Gate> {
        let all = self.0.lock();
        let one = all.iter().find(|one| one.wish.token == token)?;
        Some(one.gate)
    }

    fn of(&self, bell: &Arc<Signal>) -> Option<Arc<Parked>> {
        let all = self.0.lock();
        all.iter().find(|one| Arc::ptr_eq(&one.bell, bell)).cloned()
    }

    /// Sleeps in the kernel for the claim that has this bell.
    pub(super) fn park(&self, process: &Process, bell: &Arc<Signal>, until: BootTime) -> Wake {
        let Some(parked) = self.of(bell) else {
            return bell.sleep(until);
        };
        parked.sleep.begin(parked.gate, &parked.wish);
        if bell.take() {
            parked.sleep.end();
            return Wake::Signalled;
        }
        let looked = parked.sleep.wait(parked.gate, &parked.wish, until);
        match looked {
            Ok(Look::Held(held)) => {
                process.note(parked.wish.token, held);
                Wake::Signalled
            }
            _ if bell.take() => Wake::Signalled,
            Ok(Look::Busy) => Wake::Elapsed,
            Ok(Look::Woken(Done::Interrupted)) => Wake::Interrupted,
            // The next look finds out.
            Ok(Look::Woken(_) | Look::Gone) | Err(_) => Wake::Signalled,
        }
    }
}

/// A claim of an event loop.
#[derive(Clone, Debug)]
struct Queued {
    wish: Wish,
    bell: Arc<Signal>,
}

/// Claims of event loops on one name, first come, first served.
#[derive(Debug, Default)]
struct Line {
    queue: VecDeque<Queued>,
    /// Whether a thread waits for the first.
    is_served: bool,
    sleep: Arc<Sleep>,
}

/// The claims of event loops, and the threads that wait for them.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: Mutex<HashMap<Name, Line>>,
    threads: Mutex<usize>,
}

/// Where a claim of an event loop stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Nobody of this name waits.
    None,
    /// Somebody waits, and it is not this wish.
    Behind,
    /// A thread waits for it, or for those before it.
    Served,
    /// It is the first, and there is no thread to be had.
    First,
    /// Others come first, and there is no thread to be had.
    Unserved,
}

impl Lines {
    pub(super) fn standing(&self, name: &Name, token: OwnerToken) -> Standing {
        let lines = self.lines.lock();
        let Some(line) = lines.get(name).filter(|line| !line.queue.is_empty()) else {
            return Standing::None;
        };
        let place = line
            .queue
            .iter()
            .position(|queued| queued.wish.token == token);
        match (place, line.is_served) {
            (None, _) => Standing::Behind,
            (Some(_), true) => Standing::Served,
            (Some(0), false) => Standing::First,
            (Some(_), false) => Standing::Unserved,
        }
    }

    /// How many of this name wait here; and how many threads for them.
    pub(super) fn waiting(&self, name: &Name) -> (usize, usize) {
        let lines = self.lines.lock();
        lines.get(name).map_or((0, 0), |line| {
            (line.queue.len(), usize::from(line.is_served))
        })
    }

    /// Puts a claim at the end of its line, and a thread before it if there is none and one is to be had;
    /// whether there is one.
    pub(super) fn join(
        &self,
        process: &Arc<Process>,
        wish: &Wish,
        bell: &Arc<Signal>,
    ) -> Result<bool> {
        let mut lines = self.lines.lock();
        let line = lines.entry(wish.name.clone()).or_default();
        line.queue.push_back(Queued {
            wish: wish.clone(),
            bell: bell.clone(),
        });
        if line.is_served {
            return Ok(true);
        }
        let mut threads = self.threads.lock();
        if *threads >= MOST_THREADS {
            return Ok(false);
        }
        let (own, name) = (process.clone(), wish.name.clone());
        let spawned = crate::service::spawn_quiet("synlock-sysv", move || serve(&own, name));
        if let Err(error) = spawned {
            line.queue.pop_back();
            return Err(error);
        }
        line.is_served = true;
        *threads += 1;
        Ok(true)
    }

    /// Takes a claim out; true if it stood in a line.
    pub(super) fn leave(&self, name: &Name, token: OwnerToken) -> bool {
        let mut lines = self.lines.lock();
        let Some(line) = lines.get_mut(name) else {
            return false;
        };
        let is_it = |queued: &Queued| queued.wish.token == token;
        let Some(place) = line.queue.iter().position(is_it) else {
            return false;
        };
        line.queue.remove(place);
        let sleep = line.sleep.clone();
        let wake = place == 0 && line.is_served;
        if line.queue.is_empty() && !line.is_served {
            lines.remove(name);
        }
        drop(lines);
        if wake {
            sleep.kick();
        }
        true
    }

    /// The first of the line, or of another that no thread serves; none if there is nothing to do, and
    /// the thread counts no more.
    fn next(&self, name: &mut Name) -> Option<(Queued, Arc<Sleep>)> {
        let mut lines = self.lines.lock();
        if let Some(line) = lines.get_mut(name) {
            if let Some(first) = line.queue.front() {
                return Some((first.clone(), line.sleep.clone()));
            }
            lines.remove(name);
        }
        let other = lines
            .iter_mut()
            .find(|(_, line)| !line.is_served && !line.queue.is_empty());
        let Some((other, line)) = other else {
            *self.threads.lock() -= 1;
            return None;
        };
        line.is_served = true;
        *name = other.clone();
        let first = line.queue.front()?.clone();
        Some((first, line.sleep.clone()))
    }

    /// Whether the claim still is the first of its line.
    fn is_first(&self, queued: &Queued) -> bool {
        let lines = self.lines.lock();
        let first = lines
            .get(&queued.wish.name)
            .and_then(|line| line.queue.front());
        first.is_some_and(|first| first.wish.token == queued.wish.token)
    }

    /// Gives a hold to the claim that it was waited for with; the hold, if the claim has left.
    fn hand(&self, process: &Process, queued: &Queued, held: Held) -> Option<Held> {
        let mut lines = self.lines.lock();
        let queue = lines.get_mut(&queued.wish.name).map(|line| &mut line.queue);
        let place = queue.as_ref().and_then(|queue| {
            let mut tokens = queue.iter().map(|one| one.wish.token);
            tokens.position(|token| token == queued.wish.token)
        });
        let (Some(queue), Some(place)) = (queue, place) else {
            return Some(held);
        };
        queue.remove(place);
        // Before the lines are let go: whoever leaves looks here afterwards.
        process.note(queued.wish.token, held);
        None
    }
}

/// A thread that waits for the first of a line until nobody is left in any.
fn serve(process: &Arc<Process>, mut name: Name) {
    while let Some((first, sleep)) = process.lines.next(&mut name) {
        let served = serve_first(process, &first, &sleep);
        if let Err(error) = served {
            // Its own look is answered with the same trouble, and ends it.
            drop::<Error>(error);
            process.lines.leave(&first.wish.name, first.wish.token);
            first.bell.ring();
        }
    }
}

fn serve_first(process: &Process, first: &Queued, sleep: &Sleep) -> Result<()> {
    let gate = process.enter(&first.wish.name)?;
    sleep.begin(gate, &first.wish);
    // Who has left since could not kick what had not begun.
    if !process.lines.is_first(first) {
        sleep.end();
        gate_left(gate);
        return Ok(());
    }
    let looked = sleep.wait(gate, &first.wish, BootTime::now().after(TURN));
    match looked {
        Ok(Look::Held(held)) => {
            if let Some(held) = process.lines.hand(process, first, held) {
                held.give_back()?;
            } else {
                first.bell.ring();
            }
            return Ok(());
        }
        Ok(Look::Gone) => process.forget(&first.wish.name),
        Ok(_) => {}
        Err(error) => {
            gate_left(gate);
            return Err(error);
        }
    }
    gate_left(gate);
    Ok(())
}

/// A wait that took nothing is over.
pub(super) fn gate_left(gate: Gate) {
    if let Gate::Peer(id) = gate {
        super::peer::leave(id);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{config::Config, native};
    use super::*;
    use crate::store::Claim;
    use crate::url::Url;

    /// Who was kicked before it slept, and does not sleep, has it lowered all the same.
    #[test]
    fn a_kick_that_meets_nobody_asleep_does_not_stay() {
        let url = format!("sysv:synlock-waits-{}", std::process::id());
        let config = Config::take(&mut Url::parse(&url, &[]).unwrap()).unwrap();
        let name = Name::new("x").unwrap();
        let gate = Gate::Native(native::open(&config, name.as_bytes()).unwrap());
        let token = OwnerToken::from_bytes([7; 16]);
        let wish = Wish::from(&Claim::exclusive(name, token, TURN));
        let (sleep, kicked) = (Sleep::default(), gate.kick(7).0.semaphore);
        let raised = || kernel::value(gate.id(), kicked).unwrap().unwrap();
        sleep.begin(gate, &wish);
        sleep.kick();
        assert!(raised() > 0);
        sleep.end();
        let after = raised();
        kernel::remove(gate.id()).unwrap();
        assert_eq!(after, 0);
    }
}
