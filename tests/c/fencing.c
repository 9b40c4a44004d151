/* The checking half of fencing: a holder that is stopped for longer than its lease, and then writes, to SQLite and to
   Redis. */
#define _DEFAULT_SOURCE
#include "check.h"
#include <signal.h>
#include <sqlite3.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define NAME "invoice"
enum { WRITTEN, STALE, TROUBLE };

/* What became of a write with this token: one of the above. */
typedef int write_with(int64_t token, const char *value);

static const char *of_run(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", getenv("SYNLOCK_TEST_DIR"), name);
    return path;
}

static sqlite3 *database(void) {
    sqlite3 *db = NULL;
    CHECK(sqlite3_open(of_run("fenced.db"), &db) == SQLITE_OK);
    sqlite3_busy_timeout(db, PATIENCE_MS);
    return db;
}

static int words_of(const char *words) {
    int stale = words && strstr(words, "stale fencing token");
    if (!stale) fprintf(stderr, "%s\n", words ? words : "no words");
    return stale ? STALE : TROUBLE;
}

static int run(sqlite3 *db, const char *sql) {
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? WRITTEN : words_of(sqlite3_errmsg(db));
}

/* The texts of synlock_fencing_ddl() and synlock_fencing_trigger(), statement by statement. */
static void run_all(sqlite3 *db, char *texts) {
    while (texts) {
        char *end = strstr(texts, "\n\n");
        if (end) *end = 0;
        CHECK(run(db, texts) == WRITTEN);
        texts = end ? end + 2 : NULL;
    }
}

static int write_sqlite(int64_t token, const char *value) {
    char sql[2048];
    IS(SYNLOCK_OK, synlock_fencing_statement("sqlite", NULL, sql, sizeof sql, NULL, NULL));
    sqlite3 *db = database();
    sqlite3_stmt *note = NULL, *set = NULL;
    int got = run(db, "BEGIN IMMEDIATE");
    CHECK(sqlite3_prepare_v2(db, sql, -1, &note, NULL) == SQLITE_OK);
    sqlite3_bind_text(note, 1, NAME, -1, SQLITE_STATIC);
    sqlite3_bind_int64(note, 2, token);
    if (got == WRITTEN && sqlite3_step(note) != SQLITE_DONE) got = words_of(sqlite3_errmsg(db));
    sqlite3_finalize(note);
    CHECK(sqlite3_prepare_v2(db, "UPDATE data SET v = ?", -1, &set, NULL) == SQLITE_OK);
    sqlite3_bind_text(set, 1, value, -1, SQLITE_STATIC);
    if (got == WRITTEN && sqlite3_step(set) != SQLITE_DONE) got = TROUBLE;
    sqlite3_finalize(set);
    if (run(db, got == WRITTEN ? "COMMIT" : "ROLLBACK") != WRITTEN) got = TROUBLE;
    sqlite3_close(db);
    return got;
}

/* One command to the run's server; what it answered, up to its end. */
static const char *ask(int count, const char *const *words) {
    static char answer[4096];
    char request[8192];
    int length = snprintf(request, sizeof request, "*%d\r\n", count);
    for (int i = 0; i < count; i++)
        length += snprintf(request + length, sizeof request - (size_t)length, "$%zu\r\n%s\r\n", strlen(words[i]), words[i]);
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    snprintf(place.sun_path, sizeof place.sun_path, "%s/redis.sock", getenv("SYNLOCK_TEST_DIR"));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(connect(fd, (struct sockaddr *)&place, sizeof place) == 0);
    CHECK(write(fd, request, (size_t)length) == length);
    /* Our half of the connection ends, and then the server's. */
    shutdown(fd, SHUT_WR);
    size_t have = 0;
    for (ssize_t got; have < sizeof answer - 1 && (got = read(fd, answer + have, sizeof answer - 1 - have)) > 0;) have += (size_t)got;
    close(fd);
    answer[have] = 0;
    return answer;
}

static int write_redis(int64_t token, const char *value) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)token);
    const char *words[] = {"EVAL", synlock_fencing_redis(), "2", "fenced:token", "fenced:data", text, "SET", "fenced:data", value};
    const char *said = ask(9, words);
    if (!strncmp(said, "+OK\r\n", 5)) return WRITTEN;
    CHECK(!strncmp(said, "-STALE ", 7));
    return words_of(said);
}

/* Takes the lock for so many ms; the token. */
static int64_t take(synlock_store *store, int64_t ttl_ms, synlock_lock **lock) {
    synlock_lock_options options = {.struct_size = sizeof options, .ttl_ms = ttl_ms};
    *lock = check_lock(store, NAME, &options);
    IS(SYNLOCK_OK, synlock_lock_acquire(*lock, PATIENCE_MS, NULL));
    return synlock_lock_fencing_token(*lock);
}

