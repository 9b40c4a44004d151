/*
 * synlock: locks for processes, on one machine or on many. MIT OR Apache-2.0
 *
 * Made from ffi/src by `make header`; this file is the reference of the C ABI.
 *
 * HANDLES are opaque and checked: a stale, doubled or forged one is
 * SYNLOCK_INVALID_HANDLE, never undefined behaviour. Every handle is freed by
 * its own function, in any order; NULL is fine.
 *
 * CALLS return a synlock_status, or a plain value where they cannot fail.
 * Results are written through pointers, and only on success; but the room
 * that a text needs is written when its buffer is too small, too. The last
 * parameter, where there is one, may be NULL or get an error object, which the
 * caller frees; it is written only on failure.
 *
 * NAMES are bytes with a length (SYNLOCK_NTS if NUL-terminated). TIMES are
 * int64_t milliseconds. STRUCTS that the caller fills start with their size;
 * zero means default.
 *
 * THREADS: stores, sessions, cancel and dispatch handles may be used by several
 * threads at once; a lock or a set of locks by one at a time, though it may move: a
 * second call at the same moment gets SYNLOCK_CONCURRENT_USE. Freeing is legal from any thread.
 *
 * FORKS: in a child, stores work and make their own connections; a lock or a
 * session that was idle at the fork works as a new one; one that held or waited answers
 * SYNLOCK_FORKED_HANDLE to everything but its free, which sends nothing.
 *
 * SIGNALS: the library installs no handler and raises no SIGPIPE. Its threads
 * block all signals, and are started when they are needed: one for the stores
 * of this host and one for each store over a network, for watchdogs, dispatch
 * and unconfirmed releases, and those by which some stores wait.
 */


#ifndef SYNLOCK_H
#define SYNLOCK_H

#include <stddef.h>
#include <stdint.h>

#define SYNLOCK_VERSION_MAJOR 0
#define SYNLOCK_VERSION_MINOR 1
#define SYNLOCK_VERSION_PATCH 0
#define SYNLOCK_VERSION_NUMBER 1000
/* What synlock_abi_version() of a fitting library says. */
#define SYNLOCK_ABI_VERSION 0

/* As the length of a name: it is NUL-terminated. */
#define SYNLOCK_NTS ((size_t)-1)
/* As a timeout argument: try once, wait for ever, do as the options say. */
#define SYNLOCK_NO_WAIT ((int64_t)0)
#define SYNLOCK_FOREVER ((int64_t)-1)
#define SYNLOCK_USE_OPTION ((int64_t)-3)
/* As `timeout_ms` of the options: try once. */
#define SYNLOCK_OPT_TRY ((int64_t)-2)

#define SYNLOCK_LOCK_OPTIONS_INIT { sizeof(synlock_lock_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL }

/* "file:line" of where it stands, for `caller` of the options. */
#define SYNLOCK_TEXT_OF_(x) #x
#define SYNLOCK_TEXT_OF(x) SYNLOCK_TEXT_OF_(x)
#define SYNLOCK_HERE __FILE__ ":" SYNLOCK_TEXT_OF(__LINE__)

#if defined(__GNUC__) || defined(__clang__)
#define SYNLOCK_API __attribute__((visibility("default")))
#else
#define SYNLOCK_API
#endif


/**
 * What a call came to: 0 is success, 1-99 outcomes, 100-199 mistakes of the
 * caller, 200-299 trouble of the store, 900 and above bugs of synlock.
 * Numbers are never reused.
 */
enum synlock_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Success.
   */
  SYNLOCK_OK = 0,
  /**
   * Somebody else holds the lock.
   */
  SYNLOCK_BUSY = 1,
  /**
   * The lock was not free in time.
   */
  SYNLOCK_TIMEOUT = 2,
  /**
   * The lock was lost: it expired, was broken, or its store forgot it.
   */
  SYNLOCK_LOST = 3,
  /**
   * This handle does not hold the lock.
   */
  SYNLOCK_NOT_HELD = 4,
  /**
   * This handle holds the lock already.
   */
  SYNLOCK_ALREADY_HELD = 5,
  /**
   * The wait was cancelled.
   */
  SYNLOCK_CANCELLED = 6,
  /**
   * A signal or time slice gives the host a turn; call again within a
   * second to keep the place in the queue. Only with `interruptible`.
   */
  SYNLOCK_INTERRUPTED = 7,
  /**
   * A required pointer is NULL.
   */
  SYNLOCK_NULL_POINTER = 100,
  /**
   * An argument is out of its range.
   */
  SYNLOCK_INVALID_ARGUMENT = 101,
  /**
   * The store URL cannot be used.
   */
  SYNLOCK_INVALID_URL = 102,
  /**
   * No store has this URL scheme.
   */
  SYNLOCK_UNKNOWN_SCHEME = 103,
  /**
   * This build does not contain the store or option.
   */
  SYNLOCK_NOT_IN_BUILD = 104,
  /**
   * There is no option of this name.
   */
  SYNLOCK_UNKNOWN_OPTION = 105,
  /**
   * The store cannot do this.
   */
  SYNLOCK_UNSUPPORTED = 106,
  /**
   * The handle is stale, freed or forged.
   */
  SYNLOCK_INVALID_HANDLE = 107,
  /**
   * The lock belongs to the parent process; make a new handle in this one.
   */
  SYNLOCK_FORKED_HANDLE = 108,
  /**
   * Another call uses this lock handle at this moment.
   */
  SYNLOCK_CONCURRENT_USE = 109,
  /**
   * This process holds the lock already, and its policy forbids asking
   * again.
   */
  SYNLOCK_REENTERED = 110,
  /**
   * Waiting would never end: the holders wait for each other. Told where the
   * database notices it (advisory locks); elsewhere such waits last until
   * their timeout.
   */
  SYNLOCK_DEADLOCK = 111,
  /**
   * The store cannot be reached or cannot serve now.
   */
  SYNLOCK_UNAVAILABLE = 200,
  /**
   * The reply was lost: the store may or may not have acted.
   */
  SYNLOCK_UNCERTAIN = 201,
  /**
   * The store refuses this user.
   */
  SYNLOCK_PERMISSION = 202,
  /**
   * The store answered something that cannot be right.
   */
  SYNLOCK_PROTOCOL = 203,
  /**
   * A resource of the store or of this process is used up.
   */
  SYNLOCK_EXHAUSTED = 204,
  /**
   * The file system or kernel reported an error.
   */
  SYNLOCK_STORAGE = 205,
  /**
   * A bug in synlock was contained.
   */
  SYNLOCK_INTERNAL = 900,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum synlock_status synlock_status;
#else
typedef int32_t synlock_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a handle's claim has come to.
 */
enum synlock_state
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Nothing is held or asked for.
   */
  SYNLOCK_STATE_IDLE = 0,
  /**
   * An acquire is under way, or was interrupted and keeps its place.
   */
  SYNLOCK_STATE_ACQUIRING = 1,
  /**
   * Held, as far as this process can know.
   */
  SYNLOCK_STATE_HELD = 2,
  /**
   * The lease has run out by this process' clock.
   */
  SYNLOCK_STATE_EXPIRED = 3,
  /**
   * The store said that it is not held any more.
   */
  SYNLOCK_STATE_LOST = 4,
  /**
   * A release was sent and its reply was lost.
   */
  SYNLOCK_STATE_RELEASING = 5,
  /**
   * Held, asked for or uncertain in the parent of this process.
   */
  SYNLOCK_STATE_FORKED = 6,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum synlock_state synlock_state;
#else
typedef int32_t synlock_state;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * In which way a lock is held.
 */
enum synlock_mode
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * One holder; the default.
   */
  SYNLOCK_EXCLUSIVE = 0,
  /**
   * Any number of shared holders.
   */
  SYNLOCK_SHARED = 1,
  /**
   * `permits_take` of `permits_of` permits of a counting semaphore.
   */
  SYNLOCK_PERMITS = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum synlock_mode synlock_mode;
#else
typedef int32_t synlock_mode;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * A switch in an options struct; 0 is the default that the field names.
 */
enum synlock_switch
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * The default.
   */
  SYNLOCK_DEFAULT = 0,
  /**
   * On.
   */
  SYNLOCK_ON = 1,
  /**
   * Off.
   */
  SYNLOCK_OFF = -1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum synlock_switch synlock_switch;
#else
typedef int32_t synlock_switch;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What asking again for a name that this process holds means.
 */
enum synlock_reentry
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * The store's default, which is SYNLOCK_INDEPENDENT.
   */
  SYNLOCK_REENTRY_DEFAULT = 0,
  /**
   * Two handles are two owners.
   */
  SYNLOCK_INDEPENDENT = 1,
  /**
   * SYNLOCK_REENTERED.
   */
  SYNLOCK_REFUSE = 2,
  /**
   * The handles share the hold, whose lease is renewed. The first release ends the hold for all of them.
   * SYNLOCK_REENTERED for one that wants more than is held: exclusive of a shared hold, more permits.
   */
  SYNLOCK_EXTEND = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum synlock_reentry synlock_reentry;
#else
typedef int32_t synlock_reentry;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What to do.
 */
enum synlock_op
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * As `synlock_lock_acquire`; the argument is the timeout in ms.
   */
  SYNLOCK_OP_ACQUIRE = 1,
  /**
   * As `synlock_lock_release`.
   */
  SYNLOCK_OP_RELEASE = 2,
  /**
   * As `synlock_lock_refresh`; the argument is the TTL in ms.
   */
  SYNLOCK_OP_REFRESH = 3,
  /**
   * As `synlock_lock_promote`; the argument is the timeout in ms.
   */
  SYNLOCK_OP_PROMOTE = 4,
  /**
   * As `synlock_lock_demote`.
   */
  SYNLOCK_OP_DEMOTE = 5,
  /**
   * As `synlock_lock_ensure_held`.
   */
  SYNLOCK_OP_CHECK = 6,
  /**
   * As `synlock_lock_abandon`.
   */
  SYNLOCK_OP_ABANDON = 7,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum synlock_op synlock_op;
