/* NULL in every pointer of every function: an error or what the header says, never a crash. The run
   fails if a pointer of the header gets none here (tests/c/nulls). */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#define REFUSED(call) IS(SYNLOCK_NULL_POINTER, call)
#define FINE(call) IS(SYNLOCK_OK, call)

static void errors(void) {
    IS(SYNLOCK_OK, synlock_error_code(NULL));
    (void)synlock_error_name(NULL);
    CHECK(synlock_error_message(NULL) == NULL || !*synlock_error_message(NULL));
    CHECK(synlock_error_store(NULL) == NULL);
    CHECK(synlock_error_resource(NULL) == NULL);
    CHECK(synlock_error_operation(NULL) == NULL);
    CHECK(synlock_error_is_retriable(NULL) == 0);
    synlock_error_free(NULL);
    /* A refusal says which, in words. */
    synlock_error *error = NULL;
    REFUSED(synlock_store_open(NULL, NULL, NULL, 0, NULL, &error));
    CHECK(strstr(synlock_error_message(error), "NULL"));
    synlock_error_free(error);
}

static int32_t never(void *user, const synlock_ask *ask, synlock_reply *reply) {
    (void)user, (void)ask, (void)reply;
    return SYNLOCK_INTERNAL;
}

static void heard(void *user, const synlock_event *event) {
    (void)user, (void)event;
}

