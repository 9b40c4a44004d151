//! Stores made of a JavaScript object, which `custom.js` asks on the thread that made them.

use napi::Env;
use napi::bindgen_prelude::{BigInt, Buffer, Function, FunctionRef};
use napi_derive::napi;
use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use synlock_core::store::custom::{Ask, Callbacks, Reply, Traits, Verb};
use synlock_core::store::{Holder, Inspection};
use synlock_core::{Code, Error, Fence, Mode, Result, Scope};

/// What the object can do, as the package found out.
#[napi(object)]
pub struct NativeTraits {
    pub shared: bool,
    pub permits: bool,
    pub frees_on_death: bool,
    pub survives_restart: bool,
    pub fence: Option<String>,
    pub scope: String,
    pub extend: bool,
    pub change_mode: bool,
    pub inspect: bool,
    pub list: bool,
    pub break_lock: bool,
    pub ping: bool,
}

impl NativeTraits {
    pub fn traits(self) -> Result<Traits> {
        let fences = [Fence::Ephemeral, Fence::Hybrid, Fence::Durable];
        let fence = match self.fence.as_deref() {
            None => Fence::None,
            Some(class) => fences
                .into_iter()
                .find(|fence| fence.class() == class)
                .ok_or_else(|| Error::invalid("fence is one of E, H, D, or left out"))?,
        };
        let scope = [Scope::Process, Scope::Host, Scope::Cluster]
            .into_iter()
            .find(|scope| scope.name() == self.scope)
            .ok_or_else(|| Error::invalid("scope is one of process, host, cluster"))?;
        Ok(Traits {
            shared: self.shared,
            permits: self.permits,
            ttl: self.extend,
            frees_on_death: self.frees_on_death,
            change_mode: self.change_mode,
            inspect: self.inspect,
            list: self.list,
            break_lock: self.break_lock,
            ping: self.ping,
            survives_restart: self.survives_restart,
            fence,
            scope,
        })
    }
}

/// A question; times are ms.
#[napi(object)]
pub struct NativeAsk {
    pub verb: String,
    pub name: Buffer,
    pub owner: String,
    pub mode: String,
    pub permits: Option<Vec<u32>>,
    pub ttl: Option<f64>,
    pub time: Option<f64>,
    pub label: Option<String>,
    pub waits: bool,
}

#[napi(object)]
pub struct NativeHolder {
    pub owner: String,
    pub mode: String,
    pub permits: u32,
    pub host: Option<String>,
    pub pid: Option<u32>,
    pub label: Option<String>,
    pub remaining: Option<f64>,
    pub held: Option<f64>,
    pub fencing_token: Option<BigInt>,
}

#[napi(object)]
pub struct NativeFound {
    pub name: Buffer,
    pub waiters: Option<u32>,
    pub holders: Vec<NativeHolder>,
}

/// An answer; a failure is a status too.
#[napi(object)]
pub struct NativeReply {
    pub status: i32,
    pub words: Option<String>,
    pub fencing_token: Option<BigInt>,
    pub recovered: Option<bool>,
    pub until: Option<f64>,
    pub poll: Option<f64>,
    pub locks: Option<Vec<NativeFound>>,
}

type Answers = HashMap<u64, Rc<(Env, FunctionRef<NativeAsk, NativeReply>)>>;

thread_local! {
    /// The functions of this thread's stores. Not dropped with the thread, whose environment is gone by
    /// then.
    static ASKED: ManuallyDrop<RefCell<Answers>> =
        ManuallyDrop::new(RefCell::new(HashMap::new()));
}
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The function of one store, by its number in the table of its thread.
pub struct Object(u64);

impl Object {
    pub fn new(env: Env, answer: &Function<'_, NativeAsk, NativeReply>) -> napi::Result<Self> {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let kept = Rc::new((env, answer.create_ref()?));
        ASKED.with(|asked| asked.borrow_mut().insert(id, kept));
        Ok(Object(id))
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // Nothing on another thread: it stays with its own.
        let kept = ASKED.with(|asked| asked.borrow_mut().remove(&self.0));
        drop(kept);
    }
}

fn ms(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_secs_f64() * 1000.0)
}

fn time(ms: Option<f64>) -> Option<Duration> {
    ms.and_then(|ms| Duration::try_from_secs_f64(ms.max(0.0) / 1000.0).ok())
}

fn token(token: Option<BigInt>) -> Option<u64> {
    let (negative, value, exact) = token?.get_u64();
    (!negative && exact).then_some(value)
}

impl NativeHolder {
    fn holder(self) -> Holder {
        Holder {
            // The whole token is the right to release.
            owner: self.owner.chars().take(8).collect(),
            mode: match self.mode.as_str() {
                "shared" => "shared",
                "permits" => "permits",
                _ => "exclusive",
            },
            permits: self.permits,
            host: self.host,
            pid: self.pid,
            label: self.label,
            remaining: time(self.remaining),
            held: time(self.held),
            fence: token(self.fencing_token),
            brand: None,
        }
    }
}

impl Callbacks for Object {
    fn call(&self, verb: Verb, ask: &Ask<'_>) -> Result<Reply> {
        let question = NativeAsk {
            verb: verb.name().to_owned(),
            name: ask.name.to_vec().into(),
            owner: ask.owner.clone(),
            mode: ask.mode.kind().to_owned(),
            permits: match ask.mode {
                Mode::Permits { take, of } => Some(vec![take, of]),
                _ => None,
            },
            ttl: ms(ask.ttl),
            time: ms(ask.time),
            label: ask.label.map(str::to_owned),
            waits: ask.waits,
        };
        let Some(asked) = ASKED.with(|asked| asked.borrow().get(&self.0).cloned()) else {
            return Err(Error::unsupported(
                "a custom store is asked on the thread that made it alone",
            ));
        };
        let answer = asked.1.borrow_back(&asked.0);
        let reply = answer.and_then(|answer| answer.call(question));
        let reply = reply.map_err(|error| {
            let words = format!("the custom store's {} failed: {error}", verb.name());
            Error::new(verb.failed(), words)
        })?;
        let locks = reply.locks.unwrap_or_default().into_iter();
        Ok(Reply {
            code: match reply.status {
                // It threw what says nothing of how.
                -1 => verb.failed(),
                status => Code::from_number(status).unwrap_or(Code::Protocol),
            },
            words: reply.words.unwrap_or_default(),
            fence: token(reply.fencing_token),
            recovered: reply.recovered.unwrap_or(false),
            until: time(reply.until),
            poll: time(reply.poll),
            locks: locks
                .map(|found| Inspection {
                    name: found.name.to_vec(),
                    holders: found
                        .holders
                        .into_iter()
                        .map(NativeHolder::holder)
                        .collect(),
                    waiters: found.waiters,
                })
                .collect(),
        })
    }
}
