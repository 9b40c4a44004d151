// The C++ wrapper: owners, exceptions, and the standard's own guards.
#include "check.h"
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <synlock.hpp>
#include <thread>

using namespace std::chrono_literals;

template <typename Call>
static int thrown(Call &&call) {
    try {
        call();
    } catch (const synlock::Error &error) {
        CHECK(*error.what() && *error.name());
        return error.code();
    }
    return SYNLOCK_OK;
}

static void stores() {
    synlock::Store store{check_url("memory"), {{"ttl", "60000"}}};
    store.ping();
    CHECK(store.url().find("memory:c-") == 0);
    CHECK(!store.fingerprint().empty());
    CHECK(store.capabilities().shared == 1);
    CHECK(!store.is_locked("x") && !store.break_lock("x") && store.wait_free("x", 0ms));
    synlock::Store moved = std::move(store);
    CHECK(store.get() == nullptr && moved.get() != nullptr);
    IS(SYNLOCK_NULL_POINTER, thrown([&] { store.ping(); }));
    try {
        synlock::Store("carrier-pigeon:x");
        CHECK(false);
    } catch (const synlock::Error &error) {
        IS(SYNLOCK_UNKNOWN_SCHEME, error.code());
        SAME("UNKNOWN_SCHEME", error.name());
        CHECK(strstr(error.what(), "flock") && !error.retriable());
    }
}

class OneLock : public synlock::CustomStore {
public:
    explicit OneLock(bool *gone) : gone_(gone) {}
    ~OneLock() override { *gone_ = true; }
    synlock_status attempt(const synlock_ask &ask, synlock_reply &reply) override {
        if (name(ask) == "broken") throw std::runtime_error("the disk is on fire");
        if (!owner_.empty() && owner_ != ask.owner) return SYNLOCK_BUSY;
        owner_ = ask.owner;
        reply.fencing_token = ++fence_;
        return SYNLOCK_OK;
    }
    synlock_status release(const synlock_ask &ask) override {
        if (owner_ != ask.owner) return SYNLOCK_LOST;
        owner_.clear();
        return SYNLOCK_OK;
    }
    synlock_status is_held(const synlock_ask &ask) override { return owner_ == ask.owner ? SYNLOCK_OK : SYNLOCK_LOST; }

private:
    bool *gone_;
    std::string owner_;
    std::int64_t fence_ = 0;
};

static void customs() {
    bool gone = false;
    {
        synlock::CustomTraits can;
        can.frees_on_death = true;
        can.fence = "E";
        synlock::Store store{"one", std::make_unique<OneLock>(&gone), can, {{"timeout", "1"}}};
        CHECK(store.url() == "custom:one");
        synlock::Lock lock{store, "x"}, other{store, "x"}, broken{store, "broken"};
        CHECK(lock.acquire() && lock.fencing_token() == 1 && lock.is_acquired() && !other.acquire());
        try {
            broken.acquire();
            CHECK(false);
        } catch (const synlock::Error &error) {
            IS(SYNLOCK_UNCERTAIN, error.code());
            CHECK(strstr(error.what(), "the disk is on fire"));
        }
        lock.release();
        IS(SYNLOCK_UNSUPPORTED, thrown([&] { store.break_lock("x"); }));
        CHECK(!gone);
    }
    CHECK(gone);
    gone = false;
    IS(SYNLOCK_UNSUPPORTED, thrown([&] { synlock::Store("none", std::make_unique<OneLock>(&gone), synlock::CustomTraits{}); }));
    CHECK(gone);
}

static void locks() {
    synlock::Store store{check_url("memory")};
    synlock_lock_options options = synlock::options();
    options.ttl_ms = 60000;
    options.timeout_ms = 5;
    synlock::Lock lock{store, "x", options}, other{store, "x", options};
    CHECK(lock.acquire());
    CHECK(lock.state() == SYNLOCK_STATE_HELD && lock.is_acquired() && !other.is_acquired());
    CHECK(lock.remaining() > 50s && lock.remaining() <= 60s);
    CHECK(!other.acquire() && !other.acquire(0ms) && !other.try_lock_for(1ms));
    IS(SYNLOCK_TIMEOUT, thrown([&] { synlock::Hold hold{other}; }));
    IS(SYNLOCK_NOT_HELD, thrown([&] { other.ensure_held(); }));
    IS(SYNLOCK_ALREADY_HELD, thrown([&] { lock.acquire(); }));
    lock.refresh(70s);
    CHECK(lock.remaining() > 60s && lock.lost_fd() >= 0);
    CHECK(store.break_lock("x"));
    IS(SYNLOCK_LOST, thrown([&] { lock.release(); }));
}

static void guards() {
    synlock::Store store{check_url("flock")};
    synlock::Lock lock{store, "x"}, other{store, "x"};
    {
        synlock::Hold hold{lock};
        CHECK(!other.try_lock());
        synlock::Hold moved = std::move(hold);
        CHECK(!other.try_lock());
        moved.release();
        CHECK(other.try_lock());
        other.unlock();
    }
    {
        std::unique_lock<synlock::Lock> held{lock};
        CHECK(store.is_locked("x"));
        std::unique_lock<synlock::Lock> refused{other, 0ms};
        CHECK(!refused.owns_lock());
    }
    CHECK(!store.is_locked("x"));
    try {
        synlock::Hold hold{lock, synlock::forever};
        throw 7;
    } catch (int) {
        CHECK(!store.is_locked("x"));
    }
    synlock::Lock first{store, "1"}, second{store, "2"};
    std::scoped_lock both{first, second};
    CHECK(store.is_locked("1") && store.is_locked("2"));
}