static void stores(void) {
    synlock_store *store = NULL, *made = NULL;
    synlock_list *list = NULL;
    synlock_capabilities can = {.struct_size = sizeof can};
    const char *words[] = {NULL}, *keys[] = {"ttl"};
    char text[256], table[4096];
    size_t length = 0;
    int32_t number = 0;
    uint64_t findings = 0;
    FINE(synlock_store_open("memory:null", NULL, NULL, 0, &store, NULL));
    REFUSED(synlock_store_open(NULL, NULL, NULL, 0, &made, NULL));
    REFUSED(synlock_store_open("memory:null", NULL, words, 1, &made, NULL));
    REFUSED(synlock_store_open("memory:null", keys, NULL, 1, &made, NULL));
    REFUSED(synlock_store_open("memory:null", keys, words, 1, &made, NULL));
    REFUSED(synlock_store_open("memory:null", words, keys, 1, &made, NULL));
    REFUSED(synlock_store_open("memory:null", NULL, NULL, 0, NULL, NULL));
    REFUSED(synlock_store_ping(NULL, 0, NULL));
    REFUSED(synlock_store_url(NULL, text, sizeof text, &length, NULL));
    REFUSED(synlock_store_url(store, NULL, 0, NULL, NULL));
    FINE(synlock_store_url(store, NULL, 0, &length, NULL));
    FINE(synlock_store_url(store, text, sizeof text, NULL, NULL));
    REFUSED(synlock_store_fingerprint(NULL, text, sizeof text, &length, NULL));
    REFUSED(synlock_store_fingerprint(store, NULL, 0, NULL, NULL));
    REFUSED(synlock_store_capabilities(NULL, &can, NULL));
    REFUSED(synlock_store_capabilities(store, NULL, NULL));
    REFUSED(synlock_store_is_locked(NULL, "x", 1, &number, NULL));
    REFUSED(synlock_store_is_locked(store, NULL, 1, &number, NULL));
    REFUSED(synlock_store_is_locked(store, NULL, SYNLOCK_NTS, &number, NULL));
    REFUSED(synlock_store_is_locked(store, "x", 1, NULL, NULL));
    REFUSED(synlock_store_break(NULL, "x", 1, &number, NULL));
    REFUSED(synlock_store_break(store, NULL, 1, &number, NULL));
    FINE(synlock_store_break(store, "x", 1, NULL, NULL));
    REFUSED(synlock_store_check(NULL, &findings, text, sizeof text, &length, NULL));
    REFUSED(synlock_store_check(store, NULL, text, sizeof text, &length, NULL));
    made = check_store("shm");
    FINE(synlock_store_check(made, &findings, NULL, 0, &length, NULL));
    FINE(synlock_store_check(made, &findings, text, sizeof text, NULL, NULL));
    FINE(synlock_store_check(made, &findings, NULL, 0, NULL, NULL));
    synlock_store_free(made);
    made = NULL;
    REFUSED(synlock_store_create_table(NULL, 0, NULL));
    REFUSED(synlock_store_ddl(NULL, NULL, text, sizeof text, &length, NULL));
    FINE(synlock_store_open("sqlite:/nowhere/null.db", NULL, NULL, 0, &made, NULL));
    FINE(synlock_store_ddl(made, NULL, NULL, 0, &length, NULL));
    FINE(synlock_store_ddl(made, NULL, table, sizeof table, NULL, NULL));
    REFUSED(synlock_store_ddl(made, NULL, NULL, 0, NULL, NULL));
    synlock_store_free(made);
    made = NULL;
    REFUSED(synlock_store_wait_free(NULL, "x", 1, 0, NULL));
    REFUSED(synlock_store_wait_free(store, NULL, 1, 0, NULL));
    REFUSED(synlock_store_schemes(NULL, 0, NULL, NULL));
    REFUSED(synlock_store_inspect(NULL, "x", 1, &list, NULL));
    REFUSED(synlock_store_inspect(store, NULL, 1, &list, NULL));
    REFUSED(synlock_store_inspect(store, "x", 1, NULL, NULL));
    REFUSED(synlock_store_list(NULL, "", 0, NULL, 10, &list, NULL));
    REFUSED(synlock_store_list(store, NULL, 0, NULL, 10, &list, NULL));
    REFUSED(synlock_store_list(store, "", 0, NULL, 10, NULL, NULL));
    CHECK(made == NULL && list == NULL);

    synlock_callbacks callbacks = {.struct_size = sizeof callbacks, .frees_on_death = 1};
    REFUSED(synlock_store_custom("null", NULL, NULL, NULL, 0, &made, NULL));
    REFUSED(synlock_store_custom("null", &callbacks, NULL, NULL, 0, &made, NULL));
    callbacks.attempt = callbacks.release = callbacks.is_held = never;
    REFUSED(synlock_store_custom(NULL, &callbacks, NULL, NULL, 0, &made, NULL));
    REFUSED(synlock_store_custom("null", &callbacks, NULL, NULL, 0, NULL, NULL));
    REFUSED(synlock_store_custom("null", &callbacks, keys, NULL, 1, &made, NULL));
    CHECK(made == NULL);

    REFUSED(synlock_fencing_ddl(NULL, NULL, text, sizeof text, &length, NULL));
    REFUSED(synlock_fencing_ddl("sqlite", NULL, NULL, 0, NULL, NULL));
    FINE(synlock_fencing_ddl("sqlite", NULL, NULL, 0, &length, NULL));
    REFUSED(synlock_fencing_trigger(NULL, "t", NULL, text, sizeof text, &length, NULL));
    REFUSED(synlock_fencing_trigger("sqlite", NULL, NULL, text, sizeof text, &length, NULL));
    FINE(synlock_fencing_trigger("sqlite", "t", NULL, NULL, 0, &length, NULL));
    FINE(synlock_fencing_trigger("sqlite", "t", NULL, table, sizeof table, NULL, NULL));
    REFUSED(synlock_fencing_trigger("sqlite", "t", NULL, NULL, 0, NULL, NULL));
    REFUSED(synlock_fencing_statement(NULL, NULL, text, sizeof text, &length, NULL));
    REFUSED(synlock_fencing_statement("mysql", NULL, NULL, 0, NULL, NULL));
    FINE(synlock_fencing_statement("mysql", NULL, NULL, 0, &length, NULL));
    FINE(synlock_fencing_statement("mysql", NULL, text, sizeof text, NULL, NULL));
    CHECK(strstr(synlock_fencing_redis(), "STALE"));

    synlock_holder holder = {.struct_size = sizeof holder};
    synlock_ask ask = {.struct_size = sizeof ask, .name = "x", .name_length = 1};
    synlock_reply reply = {.struct_size = sizeof reply};
    REFUSED(synlock_reply_add(NULL, &ask, &holder, NULL));
    REFUSED(synlock_reply_add(&reply, NULL, &holder, NULL));
    REFUSED(synlock_reply_add(&reply, &ask, NULL, NULL));
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_reply_add(&reply, &ask, &holder, NULL));
    FINE(synlock_store_inspect(store, "x", 1, &list, NULL));
    REFUSED(synlock_list_get(NULL, 0, &holder, NULL));
    REFUSED(synlock_list_get(list, 0, NULL, NULL));
    CHECK(synlock_list_count(NULL) == 0 && synlock_list_waiters(NULL) == -1 && synlock_list_cursor(NULL) == NULL);
    synlock_list_free(NULL);
    synlock_list_free(list);
    synlock_store_free(NULL);
    synlock_store_free(store);
}