/* The holder that will be stopped: it writes, and once more when it goes on; its end says what became of that. */
static void hold(const char *url, int out, int in, write_with *attempt) {
    synlock_store *store = NULL;
    synlock_lock *lock = NULL;
    IS(SYNLOCK_OK, synlock_store_open(url, NULL, NULL, 0, &store, NULL));
    int64_t token = take(store, 300, &lock);
    if (attempt(token, "first") != WRITTEN || write(out, &token, sizeof token) != sizeof token) _exit(10);
    char go;
    if (read(in, &go, 1) != 1) _exit(11);
    int got = attempt(token, "late");
    synlock_lock_free(lock);
    synlock_store_free(store);
    /* Not by an exit: what was the parent's is left alone here, and valgrind would call that a leak. */
    char text[2] = {(char)('0' + got), 0};
    execl("/bin/sh", "sh", "-c", "exit $0", text, (char *)NULL);
    _exit(12);
}

static void paused(const char *kind, write_with *attempt) {
    const char *url = check_url(kind);
    int out[2], in[2], status = -1;
    CHECK(pipe(out) == 0 && pipe(in) == 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) hold(url, out[1], in[0], attempt);
    /* Or nobody would see the end of a child that fails. */
    close(out[1]), close(in[0]);
    int64_t old = 0;
    CHECK(read(out[0], &old, sizeof old) == sizeof old && old > 0);
    kill(child, SIGSTOP);
    synlock_store *store = NULL;
    synlock_lock *heir = NULL;
    IS(SYNLOCK_OK, synlock_store_open(url, NULL, NULL, 0, &store, NULL));
    int64_t new = take(store, 60000, &heir);
    CHECK(new > old);
    CHECK(attempt(new, "second") == WRITTEN);
    /* It goes on where it was stopped, and believes in the token that it has. */
    kill(child, SIGCONT);
    CHECK(write(in[1], "!", 1) == 1);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == STALE);
    CHECK(attempt(new, "third") == WRITTEN);
    IS(SYNLOCK_OK, synlock_lock_release(heir, NULL));
    synlock_lock_free(heir);
    synlock_store_free(store);
    close(out[0]), close(in[1]);
}

static void sqlite_refuses_a_paused_holder(void) {
    char texts[2048];
    remove(of_run("fenced.db"));
    sqlite3 *db = database();
    CHECK(run(db, "CREATE TABLE data (v TEXT); INSERT INTO data VALUES ('')") == WRITTEN);
    IS(SYNLOCK_OK, synlock_fencing_ddl("sqlite", NULL, texts, sizeof texts, NULL, NULL));
    run_all(db, texts);
    sqlite3_close(db);
    paused("shm", write_sqlite);
    db = database();
    sqlite3_stmt *read = NULL;
    CHECK(sqlite3_prepare_v2(db, "SELECT v FROM data", -1, &read, NULL) == SQLITE_OK && sqlite3_step(read) == SQLITE_ROW);
    SAME("third", (const char *)sqlite3_column_text(read, 0));
    sqlite3_finalize(read);
    sqlite3_close(db);
}

static void redis_refuses_a_paused_holder(void) {
    const char *clear[] = {"DEL", "fenced:token", "fenced:data"}, *get[] = {"GET", "fenced:data"};
    ask(3, clear);
    paused("redis", write_redis);
    SAME("$5\r\nthird\r\n", ask(2, get));
}

static void a_table_of_ones_own(void) {
    char texts[2048];
    remove(of_run("fenced.db"));
    sqlite3 *db = database();
    CHECK(run(db, "CREATE TABLE account (amount INTEGER, fence INTEGER); INSERT INTO account VALUES (100, NULL)") == WRITTEN);
    IS(SYNLOCK_OK, synlock_fencing_trigger("sqlite", "account", "fence", texts, sizeof texts, NULL, NULL));
    run_all(db, texts);
    CHECK(run(db, "UPDATE account SET amount = 90, fence = 7") == WRITTEN);
    CHECK(run(db, "UPDATE account SET amount = 80, fence = 7") == WRITTEN);
    CHECK(run(db, "UPDATE account SET amount = 70, fence = 6") == STALE);
    CHECK(run(db, "UPDATE account SET amount = 70, fence = NULL") == STALE);
    sqlite3_close(db);
}

int main(void) {
    check_setting();
    signal(SIGPIPE, SIG_IGN);
    CASE(sqlite_refuses_a_paused_holder);
    CASE(redis_refuses_a_paused_holder);
    CASE(a_table_of_ones_own);
    return check_totals();
}
