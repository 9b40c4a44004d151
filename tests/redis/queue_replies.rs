//! Row 16 for those who wait: replies that are lost on the way into the queue, at a wake-up and on the way
//! out. Whoever waits behind comes in all the same.

use super::{code, leased, ms, reap, until};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use synlock_core::{Cancel, Code, Dispatch, Lock, Op, Store, Wait};
use synlock_tests::load::{SOON, patient};
use synlock_tests::names::unique;
use synlock_tests::process::is_full_load;
use synlock_tests::redis::RedisServer;
use synlock_tests::services::redis_fake::{Fault, Proxy};

/// No ghost may last for as long.
const LEASE: Duration = Duration::from_secs(600);
/// Of one who waits until the lock is his.
const LONG: Wait = Wait::For(Duration::from_secs(100));
/// Scenes that are played side by side.
const STAGES: usize = 8;

/// What is under way when a reply is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moment {
    /// The first acquire of a process, which connects, subscribes and is queued.
    First,
    /// A later one, whose subscription stands.
    Asking,
    /// The wake-up, the confirmation, the release.
    Woken,
    Cancelled,
    OutOfTime,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Thread,
    EventLoop,
}

#[derive(Clone, Copy, Debug)]
struct Scene {
    way: Way,
    moment: Moment,
    reply: i64,
    fault: Fault,
}

impl Scene {
    fn all() -> Vec<Scene> {
        use Moment::{Asking, Cancelled, First, OutOfTime, Woken};
        let replies = [
            (First, 7),
            (Asking, 3),
            (Woken, 4),
            (Cancelled, 2),
            (OutOfTime, 2),
        ];
        let mut scenes = Vec::new();
        for way in [Way::Thread, Way::EventLoop] {
            for fault in [Fault::Cut, Fault::Reset] {
                for (moment, replies) in replies {
                    scenes.extend((1..=replies).map(|reply| Scene {
                        way,
                        moment,
                        reply,
                        fault,
                    }));
                }
            }
        }
        scenes
    }

    /// Whether the one who asks may end so. A request that could not be sent at all is trouble, which is
    /// told where no connection works, or none in the time that was given.
    fn may_end(&self, code: Code) -> bool {
        let is_short = self.fault == Fault::Reset || self.moment == Moment::OutOfTime;
        let trouble = is_short && code == Code::Unavailable;
        let over = match self.moment {
            Moment::Cancelled => code == Code::Cancelled,
            Moment::OutOfTime => code == Code::Timeout,
            Moment::First | Moment::Asking | Moment::Woken => code == Code::Ok,
        };
        over || trouble || code == Code::Uncertain
    }
}

/// An acquire under way.
struct Asked {
    is_over: Arc<AtomicBool>,
    cancel: Box<dyn Fn()>,
    thread: JoinHandle<Code>,
}

impl Asked {
    fn new(way: Way, lock: &Arc<Lock>, wait: Wait) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let begin = |end: Box<dyn FnOnce() -> Code + Send>| {
            std::thread::spawn(move || {
                let code = end();
                over.store(true, Ordering::SeqCst);
                code
            })
        };
        let (cancel, thread): (Box<dyn Fn()>, _) = match way {
            Way::Thread => {
                let (cancel, lock) = (Cancel::new(), lock.clone());
                let thrown = cancel.clone();
                let thread = begin(Box::new(move || code(lock.acquire(wait, Some(&thrown)))));
                (Box::new(move || cancel.cancel()), thread)
            }
            Way::EventLoop => {
                let dispatch = Arc::new(Dispatch::new().unwrap());
                let ticket = dispatch.submit(lock, Op::Acquire(wait), 0).unwrap();
                let reaped = dispatch.clone();
                let thread = begin(Box::new(move || reap(&reaped, 1)[0].1));
                (Box::new(move || dispatch.cancel(ticket)), thread)
            }
        };
        Asked {
            is_over,
            cancel,
            thread,
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }
}

/// Ends a hold that nobody else may have beside it.
fn leave(lock: &Lock, inside: &AtomicUsize) -> Code {
    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two hold it");
    std::thread::sleep(ms(2));
    inside.fetch_sub(1, Ordering::SeqCst);
    code(lock.release())
}

