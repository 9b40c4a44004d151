/* The manager of semaphores and the numbers, as C has them. */
#define _DEFAULT_SOURCE
#include "check.h"
#include <poll.h>

#define KEY "[\"M_K_\",1]"
#define NAME "lock_M_K_378261a619eba75d288b4929dc312ddf"

static synlock_manager *check_manager(synlock_store *store, const synlock_manager_options *options) {
    synlock_manager *manager = NULL;
    IS(SYNLOCK_OK, synlock_manager_new(store, options, &manager, NULL));
    return manager;
}

static int acquire(synlock_manager *manager, const char *key, const char *caller, int64_t ttl_ms) {
    return synlock_manager_acquire(manager, key, SYNLOCK_NTS, caller, ttl_ms, NULL, NULL, NULL);
}

static int release(synlock_manager *manager, const char *key, const char *caller) {
    return synlock_manager_release(manager, key, SYNLOCK_NTS, caller, NULL);
}

static int is_locked(synlock_store *store, const char *name) {
    int32_t held = -1;
    IS(SYNLOCK_OK, synlock_store_is_locked(store, name, SYNLOCK_NTS, &held, NULL));
    return held;
}

static void keys(void) {
    char text[256];
    const char *name = text;
    size_t length = 0;
    IS(SYNLOCK_OK, synlock_key_name(KEY, strlen(KEY), "lock_", text, sizeof text, &length, NULL));
    SAME(NAME, name);
    CHECK(length == strlen(NAME));
    IS(SYNLOCK_OK, synlock_key_name("\"plain\"", SYNLOCK_NTS, NULL, text, sizeof text, NULL, NULL));
    SAME("plain", name);
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_key_name(KEY, strlen(KEY), NULL, text, 5, &length, NULL));
    CHECK(length == strlen(NAME) - 5);
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_key_name("plain", SYNLOCK_NTS, NULL, text, sizeof text, NULL, NULL));
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_key_name("1", 1, NULL, text, sizeof text, NULL, NULL));
}

/* A key of the vectors, and the name that it stands for: the file has one row a line. */
static int vector(const char *line) {
    const char *key = strstr(line, "{\"name\": "), *end = strstr(line, ", \"expect\": {\"key\": ");
    char got[512], wanted[512], bytes[] = "[\"bad_\",\"\xff\"]";
    if (!key || !end) return 0;
    const char *name = end + strlen(", \"expect\": {\"key\": "), *stop = strstr(name, "\", \"json\"");
    key += strlen("{\"name\": ");
    size_t length = (size_t)(end - key);
    /* Bytes that are not UTF-8 stand as {"hex": ...} there. */
    if (strstr(key, "{\"hex\": \"ff\"}") && strstr(key, "{\"hex\": \"ff\"}") < end) key = bytes, length = strlen(bytes);
    IS(SYNLOCK_OK, synlock_key_name(key, length, "lock_", got, sizeof got, NULL, NULL));
    IS(SYNLOCK_OK, synlock_key_name(name, (size_t)(stop - name) + 1, NULL, wanted, sizeof wanted, NULL, NULL));
    CHECK(!strcmp(wanted, got));
    return 1;
}

static void vectors(void) {
    FILE *file = fopen("tests/vectors/avtonom_key.json", "r");
    char line[4096];
    int rows = 0;
    CHECK(file);
    while (file && fgets(line, sizeof line, file)) rows += vector(line);
    CHECK(rows >= 47);
    if (file) fclose(file);
}

/* A row of the vectors: template, name, values. */
static int template_row(char *line) {
    synlock_placeholder values[8];
    char got[256] = "", *rest = line, *pattern = strsep(&rest, "\t"), *name = strsep(&rest, "\t"), *value;
    size_t count = 0, length = 0;
    for (; (value = strsep(&rest, "\t")); count++) {
        CHECK(count < 8);
        char *placeholder = strsep(&value, "=");
        values[count] = (synlock_placeholder){placeholder, SYNLOCK_NTS, value, strlen(value)};
    }
    int is_missing = !strcmp(name, "!");
    IS(is_missing ? SYNLOCK_INVALID_ARGUMENT : SYNLOCK_OK,
       synlock_template_name(pattern, SYNLOCK_NTS, values, count, got, sizeof got, &length, NULL));
    CHECK(is_missing || (!strcmp(name, got) && length == strlen(name)));
    return 1;
}

