<?php

// Stores of one's own.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Ask;
use Synlock\Attempt;
use Synlock\CustomStore;
use Synlock\Exception\InvalidArgument;
use Synlock\Exception\LockLost;
use Synlock\Exception\PermissionDenied;
use Synlock\Exception\Unavailable;
use Synlock\Exception\Uncertain;
use Synlock\Exception\Unsupported;
use Synlock\Holder;
use Synlock\Inspection;
use Synlock\Runtime;
use Synlock\Store;

class Drawer implements CustomStore
{
    public bool $freesOnDeath = true;
    public string $fence = 'E';
    /** @var array<string, array{owner: string, until: ?float, label: ?string}> */
    public array $holds = [];
    /** @var list<Ask> */
    public array $asked = [];
    public int $fences = 0;

    protected function hold(string $name): ?array
    {
        $hold = $this->holds[$name] ?? null;

        return $hold !== null && ($hold['until'] === null || $hold['until'] > microtime(true)) ? $hold : null;
    }

    public function attempt(Ask $ask): Attempt|bool
    {
        $this->asked[] = $ask;
        $hold = $this->hold($ask->name);
        if ($hold !== null && $hold['owner'] !== $ask->owner) {
            return Attempt::busy(poll: 0.005);
        }
        $until = $ask->ttl === null ? null : microtime(true) + $ask->ttl;
        $this->holds[$ask->name] = ['owner' => $ask->owner, 'until' => $until, 'label' => $ask->label];

        return Attempt::granted(++$this->fences);
    }

    public function release(Ask $ask): bool
    {
        if (!$this->isHeld($ask)) {
            return false;
        }
        unset($this->holds[$ask->name]);

        return true;
    }

    public function isHeld(Ask $ask): bool
    {
        return ($this->hold($ask->name)['owner'] ?? null) === $ask->owner;
    }
}

class Cabinet extends Drawer
{
    public string $scope = 'host';

    public function extend(Ask $ask): bool
    {
        if (!$this->isHeld($ask)) {
            return false;
        }
        $this->holds[$ask->name]['until'] = max($this->holds[$ask->name]['until'], microtime(true) + $ask->ttl);

        return true;
    }

    /** @return iterable<Holder> */
    public function inspect(Ask $ask): iterable
    {
        $hold = $this->hold($ask->name);
        if ($hold !== null) {
            yield new Holder($hold['owner'], 'exclusive', 1, 'here', 7, $hold['label'], $hold['until'] - microtime(true), null, 9);
        }
    }

    /** @return iterable<Inspection> */
    public function list(Ask $ask): iterable
    {
        foreach ($this->holds as $name => $hold) {
            if (str_starts_with((string) $name, $ask->name)) {
                yield new Inspection((string) $name, [new Holder($hold['owner'], 'exclusive', 1, null, null, null, null, null, null)], null);
            }
        }
    }

    public function breakLock(Ask $ask): bool
    {
        $held = isset($this->holds[$ask->name]);
        unset($this->holds[$ask->name]);

        return $held;
    }

    public function ping(Ask $ask): void
    {
        throw new \DomainException('the cabinet is locked');
    }
}

class Broken extends Drawer
{
    public ?\Throwable $failure = null;
    /** @var list<string> */
    public array $released = [];

    public function attempt(Ask $ask): Attempt|bool
    {
        $said = parent::attempt($ask);
        if ($this->failure !== null) {
            throw $this->failure;
        }

        return $said;
    }

    public function release(Ask $ask): bool
    {
        $this->released[] = $ask->owner;

        return parent::release($ask);
    }
}

