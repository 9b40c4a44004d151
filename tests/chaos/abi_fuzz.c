/* Row 37: random calls of the C ABI from many threads, with living, shared, stale, forged and NULL
   handles: abi-fuzz CALLS SEED FOLDER. A stale or forged handle must be SYNLOCK_INVALID_HANDLE, one of
   one's own never; a failed call writes no handle; nothing is left at the end. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <synlock.h>

enum { THREADS = 8, OWN = 6, SHARED = 4, STALE = 64, STATUSES = 1000 };
enum kind { STORE, LOCK, CANCEL, SCOPE, DISPATCH, EVENTS, ERROR, LIST, SESSION, MANAGER, GUARD, SET, KINDS };
/* What a call must say of the handle that it was given. */
enum expected { ANY, GOOD, BAD, NONE };

struct run {
    unsigned number;
    uint64_t random, calls;
    uintptr_t own[KINDS][OWN], stale[STALE];
    uintptr_t scope_of[OWN]; /* of the locks in `own` */
    uint64_t statuses[STATUSES];
    const char *call;
    int made; /* whether the last call worked */
};

static _Atomic uintptr_t shared[KINDS][SHARED];
static const char *folder;
static uint64_t seed, calls_each;
static const char *const names[] = {"a", "b", "c", "a longer name / with: odd bytes \xff"};

static uint64_t below(struct run *run, uint64_t limit) {
    uint64_t x = run->random += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return (x ^ x >> 31) % limit;
}

static void die(struct run *run, const char *what, int64_t number) {
    fprintf(stderr, "thread %u, call %" PRIu64 ", %s: %s (%" PRId64 "), seed %" PRIu64 "\n", run->number, run->calls, run->call, what,
            number, seed);
    exit(1);
}

static void retire(struct run *run, uintptr_t handle) {
    if (handle) run->stale[below(run, STALE)] = handle;
}

/* One that can be none: another kind, a generation or an index that nobody reached, an address. */
static uintptr_t forge(struct run *run, uintptr_t like) {
    switch (below(run, 6)) {
        case 0: return like ^ (uintptr_t)(1 + below(run, 7)) << 57 ^ (uintptr_t)1 << 63;
        case 1: return like ^ (uintptr_t)1 << 55;
        case 2: return like ^ (uintptr_t)1 << 27;
        case 3: return (uintptr_t)run | 1;
        case 4: return UINTPTR_MAX >> below(run, 8);
        default: return 1 + below(run, 4096);
    }
}

static uintptr_t pick(struct run *run, enum kind kind, enum expected *expected) {
    uintptr_t own = run->own[kind][below(run, OWN)];
    uint64_t dice = below(run, 100);
    *expected = GOOD;
    if (dice < 60 && own) return own;
    if (dice < 85) {
        *expected = ANY;
        uintptr_t handle = shared[kind][below(run, SHARED)];
        if (handle) return handle;
    }
    *expected = BAD;
    if (dice < 93) {
        uintptr_t handle = run->stale[below(run, STALE)];
        if (handle) return handle;
    }
    if (dice < 98) return forge(run, own ? own : 1);
    *expected = NONE;
    return 0;
}

/* Keeps a new handle: as one's own, or for all. What it replaces is freed by `drop`. */
static void drop(struct run *run, enum kind kind, uintptr_t handle);
static void keep(struct run *run, enum kind kind, uintptr_t handle) {
    if (below(run, 3)) {
        uintptr_t *place = &run->own[kind][below(run, OWN)];
        uintptr_t old = *place;
        *place = handle;
        if (kind == LOCK) run->scope_of[place - run->own[kind]] = 0;
        drop(run, kind, old);
    } else {
        drop(run, kind, atomic_exchange(&shared[kind][below(run, SHARED)], handle));
    }
}

static void free_any(enum kind kind, uintptr_t handle) {
    void *given = (void *)handle;
    switch (kind) {
        case STORE: synlock_store_free(given); break;
        case LOCK: synlock_lock_free(given); break;
        case CANCEL: synlock_cancel_free(given); break;
        case SCOPE: synlock_scope_free(given); break;
        case DISPATCH: synlock_dispatch_free(given); break;
        case EVENTS: synlock_events_free(given); break;
        case ERROR: synlock_error_free(given); break;
        case SESSION: synlock_session_free(given); break;
        case MANAGER: synlock_manager_free(given); break;
        case GUARD: synlock_guard_free(given); break;
        case SET: synlock_set_free(given); break;
        default: synlock_list_free(given);
    }
}

