//! Request guards.

use crate::cancel::synlock_cancel;
use crate::error::synlock_error;
use crate::guard::{Out, hand_out, number, value};
use crate::handle::{
    self, Kind, Object, with_cancel, with_guard, with_lock, with_scope, with_store,
};
use crate::list::{ListObject, synlock_list};
use crate::lock::{fence, make, millis, synlock_lock};
use crate::options::{SizedOut, read_sized, switch};
use crate::scope::synlock_scope;
use crate::status::synlock_status;
use crate::store::synlock_store;
use crate::text::{bytes, copy_bytes, optional, utf8};
use arc_swap::ArcSwap;
use std::ffi::c_char;
use std::sync::Arc;
use std::time::Duration;
use synlock_core::guard_request::{
    Anonymous, Dialect, Entry, GuardMode, Guards, Plan, Policy, Request, User,
};
use synlock_core::store::Inspection;
use synlock_core::{Cancel, Error, Lock, Result};

/// Named stores that requests are guarded with. May be used by several
/// threads at once.
#[derive(Debug)]
pub struct synlock_guard {
    _private: [u8; 0],
}

/// What a request does about the lock.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum synlock_guard_mode {
    /// Acquires it; refused if somebody holds it. The default.
    SYNLOCK_GUARD_BLOCK = 0,
    /// Refused if somebody holds it; acquires nothing.
    SYNLOCK_GUARD_CHECK = 1,
    /// Acquires it, waiting for at most `max_wait_ms`.
    SYNLOCK_GUARD_QUEUE = 2,
    /// Takes it from whoever holds it.
    SYNLOCK_GUARD_FORCE = 3,
}

/// Whose lock it is, with user isolation, when nobody is logged in.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum synlock_guard_anonymous {
    /// Nobody's: SYNLOCK_INVALID_ARGUMENT. The default.
    SYNLOCK_ANONYMOUS_REFUSE = 0,
    /// One lock of all anonymous requests.
    SYNLOCK_ANONYMOUS_SHARE = 1,
    /// One lock for each session.
    SYNLOCK_ANONYMOUS_SESSION = 2,
    /// One lock for each client address.
    SYNLOCK_ANONYMOUS_IP = 3,
}

/// Who asks.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum synlock_guard_user {
    /// The application has no notion of users: user isolation is an error.
    SYNLOCK_USER_NO_SOURCE = 0,
    /// It has, and this is nobody.
    SYNLOCK_USER_ANONYMOUS = 1,
    /// The one that `provider` and `user_id` name.
    SYNLOCK_USER_KNOWN = 2,
}

/// How requests are guarded. Set `struct_size`; zero means default for every
/// other field. Text is NULL or NUL-terminated UTF-8.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct synlock_guard_policy {
    /// sizeof(synlock_guard_policy).
    pub struct_size: usize,
    /// Template of the lock's name, such as "order_{id}": `name_length` bytes
    /// or, with SYNLOCK_NTS, NUL-terminated. NULL: made from route and path.
    pub name: *const c_char,
    /// Its length.
    pub name_length: usize,
    /// Which of the stores; NULL: the default one.
    pub service: *const c_char,
    /// Words for whoever inspects the lock, at most 255 bytes; NULL: route
    /// and path.
    pub label: *const c_char,
    /// Lease in ms; 0: held until released or the owner dies. On a store
    /// without leases any other means the same, unless `strict`.
    pub ttl_ms: i64,
    /// How long SYNLOCK_GUARD_QUEUE waits and SYNLOCK_GUARD_FORCE tries at
    /// most, ms; 0: 30 s.
    pub max_wait_ms: i64,
    /// A synlock_guard_mode.
    pub mode: i32,
    /// HTTP status of a refusal, 400 to 599; 0: 423.
    pub status: i32,
    /// Each user has a lock of their own; a synlock_switch, by default off.
    pub user_isolation: i32,
    /// A synlock_guard_anonymous.
    pub anonymous: i32,
    /// Release when the handle is freed; a synlock_switch, by default on.
    pub auto_release: i32,
    /// Refuse what the store cannot promise; a synlock_switch.
    pub strict: i32,
    /// Scope that the lock's handle ends with; or NULL.
    pub scope: *mut synlock_scope,
}