return static function (Runner $t, string $temp, string $package, string $redis): void {
    $t->test('custom::an object becomes a store', static function (): void {
        $drawer = new Drawer();
        $store = Store::custom($drawer, 'drawer');
        same('custom:drawer', $store->url());
        $can = $store->capabilities();
        same(['custom', 'E', 'process', false, false], [$can->store, $can->fence, $can->scope, $can->ttl, $can->list]);
        $lock = $store->createLock("x\0y", label: 'mine');
        same(true, $lock->acquire());
        same(1, $lock->fencingToken());
        $ask = $drawer->asked[0];
        same(["x\0y", 32, 'exclusive', null, 'mine', false], [$ask->name, strlen($ask->owner), $ask->mode, $ask->ttl, $ask->label, $ask->waits]);
        same(true, $lock->isAcquired());
        $other = $store->createLock("x\0y");
        same(false, $other->acquire());
        same(false, $other->acquire(true, 0.3));
        ok(count($drawer->asked) > 4, 'a wait asks again');
        $lock->release();
        same(true, $other->acquire(true, 60.0));
        $other->release();
        same([], $drawer->holds);
        $store->ping();
        throws(Unsupported::class, static fn () => $store->inspect('x'));
        throws(Unsupported::class, static fn () => $store->createLock('x', ttl: 1.0));
    });

    $t->test('custom::leases, inspection, breaking', static function (): void {
        $store = Store::custom(new Cabinet(), options: ['ttl' => 30_000]);
        $lock = $store->createLock('invoice', label: 'a label');
        $lock->acquire();
        ok($lock->getRemainingLifetime() > 25, 'the lease');
        $lock->refresh(90.0);
        ok($lock->getRemainingLifetime() > 80, 'the longer lease');
        [$holder] = $store->inspect('invoice')->holders;
        same(['here', 7, 'a label', 9, 8], [$holder->host, $holder->pid, $holder->label, $holder->fencingToken, strlen($holder->owner)]);
        ok($holder->remaining > 80, 'what is left of it');
        $more = $store->createLock('invoice 2');
        $more->acquire();
        same(['invoice', 'invoice 2'], array_map(static fn ($found) => $found->name, iterator_to_array($store->list('inv'))));
        same(false, $store->waitFree('invoice', 0.03));
        same([true, false], [$store->breakLock('invoice'), $store->breakLock('invoice')]);
        throws(LockLost::class, static fn () => $lock->release());
        throws(Unsupported::class, static fn () => $store->createLock('x', renew: true));
    });

    $t->test('custom::what it throws is the previous exception', static function (): void {
        $error = throws(Unavailable::class, static fn () => Store::custom(new Cabinet())->ping());
        same(\DomainException::class, $error->getPrevious()::class);
        ok(str_contains($error->getMessage(), 'the cabinet is locked'), $error->getMessage());
        $broken = new Broken();
        $store = Store::custom($broken);
        $lock = $store->createLock('x');
        $broken->failure = new \RangeException('too far');
        $error = throws(Uncertain::class, static fn () => $lock->acquire());
        same($broken->failure, $error->getPrevious());
        same([], $broken->released);
        $broken->failure = new PermissionDenied('no key', 202);
        same($broken->failure, throws(PermissionDenied::class, static fn () => $lock->acquire())->getPrevious());
        // It said that it had not acted.
        $broken->holds = [];
        // It might have held: the next call has released it.
        same([$broken->asked[0]->owner], $broken->released);
        $broken->failure = new \TypeError(str_repeat('long ', 300));
        throws(Uncertain::class, static fn () => $lock->acquire());
        $broken->failure = null;
        same(true, $lock->acquire());
        $lock->release();
    });

    $t->test('custom::requests that end leave no memory behind', static function (): void {
        $store = Store::custom(new Drawer());
        $used = static function (int $requests) use ($store): int {
            for ($i = 0; $i < $requests; ++$i) {
                $lock = $store->createLock('x');
                $lock->acquire();
                $lock->release();
                unset($lock);
                Runtime::endRequest();
            }
            gc_collect_cycles();

            return memory_get_usage();
        };
        $before = $used(200);
        ok(($grown = $used(1000) - $before) < 1_000_000, "{$grown} bytes");
    });

    $t->test('custom::a key of Symfony ends with the lease, however slow the store was', static function (): void {
        $cabinet = new class () extends Cabinet {
            public int $lag = 0;

            public function attempt(Ask $ask): Attempt|bool
            {
                $said = parent::attempt($ask);
                sleep($this->lag);

                return $said;
            }
        };
        $store = Store::custom($cabinet);
        $key = new \Synlock\Symfony\Key('slow');
        $lock = new \Synlock\Symfony\Lock($key, new \Synlock\Symfony\SynlockStore($store), 100.0);
        $cabinet->lag = 2;
        same(true, $lock->acquire());
        $left = $lock->getRemainingLifetime();
        ok($left > 0 && $left < 98.1, "{$left} s are left");
    });

    $t->test('custom::a store of the component that fails half-way is asked to give back', static function (): void {
        $peer = new class () implements \Synlock\Symfony\PersistingStoreInterface {
            /** @var array<string, true> */
            public array $held = [];
            public bool $fails = true;

            public function save(\Synlock\Symfony\Key $key): void
            {
                $this->held[(string) $key] = true;
            }

            public function putOffExpiration(\Synlock\Symfony\Key $key, float $ttl): void
            {
                if ($this->fails) {
                    throw new \RuntimeException('the connection is gone');
                }
            }

            public function delete(\Synlock\Symfony\Key $key): void
            {
                unset($this->held[(string) $key]);
            }

            public function exists(\Synlock\Symfony\Key $key): bool
            {
                return isset($this->held[(string) $key]);
            }
        };
        $store = Store::custom(new \Synlock\Guard\Bundle\ComponentStore($peer));
        throws(Uncertain::class, static fn () => $store->createLock('x', ttl: 60.0)->acquire());
        $peer->fails = false;
        // The next call releases what may be held.
        $lock = $store->createLock('y', ttl: 60.0);
        same(true, $lock->acquire());
        same(['y'], array_keys($peer->held));
        $lock->release();
    });

    $t->test('custom::what cannot be', static function (): void {
        throws(InvalidArgument::class, static fn () => Store::custom(new Drawer(), 'a/b'));
        $elsewhere = new Cabinet();
        $elsewhere->scope = 'galaxy';
        throws(InvalidArgument::class, static fn () => Store::custom($elsewhere));
        $forgetful = new Drawer();
        $forgetful->freesOnDeath = false;
        throws(Unsupported::class, static fn () => Store::custom($forgetful));
    });

    $t->test('custom::the end of a request releases, and the store works in the next one', static function (): void {
        $drawer = new Drawer();
        $store = Store::custom($drawer);
        $lock = $store->createLock('x');
        $kept = $store->createLock('y', autoRelease: false);
        $lock->acquire();
        $kept->acquire();
        Runtime::endRequest();
        same(['y'], array_keys($drawer->holds));
        same(true, $lock->acquire());
        same(false, $store->createLock('y')->acquire());
        $lock->release();
        Runtime::endRequest();
        same(0, Runtime::countHandles());
    });
};