static void templates(void) {
    FILE *file = fopen("tests/vectors/templates.tsv", "r");
    char line[1024];
    int rows = 0;
    CHECK(file);
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (*line != '#') rows += template_row(line);
    }
    CHECK(rows >= 28);
    if (file) fclose(file);
}

static void holds(void) {
    synlock_store *store = check_store("memory");
    synlock_manager_options options = {.struct_size = sizeof options, .sleep_ms = SYNLOCK_OPT_TRY};
    synlock_manager *manager = check_manager(store, &options);
    synlock_acquired how = {.struct_size = sizeof how};
    int32_t held = -1;
    IS(SYNLOCK_OK, synlock_manager_acquire(manager, KEY, SYNLOCK_NTS, "main", 0, NULL, &how, NULL));
    CHECK(how.attempts == 1 && !how.contended && !how.extended);
    CHECK(is_locked(store, NAME) == 1);
    IS(SYNLOCK_REENTERED, acquire(manager, KEY, "main", 0));
    IS(SYNLOCK_OK, synlock_manager_is_acquired(manager, KEY, SYNLOCK_NTS, &held, NULL));
    CHECK(held == 1);
    IS(SYNLOCK_OK, synlock_manager_refresh(manager, KEY, SYNLOCK_NTS, 90000, NULL));
    IS(SYNLOCK_OK, release(manager, KEY, "main"));
    IS(SYNLOCK_NOT_HELD, release(manager, KEY, "main"));
    IS(SYNLOCK_NOT_HELD, synlock_manager_refresh(manager, KEY, SYNLOCK_NTS, 0, NULL));
    IS(SYNLOCK_OK, synlock_manager_is_acquired(manager, KEY, SYNLOCK_NTS, &held, NULL));
    CHECK(held == 0);
    /* Somebody else's. */
    synlock_lock *other = check_lock(store, NAME, NULL);
    IS(SYNLOCK_OK, synlock_lock_acquire(other, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_BUSY, acquire(manager, KEY, NULL, 0));
    IS(SYNLOCK_NOT_HELD, release(manager, KEY, NULL));
    IS(SYNLOCK_OK, synlock_lock_release(other, NULL));
    synlock_lock_free(other);
    IS(SYNLOCK_INVALID_ARGUMENT, acquire(manager, KEY, NULL, -5));
    IS(SYNLOCK_INVALID_ARGUMENT, acquire(manager, "{}", NULL, 0));
    synlock_manager_free(manager);
    synlock_store_free(store);
}

static void settings(void) {
    synlock_store *store = check_store("memory");
    synlock_manager *manager = NULL;
    synlock_scope *scope = NULL;
    IS(SYNLOCK_OK, synlock_scope_new(&scope, NULL));
    synlock_manager_options options = {.struct_size = sizeof options,
                                       .sleep_ms = 20,
                                       .jitter_ms = 5,
                                       .ttl_ms = 60000,
                                       .tries = 2,
                                       .repeat = SYNLOCK_REPEAT_EXTEND,
                                       .interruptible = SYNLOCK_ON,
                                       .prefix = "p:",
                                       .scope = scope};
    manager = check_manager(store, &options);
    synlock_acquired how = {.struct_size = sizeof how};
    IS(SYNLOCK_OK, acquire(manager, "\"k\"", NULL, 0));
    IS(SYNLOCK_OK, synlock_manager_acquire(manager, "\"k\"", SYNLOCK_NTS, NULL, 0, NULL, &how, NULL));
    CHECK(how.extended == 1);
    CHECK(is_locked(store, "p:k") == 1);
    synlock_lock *other = check_lock(store, "p:x", NULL);
    IS(SYNLOCK_OK, synlock_lock_acquire(other, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_TIMEOUT, acquire(manager, "\"x\"", NULL, 0));
    /* A wait that gives its host a turn, and is not gone on with. */
    options.scope = NULL;
    options.tries = 1000000;
    synlock_manager *patient = check_manager(store, &options);
    IS(SYNLOCK_INTERRUPTED, acquire(patient, "\"x\"", NULL, 0));
    IS(SYNLOCK_OK, synlock_manager_abandon(patient, "\"x\"", 3, NULL));
    /* A switch ends a wait. */
    synlock_cancel *cancel = NULL;
    IS(SYNLOCK_OK, synlock_cancel_new(&cancel, NULL));
    IS(SYNLOCK_OK, synlock_cancel_throw(cancel, NULL));
    IS(SYNLOCK_CANCELLED, synlock_manager_acquire(patient, "\"x\"", 3, NULL, 0, cancel, NULL, NULL));
    synlock_cancel_free(cancel);
    synlock_manager_free(patient);
    synlock_lock_free(other);
    synlock_scope_free(scope); /* and the manager with it, which releases */
    CHECK(is_locked(store, "p:k") == 0);
    IS(SYNLOCK_INVALID_HANDLE, release(manager, "\"k\"", NULL));
    options.repeat = 3;
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_manager_new(store, &options, &manager, NULL));
    options.repeat = 0;
    options.sleep_ms = -1;
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_manager_new(store, &options, &manager, NULL));
    synlock_store_free(store);
}