impl synlock_guard_policy {
    const EMPTY: Self = synlock_guard_policy {
        struct_size: size_of::<Self>(),
        name: std::ptr::null(),
        name_length: 0,
        service: std::ptr::null(),
        label: std::ptr::null(),
        ttl_ms: 0,
        max_wait_ms: 0,
        mode: 0,
        status: 0,
        user_isolation: 0,
        anonymous: 0,
        auto_release: 0,
        strict: 0,
        scope: std::ptr::null_mut(),
    };
}

/// A parameter of the route, or a value of synlock_template_name, for
/// placeholders. Lengths may be SYNLOCK_NTS. It stays as it is in every
/// version.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct synlock_placeholder {
    /// What stands between the braces.
    pub name: *const c_char,
    /// Its length.
    pub name_length: usize,
    /// What comes in its place.
    pub value: *const c_char,
    /// Its length.
    pub value_length: usize,
}

/// What a guard needs to know of a request. Set `struct_size`; what is NULL
/// is not known. Lengths may be SYNLOCK_NTS.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct synlock_guard_request {
    /// sizeof(synlock_guard_request).
    pub struct_size: usize,
    /// The handler or route.
    pub route: *const c_char,
    /// Its length.
    pub route_length: usize,
    /// The path of the URL as it was sent, without the query.
    pub path: *const c_char,
    /// Its length.
    pub path_length: usize,
    /// `param_count` parameters of the route.
    pub params: *const synlock_placeholder,
    /// How many there are, at most 1000.
    pub param_count: usize,
    /// The firewall or user provider, if there are several.
    pub provider: *const c_char,
    /// Its length.
    pub provider_length: usize,
    /// The user's identifier there.
    pub user_id: *const c_char,
    /// Its length.
    pub user_id_length: usize,
    /// The session's identifier.
    pub session: *const c_char,
    /// Its length.
    pub session_length: usize,
    /// The client's address.
    pub ip: *const c_char,
    /// Its length.
    pub ip_length: usize,
    /// The security token as PHP serialises it, for ixarlie's dialects.
    pub token: *const c_char,
    /// Its length.
    pub token_length: usize,
    /// A synlock_guard_user.
    pub user: i32,
    /// Must be 0.
    pub reserved: i32,
}

impl synlock_guard_request {
    const EMPTY: Self = synlock_guard_request {
        struct_size: size_of::<Self>(),
        route: std::ptr::null(),
        route_length: 0,
        path: std::ptr::null(),
        path_length: 0,
        params: std::ptr::null(),
        param_count: 0,
        provider: std::ptr::null(),
        provider_length: 0,
        user_id: std::ptr::null(),
        user_id_length: 0,
        session: std::ptr::null(),
        session_length: 0,
        ip: std::ptr::null(),
        ip_length: 0,
        token: std::ptr::null(),
        token_length: 0,
        user: 0,
        reserved: 0,
    };
}

/// What became of a request. Set `struct_size` before the call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct synlock_guard_answer {
    /// sizeof(synlock_guard_answer).
    pub struct_size: usize,
    /// 1 if the handler may run, 0 if the request is refused.
    pub admitted: i32,
    /// HTTP status of the refusal; 0 if admitted.
    pub status: i32,
    /// Refused: until the last holder's lease ends, ms; -1 if unknown. The
    /// header `Retry-After` has it in seconds, rounded up, at least 1.
    pub retry_after_ms: i64,
    /// How long the request waited, ms.
    pub waited_ms: i64,
    /// Fencing token of the hold; 0 if there is none.
    pub fencing_token: i64,
    /// The service's place in the order of `synlock_guard_add`.
    pub service: u32,
    /// How often the store was asked for the lock; refused: how many acquires
    /// came to nothing.
    pub attempts: u32,
    /// 1 if somebody else held the lock first.
    pub contended: i32,
    /// 1 if the previous owner died while it held the lock.
    pub recovered: i32,
}

