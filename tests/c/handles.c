/* Handles that are stale, doubled, forged or of another kind, and several threads on one handle. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <pthread.h>
#include <time.h>

#define FORGED(type, value) ((type *)(uintptr_t)(value))

static void pause_ms(int ms) {
    struct timespec time = {0, ms * 1000000L};
    nanosleep(&time, NULL);
}

/* Every function that takes a lock, on one that is none. */
static void no_lock(synlock_lock *lock, int expected) {
    char text[600];
    size_t length = 7;
    int32_t number = 7;
    uint64_t ticket = 7;
    synlock_acquired how = {.struct_size = sizeof how};
    synlock_dispatch *dispatch = NULL;
    synlock_error *error = NULL;
    IS(expected, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, &error));
    IS(expected, synlock_error_code(error));
    synlock_error_free(error);
    IS(expected, synlock_lock_acquire_with(lock, SYNLOCK_NO_WAIT, NULL, &how, NULL));
    IS(expected, synlock_lock_abandon(lock, NULL));
    IS(expected, synlock_lock_release(lock, NULL));
    IS(expected, synlock_lock_refresh(lock, 0, NULL));
    IS(expected, synlock_lock_promote(lock, SYNLOCK_NO_WAIT, NULL));
    IS(expected, synlock_lock_demote(lock, NULL));
    IS(expected, synlock_lock_ensure_held(lock, NULL));
    IS(expected, synlock_lock_is_acquired(lock, &number, NULL));
    IS(expected, synlock_lock_owner_token(lock, text, sizeof text, &length, NULL));
    IS(expected, synlock_lock_lost_fd(lock, &number, NULL));
    IS(expected, synlock_lock_set_auto_release(lock, 1, NULL));
    IS(expected, synlock_lock_export(lock, text, sizeof text, &length, NULL));
    IS(SYNLOCK_OK, synlock_dispatch_new(&dispatch, NULL));
    IS(expected, synlock_dispatch_submit(dispatch, lock, SYNLOCK_OP_RELEASE, 0, 0, &ticket, NULL));
    synlock_dispatch_free(dispatch);
    CHECK(number == 7 && length == 7 && ticket == 7); /* written only on success */
    CHECK(synlock_lock_state(lock) == SYNLOCK_STATE_IDLE && synlock_lock_mode(lock) == SYNLOCK_EXCLUSIVE);
    CHECK(synlock_lock_remaining_ms(lock) == -1 && synlock_lock_timeout_ms(lock) == SYNLOCK_FOREVER);
    CHECK(synlock_lock_fencing_token(lock) == 0 && synlock_lock_auto_release(lock) == -1);
    synlock_lock_free(lock);
}

/* Every function that takes a session, on one that is none. */
static void no_session(synlock_session *session, int expected) {
    char text[256];
    size_t length = 7;
    int32_t number = 7;
    uint64_t released = 7;
    IS(expected, synlock_session_id(session, text, sizeof text, &length, NULL));
    IS(expected, synlock_session_acquire(session, "x", 1, 0, NULL));
    IS(expected, synlock_session_renew(session, "x", 1, 0, NULL));
    IS(expected, synlock_session_may_be_available(session, "x", 1, &number, NULL));
    IS(expected, synlock_session_wait(session, "x", 1, 0, NULL));
    IS(expected, synlock_session_release(session, "x", 1, NULL));
    IS(expected, synlock_session_release_all(session, NULL, &released, NULL));
    CHECK(number == 7 && length == 7 && released == 7);
    synlock_session_free(session);
}

static void sessions(void) {
    synlock_store *store = check_store("memory");
    synlock_session *session = NULL, *young = NULL;
    IS(SYNLOCK_OK, synlock_session_new(store, NULL, &session, NULL));
    no_session(NULL, SYNLOCK_NULL_POINTER);
    no_session((synlock_session *)(void *)store, SYNLOCK_INVALID_HANDLE);
    no_session(FORGED(synlock_session, (uintptr_t)session ^ 1u << 27), SYNLOCK_INVALID_HANDLE);
    synlock_session_free(session);
    IS(SYNLOCK_OK, synlock_session_new(store, NULL, &young, NULL));
    no_session(session, SYNLOCK_INVALID_HANDLE);
    IS(SYNLOCK_OK, synlock_session_acquire(young, "x", 1, 0, NULL));
    CHECK(synlock_debug_live(9) == 1);
    synlock_session_free(young);
    synlock_store_free(store);
}

