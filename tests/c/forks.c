/* Row 7 in C: what a forked child does with an inherited lock never disturbs its parent's, and never
   keeps it. forks ROUNDS URL...; each round is a parent that holds, its child, and this process as the
   contender, which opens its own store when the parent has been forked. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <synlock.h>
#include <time.h>
#include <unistd.h>

enum fate { EXITS, FREES, RELEASES, EXECUTES, IS_KILLED, OUTLIVES_RELEASE, OUTLIVES_PARENT, FATES };
static const char *const fates[] = {"exits",     "frees the handle",     "releases",          "executes",
                                    "is killed", "outlives the release", "outlives its parent"};

/* SOON_MS: what a call that is bounded comes back within, on any machine. */
enum { FREED_MS = 100, LEASE_SLACK_MS = 50, SOON_MS = 20000 };
static int is_full, lease_ms;

struct page {
    atomic_int held, done, contended, ending, wrong, premature, over, hung;
    atomic_llong ended;
};
static struct page *page;

static long long now(void) { /* ns */
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void pause_ms(long ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) && errno == EINTR) {}
}

static int until(atomic_int *flag) {
    for (int i = 0; i < 3 * SOON_MS && !atomic_load(&page->hung); i++) {
        if (atomic_load(flag)) return 1;
        pause_ms(1);
    }
    return 0;
}

/* Where the child, or the parent, found what must not be. */
static void must(int line, int good) {
    int none = 0;
    if (!good) atomic_compare_exchange_strong(&page->wrong, &none, line);
}
#define MUST(what) must(__LINE__, (what))

/* A process in which a call does not come back. */
static void is_hung(int number) {
    (void)number;
    MUST(0);
    atomic_store(&page->hung, 1);
    _exit(7);
}

static void watch(int ms) {
    signal(SIGALRM, is_hung);
    alarm((unsigned)ms / 1000);
}

static synlock_store *open_store(const char *url) {
    synlock_store *store = NULL;
    MUST(synlock_store_open(url, NULL, NULL, 0, &store, NULL) == SYNLOCK_OK);
    return store;
}

static synlock_lock *new_lock(synlock_store *store, const char *name) {
    synlock_lock *lock = NULL;
    synlock_lock_options options = SYNLOCK_LOCK_OPTIONS_INIT;
    synlock_capabilities can = {.struct_size = sizeof can};
    MUST(synlock_store_capabilities(store, &can, NULL) == SYNLOCK_OK);
    if (!can.frees_on_death) {
        /* Kept alive by the watchdog, which must stay behind in the parent. */
        options.ttl_ms = lease_ms;
        options.renew = SYNLOCK_ON;
    }
    MUST(synlock_lock_new(store, name, SYNLOCK_NTS, &options, &lock, NULL) == SYNLOCK_OK);
    return lock;
}

static int take(synlock_lock *lock) { return synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL); }

/* What every child finds, whatever becomes of it. */
static void look(synlock_store *store, synlock_lock *held, synlock_lock *idle) {
    MUST(synlock_lock_state(held) == SYNLOCK_STATE_FORKED);
    MUST(take(held) == SYNLOCK_FORKED_HANDLE);
    MUST(synlock_lock_ensure_held(held, NULL) == SYNLOCK_FORKED_HANDLE);
    MUST(synlock_lock_refresh(held, 0, NULL) == SYNLOCK_FORKED_HANDLE);
    MUST(synlock_lock_state(idle) == SYNLOCK_STATE_IDLE);
    MUST(take(idle) == SYNLOCK_OK);
    MUST(synlock_lock_release(idle, NULL) == SYNLOCK_OK);
    synlock_lock *own = new_lock(store, "of the child");
    MUST(take(own) == SYNLOCK_OK);
    MUST(synlock_lock_release(own, NULL) == SYNLOCK_OK);
    synlock_lock_free(own);
}

