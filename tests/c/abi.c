/* Every function on its working path: what the header says is what happens. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

static int readable(int fd, int wait_ms) {
    struct pollfd one = {fd, POLLIN, 0};
    return poll(&one, 1, wait_ms) == 1 && (one.revents & POLLIN);
}

static void versions(void) {
    CHECK(synlock_abi_version() == SYNLOCK_ABI_VERSION);
    CHECK(synlock_version_number() == SYNLOCK_VERSION_NUMBER);
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", SYNLOCK_VERSION_MAJOR, SYNLOCK_VERSION_MINOR, SYNLOCK_VERSION_PATCH);
    SAME(text, synlock_version_string());
    CHECK(strstr(synlock_build_info(), "flock") && strstr(synlock_build_info(), text));
    SAME("TIMEOUT", synlock_status_name(SYNLOCK_TIMEOUT));
    SAME("UNKNOWN", synlock_status_name(-1));
    CHECK(*synlock_status_text(SYNLOCK_TIMEOUT));
    SAME("unknown status", synlock_status_text(7777));
    SAME("LockTimeout", synlock_status_class(SYNLOCK_TIMEOUT));
    SAME("", synlock_status_class(SYNLOCK_OK));
    char schemes[1024];
    size_t length = 0;
    IS(SYNLOCK_OK, synlock_store_schemes(schemes, sizeof schemes, &length, NULL));
    CHECK(length == strlen(schemes) && strstr(schemes, "memory") && strstr(schemes, "flock"));
}

static void stores(void) {
    synlock_store *store = NULL;
    synlock_error *error = NULL;
    const char *keys[] = {"ttl"}, *values[] = {"5000"}, *odd[] = {"no-such"};
    IS(SYNLOCK_OK, synlock_store_open("memory:c-options", keys, values, 1, &store, NULL));
    synlock_lock *lock = check_lock(store, "x", NULL);
    IS(SYNLOCK_OK, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL));
    CHECK(synlock_lock_remaining_ms(lock) > 1 && synlock_lock_remaining_ms(lock) <= 5000);
    synlock_lock_free(lock);
    IS(SYNLOCK_OK, synlock_store_ping(store, SYNLOCK_FOREVER, NULL));

    char url[64], print[256];
    size_t length = 0;
    IS(SYNLOCK_OK, synlock_store_url(store, NULL, 0, &length, NULL));
    CHECK(length >= strlen("memory:c-options"));
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_store_url(store, url, length, &length, NULL));
    IS(SYNLOCK_OK, synlock_store_url(store, url, length + 1, &length, NULL));
    CHECK(strlen(url) == length && !strncmp(url, "memory:c-options", 16));
    IS(SYNLOCK_OK, synlock_store_fingerprint(store, print, sizeof print, NULL, NULL));
    CHECK(*print);
    synlock_store_free(store);

    store = (synlock_store *)(uintptr_t)77;
    IS(SYNLOCK_UNKNOWN_SCHEME, synlock_store_open("carrier-pigeon:x", NULL, NULL, 0, &store, &error));
    CHECK(strstr(synlock_error_message(error), "flock"));
    IS(SYNLOCK_UNKNOWN_SCHEME, synlock_error_code(error));
    SAME("UNKNOWN_SCHEME", synlock_error_name(error));
    SAME("synlock_store_open", synlock_error_operation(error));
    CHECK(synlock_error_is_retriable(error) == 0);
    synlock_error_free(error);
    IS(SYNLOCK_UNKNOWN_OPTION, synlock_store_open("memory:x", odd, values, 1, &store, NULL));
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_store_open("memory:x", keys, values, 1001, &store, NULL));
    IS(SYNLOCK_INVALID_URL, synlock_store_open("no scheme at all", NULL, NULL, 0, &store, NULL));
    CHECK(store == (synlock_store *)(uintptr_t)77); /* not written on failure */

    setenv("SYNLOCK_URL", "memory:c-variable", 1);
    IS(SYNLOCK_OK, synlock_store_open("", NULL, NULL, 0, &store, NULL));
    unsetenv("SYNLOCK_URL");
    synlock_store_free(store);
}

static void capabilities(void) {
    synlock_store *store = check_store("flock");
    struct { synlock_capabilities can; unsigned char after[16]; } room;
    memset(&room, 0x5a, sizeof room);
    room.can.struct_size = sizeof room.can;
    IS(SYNLOCK_OK, synlock_store_capabilities(store, &room.can, NULL));
    SAME("flock", room.can.store);
    SAME("host", room.can.scope);
    CHECK(room.can.shared == 1 && room.can.frees_on_death == 1 && room.can.reserved == 0);
    CHECK(room.after[0] == 0x5a && room.can.struct_size == sizeof room.can);
    /* A caller that was compiled with a shorter struct gets what it knows, and no byte more. */
    memset(&room, 0x5a, sizeof room);
    room.can.struct_size = offsetof(synlock_capabilities, shared);
    IS(SYNLOCK_OK, synlock_store_capabilities(store, &room.can, NULL));
    SAME("flock", room.can.store);
    CHECK(room.can.shared == 0x5a5a5a5a);
    room.can.struct_size = 3;
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_store_capabilities(store, &room.can, NULL));
    synlock_store_free(store);
}