static void drop(struct run *run, enum kind kind, uintptr_t handle) {
    /* What is left held stays so to the end, and each one costs time from then on. */
    if (kind == LOCK && below(run, 200)) (void)synlock_lock_set_auto_release((void *)handle, 1, NULL);
    free_any(kind, handle);
    retire(run, handle);
    if (kind != SCOPE || !handle) return;
    for (int i = 0; i < OWN; i++) {
        if (run->scope_of[i] != handle) continue;
        /* Ended with it, unless auto-release was switched off. */
        uintptr_t lock = run->own[LOCK][i];
        run->own[LOCK][i] = run->scope_of[i] = 0;
        drop(run, LOCK, lock);
    }
}

/* Reads all that an error says, and keeps or frees it. */
static void told(struct run *run, int status, synlock_error *error) {
    if (status < 0 || status >= STATUSES || !strcmp(synlock_status_name(status), "UNKNOWN")) die(run, "no status", status);
    if (status == SYNLOCK_INTERNAL) die(run, error ? synlock_error_message(error) : "internal", status);
    run->statuses[status]++;
    if (!error) return;
    if (status == SYNLOCK_OK) die(run, "an error after success", status);
    if (status >= 200) printf("trouble: %s\n", synlock_error_message(error));
    const char *words[] = {synlock_error_message(error), synlock_error_name(error), synlock_error_operation(error),
                           synlock_error_store(error), synlock_error_resource(error)};
    for (int i = 0; i < 5; i++) {
        if (words[i] ? strlen(words[i]) > 100000 : i < 2) die(run, "words of an error", i);
    }
    if (synlock_error_code(error) != status) die(run, "the error's own status", synlock_error_code(error));
    if (below(run, 20)) drop(run, ERROR, (uintptr_t)error);
    else keep(run, ERROR, (uintptr_t)error);
}

static void judge(struct run *run, enum expected expected, int status, synlock_error *error) {
    told(run, status, error);
    if (expected == BAD && status != SYNLOCK_INVALID_HANDLE) die(run, "a handle that is none was taken", status);
    if (expected == NONE && status != SYNLOCK_NULL_POINTER) die(run, "NULL was taken", status);
    if (expected == GOOD && (status == SYNLOCK_INVALID_HANDLE || status == SYNLOCK_NULL_POINTER)) die(run, "a good handle was refused", status);
}

/* Of two handles: each alone decides only if the other is good. */
static enum expected both(enum expected a, enum expected b) {
    if (a == GOOD) return b;
    return b == GOOD ? a : ANY;
}

static int64_t wait_ms(struct run *run) {
    uint64_t dice = below(run, 40);
    return dice == 0 ? 2 : dice == 1 ? 1 : dice == 2 ? SYNLOCK_USE_OPTION : dice == 3 ? -9 : SYNLOCK_NO_WAIT;
}

/* A call with or without a place for its error. */
#define WITH(what) \
    do { \
        synlock_error *error = NULL, **to = below(run, 4) ? &error : NULL; \
        run->call = #what; \
        int status = (what); \
        judge(run, expected, status, error); \
        run->made = status == SYNLOCK_OK; \
    } while (0)
#define NEW(kind, type, what) \
    do { \
        type *fresh = (type *)run; \
        WITH(what); \
        if (!run->made && fresh != (type *)run) die(run, "written on failure", 0); \
        if (run->made) keep(run, kind, (uintptr_t)fresh); \
    } while (0)

static void make_manager(struct run *run) {
    enum expected expected;
    synlock_store *store = (void *)pick(run, STORE, &expected);
    synlock_manager_options options = {.struct_size = sizeof options, .sleep_ms = below(run, 4) ? SYNLOCK_OPT_TRY : 1, .tries = 2};
    if (!below(run, 3)) options.ttl_ms = 1 + (int64_t)below(run, 50);
    if (!below(run, 10)) options.interruptible = SYNLOCK_ON;
    if (!below(run, 10)) options.repeat = (int32_t)below(run, 3);
    NEW(MANAGER, synlock_manager, synlock_manager_new(store, &options, &fresh, to));
}

