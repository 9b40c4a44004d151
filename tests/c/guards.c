/* Request guards, as a program in C uses them. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>

#define NAMED(text) .name = (text), .name_length = SYNLOCK_NTS
#define OF(text) (text), SYNLOCK_NTS

static const synlock_placeholder params[] = {{OF("id"), OF("17")}, {OF("b"), "x\0y", 3}};
static const synlock_guard_request request = {.struct_size = sizeof request, .route = "pay", .route_length = SYNLOCK_NTS,
    .path = "/orders/17", .path_length = SYNLOCK_NTS, .params = params, .param_count = 2};

static synlock_guard *guard_over(const char *url, synlock_store **store) {
    synlock_guard *guard = NULL;
    IS(SYNLOCK_OK, synlock_guard_new(NULL, NULL, &guard, NULL));
    IS(SYNLOCK_OK, synlock_store_open(url, NULL, NULL, 0, store, NULL));
    IS(SYNLOCK_OK, synlock_guard_add(guard, "default", *store, 0, NULL));
    return guard;
}

static synlock_guard_policy policy_of(int mode) {
    synlock_guard_policy policy = {.struct_size = sizeof policy, NAMED("order_{id}"), .mode = mode};
    return policy;
}

static synlock_guard_answer enter(synlock_guard *guard, synlock_guard_policy policy, synlock_lock **lock, synlock_list **holders) {
    synlock_guard_answer answer = {.struct_size = sizeof answer};
    synlock_error *error = NULL;
    IS(SYNLOCK_OK, synlock_guard_enter(guard, &policy, &request, NULL, lock, holders, &answer, &error));
    if (error) fprintf(stderr, "%s\n", synlock_error_message(error));
    synlock_error_free(error);
    return answer;
}

static void names(void) {
    synlock_guard *guard = NULL, *peer = NULL;
    synlock_store *store = NULL;
    char text[128];
    size_t length = 0;
    guard = guard_over(check_url("memory"), &store);
    synlock_guard_policy policy = policy_of(SYNLOCK_GUARD_BLOCK);
    IS(SYNLOCK_OK, synlock_guard_name(guard, &policy, &request, text, sizeof text, &length, NULL));
    CHECK(!strcmp("order_17", text));
    policy.name = "{b}";
    IS(SYNLOCK_OK, synlock_guard_name(guard, &policy, &request, text, sizeof text, &length, NULL));
    CHECK(length == 3 && !memcmp(text, "x\0y", 4));
    IS(SYNLOCK_OK, synlock_guard_name(guard, NULL, &request, text, sizeof text, &length, NULL));
    CHECK(!strcmp("pay /orders/17", text));

    synlock_error *error = NULL;
    policy.name = "order_{no}";
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_guard_name(guard, &policy, &request, text, sizeof text, &length, &error));
    CHECK(strstr(synlock_error_message(error), "{no}"));
    synlock_error_free(error);

    policy.name = "order";
    policy.user_isolation = SYNLOCK_ON;
    synlock_guard_request who = request;
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_guard_name(guard, &policy, &who, text, sizeof text, &length, NULL));
    who.user = SYNLOCK_USER_ANONYMOUS;
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_guard_name(guard, &policy, &who, text, sizeof text, &length, NULL));
    policy.anonymous = SYNLOCK_ANONYMOUS_SHARE;
    IS(SYNLOCK_OK, synlock_guard_name(guard, &policy, &who, text, sizeof text, &length, NULL));
    CHECK(!strcmp("order@:anonymous", text));
    who.user = SYNLOCK_USER_KNOWN;
    who.provider = "main", who.provider_length = SYNLOCK_NTS, who.user_id = "bob@x", who.user_id_length = 3;
    IS(SYNLOCK_OK, synlock_guard_name(guard, &policy, &who, text, sizeof text, &length, NULL));
    CHECK(!strcmp("order@main/bob", text));

    IS(SYNLOCK_OK, synlock_guard_new("ixarlie", NULL, &peer, NULL));
    IS(SYNLOCK_OK, synlock_guard_add(peer, "default", store, 0, NULL));
    policy = policy_of(SYNLOCK_GUARD_BLOCK);
    IS(SYNLOCK_OK, synlock_guard_name(peer, &policy, &request, text, sizeof text, &length, NULL));
    CHECK(!strcmp("ixarlie_mutex_19ed1b07a8d549cfa3442a898f96707f", text));
    synlock_guard_free(guard);
    synlock_guard_free(peer);
    synlock_store_free(store);
}

static void services(void) {
    synlock_store *store = NULL;
    synlock_guard *guard = guard_over(check_url("memory"), &store);
    size_t service = 9;
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_guard_add(guard, "default", store, 0, NULL));
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_guard_add(guard, "x", store, 7, NULL));
    IS(SYNLOCK_OK, synlock_guard_add(guard, "redis.queued", store, SYNLOCK_OFF, NULL));
    IS(SYNLOCK_OK, synlock_guard_find(guard, NULL, &service, NULL));
    CHECK(service == 0);
    IS(SYNLOCK_OK, synlock_guard_find(guard, "ixarlie_mutex.redis_factory.queued", &service, NULL));
    CHECK(service == 1);
    IS(SYNLOCK_OK, synlock_guard_set_default(guard, "redis.queued", NULL));
    IS(SYNLOCK_OK, synlock_guard_find(guard, NULL, &service, NULL));
    CHECK(service == 1);
    synlock_error *error = NULL;
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_guard_find(guard, "no", &service, &error));
    CHECK(strstr(synlock_error_message(error), "default, redis.queued"));
    synlock_error_free(error);

    /* A store that cannot wait. */
    synlock_guard_policy policy = policy_of(SYNLOCK_GUARD_QUEUE);
    synlock_guard_answer answer = {.struct_size = sizeof answer};
    synlock_lock *lock = NULL;
    IS(SYNLOCK_UNSUPPORTED, synlock_guard_enter(guard, &policy, &request, NULL, &lock, NULL, &answer, NULL));
    CHECK(lock == NULL);
    synlock_store_free(store);
    synlock_guard_free(guard);
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_guard_new("latin", NULL, &guard, NULL));
}