static void checks(void) {
    synlock_store *store = check_store("shm"), *other = check_store("memory");
    synlock_capabilities can = {.struct_size = sizeof can};
    IS(SYNLOCK_OK, synlock_store_capabilities(store, &can, NULL));
    SAME("shm", can.store);
    char text[8192] = "?";
    uint64_t findings = 7;
    size_t length = 7;
    /* Of a segment that is not there, which the check does not make. */
    IS(SYNLOCK_OK, synlock_store_check(store, &findings, text, sizeof text, &length, NULL));
    CHECK(findings == 0 && length == 0 && !*text);
    /* A child that ends while it holds leaves something behind; the next to hold clears it away. */
    pid_t child = fork();
    if (child == 0) {
        synlock_lock *held = check_lock(store, "x", NULL);
        if (synlock_lock_acquire(held, SYNLOCK_NO_WAIT, NULL) == SYNLOCK_OK) raise(SIGKILL);
        _exit(1);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    IS(SYNLOCK_OK, synlock_store_check(store, &findings, NULL, 0, NULL, NULL));
    CHECK(findings == 2);
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_store_check(store, &findings, text, 5, NULL, NULL));
    IS(SYNLOCK_OK, synlock_store_check(store, &findings, text, sizeof text, &length, NULL));
    CHECK(length == strlen(text) && strstr(text, "holder: ") && strstr(text, "slot: "));
    synlock_lock *lock = check_lock(store, "x", NULL);
    IS(SYNLOCK_OK, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_OK, synlock_store_check(store, &findings, text, sizeof text, &length, NULL));
    CHECK(findings == 0 && !*text);
    findings = 7;
    IS(SYNLOCK_UNSUPPORTED, synlock_store_check(other, &findings, text, sizeof text, &length, NULL));
    CHECK(findings == 7);
    synlock_lock_free(lock);
    synlock_store_free(store);
    synlock_store_free(other);
}

static void one_lock(const char *kind) {
    synlock_store *store = check_store(kind);
    synlock_lock_options options = SYNLOCK_LOCK_OPTIONS_INIT;
    CHECK(options.struct_size == sizeof options);
    memset(&options, 0x5a, sizeof options);
    synlock_lock_options_init(&options, sizeof options);
    CHECK(options.struct_size == sizeof options && options.ttl_ms == 0 && options.scope == NULL);
    options.timeout_ms = PATIENCE_MS;
    options.label = "who";
    synlock_lock *first = check_lock(store, "x", &options), *second = check_lock(store, "x", NULL);
    CHECK(synlock_lock_timeout_ms(first) == PATIENCE_MS && synlock_lock_timeout_ms(second) == SYNLOCK_FOREVER);
    CHECK(synlock_lock_state(first) == SYNLOCK_STATE_IDLE && synlock_lock_mode(first) == SYNLOCK_EXCLUSIVE);
    CHECK(synlock_lock_remaining_ms(first) == -1);

    synlock_acquired how = {.struct_size = sizeof how};
    IS(SYNLOCK_OK, synlock_lock_acquire_with(first, SYNLOCK_USE_OPTION, NULL, &how, NULL));
    CHECK(how.contended == 0 && how.attempts >= 1 && how.fencing_token == synlock_lock_fencing_token(first));
    CHECK(synlock_lock_state(first) == SYNLOCK_STATE_HELD);
    IS(SYNLOCK_ALREADY_HELD, synlock_lock_acquire(first, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_BUSY, synlock_lock_acquire(second, SYNLOCK_NO_WAIT, NULL));
    synlock_error *error = NULL;
    BRIEFLY(SYNLOCK_TIMEOUT, (synlock_error_free(error), synlock_lock_acquire(second, ms, &error)));
    SAME("x", synlock_error_resource(error));
    CHECK(strstr(synlock_error_store(error), kind) && synlock_error_is_retriable(error) == 1);
    synlock_error_free(error);
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_lock_acquire(second, -9, NULL));

    int32_t yes = -7;
    IS(SYNLOCK_OK, synlock_store_is_locked(store, "x", 1, &yes, NULL));
    CHECK(yes == 1);
    IS(SYNLOCK_OK, synlock_lock_is_acquired(second, &yes, NULL));
    CHECK(yes == 0);
    IS(SYNLOCK_OK, synlock_lock_ensure_held(first, NULL));
    IS(SYNLOCK_NOT_HELD, synlock_lock_ensure_held(second, NULL));
    IS(SYNLOCK_OK, synlock_lock_refresh(first, 0, NULL));
    IS(SYNLOCK_NOT_HELD, synlock_lock_refresh(second, 0, NULL));
    char token[33];
    size_t length = 0;
    IS(SYNLOCK_OK, synlock_lock_owner_token(first, token, sizeof token, &length, NULL));
    CHECK(length == 32 && strspn(token, "0123456789abcdef") == 32);
    IS(SYNLOCK_NOT_HELD, synlock_lock_owner_token(second, token, sizeof token, NULL, NULL));
    BRIEFLY(SYNLOCK_TIMEOUT, synlock_store_wait_free(store, "x", 1, ms, NULL));
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_store_wait_free(store, "x", 1, SYNLOCK_USE_OPTION, NULL));
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_store_ping(store, SYNLOCK_USE_OPTION, NULL));
    IS(SYNLOCK_UNSUPPORTED, synlock_store_create_table(store, SYNLOCK_FOREVER, NULL));
    IS(SYNLOCK_UNSUPPORTED, synlock_store_ddl(store, "mysql", NULL, 0, NULL, NULL));

    IS(SYNLOCK_OK, synlock_lock_release(first, NULL));
    IS(SYNLOCK_NOT_HELD, synlock_lock_release(first, NULL));
    IS(SYNLOCK_OK, synlock_store_wait_free(store, "x", 1, PATIENCE_MS, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(second, SYNLOCK_FOREVER, NULL));
    CHECK(synlock_lock_auto_release(second) == 1);
    IS(SYNLOCK_OK, synlock_lock_set_auto_release(second, 0, NULL));
    CHECK(synlock_lock_auto_release(second) == 0);
    IS(SYNLOCK_OK, synlock_lock_set_auto_release(second, 1, NULL));
    synlock_lock_free(second); /* releases */
    IS(SYNLOCK_OK, synlock_lock_acquire(first, SYNLOCK_NO_WAIT, NULL));

    synlock_list *list = NULL;
    IS(SYNLOCK_OK, synlock_store_inspect(store, "x", SYNLOCK_NTS, &list, NULL));
    CHECK(synlock_list_count(list) == 1 && synlock_list_waiters(list) <= 0 && synlock_list_cursor(list) == NULL);
    synlock_holder holder = {.struct_size = sizeof holder};
    IS(SYNLOCK_OK, synlock_list_get(list, 0, &holder, NULL));
    CHECK(holder.name_length == 1 && *holder.name == 'x' && holder.pid > 0);
    char host[65] = "";
    CHECK(gethostname(host, sizeof host - 1) == 0);
    SAME(host, holder.host);
    CHECK(holder.held_ms >= 0 && holder.held_ms <= PATIENCE_MS);
    SAME("who", holder.label);
    SAME("exclusive", holder.mode);
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_list_get(list, 1, &holder, NULL));
    synlock_list_free(list);
    IS(SYNLOCK_OK, synlock_store_list(store, "", 0, NULL, 100, &list, NULL));
    CHECK(synlock_list_count(list) == 1);
    synlock_list_free(list);
    /* Bytes of any value are a name. */
    synlock_lock *binary = NULL;
    IS(SYNLOCK_OK, synlock_lock_new(store, "a\0/\xff", 4, NULL, &binary, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(binary, SYNLOCK_NO_WAIT, NULL));
    synlock_lock_free(binary);
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_lock_new(store, "", 0, NULL, &binary, NULL));
    synlock_store_free(store); /* before its locks */
    IS(SYNLOCK_OK, synlock_lock_release(first, NULL));
    synlock_lock_free(first);
}

