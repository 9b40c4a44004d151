/* Two copies of the library in one process, as a PHP extension and a Node addon of one host would
   bring them: copies ONE TWO URL... Each case is a process of its own. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <synlock.h>
#include <unistd.h>

struct copy {
    void *library;
    synlock_status (*open)(const char *, const char *const *, const char *const *, size_t, synlock_store **, synlock_error **);
    synlock_status (*new)(const synlock_store *, const char *, size_t, const synlock_lock_options *, synlock_lock **, synlock_error **);
    synlock_status (*acquire)(synlock_lock *, int64_t, synlock_error **);
    synlock_status (*release)(synlock_lock *, synlock_error **);
    synlock_status (*ensure_held)(synlock_lock *, synlock_error **);
    synlock_status (*inspect)(const synlock_store *, const char *, size_t, synlock_list **, synlock_error **);
    size_t (*count)(const synlock_list *);
    void (*free_list)(synlock_list *);
    void (*free_lock)(synlock_lock *);
    void (*free_store)(synlock_store *);
    uint64_t (*live)(uint8_t);
    synlock_store *store;
    synlock_lock *lock;
};
static struct copy one, two;
static const char *paths[2], *url;

static void must(int line, int good) {
    if (good) return;
    fprintf(stderr, "copies.c:%d: not so\n", line);
    _exit(1);
}
#define MUST(what) must(__LINE__, (what))

static void find(struct copy *copy, const char *name, void *function) {
    void *found = dlsym(copy->library, name);
    MUST(found != NULL);
    memcpy(function, &found, sizeof found);
}

static void load(struct copy *copy, const char *path) {
    copy->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!copy->library) fprintf(stderr, "%s\n", dlerror());
    MUST(copy->library != NULL);
    find(copy, "synlock_store_open", &copy->open);
    find(copy, "synlock_lock_new", &copy->new);
    find(copy, "synlock_lock_acquire", &copy->acquire);
    find(copy, "synlock_lock_release", &copy->release);
    find(copy, "synlock_lock_ensure_held", &copy->ensure_held);
    find(copy, "synlock_store_inspect", &copy->inspect);
    find(copy, "synlock_list_count", &copy->count);
    find(copy, "synlock_list_free", &copy->free_list);
    find(copy, "synlock_lock_free", &copy->free_lock);
    find(copy, "synlock_store_free", &copy->free_store);
    find(copy, "synlock_debug_live", &copy->live);
    MUST(copy->open(url, NULL, NULL, 0, &copy->store, NULL) == SYNLOCK_OK);
    MUST(copy->new(copy->store, "x", SYNLOCK_NTS, NULL, &copy->lock, NULL) == SYNLOCK_OK);
}

static void load_both(void) {
    load(&one, paths[0]);
    load(&two, paths[1]);
    MUST(one.library != two.library && one.acquire != two.acquire);
}

static int take(struct copy *copy) { return copy->acquire(copy->lock, SYNLOCK_NO_WAIT, NULL); }
static int let_go(struct copy *copy) { return copy->release(copy->lock, NULL); }
static int holds(struct copy *copy) { return copy->ensure_held(copy->lock, NULL) == SYNLOCK_OK; }

static size_t holders(struct copy *copy) {
    synlock_list *list = NULL;
    MUST(copy->inspect(copy->store, "x", SYNLOCK_NTS, &list, NULL) == SYNLOCK_OK);
    size_t count = copy->count(list);
    copy->free_list(list);
    return count;
}

static void drop(struct copy *copy) {
    copy->free_lock(copy->lock);
    copy->free_store(copy->store);
    MUST(copy->live(0) == 0);
}

static void exclude(void) {
    load_both();
    for (int round = 0; round < 100; round++) {
        struct copy *holder = round % 2 ? &one : &two, *other = round % 2 ? &two : &one;
        MUST(take(holder) == SYNLOCK_OK);
        MUST(take(other) == SYNLOCK_BUSY);
        MUST(holders(other) == 1 && holds(holder) && !holds(other));
        MUST(let_go(holder) == SYNLOCK_OK);
        MUST(holders(other) == 0);
    }
    /* What one has freed is nothing to the other. */
    MUST(take(&two) == SYNLOCK_OK);
    drop(&one);
    MUST(holds(&two) && let_go(&two) == SYNLOCK_OK);
    drop(&two);
}

static void *wait_for(void *copy) {
    struct copy *waiter = copy;
    MUST(waiter->acquire(waiter->lock, 60000, NULL) == SYNLOCK_OK);
    return NULL;
}

/* The waiter of one is woken by the other's release. */
static void wake(void) {
    load_both();
    for (int round = 0; round < 10; round++) {
        struct copy *holder = round % 2 ? &one : &two, *other = round % 2 ? &two : &one;
        pthread_t thread;
        MUST(take(holder) == SYNLOCK_OK);
        MUST(!pthread_create(&thread, NULL, wait_for, other));
        usleep(5000);
        MUST(let_go(holder) == SYNLOCK_OK);
        MUST(!pthread_join(thread, NULL));
        MUST(holds(other) && take(holder) == SYNLOCK_BUSY && let_go(other) == SYNLOCK_OK);
    }
}