static void modes(void) {
    synlock_store *store = NULL;
    synlock_guard *guard = guard_over(check_url("memory"), &store);
    synlock_lock *held = NULL, *other = NULL;
    synlock_list *list = NULL;
    int32_t locked = 1;

    synlock_guard_answer answer = enter(guard, policy_of(SYNLOCK_GUARD_CHECK), &held, &list);
    CHECK(answer.admitted == 1 && answer.status == 0 && held == NULL && synlock_list_count(list) == 0);
    synlock_list_free(list);
    IS(SYNLOCK_OK, synlock_store_is_locked(store, OF("order_17"), &locked, NULL));
    CHECK(locked == 0);

    synlock_guard_policy policy = policy_of(SYNLOCK_GUARD_BLOCK);
    policy.ttl_ms = 600000;
    answer = enter(guard, policy, &held, NULL);
    CHECK(answer.admitted == 1 && held != NULL && answer.attempts == 1 && answer.fencing_token > 0);

    answer = enter(guard, policy_of(SYNLOCK_GUARD_BLOCK), &other, &list);
    CHECK(answer.admitted == 0 && answer.status == 423 && other == NULL && answer.contended == 1);
    CHECK(answer.attempts == 1);
    CHECK(answer.retry_after_ms > 0 && answer.retry_after_ms <= 600000);
    CHECK(synlock_list_count(list) == 1);
    synlock_holder holder = {.struct_size = sizeof holder};
    IS(SYNLOCK_OK, synlock_list_get(list, 0, &holder, NULL));
    SAME("request pay /orders/17", holder.label);
    synlock_list_free(list);

    policy = policy_of(SYNLOCK_GUARD_CHECK);
    policy.status = 409;
    answer = enter(guard, policy, &other, NULL);
    CHECK(answer.admitted == 0 && answer.status == 409 && other == NULL);
    policy = policy_of(SYNLOCK_GUARD_QUEUE);
    policy.max_wait_ms = 5;
    answer = enter(guard, policy, &other, NULL);
    CHECK(answer.admitted == 0 && answer.waited_ms >= 5);

    policy = policy_of(SYNLOCK_GUARD_FORCE);
    policy.label = "the boss";
    answer = enter(guard, policy, &other, &list);
    CHECK(answer.admitted == 1 && other != NULL && synlock_list_count(list) == 1);
    synlock_list_free(list);
    synlock_error *error = NULL;
    IS(SYNLOCK_LOST, synlock_lock_ensure_held(held, &error));
    CHECK(strstr(synlock_error_message(error), "broken by the boss, pid "));
    synlock_error_free(error);
    error = NULL;
    IS(SYNLOCK_LOST, synlock_lock_refresh(held, 600000, &error));
    CHECK(strstr(synlock_error_message(error), "broken by the boss, pid "));
    synlock_error_free(error);
    IS(SYNLOCK_OK, synlock_lock_release(other, NULL));
    synlock_lock_free(held);
    synlock_lock_free(other);
    synlock_guard_free(guard);
    synlock_store_free(store);
}