/// Whether a reply was lost.
fn play(server: &RedisServer, scene: Scene) -> bool {
    let proxy = Proxy::start(server.port());
    let direct = Store::open(&patient(&server.url())).unwrap();
    let name = unique("lost");
    // A store asks again for what is lost until then, and where nothing comes back for as long.
    let url = match scene.fault {
        Fault::Reset => format!("{}?io_timeout=400", proxy.url()),
        _ => patient(&proxy.url()),
    };
    let ours = Arc::new(leased(&url, &name, LEASE));
    let [holder, behind] = [(), ()].map(|()| Arc::new(direct.lock(&name).unwrap()));
    let inside = Arc::new(AtomicUsize::new(0));
    let waiters = || direct.inspect(&name).unwrap().waiters.unwrap();

    holder.acquire(Wait::No, None).unwrap();
    if scene.moment != Moment::First {
        // It waits once, so that there is a subscription.
        let _ = ours.acquire(Wait::For(ms(100)), None);
        until(|| waiters() == 0);
    }
    let lose = || proxy.fail(scene.reply, scene.fault);
    if matches!(scene.moment, Moment::First | Moment::Asking) {
        lose();
    }
    let wait = match scene.moment {
        Moment::OutOfTime => Wait::For(ms(700)),
        _ => LONG,
    };
    let asked = Asked::new(scene.way, &ours, wait);
    until(|| waiters() == 1 || asked.is_over());
    let next = Asked::new(Way::Thread, &behind, LONG);
    // One place in the queue is the most that ours has, however often it asks.
    until(|| match waiters() {
        0 => false,
        1 => asked.is_over(),
        2 => true,
        more => panic!("{scene:?}: {more} wait"),
    });
    match scene.moment {
        Moment::First | Moment::Asking => {}
        Moment::Woken | Moment::OutOfTime => lose(),
        Moment::Cancelled => {
            lose();
            (asked.cancel)();
        }
    }
    let gives_up = matches!(scene.moment, Moment::Cancelled | Moment::OutOfTime);
    if !gives_up {
        assert_eq!(code(holder.release()), Code::Ok, "{scene:?}");
    }
    let acquired = asked.thread.join().unwrap();
    assert!(scene.may_end(acquired), "{scene:?}: acquire {acquired:?}");
    if acquired == Code::Ok {
        let released = leave(&ours, &inside);
        let trouble = scene.fault == Fault::Reset && released == Code::Unavailable;
        assert!(
            matches!(released, Code::Ok | Code::Uncertain) || trouble,
            "{scene:?}: release {released:?}"
        );
    }
    let lost = proxy.has_lost();
    proxy.heal();
    if gives_up {
        // What it left behind goes while the lock is held, so that it is handed to nobody who is gone.
        until(|| waiters() == 1);
        assert_eq!(code(holder.release()), Code::Ok, "{scene:?}");
    }
    assert_eq!(next.thread.join().unwrap(), Code::Ok, "{scene:?}");
    assert_eq!(leave(&behind, &inside), Code::Ok, "{scene:?}");
    // The same handle asks again, with an impatient store's patience.
    until(|| ours.acquire(Wait::For(SOON), None).is_ok());
    assert!(holder.try_acquire().unwrap().is_none(), "{scene:?}");
    let _ = leave(&ours, &inside);
    until(|| {
        let seen = direct.inspect(&name).unwrap();
        seen.holders.is_empty() && seen.waiters == Some(0)
    });
    lost
}

#[test]
fn a_lost_reply_to_one_who_waits_costs_nobody_the_lock() {
    let server = RedisServer::start();
    let times = if is_full_load() { 100 } else { 1 };
    let scenes = Scene::all().into_iter();
    let scenes: Vec<_> = scenes
        .flat_map(|scene| std::iter::repeat_n(scene, times))
        .collect();
    let (count, left, lost) = (scenes.len(), Mutex::new(scenes), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..STAGES {
            scope.spawn(|| {
                while let Some(scene) = { left.lock().unwrap().pop() } {
                    let is_lost = play(&server, scene);
                    lost.fetch_add(usize::from(is_lost), Ordering::SeqCst);
                }
            });
        }
    });
    let lost = lost.load(Ordering::SeqCst);
    assert!(lost * 2 > count, "{lost} replies lost in {count} scenes");
}