#else
typedef int32_t synlock_op;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What happened.
 */
enum synlock_event_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * A lock was acquired.
   */
  SYNLOCK_EVENT_ACQUIRED = 1,
  /**
   * An acquire found the lock taken and begins to wait.
   */
  SYNLOCK_EVENT_WAITING = 2,
  /**
   * An acquire ended without the lock.
   */
  SYNLOCK_EVENT_REFUSED = 3,
  /**
   * A lock was released by its holder.
   */
  SYNLOCK_EVENT_RELEASED = 4,
  /**
   * A lease was lengthened.
   */
  SYNLOCK_EVENT_REFRESHED = 5,
  /**
   * A held lock was lost.
   */
  SYNLOCK_EVENT_LOST = 6,
  /**
   * A handle was freed, or the process ended, while it held the lock.
   */
  SYNLOCK_EVENT_FORGOTTEN = 7,
  /**
   * A caution about the store or the way it is used.
   */
  SYNLOCK_EVENT_WARNING = 8,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum synlock_event_kind synlock_event_kind;
#else
typedef int32_t synlock_event_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What asking again for a key that this process holds means.
 */
enum synlock_repeat
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * SYNLOCK_REPEAT_ERROR.
   */
  SYNLOCK_REPEAT_DEFAULT = 0,
  /**
   * SYNLOCK_REENTERED.
   */
  SYNLOCK_REPEAT_ERROR = 1,
  /**
   * The lease is lengthened; one release ends the hold.
   */
  SYNLOCK_REPEAT_EXTEND = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum synlock_repeat synlock_repeat;
#else
typedef int32_t synlock_repeat;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a request does about the lock.
 */
enum synlock_guard_mode
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Acquires it; refused if somebody holds it. The default.
   */
  SYNLOCK_GUARD_BLOCK = 0,
  /**
   * Refused if somebody holds it; acquires nothing.
   */
  SYNLOCK_GUARD_CHECK = 1,
  /**
   * Acquires it, waiting for at most `max_wait_ms`.
   */
  SYNLOCK_GUARD_QUEUE = 2,
  /**
   * Takes it from whoever holds it.
   */
  SYNLOCK_GUARD_FORCE = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum synlock_guard_mode synlock_guard_mode;
#else
typedef int32_t synlock_guard_mode;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Whose lock it is, with user isolation, when nobody is logged in.
 */
enum synlock_guard_anonymous
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Nobody's: SYNLOCK_INVALID_ARGUMENT. The default.
   */
  SYNLOCK_ANONYMOUS_REFUSE = 0,
  /**
   * One lock of all anonymous requests.
   */
  SYNLOCK_ANONYMOUS_SHARE = 1,
  /**
   * One lock for each session.
   */
  SYNLOCK_ANONYMOUS_SESSION = 2,
  /**
   * One lock for each client address.
   */
  SYNLOCK_ANONYMOUS_IP = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum synlock_guard_anonymous synlock_guard_anonymous;
#else
typedef int32_t synlock_guard_anonymous;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Who asks.
 */
enum synlock_guard_user
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * The application has no notion of users: user isolation is an error.
   */
  SYNLOCK_USER_NO_SOURCE = 0,
  /**
   * It has, and this is nobody.
   */
  SYNLOCK_USER_ANONYMOUS = 1,
  /**
   * The one that `provider` and `user_id` name.
   */
  SYNLOCK_USER_KNOWN = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum synlock_guard_user synlock_guard_user;
#else
typedef int32_t synlock_guard_user;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * A switch that ends waits. Once thrown, it ends every wait that was given
 * it, now and later. Usable from any thread; not from a signal handler.
 */
typedef struct synlock_cancel synlock_cancel;

/**
 * A queue of operations under way and of their completions. Usable from any
 * thread. Belongs to the process that made it.
 */
typedef struct synlock_dispatch synlock_dispatch;

/**
 * What went wrong. Made by a call that was given a place for it and failed;
 * freed by the caller. Every function takes NULL.
 */
typedef struct synlock_error synlock_error;

/**
 * A queue of events with a descriptor to poll. Usable from one thread at a
 * time. The host is called back by synlock_events_each alone.
 */
typedef struct synlock_events synlock_events;

/**
 * Named stores that requests are guarded with. May be used by several
 * threads at once.
 */
typedef struct synlock_guard synlock_guard;

/**
 * Holders that `synlock_store_inspect` or `synlock_store_list` found. May be
 * read from several threads.
 */
typedef struct synlock_list synlock_list;

/**
 * A lock on one name in one store; reusable. May move between threads; used
 * by one at a time: a second call at the same moment is answered with
 * SYNLOCK_CONCURRENT_USE. Freeing it from another thread ends its wait.
 */
typedef struct synlock_lock synlock_lock;

/**
 * Locks by typed keys with one set of retry settings, as Avtonom's semaphore
 * bundle has them. Usable from several threads. Freeing it releases what it
 * holds, and tells its events.
 */
typedef struct synlock_manager synlock_manager;

/**
 * Handles that are released and freed together.
 */
typedef struct synlock_scope synlock_scope;

/**
 * One owner of any number of exclusive locks, known by its id: Drupal's
 * model. They end with it: released together, when it is freed, and by
 * `synlock_process_end`. Usable from any thread; threads that share a session
 * share its locks.
 */
typedef struct synlock_session synlock_session;

/**
 * Locks that are taken together, all or none, on any stores and in any
 * modes. No two sets can wait for one another, whatever the order of their
 * locks: a set that waits holds only locks that come before in an order that
 * all sets share. On one Redis server taking free locks is one round trip,
 * giving them back another. Leases are renewed while the set waits.
 *
 * The locks stay what they are: each has its own fencing token, state and
 * lease, and can be refreshed. May move between threads; used by one at a
 * time: a second call at the same moment, also on one of its locks, is
 * answered with SYNLOCK_CONCURRENT_USE.
 */
typedef struct synlock_set synlock_set;

/**
 * Where locks are kept. Usable from any thread at once, and in a forked
 * child. Counted inside: locks keep their store, in whatever order handles
 * are freed.
 */
typedef struct synlock_store synlock_store;

/**
 * Options of a lock. Set `struct_size` (or use SYNLOCK_LOCK_OPTIONS_INIT or
 * `synlock_lock_options_init`); zero means default for every other field.
 * Defaults come from the store's URL, then from the library.
 */
typedef struct {
  /**
   * sizeof(synlock_lock_options).
   */
  size_t struct_size;
  /**
   * Lease in ms, 1 to ten years; 0: held until released or the owner dies
   * (a renewed 30 s lease on stores that do not see that). Narrower on some
   * stores (SYNLOCK_INVALID_ARGUMENT): memcached 1 s to 30 days, etcd from
   * 1 s, a quorum up to its `max_ttl` (60 s), Symfony's and Laravel's tables
   * from 1 s.
   */
  int64_t ttl_ms;
  /**
   * How long `synlock_lock_acquire` waits with SYNLOCK_USE_OPTION: ms,
   * SYNLOCK_OPT_TRY (-2), SYNLOCK_FOREVER (-1); 0: for ever.
   */
  int64_t timeout_ms;
  /**
   * A synlock_mode.
   */
  int32_t mode;
  /**
   * Permits to take at once; 0 means 1.
   */
  uint32_t permits_take;
  /**
   * Permits that there are; needed with SYNLOCK_PERMITS.
   */
  uint32_t permits_of;
  /**
   * Keep the lease alive until release; a synlock_switch, by default only
   * if `ttl_ms` is 0.
   */
  int32_t renew;
  /**
   * Release when the handle is freed; a synlock_switch, by default on.
   */
  int32_t auto_release;
  /**
   * First come, first served; a synlock_switch, by default on.
   */
  int32_t fair;
  /**
   * Refuse whatever the store cannot promise; a synlock_switch.
   */
  int32_t strict;
  /**
   * A synlock_reentry.
   */
  int32_t reentry;
  /**
   * Come back with SYNLOCK_INTERRUPTED on a signal and every 200 ms; a
   * synlock_switch, by default off.
   */
  int32_t interruptible;
  /**
   * Must be 0.
   */
  int32_t reserved;
  /**
   * Words for whoever inspects the lock, at most 255 bytes; or NULL.
   */
  const char *label;
  /**
   * Scope that the handle ends with; or NULL.
   */
  synlock_scope *scope;
  /**
   * Where the program makes the lock, for its events: SYNLOCK_HERE; or
   * NULL.
   */
  const char *caller;
} synlock_lock_options;

/**
 * What a store can do; 1 is yes. Set `struct_size` before the call.
 */
typedef struct {
  /**
   * sizeof(synlock_capabilities).
   */
  size_t struct_size;
  /**
   * Name of the store, a static string.
   */
  const char *store;
  /**
   * "none", "E", "H" or "D": how far fencing tokens can be trusted to grow.
   */
  const char *fence;
  /**
   * "process", "host" or "cluster".
   */
  const char *scope;
  /**
   * Whose clock ends leases: "none", "process", "host" or "server".
   */
  const char *clock;
  /**
   * Shared locks.
   */
  int32_t shared;
  /**
   * A sole reader can become the writer.
   */
  int32_t promote;
  /**
   * Counting semaphores.
   */
  int32_t permits;
  /**
   * Leases in the store.
   */
  int32_t ttl;
  /**
   * A hold ends with its owner's process.
   */
  int32_t frees_on_death;
  /**
   * Waiters are woken.
   */
  int32_t wakes;
  /**
   * First come, first served.
   */
  int32_t fair;
  /**
   * Holds can be exported.
   */
  int32_t can_export;
  /**
   * List; where this is 0, inspect may work all the same.
   */
  int32_t list;
  /**
   * Break.
   */
  int32_t break_lock;
  /**
   * Holds survive a restart of the server.
   */
  int32_t survives_restart;
  /**
   * 0.
   */
  int32_t reserved;
} synlock_capabilities;