static void next_is(synlock_events *events, synlock_event *event, int kind, const char *level, const char *operation) {
    IS(SYNLOCK_OK, synlock_events_next(events, event, NULL));
    CHECK(event->kind == kind);
    SAME(level, event->level);
    SAME(operation, event->operation);
    CHECK(event->pid == (uint32_t)getpid() && event->line && *event->store);
}

struct log {
    synlock_store *store;
    int lines, lost;
    char line[512], caller[64]; /* of the last event, or of the loss */
};

static void write_down(void *user, const synlock_event *event) {
    struct log *log = user;
    CHECK(event->struct_size == sizeof *event && event->pid == (uint32_t)getpid());
    log->lines++;
    if (log->lost) return;
    log->lost = event->kind == SYNLOCK_EVENT_LOST;
    snprintf(log->line, sizeof log->line, "%s %s", event->level, event->line);
    snprintf(log->caller, sizeof log->caller, "%s", event->caller);
    if (log->store) { /* What a callback does is no part of what it was called for. */
        synlock_lock *lock = check_lock(log->store, "in a callback", NULL);
        IS(SYNLOCK_OK, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL));
        synlock_lock_free(lock);
    }
}

/* A log by a callback, which hears of a key that died of its TTL without anybody asking for it. */
static void callbacks(void) {
    synlock_store *store = check_store("memory"), *own = NULL;
    synlock_manager_options options = {.struct_size = sizeof options, .sleep_ms = SYNLOCK_OPT_TRY};
    synlock_manager *manager = check_manager(store, &options);
    synlock_events *events = NULL;
    struct log log = {0};
    IS(SYNLOCK_OK, synlock_manager_store(manager, &own, NULL));
    IS(SYNLOCK_OK, synlock_events_new(own, 100, &events, NULL));
    IS(SYNLOCK_NULL_POINTER, synlock_events_each(events, NULL, NULL, NULL));
    IS(SYNLOCK_NULL_POINTER, synlock_events_each(NULL, write_down, &log, NULL));
    IS(SYNLOCK_OK, synlock_events_each(events, write_down, &log, NULL));
    CHECK(log.lines == 0);
    log.store = own;
    IS(SYNLOCK_OK, acquire(manager, "\"lives\"", "Order::lives", 60000));
    IS(SYNLOCK_OK, synlock_events_each(events, write_down, &log, NULL));
    CHECK(log.lines == 1 && !strncmp("debug [", log.line, 7) && strstr(log.line, "Order::lives->acquire: acquired"));
    log.store = NULL;
    IS(SYNLOCK_OK, acquire(manager, KEY, "Order::dies", 200));
    while (!log.lost) {
        struct pollfd ready = {.fd = synlock_events_fd(events), .events = POLLIN};
        CHECK(poll(&ready, 1, 60000) == 1);
        IS(SYNLOCK_OK, synlock_events_each(events, write_down, &log, NULL));
    }
    SAME("Order::dies", log.caller);
    CHECK(strstr(log.line, "Order::dies->hold: ") && strstr(log.line, NAME) && log.lines > 2);
    synlock_manager_free(manager);
    synlock_events_free(events);
    synlock_store_free(own);
    synlock_store_free(store);
}