#[derive(Debug)]
pub(crate) struct GuardObject {
    /// Replaced, not changed: a forked child waits for no thread that it does not have.
    guards: ArcSwap<Guards>,
    /// Thrown when the handle is freed while a call waits.
    pub(crate) freed: Cancel,
}

impl GuardObject {
    fn plan(&self, policy: &Policy, request: &Request<'_>) -> Result<Plan> {
        self.guards.load().plan(policy, request)
    }

    /// Replaces the stores by changed ones, unless that fails.
    fn change(&self, change: impl Fn(&mut Guards) -> Result<()>) -> Result<()> {
        let mut changed = Ok(());
        self.guards.rcu(|guards| {
            let mut next = Guards::clone(guards);
            changed = change(&mut next);
            if changed.is_ok() {
                Arc::new(next)
            } else {
                guards.clone()
            }
        });
        changed
    }
}

/// Makes a guard without stores. `dialect` says how names are made: NULL or
/// "native", "ixarlie" (ixarlie/mutex-bundle before 2.0) or "ixarlie2" (2.1).
/// The handle ends with `scope`, if that is not NULL.
///
/// # Safety
/// `dialect` is NULL or NUL-terminated; `guard` may be written; `error` is
/// NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_guard_new(
    dialect: *const c_char,
    scope: *mut synlock_scope,
    guard: *mut *mut synlock_guard,
    error: *mut *mut synlock_error,
) -> synlock_status {
    crate::guard::guard("synlock_guard_new", error, || {
        // SAFETY: promised by the caller.
        let (out, dialect) = unsafe { (Out::new(guard)?, optional(dialect, "dialect")?) };
        let dialect = dialect.map_or(Ok(Dialect::Native), Dialect::read)?;
        let made = || {
            Object::Guard(GuardObject {
                guards: ArcSwap::from_pointee(Guards::in_dialect(dialect)),
                freed: Cancel::new(),
            })
        };
        if scope.is_null() {
            return hand_out(out, made());
        }
        with_scope(number(scope), |scope| {
            let handle = handle::insert(made())?;
            scope.add(handle, Kind::Guard);
            out.set(std::ptr::without_provenance_mut(handle as usize));
            Ok(())
        })
    })
}

/// Adds a store under a short name, such as "default" or "redis.queued". The
/// first one is the default until `synlock_guard_set_default` says otherwise.
/// `can_wait` is a synlock_switch, by default on: off for a custom store that
/// cannot wait, on which SYNLOCK_GUARD_QUEUE is SYNLOCK_UNSUPPORTED. The store
/// may be freed afterwards.
///
/// # Safety
/// `name` is NUL-terminated; `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_guard_add(
    guard: *mut synlock_guard,
    name: *const c_char,
    store: *const synlock_store,
    can_wait: i32,
    error: *mut *mut synlock_error,
) -> synlock_status {
    crate::guard::guard("synlock_guard_add", error, || {
        // SAFETY: promised by the caller.
        let name = unsafe { utf8(name, "name") }?;
        let can_wait = switch(can_wait, "can_wait")?.unwrap_or(true);
        with_guard(number(guard), |guard| {
            let store = with_store(number(store), |store| Ok(store.clone()))?;
            guard.change(|guards| guards.add_with(name, store.clone(), can_wait).map(drop))
        })
    })
}

/// Says which store is meant when a policy names none; it may be added later.
///
/// # Safety
/// `name` is NUL-terminated; `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_guard_set_default(
    guard: *mut synlock_guard,
    name: *const c_char,
    error: *mut *mut synlock_error,
) -> synlock_status {
    crate::guard::guard("synlock_guard_set_default", error, || {
        // SAFETY: promised by the caller.
        let name = unsafe { utf8(name, "name") }?;
        with_guard(number(guard), |guard| {
            guard.change(|guards| {
                guards.set_default(name);
                Ok(())
            })
        })
    })
}