static void memory_lock(void) { one_lock("memory"); }
static void flock_lock(void) { one_lock("flock"); }
static void shm_lock(void) { one_lock("shm"); }
static void redis_lock(void) { one_lock("redis"); }

static void a_call_that_fails_has_not_acted(void) {
    synlock_store *store = check_store("memory");
    synlock_lock *lock = check_lock(store, "x", NULL);
    synlock_acquired how = {.struct_size = 1};
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_lock_acquire_with(lock, SYNLOCK_NO_WAIT, NULL, &how, NULL));
    CHECK(synlock_lock_state(lock) == SYNLOCK_STATE_IDLE);
    synlock_events *events = NULL;
    IS(SYNLOCK_OK, synlock_events_new(store, 10, &events, NULL));
    synlock_lock *heard = check_lock(store, "y", NULL);
    IS(SYNLOCK_OK, synlock_lock_acquire(heard, SYNLOCK_NO_WAIT, NULL));
    synlock_event event = {.struct_size = 1};
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_events_next(events, &event, NULL));
    event.struct_size = sizeof event;
    IS(SYNLOCK_OK, synlock_events_next(events, &event, NULL));
    CHECK(event.kind == SYNLOCK_EVENT_ACQUIRED);
    synlock_lock_free(heard);
    synlock_events_free(events);
    synlock_lock_free(lock);
    synlock_store_free(store);
}

/* A host prints what no call returns, and nothing else. */
static void warnings(void) {
    synlock_store *store = check_store("memory");
    synlock_events *warnings = NULL, *events = NULL;
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_events_new_warnings(store, 0, &warnings, NULL));
    IS(SYNLOCK_OK, synlock_events_new_warnings(store, 4, &warnings, NULL));
    synlock_event event = {.struct_size = sizeof event};
    for (int round = 0; round < 3; round++) {
        synlock_lock *lock = check_lock(store, "x", NULL);
        IS(SYNLOCK_OK, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL));
        if (round == 2) IS(SYNLOCK_OK, synlock_events_new(store, 9, &events, NULL));
        IS(SYNLOCK_OK, synlock_store_break(store, "x", 1, NULL, NULL));
        if (round == 1) IS(SYNLOCK_LOST, synlock_lock_release(lock, NULL));
        synlock_lock_free(lock);
        IS(round == 0 ? SYNLOCK_OK : SYNLOCK_BUSY, synlock_events_next(warnings, &event, NULL));
        if (round == 0) {
            CHECK(event.kind == SYNLOCK_EVENT_LOST && !strcmp(event.level, "warning"));
            CHECK(event.name_length == 1 && *event.name == 'x' && event.status == SYNLOCK_LOST);
            CHECK(!readable(synlock_events_fd(warnings), 0));
        }
    }
    synlock_events_free(events);
    synlock_events_free(warnings);
    synlock_store_free(store);
}