/**
 * How an acquire went. Set `struct_size` before the call.
 */
typedef struct {
  /**
   * sizeof(synlock_acquired).
   */
  size_t struct_size;
  /**
   * Time from the call to the grant, ms.
   */
  int64_t waited_ms;
  /**
   * Fencing token, 0 if the store gives none.
   */
  int64_t fencing_token;
  /**
   * 1 if somebody else held the lock first.
   */
  int32_t contended;
  /**
   * 1 if the previous owner died while it held the lock.
   */
  int32_t recovered;
  /**
   * How often the store was asked.
   */
  uint32_t attempts;
  /**
   * 1 if this process held the lock already and its lease was lengthened:
   * whoever gives it back ends that hold.
   */
  int32_t extended;
} synlock_acquired;

/**
 * One holder of one lock. Set `struct_size` before the call. Text lives as
 * long as the list.
 */
typedef struct {
  /**
   * sizeof(synlock_holder).
   */
  size_t struct_size;
  /**
   * The lock's name: `name_length` bytes, not NUL-terminated.
   */
  const char *name;
  /**
   * Its length.
   */
  size_t name_length;
  /**
   * First 8 digits of the owner token.
   */
  const char *owner;
  /**
   * "exclusive", "shared" or "permits".
   */
  const char *mode;
  /**
   * Host, or NULL if unknown.
   */
  const char *host;
  /**
   * Label, or NULL.
   */
  const char *label;
  /**
   * Time left of the lease, ms; -1 without a lease.
   */
  int64_t remaining_ms;
  /**
   * For how long it has been held, ms; -1 if unknown.
   */
  int64_t held_ms;
  /**
   * Fencing token, 0 if there is none.
   */
  int64_t fencing_token;
  /**
   * How many wait for the lock; -1 if unknown.
   */
  int64_t waiters;
  /**
   * Permits held.
   */
  uint32_t permits;
  /**
   * Process, 0 if unknown.
   */
  uint32_t pid;
} synlock_holder;

/**
 * A finished operation.
 */
typedef struct {
  /**
   * What `synlock_dispatch_submit` wrote.
   */
  uint64_t ticket;
  /**
   * What the caller gave to `synlock_dispatch_submit`.
   */
  uint64_t user;
  /**
   * How an acquire waited, ms; otherwise 0.
   */
  int64_t waited_ms;
  /**
   * Fencing token of an acquire, 0 if there is none.
   */
  int64_t fencing_token;
  /**
   * What went wrong, to be freed by the caller; NULL after success.
   */
  synlock_error *error;
  /**
   * A synlock_status.
   */
  int32_t status;
  /**
   * 1 if an acquire had to wait.
   */
  int32_t contended;
  /**
   * How often an acquire asked the store.
   */
  uint32_t attempts;
  /**
   * 0.
   */
  uint32_t reserved;
} synlock_completion;

/**
 * One event. Set `struct_size` before the call. Text lives until the next
 * call of `synlock_events_next` or `synlock_events_free`.
 */
typedef struct {
  /**
   * sizeof(synlock_event).
   */
  size_t struct_size;
  /**
   * A synlock_event_kind.
   */
  int32_t kind;
  /**
   * The synlock_status that goes with it.
   */
  int32_t status;
  /**
   * "debug", "info", "notice", "warning" or "error".
   */
  const char *level;
  /**
   * The store's URL without credentials.
   */
  const char *store;
  /**
   * The lock's name: `name_length` bytes, not NUL-terminated.
   */
  const char *name;
  /**
   * Its length.
   */
  size_t name_length;
  /**
   * First 8 digits of the owner token.
   */
  const char *owner;
  /**
   * Label of the lock, or NULL.
   */
  const char *label;
  /**
   * Words for people.
   */
  const char *message;
  /**
   * How long the acquire waited, ms.
   */
  int64_t waited_ms;
  /**
   * How long the lock was held, ms.
   */
  int64_t held_ms;
  /**
   * How often the store was asked.
   */
  uint32_t attempts;
  /**
   * The process.
   */
  uint32_t pid;
  /**
   * `caller` of the lock's options, or NULL.
   */
  const char *caller;
  /**
   * The typed key that a manager made the name from, as JSON; or NULL.
   */
  const char *key;
  /**
   * What was being done: "acquire", "release", "refresh", "hold" or "end".
   */
  const char *operation;
  /**
   * All of it as one line for a log.
   */
  const char *line;
} synlock_event;

/**
 * What synlock_events_each calls: with its own `user`, and an event whose text
 * lives until the callback returns.
 */
typedef void (*synlock_event_callback)(void *user, const synlock_event *event);

/**
 * Called when a custom store is not used any more.
 */
typedef void (*synlock_destroy)(void *user);

/**
 * What a custom store is asked about. Text lives until the callback returns.
 */
typedef struct {
  /**
   * sizeof(synlock_ask) of the library: later ones may have more fields.
   */
  size_t struct_size;
  /**
   * The lock's name, of `list` the beginning of names: `name_length`
   * bytes, not NUL-terminated.
   */
  const char *name;
  /**
   * Its length.
   */
  size_t name_length;
  /**
   * The owner: 32 hexadecimal digits, never used for two holds. Whoever
   * knows them may release the lock. Empty where nobody's hold is meant.
   */
  const char *owner;
  /**
   * Words for whoever inspects the lock, or NULL.
   */
  const char *label;
  /**
   * How long the hold lasts without being lengthened, ms; 0 without a
   * lease.
   */
  int64_t ttl_ms;
  /**
   * How long the answer may take, ms; -1 leaves it to the store.
   */
  int64_t time_ms;
  /**
   * A synlock_mode; of `change_mode` the new one.
   */
  int32_t mode;
  /**
   * Permits to take, of
   */
  uint32_t permits_take;
  /**
   * so many; both 0 unless the mode is SYNLOCK_PERMITS.
   */
  uint32_t permits_of;
  /**
   * 1 if the caller will ask again should the lock be taken.
   */
  int32_t waits;
} synlock_ask;

/**
 * What a custom store answers besides the status that it returns. Filled
 * with what zero, NULL and -1 say below before the callback is called.
 */
typedef struct {
  /**
   * sizeof(synlock_reply) of the library.
   */
  size_t struct_size;
  /**
   * Of a grant: its fencing token, 0 for none.
   */
  int64_t fencing_token;
  /**
   * Of SYNLOCK_BUSY: when the holder's lease can end, ms; -1 if unknown.
   */
  int64_t until_ms;
  /**
   * Of SYNLOCK_BUSY: when to ask again, ms; -1 for the library's 50.
   */
  int64_t poll_ms;
  /**
   * Of a grant: 1 if the owner before died inside.
   */
  int32_t recovered;
  /**
   * 0.
   */
  int32_t reserved;
  /**
   * Where to write why it failed: NUL-terminated UTF-8 of at most
   * `words_size` bytes.
   */
  char *words;
  /**
   * Room in `words`.
   */
  size_t words_size;
  /**
   * The library's; see `synlock_reply_add`.
   */
  void *rows;
} synlock_reply;

/**
 * Answers one question to a custom store: returns a synlock_status. Those
 * from 100 on are errors; SYNLOCK_UNAVAILABLE says that surely nothing was
 * done, SYNLOCK_UNCERTAIN that it may have been, and the hold is released
 * by the next call. It must not throw, nor use the lock it is asked about.
 */
typedef int32_t (*synlock_callback)(void *user,
                                    const synlock_ask *ask,
                                    synlock_reply *reply);

/**
 * A store of one's own. Set `struct_size`; what is NULL or 0 the store
 * cannot do. Callbacks are called by threads that call the library and by no
 * other, several at once unless the program sees to it; in a forked child
 * too, but for `destroy`.
 */
typedef struct {
  /**
   * sizeof(synlock_callbacks).
   */
  size_t struct_size;
  /**
   * The first argument of every callback.
   */
  void *user;
  /**
   * Called once, when the last handle of the store and its locks is gone.
   */
  synlock_destroy destroy;
  /**
   * May this owner hold the lock now: SYNLOCK_OK or SYNLOCK_BUSY, in one
   * step. Asked again by an owner that holds it, it is a grant. Needed.
   */
  synlock_callback attempt;
  /**
   * End the owner's hold: SYNLOCK_OK, or SYNLOCK_LOST if it has none.
   * Needed.
   */
  synlock_callback release;
  /**
   * Does the owner hold the lock: SYNLOCK_OK or SYNLOCK_LOST. Needed.
   */
  synlock_callback is_held;
  /**
   * Lengthen the owner's hold to `ttl_ms` from now, never shorten it:
   * SYNLOCK_OK or SYNLOCK_LOST. Needed for leases.
   */
  synlock_callback extend;
  /**
   * Turn the owner's hold into one of the mode: SYNLOCK_OK, SYNLOCK_BUSY or
   * SYNLOCK_LOST.
   */
  synlock_callback change_mode;
  /**
   * Tell of each holder by `synlock_reply_add`: SYNLOCK_OK.
   */
  synlock_callback inspect;
  /**
   * Tell of every holder of the names that begin so: SYNLOCK_OK.
   */
  synlock_callback list;
  /**
   * Take the lock from whoever holds it: SYNLOCK_OK, or SYNLOCK_NOT_HELD.
   */
  synlock_callback break_lock;
  /**
   * Can the store serve: SYNLOCK_OK.
   */
  synlock_callback ping;
  /**
   * How far fencing tokens can be trusted to grow: "E", "H", "D"; NULL for
   * none. See synlock_capabilities.
   */
  const char *fence;
  /**
   * "process", "host" or "cluster"; NULL is "process".
   */
  const char *scope;
  /**
   * 1: shared locks.
   */
  int32_t shared;
  /**
   * 1: counting semaphores.
   */
  int32_t permits;
  /**
   * 1: a hold ends with its owner's process. Needed without `extend`.
   */
  int32_t frees_on_death;
  /**
   * 1: holds survive a restart of what keeps them.
   */
  int32_t survives_restart;
} synlock_callbacks;