static void *free_it(void *guard) {
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    synlock_guard_free(guard);
    return NULL;
}

static void ends(void) {
    synlock_store *store = NULL;
    synlock_guard *guard = guard_over(check_url("memory"), &store);
    synlock_lock *held = NULL, *other = NULL;
    synlock_scope *scope = NULL;
    synlock_cancel *cancel = NULL;
    synlock_guard_answer answer = {.struct_size = sizeof answer};
    synlock_guard_policy policy = policy_of(SYNLOCK_GUARD_BLOCK), queue = policy_of(SYNLOCK_GUARD_QUEUE);
    IS(SYNLOCK_OK, synlock_scope_new(&scope, NULL));
    policy.scope = scope;
    enter(guard, policy, &held, NULL);

    IS(SYNLOCK_OK, synlock_cancel_new(&cancel, NULL));
    IS(SYNLOCK_OK, synlock_cancel_throw(cancel, NULL));
    IS(SYNLOCK_CANCELLED, synlock_guard_enter(guard, &queue, &request, cancel, &other, NULL, &answer, NULL));
    synlock_cancel_free(cancel);

    /* Freed while a request waits. */
    pthread_t thread;
    pthread_create(&thread, NULL, free_it, guard);
    int status = synlock_guard_enter(guard, &queue, &request, NULL, &other, NULL, &answer, NULL);
    CHECK(status == SYNLOCK_CANCELLED || status == SYNLOCK_INVALID_HANDLE);
    pthread_join(thread, NULL);
    IS(SYNLOCK_INVALID_HANDLE, synlock_guard_enter(guard, &queue, &request, NULL, &other, NULL, &answer, NULL));
    CHECK(other == NULL);

    /* The scope's end releases the lock, and frees a guard that was made in it. */
    int32_t locked = 0;
    IS(SYNLOCK_OK, synlock_guard_new(NULL, scope, &guard, NULL));
    IS(SYNLOCK_OK, synlock_store_is_locked(store, OF("order_17"), &locked, NULL));
    CHECK(locked == 1);
    synlock_scope_free(scope);
    IS(SYNLOCK_OK, synlock_store_is_locked(store, OF("order_17"), &locked, NULL));
    CHECK(locked == 0);
    IS(SYNLOCK_INVALID_HANDLE, synlock_guard_set_default(guard, "x", NULL));
    synlock_store_free(store);
}

/* Sizes of other versions, and values that mean nothing. */
static void structs(void) {
    synlock_store *store = NULL;
    synlock_guard *guard = guard_over(check_url("memory"), &store);
    synlock_lock *lock = NULL;
    struct { synlock_guard_policy own; size_t more; } longer = {.own = policy_of(SYNLOCK_GUARD_BLOCK)};
    struct { size_t size; int32_t admitted, status; } shorter = {.size = sizeof shorter};
    longer.own.struct_size = sizeof longer;
    IS(SYNLOCK_OK, synlock_guard_enter(guard, &longer.own, &request, NULL, &lock, NULL, (synlock_guard_answer *)(void *)&shorter, NULL));
    CHECK(shorter.admitted == 1 && lock);
    synlock_lock_free(lock);
    longer.more = 1;
    synlock_guard_answer answer = {.struct_size = sizeof answer};
#define BAD(field, value) do { \
        synlock_guard_policy policy = policy_of(0); \
        policy.field = (value); \
        IS(SYNLOCK_INVALID_ARGUMENT, synlock_guard_enter(guard, &policy, &request, NULL, &lock, NULL, &answer, NULL)); \
    } while (0)
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_guard_enter(guard, &longer.own, &request, NULL, &lock, NULL, &answer, NULL));
    BAD(struct_size, 0);
    BAD(mode, 4);
    BAD(mode, -1);
    BAD(anonymous, 4);
    BAD(status, 200);
    BAD(status, 70000);
    BAD(user_isolation, 2);
    BAD(auto_release, 2);
    BAD(strict, -2);
    BAD(ttl_ms, -1);
    BAD(max_wait_ms, -1);
    BAD(service, "no");
    synlock_guard_policy policy = policy_of(0);
