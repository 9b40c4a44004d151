/* Row 38: a panic inside any export is SYNLOCK_INTERNAL, or the value of a bad handle; the process
   lives and later calls work. For a library with the feature `inject-panic`: panic EXPORTS */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

static int injected;

static void arm(const char *name) {
    setenv("SYNLOCK_PANIC_IN", name, 1);
    injected++;
}

static void disarm(void) { unsetenv("SYNLOCK_PANIC_IN"); }

#define STATUS(function, ...) \
    do { \
        synlock_error *error = NULL; \
        arm(#function); \
        int status = function(__VA_ARGS__, &error); \
        disarm(); \
        check_status(__FILE__, __LINE__, #function, SYNLOCK_INTERNAL, status); \
        SAME(#function, synlock_error_operation(error)); \
        synlock_error_free(error); \
    } while (0)
#define VALUE(otherwise, function, ...) \
    do { \
        arm(#function); \
        int same = function(__VA_ARGS__) == (otherwise); \
        disarm(); \
        if (!same) check_say(__FILE__, __LINE__, #function); \
    } while (0)
#define WORDS(otherwise, function, ...) \
    do { \
        arm(#function); \
        const char *words = function(__VA_ARGS__); \
        disarm(); \
        SAME(otherwise, words); \
    } while (0)
#define NOTHING(function, ...) \
    do { \
        arm(#function); \
        function(__VA_ARGS__); \
        disarm(); \
    } while (0)

static synlock_store *store;
static synlock_lock *lock;
static synlock_cancel *cancel;
static synlock_scope *scope;
static synlock_dispatch *dispatch;
static synlock_events *events;
static synlock_list *list;
static synlock_manager *manager;
static synlock_session *session;
static synlock_set *set;
static synlock_guard *gate;
static synlock_error *failure;
static synlock_lock_options options;

static void make(void) {
    IS(SYNLOCK_OK, synlock_store_open("memory:panic", NULL, NULL, 0, &store, NULL));
    synlock_lock_options_init(&options, sizeof options);
    IS(SYNLOCK_OK, synlock_lock_new(store, "x", 1, &options, &lock, NULL));
    IS(SYNLOCK_OK, synlock_cancel_new(&cancel, NULL));
    IS(SYNLOCK_OK, synlock_scope_new(&scope, NULL));
    IS(SYNLOCK_OK, synlock_guard_new(NULL, NULL, &gate, NULL));
    IS(SYNLOCK_OK, synlock_dispatch_new(&dispatch, NULL));
    IS(SYNLOCK_OK, synlock_events_new(store, 100, &events, NULL));
    IS(SYNLOCK_OK, synlock_session_new(store, NULL, &session, NULL));
    IS(SYNLOCK_OK, synlock_set_new(&lock, 1, NULL, &set, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL));
    IS(SYNLOCK_OK, synlock_store_inspect(store, "x", 1, &list, NULL));
    IS(SYNLOCK_OK, synlock_manager_new(store, NULL, &manager, NULL));
    IS(SYNLOCK_ALREADY_HELD, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, &failure));
}

static void count_event(void *user, const synlock_event *event) {
    (void)user, (void)event;
    CHECK(0); /* It is never reached. */
}

static void every_status(void) {
    char text[600];
    size_t length = 7;
    int32_t number = 7;
    uint64_t ticket = 7, findings = 7, released = 7;
    void *untouched = NULL;
    synlock_acquired how = {.struct_size = sizeof how};
    synlock_capabilities can = {.struct_size = sizeof can};
    synlock_holder holder = {.struct_size = sizeof holder};
    synlock_event event = {.struct_size = sizeof event};
    synlock_guard_answer answer = {.struct_size = sizeof answer};
    synlock_completion done;
    STATUS(synlock_store_open, "memory:panic", NULL, NULL, 0, (synlock_store **)&untouched);
    STATUS(synlock_store_custom, "panic", NULL, NULL, NULL, 0, (synlock_store **)&untouched);
    STATUS(synlock_reply_add, NULL, NULL, NULL);
    STATUS(synlock_fencing_ddl, "sqlite", NULL, text, sizeof text, &length);
    STATUS(synlock_fencing_trigger, "sqlite", "x", NULL, text, sizeof text, &length);
    STATUS(synlock_fencing_statement, "sqlite", NULL, text, sizeof text, &length);
    STATUS(synlock_guard_new, NULL, NULL, (synlock_guard **)&untouched);
    STATUS(synlock_guard_add, gate, "default", store, 0);
    STATUS(synlock_guard_set_default, gate, "other");
    STATUS(synlock_guard_find, gate, NULL, &length);
    STATUS(synlock_guard_name, gate, NULL, NULL, text, sizeof text, &length);
    STATUS(synlock_guard_enter, gate, NULL, NULL, NULL, (synlock_lock **)&untouched, (synlock_list **)&untouched, &answer);
    STATUS(synlock_store_ping, store, 0);
    STATUS(synlock_store_url, store, text, sizeof text, &length);
    STATUS(synlock_store_fingerprint, store, text, sizeof text, &length);
    STATUS(synlock_store_capabilities, store, &can);
    STATUS(synlock_store_is_locked, store, "x", 1, &number);
    STATUS(synlock_store_break, store, "x", 1, &number);
    STATUS(synlock_store_check, store, &findings, text, sizeof text, &length);
    STATUS(synlock_store_create_table, store, 0);
    STATUS(synlock_store_ddl, store, NULL, text, sizeof text, &length);
    STATUS(synlock_store_wait_free, store, "x", 1, 0);
    STATUS(synlock_store_schemes, text, sizeof text, &length);
    STATUS(synlock_store_adopt, store, "x", NULL, (synlock_lock **)&untouched);
    STATUS(synlock_store_inspect, store, "x", 1, (synlock_list **)&untouched);
    STATUS(synlock_store_list, store, "", 0, NULL, 10, (synlock_list **)&untouched);
    STATUS(synlock_list_get, list, 0, &holder);
    STATUS(synlock_lock_new, store, "x", 1, NULL, (synlock_lock **)&untouched);
    STATUS(synlock_lock_acquire, lock, 0);
    STATUS(synlock_lock_acquire_with, lock, 0, cancel, &how);
    STATUS(synlock_lock_abandon, lock);
    STATUS(synlock_lock_release, lock);
    STATUS(synlock_lock_refresh, lock, 0);
    STATUS(synlock_lock_promote, lock, 0);
    STATUS(synlock_lock_demote, lock);
    STATUS(synlock_lock_ensure_held, lock);
    STATUS(synlock_lock_is_acquired, lock, &number);
    STATUS(synlock_lock_owner_token, lock, text, sizeof text, &length);
    STATUS(synlock_lock_lost_fd, lock, &number);
    STATUS(synlock_lock_set_auto_release, lock, 0);
    STATUS(synlock_lock_export, lock, text, sizeof text, &length);
    STATUS(synlock_cancel_new, (synlock_cancel **)&untouched);
    STATUS(synlock_cancel_throw, cancel);
    STATUS(synlock_scope_new, (synlock_scope **)&untouched);
    STATUS(synlock_scope_request, (synlock_scope **)&untouched);
    STATUS(synlock_scope_add_store, scope, store);
    STATUS(synlock_dispatch_new, (synlock_dispatch **)&untouched);
    STATUS(synlock_dispatch_submit, dispatch, lock, SYNLOCK_OP_CHECK, 0, 0, &ticket);
    STATUS(synlock_dispatch_cancel, dispatch, 1);
    STATUS(synlock_dispatch_reap, dispatch, &done, 1, sizeof done, &length);
    STATUS(synlock_events_new, store, 10, (synlock_events **)&untouched);
    STATUS(synlock_events_new_warnings, store, 10, (synlock_events **)&untouched);
    STATUS(synlock_events_next, events, &event);
    STATUS(synlock_events_each, events, count_event, &untouched);
    STATUS(synlock_manager_new, store, NULL, (synlock_manager **)&untouched);
    STATUS(synlock_manager_store, manager, (synlock_store **)&untouched);
    STATUS(synlock_manager_acquire, manager, "1", 1, NULL, 0, cancel, &how);
    STATUS(synlock_manager_abandon, manager, "1", 1);
    STATUS(synlock_manager_release, manager, "1", 1, NULL);
    STATUS(synlock_manager_refresh, manager, "1", 1, 0);
    STATUS(synlock_manager_is_acquired, manager, "1", 1, &number);
    STATUS(synlock_key_name, "1", 1, NULL, text, sizeof text, &length);
    STATUS(synlock_template_name, "1", 1, NULL, 0, text, sizeof text, &length);
    STATUS(synlock_store_measure, store, 1);
    STATUS(synlock_metrics_text, text, sizeof text, &length);
    STATUS(synlock_set_new, &lock, 1, NULL, (synlock_set **)&untouched);
    STATUS(synlock_set_acquire, set, 0, NULL, NULL);
    STATUS(synlock_set_abandon, set);
    STATUS(synlock_set_release, set);
    STATUS(synlock_set_ensure_held, set);
    STATUS(synlock_dispatch_submit_set, dispatch, set, SYNLOCK_OP_CHECK, 0, 0, NULL);
    STATUS(synlock_session_new, store, NULL, (synlock_session **)&untouched);
    STATUS(synlock_session_id, session, text, sizeof text, &length);
    STATUS(synlock_session_acquire, session, "y", 1, 0);
    STATUS(synlock_session_renew, session, "y", 1, 0);
    STATUS(synlock_session_may_be_available, session, "y", 1, &number);
    STATUS(synlock_session_wait, session, "y", 1, 0);
    STATUS(synlock_session_release, session, "y", 1);
    STATUS(synlock_session_release_all, session, NULL, &released);
    CHECK(released == 7);
    CHECK(!untouched && number == 7 && length == 7 && ticket == 7 && findings == 7);
}

static void every_value(void) {
    IS(SYNLOCK_ALREADY_HELD, synlock_error_code(failure));
    VALUE(SYNLOCK_OK, synlock_error_code, failure);
    VALUE(0, synlock_error_is_retriable, failure);
    VALUE(0u, synlock_list_count, list);
    VALUE(-1, synlock_list_waiters, list);
    VALUE(NULL, synlock_list_cursor, list);
    VALUE(SYNLOCK_STATE_IDLE, synlock_lock_state, lock);
    VALUE(-1, synlock_lock_remaining_ms, lock);
    VALUE(-1, synlock_lock_was_late, lock);
    VALUE(SYNLOCK_FOREVER, synlock_lock_timeout_ms, lock);
    VALUE(0, synlock_lock_fencing_token, lock);
    VALUE(SYNLOCK_EXCLUSIVE, synlock_lock_mode, lock);
    VALUE(-1, synlock_lock_auto_release, lock);
    VALUE(-1, synlock_dispatch_fd, dispatch);
    VALUE(-1, synlock_events_fd, events);
    VALUE(0u, synlock_events_dropped, events);
    VALUE(0u, synlock_abi_version, );
    VALUE(0u, synlock_version_number, );
    VALUE(0u, synlock_debug_live, 0);
    VALUE(NULL, synlock_error_store, failure);
    VALUE(NULL, synlock_error_resource, failure);
    VALUE(NULL, synlock_error_operation, failure);
    WORDS("", synlock_version_string, );
    WORDS("", synlock_build_info, );
    WORDS("", synlock_fencing_redis, );
    WORDS("UNKNOWN", synlock_status_name, SYNLOCK_BUSY);
    WORDS("", synlock_status_text, SYNLOCK_BUSY);
    WORDS("", synlock_status_class, SYNLOCK_BUSY);
    arm("synlock_error_name");
    (void)synlock_error_name(failure);
    disarm();
    arm("synlock_error_message");
    (void)synlock_error_message(failure);
    disarm();
    NOTHING(synlock_process_end, );
    options.ttl_ms = 5;
    NOTHING(synlock_lock_options_init, &options, sizeof options);
    CHECK(options.ttl_ms == 5);
}

/* Freeing fails as a whole: the handle lives, and the next call frees it. */
static void every_free(void) {
    uint64_t all = synlock_debug_live(0);
    NOTHING(synlock_error_free, failure);
    NOTHING(synlock_list_free, list);
    NOTHING(synlock_manager_free, manager);
    NOTHING(synlock_events_free, events);
    NOTHING(synlock_dispatch_free, dispatch);
    NOTHING(synlock_scope_free, scope);
    NOTHING(synlock_cancel_free, cancel);
    NOTHING(synlock_session_free, session);
    NOTHING(synlock_set_free, set);
    NOTHING(synlock_guard_free, gate);
    NOTHING(synlock_lock_free, lock);
    NOTHING(synlock_store_free, store);
    CHECK(all == 12 && synlock_debug_live(0) == all);
}

static void contained(void) {
    make();
    every_status();
    every_value();
    every_free();
    /* Nothing was done and nothing is broken. */
    IS(SYNLOCK_OK, synlock_lock_ensure_held(lock, NULL));
    IS(SYNLOCK_OK, synlock_lock_release(lock, NULL));
    IS(SYNLOCK_OK, synlock_lock_acquire_with(lock, 1000, cancel, NULL, NULL));
    IS(SYNLOCK_OK, synlock_store_ping(store, 0, NULL));
    synlock_error_free(failure);
    synlock_list_free(list);
    synlock_manager_free(manager);
    synlock_events_free(events);
    synlock_dispatch_free(dispatch);
    synlock_scope_free(scope);
    synlock_cancel_free(cancel);
    synlock_session_free(session);
    synlock_set_free(set);
    synlock_guard_free(gate);
    synlock_lock_free(lock);
    synlock_store_free(store);
}

int main(int count, char **words) {
    CASE(contained);
    printf("%d exports\n", injected);
    if (count != 2 || injected != atoi(words[1])) {
        fprintf(stderr, "%d exports were called, not all\n", injected);
        return 1;
    }
    return check_totals();
}