static void locks(void) {
    synlock_store *store = check_store("memory");
    synlock_lock *lock = check_lock(store, "x", NULL), *made = NULL;
    synlock_cancel *cancel = NULL;
    synlock_acquired how = {.struct_size = sizeof how};
    char text[600];
    size_t length = 0;
    int32_t number = 0;
    synlock_lock_options_init(NULL, sizeof(synlock_lock_options));
    REFUSED(synlock_lock_new(NULL, "x", 1, NULL, &made, NULL));
    REFUSED(synlock_lock_new(store, NULL, 1, NULL, &made, NULL));
    REFUSED(synlock_lock_new(store, NULL, 0, NULL, &made, NULL));
    REFUSED(synlock_lock_new(store, "x", 1, NULL, NULL, NULL));
    REFUSED(synlock_store_adopt(NULL, "x", NULL, &made, NULL));
    REFUSED(synlock_store_adopt(store, NULL, NULL, &made, NULL));
    REFUSED(synlock_store_adopt(store, "x", NULL, NULL, NULL));
    CHECK(made == NULL);
    REFUSED(synlock_lock_acquire(NULL, 0, NULL));
    REFUSED(synlock_lock_acquire_with(NULL, 0, NULL, &how, NULL));
    REFUSED(synlock_lock_abandon(NULL, NULL));
    REFUSED(synlock_lock_release(NULL, NULL));
    REFUSED(synlock_lock_refresh(NULL, 0, NULL));
    REFUSED(synlock_lock_promote(NULL, 0, NULL));
    REFUSED(synlock_lock_demote(NULL, NULL));
    REFUSED(synlock_lock_ensure_held(NULL, NULL));
    REFUSED(synlock_lock_is_acquired(NULL, &number, NULL));
    REFUSED(synlock_lock_is_acquired(lock, NULL, NULL));
    CHECK(synlock_lock_state(NULL) == SYNLOCK_STATE_IDLE);
    CHECK(synlock_lock_remaining_ms(NULL) == -1);
    CHECK(synlock_lock_was_late(NULL) == -1);
    CHECK(synlock_lock_timeout_ms(NULL) == SYNLOCK_FOREVER);
    CHECK(synlock_lock_fencing_token(NULL) == 0);
    CHECK(synlock_lock_mode(NULL) == SYNLOCK_EXCLUSIVE);
    CHECK(synlock_lock_auto_release(NULL) == -1);
    REFUSED(synlock_lock_set_auto_release(NULL, 0, NULL));
    REFUSED(synlock_lock_lost_fd(NULL, &number, NULL));
    REFUSED(synlock_lock_lost_fd(lock, NULL, NULL));
    /* Both may be left out together: nothing asks for more than success. */
    FINE(synlock_cancel_new(&cancel, NULL));
    FINE(synlock_lock_acquire_with(lock, 0, cancel, NULL, NULL));
    REFUSED(synlock_lock_owner_token(NULL, text, sizeof text, &length, NULL));
    REFUSED(synlock_lock_owner_token(lock, NULL, 0, NULL, NULL));
    FINE(synlock_lock_owner_token(lock, text, sizeof text, NULL, NULL));
    REFUSED(synlock_lock_export(NULL, text, sizeof text, &length, NULL));
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_lock_export(lock, NULL, 0, NULL, NULL));
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_lock_export(lock, NULL, sizeof text, &length, NULL));
    FINE(synlock_lock_ensure_held(lock, NULL));
    REFUSED(synlock_cancel_new(NULL, NULL));
    REFUSED(synlock_cancel_throw(NULL, NULL));
    synlock_cancel_free(NULL);
    synlock_cancel_free(cancel);
    synlock_lock_free(NULL);
    synlock_lock_free(lock);
    synlock_store_free(store);
}