/// The place of a store in the order of adding, by its short name or a full
/// one ("synlock.redis.queued", "ixarlie_mutex.redis_factory.queued"); of the
/// default one if `name` is NULL.
///
/// # Safety
/// `name` is NULL or NUL-terminated; `service` may be written; `error` is NULL
/// or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_guard_find(
    guard: *const synlock_guard,
    name: *const c_char,
    service: *mut usize,
    error: *mut *mut synlock_error,
) -> synlock_status {
    crate::guard::guard("synlock_guard_find", error, || {
        // SAFETY: promised by the caller.
        let (out, name) = unsafe { (Out::new(service)?, optional(name, "name")?) };
        with_guard(number(guard), |guard| {
            out.set(guard.guards.load().find(name)?);
            Ok(())
        })
    })
}

/// The name of the lock that a request is about; asks no store. Fails as
/// `synlock_guard_enter` would before it asks one. For the buffer see
/// `synlock_store_url`; a name may contain any byte.
///
/// # Safety
/// As `synlock_guard_enter` and `synlock_store_url`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_guard_name(
    guard: *const synlock_guard,
    policy: *const synlock_guard_policy,
    request: *const synlock_guard_request,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut synlock_error,
) -> synlock_status {
    crate::guard::guard("synlock_guard_name", error, || {
        with_guard(number(guard), |guard| {
            // SAFETY: promised by the caller.
            unsafe {
                let (policy, _) = read_policy(policy)?;
                let plan = with_request(request, |request| guard.plan(&policy, request))?;
                copy_bytes(plan.name().as_bytes(), buffer, capacity, length)
            }
        })
    })
}

/// Applies a policy to a request: SYNLOCK_OK whenever there is an answer, also
/// a refusal; `answer` tells which.
///
/// `lock` gets the lock to release at the release point, NULL if the request
/// is refused or SYNLOCK_GUARD_CHECK acquired none. `holders`, unless NULL,
/// gets a list: of a refusal who held the lock, of SYNLOCK_GUARD_FORCE from
/// whom it was taken, otherwise empty. `cancel` (may be NULL) or freeing the
/// guard ends a wait with SYNLOCK_CANCELLED. A victim of SYNLOCK_GUARD_FORCE
/// that was let in by a guard finds its lock SYNLOCK_LOST with "broken by
/// label, pid, host" in the error, where the store keeps labels (of ZooKeeper's
/// dialects its own alone).
///
/// Fails with SYNLOCK_INVALID_ARGUMENT for a placeholder without a value, an
/// unknown service, user isolation without a user; SYNLOCK_UNSUPPORTED for a
/// mode that the store is not able to do.
///
/// # Safety
/// `policy`, `request` and `answer` have the sizes that they say, and what
/// they point to; `policy` may be NULL for the defaults, `request` for none;
/// `lock` may be written; `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_guard_enter(
    guard: *const synlock_guard,
    policy: *const synlock_guard_policy,
    request: *const synlock_guard_request,
    cancel: *mut synlock_cancel,
    lock: *mut *mut synlock_lock,
    holders: *mut *mut synlock_list,
    answer: *mut synlock_guard_answer,
    error: *mut *mut synlock_error,
) -> synlock_status {
    crate::guard::guard("synlock_guard_enter", error, || {
        // SAFETY: promised by the caller.
        let (lock, answer) = unsafe { (Out::new(lock)?, SizedOut::new(answer)?) };
        let list = match holders.is_null() {
            true => None,
            // SAFETY: promised by the caller.
            false => Some(unsafe { Out::new(holders) }?),
        };
        let given = match cancel.is_null() {
            true => None,
            false => Some(with_cancel(number(cancel), |cancel| Ok(cancel.0.clone()))?),
        };
        with_guard(number(guard), |guard| {
            // SAFETY: promised by the caller.
            let (policy, scope) = unsafe { read_policy(policy) }?;
            // SAFETY: promised by the caller.
            let plan = unsafe { with_request(request, |request| guard.plan(&policy, request)) }?;
            // Before anything is taken, or broken.
            if scope != 0 {
                handle::pin(scope, Kind::Scope)?;
            }
            let cancel = given.map_or_else(
                || guard.freed.clone(),
                |given| Cancel::either(&given, &guard.freed),
            );
            let entry = plan.enter(Some(&cancel))?;
            let told = answer_of(&plan, &entry);
            let found = Inspection {
                name: plan.name().as_bytes().to_vec(),
                holders: entry.holders().to_vec(),
                waiters: None,
            };
            // What cannot be handed out is given back, whatever the policy says.
            if let Some(held) = entry.lock() {
                held.set_auto_release(true);
            }
            let list = match list {
                Some(out) => Some((
                    out,
                    handle::insert(Object::List(ListObject::new(vec![found], None)))?,
                )),
                None => None,
            };
            let made = match entry.into_lock() {
                Some(held) => hand_out_held(lock, scope, held, policy.auto_release),
                None => {
                    lock.set(std::ptr::null_mut());
                    Ok(())
                }
            };
            if let (Err(_), Some((_, handle))) = (&made, &list) {
                let _ = handle::free(*handle, Kind::List);
            }
            made?;
            if let Some((out, handle)) = list {
                out.set(std::ptr::without_provenance_mut(handle as usize));
            }
            answer.set(&told);
            Ok(())
        })
    })
}