static void stale_and_doubled(void) {
    synlock_store *store = check_store("memory");
    synlock_lock *old = check_lock(store, "x", NULL);
    synlock_lock_free(old);
    synlock_lock_free(old);
    synlock_lock *young = check_lock(store, "x", NULL); /* in the same slot */
    CHECK(young != old);
    IS(SYNLOCK_OK, synlock_lock_acquire(young, SYNLOCK_NO_WAIT, NULL));
    no_lock(old, SYNLOCK_INVALID_HANDLE);
    IS(SYNLOCK_OK, synlock_lock_ensure_held(young, NULL));
    CHECK(synlock_debug_live(2) == 1);
    synlock_lock_free(young);
    synlock_store_free(store);
    synlock_store_free(store);
    IS(SYNLOCK_INVALID_HANDLE, synlock_store_ping(store, 0, NULL));
}

static void forged(void) {
    synlock_store *store = check_store("memory");
    synlock_lock *lock = check_lock(store, "x", NULL);
    uintptr_t real = (uintptr_t)lock;
    int on_the_stack = 0;
    uintptr_t values[] = {1, 4096, UINTPTR_MAX, UINTPTR_MAX >> 1, (uintptr_t)&on_the_stack, (uintptr_t)forged,
                          real ^ 1u << 27, real ^ (uintptr_t)1 << 54, real ^ (uintptr_t)3 << 56, real | 0x0fffffff};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) no_lock(FORGED(synlock_lock, values[i]), SYNLOCK_INVALID_HANDLE);
    no_lock(NULL, SYNLOCK_NULL_POINTER);
    synlock_lock_free(lock);
    synlock_store_free(store);
}

/* A living handle of one kind is none of another. */
static void of_another_kind(void) {
    synlock_store *store = check_store("memory");
    synlock_lock *lock = check_lock(store, "x", NULL);
    synlock_cancel *cancel = NULL;
    IS(SYNLOCK_OK, synlock_cancel_new(&cancel, NULL));
    no_lock((synlock_lock *)(void *)store, SYNLOCK_INVALID_HANDLE);
    no_lock((synlock_lock *)(void *)cancel, SYNLOCK_INVALID_HANDLE);
    IS(SYNLOCK_INVALID_HANDLE, synlock_store_ping((synlock_store *)(void *)lock, 0, NULL));
    IS(SYNLOCK_INVALID_HANDLE, synlock_lock_acquire_with(lock, 0, (synlock_cancel *)(void *)store, NULL, NULL));
    IS(SYNLOCK_INVALID_HANDLE, synlock_cancel_throw((synlock_cancel *)(void *)lock, NULL));
    synlock_scope_free((synlock_scope *)(void *)lock);
    synlock_events_free((synlock_events *)(void *)store);
    synlock_list_free((synlock_list *)(void *)store);
    synlock_error_free((synlock_error *)(void *)cancel);
    CHECK(synlock_debug_live(0) == 3);
    synlock_cancel_free(cancel);
    synlock_lock_free(lock);
    synlock_store_free(store);
}

struct wait { synlock_lock *lock; synlock_cancel *cancel; int status; };

static void *waiter(void *given) {
    struct wait *wait = given;
    wait->status = synlock_lock_acquire_with(wait->lock, PATIENCE_MS, wait->cancel, NULL, NULL);
    return NULL;
}

static void until_it_waits(synlock_lock *lock) {
    for (int i = 0; i < PATIENCE_MS / 2 && synlock_lock_state(lock) != SYNLOCK_STATE_ACQUIRING; i++) pause_ms(2);
    CHECK(synlock_lock_state(lock) == SYNLOCK_STATE_ACQUIRING);
}

static void one_handle_two_threads(void) {
    synlock_store *store = check_store("flock");
    synlock_lock *holder = check_lock(store, "x", NULL), *lock = check_lock(store, "x", NULL);
    pthread_t thread;
    struct wait wait = {lock, NULL, -1};
    IS(SYNLOCK_OK, synlock_lock_acquire(holder, SYNLOCK_NO_WAIT, NULL));
    pthread_create(&thread, NULL, waiter, &wait);
    until_it_waits(lock);
    IS(SYNLOCK_CONCURRENT_USE, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_CONCURRENT_USE, synlock_lock_release(lock, NULL));
    IS(SYNLOCK_OK, synlock_lock_release(holder, NULL));
    pthread_join(thread, NULL);
    IS(SYNLOCK_OK, wait.status);
    IS(SYNLOCK_OK, synlock_lock_release(lock, NULL)); /* moved to this thread */
    synlock_lock_free(lock);
    synlock_lock_free(holder);
    synlock_store_free(store);
}