static void make_guard(struct run *run) {
    enum expected expected;
    static const char *const dialects[] = {NULL, "native", "ixarlie", "ixarlie2"};
    const char *dialect = dialects[below(run, 4)];
    /* Never in a living scope: who has it would free what is taken for living here. */
    synlock_scope *scope = (void *)pick(run, SCOPE, &expected);
    if (expected != BAD) scope = NULL, expected = GOOD;
    NEW(GUARD, synlock_guard, synlock_guard_new(dialect, scope, &fresh, to));
}

static void make_set(struct run *run) {
    enum expected expected = GOOD, second;
    synlock_lock *locks[3];
    size_t count = 1 + below(run, 3);
    for (size_t i = 0; i < count; i++) {
        locks[i] = (void *)pick(run, LOCK, &second);
        expected = both(expected, second);
    }
    NEW(SET, synlock_set, synlock_set_new(locks, count, NULL, &fresh, to));
}

static void make(struct run *run) {
    enum expected expected = ANY, second;
    const char *name = names[below(run, 4)];
    uint64_t dice = below(run, 100);
    if (dice < 8) {
        char url[400];
        uint64_t which = below(run, 6);
        if (which < 2) snprintf(url, sizeof url, "memory:fuzz-%d?timeout=2", (int)which);
        else if (which < 4) snprintf(url, sizeof url, "shm:%s/segment-%d?timeout=2", folder, (int)which);
        else snprintf(url, sizeof url, "flock:%s/%d?timeout=2", folder, (int)which);
        if (!below(run, 20)) snprintf(url, sizeof url, "%s", below(run, 2) ? "nonsense" : "\xff:x");
        NEW(STORE, synlock_store, synlock_store_open(url, NULL, NULL, 0, &fresh, to));
    } else if (dice < 16) {
        NEW(CANCEL, synlock_cancel, synlock_cancel_new(&fresh, to));
    } else if (dice < 22) {
        NEW(SCOPE, synlock_scope, synlock_scope_new(&fresh, to));
    } else if (dice < 26) {
        NEW(DISPATCH, synlock_dispatch, synlock_dispatch_new(&fresh, to));
    } else if (dice < 30) {
        synlock_store *store = (void *)pick(run, STORE, &expected);
        NEW(EVENTS, synlock_events, synlock_events_new(store, 1 + below(run, 8), &fresh, to));
    } else if (dice < 36) {
        synlock_store *store = (void *)pick(run, STORE, &expected);
        NEW(LIST, synlock_list, synlock_store_inspect(store, name, SYNLOCK_NTS, &fresh, to));
    } else if (dice < 38) {
        synlock_store *store = (void *)pick(run, STORE, &expected);
        NEW(LIST, synlock_list, synlock_store_list(store, "", 0, NULL, 5, &fresh, to));
    } else if (dice < 45) {
        synlock_store *store = (void *)pick(run, STORE, &expected);
        NEW(SESSION, synlock_session, synlock_session_new(store, NULL, &fresh, to));
    } else if (dice < 47) {
        synlock_store *store = (void *)pick(run, STORE, &expected);
        NEW(LOCK, synlock_lock, synlock_store_adopt(store, "synlock:nonsense", NULL, &fresh, to));
    } else if (dice < 51) {
        make_manager(run);
    } else if (dice < 55) {
        make_guard(run);
    } else if (dice < 63) {
        make_set(run);
    } else {
        synlock_store *store = (void *)pick(run, STORE, &expected);
        synlock_lock_options options = SYNLOCK_LOCK_OPTIONS_INIT;
        int place = -1;
        options.timeout_ms = below(run, 2) ? 2 : SYNLOCK_OPT_TRY;
        if (!below(run, 4)) options.ttl_ms = 1 + (int64_t)below(run, 50);
        if (!below(run, 3)) options.mode = SYNLOCK_SHARED;
        if (!below(run, 10)) options.auto_release = SYNLOCK_OFF;
        if (!below(run, 10)) options.reentry = (int32_t)below(run, 4);
        if (!below(run, 10)) options.interruptible = SYNLOCK_ON;
        if (!below(run, 20)) options.mode = (int32_t)below(run, 5);
        if (!below(run, 5)) options.label = "fuzz";
        if (!below(run, 6)) {
            options.scope = (void *)pick(run, SCOPE, &second);
            if (second == NONE) second = GOOD; /* NULL is no scope */
            /* A lock of one's own in a scope of one's own: both ends are known. */
            place = (int)below(run, OWN);
            if (second != GOOD || !options.scope) place = -1;
            expected = second == GOOD ? expected : ANY;
        }
        if (place < 0 && !options.scope) {
            NEW(LOCK, synlock_lock, synlock_lock_new(store, name, SYNLOCK_NTS, &options, &fresh, to));
            return;
        }
        synlock_lock *lock = NULL;
        WITH(synlock_lock_new(store, name, strlen(name), &options, &lock, to));
        if (!run->made) return;
        if (place < 0) {
            drop(run, LOCK, (uintptr_t)lock);
            return;
        }
        drop(run, LOCK, run->own[LOCK][place]);
        run->own[LOCK][place] = (uintptr_t)lock;
        run->scope_of[place] = (uintptr_t)options.scope;
    }
}