/**
 * Settings of a manager. Set `struct_size`; zero means default for every
 * other field.
 */
typedef struct {
  /**
   * sizeof(synlock_manager_options).
   */
  size_t struct_size;
  /**
   * How long one try lasts, ms; 0: 500; SYNLOCK_OPT_TRY (-2): an acquire
   * does not wait.
   */
  int64_t sleep_ms;
  /**
   * By how much a try may last longer, at random, ms.
   */
  int64_t jitter_ms;
  /**
   * Lease of a lock that is acquired without one, ms; 0: 60000. Where the
   * store has no leases, a lock is held until released or its owner dies.
   */
  int64_t ttl_ms;
  /**
   * How often to try; 0: 240. An acquire waits for `tries` times
   * `sleep_ms`, and is woken.
   */
  uint32_t tries;
  /**
   * A synlock_repeat.
   */
  int32_t repeat;
  /**
   * Grant everything, write nothing, tell all; a synlock_switch.
   */
  int32_t demo;
  /**
   * As of synlock_lock_options.
   */
  int32_t interruptible;
  /**
   * What names begin with, NUL-terminated; NULL: "lock_".
   */
  const char *prefix;
  /**
   * Scope that the handle ends with; or NULL.
   */
  synlock_scope *scope;
} synlock_manager_options;

/**
 * A parameter of the route, or a value of synlock_template_name, for
 * placeholders. Lengths may be SYNLOCK_NTS. It stays as it is in every
 * version.
 */
typedef struct {
  /**
   * What stands between the braces.
   */
  const char *name;
  /**
   * Its length.
   */
  size_t name_length;
  /**
   * What comes in its place.
   */
  const char *value;
  /**
   * Its length.
   */
  size_t value_length;
} synlock_placeholder;

/**
 * Options of a session. Set `struct_size`; zero means default for the rest.
 */
typedef struct {
  /**
   * sizeof(synlock_session_options).
   */
  size_t struct_size;
  /**
   * NULL: the session draws an id. Otherwise it is the persistent session
   * of this id, 1 to 255 printable characters of ASCII, whose locks outlive
   * it and the process until their leases end.
   */
  const char *id;
  /**
   * Scope that the handle ends with; or NULL.
   */
  synlock_scope *scope;
} synlock_session_options;

/**
 * How requests are guarded. Set `struct_size`; zero means default for every
 * other field. Text is NULL or NUL-terminated UTF-8.
 */
typedef struct {
  /**
   * sizeof(synlock_guard_policy).
   */
  size_t struct_size;
  /**
   * Template of the lock's name, such as "order_{id}": `name_length` bytes
   * or, with SYNLOCK_NTS, NUL-terminated. NULL: made from route and path.
   */
  const char *name;
  /**
   * Its length.
   */
  size_t name_length;
  /**
   * Which of the stores; NULL: the default one.
   */
  const char *service;
  /**
   * Words for whoever inspects the lock, at most 255 bytes; NULL: route
   * and path.
   */
  const char *label;
  /**
   * Lease in ms; 0: held until released or the owner dies. On a store
   * without leases any other means the same, unless `strict`.
   */
  int64_t ttl_ms;
  /**
   * How long SYNLOCK_GUARD_QUEUE waits and SYNLOCK_GUARD_FORCE tries at
   * most, ms; 0: 30 s.
   */
  int64_t max_wait_ms;
  /**
   * A synlock_guard_mode.
   */
  int32_t mode;
  /**
   * HTTP status of a refusal, 400 to 599; 0: 423.
   */
  int32_t status;
  /**
   * Each user has a lock of their own; a synlock_switch, by default off.
   */
  int32_t user_isolation;
  /**
   * A synlock_guard_anonymous.
   */
  int32_t anonymous;
  /**
   * Release when the handle is freed; a synlock_switch, by default on.
   */
  int32_t auto_release;
  /**
   * Refuse what the store cannot promise; a synlock_switch.
   */
  int32_t strict;
  /**
   * Scope that the lock's handle ends with; or NULL.
   */
  synlock_scope *scope;
} synlock_guard_policy;

/**
 * What a guard needs to know of a request. Set `struct_size`; what is NULL
 * is not known. Lengths may be SYNLOCK_NTS.
 */
typedef struct {
  /**
   * sizeof(synlock_guard_request).
   */
  size_t struct_size;
  /**
   * The handler or route.
   */
  const char *route;
  /**
   * Its length.
   */
  size_t route_length;
  /**
   * The path of the URL as it was sent, without the query.
   */
  const char *path;
  /**
   * Its length.
   */
  size_t path_length;
  /**
   * `param_count` parameters of the route.
   */
  const synlock_placeholder *params;
  /**
   * How many there are, at most 1000.
   */
  size_t param_count;
  /**
   * The firewall or user provider, if there are several.
   */
  const char *provider;
  /**
   * Its length.
   */
  size_t provider_length;
  /**
   * The user's identifier there.
   */
  const char *user_id;
  /**
   * Its length.
   */
  size_t user_id_length;
  /**
   * The session's identifier.
   */
  const char *session;
  /**
   * Its length.
   */
  size_t session_length;
  /**
   * The client's address.
   */
  const char *ip;
  /**
   * Its length.
   */
  size_t ip_length;
  /**
   * The security token as PHP serialises it, for ixarlie's dialects.
   */
  const char *token;
  /**
   * Its length.
   */
  size_t token_length;
  /**
   * A synlock_guard_user.
   */
  int32_t user;
  /**
   * Must be 0.
   */
  int32_t reserved;
} synlock_guard_request;

/**
 * What became of a request. Set `struct_size` before the call.
 */
typedef struct {
  /**
   * sizeof(synlock_guard_answer).
   */
  size_t struct_size;
  /**
   * 1 if the handler may run, 0 if the request is refused.
   */
  int32_t admitted;
  /**
   * HTTP status of the refusal; 0 if admitted.
   */
  int32_t status;
  /**
   * Refused: until the last holder's lease ends, ms; -1 if unknown. The
   * header `Retry-After` has it in seconds, rounded up, at least 1.
   */
  int64_t retry_after_ms;
  /**
   * How long the request waited, ms.
   */
  int64_t waited_ms;
  /**
   * Fencing token of the hold; 0 if there is none.
   */
  int64_t fencing_token;
  /**
   * The service's place in the order of `synlock_guard_add`.
   */
  uint32_t service;
  /**
   * How often the store was asked for the lock; refused: how many acquires
   * came to nothing.
   */
  uint32_t attempts;
  /**
   * 1 if somebody else held the lock first.
   */
  int32_t contended;
  /**
   * 1 if the previous owner died while it held the lock.
   */
  int32_t recovered;
} synlock_guard_answer;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The status that the call returned; SYNLOCK_OK for NULL.
 */
SYNLOCK_API synlock_status synlock_error_code(const synlock_error *error);

/**
 * Name of the status, such as "TIMEOUT"; a static string.
 */
SYNLOCK_API const char *synlock_error_name(const synlock_error *error);

/**
 * One line for people, with operation, resource and store; UTF-8. Lives as
 * long as the error object. Never contains credentials.
 */
SYNLOCK_API const char *synlock_error_message(const synlock_error *error);

/**
 * The store's URL without credentials, or NULL. Lives as long as the error.
 */
SYNLOCK_API const char *synlock_error_store(const synlock_error *error);

/**
 * The resource's name made printable, or NULL. Lives as long as the error.
 */
SYNLOCK_API const char *synlock_error_resource(const synlock_error *error);

/**
 * The operation that failed, or NULL. Lives as long as the error.
 */
SYNLOCK_API const char *synlock_error_operation(const synlock_error *error);

/**
 * 1 if the same call may succeed later, else 0.
 */
SYNLOCK_API int32_t synlock_error_is_retriable(const synlock_error *error);

/**
 * Frees the error. NULL, and a handle that was freed before, do nothing.
 */
SYNLOCK_API void synlock_error_free(synlock_error *error);

/**
 * Sets every field to its default and `struct_size` to the size that the
 * caller was compiled with, `size`.
 */
SYNLOCK_API
void synlock_lock_options_init(synlock_lock_options *options,
                               size_t size);

/**
 * Opens a store; connects to nothing. An empty URL stands for the variable
 * SYNLOCK_URL. `keys` and `values` are `n` options that win over those of
 * the URL; both NULL if there are none.
 *
 * Fails with SYNLOCK_INVALID_URL, SYNLOCK_UNKNOWN_SCHEME (the message names
 * the known ones), SYNLOCK_NOT_IN_BUILD, SYNLOCK_UNKNOWN_OPTION,
 * SYNLOCK_INVALID_ARGUMENT.
 */
SYNLOCK_API
synlock_status synlock_store_open(const char *url,
                                  const char *const *keys,
                                  const char *const *values,
                                  size_t n,
                                  synlock_store **store,
                                  synlock_error **error);

/**
 * Frees the handle; its locks live on. NULL does nothing.
 */
SYNLOCK_API void synlock_store_free(synlock_store *store);

/**
 * Connects now, within `timeout_ms` (SYNLOCK_FOREVER: the store's own
 * limit), and says whether the store can serve.
 */
