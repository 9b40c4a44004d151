/* As little of a Redis client as the raw limits need. */
#ifndef BENCH_RESP_H
#define BENCH_RESP_H
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "drive.h"

static char reply[4096];

static inline void exchange(int fd, const char *request, size_t size) {
    if (write(fd, request, size) != (ssize_t)size) die("write");
    ssize_t got = read(fd, reply, sizeof reply - 1);
    if (got <= 0) die("read");
    reply[got] = 0;
    if (reply[0] == '-') {
        fputs(reply, stderr);
        exit(1);
    }
}

static inline size_t command(char *out, int count, const char **words) {
    size_t size = (size_t)sprintf(out, "*%d\r\n", count);
    for (int i = 0; i < count; i++)
        size += (size_t)sprintf(out + size, "$%zu\r\n%s\r\n", strlen(words[i]), words[i]);
    return size;
}

static inline void load(int fd, const char *script, char sha[41]) {
    char out[1024];
    exchange(fd, out, command(out, 3, (const char *[]){"SCRIPT", "LOAD", script}));
    memcpy(sha, strchr(reply, '\n') + 1, 40);
    sha[40] = 0;
}

/* A port, or the path of a socket. */
static inline int connect_redis(const char *where) {
    int on = 1, fd;
    if (where[0] == '/') {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        strncpy(address.sun_path, where, sizeof address.sun_path - 1);
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&address, sizeof address)) die("connect");
        return fd;
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(where))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}
#endif