enum { ROUNDS = 2000 };
static atomic_int inside;
static pthread_barrier_t start;
static int counted;

static void *count_up(void *copy) {
    struct copy *mine = copy;
    pthread_barrier_wait(&start);
    for (int round = 0; round < ROUNDS; round++) {
        MUST(mine->acquire(mine->lock, 60000, NULL) == SYNLOCK_OK);
        MUST(atomic_fetch_add(&inside, 1) == 0);
        counted++;
        sched_yield();
        MUST(atomic_fetch_sub(&inside, 1) == 1);
        MUST(let_go(mine) == SYNLOCK_OK);
    }
    return NULL;
}

static void compete(void) {
    load_both();
    pthread_t threads[2];
    MUST(!pthread_barrier_init(&start, NULL, 2));
    MUST(!pthread_create(&threads[0], NULL, count_up, &one));
    MUST(!pthread_create(&threads[1], NULL, count_up, &two));
    for (int i = 0; i < 2; i++) MUST(!pthread_join(threads[i], NULL));
    MUST(counted == 2 * ROUNDS);
}

/* Both watch for forks: neither lets the child have, or lose, what the parent holds. */
static void fork_with_both(void) {
    load_both();
    synlock_lock *other = NULL;
    MUST(two.new(two.store, "y", SYNLOCK_NTS, NULL, &other, NULL) == SYNLOCK_OK);
    MUST(take(&one) == SYNLOCK_OK && two.acquire(other, SYNLOCK_NO_WAIT, NULL) == SYNLOCK_OK);
    pid_t pid = fork();
    if (pid == 0) {
        MUST(let_go(&one) == SYNLOCK_FORKED_HANDLE && two.release(other, NULL) == SYNLOCK_FORKED_HANDLE);
        MUST(take(&two) == SYNLOCK_BUSY);
        drop(&one);
        exit(0);
    }
    int status = 1;
    MUST(waitpid(pid, &status, 0) == pid && status == 0);
    MUST(holds(&one) && two.ensure_held(other, NULL) == SYNLOCK_OK && take(&two) == SYNLOCK_BUSY);
    MUST(let_go(&one) == SYNLOCK_OK && two.release(other, NULL) == SYNLOCK_OK);
}

/* Unloaded in whatever order, holding and with a thread that waits in the background. */
static void unload(struct copy *first, struct copy *second, struct copy *holder) {
    struct copy *other = holder == &one ? &two : &one;
    load_both();
    MUST(take(holder) == SYNLOCK_OK);
    MUST(other->acquire(other->lock, 20, NULL) == SYNLOCK_TIMEOUT);
    MUST(!dlclose(first->library));
    MUST(holds(holder) && take(other) == SYNLOCK_BUSY);
    MUST(!dlclose(second->library));
    MUST(holds(holder) && take(other) == SYNLOCK_BUSY);
}
static void unload_one_two_held_by_one(void) { unload(&one, &two, &one); }
static void unload_one_two_held_by_two(void) { unload(&one, &two, &two); }
static void unload_two_one_held_by_one(void) { unload(&two, &one, &one); }
static void unload_two_one_held_by_two(void) { unload(&two, &one, &two); }

static void leave_while_both_hold(void) {
    load_both();
    synlock_lock *other = NULL;
    MUST(two.new(two.store, "y", SYNLOCK_NTS, NULL, &other, NULL) == SYNLOCK_OK);
    MUST(take(&one) == SYNLOCK_OK && two.acquire(other, SYNLOCK_NO_WAIT, NULL) == SYNLOCK_OK);
}

/* Nothing is left of the case before. */
static void is_free(void) {
    load(&one, paths[0]);
    MUST(take(&one) == SYNLOCK_OK && let_go(&one) == SYNLOCK_OK);
}

/* In a process that ends as programs do, with all exit handlers. */
static int runs(void (*body)(void)) {
    pid_t pid = fork();
    if (pid == 0) {
        alarm(250);
        body();
        exit(0);
    }
    int status = 1;
    return waitpid(pid, &status, 0) == pid && status == 0;
}

#define CASE(name) {#name, name}
static const struct {
    const char *name;
    void (*body)(void);
} cases[] = {
    CASE(exclude), CASE(wake), CASE(compete), CASE(fork_with_both), CASE(unload_one_two_held_by_one),
    CASE(unload_one_two_held_by_two), CASE(unload_two_one_held_by_one), CASE(unload_two_one_held_by_two),
    CASE(leave_while_both_hold),
};

int main(int count, char **words) {
    int passed = 0, failed = 0;
    if (count < 4) return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    paths[0] = words[1];
    paths[1] = words[2];
    for (int at = 3; at < count; at++) {
        url = words[at];
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            int good = runs(cases[i].body) && runs(is_free);
            printf("%s %.*s: %s\n", good ? "ok" : "FAILED", (int)strcspn(url, ":"), url, cases[i].name);
            if (good) passed++; else failed++;
        }
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed || !passed;
}
