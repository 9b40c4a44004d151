/* Several locks at once: all or none, through the C ABI. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <poll.h>
#include <pthread.h>

enum { COUNT = 3 };
static const char *const names[COUNT] = {"sets c", "sets a", "sets b"};

static synlock_store *store;
static synlock_lock *mine[COUNT], *theirs[COUNT];

static synlock_lock *lock_on(const char *name, int64_t timeout_ms, synlock_scope *scope) {
    synlock_lock_options options = SYNLOCK_LOCK_OPTIONS_INIT;
    options.timeout_ms = timeout_ms;
    options.scope = scope;
    synlock_lock *lock = NULL;
    IS(SYNLOCK_OK, synlock_lock_new(store, name, SYNLOCK_NTS, &options, &lock, NULL));
    return lock;
}

static synlock_set *begin(void) {
    char url[512];
    snprintf(url, sizeof url, "flock:%s/sets", getenv("SYNLOCK_TEST_DIR"));
    IS(SYNLOCK_OK, synlock_store_open(url, NULL, NULL, 0, &store, NULL));
    for (int i = 0; i < COUNT; i++) {
        mine[i] = lock_on(names[i], 0, NULL);
        theirs[i] = lock_on(names[i], 0, NULL);
    }
    synlock_set *set = NULL;
    IS(SYNLOCK_OK, synlock_set_new(mine, COUNT, NULL, &set, NULL));
    return set;
}

static void end(synlock_set *set) {
    synlock_set_free(set);
    for (int i = 0; i < COUNT; i++) {
        synlock_lock_free(mine[i]);
        synlock_lock_free(theirs[i]);
    }
    synlock_store_free(store);
}

static void all_states(synlock_state state) {
    for (int i = 0; i < COUNT; i++) CHECK(synlock_lock_state(mine[i]) == state);
}

static void whole_or_nothing(void) {
    synlock_set *set = begin();
    synlock_acquired how = {.struct_size = sizeof how};
    IS(SYNLOCK_OK, synlock_set_acquire(set, SYNLOCK_NO_WAIT, NULL, &how, NULL));
    CHECK(how.contended == 0 && how.attempts >= COUNT && how.fencing_token == 0);
    all_states(SYNLOCK_STATE_HELD);
    IS(SYNLOCK_OK, synlock_set_ensure_held(set, NULL));
    IS(SYNLOCK_ALREADY_HELD, synlock_set_acquire(set, SYNLOCK_NO_WAIT, NULL, NULL, NULL));
    IS(SYNLOCK_BUSY, synlock_lock_acquire(theirs[1], SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_OK, synlock_set_release(set, NULL));
    IS(SYNLOCK_NOT_HELD, synlock_set_release(set, NULL));
    IS(SYNLOCK_NOT_HELD, synlock_set_ensure_held(set, NULL));
    for (int i = 0; i < COUNT; i++) {
        synlock_error *error = NULL;
        IS(SYNLOCK_OK, synlock_lock_acquire(theirs[i], SYNLOCK_NO_WAIT, NULL));
        IS(SYNLOCK_BUSY, synlock_set_acquire(set, SYNLOCK_NO_WAIT, NULL, NULL, &error));
        SAME(names[i], synlock_error_resource(error));
        synlock_error_free(error);
        IS(SYNLOCK_TIMEOUT, synlock_set_acquire(set, 30, NULL, NULL, NULL));
        all_states(SYNLOCK_STATE_IDLE);
        IS(SYNLOCK_OK, synlock_lock_release(theirs[i], NULL));
    }
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_set_acquire(set, -7, NULL, NULL, NULL));
    end(set);
}

static void what_is_no_set(void) {
    synlock_set *set = begin(), *other = NULL;
    synlock_lock *twice[2] = {mine[0], theirs[0]}, *stale[1] = {lock_on("gone", 0, NULL)};
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_set_new(twice, 2, NULL, &other, NULL));
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_set_new(mine, 0, NULL, &other, NULL));
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_set_new(mine, 1025, NULL, &other, NULL));
    synlock_lock_free(stale[0]);
    IS(SYNLOCK_INVALID_HANDLE, synlock_set_new(stale, 1, NULL, &other, NULL));
    IS(SYNLOCK_INVALID_HANDLE, synlock_set_acquire((synlock_set *)mine[0], 0, NULL, NULL, NULL));
    IS(SYNLOCK_INVALID_HANDLE, synlock_lock_acquire((synlock_lock *)set, 0, NULL));
    CHECK(other == NULL);
    synlock_set_free(set);
    synlock_set_free(set);
    end(NULL);
}

/* The first lock's options say how long to wait. */
static void waits_by_option(void) {
    synlock_set *set = begin(), *brief = NULL;
    synlock_lock *two[2] = {lock_on(names[0], 30, NULL), lock_on(names[1], 0, NULL)};
    IS(SYNLOCK_OK, synlock_set_new(two, 2, NULL, &brief, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(theirs[1], SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_TIMEOUT, synlock_set_acquire(brief, SYNLOCK_USE_OPTION, NULL, NULL, NULL));
    synlock_set_free(brief);
    synlock_lock_free(two[0]);
    synlock_lock_free(two[1]);
    end(set);
}

static void *wait_for(void *set) {
    IS(SYNLOCK_CANCELLED, synlock_set_acquire(set, SYNLOCK_FOREVER, NULL, NULL, NULL));
    return NULL;
}

static void sleep_ms(int ms) { poll(NULL, 0, ms); }

/* A wait ends when its switch is thrown, and when the set or one of its locks is freed. */
static void ends_of_a_wait(void) {
    for (int way = 0; way < 3; way++) {
        synlock_set *set = begin();
        pthread_t thread;
        IS(SYNLOCK_OK, synlock_lock_acquire(theirs[0], SYNLOCK_NO_WAIT, NULL));
        if (way == 0) {
            synlock_cancel *cancel = NULL;
            IS(SYNLOCK_OK, synlock_cancel_new(&cancel, NULL));
            IS(SYNLOCK_OK, synlock_cancel_throw(cancel, NULL));
            IS(SYNLOCK_CANCELLED, synlock_set_acquire(set, SYNLOCK_FOREVER, cancel, NULL, NULL));
            synlock_cancel_free(cancel);
        } else {
            pthread_create(&thread, NULL, wait_for, set);
            sleep_ms(30);
            if (way == 1) synlock_set_free(set);
            else {
                synlock_lock_free(mine[1]);
                mine[1] = NULL;
            }
            pthread_join(thread, NULL);
        }
        /* Nothing is kept. */
        IS(SYNLOCK_OK, synlock_lock_acquire(theirs[1], PATIENCE_MS, NULL));
        IS(SYNLOCK_OK, synlock_lock_acquire(theirs[2], PATIENCE_MS, NULL));
        end(way == 1 ? NULL : set);
    }
}

static void ends_of_a_hold(void) {
    synlock_set *set = begin();
    IS(SYNLOCK_OK, synlock_set_acquire(set, SYNLOCK_NO_WAIT, NULL, NULL, NULL));
    IS(SYNLOCK_OK, synlock_lock_set_auto_release(mine[2], 0, NULL));
    synlock_set_free(set);
    CHECK(synlock_lock_state(mine[0]) == SYNLOCK_STATE_IDLE && synlock_lock_state(mine[2]) == SYNLOCK_STATE_HELD);
    IS(SYNLOCK_OK, synlock_lock_release(mine[2], NULL));
    /* A scope that ends. */
    synlock_scope *scope = NULL;
    IS(SYNLOCK_OK, synlock_scope_new(&scope, NULL));
    synlock_lock *two[2] = {lock_on(names[0], 0, scope), lock_on(names[1], 0, scope)};
    IS(SYNLOCK_OK, synlock_set_new(two, 2, scope, &set, NULL));
    IS(SYNLOCK_OK, synlock_set_acquire(set, SYNLOCK_NO_WAIT, NULL, NULL, NULL));
    synlock_scope_free(scope);
    IS(SYNLOCK_INVALID_HANDLE, synlock_set_release(set, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(theirs[0], SYNLOCK_NO_WAIT, NULL));
    end(NULL);
}

static void interrupted(void) {
    synlock_set *set = begin(), *slow = NULL;
    synlock_lock_options options = SYNLOCK_LOCK_OPTIONS_INIT;
    options.interruptible = SYNLOCK_ON;
    synlock_lock *two[2] = {NULL, NULL};
    for (int i = 0; i < 2; i++) IS(SYNLOCK_OK, synlock_lock_new(store, names[i], SYNLOCK_NTS, &options, &two[i], NULL));
    IS(SYNLOCK_OK, synlock_set_new(two, 2, NULL, &slow, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(theirs[0], SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_INTERRUPTED, synlock_set_acquire(slow, SYNLOCK_FOREVER, NULL, NULL, NULL));
    IS(SYNLOCK_OK, synlock_set_abandon(slow, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(theirs[1], SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_OK, synlock_lock_release(theirs[1], NULL));
    IS(SYNLOCK_INTERRUPTED, synlock_set_acquire(slow, SYNLOCK_FOREVER, NULL, NULL, NULL));
    IS(SYNLOCK_OK, synlock_lock_release(theirs[0], NULL));
    int status;
    while ((status = synlock_set_acquire(slow, PATIENCE_MS, NULL, NULL, NULL)) == SYNLOCK_INTERRUPTED) continue;
    CHECK(status == SYNLOCK_OK);
    synlock_set_free(slow);
    synlock_lock_free(two[0]);
    synlock_lock_free(two[1]);
    end(set);
}

static synlock_completion reaped(synlock_dispatch *dispatch) {
    synlock_completion done;
    size_t count = 0;
    for (int turns = 0; !count && turns < 600; turns++) {
        struct pollfd fd = {.fd = synlock_dispatch_fd(dispatch), .events = POLLIN};
        poll(&fd, 1, 100);
        IS(SYNLOCK_OK, synlock_dispatch_reap(dispatch, &done, 1, sizeof done, &count, NULL));
    }
    CHECK(count == 1);
    return done;
}

static void dispatched(void) {
    synlock_set *set = begin();
    synlock_dispatch *dispatch = NULL;
    uint64_t ticket = 0;
    IS(SYNLOCK_OK, synlock_dispatch_new(&dispatch, NULL));
    static const int ops[] = {SYNLOCK_OP_ACQUIRE, SYNLOCK_OP_CHECK, SYNLOCK_OP_RELEASE};
    for (int i = 0; i < 3; i++) {
        IS(SYNLOCK_OK, synlock_dispatch_submit_set(dispatch, set, ops[i], SYNLOCK_FOREVER, 40 + i, &ticket, NULL));
        synlock_completion done = reaped(dispatch);
        CHECK(done.status == SYNLOCK_OK && done.ticket == ticket && done.user == 40u + (unsigned)i);
    }
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_dispatch_submit_set(dispatch, set, SYNLOCK_OP_DEMOTE, 0, 0, NULL, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(theirs[2], SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_OK, synlock_dispatch_submit_set(dispatch, set, SYNLOCK_OP_ACQUIRE, SYNLOCK_FOREVER, 0, &ticket, NULL));
    IS(SYNLOCK_CONCURRENT_USE, synlock_set_acquire(set, 0, NULL, NULL, NULL));
    IS(SYNLOCK_OK, synlock_dispatch_cancel(dispatch, ticket, NULL));
    synlock_completion done = reaped(dispatch);
    CHECK(done.status == SYNLOCK_CANCELLED && done.error);
    synlock_error_free(done.error);
    all_states(SYNLOCK_STATE_IDLE);
    synlock_dispatch_free(dispatch);
    end(set);
}

int main(void) {
    check_setting();
    CASE(whole_or_nothing);
    CASE(what_is_no_set);
    CASE(waits_by_option);
    CASE(ends_of_a_wait);
    CASE(ends_of_a_hold);
    CASE(interrupted);
    CASE(dispatched);
    return check_totals();
}