static void scopes_and_queues(void) {
    synlock_store *store = check_store("memory");
    synlock_lock *lock = check_lock(store, "x", NULL);
    synlock_scope *scope = NULL;
    synlock_dispatch *dispatch = NULL;
    synlock_events *events = NULL;
    synlock_completion done;
    synlock_event event = {.struct_size = sizeof event};
    size_t count = 0;
    uint64_t ticket = 0;
    REFUSED(synlock_scope_new(NULL, NULL));
    REFUSED(synlock_scope_request(NULL, NULL));
    FINE(synlock_scope_new(&scope, NULL));
    REFUSED(synlock_scope_add_store(NULL, store, NULL));
    REFUSED(synlock_scope_add_store(scope, NULL, NULL));
    synlock_scope_free(NULL);
    synlock_scope_free(scope);

    REFUSED(synlock_dispatch_new(NULL, NULL));
    FINE(synlock_dispatch_new(&dispatch, NULL));
    CHECK(synlock_dispatch_fd(NULL) == -1);
    REFUSED(synlock_dispatch_submit(NULL, lock, SYNLOCK_OP_CHECK, 0, 0, &ticket, NULL));
    REFUSED(synlock_dispatch_submit(dispatch, NULL, SYNLOCK_OP_CHECK, 0, 0, &ticket, NULL));
    FINE(synlock_dispatch_submit(dispatch, lock, SYNLOCK_OP_CHECK, 0, 0, NULL, NULL));
    REFUSED(synlock_dispatch_cancel(NULL, 1, NULL));
    REFUSED(synlock_dispatch_reap(NULL, &done, 1, sizeof done, &count, NULL));
    REFUSED(synlock_dispatch_reap(dispatch, NULL, 1, sizeof done, &count, NULL));
    REFUSED(synlock_dispatch_reap(dispatch, &done, 1, sizeof done, NULL, NULL));
    synlock_dispatch_free(NULL);
    synlock_dispatch_free(dispatch);

    REFUSED(synlock_events_new(NULL, 1, &events, NULL));
    REFUSED(synlock_events_new(store, 1, NULL, NULL));
    FINE(synlock_events_new(store, 1, &events, NULL));
    synlock_events_free(events);
    REFUSED(synlock_events_new_warnings(NULL, 1, &events, NULL));
    REFUSED(synlock_events_new_warnings(store, 1, NULL, NULL));
    FINE(synlock_events_new_warnings(store, 1, &events, NULL));
    CHECK(synlock_events_fd(NULL) == -1 && synlock_events_dropped(NULL) == 0);
    REFUSED(synlock_events_next(NULL, &event, NULL));
    REFUSED(synlock_events_next(events, NULL, NULL));
    REFUSED(synlock_events_each(NULL, heard, NULL, NULL));
    REFUSED(synlock_events_each(events, NULL, NULL, NULL));
    FINE(synlock_events_each(events, heard, NULL, NULL));
    synlock_events_free(NULL);
    synlock_events_free(events);
    synlock_lock_free(lock);
    synlock_store_free(store);
}

static void managers(void) {
    synlock_store *store = NULL, *own = NULL;
    synlock_manager *manager = NULL;
    char text[64];
    size_t length = 0;
    int32_t held = 0;
    FINE(synlock_store_open("memory:null", NULL, NULL, 0, &store, NULL));
    REFUSED(synlock_manager_new(NULL, NULL, &manager, NULL));
    REFUSED(synlock_manager_new(store, NULL, NULL, NULL));
    FINE(synlock_manager_new(store, NULL, &manager, NULL));
    REFUSED(synlock_manager_store(NULL, &own, NULL));
    REFUSED(synlock_manager_store(manager, NULL, NULL));
    REFUSED(synlock_manager_acquire(NULL, "\"k\"", 3, NULL, 0, NULL, NULL, NULL));
    REFUSED(synlock_manager_acquire(manager, NULL, 3, NULL, 0, NULL, NULL, NULL));
    REFUSED(synlock_manager_acquire(manager, NULL, SYNLOCK_NTS, NULL, 0, NULL, NULL, NULL));
    FINE(synlock_manager_acquire(manager, "\"k\"", 3, NULL, 0, NULL, NULL, NULL));
    REFUSED(synlock_manager_abandon(NULL, "\"k\"", 3, NULL));
    REFUSED(synlock_manager_abandon(manager, NULL, 3, NULL));
    REFUSED(synlock_manager_refresh(NULL, "\"k\"", 3, 0, NULL));
    REFUSED(synlock_manager_refresh(manager, NULL, 3, 0, NULL));
    REFUSED(synlock_manager_is_acquired(NULL, "\"k\"", 3, &held, NULL));
    REFUSED(synlock_manager_is_acquired(manager, NULL, 3, &held, NULL));
    REFUSED(synlock_manager_is_acquired(manager, "\"k\"", 3, NULL, NULL));
    REFUSED(synlock_manager_release(NULL, "\"k\"", 3, NULL, NULL));
    REFUSED(synlock_manager_release(manager, NULL, 3, NULL, NULL));
    FINE(synlock_manager_release(manager, "\"k\"", 3, NULL, NULL));
    REFUSED(synlock_key_name(NULL, 3, NULL, text, sizeof text, &length, NULL));
    REFUSED(synlock_key_name("\"k\"", 3, NULL, NULL, 0, NULL, NULL));
    FINE(synlock_key_name("\"k\"", 3, NULL, NULL, 0, &length, NULL));
    FINE(synlock_key_name("\"k\"", 3, NULL, text, sizeof text, NULL, NULL));
    REFUSED(synlock_template_name(NULL, 3, NULL, 0, text, sizeof text, &length, NULL));
    REFUSED(synlock_template_name("{k}", 3, NULL, 1, text, sizeof text, &length, NULL));
    REFUSED(synlock_template_name("k", 1, NULL, 0, NULL, 0, NULL, NULL));
    FINE(synlock_template_name("k", 1, NULL, 0, NULL, 0, &length, NULL));
    FINE(synlock_template_name("k", 1, NULL, 0, text, sizeof text, NULL, NULL));
    REFUSED(synlock_store_measure(NULL, 1, NULL));
    REFUSED(synlock_metrics_text(NULL, 0, NULL, NULL));
    FINE(synlock_metrics_text(NULL, 0, &length, NULL));
    synlock_manager_free(NULL);
    synlock_manager_free(manager);
    synlock_store_free(store);
}