static void use_lock(struct run *run) {
    enum expected expected, second = GOOD;
    synlock_lock *lock = (void *)pick(run, LOCK, &expected);
    char text[700];
    size_t length;
    int32_t number;
    synlock_acquired how = {.struct_size = sizeof how};
    /* Beside a living one: maybe somebody else's. */
    if (!below(run, 50)) {
        lock = (void *)((uintptr_t)lock ^ below(run, 4));
        expected = ANY;
    }
    switch (below(run, 20)) {
        case 0: case 1: case 2: case 3: WITH(synlock_lock_acquire(lock, wait_ms(run), to)); break;
        case 4: case 5: {
            synlock_cancel *cancel = (void *)pick(run, CANCEL, &second);
            if (second == NONE) second = GOOD;
            expected = both(expected, second);
            WITH(synlock_lock_acquire_with(lock, wait_ms(run), cancel, below(run, 2) ? &how : NULL, to));
            break;
        }
        case 6: case 7: case 8: WITH(synlock_lock_release(lock, to)); break;
        case 9: WITH(synlock_lock_refresh(lock, (int64_t)below(run, 60), to)); break;
        case 10: WITH(synlock_lock_promote(lock, wait_ms(run), to)); break;
        case 11: WITH(synlock_lock_demote(lock, to)); break;
        case 12: WITH(synlock_lock_ensure_held(lock, to)); break;
        case 13: WITH(synlock_lock_is_acquired(lock, &number, to)); break;
        case 14: WITH(synlock_lock_owner_token(lock, text, below(run, 2) ? sizeof text : below(run, 33), &length, to)); break;
        case 15: WITH(synlock_lock_lost_fd(lock, &number, to)); break;
        case 16: WITH(synlock_lock_set_auto_release(lock, (int32_t)below(run, 2), to)); break;
        case 17: WITH(synlock_lock_export(lock, text, below(run, 2) ? sizeof text : 30, &length, to)); break;
        case 18: WITH(synlock_lock_abandon(lock, to)); break;
        default:
            run->call = "a reading function of a lock";
            number = (int32_t)synlock_lock_state(lock) + (int32_t)synlock_lock_mode(lock) + synlock_lock_auto_release(lock);
            if (number < -1 || synlock_lock_remaining_ms(lock) < -1 || synlock_lock_timeout_ms(lock) < -1 || synlock_lock_fencing_token(lock) < 0)
                die(run, "a value", number);
            if (expected >= BAD && synlock_lock_auto_release(lock) != -1) die(run, "a handle that is none was taken", 0);
    }
}

static void use_set(struct run *run) {
    enum expected expected, second;
    synlock_set *set = (void *)pick(run, SET, &expected);
    synlock_acquired how = {.struct_size = sizeof how};
    switch (below(run, 8)) {
        case 0: case 1: case 2: WITH(synlock_set_acquire(set, wait_ms(run), NULL, below(run, 2) ? &how : NULL, to)); break;
        case 3: {
            synlock_cancel *cancel = (void *)pick(run, CANCEL, &second);
            if (second == NONE) second = GOOD;
            expected = both(expected, second);
            WITH(synlock_set_acquire(set, wait_ms(run), cancel, NULL, to));
            break;
        }
        case 4: case 5: WITH(synlock_set_release(set, to)); break;
        case 6: WITH(synlock_set_ensure_held(set, to)); break;
        default: WITH(synlock_set_abandon(set, to));
    }
}

