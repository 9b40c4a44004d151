<?php

// Request guards: policies, names, services, modes, and what a request holds. Over HTTP: psr15.php.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Exception;
use Synlock\Guard\Guards;
use Synlock\Guard\Held;
use Synlock\Guard\MutexException;
use Synlock\Guard\MutexRequest;
use Synlock\Guard\Request;
use Synlock\Guard\User;
use Synlock\Store;

final class Guarded
{
    public const POLICIES = __CLASS__ . '::twice';

    #[MutexRequest(name: 'order_{id}', mode: MutexRequest::QUEUE, ttl: 30)]
    #[MutexRequest(userIsolation: true, http: ['code' => 409, 'message' => 'one at a time', 'domain' => 'app'])]
    public function twice(): void
    {
    }

    public function open(): void
    {
    }

    #[MutexRequest(name: 'invoked')]
    public function __invoke(): void
    {
    }
}

return static function (Runner $t, string $temp, string $package, string $redis): void {
    $fresh = static function (): string {
        static $number = 0;

        return 'memory:guards-' . ++$number;
    };
    $request = new Request('pay', '/orders/17', ['id' => '17']);

    $t->test('guards::the attributes of a controller', static function (): void {
        [$queue, $own] = MutexRequest::of(Guarded::POLICIES);
        same(['order_{id}', 'queue', 30.0, 423], [$queue->name, $queue->mode, $queue->ttl, $queue->status]);
        same(['block', 409, 'one at a time', 'app', true], [$own->mode, $own->status, $own->message, $own->domain, $own->userIsolation]);
        same([], MutexRequest::of([new Guarded(), 'open']));
        foreach ([new Guarded(), Guarded::class] as $invokable) {
            same('invoked', MutexRequest::of($invokable)[0]->name);
        }
        same('f', MutexRequest::of(#[MutexRequest(name: 'f')] static fn () => null)[0]->name);
        throws(\ReflectionException::class, static fn () => MutexRequest::of('Nobody::here'));
    });

    $t->test('guards::a policy that means nothing is refused', static function (): void {
        foreach ([['mode' => 'wait'], ['anonymous' => 'x'], ['release' => 'never'], ['http' => ['status' => 4]], ['http' => ['code' => 200]],
            ['ttl' => -1.0], ['maxWait' => 0.0]] as $wrong) {
            throws(Exception\InvalidArgument::class, static fn () => new MutexRequest(...$wrong));
        }
        same('queue', (new MutexRequest(strategy: 'queue'))->mode);
        same('later', (new MutexRequest(message: 'later'))->message);
    });

    $t->test('guards::names', static function () use ($fresh, $request): void {
        $guards = new Guards([$fresh()]);
        $name = static fn (array $policy, Request $of): string => $guards->name(new MutexRequest(...$policy), $of);
        same('pay /orders/17', $name([], $request));
        same('order_17', $name(['name' => 'order_{id}'], $request));
        same("x\0y", $name(['name' => '{b}'], new Request('pay', '/', ['b' => "x\0y"])));
        $error = throws(Exception\InvalidArgument::class, static fn () => $name(['name' => 'order_{no}'], $request));
        ok(str_contains($error->getMessage(), '{no}'), $error->getMessage());
        $of = static fn (?User $user): Request => new Request('pay', '/', [], $user, 'sess', '10.0.0.1');
        $own = ['name' => 'o', 'userIsolation' => true];
        same('o@main/bob', $name($own, $of(new User('bob', 'main'))));
        throws(Exception\InvalidArgument::class, static fn () => $name($own, $of(null)));
        throws(Exception\InvalidArgument::class, static fn () => $name($own, $of(User::anonymous())));
        same('o@:anonymous', $name([...$own, 'anonymous' => 'share'], $of(User::anonymous())));
        $peer = new Guards([$fresh()], 'ixarlie');
        same('ixarlie_mutex_19ed1b07a8d549cfa3442a898f96707f', $peer->name(new MutexRequest(name: 'order_{id}'), $request));
        same(['id' => '7', 's' => 'x', 'yes' => '1'], Request::texts(['id' => 7, 's' => 'x', 'yes' => true, 'no' => [], 'o' => new \stdClass()]));
    });

    $t->test('guards::services by short and full names', static function () use ($fresh, $request): void {
        $opened = 0;
        $guards = new Guards(['default' => $fresh()]);
        $guards->add('redis.queued', static function () use (&$opened, $fresh): Store {
            ++$opened;

            return Store::open($fresh());
        });
        same(['default', 'redis.queued'], $guards->names());
        same('default', $guards->find());
        foreach (['redis.queued', 'synlock.redis.queued', 'ixarlie_mutex.redis_factory.queued'] as $name) {
            same('redis.queued', $guards->find($name));
        }
        same(0, $opened, 'stores that were only looked for');
        $error = throws(Exception\InvalidArgument::class, static fn () => $guards->find('no'));
        ok(str_contains($error->getMessage(), 'default, redis.queued'), $error->getMessage());
        throws(Exception\InvalidArgument::class, static fn () => $guards->add('default', $fresh()));
        $error = throws(Exception\InvalidArgument::class, static fn () => $guards->setDefault('nobody')->find());
        ok(str_contains($error->getMessage(), '“nobody”') && str_contains($error->getMessage(), 'default, redis.queued'), $error->getMessage());
        same('redis.queued', $guards->setDefault('redis.queued')->find());
        $admission = $guards->enter(new MutexRequest(), $request);
        same(['redis.queued', 1], [$admission->service, $opened]);
        same(true, $guards->store('redis.queued')->isLocked($admission->name));
        same(false, $guards->store('default')->isLocked($admission->name));
    });

    $t->test('guards::a store that cannot wait does not queue', static function () use ($fresh, $request): void {
        $guards = (new Guards())->add('own', $fresh(), canWait: false);
        throws(Exception\Unsupported::class, static fn () => $guards->enter(new MutexRequest(mode: 'queue'), $request));
    });

    $t->test('guards::the four modes', static function () use ($fresh, $request): void {
        $guards = (new Guards())->add('default', $fresh(), maxWait: 0.01);
        $policy = static fn (string $mode): MutexRequest => new MutexRequest($mode, name: 'n', ttl: 600, label: $mode);
        same(null, $guards->enter($policy('check'), $request)->lock);
        $first = $guards->enter($policy('block'), $request);
        same([1, true], [$first->attempts, $first->lock->isAcquired()]);
        foreach (['block', 'check', 'queue'] as $mode) {
            $refused = throws(MutexException::class, static fn () => $guards->enter($policy($mode), $request));
            same([423, 'n', 'default', 'block'], [$refused->getStatusCode(), $refused->getLockName(), $refused->getService(), $refused->getHolders()[0]->label]);
            ok($refused->getRetryAfter() > 0 && $refused->getRetryAfter() <= 600, "{$refused->getRetryAfter()}");
            same(['Retry-After' => (string) $refused->getRetryAfter()], $refused->getHeaders());
        }
        $boss = $guards->enter($policy('force'), $request);
        same('block', $boss->broken[0]->label);
        $lost = throws(Exception\LockLost::class, static fn () => $first->lock->ensureHeld());
        ok(str_contains($lost->getMessage(), 'broken by force'), $lost->getMessage());
        $lost = throws(Exception\LockLost::class, static fn () => $first->lock->refresh());
        ok(str_contains($lost->getMessage(), 'broken by force'), $lost->getMessage());
        $boss->release();
        $boss->release();
        same(true, $boss->isReleased());
        $guards->enter($policy('block'), $request)->release();
    });

    $t->test('guards::a lease on Redis runs out under its holder', static function () use ($redis, $request): void {
        $guards = new Guards([$redis]);
        $policy = new MutexRequest(name: 'runs out', ttl: 0.2);
        $first = $guards->enter($policy, $request);
        until(static fn (): bool => !$guards->store()->isLocked('runs out'), 60, 'its lease is over');
        $second = $guards->enter(new MutexRequest(name: 'runs out', ttl: 600), $request);
        $lost = throws(Exception\LockLost::class, static fn () => $first->lock->ensureHeld());
        ok(!str_contains($lost->getMessage(), 'broken by'), $lost->getMessage());
        // Neither it nor the end of its request takes anything from the next one.
        throws(Exception\LockLost::class, $first->release(...));
        $held = new Held(log: static fn () => null);
        same(true, $second->lock->isAcquired());
        throws(MutexException::class, static fn () => $held->enter($guards, $policy, $request));
        $second->release();
    });

    $t->test('guards::what a request holds is released at its points', static function () use ($fresh, $request): void {
        $guards = new Guards([$fresh()]);
        $store = $guards->store();
        $held = new Held();
        $told = [];
        $held->onRelease(static function ($admission) use (&$told): void {
            $told[] = $admission->name;
        });
        foreach ([['a', null, true], ['b', 'terminate', true], ['c', 'response', true], ['d', null, false]] as [$name, $release, $auto]) {
            $held->enter($guards, new MutexRequest(name: $name, release: $release, autoRelease: $auto), $request);
        }
        same(null, $held->enter($guards, new MutexRequest(name: 'a'), $request), 'held already');
        $held->release('response');
        same(['c', 'a'], $told);
        same([false, true, true], array_map($store->isLocked(...), ['a', 'b', 'd']));
        same([false, true], [$held->holdsUntil('response'), $held->holdsUntil('terminate')]);
        $held->releaseAll();
        same([false, true], array_map($store->isLocked(...), ['b', 'd']));
        $store->breakLock('d');
    });

    $t->test('guards::a handler of a signal that throws leaves nobody admitted', static function () use ($temp, $request): void {
        mkdir("{$temp}/guards");
        $server = new Redis("{$temp}/guards");
        $guards = new Guards(["{$server->url}?io_timeout=60000"]);
        foreach ([true, false] as $autoRelease) {
            $policy = new MutexRequest(name: 'n', ttl: 600, autoRelease: $autoRelease);
            $guards->enter($policy, $request)->release();
            $server->interrupt(static fn () => $guards->enter($policy, $request));
            same(false, $guards->store()->isLocked('n'));
        }
        $server->stop();
    });

    $t->test('guards::they are usable in the next request of a worker', static function () use ($fresh, $request): void {
        $guards = new Guards(['x' => $fresh()]);
        $before = $guards->enter(new MutexRequest(), $request);
        \Synlock\Runtime::endRequest();
        $before->release(); // that it is over is no trouble
        same(false, $guards->store()->isLocked('pay /orders/17'), 'the end of a request releases');
        same('x', $guards->find('synlock.x'));
        ok($guards->enter(new MutexRequest(), $request)->lock->isAcquired(), 'held');
    });
};