SYNLOCK_API
synlock_status synlock_store_ping(const synlock_store *store,
                                  int64_t timeout_ms,
                                  synlock_error **error);

/**
 * Copies the store's URL without credentials and its NUL into `buffer`;
 * `length` gets its length. A NULL buffer asks for the length alone.
 */
SYNLOCK_API
synlock_status synlock_store_url(const synlock_store *store,
                                 char *buffer,
                                 size_t capacity,
                                 size_t *length,
                                 synlock_error **error);

/**
 * Copies text that is equal in every process and language that shares the
 * same locks; as `synlock_store_url`.
 */
SYNLOCK_API
synlock_status synlock_store_fingerprint(const synlock_store *store,
                                         char *buffer,
                                         size_t capacity,
                                         size_t *length,
                                         synlock_error **error);

/**
 * Tells what the store can do.
 */
SYNLOCK_API
synlock_status synlock_store_capabilities(const synlock_store *store,
                                          synlock_capabilities *capabilities,
                                          synlock_error **error);

/**
 * Whether anybody holds the lock: writes 1 or 0.
 */
SYNLOCK_API
synlock_status synlock_store_is_locked(const synlock_store *store,
                                       const char *name,
                                       size_t length,
                                       int32_t *held,
                                       synlock_error **error);

/**
 * Takes the lock from whoever holds it: `broken` (may be NULL) gets 1, or 0
 * if nobody did. The victim's next check is SYNLOCK_LOST.
 */
SYNLOCK_API
synlock_status synlock_store_break(const synlock_store *store,
                                   const char *name,
                                   size_t length,
                                   int32_t *broken,
                                   synlock_error **error);

/**
 * Looks for what dead users left in the store and nobody has cleared away
 * yet, and for damage; changes nothing. `findings` gets how many there are,
 * 0 if the store is sound; `buffer`, unless NULL, the first of them in words,
 * a line each, as `synlock_store_url` does: 8192 bytes are enough. The next
 * users of a store clear away what the dead left.
 *
 * SYNLOCK_UNSUPPORTED where the store has no check: only `shm:` has one.
 */
SYNLOCK_API
synlock_status synlock_store_check(const synlock_store *store,
                                   uint64_t *findings,
                                   char *buffer,
                                   size_t capacity,
                                   size_t *length,
                                   synlock_error **error);

/**
 * Makes the table that a store keeps its locks in, if it is not there. Who may
 * make tables can do this beforehand; otherwise it happens when the table is
 * found to be missing.
 *
 * SYNLOCK_UNSUPPORTED where the store keeps its locks in no table.
 */
SYNLOCK_API
synlock_status synlock_store_create_table(const synlock_store *store,
                                          int64_t timeout_ms,
                                          synlock_error **error);

/**
 * Copies the SQL that makes that table, as `synlock_store_url` does: on the
 * store's own engine, or on `engine` ("sqlite", "postgres", "mysql") if it is
 * not NULL. Asks no server.
 *
 * SYNLOCK_UNSUPPORTED where the store keeps its locks in no table.
 */
SYNLOCK_API
synlock_status synlock_store_ddl(const synlock_store *store,
                                 const char *engine,
                                 char *buffer,
                                 size_t capacity,
                                 size_t *length,
                                 synlock_error **error);

/**
 * Waits until nobody holds the lock, without taking it: SYNLOCK_OK, or
 * SYNLOCK_TIMEOUT after `timeout_ms`.
 */
SYNLOCK_API
synlock_status synlock_store_wait_free(const synlock_store *store,
                                       const char *name,
                                       size_t length,
                                       int64_t timeout_ms,
                                       synlock_error **error);

/**
 * Copies the URL schemes that this build can open, separated by spaces; as
 * `synlock_store_url`.
 */
SYNLOCK_API
synlock_status synlock_store_schemes(char *buffer,
                                     size_t capacity,
                                     size_t *length,
                                     synlock_error **error);

/**
 * Makes a lock handle; asks the store nothing. `options` is NULL for the
 * store's defaults. `length` is SYNLOCK_NTS if `name` is NUL-terminated; a
 * name has 1 to 65536 bytes of any value.
 *
 * Fails with SYNLOCK_INVALID_ARGUMENT, or SYNLOCK_UNSUPPORTED for what the
 * store cannot promise.
 */
SYNLOCK_API
synlock_status synlock_lock_new(const synlock_store *store,
                                const char *name,
                                size_t length,
                                const synlock_lock_options *options,
                                synlock_lock **lock,
                                synlock_error **error);

/**
 * Takes over a hold that another process exported as `text`; one of several
 * adopters wins, the others get SYNLOCK_LOST.
 */
SYNLOCK_API
synlock_status synlock_store_adopt(const synlock_store *store,
                                   const char *text,
                                   const synlock_lock_options *options,
                                   synlock_lock **lock,
                                   synlock_error **error);

/**
 * Acquires the lock, waiting at most `timeout_ms`: SYNLOCK_NO_WAIT tries,
 * SYNLOCK_FOREVER waits for ever, SYNLOCK_USE_OPTION as the options say.
 *
 * SYNLOCK_OK; SYNLOCK_BUSY when it only tried; SYNLOCK_TIMEOUT;
 * SYNLOCK_ALREADY_HELD; SYNLOCK_CANCELLED if the handle was freed meanwhile;
 * SYNLOCK_INTERRUPTED with `interruptible`: call again with the time left.
 */
SYNLOCK_API
synlock_status synlock_lock_acquire(synlock_lock *lock,
                                    int64_t timeout_ms,
                                    synlock_error **error);

/**
 * As `synlock_lock_acquire`; `cancel` (may be NULL) ends the wait with
 * SYNLOCK_CANCELLED, `acquired` (may be NULL) tells how it went.
 */
SYNLOCK_API
synlock_status synlock_lock_acquire_with(synlock_lock *lock,
                                         int64_t timeout_ms,
                                         synlock_cancel *cancel,
                                         synlock_acquired *acquired,
                                         synlock_error **error);

/**
 * Takes back the last acquire, for a caller who will not hear how it ended:
 * gives up the place in the queue that an interrupted one kept, and releases
 * what one was granted. What was held before, by this handle or (with
 * SYNLOCK_EXTEND) by another, stays held.
 */
SYNLOCK_API
synlock_status synlock_lock_abandon(synlock_lock *lock,
                                    synlock_error **error);

/**
 * Releases the lock. SYNLOCK_OK; SYNLOCK_NOT_HELD; SYNLOCK_LOST if it was
 * not this owner's any more; SYNLOCK_UNCERTAIN if the reply was lost: the
 * release goes on in the background.
 */
SYNLOCK_API
synlock_status synlock_lock_release(synlock_lock *lock,
                                    synlock_error **error);

/**
 * Whether the last release of this handle that was SYNLOCK_OK came after the
 * lease had run out, though nobody had taken the lock: 1 or 0; -1 for a bad
 * handle.
 */
SYNLOCK_API int32_t synlock_lock_was_late(const synlock_lock *lock);

/**
 * Lengthens the lease to `ttl_ms` from now, or (0) to the lock's own; never
 * shortens it. On a store without leases 0 only checks that the lock is held,
 * and a TTL is SYNLOCK_UNSUPPORTED.
 */
SYNLOCK_API
synlock_status synlock_lock_refresh(synlock_lock *lock,
                                    int64_t ttl_ms,
                                    synlock_error **error);

/**
 * Turns a shared hold into the exclusive one. SYNLOCK_BUSY or
 * SYNLOCK_TIMEOUT while others read: the shared hold stays. Of two that
 * promote and wait without a bound neither gets it: give a timeout, and
 * release when it is refused. SYNLOCK_CANCELLED if the handle is freed
 * meanwhile.
 */
SYNLOCK_API
synlock_status synlock_lock_promote(synlock_lock *lock,
                                    int64_t timeout_ms,
                                    synlock_error **error);

/**
 * Turns the exclusive hold into a shared one.
 */
SYNLOCK_API
synlock_status synlock_lock_demote(synlock_lock *lock,
                                   synlock_error **error);

/**
 * Frees the handle: ends its wait, releases what it holds unless
 * auto-release is off. In a forked child only frees memory. NULL does
 * nothing.
 */
SYNLOCK_API void synlock_lock_free(synlock_lock *lock);

/**
 * Asks the store: SYNLOCK_OK if the lock is held, SYNLOCK_NOT_HELD,
 * SYNLOCK_LOST, or trouble of the store. A statement about the past by the
 * time it is read: use it to stop early, never to permit.
 */
SYNLOCK_API
synlock_status synlock_lock_ensure_held(synlock_lock *lock,
                                        synlock_error **error);

/**
 * As `synlock_lock_ensure_held`, but writes 1 or 0 and is SYNLOCK_OK in
 * both cases.
 */
SYNLOCK_API
synlock_status synlock_lock_is_acquired(synlock_lock *lock,
                                        int32_t *held,
                                        synlock_error **error);

/**
 * The state by this process' own knowledge; asks nobody. IDLE for a bad
 * handle.
 */
SYNLOCK_API synlock_state synlock_lock_state(const synlock_lock *lock);

/**
 * How much of the lease is left at least, ms; 0 if it ran out; -1 without a
 * lease or a hold.
 */
SYNLOCK_API int64_t synlock_lock_remaining_ms(const synlock_lock *lock);

/**
 * The timeout argument that SYNLOCK_USE_OPTION stands for: ms,
 * SYNLOCK_NO_WAIT or SYNLOCK_FOREVER. For callers that wait in slices.
 * SYNLOCK_FOREVER for a bad handle.
 */
SYNLOCK_API int64_t synlock_lock_timeout_ms(const synlock_lock *lock);

/**
 * The fencing token of the hold: positive, growing; 0 if there is none.
 */
