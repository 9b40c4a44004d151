/* Ten thousand waiters in one process by dispatch: three connections, no further threads, no commands but the safety
 * poll; cancelled, they hold nothing. Needs redis-cli. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <dirent.h>
#include <poll.h>
#include <time.h>

enum { WAITERS = 10000, STAY = 500, BATCH = 512, SAFETY_POLL_S = 5 };

/* The first number that the server's answer to a command has, or their sum. */
static long ask(const char *command) {
    char line[512], words[1024];
    snprintf(words, sizeof words, "redis-cli -s '%s' %s", strchr(getenv("SYNLOCK_TEST_REDIS"), '/'), command);
    FILE *answer = popen(words, "r");
    long sum = 0;
    while (answer && fgets(line, sizeof line, answer)) sum += strtol(line, NULL, 10);
    if (answer) pclose(answer);
    return sum;
}

static long queued(void) {
    return ask("EVAL \"local n = 0; for _, k in ipairs(redis.call('KEYS', '*}q:*')) do n = n + redis.call('ZCARD', k) end; "
               "return n\" 0");
}

static long connections(void) {
    char words[128];
    snprintf(words, sizeof words, "CLIENT LIST | grep -c 'name=synlock-%d '", (int)getpid());
    return ask(words);
}

/* Scripts that were run. */
static long calls(void) {
    return ask("INFO commandstats | sed -n 's/^cmdstat_eval[a-z]*:calls=\\([0-9]*\\),.*/\\1/p'");
}

static int threads(void) {
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    while (tasks && readdir(tasks)) count++;
    if (tasks) closedir(tasks);
    return count;
}

static void pause_ms(long ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&left, NULL);
}

static time_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec;
}

static synlock_lock *locks[WAITERS];
static uint64_t tickets[WAITERS];
static char granted[WAITERS];

/* Takes what has come, waiting for it at first; how many were cancelled. The others hold, one after the other, and release. */
static int reap(synlock_dispatch *dispatch, int *inside, int *left) {
    static synlock_completion done[BATCH];
    struct pollfd fd = {synlock_dispatch_fd(dispatch), POLLIN, 0};
    size_t count = 0;
    int cancelled = 0;
    CHECK(poll(&fd, 1, 60000) == 1);
    IS(SYNLOCK_OK, synlock_dispatch_reap(dispatch, done, BATCH, sizeof *done, &count, NULL));
    for (size_t i = 0; i < count; i++) {
        uint64_t who = done[i].user;
        synlock_error_free(done[i].error);
        if (done[i].status == SYNLOCK_CANCELLED) {
            cancelled++;
            --*left;
        } else if (done[i].status == SYNLOCK_OK && !granted[who]) {
            CHECK(++*inside == 1);
            granted[who] = 1;
            IS(SYNLOCK_OK, synlock_dispatch_submit(dispatch, locks[who], SYNLOCK_OP_RELEASE, 0, who, NULL, NULL));
        } else {
            IS(SYNLOCK_OK, done[i].status);
            --*inside;
            --*left;
        }
    }
    return cancelled;
}

static void many(void) {
    synlock_store *store = check_store("redis");
    /* So long that nothing is renewed meanwhile: a renewal beside another call takes one connection more. */
    synlock_lock_options options = SYNLOCK_LOCK_OPTIONS_INIT;
    options.ttl_ms = 600000;
    synlock_lock *holder = check_lock(store, "many", &options), *last = check_lock(store, "many", &options);
    synlock_dispatch *dispatch = NULL;
    int inside = 0, left = 1;
    IS(SYNLOCK_OK, synlock_dispatch_new(&dispatch, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(holder, SYNLOCK_NO_WAIT, NULL));
    for (int i = 0; i < WAITERS; i++) locks[i] = check_lock(store, "many", &options);
    /* The first that waits subscribes. */
    IS(SYNLOCK_OK, synlock_dispatch_submit(dispatch, locks[0], SYNLOCK_OP_ACQUIRE, SYNLOCK_FOREVER, 0, &tickets[0], NULL));
    while (queued() != 1) pause_ms(20);
    IS(SYNLOCK_OK, synlock_dispatch_cancel(dispatch, tickets[0], NULL));
    while (left) reap(dispatch, &inside, &left);
    int before = threads();
    for (int i = 0; i < WAITERS; i++)
        IS(SYNLOCK_OK, synlock_dispatch_submit(dispatch, locks[i], SYNLOCK_OP_ACQUIRE, SYNLOCK_FOREVER, i, &tickets[i], NULL));
    while (queued() != WAITERS) pause_ms(20);
    CHECK(connections() <= 3);
    CHECK(threads() <= before);
    /* Each asks at most once in five seconds. */
    long asked = calls();
    time_t start = now();
    pause_ms(2000);
    CHECK(calls() - asked <= WAITERS * (1 + (now() - start + 1) / SAFETY_POLL_S) + 100);
    /* Those that are cancelled hold nothing and wait no more. */
    left = WAITERS;
    for (int i = 1; i < WAITERS; i += 2) IS(SYNLOCK_OK, synlock_dispatch_cancel(dispatch, tickets[i], NULL));
    for (int ended = 0; ended < WAITERS / 2;) ended += reap(dispatch, &inside, &left);
    CHECK(queued() == WAITERS / 2);
    /* The last cancels race with grants. */
    IS(SYNLOCK_OK, synlock_lock_release(holder, NULL));
    for (int i = STAY; i < WAITERS; i += 2) IS(SYNLOCK_OK, synlock_dispatch_cancel(dispatch, tickets[i], NULL));
    while (left && !check_bad) reap(dispatch, &inside, &left);
    for (int i = 0; i < STAY; i += 2) CHECK(granted[i]);
    CHECK(queued() == 0);
    CHECK(connections() <= 3);
    CHECK(threads() <= before);
    IS(SYNLOCK_OK, synlock_lock_acquire(last, 60000, NULL));
    IS(SYNLOCK_OK, synlock_lock_release(last, NULL));
    for (int i = 0; i < WAITERS; i++) synlock_lock_free(locks[i]);
    synlock_dispatch_free(dispatch);
    synlock_lock_free(last);
    synlock_lock_free(holder);
    synlock_store_free(store);
}

int main(void) {
    check_setting();
    CASE(many);
    return check_totals();
}