/// Hands out a lock; from then on it has its policy's `auto_release`.
fn hand_out_held(
    out: Out<*mut synlock_lock>,
    scope: u64,
    held: Lock,
    auto_release: bool,
) -> Result<()> {
    let mut made = std::ptr::null_mut();
    // SAFETY: a place of our own.
    make(unsafe { Out::new(&raw mut made) }?, scope, || Ok(held))?;
    with_lock(number(made), |lock| {
        lock.lock.set_auto_release(auto_release);
        Ok(())
    })?;
    out.set(made);
    Ok(())
}

fn answer_of(plan: &Plan, entry: &Entry) -> synlock_guard_answer {
    let acquired = entry.acquired();
    synlock_guard_answer {
        struct_size: 0,
        admitted: entry.is_admitted().into(),
        status: if entry.is_admitted() {
            0
        } else {
            plan.policy().status.into()
        },
        retry_after_ms: entry.retry_after().map_or(-1, millis),
        waited_ms: millis(entry.waited()),
        fencing_token: fence(acquired.and_then(|acquired| acquired.fence)),
        service: u32::try_from(plan.service()).unwrap_or(u32::MAX),
        attempts: entry.attempts(),
        contended: acquired
            .map_or(!entry.is_admitted(), |acquired| acquired.contended)
            .into(),
        recovered: acquired.is_some_and(|acquired| acquired.recovered).into(),
    }
}

/// Frees the guard and ends the waits of its requests; locks that it gave out
/// stay. NULL does nothing.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_guard_free(guard: *mut synlock_guard) {
    value("synlock_guard_free", (), || {
        handle::free(number(guard), Kind::Guard)
    });
}

fn duration(ms: i64, what: &str) -> Result<Option<Duration>> {
    match u64::try_from(ms) {
        Ok(0) => Ok(None),
        Ok(ms) => Ok(Some(Duration::from_millis(ms))),
        Err(_) => Err(Error::invalid(format!("{what} is negative"))),
    }
}