SYNLOCK_API int64_t synlock_lock_fencing_token(const synlock_lock *lock);

/**
 * The mode of the hold, or of the next one.
 */
SYNLOCK_API synlock_mode synlock_lock_mode(const synlock_lock *lock);

/**
 * Copies the owner token of the hold as 32 hexadecimal digits: whoever has
 * it may release the lock. Needs room for 33 bytes. SYNLOCK_NOT_HELD.
 */
SYNLOCK_API
synlock_status synlock_lock_owner_token(const synlock_lock *lock,
                                        char *buffer,
                                        size_t capacity,
                                        size_t *length,
                                        synlock_error **error);

/**
 * A descriptor that becomes readable when the hold is lost or its lease
 * runs out. It belongs to the handle: poll it, do not read or close it.
 */
SYNLOCK_API
synlock_status synlock_lock_lost_fd(synlock_lock *lock,
                                    int32_t *fd,
                                    synlock_error **error);

/**
 * Switches release on free: 1 or 0.
 */
SYNLOCK_API
synlock_status synlock_lock_set_auto_release(synlock_lock *lock,
                                             int32_t on,
                                             synlock_error **error);

/**
 * Whether freeing the handle releases the lock: 1 or 0; -1 for a bad handle.
 */
SYNLOCK_API int32_t synlock_lock_auto_release(const synlock_lock *lock);

/**
 * Hands the hold over as text that another process can adopt: this handle
 * lets go of it without releasing. A `buffer` that is NULL or too small is
 * SYNLOCK_INVALID_ARGUMENT: `length` gets the room that is needed, and the
 * hold stays.
 */
SYNLOCK_API
synlock_status synlock_lock_export(synlock_lock *lock,
                                   char *buffer,
                                   size_t capacity,
                                   size_t *length,
                                   synlock_error **error);

/**
 * Who holds a lock: a list of its holders, empty if it is free.
 */
SYNLOCK_API
synlock_status synlock_store_inspect(const synlock_store *store,
                                     const char *name,
                                     size_t length,
                                     synlock_list **list,
                                     synlock_error **error);

/**
 * One page of the locks whose names begin with `prefix`. `cursor` is NULL
 * at first, then what `synlock_list_cursor` said. `limit` is about how many
 * locks a page has, 1 to 10000.
 */
SYNLOCK_API
synlock_status synlock_store_list(const synlock_store *store,
                                  const char *prefix,
                                  size_t length,
                                  const char *cursor,
                                  size_t limit,
                                  synlock_list **list,
                                  synlock_error **error);

/**
 * How many holders the list has; 0 for NULL.
 */
SYNLOCK_API size_t synlock_list_count(const synlock_list *list);

/**
 * How many wait for the lock that was inspected; -1 if unknown.
 */
SYNLOCK_API int64_t synlock_list_waiters(const synlock_list *list);

/**
 * Where the next page begins, or NULL at the end. Lives as long as the list.
 */
SYNLOCK_API const char *synlock_list_cursor(const synlock_list *list);

/**
 * Writes the holder at `index`, counted from 0.
 */
SYNLOCK_API
synlock_status synlock_list_get(const synlock_list *list,
                                size_t index,
                                synlock_holder *holder,
                                synlock_error **error);

/**
 * Frees the list. NULL does nothing.
 */
SYNLOCK_API void synlock_list_free(synlock_list *list);

/**
 * Makes a switch that is not thrown.
 */
SYNLOCK_API
synlock_status synlock_cancel_new(synlock_cancel **cancel,
                                  synlock_error **error);

/**
 * Throws the switch. Waits that were granted before keep their lock.
 */
SYNLOCK_API
synlock_status synlock_cancel_throw(synlock_cancel *cancel,
                                    synlock_error **error);

/**
 * Frees the switch; waits that have it go on. NULL does nothing.
 */
SYNLOCK_API void synlock_cancel_free(synlock_cancel *cancel);

/**
 * Makes an empty scope; name it in `synlock_lock_options`.
 */
SYNLOCK_API
synlock_status synlock_scope_new(synlock_scope **scope,
                                 synlock_error **error);

/**
 * As `synlock_scope_new`, for hosts that serve one request after another on
 * one thread and may end one without a chance to free anything: the scope
 * that the thread's last call made is freed first, if it still lives. A
 * thread that ends frees its scope before: nobody else does.
 */
SYNLOCK_API
synlock_status synlock_scope_request(synlock_scope **scope,
                                     synlock_error **error);

/**
 * Lets the store handle be freed with the scope.
 */
SYNLOCK_API
synlock_status synlock_scope_add_store(synlock_scope *scope,
                                       synlock_store *store,
                                       synlock_error **error);

/**
 * Frees the scope and every handle made in it. Locks among them are
 * released, but for those whose auto-release is off; such a lock keeps its
 * handle too if only that keeps the hold alive. NULL does nothing.
 */
SYNLOCK_API void synlock_scope_free(synlock_scope *scope);

/**
 * Makes an empty queue; starts no thread before the first operation.
 */
SYNLOCK_API
synlock_status synlock_dispatch_new(synlock_dispatch **dispatch,
                                    synlock_error **error);

/**
 * A descriptor that is readable while completions wait to be reaped, and when
 * there may be one: a reap may find none. -1 for a bad handle. It belongs to
 * the queue: poll it, do not read or close it.
 */
SYNLOCK_API int32_t synlock_dispatch_fd(const synlock_dispatch *dispatch);

/**
 * Starts `op` (a synlock_op) on `lock`. Its completion will carry `user`;
 * `ticket` (may be NULL) names it for `synlock_dispatch_cancel`. Until it
 * has completed, other calls on the lock get SYNLOCK_CONCURRENT_USE; freeing
 * the lock cancels it.
 */
SYNLOCK_API
synlock_status synlock_dispatch_submit(synlock_dispatch *dispatch,
                                       synlock_lock *lock,
                                       int32_t op,
                                       int64_t argument_ms,
                                       uint64_t user,
                                       uint64_t *ticket,
                                       synlock_error **error);

/**
 * Ends an acquire or promotion that is under way; its completion still
 * comes, SYNLOCK_CANCELLED or a grant that had been made. A ticket that has
 * completed is no error.
 */
SYNLOCK_API
synlock_status synlock_dispatch_cancel(synlock_dispatch *dispatch,
                                       uint64_t ticket,
                                       synlock_error **error);

/**
 * Takes up to `capacity` completions, oldest first; never blocks. `size` is
 * sizeof(synlock_completion).
 */
SYNLOCK_API
synlock_status synlock_dispatch_reap(synlock_dispatch *dispatch,
                                     synlock_completion *completions,
                                     size_t capacity,
                                     size_t size,
                                     size_t *count,
                                     synlock_error **error);

/**
 * Frees the queue and cancels what is under way. NULL does nothing.
 */
SYNLOCK_API void synlock_dispatch_free(synlock_dispatch *dispatch);

/**
 * Listens to the locks that are made from this store handle. Events beyond
 * `capacity` (1 to 1000000) that wait to be taken are dropped and counted. A
 * child of a fork may use the queue, which holds none of its parent's events.
 */
SYNLOCK_API
synlock_status synlock_events_new(synlock_store *store,
                                  size_t capacity,
                                  synlock_events **events,
                                  synlock_error **error);

/**
 * As synlock_events_new, for a host that prints what nobody else would tell:
 * cautions about the store, and losses that no call returned and nothing
 * watched for. Hears nothing while somebody else listens to the store.
 */
SYNLOCK_API
synlock_status synlock_events_new_warnings(synlock_store *store,
                                           size_t capacity,
                                           synlock_events **events,
                                           synlock_error **error);

/**
 * A descriptor that is readable while events wait; -1 for a bad handle. It
 * belongs to the queue: poll it, do not read or close it. After a fork the
 * child asks for one of its own.
 */
SYNLOCK_API int32_t synlock_events_fd(const synlock_events *events);

/**
 * Takes the oldest event; SYNLOCK_BUSY if none waits. Never blocks.
 */
SYNLOCK_API
synlock_status synlock_events_next(synlock_events *events,
                                   synlock_event *event,
                                   synlock_error **error);

/**
 * Calls the callback with every event that waits, the oldest first, on the
 * thread of the caller, and returns then. What the callback itself causes waits
 * for the next call. Never blocks: poll synlock_events_fd.
 */
SYNLOCK_API
synlock_status synlock_events_each(synlock_events *events,
                                   synlock_event_callback callback,
                                   void *user,
                                   synlock_error **error);

/**
 * How many events were dropped because the queue was full.
 */
SYNLOCK_API uint64_t synlock_events_dropped(const synlock_events *events);

/**
 * Stops listening and frees the queue. NULL does nothing.
 */
SYNLOCK_API void synlock_events_free(synlock_events *events);

/**
 * The number that every binding compares at load; it changes when the ABI
 * does so incompatibly.
 */
SYNLOCK_API uint32_t synlock_abi_version(void);

/**
 * Major * 1000000 + minor * 1000 + patch of the library that is loaded.
 */
SYNLOCK_API uint32_t synlock_version_number(void);

/**
 * Version of the library that is loaded, such as "0.1.0"; a static string.
 */
SYNLOCK_API const char *synlock_version_string(void);

/**
 * What this build is: version, stores, profile; a static string.
 */
SYNLOCK_API const char *synlock_build_info(void);

/**
 * Name of a status without its prefix, such as "TIMEOUT"; "UNKNOWN" for a
 * number that is none. A static string.
 */
SYNLOCK_API const char *synlock_status_name(int32_t status);

/**
 * One line about a status for people; a static string.
 */
SYNLOCK_API const char *synlock_status_text(int32_t status);

/**
 * Name of the exception class that languages raise for a status; empty for
 * SYNLOCK_OK. A static string.
 */
