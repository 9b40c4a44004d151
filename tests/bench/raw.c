/* The raw limits: what the kernel or the server takes, with nothing around it.
 *   raw flock FILE SECONDS          one kept-open descriptor: flock(LOCK_EX|LOCK_NB), flock(LOCK_UN)
 *   raw mutex - SECONDS             a private pthread mutex
 *   raw redis-unix PATH SECONDS     a fenced grant and an owner-checked release, one EVALSHA each
 *   raw redis-tcp PORT SECONDS      the same over TCP on 127.0.0.1 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "timing.h"

static void flock_pair(void *state) {
    int fd = *(int *)state;
    if (flock(fd, LOCK_EX | LOCK_NB) || flock(fd, LOCK_UN)) die("flock");
}

static void mutex_pair(void *state) {
    pthread_mutex_lock(state);
    pthread_mutex_unlock(state);
}

struct redis {
    int fd;
    char acquire[512], release[512];
    size_t acquire_size, release_size;
};

static char reply[4096];

static void exchange(struct redis *redis, const char *request, size_t size) {
    if (write(redis->fd, request, size) != (ssize_t)size) die("write");
    ssize_t got = read(redis->fd, reply, sizeof reply - 1);
    if (got <= 0) die("read");
    reply[got] = 0;
    if (reply[0] == '-') {
        fputs(reply, stderr);
        exit(1);
    }
}

static void redis_pair(void *state) {
    struct redis *redis = state;
    exchange(redis, redis->acquire, redis->acquire_size);
    exchange(redis, redis->release, redis->release_size);
}

static size_t command(char *out, int count, const char **words) {
    size_t size = (size_t)sprintf(out, "*%d\r\n", count);
    for (int i = 0; i < count; i++)
        size += (size_t)sprintf(out + size, "$%zu\r\n%s\r\n", strlen(words[i]), words[i]);
    return size;
}

static const char *ACQUIRE =
    "if redis.call('set',KEYS[1],ARGV[1],'NX','PX',ARGV[2]) then return redis.call('incr',KEYS[2]) "
    "else return redis.call('pttl',KEYS[1]) end";
static const char *RELEASE =
    "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end";

static void load(struct redis *redis, const char *script, char sha[41]) {
    char out[1024];
    exchange(redis, out, command(out, 3, (const char *[]){"SCRIPT", "LOAD", script}));
    memcpy(sha, strchr(reply, '\n') + 1, 40);
    sha[40] = 0;
}

static void prepare(struct redis *redis) {
    const char *token = "8f14e45fceea167a5a36dedd4bea2543";
    char acquire[41], release[41];
    load(redis, ACQUIRE, acquire);
    load(redis, RELEASE, release);
    redis->acquire_size = command(redis->acquire, 7,
        (const char *[]){"EVALSHA", acquire, "2", "bench:raw:lock", "bench:raw:fence", token, "30000"});
    redis->release_size = command(redis->release, 5,
        (const char *[]){"EVALSHA", release, "1", "bench:raw:lock", token});
}

static int connect_unix(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    return fd;
}

static int connect_tcp(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

int main(int count, char **words) {
    if (count != 4) {
        fputs("usage: raw KIND WHERE SECONDS\n", stderr);
        return 2;
    }
    double seconds = atof(words[3]);
    if (!strcmp(words[1], "flock")) {
        int fd = open(words[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0) die("open");
        measure(flock_pair, &fd, 100, seconds);
    } else if (!strcmp(words[1], "mutex")) {
        pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
        measure(mutex_pair, &mutex, 100, seconds);
    } else {
        struct redis redis = {.fd = strcmp(words[1], "redis-unix") ? connect_tcp(atoi(words[2])) : connect_unix(words[2])};
        prepare(&redis);
        measure(redis_pair, &redis, 1, seconds);
    }
    return 0;
}