/* By freeing the handle, or by its cancel switch. */
static void ended_from_outside(const char *kind, int by_free) {
    synlock_store *store = check_store(kind);
    synlock_lock *holder = check_lock(store, "x", NULL), *lock = check_lock(store, "x", NULL);
    synlock_cancel *cancel = NULL;
    IS(SYNLOCK_OK, synlock_cancel_new(&cancel, NULL));
    pthread_t thread;
    struct wait wait = {lock, by_free ? NULL : cancel, -1};
    IS(SYNLOCK_OK, synlock_lock_acquire(holder, SYNLOCK_NO_WAIT, NULL));
    pthread_create(&thread, NULL, waiter, &wait);
    until_it_waits(lock);
    if (by_free) synlock_lock_free(lock);
    else IS(SYNLOCK_OK, synlock_cancel_throw(cancel, NULL));
    pthread_join(thread, NULL);
    IS(SYNLOCK_CANCELLED, wait.status);
    if (by_free) no_lock(lock, SYNLOCK_INVALID_HANDLE);
    else IS(SYNLOCK_CANCELLED, synlock_lock_acquire_with(lock, 1000, cancel, NULL, NULL)); /* now and later */
    IS(SYNLOCK_OK, synlock_lock_release(holder, NULL));
    synlock_lock_free(lock);
    synlock_cancel_free(cancel);
    synlock_lock_free(holder);
    synlock_store_free(store);
}

static void free_during_a_wait(void) {
    ended_from_outside("memory", 1);
    ended_from_outside("flock", 1);
    ended_from_outside("redis", 1);
}

static void cancel_from_another_thread(void) {
    ended_from_outside("memory", 0);
    ended_from_outside("flock", 0);
    ended_from_outside("redis", 0);
}

static synlock_store *shared_store;
static synlock_lock *shared_lock;

static void *free_all(void *unused) {
    (void)unused;
    synlock_lock_free(shared_lock);
    synlock_store_free(shared_store);
    return NULL;
}

static void freed_by_many_at_once(void) {
    for (int round = 0; round < 50; round++) {
        pthread_t threads[8];
        shared_store = check_store("memory");
        shared_lock = check_lock(shared_store, "x", NULL);
        IS(SYNLOCK_OK, synlock_lock_acquire(shared_lock, SYNLOCK_NO_WAIT, NULL));
        for (int i = 0; i < 8; i++) pthread_create(&threads[i], NULL, free_all, NULL);
        for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
        CHECK(synlock_debug_live(0) == 0);
    }
}

static void any_order_of_freeing(void) {
    synlock_store *store = check_store("memory"), *again = NULL;
    char url[64];
    IS(SYNLOCK_OK, synlock_store_url(store, url, sizeof url, NULL, NULL));
    synlock_lock *lock = check_lock(store, "x", NULL), *other = NULL;
    synlock_dispatch *dispatch = NULL;
    synlock_events *events = NULL;
    IS(SYNLOCK_OK, synlock_events_new(store, 4, &events, NULL));
    IS(SYNLOCK_OK, synlock_dispatch_new(&dispatch, NULL));
    synlock_store_free(store);
    IS(SYNLOCK_OK, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_OK, synlock_store_open(url, NULL, NULL, 0, &again, NULL));
    other = check_lock(again, "x", NULL);
    IS(SYNLOCK_OK, synlock_dispatch_submit(dispatch, other, SYNLOCK_OP_ACQUIRE, SYNLOCK_FOREVER, 0, NULL, NULL));
    synlock_dispatch_free(dispatch); /* ends what is under way */
    synlock_lock_free(other);
    synlock_lock_free(lock);
    synlock_event event = {.struct_size = sizeof event};
    IS(SYNLOCK_OK, synlock_events_next(events, &event, NULL));
    synlock_events_free(events);
    lock = check_lock(again, "x", NULL);
    IS(SYNLOCK_OK, synlock_lock_acquire(lock, PATIENCE_MS, NULL)); /* nobody has it any more */
    synlock_lock_free(lock);
    synlock_store_free(again);
}