#define BAD_REQUEST(field, value) do { \
        synlock_guard_request bad = request; \
        bad.field = (value); \
        IS(SYNLOCK_INVALID_ARGUMENT, synlock_guard_enter(guard, &policy, &bad, NULL, &lock, NULL, &answer, NULL)); \
    } while (0)
    BAD_REQUEST(user, 3);
    BAD_REQUEST(reserved, 1);
    BAD_REQUEST(param_count, 1001);
    BAD_REQUEST(struct_size, 4097);
    synlock_guard_free(guard);
    synlock_store_free(store);
}

/* Found before anything is taken that nobody would give back. */
static void a_scope_that_has_gone(void) {
    synlock_store *store = NULL;
    synlock_guard *guard = guard_over(check_url("memory"), &store);
    synlock_guard_answer answer = {.struct_size = sizeof answer};
    synlock_guard_policy policy = policy_of(SYNLOCK_GUARD_BLOCK);
    synlock_lock *holder = check_lock(store, "order_17", NULL), *lock = NULL;
    IS(SYNLOCK_OK, synlock_scope_new(&policy.scope, NULL));
    synlock_scope_free(policy.scope);
    policy.auto_release = SYNLOCK_OFF;
    IS(SYNLOCK_INVALID_HANDLE, synlock_guard_enter(guard, &policy, &request, NULL, &lock, NULL, &answer, NULL));
    CHECK(!lock);
    IS(SYNLOCK_OK, synlock_lock_acquire(holder, SYNLOCK_NO_WAIT, NULL));
    policy.mode = SYNLOCK_GUARD_FORCE;
    IS(SYNLOCK_INVALID_HANDLE, synlock_guard_enter(guard, &policy, &request, NULL, &lock, NULL, &answer, NULL));
    IS(SYNLOCK_OK, synlock_lock_ensure_held(holder, NULL));
    synlock_lock_free(holder);
    synlock_guard_free(guard);
    synlock_store_free(store);
}

static synlock_guard *planned;
static _Atomic int plans;

static void *plan_on(void *unused) {
    (void)unused;
    char text[128];
    synlock_guard_policy policy = policy_of(SYNLOCK_GUARD_BLOCK);
    /* Valgrind lets one thread run at a time, and this one for ever if it never sleeps. */
    struct timespec moment = {.tv_nsec = 1};
    while (plans) {
        synlock_guard_name(planned, &policy, &request, text, sizeof text, NULL, NULL);
        nanosleep(&moment, NULL);
    }
    return NULL;
}

/* A child waits for none of the threads that it does not have. */
static void forked_while_others_plan(void) {
    synlock_store *store = NULL;
    pthread_t threads[2];
    int bad = 0;
    planned = guard_over(check_url("memory"), &store);
    plans = 1;
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, plan_on, NULL);
    for (int i = 0; i < 100 && !bad; i++) {
        pid_t child = fork();
        if (child == 0) {
            char text[128];
            synlock_guard_policy policy = policy_of(SYNLOCK_GUARD_BLOCK);
            alarm(30);
            synlock_status named = synlock_guard_name(planned, &policy, &request, text, sizeof text, NULL, NULL);
            /* What the other threads had allocated at the fork is nobody's here, and no leak of the library's. */
            if (named == SYNLOCK_OK) execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
        int status = -1;
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        bad = status != 0;
    }
    CHECK(!bad);
    plans = 0;
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    synlock_guard_free(planned);
    synlock_store_free(store);
}

int main(void) {
    check_setting();
    CASE(names);
    CASE(services);
    CASE(modes);
    CASE(ends);
    CASE(structs);
    CASE(a_scope_that_has_gone);
    CASE(forked_while_others_plan);
    return check_totals();
}