static void use_session(struct run *run) {
    enum expected expected;
    synlock_session *session = (void *)pick(run, SESSION, &expected);
    const char *name = names[below(run, 4)];
    size_t length = strlen(name);
    char text[256];
    int32_t available;
    uint64_t released;
    switch (below(run, 8)) {
        case 0: WITH(synlock_session_id(session, text, below(run, sizeof text), &length, to)); break;
        case 1: case 2: WITH(synlock_session_acquire(session, name, length, (int64_t)below(run, 60), to)); break;
        case 3: WITH(synlock_session_renew(session, name, length, (int64_t)below(run, 60), to)); break;
        case 4: WITH(synlock_session_may_be_available(session, name, length, &available, to)); break;
        case 5: WITH(synlock_session_wait(session, name, length, (int64_t)below(run, 2), to)); break;
        case 6: WITH(synlock_session_release(session, name, length, to)); break;
        default: WITH(synlock_session_release_all(session, below(run, 2) ? NULL : "fuzz", below(run, 2) ? &released : NULL, to));
    }
}

static void use_manager(struct run *run) {
    enum expected expected, second;
    synlock_manager *manager = (void *)pick(run, MANAGER, &expected);
    static const char *const keys[] = {"\"a\"", "\"b\"", "[\"a\", 1]"};
    const char *key = keys[below(run, 3)], *caller = below(run, 2) ? "fuzz" : NULL;
    synlock_acquired how = {.struct_size = sizeof how};
    int32_t held;
    switch (below(run, 10)) {
        case 0: case 1: case 2: {
            synlock_cancel *cancel = (void *)pick(run, CANCEL, &second);
            if (second == NONE) second = GOOD;
            expected = both(expected, second);
            int64_t ttl_ms = (int64_t)below(run, 60);
            WITH(synlock_manager_acquire(manager, key, SYNLOCK_NTS, caller, ttl_ms, cancel, below(run, 2) ? &how : NULL, to));
            break;
        }
        case 3: case 4: case 5: WITH(synlock_manager_release(manager, key, strlen(key), caller, to)); break;
        case 6: WITH(synlock_manager_refresh(manager, key, strlen(key), (int64_t)below(run, 60), to)); break;
        case 7: WITH(synlock_manager_is_acquired(manager, key, strlen(key), &held, to)); break;
        case 8: WITH(synlock_manager_abandon(manager, key, strlen(key), to)); break;
        default: NEW(STORE, synlock_store, synlock_manager_store(manager, &fresh, to));
    }
}

static void use_guard(struct run *run) {
    enum expected expected, second;
    synlock_guard *guard = (void *)pick(run, GUARD, &expected);
    const char *name = names[below(run, 4)], *service = below(run, 3) ? "default" : "other";
    synlock_guard_policy policy = {.struct_size = sizeof policy, .name = name, .name_length = strlen(name), .max_wait_ms = 1};
    synlock_guard_answer answer = {.struct_size = sizeof answer};
    char text[300];
    size_t length;
    policy.mode = (int32_t)below(run, 5);
    if (!below(run, 2)) policy.ttl_ms = 1 + (int64_t)below(run, 50);
    if (!below(run, 10)) policy.service = service;
    switch (below(run, 10)) {
        case 0: case 1: {
            synlock_store *store = (void *)pick(run, STORE, &second);
            expected = both(expected, second);
            WITH(synlock_guard_add(guard, service, store, (int32_t)below(run, 3) - 1, to));
            break;
        }
        case 2: WITH(synlock_guard_set_default(guard, service, to)); break;
        case 3: WITH(synlock_guard_find(guard, below(run, 2) ? service : NULL, &length, to)); break;
        case 4: WITH(synlock_guard_name(guard, &policy, NULL, text, below(run, sizeof text), &length, to)); break;
        default: {
            synlock_cancel *cancel = (void *)pick(run, CANCEL, &second);
            synlock_list *list = NULL;
            if (second == NONE) second = GOOD;
            expected = both(expected, second);
            NEW(LOCK, synlock_lock, synlock_guard_enter(guard, &policy, NULL, cancel, &fresh, below(run, 2) ? &list : NULL, &answer, to));
            if (run->made) drop(run, LIST, (uintptr_t)list);
            else if (list) die(run, "a list is written on failure", 0);
        }
    }
}