/* What a log needs: who, what, which key, how long. */
static void lines(void) {
    synlock_store *store = check_store("memory"), *own = NULL;
    synlock_manager_options options = {.struct_size = sizeof options, .sleep_ms = SYNLOCK_OPT_TRY};
    synlock_manager *manager = check_manager(store, &options);
    synlock_events *events = NULL, *others = NULL;
    synlock_event event = {.struct_size = sizeof event};
    char wanted[256];
    IS(SYNLOCK_OK, synlock_manager_store(manager, &own, NULL));
    IS(SYNLOCK_OK, synlock_events_new(own, 100, &events, NULL));
    IS(SYNLOCK_OK, synlock_events_new(store, 100, &others, NULL));
    IS(SYNLOCK_OK, acquire(manager, KEY, "Order::pay", 10000));
    next_is(events, &event, SYNLOCK_EVENT_ACQUIRED, "debug", "acquire");
    SAME("Order::pay", event.caller);
    SAME(KEY, event.key);
    SAME("acquired (ttl 10 s)", event.message);
    CHECK(strlen(event.owner) == 8 && event.attempts == 1);
    snprintf(wanted, sizeof wanted, "[%d] Order::pay->acquire: acquired (ttl 10 s). Key: %s %s (store memory:", (int)getpid(), NAME, KEY);
    CHECK(!strncmp(wanted, event.line, strlen(wanted)));
    IS(SYNLOCK_REENTERED, acquire(manager, KEY, "Order::again", 0));
    next_is(events, &event, SYNLOCK_EVENT_REFUSED, "error", "acquire");
    SAME("Order::again", event.caller);
    CHECK(strstr(event.message, "Order::pay") && event.status == SYNLOCK_REENTERED);
    IS(SYNLOCK_OK, release(manager, KEY, "Order::end"));
    next_is(events, &event, SYNLOCK_EVENT_RELEASED, "debug", "release");
    SAME("Order::end", event.caller);
    IS(SYNLOCK_NOT_HELD, release(manager, KEY, "Order::end"));
    next_is(events, &event, SYNLOCK_EVENT_REFUSED, "error", "release");
    IS(SYNLOCK_OK, acquire(manager, KEY, "Order::forgets", 0));
    next_is(events, &event, SYNLOCK_EVENT_ACQUIRED, "debug", "acquire");
    synlock_manager_free(manager);
    next_is(events, &event, SYNLOCK_EVENT_FORGOTTEN, "error", "end");
    SAME("Order::forgets", event.caller);
    next_is(events, &event, SYNLOCK_EVENT_RELEASED, "debug", "release");
    SAME("Order::forgets", event.caller);
    /* A key goes with managers alone, and their events to their own store alone. */
    IS(SYNLOCK_BUSY, synlock_events_next(others, &event, NULL));
    synlock_lock *lock = check_lock(store, "x", NULL);
    IS(SYNLOCK_OK, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL));
    next_is(others, &event, SYNLOCK_EVENT_ACQUIRED, "info", "acquire");
    CHECK(event.key == NULL);
    synlock_lock_free(lock);
    synlock_events_free(others);
    synlock_events_free(events);
    synlock_store_free(own);
    synlock_store_free(store);
}

