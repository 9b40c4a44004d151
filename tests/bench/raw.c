/* The raw limits: what the machine and the server allow at best. raw KIND WHERE, and how (drive.h).
   Nothing here expires, tells of a loss, survives a crash or knows its owner: limits, no locks to use. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include "resp.h"

static void nothing(void *state) { (void)state; }
static void mutex_lock(void *state) { pthread_mutex_lock(state); }
static void mutex_unlock(void *state) { pthread_mutex_unlock(state); }
static void read_clock(void *state) { (void)state, (void)now_ns(); }
static void wake_nobody(void *state) { syscall(SYS_futex, state, FUTEX_WAKE, 1, NULL, NULL, 0); }

static void flock_lock(void *state) {
    if (flock(*(int *)state, LOCK_EX | LOCK_NB)) die("flock");
}

static void flock_unlock(void *state) { flock(*(int *)state, LOCK_UN); }

/* First come, first served: a ticket, and a wake-up for whoever has the next one. */
struct ticket {
    _Alignas(64) _Atomic uint32_t next;
    _Alignas(64) _Atomic uint32_t served;
};

static void ticket_lock(void *state) {
    struct ticket *lock = state;
    uint32_t mine = atomic_fetch_add(&lock->next, 1), now;
    while ((now = atomic_load(&lock->served)) != mine)
        syscall(SYS_futex, &lock->served, FUTEX_WAIT_BITSET, now, NULL, NULL, 1u << mine % 32);
}

static void ticket_unlock(void *state) {
    struct ticket *lock = state;
    uint32_t after = atomic_fetch_add(&lock->served, 1) + 1;
    if (atomic_load(&lock->next) != after)
        syscall(SYS_futex, &lock->served, FUTEX_WAKE_BITSET, 1 << 20, NULL, NULL, 1u << after % 32);
}

static void *shared(const char *path, size_t size) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)size)) die(path);
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) die("mmap");
    return memory;
}

static pthread_mutex_t *robust_mutex(const char *path) {
    pthread_mutexattr_t kind;
    pthread_mutex_t *mutex = shared(path, sizeof *mutex);
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(mutex, &kind);
    return mutex;
}

/* Two scripts a pair; `fifo` queues, and hands on to the connection that waits. */
struct redis {
    int fd;
    char token[64], own_list[80], acquire[512], release[512];
    size_t acquire_size, release_size;
};

static const char *ACQUIRE =
    "if redis.call('set',KEYS[1],ARGV[1],'NX','PX',ARGV[2]) then return redis.call('incr',KEYS[2]) "
    "else return redis.call('pttl',KEYS[1]) end";
static const char *RELEASE =
    "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end";
static const char *FIFO_ACQUIRE =
    "if redis.call('set',KEYS[1],ARGV[1],'NX','PX',ARGV[2]) then return 1 end "
    "redis.call('rpush',KEYS[2],ARGV[1]) return 0";
static const char *FIFO_RELEASE =
    "if redis.call('get',KEYS[1])~=ARGV[1] then return 0 end "
    "local next=redis.call('lpop',KEYS[2]) "
    "if not next then return redis.call('del',KEYS[1]) end "
    "redis.call('set',KEYS[1],next,'PX',ARGV[2]) "
    "redis.call('rpush','bench:raw:wake:'..next,'1') "
    "redis.call('pexpire','bench:raw:wake:'..next,ARGV[2]) return 1";

static void redis_lock(void *state) {
    struct redis *redis = state;
    exchange(redis->fd, redis->acquire, redis->acquire_size);
}

static void redis_unlock(void *state) {
    struct redis *redis = state;
    exchange(redis->fd, redis->release, redis->release_size);
}

static void fifo_lock(void *state) {
    struct redis *redis = state;
    char out[256];
    redis_lock(redis);
    if (reply[1] == '0')
        exchange(redis->fd, out, command(out, 3, (const char *[]){"BLPOP", redis->own_list, "30"}));
}

/* The release of a pair knows nothing of the second key. */
static void prepare(struct redis *redis, const char *where, const char *scripts[2], const char *second, int is_pair) {
    char acquire[41], release[41];
    redis->fd = connect_redis(where);
    snprintf(redis->token, sizeof redis->token, "8f14e45fceea167a5a36dedd%08x", (unsigned)getpid());
    snprintf(redis->own_list, sizeof redis->own_list, "bench:raw:wake:%s", redis->token);
    load(redis->fd, scripts[0], acquire);
    load(redis->fd, scripts[1], release);
    redis->acquire_size = command(redis->acquire, 7,
        (const char *[]){"EVALSHA", acquire, "2", "bench:raw:lock", second, redis->token, "30000"});
    redis->release_size = is_pair
        ? command(redis->release, 5, (const char *[]){"EVALSHA", release, "1", "bench:raw:lock", redis->token})
        : command(redis->release, 7,
              (const char *[]){"EVALSHA", release, "2", "bench:raw:lock", second, redis->token, "30000"});
}

int main(int count, char **words) {
    if (count < 4) return 2;
    const char *kind = words[1], *where = words[2];
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    struct redis redis;
    int fd;
    uint32_t word = 0;
    step *lock, *unlock = nothing;
    void *state = NULL;
    int batch = 100;
    if (!strcmp(kind, "mutex")) {
        lock = mutex_lock, unlock = mutex_unlock, state = &mutex;
    } else if (!strcmp(kind, "robust-mutex")) {
        lock = mutex_lock, unlock = mutex_unlock, state = robust_mutex(where);
    } else if (!strcmp(kind, "clock")) {
        lock = read_clock;
    } else if (!strcmp(kind, "futex-wake")) {
        lock = wake_nobody, state = &word;
    } else if (!strcmp(kind, "flock")) {
        if ((fd = open(where, O_RDWR | O_CREAT | O_CLOEXEC, 0600)) < 0) die("open");
        lock = flock_lock, unlock = flock_unlock, state = &fd;
    } else if (!strcmp(kind, "ticket")) {
        lock = ticket_lock, unlock = ticket_unlock, state = shared(where, sizeof(struct ticket));
    } else if (!strcmp(kind, "redis")) {
        prepare(&redis, where, (const char *[]){ACQUIRE, RELEASE}, "bench:raw:fence", 1);
        lock = redis_lock, unlock = redis_unlock, state = &redis, batch = 1;
    } else if (!strcmp(kind, "redis-fifo")) {
        prepare(&redis, where, (const char *[]){FIFO_ACQUIRE, FIFO_RELEASE}, "bench:raw:queue", 0);
        lock = fifo_lock, unlock = redis_unlock, state = &redis, batch = 1;
    } else {
        return 2;
    }
    drive(lock, unlock, state, batch, count - 3, words + 3);
    return 0;
}