static void sets(void) {
    synlock_store *store = check_store("memory");
    synlock_lock *lock = NULL, *none[1] = {NULL};
    synlock_set *set = NULL;
    synlock_dispatch *dispatch = NULL;
    FINE(synlock_lock_new(store, "x", 1, NULL, &lock, NULL));
    REFUSED(synlock_set_new(NULL, 1, NULL, &set, NULL));
    REFUSED(synlock_set_new(none, 1, NULL, &set, NULL));
    REFUSED(synlock_set_new(&lock, 1, NULL, NULL, NULL));
    FINE(synlock_set_new(&lock, 1, NULL, &set, NULL));
    REFUSED(synlock_set_acquire(NULL, 0, NULL, NULL, NULL));
    FINE(synlock_set_acquire(set, 0, NULL, NULL, NULL));
    REFUSED(synlock_set_ensure_held(NULL, NULL));
    FINE(synlock_set_ensure_held(set, NULL));
    REFUSED(synlock_set_release(NULL, NULL));
    FINE(synlock_set_release(set, NULL));
    REFUSED(synlock_set_abandon(NULL, NULL));
    FINE(synlock_set_abandon(set, NULL));
    FINE(synlock_dispatch_new(&dispatch, NULL));
    REFUSED(synlock_dispatch_submit_set(NULL, set, SYNLOCK_OP_CHECK, 0, 0, NULL, NULL));
    REFUSED(synlock_dispatch_submit_set(dispatch, NULL, SYNLOCK_OP_CHECK, 0, 0, NULL, NULL));
    synlock_dispatch_free(dispatch);
    synlock_set_free(NULL);
    synlock_set_free(set);
    synlock_lock_free(lock);
    synlock_store_free(store);
}

static void sessions(void) {
    synlock_store *store = check_store("memory");
    synlock_session *session = NULL, *made = NULL;
    char text[256];
    size_t length = 0;
    int32_t number = 0;
    REFUSED(synlock_session_new(NULL, NULL, &made, NULL));
    REFUSED(synlock_session_new(store, NULL, NULL, NULL));
    CHECK(made == NULL);
    FINE(synlock_session_new(store, NULL, &session, NULL));
    REFUSED(synlock_session_id(NULL, text, sizeof text, &length, NULL));
    REFUSED(synlock_session_id(session, NULL, 0, NULL, NULL));
    FINE(synlock_session_id(session, NULL, 0, &length, NULL));
    REFUSED(synlock_session_acquire(NULL, "x", 1, 0, NULL));
    REFUSED(synlock_session_acquire(session, NULL, 1, 0, NULL));
    REFUSED(synlock_session_renew(NULL, "x", 1, 0, NULL));
    REFUSED(synlock_session_renew(session, NULL, 1, 0, NULL));
    REFUSED(synlock_session_may_be_available(NULL, "x", 1, &number, NULL));
    REFUSED(synlock_session_may_be_available(session, NULL, 1, &number, NULL));
    REFUSED(synlock_session_may_be_available(session, "x", 1, NULL, NULL));
    REFUSED(synlock_session_wait(NULL, "x", 1, 0, NULL));
    REFUSED(synlock_session_wait(session, NULL, 1, 0, NULL));
    REFUSED(synlock_session_release(NULL, "x", 1, NULL));
    REFUSED(synlock_session_release(session, NULL, 1, NULL));
    REFUSED(synlock_session_release_all(NULL, NULL, NULL, NULL));
    FINE(synlock_session_release_all(session, NULL, NULL, NULL));
    synlock_session_free(NULL);
    synlock_session_free(session);
    synlock_store_free(store);
}