static void shared() {
    synlock::Store store{check_url("flock")};
    synlock_lock_options options = synlock::options();
    options.mode = SYNLOCK_SHARED;
    synlock::Lock a{store, "x", options}, b{store, "x", options};
    CHECK(a.acquire(0ms) && b.acquire(0ms) && !a.promote(0ms));
    b.release();
    CHECK(a.promote(1s) && !b.acquire(0ms));
    a.demote();
    CHECK(b.acquire(0ms));
}

static void cancels() {
    synlock::Store store{check_url("memory")};
    synlock::Lock holder{store, "x"}, lock{store, "x"};
    synlock::Cancel cancel;
    synlock::Hold hold{holder};
    int code = -1;
    std::thread waiting{[&] { code = thrown([&] { lock.acquire(synlock::forever, cancel); }); }};
    cancel.cancel();
    waiting.join();
    IS(SYNLOCK_CANCELLED, code);
}

static void exports() {
    synlock::Store store{check_url("redis")};
    synlock::Lock lock{store, "cpp"};
    IS(SYNLOCK_NOT_HELD, thrown([&] { (void)lock.export_hold(); }));
    lock.lock();
    CHECK(lock.fencing_token() > 0);
    std::string text = lock.export_hold();
    CHECK(!text.empty() && text.find('\0') == std::string::npos);
    synlock::Lock heir = synlock::Lock::adopt(store, text);
    heir.ensure_held();
    heir.release();
}

/// Whether what a name is held for is what is left of thirty seconds.
static bool is_default(const synlock::Store &store, const char *name) {
    synlock_list *list = nullptr;
    synlock_holder row{};
    row.struct_size = sizeof row;
    IS(SYNLOCK_OK, synlock_store_inspect(store.get(), name, SYNLOCK_NTS, &list, nullptr));
    IS(SYNLOCK_OK, synlock_list_get(list, 0, &row, nullptr));
    synlock_list_free(list);
    return row.remaining_ms > 5000 && row.remaining_ms <= 30000;
}

static void sessions() {
    synlock::Store store{check_url("memory")};
    synlock::Session mine{store}, other{store};
    CHECK(mine.id() == mine.id() && mine.id() != other.id());
    CHECK(mine.acquire("x") && mine.acquire("x", 60s) && mine.renew("x"));
    CHECK(!other.acquire("x") && !other.renew("x") && !other.release("x"));
    CHECK(!other.may_be_available("x") && other.wait("x", 10ms));
    CHECK(mine.release("x") && !mine.release("x") && !other.wait("x"));
    CHECK(mine.acquire("x") && mine.acquire("y") && mine.release_all() == 2);
    {
        synlock::Session brief{store};
        CHECK(brief.acquire("x"));
    }
    CHECK(other.acquire("x"));
    IS(SYNLOCK_UNSUPPORTED, thrown([&] { synlock::Session{store, "persistent"}; }));
    synlock::Store server{check_url("redis")};
    synlock::Session kept{server, "persistent"};
    CHECK(kept.id() == "persistent" && kept.acquire("cpp kept", 60s));
    kept = synlock::Session{server, "persistent"};
    CHECK(!kept.acquire("cpp kept") && other.release_all() == 1);
    CHECK(synlock::Session{server}.release_all("persistent") == 1);
    // Who has the same id and took nothing releases nothing.
    synlock::Session holder{server, "persistent"}, refused{server, "persistent"};
    CHECK(holder.acquire("cpp kept", 60s) && !refused.acquire("cpp kept") && refused.release_all() == 0);
    CHECK(holder.renew("cpp kept") && holder.release_all() == 1);
    CHECK(holder.acquire("cpp default") && is_default(server, "cpp default") && holder.release("cpp default"));
    CHECK(refused.acquire("cpp default", 3s) && refused.renew("cpp default") && is_default(server, "cpp default"));
    CHECK(refused.release_all() == 1);
}

static void managers() {
    synlock::Store store{check_url("memory")};
    synlock_manager_options options = synlock::Manager::options();
    options.sleep_ms = SYNLOCK_OPT_TRY;
    const char *key = "[\"M_K_\",1]", *name = "lock_M_K_378261a619eba75d288b4929dc312ddf";
    {
        synlock::Manager manager{store, options};
        CHECK(manager.acquire(key, "here", 5s) && manager.is_acquired(key) && store.is_locked(name));
        IS(SYNLOCK_REENTERED, thrown([&] { manager.acquire(key); }));
        manager.refresh(key, 60s);
        manager.release(key);
        IS(SYNLOCK_NOT_HELD, thrown([&] { manager.release(key); }));
        synlock::Lock other{store, name};
        other.lock();
        CHECK(!manager.acquire(key));
        other.unlock();
        CHECK(manager.acquire(key));
    }
    CHECK(!store.is_locked(name));
    synlock::Manager usual{store};
    CHECK(usual.acquire("\"x\"") && store.is_locked("lock_x"));
}

static void sets() {
    synlock::Store store{"memory"};
    synlock::Lock a{store, "hpp a"}, b{store, "hpp b"}, other{store, "hpp b"};
    synlock::LockSet set{{&b, &a}};
    CHECK(set.acquire(0ms));
    set.ensure_held();
    CHECK(!other.acquire(0ms));
    set.release();
    CHECK(other.acquire(0ms) && !set.acquire(30ms) && a.state() == SYNLOCK_STATE_IDLE);
    other.release();
    {
        synlock::LockSet held{{&a, &b}};
        synlock::Cancel cancel;
        CHECK(held.acquire(0ms, cancel));
    }
    CHECK(other.acquire(0ms));
}

int main() {
    check_setting();
    CASE(stores);
    CASE(customs);
    CASE(locks);
    CASE(guards);
    CASE(shared);
    CASE(cancels);
    CASE(exports);
    CASE(managers);
    CASE(sessions);
    CASE(sets);
    return check_totals();
}