static void use_store(struct run *run) {
    enum expected expected, second;
    synlock_store *store = (void *)pick(run, STORE, &expected);
    const char *name = names[below(run, 4)];
    char text[300];
    size_t length;
    int32_t number;
    switch (below(run, 10)) {
        case 0: WITH(synlock_store_ping(store, SYNLOCK_FOREVER, to)); break;
        case 1: WITH(synlock_store_url(store, text, below(run, sizeof text), &length, to)); break;
        case 2: WITH(synlock_store_fingerprint(store, text, sizeof text, &length, to)); break;
        case 3: {
            synlock_capabilities can = {.struct_size = expected >= BAD || below(run, 2) ? sizeof can : below(run, sizeof can)};
            WITH(synlock_store_capabilities(store, &can, to));
            break;
        }
        case 4: WITH(synlock_store_is_locked(store, name, strlen(name), &number, to)); break;
        case 5: WITH(synlock_store_break(store, name, strlen(name), below(run, 2) ? &number : NULL, to)); break;
        case 9: {
            uint64_t findings;
            if (below(run, 2)) WITH(synlock_store_ddl(store, below(run, 2) ? NULL : "mysql", text, below(run, sizeof text), &length, to));
            WITH(synlock_store_check(store, &findings, text, below(run, sizeof text), &length, to));
            break;
        }
        case 6: WITH(synlock_store_wait_free(store, name, strlen(name), (int64_t)below(run, 2), to)); break;
        case 7: {
            /* Not one's own: the scope would free what is taken for living. */
            synlock_scope *scope = (void *)pick(run, SCOPE, &second);
            if (expected == GOOD) return;
            expected = ANY;
            WITH(synlock_scope_add_store(scope, store, to));
            break;
        }
        default:
            expected = ANY;
            WITH(synlock_store_schemes(text, sizeof text, &length, to));
    }
}

static void heard(void *run, const synlock_event *event) {
    if (strlen(event->line) > 20000 || event->struct_size != sizeof *event) die(run, "an event", event->kind);
}

static void use_queue(struct run *run) {
    enum expected expected, second;
    if (below(run, 3)) {
        synlock_dispatch *dispatch = (void *)pick(run, DISPATCH, &expected);
        synlock_completion done[4];
        size_t count = 0;
        uint64_t ticket;
        switch (below(run, 5)) {
            case 0: case 1: {
                synlock_lock *lock = (void *)pick(run, LOCK, &second);
                expected = both(expected, second);
                int64_t wait = below(run, 8) ? (int64_t)below(run, 3) : SYNLOCK_FOREVER;
                int op = (int)below(run, 9);
                WITH(synlock_dispatch_submit(dispatch, lock, op, wait, run->calls, below(run, 2) ? &ticket : NULL, to));
                break;
            }
            case 2: {
                synlock_set *set = (void *)pick(run, SET, &second);
                expected = both(expected, second);
                WITH(synlock_dispatch_submit_set(dispatch, set, (int)below(run, 9), (int64_t)below(run, 3), run->calls, NULL, to));
                break;
            }
            case 3: WITH(synlock_dispatch_cancel(dispatch, below(run, 2000), to)); break;
            default:
                if (synlock_dispatch_fd(dispatch) >= 0 && expected >= BAD) die(run, "a handle that is none was taken", 0);
                WITH(synlock_dispatch_reap(dispatch, done, 4, sizeof *done, &count, to));
                for (size_t i = 0; run->made && i < count; i++) told(run, done[i].status, done[i].error);
        }
    } else if (below(run, 2)) {
        synlock_cancel *cancel = (void *)pick(run, CANCEL, &expected);
        WITH(synlock_cancel_throw(cancel, to));
    } else {
        /* Its text lives until the next call: events belong to one thread. */
        uintptr_t own = run->own[EVENTS][below(run, OWN)];
        synlock_events *events = (void *)(own && below(run, 4) ? own : forge(run, own));
        expected = (uintptr_t)events == own ? GOOD : BAD;
        synlock_event event = {.struct_size = sizeof event};
        WITH(synlock_events_next(events, &event, to));
        if (run->made && (strlen(event.message) > 10000 || strlen(event.store) > 10000 || !event.name_length)) die(run, "an event", event.kind);
        WITH(synlock_events_each(events, heard, run, to));
        if (synlock_events_fd(events) >= 0 && expected == BAD) die(run, "a handle that is none was taken", 0);
        (void)synlock_events_dropped(events);
    }
}