/* While an operation other than an acquire is under way. */
static void freed_in_a_promotion(void) {
    synlock_store *store = check_store("memory");
    synlock_lock_options shared = {.struct_size = sizeof shared, .mode = SYNLOCK_SHARED};
    synlock_lock *lock = check_lock(store, "x", &shared), *reader = check_lock(store, "x", &shared);
    synlock_dispatch *dispatch = NULL;
    synlock_completion done = {0};
    size_t count = 0;
    IS(SYNLOCK_OK, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(reader, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_OK, synlock_dispatch_new(&dispatch, NULL));
    IS(SYNLOCK_OK, synlock_dispatch_submit(dispatch, lock, SYNLOCK_OP_PROMOTE, SYNLOCK_FOREVER, 0, NULL, NULL));
    synlock_lock_free(lock);
    for (int i = 0; i < PATIENCE_MS / 2 && count == 0; i++) {
        IS(SYNLOCK_OK, synlock_dispatch_reap(dispatch, &done, 1, sizeof done, &count, NULL));
        if (count == 0) pause_ms(2);
    }
    IS(SYNLOCK_CANCELLED, done.status);
    synlock_error_free(done.error);
    synlock_dispatch_free(dispatch);
    synlock_lock_free(reader);
    lock = check_lock(store, "x", NULL);
    IS(SYNLOCK_OK, synlock_lock_acquire(lock, PATIENCE_MS, NULL));
    synlock_lock_free(lock);
    synlock_store_free(store);
}

struct call { synlock_lock *lock; synlock_manager *manager; synlock_session *session; int status; };

static void *in_promote(void *given) {
    struct call *call = given;
    call->status = synlock_lock_promote(call->lock, PATIENCE_MS, NULL);
    return NULL;
}

static void *in_manager(void *given) {
    struct call *call = given;
    call->status = synlock_manager_acquire(call->manager, "\"x\"", SYNLOCK_NTS, NULL, 0, NULL, NULL, NULL);
    return NULL;
}

static void *in_session(void *given) {
    struct call *call = given;
    call->status = synlock_session_wait(call->session, "x", 1, PATIENCE_MS, NULL);
    return NULL;
}

/* Frees what a thread waits with; 0 if that had not begun to wait after `ms`. */
static int ends_by_free(void *(*wait)(void *), struct call call, int ms) {
    pthread_t thread;
    pthread_create(&thread, NULL, wait, &call);
    for (int left = ms; left > 0; left -= 50) pause_ms(50);
    synlock_lock_free(call.lock);
    synlock_manager_free(call.manager);
    synlock_session_free(call.session);
    pthread_join(thread, NULL);
    if (call.status == SYNLOCK_INVALID_HANDLE && ms < 20000) return 0;
    IS(SYNLOCK_CANCELLED, call.status);
    return 1;
}

static void free_during_any_wait(void) {
    synlock_store *store = check_store("memory");
    synlock_lock_options shared = {.struct_size = sizeof shared, .mode = SYNLOCK_SHARED};
    synlock_manager_options patient = {.struct_size = sizeof patient, .sleep_ms = 1000, .tries = PATIENCE_MS / 1000, .prefix = ""};
    synlock_lock *reader = check_lock(store, "x", &shared);
    int ended;
    IS(SYNLOCK_OK, synlock_lock_acquire(reader, SYNLOCK_NO_WAIT, NULL));
    ended = 0;
    for (int ms = 50; !ended; ms *= 5) {
        struct call call = {check_lock(store, "x", &shared), NULL, NULL, -1};
        IS(SYNLOCK_OK, synlock_lock_acquire(call.lock, SYNLOCK_NO_WAIT, NULL));
        ended = ends_by_free(in_promote, call, ms);
    }
    ended = 0;
    for (int ms = 50; !ended; ms *= 5) {
        struct call call = {NULL, NULL, NULL, -1};
        IS(SYNLOCK_OK, synlock_manager_new(store, &patient, &call.manager, NULL));
        ended = ends_by_free(in_manager, call, ms);
    }
    ended = 0;
    for (int ms = 50; !ended; ms *= 5) {
        struct call call = {NULL, NULL, NULL, -1};
        IS(SYNLOCK_OK, synlock_session_new(store, NULL, &call.session, NULL));
        ended = ends_by_free(in_session, call, ms);
    }
    synlock_lock_free(reader);
    reader = check_lock(store, "x", NULL);
    IS(SYNLOCK_OK, synlock_lock_acquire(reader, SYNLOCK_NO_WAIT, NULL)); /* nothing stayed behind */
    synlock_lock_free(reader);
    synlock_store_free(store);
}

static void *another_request(void *unused) {
    (void)unused;
    synlock_scope *scope = NULL;
    IS(SYNLOCK_OK, synlock_scope_request(&scope, NULL));
    synlock_scope_free(scope);
    return NULL;
}

/* A request on one thread does not end that of another. */
static void requests_of_two_threads(void) {
    synlock_store *store = check_store("memory");
    synlock_scope *scope = NULL;
    pthread_t thread;
    IS(SYNLOCK_OK, synlock_scope_request(&scope, NULL));
    synlock_lock_options options = {.struct_size = sizeof options, .scope = scope};
    synlock_lock *lock = check_lock(store, "x", &options);
    IS(SYNLOCK_OK, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL));
    pthread_create(&thread, NULL, another_request, NULL);
    pthread_join(thread, NULL);
    IS(SYNLOCK_OK, synlock_lock_ensure_held(lock, NULL));
    synlock_scope_free(scope);
    synlock_store_free(store);
}

int main(void) {
    check_setting();
    CASE(sessions);
    CASE(stale_and_doubled);
    CASE(forged);
    CASE(of_another_kind);
    CASE(one_handle_two_threads);
    CASE(free_during_a_wait);
    CASE(cancel_from_another_thread);
    CASE(freed_by_many_at_once);
    CASE(any_order_of_freeing);
    CASE(freed_in_a_promotion);
    CASE(free_during_any_wait);
    CASE(requests_of_two_threads);
    return check_totals();
}
