/* What the C tests share: checks, cases, totals, and a few handles. */
#ifndef CHECK_H
#define CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <synlock.h>

static int check_bad, check_passed, check_failed;

/* Says what was not so; the case goes on. */
#define CHECK(what) ((what) ? (void)0 : check_say(__FILE__, __LINE__, #what))
/* Compares a status by name. */
#define IS(wanted, call) check_status(__FILE__, __LINE__, #call, (wanted), (call))
#define SAME(wanted, got) CHECK(!strcmp((wanted), (got) ? (got) : "(null)"))

static inline void check_say(const char *file, int line, const char *what) {
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    check_bad = 1;
}

static inline void check_status(const char *file, int line, const char *call, int wanted, int got) {
    if (wanted == got) return;
    fprintf(stderr, "%s:%d: %s is %s, not %s\n", file, line, call, synlock_status_name(got), synlock_status_name(wanted));
    check_bad = 1;
}

/* What a call comes to within `ms`, which it names: of them it gets more where a server has not answered in less. */
#define BRIEFLY(wanted, call) \
    for (int64_t ms = 50; ms; ms *= 5) { \
        int got = (call); \
        if (ms < 20000 && (got == SYNLOCK_UNAVAILABLE || got == SYNLOCK_UNCERTAIN)) continue; \
        check_status(__FILE__, __LINE__, #call, (wanted), got); \
        break; \
    }
/* For what must come in the end: on a slow machine, after a while. */
#define PATIENCE_MS 60000

/* Runs a case; it must leave no handle behind. */
static inline void check_case(const char *name, void (*body)(void)) {
    check_bad = 0;
    body();
    if (synlock_debug_live(0)) {
        fprintf(stderr, "%s left %d handles\n", name, (int)synlock_debug_live(0));
        check_bad = 1;
    }
    printf("%s %s\n", check_bad ? "FAILED" : "ok", name);
    if (check_bad) check_failed++; else check_passed++;
}
#define CASE(name) check_case(#name, name)

/* Before anything else. */
static inline void check_setting(void) {
    if (getenv("SYNLOCK_TEST_DIR") && getenv("SYNLOCK_TEST_REDIS")) return;
    fputs("SYNLOCK_TEST_DIR or SYNLOCK_TEST_REDIS is not set: use tests/c/run\n", stderr);
    exit(2);
}

static inline int check_totals(void) {
    printf("%d passed, %d failed\n", check_passed, check_failed);
    return check_failed != 0;
}

/* A place of its own: for `flock:` below the folder that the run gave; `redis:` is the run's server, which the machine
 * may let wait. */
static inline const char *check_url(const char *kind) {
    static char urls[8][512];
    static unsigned made;
    char *url = urls[made++ % 8];
    if (!strcmp(kind, "flock")) snprintf(url, 512, "flock:%s/%u", getenv("SYNLOCK_TEST_DIR"), made);
    else if (!strcmp(kind, "shm")) snprintf(url, 512, "shm:%s/shm-%u-%d?slots=16", getenv("SYNLOCK_TEST_DIR"), made, (int)getpid());
    else if (!strcmp(kind, "redis")) snprintf(url, 512, "%s?connect_timeout=20000&io_timeout=20000", getenv("SYNLOCK_TEST_REDIS"));
    else snprintf(url, 512, "memory:c-%u", made);
    return url;
}

static inline synlock_store *check_store(const char *kind) {
    synlock_store *store = NULL;
    IS(SYNLOCK_OK, synlock_store_open(check_url(kind), NULL, NULL, 0, &store, NULL));
    return store;
}

static inline synlock_lock *check_lock(synlock_store *store, const char *name, const synlock_lock_options *options) {
    synlock_lock *lock = NULL;
    IS(SYNLOCK_OK, synlock_lock_new(store, name, SYNLOCK_NTS, options, &lock, NULL));
    return lock;
}

#endif