static void guards(void) {
    synlock_guard *guard = NULL;
    synlock_store *store = check_store("memory");
    synlock_lock *lock = NULL;
    synlock_guard_answer answer = {.struct_size = sizeof answer};
    synlock_guard_policy policy = {.struct_size = sizeof policy, .name = "x", .name_length = 1};
    synlock_guard_request request = {.struct_size = sizeof request, .param_count = 1};
    synlock_placeholder param = {.value = "x", .value_length = 1};
    char text[64];
    size_t length = 0, service = 0;
    FINE(synlock_guard_new(NULL, NULL, &guard, NULL));
    REFUSED(synlock_guard_new(NULL, NULL, NULL, NULL));
    REFUSED(synlock_guard_add(NULL, "default", store, 0, NULL));
    REFUSED(synlock_guard_add(guard, NULL, store, 0, NULL));
    REFUSED(synlock_guard_add(guard, "default", NULL, 0, NULL));
    FINE(synlock_guard_add(guard, "default", store, 0, NULL));
    REFUSED(synlock_guard_set_default(NULL, "default", NULL));
    REFUSED(synlock_guard_set_default(guard, NULL, NULL));
    REFUSED(synlock_guard_find(NULL, NULL, &service, NULL));
    REFUSED(synlock_guard_find(guard, NULL, NULL, NULL));
    REFUSED(synlock_guard_name(NULL, NULL, NULL, text, sizeof text, &length, NULL));
    REFUSED(synlock_guard_name(guard, &policy, NULL, NULL, 0, NULL, NULL));
    /* A parameter that is not there, or lacks a part; a user who has no name. */
    REFUSED(synlock_guard_name(guard, &policy, &request, text, sizeof text, &length, NULL));
    request.params = &param;
    REFUSED(synlock_guard_name(guard, &policy, &request, text, sizeof text, &length, NULL));
    param.name = "x", param.value = NULL;
    REFUSED(synlock_guard_name(guard, &policy, &request, text, sizeof text, &length, NULL));
    request.param_count = 0, request.user = SYNLOCK_USER_KNOWN;
    REFUSED(synlock_guard_name(guard, &policy, &request, text, sizeof text, &length, NULL));
    REFUSED(synlock_guard_enter(NULL, &policy, NULL, NULL, &lock, NULL, &answer, NULL));
    REFUSED(synlock_guard_enter(guard, &policy, NULL, NULL, NULL, NULL, &answer, NULL));
    REFUSED(synlock_guard_enter(guard, &policy, NULL, NULL, &lock, NULL, NULL, NULL));
    CHECK(lock == NULL);
    FINE(synlock_guard_enter(guard, &policy, NULL, NULL, &lock, NULL, &answer, NULL));
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_guard_enter(guard, NULL, NULL, NULL, &lock, NULL, &answer, NULL));
    synlock_lock_free(lock);
    synlock_guard_free(NULL);
    synlock_guard_free(guard);
    synlock_store_free(store);
}

/* No pointers: any number is fine. */
static void numbers(void) {
    static const int32_t odd[] = {INT32_MIN, -1, 8, 99, 112, 899, INT32_MAX};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        SAME("UNKNOWN", synlock_status_name(odd[i]));
        CHECK(synlock_status_text(odd[i]) && synlock_status_class(odd[i]));
    }
    CHECK(synlock_debug_live(255) == 0);
    CHECK(synlock_abi_version() == 0 && synlock_version_number() > 0 && synlock_version_string() && synlock_build_info());
    synlock_process_end();
}

int main(void) {
    check_setting();
    CASE(errors);
    CASE(stores);
    CASE(locks);
    CASE(scopes_and_queues);
    CASE(managers);
    CASE(sessions);
    CASE(sets);
    CASE(guards);
    CASE(numbers);
    return check_totals();
}