SYNLOCK_API const char *synlock_status_class(int32_t status);

/**
 * How many handles live: of every kind (0), stores (1), locks (2), cancels
 * (3), scopes (4), dispatch queues (5), event queues (6), errors (7), lists
 * (8), sessions (9), guards (10), managers (11), sets (12). For tests that
 * look for leaks.
 */
SYNLOCK_API uint64_t synlock_debug_live(uint8_t kind);

/**
 * Releases what live lock and manager handles hold, but for those whose
 * auto-release is off, and what sessions hold that are not persistent, and
 * tells events of each. For hosts that end without
 * freeing their handles; call it once, from the process that made them.
 */
SYNLOCK_API void synlock_process_end(void);

/**
 * Makes a store of the program's own callbacks, which are copied. Its URL is
 * `custom:` and `name`: 1 to 64 letters, digits, `-`, `_` and `.`. `keys`
 * and `values` are `n` options of its locks, as in a URL.
 *
 * Waiting is asking again, on the caller's thread. Nothing happens in the
 * background: a lease is never renewed (SYNLOCK_UNSUPPORTED unless a lock
 * has a TTL, or the store frees locks at death), and a dispatch queue
 * answers SYNLOCK_UNSUPPORTED.
 *
 * If it fails, `destroy` is not called.
 */
SYNLOCK_API
synlock_status synlock_store_custom(const char *name,
                                    const synlock_callbacks *callbacks,
                                    const char *const *keys,
                                    const char *const *values,
                                    size_t n,
                                    synlock_store **store,
                                    synlock_error **error);

/**
 * In `inspect` and `list` of a custom store: tells of one holder. What its
 * fields say is that of synlock_holder: NULL, 0 and -1 where a thing is not
 * known; a NULL name is that of the question. The row and its text are
 * copied.
 */
SYNLOCK_API
synlock_status synlock_reply_add(synlock_reply *reply,
                                 const synlock_ask *ask,
                                 const synlock_holder *holder,
                                 synlock_error **error);

/**
 * Copies statements, an empty line between each two, that make the table
 * of fencing tokens in a database and the trigger that refuses to lower
 * one; run again, they change nothing (MySQL before 8.0.29 says then that
 * it has the trigger). `engine` is "sqlite", "postgres" or "mysql"; `table`
 * is NULL for "synlock_fence". The program runs them on a connection of its
 * own, one by one. For the buffer see `synlock_store_url`; 2048 bytes are
 * enough.
 */
SYNLOCK_API
synlock_status synlock_fencing_ddl(const char *engine,
                                   const char *table,
                                   char *buffer,
                                   size_t capacity,
                                   size_t *length,
                                   synlock_error **error);

/**
 * As `synlock_fencing_ddl`, for a table of the program's own: no update of
 * a row lowers the token in `column` (NULL for "token") or takes it away.
 * On PostgreSQL the table and the column have at most 56 letters together.
 */
SYNLOCK_API
synlock_status synlock_fencing_trigger(const char *engine,
                                       const char *table,
                                       const char *column,
                                       char *buffer,
                                       size_t capacity,
                                       size_t *length,
                                       synlock_error **error);

/**
 * Copies the statement to run first in each transaction that writes under
 * the lock, with the lock's name and its fencing token as parameters (`?`;
 * `$1` and `$2` on PostgreSQL). A token lower than one before it makes the
 * database answer with an error that contains "stale fencing token", and
 * the transaction must be rolled back. The name must be text, on MySQL of at
 * most 512 bytes: give a hash of others. As `synlock_fencing_ddl`.
 */
SYNLOCK_API
synlock_status synlock_fencing_statement(const char *engine,
                                         const char *table,
                                         char *buffer,
                                         size_t capacity,
                                         size_t *length,
                                         synlock_error **error);

/**
 * A script for EVAL that makes Redis run a command unless the fencing token
 * is stale; a static string. KEYS: the key that keeps the highest token,
 * then every key of the command. ARGV: the token, then the command and its
 * arguments. The refusal is an error that begins with "STALE".
 */
SYNLOCK_API const char *synlock_fencing_redis(void);

/**
 * Makes a manager of locks in this store; `options` is NULL for Avtonom's
 * settings. Its locks tell of themselves through `synlock_manager_store`.
 */
SYNLOCK_API
synlock_status synlock_manager_new(const synlock_store *store,
                                   const synlock_manager_options *options,
                                   synlock_manager **manager,
                                   synlock_error **error);

/**
 * The manager's own handle of the store, for synlock_events_new and
 * synlock_store_measure; free it.
 */
SYNLOCK_API
synlock_status synlock_manager_store(const synlock_manager *manager,
                                     synlock_store **store,
                                     synlock_error **error);

/**
 * Acquires the lock of a key, which is JSON: text, or a list that begins with
 * text. `caller` (or NULL) is told in events: where the program asks from.
 * `ttl_ms` is the lease, 0 as the settings say; `cancel` and `acquired` as for
 * synlock_lock_acquire_with.
 *
 * SYNLOCK_OK; SYNLOCK_TIMEOUT; SYNLOCK_BUSY if the settings give no time;
 * SYNLOCK_REENTERED; SYNLOCK_CANCELLED, also if the manager was freed
 * meanwhile; SYNLOCK_INTERRUPTED with `interruptible`: call again from the
 * same thread, or synlock_manager_abandon.
 */
SYNLOCK_API
synlock_status synlock_manager_acquire(synlock_manager *manager,
                                       const char *key,
                                       size_t length,
                                       const char *caller,
                                       int64_t ttl_ms,
                                       synlock_cancel *cancel,
                                       synlock_acquired *acquired,
                                       synlock_error **error);

/**
 * Gives up the place in the queue that an interrupted acquire of this thread
 * kept.
 */
SYNLOCK_API
synlock_status synlock_manager_abandon(synlock_manager *manager,
                                       const char *key,
                                       size_t length,
                                       synlock_error **error);

/**
 * Releases the lock of a key. SYNLOCK_OK; SYNLOCK_NOT_HELD if this manager
 * does not hold it; SYNLOCK_LOST if it was lost meanwhile: whoever has it now
 * is left alone; SYNLOCK_UNCERTAIN.
 */
SYNLOCK_API
synlock_status synlock_manager_release(synlock_manager *manager,
                                       const char *key,
                                       size_t length,
                                       const char *caller,
                                       synlock_error **error);

/**
 * Lengthens the lease of a key that this manager holds to `ttl_ms` from now,
 * or (0) to its own.
 */
SYNLOCK_API
synlock_status synlock_manager_refresh(synlock_manager *manager,
                                       const char *key,
                                       size_t length,
                                       int64_t ttl_ms,
                                       synlock_error **error);

/**
 * Asks the store whether this manager holds the lock of a key: `held` gets 1
 * or 0.
 */
SYNLOCK_API
synlock_status synlock_manager_is_acquired(synlock_manager *manager,
                                           const char *key,
                                           size_t length,
                                           int32_t *held,
                                           synlock_error **error);

/**
 * Frees the manager: ends its waits, releases what it holds unless the store's
 * URL says `auto_release=0`, and tells its events. NULL does nothing.
 */
SYNLOCK_API void synlock_manager_free(synlock_manager *manager);

/**
 * Writes the name that a key stands for, behind `prefix`, into `buffer`, with
 * a NUL after it; `length` gets its length, which may have NULs inside. The
 * same in every language.
 */
SYNLOCK_API
synlock_status synlock_key_name(const char *key,
                                size_t key_length,
                                const char *prefix,
                                char *buffer,
                                size_t capacity,
                                size_t *length,
                                synlock_error **error);

/**
 * Writes the name that a template such as "order_{id}" makes of `count`
 * values into `buffer`, with a NUL after it; `length` gets its length. A
 * placeholder is what stands between two braces that enclose no other one; of
 * several values of one name, the last counts. Values are taken as they stand.
 * The same in every language.
 *
 * SYNLOCK_INVALID_ARGUMENT for a placeholder without a value.
 */
SYNLOCK_API
synlock_status synlock_template_name(const char *pattern,
                                     size_t pattern_length,
                                     const synlock_placeholder *values,
                                     size_t count,
                                     char *buffer,
                                     size_t capacity,
                                     size_t *length,
                                     synlock_error **error);

/**
 * Counts from now on what happens to the locks of this store handle (`on` is
 * not 0), or stops it. Handles of one URL count together; each process has
 * numbers of its own. While nobody counts it costs nothing.
 */
SYNLOCK_API
synlock_status synlock_store_measure(synlock_store *store,
                                     int32_t on,
                                     synlock_error **error);

/**
 * The numbers of every store that this process measured, in Prometheus' text
 * format: counters of acquires by outcome, waits, attempts, releases,
 * refreshes, losses and forgotten locks, histograms of the time waited and
 * held. They grow between two calls, so leave some room.
 */
SYNLOCK_API
synlock_status synlock_metrics_text(char *buffer,
                                    size_t capacity,
                                    size_t *length,
                                    synlock_error **error);

/**
 * Makes a session; asks the store nothing. `options` may be NULL.
 *
 * Fails with SYNLOCK_INVALID_ARGUMENT for an id that cannot be one, and with
 * SYNLOCK_UNSUPPORTED for a persistent session where locks end with the
 * process that took them.
 */
SYNLOCK_API
synlock_status synlock_session_new(const synlock_store *store,
                                   const synlock_session_options *options,
                                   synlock_session **session,
                                   synlock_error **error);

/**
 * Copies the session's id, the same for its whole life; 256 bytes are
 * enough. For the buffer see `synlock_store_url`.
 */
SYNLOCK_API
synlock_status synlock_session_id(const synlock_session *session,
                                  char *buffer,
                                  size_t capacity,
                                  size_t *length,
                                  synlock_error **error);