static void options_are_checked(void) {
    synlock_store *store = check_store("memory");
    synlock_lock_options bad[9], *options;
    for (int i = 0; i < 9; i++) synlock_lock_options_init(&bad[i], sizeof bad[i]);
    bad[0].ttl_ms = -1;
    bad[1].timeout_ms = -9;
    bad[2].mode = 9;
    bad[3].permits_take = 1; /* without the mode */
    bad[4].renew = 2;
    bad[5].reentry = 9;
    bad[6].reserved = 1;
    bad[7].struct_size = 5000;
    bad[8].label = "\xff";
    for (int i = 0; i < 9; i++) {
        synlock_lock *lock = NULL;
        IS(SYNLOCK_INVALID_ARGUMENT, synlock_lock_new(store, "x", 1, &bad[i], &lock, NULL));
        CHECK(lock == NULL);
    }
    /* A longer struct is fine while what we do not know is zero. */
    options = calloc(1, sizeof *options + 8);
    options->struct_size = sizeof *options + 8;
    synlock_lock *lock = check_lock(store, "x", options);
    synlock_lock_free(lock);
    ((char *)options)[sizeof *options] = 1;
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_lock_new(store, "x", 1, options, &lock, NULL));
    free(options);
    synlock_store_free(store);
}

static void shared_and_permits(void) {
    synlock_store *store = check_store("memory");
    synlock_lock_options options = SYNLOCK_LOCK_OPTIONS_INIT;
    options.mode = SYNLOCK_SHARED;
    synlock_lock *a = check_lock(store, "x", &options), *b = check_lock(store, "x", &options);
    IS(SYNLOCK_OK, synlock_lock_acquire(a, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(b, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_BUSY, synlock_lock_promote(a, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_OK, synlock_lock_release(b, NULL));
    IS(SYNLOCK_OK, synlock_lock_promote(a, 1000, NULL));
    CHECK(synlock_lock_mode(a) == SYNLOCK_EXCLUSIVE);
    IS(SYNLOCK_BUSY, synlock_lock_acquire(b, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_OK, synlock_lock_demote(a, NULL));
    CHECK(synlock_lock_mode(a) == SYNLOCK_SHARED);
    IS(SYNLOCK_OK, synlock_lock_acquire(b, SYNLOCK_NO_WAIT, NULL));
    synlock_lock_free(a);
    synlock_lock_free(b);

    synlock_lock_options_init(&options, sizeof options);
    options.mode = SYNLOCK_PERMITS;
    options.permits_of = 3;
    synlock_lock *one = check_lock(store, "p", &options);
    options.permits_take = 2;
    synlock_lock *two = check_lock(store, "p", &options), *more = check_lock(store, "p", &options);
    IS(SYNLOCK_OK, synlock_lock_acquire(one, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(two, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_BUSY, synlock_lock_acquire(more, SYNLOCK_NO_WAIT, NULL));
    CHECK(synlock_lock_mode(two) == SYNLOCK_PERMITS);
    synlock_lock_free(one);
    synlock_lock_free(two);
    synlock_lock_free(more);
    synlock_store_free(store);
}

static void a_break_is_seen(void) {
    synlock_store *store = check_store("memory");
    synlock_lock *lock = check_lock(store, "x", NULL);
    IS(SYNLOCK_OK, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL));
    int32_t fd = -1, broken = -1;
    IS(SYNLOCK_OK, synlock_lock_lost_fd(lock, &fd, NULL));
    CHECK(!readable(fd, 0));
    IS(SYNLOCK_OK, synlock_store_break(store, "x", 1, &broken, NULL));
    CHECK(broken == 1);
    IS(SYNLOCK_LOST, synlock_lock_ensure_held(lock, NULL));
    CHECK(readable(fd, 5000) && synlock_lock_state(lock) == SYNLOCK_STATE_LOST);
    IS(SYNLOCK_OK, synlock_store_break(store, "x", 1, &broken, NULL));
    CHECK(broken == 0);
    synlock_lock_free(lock);
    synlock_store_free(store);
}

static void export_and_adopt(void) {
    synlock_store *store = check_store("redis");
    synlock_lock_options options = SYNLOCK_LOCK_OPTIONS_INIT;
    options.ttl_ms = 60000;
    synlock_lock *from = check_lock(store, "x", &options), *to = NULL, *late = NULL;
    char text[600];
    size_t length = 0;
    IS(SYNLOCK_NOT_HELD, synlock_lock_export(from, text, sizeof text, &length, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(from, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_lock_export(from, text, 10, &length, NULL));
    CHECK(length > 10 && synlock_lock_state(from) == SYNLOCK_STATE_HELD); /* still ours */
    IS(SYNLOCK_OK, synlock_lock_export(from, text, sizeof text, &length, NULL));
    CHECK(strlen(text) == length && synlock_lock_state(from) == SYNLOCK_STATE_IDLE);
    IS(SYNLOCK_OK, synlock_store_adopt(store, text, &options, &to, NULL));
    CHECK(synlock_lock_state(to) == SYNLOCK_STATE_HELD);
    IS(SYNLOCK_LOST, synlock_store_adopt(store, text, &options, &late, NULL));
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_store_adopt(store, "nonsense", NULL, &late, NULL));
    IS(SYNLOCK_OK, synlock_lock_release(to, NULL));
    synlock_lock_free(from);
    synlock_lock_free(to);
    synlock_store_free(store);
}

static void interrupted_and_abandoned(void) {
    synlock_store *store = check_store("memory");
    synlock_lock_options options = SYNLOCK_LOCK_OPTIONS_INIT;
    options.interruptible = SYNLOCK_ON;
    synlock_lock *holder = check_lock(store, "x", NULL), *first = check_lock(store, "x", &options),
                 *second = check_lock(store, "x", NULL);
    IS(SYNLOCK_OK, synlock_lock_acquire(holder, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_INTERRUPTED, synlock_lock_acquire(first, SYNLOCK_FOREVER, NULL));
    CHECK(synlock_lock_state(first) == SYNLOCK_STATE_ACQUIRING);
    /* It kept its place: nobody comes before it. */
    IS(SYNLOCK_OK, synlock_lock_release(holder, NULL));
    IS(SYNLOCK_BUSY, synlock_lock_acquire(second, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(first, SYNLOCK_FOREVER, NULL));
    IS(SYNLOCK_OK, synlock_lock_release(first, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(holder, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_INTERRUPTED, synlock_lock_acquire(first, SYNLOCK_FOREVER, NULL));
    IS(SYNLOCK_OK, synlock_lock_abandon(first, NULL));
    CHECK(synlock_lock_state(first) == SYNLOCK_STATE_IDLE);
    IS(SYNLOCK_OK, synlock_lock_release(holder, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(second, SYNLOCK_NO_WAIT, NULL));
    synlock_lock_free(first);
    synlock_lock_free(second);
    synlock_lock_free(holder);
    synlock_store_free(store);
}

static void scopes(void) {
    synlock_store *store = check_store("memory"), *member = check_store("memory");
    synlock_scope *scope = NULL, *next = NULL;
    IS(SYNLOCK_OK, synlock_scope_new(&scope, NULL));
    IS(SYNLOCK_OK, synlock_scope_add_store(scope, member, NULL));
    synlock_lock_options options = SYNLOCK_LOCK_OPTIONS_INIT;
    options.scope = scope;
    synlock_lock *lock = check_lock(store, "x", &options), *other = check_lock(store, "x", NULL);
    IS(SYNLOCK_OK, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL));
    synlock_scope_free(scope);
    IS(SYNLOCK_INVALID_HANDLE, synlock_lock_release(lock, NULL));
    IS(SYNLOCK_INVALID_HANDLE, synlock_store_ping(member, 0, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(other, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_OK, synlock_lock_release(other, NULL));
    /* A request that ended without a word ends with the next one. */
    IS(SYNLOCK_OK, synlock_scope_request(&scope, NULL));
    options.scope = scope;
    lock = check_lock(store, "x", &options);
    IS(SYNLOCK_OK, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_OK, synlock_scope_request(&next, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(other, SYNLOCK_NO_WAIT, NULL));
    synlock_scope_free(scope); /* doubled: nothing */
    synlock_scope_free(next);
    synlock_lock_free(other);
    synlock_store_free(store);
}

static synlock_completion reaped(synlock_dispatch *dispatch) {
    synlock_completion one;
    memset(&one, 0x5a, sizeof one);
    size_t count = 0;
    CHECK(readable(synlock_dispatch_fd(dispatch), PATIENCE_MS));
    IS(SYNLOCK_OK, synlock_dispatch_reap(dispatch, &one, 1, sizeof one, &count, NULL));
    CHECK(count == 1);
    return one;
}

static void dispatching(void) {
    synlock_store *store = check_store("memory");
    synlock_lock_options options = SYNLOCK_LOCK_OPTIONS_INIT;
    options.mode = SYNLOCK_SHARED;
    synlock_lock *holder = check_lock(store, "x", NULL), *lock = check_lock(store, "x", &options);
    synlock_dispatch *dispatch = NULL;
    IS(SYNLOCK_OK, synlock_dispatch_new(&dispatch, NULL));
    CHECK(!readable(synlock_dispatch_fd(dispatch), 0));
    uint64_t ticket = 0, again = 0;
    IS(SYNLOCK_OK, synlock_lock_acquire(holder, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_OK, synlock_dispatch_submit(dispatch, lock, SYNLOCK_OP_ACQUIRE, SYNLOCK_FOREVER, 42, &ticket, NULL));
    IS(SYNLOCK_CONCURRENT_USE, synlock_lock_acquire(lock, 0, NULL));
    IS(SYNLOCK_OK, synlock_dispatch_cancel(dispatch, ticket, NULL));
    synlock_completion done = reaped(dispatch);
    IS(SYNLOCK_CANCELLED, done.status);
    CHECK(done.user == 42 && done.ticket == ticket && done.reserved == 0);
    IS(SYNLOCK_CANCELLED, synlock_error_code(done.error));
    synlock_error_free(done.error);
    IS(SYNLOCK_OK, synlock_dispatch_submit(dispatch, lock, SYNLOCK_OP_ACQUIRE, SYNLOCK_FOREVER, 43, &again, NULL));
    CHECK(again != ticket);
    IS(SYNLOCK_OK, synlock_lock_release(holder, NULL));
    done = reaped(dispatch);
    IS(SYNLOCK_OK, done.status);
    CHECK(done.user == 43 && done.error == NULL);
    static const int ops[] = {SYNLOCK_OP_CHECK, SYNLOCK_OP_REFRESH, SYNLOCK_OP_PROMOTE, SYNLOCK_OP_DEMOTE,
                              SYNLOCK_OP_RELEASE, SYNLOCK_OP_ABANDON};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        IS(SYNLOCK_OK, synlock_dispatch_submit(dispatch, lock, ops[i], 0, i, NULL, NULL));
        done = reaped(dispatch);
        IS(SYNLOCK_OK, done.status);
        CHECK(done.user == i);
        synlock_error_free(done.error);
    }
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_dispatch_submit(dispatch, lock, 99, 0, 0, NULL, NULL));
    size_t count = 9;
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_dispatch_reap(dispatch, &done, 1, 8, &count, NULL));
    IS(SYNLOCK_OK, synlock_dispatch_reap(dispatch, &done, 1, sizeof done, &count, NULL));
    CHECK(count == 0 && !readable(synlock_dispatch_fd(dispatch), 0));
    synlock_dispatch_free(dispatch);
    synlock_lock_free(lock);
    synlock_lock_free(holder);
    synlock_store_free(store);
}

static void events(void) {
    synlock_store *store = check_store("memory");
    synlock_events *events = NULL;
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_events_new(store, 0, &events, NULL));
    IS(SYNLOCK_OK, synlock_events_new(store, 2, &events, NULL));
    synlock_lock_options told = SYNLOCK_LOCK_OPTIONS_INIT;
    told.caller = SYNLOCK_HERE;
    synlock_lock *here = check_lock(store, "here", &told);
    synlock_event made = {.struct_size = sizeof made};
    IS(SYNLOCK_OK, synlock_lock_acquire(here, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_OK, synlock_events_next(events, &made, NULL));
    CHECK(made.caller && strstr(made.caller, "abi.c:") && !strcmp(made.caller, told.caller));
    IS(SYNLOCK_OK, synlock_lock_release(here, NULL));
    IS(SYNLOCK_OK, synlock_events_next(events, &made, NULL));
    synlock_lock_free(here);
    synlock_event event = {.struct_size = sizeof event};
    IS(SYNLOCK_BUSY, synlock_events_next(events, &event, NULL));
    CHECK(!readable(synlock_events_fd(events), 0));
    synlock_lock *lock = check_lock(store, "x", NULL);
    IS(SYNLOCK_OK, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_OK, synlock_lock_release(lock, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL));
    CHECK(readable(synlock_events_fd(events), PATIENCE_MS) && synlock_events_dropped(events) == 1);
    IS(SYNLOCK_OK, synlock_events_next(events, &event, NULL));
    CHECK(event.kind == SYNLOCK_EVENT_ACQUIRED && event.name_length == 1 && *event.name == 'x');
    CHECK(strstr(event.store, "memory:") && *event.message && strlen(event.owner) == 8 && event.label == NULL);
    IS(SYNLOCK_OK, synlock_events_next(events, &event, NULL));
    CHECK(event.kind == SYNLOCK_EVENT_RELEASED);
    IS(SYNLOCK_BUSY, synlock_events_next(events, &event, NULL));
    CHECK(!readable(synlock_events_fd(events), 0));
    /* For hosts that end without freeing: releases, and says so. */
    synlock_process_end();
    IS(SYNLOCK_OK, synlock_events_next(events, &event, NULL));
    CHECK(event.kind == SYNLOCK_EVENT_FORGOTTEN);
    int32_t held = -1;
    IS(SYNLOCK_OK, synlock_store_is_locked(store, "x", 1, &held, NULL));
    CHECK(held == 0);
    synlock_events_free(events);
    synlock_lock_free(lock);
    synlock_store_free(store);
}

static void a_table(void) {
    char url[512], text[4096];
    size_t length;
    synlock_store *store;
    synlock_lock *lock;
    snprintf(url, sizeof url, "sqlite:%s/table-%ld.db?table=of_mine&io_timeout=20000", getenv("SYNLOCK_TEST_DIR"), (long)getpid());
    IS(SYNLOCK_OK, synlock_store_open(url, NULL, NULL, 0, &store, NULL));
    IS(SYNLOCK_OK, synlock_store_ddl(store, NULL, text, sizeof text, &length, NULL));
    CHECK(strstr(text, "CREATE TABLE") && strstr(text, "of_mine") && length == strlen(text));
    IS(SYNLOCK_OK, synlock_store_ddl(store, "postgres", text, sizeof text, &length, NULL));
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_store_ddl(store, "oracle", text, sizeof text, &length, NULL));
    IS(SYNLOCK_OK, synlock_store_create_table(store, PATIENCE_MS, NULL));
    IS(SYNLOCK_OK, synlock_store_create_table(store, SYNLOCK_FOREVER, NULL));
    IS(SYNLOCK_OK, synlock_lock_new(store, "x", SYNLOCK_NTS, NULL, &lock, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(lock, PATIENCE_MS, NULL));
    IS(SYNLOCK_OK, synlock_lock_release(lock, NULL));
    synlock_lock_free(lock);
    synlock_store_free(store);
}

static void sessions(void) {
    synlock_store *store = check_store("memory");
    synlock_session *mine = NULL, *other = NULL, *kept = NULL;
    synlock_scope *scope = NULL;
    IS(SYNLOCK_OK, synlock_scope_new(&scope, NULL));
    synlock_session_options options = {.struct_size = sizeof options, .scope = scope};
    IS(SYNLOCK_OK, synlock_session_new(store, &options, &mine, NULL));
    IS(SYNLOCK_OK, synlock_session_new(store, NULL, &other, NULL));
    char id[256], again[256];
    size_t length = 0;
    IS(SYNLOCK_OK, synlock_session_id(mine, id, sizeof id, &length, NULL));
    IS(SYNLOCK_OK, synlock_session_id(mine, again, sizeof again, NULL, NULL));
    CHECK(length == strlen(id) && strchr(id, '.'));
    CHECK(!strcmp(id, again));
    IS(SYNLOCK_OK, synlock_session_id(other, again, sizeof again, NULL, NULL));
    CHECK(strcmp(id, again));
    IS(SYNLOCK_OK, synlock_session_acquire(mine, "x", 1, 0, NULL));
    IS(SYNLOCK_OK, synlock_session_acquire(mine, "x", SYNLOCK_NTS, 60000, NULL));
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_session_acquire(mine, "x", 1, -1, NULL));
    IS(SYNLOCK_BUSY, synlock_session_acquire(other, "x", 1, 0, NULL));
    IS(SYNLOCK_OK, synlock_session_renew(mine, "x", 1, 0, NULL));
    IS(SYNLOCK_NOT_HELD, synlock_session_renew(other, "x", 1, 0, NULL));
    IS(SYNLOCK_NOT_HELD, synlock_session_release(other, "x", 1, NULL));
    int32_t available = -1;
    IS(SYNLOCK_OK, synlock_session_may_be_available(other, "x", 1, &available, NULL));
    CHECK(available == 0);
    IS(SYNLOCK_TIMEOUT, synlock_session_wait(other, "x", 1, 20, NULL));
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_session_wait(other, "x", 1, SYNLOCK_USE_OPTION, NULL));
    /* It is broken: the holder learns of it once, and begins anew. */
    IS(SYNLOCK_OK, synlock_store_break(store, "x", 1, NULL, NULL));
    IS(SYNLOCK_LOST, synlock_session_acquire(mine, "x", 1, 0, NULL));
    IS(SYNLOCK_OK, synlock_session_acquire(mine, "x", 1, 0, NULL));
    IS(SYNLOCK_OK, synlock_session_acquire(mine, "y", 1, 0, NULL));
    uint64_t released = 7;
    IS(SYNLOCK_UNSUPPORTED, synlock_session_release_all(other, id, &released, NULL));
    CHECK(released == 7);
    IS(SYNLOCK_OK, synlock_session_release_all(mine, NULL, &released, NULL));
    CHECK(released == 2);
    IS(SYNLOCK_OK, synlock_session_wait(other, "x", 1, SYNLOCK_FOREVER, NULL));
    /* Its end, its scope's and the process' release. */
    IS(SYNLOCK_OK, synlock_session_acquire(mine, "x", 1, 0, NULL));
    synlock_scope_free(scope);
    IS(SYNLOCK_INVALID_HANDLE, synlock_session_release(mine, "x", 1, NULL));
    IS(SYNLOCK_OK, synlock_session_acquire(other, "x", 1, 0, NULL));
    synlock_process_end();
    IS(SYNLOCK_OK, synlock_session_may_be_available(other, "x", 1, &available, NULL));
    CHECK(available == 1);
    options.scope = NULL;
    options.id = "persistent";
    IS(SYNLOCK_UNSUPPORTED, synlock_session_new(store, &options, &kept, NULL));
    synlock_session_free(other);
    synlock_store_free(store);

    store = check_store("redis");
    IS(SYNLOCK_OK, synlock_session_new(store, &options, &kept, NULL));
    IS(SYNLOCK_OK, synlock_session_acquire(kept, "kept", 4, 60000, NULL));
    synlock_session_free(kept);
    IS(SYNLOCK_OK, synlock_session_new(store, &options, &kept, NULL));
    IS(SYNLOCK_BUSY, synlock_session_acquire(kept, "kept", 4, 0, NULL));
    IS(SYNLOCK_OK, synlock_session_renew(kept, "kept", 4, 0, NULL));
    IS(SYNLOCK_OK, synlock_session_release(kept, "kept", 4, NULL));
    synlock_session_free(kept);
    options.id = "";
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_session_new(store, &options, &kept, NULL));
    synlock_store_free(store);
}

/* What is left of the lease of the one who holds a name. */
static int64_t lease_of(const synlock_store *store, const char *name) {
    synlock_list *list = NULL;
    synlock_holder row = {.struct_size = sizeof row};
    IS(SYNLOCK_OK, synlock_store_inspect(store, name, SYNLOCK_NTS, &list, NULL));
    IS(SYNLOCK_OK, synlock_list_get(list, 0, &row, NULL));
    synlock_list_free(list);
    return row.remaining_ms;
}

static void default_leases(void) {
    synlock_store *store = check_store("redis");
    synlock_session *mine = NULL;
    IS(SYNLOCK_OK, synlock_session_new(store, NULL, &mine, NULL));
    IS(SYNLOCK_OK, synlock_session_acquire(mine, "default", SYNLOCK_NTS, 0, NULL));
    CHECK(lease_of(store, "default") > 5000 && lease_of(store, "default") <= 30000);
    IS(SYNLOCK_OK, synlock_session_release(mine, "default", SYNLOCK_NTS, NULL));
    IS(SYNLOCK_OK, synlock_session_acquire(mine, "default", SYNLOCK_NTS, 2500, NULL));
    IS(SYNLOCK_OK, synlock_session_renew(mine, "default", SYNLOCK_NTS, 0, NULL));
    CHECK(lease_of(store, "default") > 5000 && lease_of(store, "default") <= 30000);
    synlock_session_free(mine);
    synlock_store_free(store);
}

/* What a process holds that ends with a call of synlock_process_end, or without, far from the end of the lease. */
static void an_ending_process(void) {
    synlock_store *store = check_store("redis");
    synlock_session *mine = NULL;
    IS(SYNLOCK_OK, synlock_session_new(store, NULL, &mine, NULL));
    for (int told = 0; told < 2; told++) {
        pid_t child = fork();
        if (child == 0) {
            synlock_session *held = NULL;
            IS(SYNLOCK_OK, synlock_session_new(store, NULL, &held, NULL));
            IS(SYNLOCK_OK, synlock_session_acquire(held, told ? "told" : "killed", SYNLOCK_NTS, 600000, NULL));
            if (told) synlock_process_end();
            raise(check_bad ? SIGABRT : SIGKILL);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    IS(SYNLOCK_OK, synlock_session_acquire(mine, "told", SYNLOCK_NTS, 0, NULL));
    IS(SYNLOCK_BUSY, synlock_session_acquire(mine, "killed", SYNLOCK_NTS, 0, NULL));
    IS(SYNLOCK_OK, synlock_store_break(store, "killed", SYNLOCK_NTS, NULL, NULL));
    synlock_session_free(mine);
    synlock_store_free(store);
}

/* A parent's session is not its child's. */
static void a_childs_session(void) {
    synlock_store *store = check_store("flock");
    synlock_session *held = NULL, *idle = NULL;
    IS(SYNLOCK_OK, synlock_session_new(store, NULL, &held, NULL));
    IS(SYNLOCK_OK, synlock_session_new(store, NULL, &idle, NULL));
    IS(SYNLOCK_OK, synlock_session_acquire(held, "x", 1, 0, NULL));
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        check_bad = 0;
        IS(SYNLOCK_FORKED_HANDLE, synlock_session_acquire(held, "x", 1, 0, NULL));
        IS(SYNLOCK_FORKED_HANDLE, synlock_session_release(held, "x", 1, NULL));
        IS(SYNLOCK_BUSY, synlock_session_acquire(idle, "x", 1, 0, NULL));
        IS(SYNLOCK_OK, synlock_session_acquire(idle, "y", 1, 0, NULL));
        synlock_process_end();
        synlock_session_free(held);
        synlock_session_free(idle);
        char bad = (char)(check_bad != 0);
        CHECK(write(ends[1], &bad, 1) == 1);
        /* What is the parent's is not freed here, which valgrind would find in a child that exits. */
        raise(SIGKILL);
    }
    char bad = 7;
    CHECK(read(ends[0], &bad, 1) == 1 && bad == 0);
    waitpid(child, NULL, 0);
    close(ends[0]);
    close(ends[1]);
    IS(SYNLOCK_OK, synlock_session_renew(held, "x", 1, 0, NULL));
    IS(SYNLOCK_OK, synlock_session_acquire(idle, "y", 1, 0, NULL));
    synlock_session_free(held);
    synlock_session_free(idle);
    synlock_store_free(store);
}

int main(void) {
    check_setting();
    CASE(versions);
    CASE(stores);
    CASE(capabilities);
    CASE(memory_lock);
    CASE(flock_lock);
    CASE(shm_lock);
    CASE(checks);
    CASE(a_table);
    CASE(redis_lock);
    CASE(a_call_that_fails_has_not_acted);
    CASE(options_are_checked);
    CASE(shared_and_permits);
    CASE(a_break_is_seen);
    CASE(export_and_adopt);
    CASE(interrupted_and_abandoned);
    CASE(scopes);
    CASE(dispatching);
    CASE(events);
    CASE(warnings);
    CASE(sessions);
    CASE(default_leases);
    CASE(an_ending_process);
    CASE(a_childs_session);
    return check_totals();
}