/* Each line of an acquire that waits in vain says whose it was. */
static void waits(void) {
    synlock_store *store = check_store("memory"), *own = NULL;
    synlock_manager_options options = {.struct_size = sizeof options, .sleep_ms = 10, .tries = 3};
    synlock_manager *manager = check_manager(store, &options);
    synlock_events *events = NULL;
    synlock_event event = {.struct_size = sizeof event};
    IS(SYNLOCK_OK, synlock_manager_store(manager, &own, NULL));
    IS(SYNLOCK_OK, synlock_events_new(own, 100, &events, NULL));
    synlock_lock *other = check_lock(store, NAME, NULL);
    IS(SYNLOCK_OK, synlock_lock_acquire(other, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_TIMEOUT, acquire(manager, KEY, "Order::waits", 0));
    next_is(events, &event, SYNLOCK_EVENT_WAITING, "debug", "acquire");
    SAME("Order::waits", event.caller);
    SAME(KEY, event.key);
    next_is(events, &event, SYNLOCK_EVENT_REFUSED, "error", "acquire");
    SAME("Order::waits", event.caller);
    synlock_lock_free(other);
    synlock_manager_free(manager);
    synlock_events_free(events);
    synlock_store_free(own);
    synlock_store_free(store);
}

static void demo(void) {
    synlock_store *store = check_store("memory");
    synlock_manager_options options = {.struct_size = sizeof options, .demo = SYNLOCK_ON};
    synlock_manager *manager = check_manager(store, &options);
    IS(SYNLOCK_OK, acquire(manager, KEY, NULL, 0));
    IS(SYNLOCK_OK, acquire(manager, KEY, NULL, 0));
    CHECK(is_locked(store, NAME) == 0);
    IS(SYNLOCK_OK, release(manager, KEY, NULL));
    synlock_manager_free(manager);
    synlock_store_free(store);
}

static void ends(void) {
    synlock_store *store = check_store("memory");
    synlock_manager *manager = check_manager(store, NULL);
    IS(SYNLOCK_OK, acquire(manager, KEY, NULL, 0));
    synlock_process_end();
    CHECK(is_locked(store, NAME) == 0);
    synlock_manager_free(manager);
    synlock_store_free(store);
}

static int counts(const char *line) {
    static char text[65536];
    IS(SYNLOCK_OK, synlock_metrics_text(text, sizeof text, NULL, NULL));
    return strstr(text, line) != NULL;
}

static void numbers(void) {
    synlock_store *store = NULL;
    IS(SYNLOCK_OK, synlock_store_open("memory:c-numbers", NULL, NULL, 0, &store, NULL));
    synlock_lock *lock = check_lock(store, "x", NULL), *other = check_lock(store, "x", NULL);
    IS(SYNLOCK_OK, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_OK, synlock_lock_release(lock, NULL));
    CHECK(!counts("c-numbers")); /* nobody asked */
    IS(SYNLOCK_OK, synlock_store_measure(store, 1, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_BUSY, synlock_lock_acquire(other, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_OK, synlock_lock_release(lock, NULL));
    CHECK(counts("synlock_acquires_total{store=\"memory:c-numbers\",outcome=\"granted\"} 1\n"));
    CHECK(counts("synlock_acquires_total{store=\"memory:c-numbers\",outcome=\"busy\"} 1\n"));
    CHECK(counts("synlock_releases_total{store=\"memory:c-numbers\"} 1\n"));
    CHECK(counts("synlock_held_seconds_bucket{store=\"memory:c-numbers\",le=\"+Inf\"} 1\n"));
    CHECK(counts("# TYPE synlock_waited_seconds histogram\n"));
    IS(SYNLOCK_OK, synlock_store_measure(store, 0, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL));
    CHECK(counts("synlock_acquires_total{store=\"memory:c-numbers\",outcome=\"granted\"} 1\n"));
    synlock_lock_free(lock);
    synlock_lock_free(other);
    synlock_store_free(store);
}

int main(void) {
    check_setting();
    CASE(keys);
    CASE(vectors);
    CASE(templates);
    CASE(holds);
    CASE(settings);
    CASE(callbacks);
    CASE(lines);
    CASE(waits);
    CASE(demo);
    CASE(ends);
    CASE(numbers);
    return check_totals();
}