/// The core's policy from C's, and the scope.
///
/// # Safety
/// As `read_sized`; text is NULL or NUL-terminated, the name as it says.
unsafe fn read_policy(given: *const synlock_guard_policy) -> Result<(Policy, u64)> {
    // SAFETY: promised by the caller.
    unsafe {
        let given = read_sized(given, synlock_guard_policy::EMPTY)?;
        let mut policy = Policy::default();
        if !given.name.is_null() {
            policy.name = Some(bytes(given.name, given.name_length, "name")?.to_vec());
        }
        policy.service = optional(given.service, "service")?.map(str::to_owned);
        policy.label = optional(given.label, "label")?.map(str::to_owned);
        policy.ttl = duration(given.ttl_ms, "ttl_ms")?;
        policy.max_wait = duration(given.max_wait_ms, "max_wait_ms")?.unwrap_or(policy.max_wait);
        policy.mode = match given.mode {
            0 => GuardMode::Block,
            1 => GuardMode::Check,
            2 => GuardMode::Queue,
            3 => GuardMode::Force,
            _ => return Err(Error::invalid("mode is no synlock_guard_mode")),
        };
        policy.anonymous = match given.anonymous {
            0 => Anonymous::Refuse,
            1 => Anonymous::Share,
            2 => Anonymous::Session,
            3 => Anonymous::Ip,
            _ => return Err(Error::invalid("anonymous is no synlock_guard_anonymous")),
        };
        if given.status != 0 {
            let status = u16::try_from(given.status);
            policy.status = status.map_err(|_| Error::invalid("status is no HTTP status"))?;
        }
        policy.user_isolation = switch(given.user_isolation, "user_isolation")?.unwrap_or(false);
        policy.auto_release = switch(given.auto_release, "auto_release")?.unwrap_or(true);
        policy.strict = switch(given.strict, "strict")?.unwrap_or(false);
        Ok((policy, given.scope.addr() as u64))
    }
}

/// Bytes that may be left out.
///
/// # Safety
/// As `bytes`.
unsafe fn maybe<'a>(text: *const c_char, length: usize, what: &str) -> Result<Option<&'a [u8]>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: promised by the caller.
    unsafe { bytes(text, length, what) }.map(Some)
}

/// Names and values.
///
/// # Safety
/// `params` is NULL or has `count` items, each with the lengths that it says.
pub(crate) unsafe fn read_params<'a>(
    params: *const synlock_placeholder,
    count: usize,
) -> Result<Vec<(&'a [u8], &'a [u8])>> {
    if count > 1000 {
        return Err(Error::invalid("more than a thousand parameters"));
    }
    if count > 0 && params.is_null() {
        return Err(Error::new(
            synlock_core::Code::NullPointer,
            "the list of parameters is NULL",
        ));
    }
    (0..count)
        .map(|index| {
            // SAFETY: promised by the caller.
            unsafe {
                let param = params.add(index).read();
                Ok((
                    bytes(param.name, param.name_length, "a parameter's name")?,
                    bytes(param.value, param.value_length, "a parameter's value")?,
                ))
            }
        })
        .collect()
}

/// Hands the core's request, made from C's, to `run`.
///
/// # Safety
/// As `read_sized`; every field has the length that it says.
unsafe fn with_request<T>(
    given: *const synlock_guard_request,
    run: impl FnOnce(&Request<'_>) -> Result<T>,
) -> Result<T> {
    // SAFETY: promised by the caller.
    unsafe {
        let given = read_sized(given, synlock_guard_request::EMPTY)?;
        if given.reserved != 0 {
            return Err(Error::invalid("reserved is not 0"));
        }
        let params = read_params(given.params, given.param_count)?;
        let provider = maybe(given.provider, given.provider_length, "provider")?;
        let user = match given.user {
            0 => User::NoSource,
            1 => User::Anonymous,
            2 => User::Known {
                provider: provider.unwrap_or_default(),
                id: bytes(given.user_id, given.user_id_length, "user_id")?,
            },
            _ => return Err(Error::invalid("user is no synlock_guard_user")),
        };
        run(&Request {
            route: maybe(given.route, given.route_length, "route")?.unwrap_or_default(),
            path: maybe(given.path, given.path_length, "path")?.unwrap_or_default(),
            params: &params,
            user,
            session: maybe(given.session, given.session_length, "session")?,
            ip: maybe(given.ip, given.ip_length, "ip")?,
            token: maybe(given.token, given.token_length, "token")?,
        })
    }
}