static void child(enum fate fate, synlock_store *store, synlock_lock *held, synlock_lock *idle) {
    watch(2 * SOON_MS);
    look(store, held, idle);
    if (fate == RELEASES) MUST(synlock_lock_release(held, NULL) == SYNLOCK_FORKED_HANDLE);
    if (fate == FREES) {
        synlock_lock_free(held);
        synlock_lock_free(idle);
        synlock_store_free(store);
    }
    alarm(0);
    atomic_store(&page->done, 1);
    switch (fate) {
        case EXECUTES: execlp("sleep", "sleep", "0.02", (char *)NULL); _exit(9);
        case IS_KILLED: pause_ms(30000); _exit(9);
        case OUTLIVES_RELEASE:
        case OUTLIVES_PARENT: until(&page->over); _exit(0);
        default: exit(0); /* with the exit handlers of the parent's program */
    }
}

static void parent(enum fate fate, const char *url, int is_shared) {
    watch(6 * SOON_MS);
    synlock_store *store = open_store(url);
    synlock_lock *held = new_lock(store, "x"), *idle = new_lock(store, "idle"), *other = new_lock(store, "x");
    MUST(synlock_lock_acquire(held, SOON_MS, NULL) == SYNLOCK_OK);
    atomic_store(&page->held, 1);
    pid_t pid = fork();
    if (pid == 0) child(fate, store, held, idle);
    MUST(until(&page->done));
    if (fate == IS_KILLED) kill(pid, SIGKILL);
    if (fate != OUTLIVES_RELEASE && fate != OUTLIVES_PARENT) {
        int status = 0;
        MUST(waitpid(pid, &status, 0) == pid);
        MUST(fate == IS_KILLED ? WIFSIGNALED(status) : WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    if (is_shared) MUST(until(&page->contended));
    else MUST(take(other) == SYNLOCK_BUSY);
    MUST(synlock_lock_ensure_held(held, NULL) == SYNLOCK_OK);
    if (fate == OUTLIVES_PARENT) {
        atomic_store(&page->ending, 1);
        atomic_store(&page->ended, now());
        raise(SIGKILL);
    }
    atomic_store(&page->ending, 1);
    MUST(synlock_lock_release(held, NULL) == SYNLOCK_OK);
    atomic_store(&page->ended, now());
    if (!is_shared) {
        MUST(take(other) == SYNLOCK_OK);
        MUST(synlock_lock_release(other, NULL) == SYNLOCK_OK);
    }
    synlock_lock_free(held);
    synlock_lock_free(idle);
    synlock_lock_free(other);
    synlock_store_free(store);
    _exit(synlock_debug_live(0) ? 8 : 0);
}

/* ns from the parent's end until the contender had the lock; -1 if it never got it. */
static long long contend(synlock_lock *lock) {
    long long give_up = now() + 2 * SOON_MS * 1000000LL;
    for (int tries = 0; now() < give_up && !atomic_load(&page->hung); tries++) {
        int status = take(lock);
        if (status == SYNLOCK_OK) {
            if (!atomic_load(&page->ending)) {
                atomic_store(&page->premature, 1);
                break;
            }
            long long ended = atomic_load(&page->ended), waited = ended ? now() - ended : 0;
            MUST(synlock_lock_release(lock, NULL) == SYNLOCK_OK);
            return waited;
        }
        MUST(status == SYNLOCK_BUSY);
        /* Some tries fall after the end of the child. */
        if (tries >= 15 && atomic_load(&page->done)) atomic_store(&page->contended, 1);
        pause_ms(1);
    }
    return -1;
}

static int rounds_of(enum fate fate, const char *url, int rounds) {
    int is_shared = strncmp(url, "memory", 6) != 0, is_leased = !strncmp(url, "redis", 5);
    int bar = fate == OUTLIVES_PARENT && is_leased ? lease_ms + LEASE_SLACK_MS : FREED_MS;
    int bound = is_full ? bar : SOON_MS;
    int premature = 0, late = 0, wrong = 0, crashed = 0, round = 0;
    long long slowest = 0;
    /* A broken one says enough, and the others might each wait as long. */
    for (; round < rounds && !(premature || late || wrong || crashed); round++) {
        memset(page, 0, sizeof *page);
        pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            parent(fate, url, is_shared);
        }
        long long waited = 0;
        if (is_shared && until(&page->held)) {
            synlock_store *store = open_store(url);
            synlock_lock *lock = new_lock(store, "x");
            waited = contend(lock);
            synlock_lock_free(lock);
            synlock_store_free(store);
        }
        int status = 0;
        waitpid(pid, &status, 0);
        atomic_store(&page->over, 1);
        crashed += fate == OUTLIVES_PARENT ? !WIFSIGNALED(status) : !WIFEXITED(status) || WEXITSTATUS(status);
        premature += atomic_load(&page->premature);
        late += waited < 0 || waited > bound * 1000000LL;
        if (waited > slowest) slowest = waited;
        if (atomic_load(&page->wrong)) {
            wrong++;
            fprintf(stderr, "forks.c:%d: not so\n", atomic_load(&page->wrong));
        }
    }
    int bad = premature || late || wrong || crashed;
    printf("%s: %.*s, child %s: %d premature, %d late (slowest %.1f ms), %d wrong, %d crashed of %d\n", bad ? "FAILED" : "ok",
           (int)strcspn(url, ":"), url, fates[fate], premature, late, (double)slowest / 1e6, wrong, crashed, round);
    return bad;
}

static atomic_int is_over;

/* Takes a lock again and again, whose events stand in a queue that a child inherits. */
static void *make_events(void *store) {
    synlock_lock *lock = new_lock(store, "of the thread");
    while (!atomic_load(&is_over)) {
        MUST(take(lock) == SYNLOCK_OK);
        MUST(synlock_lock_release(lock, NULL) == SYNLOCK_OK);
    }
    synlock_lock_free(lock);
    return NULL;
}

/* A child finds the queue of its parent empty, and its own events in it; another thread's work on it is nothing to it. */
static void hear(synlock_store *store, synlock_events *events, int its_fd) {
    synlock_event event = {.struct_size = sizeof event};
    MUST(synlock_events_next(events, &event, NULL) == SYNLOCK_BUSY);
    int fd = synlock_events_fd(events);
    MUST(fd >= 0 && (fd == its_fd || fcntl(its_fd, F_GETFD) < 0));
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    MUST(poll(&polled, 1, 0) == 0);
    synlock_lock *lock = new_lock(store, "of the child");
    MUST(take(lock) == SYNLOCK_OK);
    MUST(poll(&polled, 1, 0) == 1);
    MUST(synlock_events_next(events, &event, NULL) == SYNLOCK_OK);
    MUST(event.kind == SYNLOCK_EVENT_ACQUIRED && event.pid == (uint32_t)getpid());
    synlock_lock_free(lock);
}

static int queues(const char *url, int children) {
    memset(page, 0, sizeof *page);
    atomic_store(&is_over, 0);
    synlock_store *store = open_store(url);
    synlock_events *events = NULL;
    MUST(synlock_events_new(store, 1000, &events, NULL) == SYNLOCK_OK);
    int fd = synlock_events_fd(events), hung = 0;
    pthread_t thread;
    if (pthread_create(&thread, NULL, make_events, store)) return 1;
    for (int i = 0; i < children && !hung; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            watch(SOON_MS);
            hear(store, events, fd);
            _exit(0);
        }
        int status = 0;
        waitpid(pid, &status, 0);
        hung = !WIFEXITED(status) || WEXITSTATUS(status);
    }
    atomic_store(&is_over, 1);
    pthread_join(thread, NULL);
    synlock_events_free(events);
    synlock_store_free(store);
    int wrong = atomic_load(&page->wrong);
    if (wrong) fprintf(stderr, "forks.c:%d: not so\n", wrong);
    printf("%s: children use a queue of events that they inherit\n", hung || wrong ? "FAILED" : "ok");
    return hung || wrong;
}

int main(int count, char **words) {
    if (count < 3) return 2;
    const char *load = getenv("SYNLOCK_LOAD");
    is_full = load && !strcmp(load, "full");
    lease_ms = is_full ? 500 : 3000;
    setvbuf(stdout, NULL, _IOLBF, 0);
    page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return 2;
    int passed = 0, failed = 0;
    /* Whatever is wrong once is so in most rounds, and may wait as long in each. */
    for (int at = 2; at < count && !failed; at++) {
        int is_lasting = !strncmp(words[at], "memory", 6);
        if (is_lasting) {
            if (queues(words[at], is_full ? 2000 : 200)) failed++; else passed++;
        }
        for (int fate = 0; fate < FATES && !failed; fate++) {
            if (is_lasting && fate == OUTLIVES_PARENT) continue; /* nothing is left to be free */
            if (rounds_of((enum fate)fate, words[at], atoi(words[1]))) failed++; else passed++;
        }
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed || !passed;
}