/**
 * Takes the lock for `ttl_ms` (0: 30 s), or renews it for `ttl_ms` from now if
 * the session holds it; never shortens, and does not wait.
 *
 * SYNLOCK_OK: the session holds it. SYNLOCK_BUSY: somebody else does.
 * SYNLOCK_LOST: it held it and could not renew it, since somebody else has
 * it, or may have had it in between; the next call is a new acquire. On a
 * store without leases a lock is held until it is released or the process
 * ends, whatever `ttl_ms` says.
 */
SYNLOCK_API
synlock_status synlock_session_acquire(synlock_session *session,
                                       const char *name,
                                       size_t length,
                                       int64_t ttl_ms,
                                       synlock_error **error);

/**
 * Lengthens a hold to `ttl_ms` (0: 30 s) from now: SYNLOCK_OK, or
 * SYNLOCK_NOT_HELD if the session does not hold the lock, or not any more. A
 * persistent session renews what any process acquired under its id, unless
 * this object acquired it and has lost it.
 */
SYNLOCK_API
synlock_status synlock_session_renew(synlock_session *session,
                                     const char *name,
                                     size_t length,
                                     int64_t ttl_ms,
                                     synlock_error **error);

/**
 * Whether an acquire by somebody else would find the lock free now: writes 1
 * or 0. Breaks a hold whose lease has ended.
 */
SYNLOCK_API
synlock_status synlock_session_may_be_available(const synlock_session *session,
                                                const char *name,
                                                size_t length,
                                                int32_t *available,
                                                synlock_error **error);

/**
 * Waits until the lock may be available, without taking it: SYNLOCK_OK, or
 * SYNLOCK_TIMEOUT if it is still held after `timeout_ms`, or SYNLOCK_CANCELLED
 * if the session was freed meanwhile.
 */
SYNLOCK_API
synlock_status synlock_session_wait(const synlock_session *session,
                                    const char *name,
                                    size_t length,
                                    int64_t timeout_ms,
                                    synlock_error **error);

/**
 * Releases one lock: SYNLOCK_OK; SYNLOCK_NOT_HELD if the session did not hold
 * it any more; SYNLOCK_UNCERTAIN if the reply was lost, and then the hold ends
 * with its lease at the latest. A persistent session releases what any process
 * acquired under its id, unless this object acquired it and has lost it: then
 * it says so once.
 */
SYNLOCK_API
synlock_status synlock_session_release(synlock_session *session,
                                       const char *name,
                                       size_t length,
                                       synlock_error **error);

/**
 * Releases all locks of the session (`id` NULL; of a persistent one what this
 * handle took, not what others took under its id), or of the session of that
 * id; `released` (may be NULL) gets how many there were. Another session's
 * can be released on a table of Drupal's, and where the store lists its
 * locks and that session is persistent: SYNLOCK_UNSUPPORTED otherwise.
 */
SYNLOCK_API
synlock_status synlock_session_release_all(synlock_session *session,
                                           const char *id,
                                           uint64_t *released,
                                           synlock_error **error);

/**
 * Frees the handle: ends its waits, within a second, and releases what the
 * session holds, unless it is persistent. In a forked child only frees memory.
 * NULL does nothing.
 */
SYNLOCK_API void synlock_session_free(synlock_session *session);

/**
 * Makes a set of `count` locks (1 to 1024); asks no store. The lock handles
 * stay the caller's. Freeing one while the set is being acquired ends that
 * with SYNLOCK_CANCELLED. `scope` (may be NULL) frees the set with it.
 *
 * SYNLOCK_INVALID_ARGUMENT for two locks on one name of one store.
 */
SYNLOCK_API
synlock_status synlock_set_new(synlock_lock *const *locks,
                               size_t count,
                               synlock_scope *scope,
                               synlock_set **set,
                               synlock_error **error);

/**
 * Takes all locks, waiting at most `timeout_ms` in all; as
 * `synlock_lock_acquire`, about the lock that the error names. Unless it is
 * SYNLOCK_OK none is held. SYNLOCK_USE_OPTION waits as the options of the
 * first lock say. `cancel` and `acquired` may be NULL; its fencing token is
 * 0: each lock has its own.
 *
 * After SYNLOCK_INTERRUPTED the set keeps what it has until it is called
 * again with the time left, or `synlock_set_abandon`.
 */
SYNLOCK_API
synlock_status synlock_set_acquire(synlock_set *set,
                                   int64_t timeout_ms,
                                   synlock_cancel *cancel,
                                   synlock_acquired *acquired,
                                   synlock_error **error);

/**
 * Takes back the last acquire, as `synlock_lock_abandon` does: gives up one
 * that was interrupted, and what one was granted. What was held before
 * stays held.
 */
SYNLOCK_API
synlock_status synlock_set_abandon(synlock_set *set,
                                   synlock_error **error);

/**
 * Gives all locks back, those that were lost among them or not. As
 * `synlock_lock_release`, about the first that was not released as it should
 * be; SYNLOCK_NOT_HELD if none was held.
 */
SYNLOCK_API
synlock_status synlock_set_release(synlock_set *set,
                                   synlock_error **error);

/**
 * Asks the stores, and fails unless all locks are held.
 */
SYNLOCK_API
synlock_status synlock_set_ensure_held(synlock_set *set,
                                       synlock_error **error);

/**
 * As `synlock_dispatch_submit`, on all locks of a set: SYNLOCK_OP_ACQUIRE,
 * SYNLOCK_OP_RELEASE, SYNLOCK_OP_ABANDON or SYNLOCK_OP_CHECK. Freeing the set does not end it:
 * cancel the ticket.
 */
SYNLOCK_API
synlock_status synlock_dispatch_submit_set(synlock_dispatch *dispatch,
                                           synlock_set *set,
                                           int32_t op,
                                           int64_t argument_ms,
                                           uint64_t user,
                                           uint64_t *ticket,
                                           synlock_error **error);

/**
 * Frees the handle: ends its wait, gives back what the set holds, but for
 * locks whose auto-release is off. The lock handles live on. NULL does
 * nothing.
 */
SYNLOCK_API void synlock_set_free(synlock_set *set);

/**
 * Makes a guard without stores. `dialect` says how names are made: NULL or
 * "native", "ixarlie" (ixarlie/mutex-bundle before 2.0) or "ixarlie2" (2.1).
 * The handle ends with `scope`, if that is not NULL.
 */
SYNLOCK_API
synlock_status synlock_guard_new(const char *dialect,
                                 synlock_scope *scope,
                                 synlock_guard **guard,
                                 synlock_error **error);

/**
 * Adds a store under a short name, such as "default" or "redis.queued". The
 * first one is the default until `synlock_guard_set_default` says otherwise.
 * `can_wait` is a synlock_switch, by default on: off for a custom store that
 * cannot wait, on which SYNLOCK_GUARD_QUEUE is SYNLOCK_UNSUPPORTED. The store
 * may be freed afterwards.
 */
SYNLOCK_API
synlock_status synlock_guard_add(synlock_guard *guard,
                                 const char *name,
                                 const synlock_store *store,
                                 int32_t can_wait,
                                 synlock_error **error);

/**
 * Says which store is meant when a policy names none; it may be added later.
 */
SYNLOCK_API
synlock_status synlock_guard_set_default(synlock_guard *guard,
                                         const char *name,
                                         synlock_error **error);

/**
 * The place of a store in the order of adding, by its short name or a full
 * one ("synlock.redis.queued", "ixarlie_mutex.redis_factory.queued"); of the
 * default one if `name` is NULL.
 */
SYNLOCK_API
synlock_status synlock_guard_find(const synlock_guard *guard,
                                  const char *name,
                                  size_t *service,
                                  synlock_error **error);

/**
 * The name of the lock that a request is about; asks no store. Fails as
 * `synlock_guard_enter` would before it asks one. For the buffer see
 * `synlock_store_url`; a name may contain any byte.
 */
SYNLOCK_API
synlock_status synlock_guard_name(const synlock_guard *guard,
                                  const synlock_guard_policy *policy,
                                  const synlock_guard_request *request,
                                  char *buffer,
                                  size_t capacity,
                                  size_t *length,
                                  synlock_error **error);

/**
 * Applies a policy to a request: SYNLOCK_OK whenever there is an answer, also
 * a refusal; `answer` tells which.
 *
 * `lock` gets the lock to release at the release point, NULL if the request
 * is refused or SYNLOCK_GUARD_CHECK acquired none. `holders`, unless NULL,
 * gets a list: of a refusal who held the lock, of SYNLOCK_GUARD_FORCE from
 * whom it was taken, otherwise empty. `cancel` (may be NULL) or freeing the
 * guard ends a wait with SYNLOCK_CANCELLED. A victim of SYNLOCK_GUARD_FORCE
 * that was let in by a guard finds its lock SYNLOCK_LOST with "broken by
 * label, pid, host" in the error, where the store keeps labels (of ZooKeeper's
 * dialects its own alone).
 *
 * Fails with SYNLOCK_INVALID_ARGUMENT for a placeholder without a value, an
 * unknown service, user isolation without a user; SYNLOCK_UNSUPPORTED for a
 * mode that the store is not able to do.
 */
SYNLOCK_API
synlock_status synlock_guard_enter(const synlock_guard *guard,
                                   const synlock_guard_policy *policy,
                                   const synlock_guard_request *request,
                                   synlock_cancel *cancel,
                                   synlock_lock **lock,
                                   synlock_list **holders,
                                   synlock_guard_answer *answer,
                                   synlock_error **error);

/**
 * Frees the guard and ends the waits of its requests; locks that it gave out
 * stay. NULL does nothing.
 */
SYNLOCK_API void synlock_guard_free(synlock_guard *guard);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SYNLOCK_H */