static void use_text(struct run *run) {
    enum expected expected;
    uintptr_t own = run->own[LIST][below(run, OWN)];
    run->call = "a reading function";
    synlock_list *list = (void *)(own && below(run, 4) ? own : forge(run, own));
    expected = (uintptr_t)list == own ? GOOD : BAD;
    size_t count = synlock_list_count(list);
    synlock_holder holder = {.struct_size = sizeof holder};
    if (expected == BAD && (count || synlock_list_waiters(list) != -1 || synlock_list_cursor(list))) die(run, "a list that is none", 0);
    if (count || expected == BAD) WITH(synlock_list_get(list, 0, &holder, to));
    if (count && (strlen(holder.mode) > 20 || strlen(holder.owner) > 200 || !holder.name_length)) die(run, "a holder", 0);
    synlock_error *error = (void *)forge(run, run->own[ERROR][below(run, OWN)]);
    if (synlock_error_message(error) && *synlock_error_message(error)) die(run, "an error that is none", 0);
    (void)synlock_error_is_retriable(error);
    (void)synlock_error_code((void *)shared[ERROR][below(run, SHARED)]);
}

static void free_some(struct run *run) {
    enum kind kind = (enum kind)below(run, KINDS);
    uint64_t place = below(run, OWN);
    enum expected expected;
    run->call = "a free";
    switch (below(run, 4)) {
        case 0: {
            uintptr_t own = run->own[kind][place];
            run->own[kind][place] = 0;
            if (kind == LOCK) run->scope_of[place] = 0;
            drop(run, kind, own);
            break;
        }
        case 1: drop(run, kind, atomic_exchange(&shared[kind][below(run, SHARED)], 0)); break;
        case 2: free_any(kind, run->stale[below(run, STALE)]); break;
        default: {
            uintptr_t handle = pick(run, kind, &expected);
            if (expected != GOOD) free_any(kind, expected == ANY ? forge(run, handle) : handle);
        }
    }
}

static void *work(void *given) {
    struct run *run = given;
    for (run->calls = 0; run->calls < calls_each; run->calls++) {
        uint64_t dice = below(run, 100);
        if (dice < 15) make(run);
        else if (dice < 50) use_lock(run);
        else if (dice < 54) use_manager(run);
        else if (dice < 58) use_guard(run);
        else if (dice < 62) use_session(run);
        else if (dice < 67) use_set(run);
        else if (dice < 75) use_store(run);
        else if (dice < 88) use_queue(run);
        else if (dice < 92) use_text(run);
        else free_some(run);
    }
    for (int kind = KINDS - 1; kind >= 0; kind--) {
        for (int i = 0; i < OWN; i++) free_any((enum kind)kind, run->own[kind][i]);
    }
    return NULL;
}

int main(int count, char **words) {
    static struct run runs[THREADS];
    pthread_t threads[THREADS];
    if (count != 4) {
        fputs("usage: abi-fuzz CALLS SEED FOLDER\n", stderr);
        return 2;
    }
    calls_each = strtoull(words[1], NULL, 10) / THREADS;
    seed = strtoull(words[2], NULL, 10);
    folder = words[3];
    printf("seed %" PRIu64 ", %" PRIu64 " calls by %d threads\n", seed, calls_each * THREADS, THREADS);
    fflush(stdout);
    for (unsigned i = 0; i < THREADS; i++) {
        runs[i].number = i;
        runs[i].random = seed * 1000003 + i;
        pthread_create(&threads[i], NULL, work, &runs[i]);
    }
    for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (int kind = KINDS - 1; kind >= 0; kind--) {
        for (int i = 0; i < SHARED; i++) free_any((enum kind)kind, shared[kind][i]);
    }
    uint64_t good = 0, all = 0;
    for (int status = 0; status < STATUSES; status++) {
        uint64_t sum = 0;
        for (unsigned i = 0; i < THREADS; i++) sum += runs[i].statuses[status];
        if (sum) printf("%12" PRIu64 " %s\n", sum, synlock_status_name(status));
        all += sum;
        if (status == SYNLOCK_OK) good = sum;
    }
    int bad = 0;
    for (uint8_t kind = 1; kind <= KINDS; kind++) {
        if (!synlock_debug_live(kind)) continue;
        printf("%" PRIu64 " handles of kind %d are left, seed %" PRIu64 "\n", synlock_debug_live(kind), kind, seed);
        bad = 1;
    }
    /* A fuzzer whose calls all fail has shown nothing. */
    if (good * 5 < all) {
        puts("too few calls worked");
        bad = 1;
    }
    printf("%d passed, %d failed\n", !bad, bad);
    return bad;
}
