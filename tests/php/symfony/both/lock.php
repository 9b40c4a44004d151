<?php

// Locks, factories and constructors of the package: what the component's own tests ask of them.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Symfony\Exception\InvalidArgumentException;
use Synlock\Symfony\Exception\LockAcquiringException;
use Synlock\Symfony\Exception\LockConflictedException;
use Synlock\Symfony\Exception\LockExpiredException;
use Synlock\Symfony\Exception\LockReleasingException;
use Synlock\Symfony\Exception\LockStorageException;
use Synlock\Symfony\Key;
use Synlock\Symfony\Lock;
use Synlock\Symfony\LockFactory;
use Synlock\Symfony\NoLock;
use Synlock\Symfony\PersistingStoreInterface;
use Synlock\Symfony\Store as S;
use Synlock\Symfony\Strategy\ConsensusStrategy;
use Synlock\Symfony\Strategy\UnanimousStrategy;
use Synlock\Symfony\SynlockStore;

/** A store that does as it is told, and says what it was asked. */
final class Told implements PersistingStoreInterface
{
    /** @var list<string> */
    public array $asked = [];
    public bool $exists = false;

    /** @param array<string, \Throwable|\Closure> $answers */
    public function __construct(public array $answers = [])
    {
    }

    private function answer(string $verb, Key $key): void
    {
        $this->asked[] = $verb;
        $answer = $this->answers[$verb] ?? null;
        if ($answer instanceof \Throwable) {
            throw $answer;
        }
        $answer === null ?: $answer($key);
    }

    public function save(Key $key): void
    {
        $this->answer('save', $key);
    }

    public function delete(Key $key): void
    {
        $this->answer('delete', $key);
    }

    public function exists(Key $key): bool
    {
        $this->answer('exists', $key);

        return $this->exists;
    }

    public function putOffExpiration(Key $key, float $ttl): void
    {
        $this->answer("putOff {$ttl}", $key);
    }
}

/** A PSR-3 logger. */
final class Lines
{
    /** @var list<string> */
    public array $lines = [];

    public function log(mixed $level, string|\Stringable $message, array $context = []): void
    {
        same('name', (string) $context['resource']);
        $this->lines[] = "{$level}: {$message}";
    }
}

return static function (Runner $t, Setup $setup): void {
    $clients = new Clients($setup);
    $lock = static fn (Told $store, ?float $ttl = null, ?Lines $lines = null, bool $autoRelease = false): Lock => (static function () use ($store, $ttl, $lines, $autoRelease): Lock {
        $lock = new Lock(new Key('name'), $store, $ttl, $autoRelease);
        $lock->setLogger($lines);

        return $lock;
    })();
    $conflict = new LockConflictedException();

    $t->test("{$setup->mode} lock::what it asks, answers and logs", static function () use ($lock, $conflict): void {
        $lines = new Lines();
        same(true, $lock($store = new Told(), null, $lines)->acquire());
        same([['save'], ['debug: Successfully acquired the "{resource}" lock.']], [$store->asked, $lines->lines]);

        $lines = new Lines();
        same(true, $lock($store = new Told(), 10, $lines)->acquire());
        same(['save', 'putOff 10'], $store->asked);
        same('debug: Expiration defined for "{resource}" lock for "{ttl}" seconds.', $lines->lines[1]);

        $lines = new Lines();
        same(false, $lock(new Told(['save' => $conflict]), null, $lines)->acquire());
        same(['info: Failed to acquire the "{resource}" lock. Someone else already acquired the lock.'], $lines->lines);

        $lines = new Lines();
        $trouble = new LockStorageException('trouble');
        $error = throws(LockAcquiringException::class, static fn () => $lock(new Told(['save' => $trouble]), null, $lines)->acquire());
        same([$trouble, ['notice: Failed to acquire the "{resource}" lock.']], [$error->getPrevious(), $lines->lines]);

        $lines = new Lines();
        throws(LockConflictedException::class, static fn () => $lock(new Told(['putOff 10' => $conflict]), 10, $lines)->refresh());
        same(['notice: Failed to define an expiration for the "{resource}" lock, someone else acquired the lock.'], $lines->lines);
        $error = throws(LockAcquiringException::class, static fn () => $lock(new Told(['putOff 10' => $trouble]), 10, $lines)->refresh());
        same([$trouble, 'notice: Failed to define an expiration for the "{resource}" lock.'], [$error->getPrevious(), $lines->lines[1]]);
        throws(InvalidArgumentException::class, static fn () => $lock(new Told())->refresh());
        $lock($store = new Told(), 10)->refresh(20);
        same(['putOff 20'], $store->asked, 'a TTL of its own');

        $lines = new Lines();
        $lock($store = new Told(), null, $lines)->release();
        same([['delete', 'exists'], ['debug: Successfully released the "{resource}" lock.']], [$store->asked, $lines->lines]);
        $store = new Told();
        $store->exists = true;
        throws(LockReleasingException::class, static fn () => $lock($store, null, $lines)->release());
        same('notice: Failed to release the "{resource}" lock.', $lines->lines[1]);
        throws(LockReleasingException::class, static fn () => $lock(new Told(['delete' => $trouble]))->release());

        $lines = new Lines();
        same(true, $lock($store = new Told(), null, $lines)->acquireRead());
        same([['save'], 'debug: Store does not support ReadLocks, fallback to WriteLock.'], [$store->asked, $lines->lines[0]]);
    });

    $t->test("{$setup->mode} lock::a store that cannot wait is asked again", static function () use ($lock, $conflict): void {
        $times = 0;
        $store = new Told(['save' => static function () use (&$times, $conflict): void {
            if (++$times < 3) {
                throw $conflict;
            }
        }]);
        same(true, $lock($store)->acquire(true));
        same(3, $times);
    });

    $t->test("{$setup->mode} lock::a lease that is over when it is given is no lease", static function () use ($lock): void {
        $store = new Told(['save' => static fn (Key $key) => $key->reduceLifetime(-1.0)]);
        $error = throws(LockAcquiringException::class, static fn () => $lock($store)->acquire());
        ok($error->getPrevious() instanceof LockExpiredException, 'expired');
        same(['save', 'delete', 'exists'], $store->asked);
    });

    $t->test("{$setup->mode} lock::destruction", static function () use ($lock): void {
        foreach ([[true, ['save', 'exists', 'delete', 'exists']], [false, ['save']]] as [$autoRelease, $asked]) {
            $store = new Told(['delete' => static function () use (&$store): void {
                $store->exists = false;
            }]);
            $store->exists = true;
            $one = $lock($store, null, null, $autoRelease);
            $one->acquire();
            unset($one);
            same($asked, $store->asked);
        }
        $store = new Told();
        $one = $lock($store, null, null, true);
        unset($one);
        same([], $store->asked, 'one that was never held');
    });

    $t->test("{$setup->mode} lock::lifetimes", static function (): void {
        $key = new Key('name');
        same([null, false], [$key->getRemainingLifetime(), $key->isExpired()]);
        $key->reduceLifetime(5.0);
        $key->reduceLifetime(50.0);
        ok($key->getRemainingLifetime() > 4 && $key->getRemainingLifetime() <= 5, 'the earlier end stays');
        $key->reduceLifetime(-1.0);
        same(true, $key->isExpired());
        $key->resetLifetime();
        same(false, $key->isExpired());
        throws(\BadMethodCallException::class, static fn () => serialize(new Lock($key, new Told())));
    });

    $t->test("{$setup->mode} lock::the factory's defaults and its logger", static function (): void {
        $factory = new LockFactory($store = new Told());
        $factory->setLogger($lines = new Lines());
        $factory->createLock('name')->acquire();
        same(['save', 'putOff 300'], array_slice($store->asked, 0, 2));
        same(2, count($lines->lines));
        same(true, new \Synlock\Symfony\Factory($store) instanceof LockFactory);
        ok($store instanceof \Synlock\Symfony\StoreInterface, 'the name of 4.x');
        $none = new NoLock();
        same([true, true, false, null], [$none->acquire(), $none->isAcquired(), $none->isExpired(), $none->getRemainingLifetime()]);
    });

    $t->test("{$setup->mode} commands::the trait, with its own store and with a factory", static function () use ($setup): void {
        $command = static fn (string $name, ?object $factory = null): object => new class ("{$name} " . basename($setup->temp), $factory) {
            use \Synlock\Symfony\LockableTrait;

            public function __construct(private readonly string $name, ?object $factory)
            {
                $this->lockFactory = $factory;
            }

            public function getName(): string
            {
                return $this->name;
            }

            public function run(?\Closure $inside = null, ?string $name = null): ?array
            {
                if (!$this->lock($name)) {
                    return null;
                }
                $seen = [$inside === null ? null : $inside()];
                throws(\LogicException::class, fn () => $this->lock());
                $this->release();
                $this->release();

                return $seen;
            }
        };
        $url = $setup->urls()['shm'];
        $factories = [null, new LockFactory(new SynlockStore($url)), $setup->factory(new SynlockStore($url))];
        foreach ($factories as $at => $factory) {
            [$one, $other] = [$command("nightly {$at}", $factory), $command("nightly {$at}", $factory)];
            same([null], $one->run(static fn (): ?array => $other->run()), "number {$at}");
            same([[null]], $one->run(static fn (): ?array => $other->run(name: "{$other->getName()} of another name")));
            same([null], $other->run());
        }
        $theirs = (new LockFactory(new S\SemaphoreStore()))->createLock($one->getName());
        same([true, null], [$theirs->acquire(), $command('nightly 2')->run()], 'semaphores, as in 6.3 and later');
    });

    $t->test("{$setup->mode} strategies", static function (): void {
        $met = static fn (object $strategy, int $all): array => array_map(static fn (int $n): bool => $strategy->isMet($n, $all), range(0, $all));
        $can = static fn (object $strategy, int $all): array => array_map(static fn (int $n): bool => $strategy->canBeMet($n, $all), range(0, $all));
        same([[false, false, true, true], [false, false, false, true, true]], [$met(new ConsensusStrategy(), 3), $met(new ConsensusStrategy(), 4)]);
        same([[true, true, false, false], [true, true, false, false, false]], [$can(new ConsensusStrategy(), 3), $can(new ConsensusStrategy(), 4)]);
        same([[false, false, true], [true, false, false]], [$met(new UnanimousStrategy(), 2), $can(new UnanimousStrategy(), 2)]);
    });

    $t->test("{$setup->mode} lock::one whose last TTL is over is taken anew, although its lease lasts", static function () use ($setup): void {
        foreach (['redis', 'shm', 'memory', 'sqlite'] as $name) {
            $factory = new LockFactory(new SynlockStore($setup->urls()[$name]));
            $lock = $factory->createLock('short', 30);
            foreach (['acquire', 'acquireRead'] as $again) {
                $lock->acquire();
                $lock->refresh(600);
                $lock->refresh(0.1);
                until(static fn (): bool => $lock->isExpired(), 30, 'it ends');
                same([true, true], [$lock->$again(), $lock->isAcquired()], $name);
                $lock->release();
            }
        }
    });

    $t->test("{$setup->mode} combined::it stops when it is hopeless, gives back, and members that are down count against it", static function () use ($conflict): void {
        $make = static fn (array $stores, object $strategy = new ConsensusStrategy()) => new S\CombinedStore($stores, $strategy);
        $key = new Key('name');
        [$a, $b, $c] = [new Told(['save' => $conflict]), new Told(['save' => new \Exception('down')]), new Told()];
        throws(LockConflictedException::class, static fn () => $make([$a, $b, $c])->save($key));
        same([['save', 'delete'], ['save', 'delete'], ['delete']], [$a->asked, $b->asked, $c->asked]);
        [$a, $b, $c] = [new Told(['delete' => new \Exception('down')]), new Told(['save' => $conflict]), new Told()];
        $make([$a, $b, $c])->saveRead($key);
        same([['save'], ['save'], ['save']], [$a->asked, $b->asked, $c->asked]);
        $make([$a, $b, $c])->delete($key);
        same('delete', $c->asked[1], 'the others are told although one fails');
        [$a, $b] = [new Told(), new Told(['putOff 5' => $conflict])];
        throws(LockConflictedException::class, static fn () => $make([new Told(['save' => $conflict]), new Told()], new UnanimousStrategy())->save($key));
        throws(LockConflictedException::class, static fn () => $make([new S\InMemoryStore()], new UnanimousStrategy())->putOffExpiration($key, 5));
        [$yes, $no] = [new Told(), new Told(['exists' => new LockStorageException('down')])];
        $yes->exists = true;
        same([true, false], [$make([$no, $yes, $yes])->exists($key), $make([$no, $yes])->exists($key)]);
        throws(InvalidArgumentException::class, static fn () => new S\CombinedStore([new \stdClass()], new ConsensusStrategy()));
    });

    $t->test("{$setup->mode} retry::so often and no more", static function () use ($conflict): void {
        $store = new Told(['save' => $conflict]);
        throws(LockConflictedException::class, static fn () => (new S\RetryTillSaveStore($store, 1, 2))->waitAndSave(new Key('name')));
        same(['save', 'save', 'save'], $store->asked);
    });

    $t->test("{$setup->mode} tables::keys of a PDO travel, and rows that are over are dropped", static function () use ($setup, $clients): void {
        foreach (['sqlite', 'mysql', 'pgsql'] as $engine) {
            $table = ['db_table' => "travels_{$setup->mode}"];
            $factory = new LockFactory(new S\PdoStore($pdo = $clients->pdo($engine), $table, 1.0));
            $lock = $factory->createLockFromKey($key = new Key('travels'), 60, false);
            same(true, $lock->acquire());
            $code = '$clients = new Clients($setup); $factory = $setup->factory(new \Synlock\Symfony\Store\PdoStore($clients->pdo($arguments[0]), ["db_table" => $arguments[1]]));'
                . '$lock = $factory->createLockFromKey(unserialize(base64_decode($arguments[2])), 60, false); $lock->refresh(120); echo json_encode([$lock->isAcquired(), $factory->createLock("travels")->acquire()]); $lock->release();';
            $process = $setup->process('require_once $setup->clients(); ' . $code, [$engine, $table['db_table'], base64_encode(serialize($key))]);
            same(0, $process->wait(), $process->output);
            same('[true,false]', $process->output);
            same(false, $lock->isAcquired());
            $pdo->exec("INSERT INTO travels_{$setup->mode} (key_id, key_token, key_expiration) VALUES ('old', 'old', 5)");
            same(true, $factory->createLock('travels')->acquire());
            same(0, (int) $pdo->query("SELECT count(*) FROM travels_{$setup->mode} WHERE key_id = 'old'")->fetchColumn());
        }
    });

    $t->test("{$setup->mode} semaphores::a set goes with its lock", static function () use ($setup): void {
        $isThere = static fn (string $name, string $digest): bool => preg_match(
            '/^ *' . unpack('i', hash($digest, $name, true))[1] . ' /m',
            (string) file_get_contents('/proc/sysvipc/sem'),
        ) === 1;
        foreach (['xxh128', 'md5'] as $digest) {
            $name = "set {$setup->temp} {$digest}";
            $factory = new LockFactory(new S\SemaphoreStore($digest));
            [$lock, $other] = [$factory->createLock($name), $factory->createLock($name)];
            same(false, $isThere($name, $digest));
            same([true, true, false], [$lock->acquire(), $isThere($name, $digest), $other->acquire()]);
            $lock->release();
            same(false, $isThere($name, $digest), 'as many as before');
            same([true, true], [$other->acquire(), $isThere($name, $digest)]);
            unset($other);
            same(false, $isThere($name, $digest), 'and after a destruction');
        }
    });

    $t->test("{$setup->mode} advisory::a wait in vain leaves nothing behind", static function () use ($setup, $clients): void {
        $stores = [
            new S\PostgreSqlStore($clients->pdo('pgsql')),
            new S\DoctrineDbalPostgreSqlStore($clients->dbal('pgsql')),
        ];
        $other = $clients->pdo('pgsql');
        foreach ($stores as $number => $store) {
            $name = "vain {$setup->mode} {$number}";
            $key = crc32($name);
            same(true, $other->query("SELECT pg_try_advisory_lock({$key})")->fetchColumn());
            \Synlock\Runtime::setMaxWait(0.1);
            try {
                throws(LockConflictedException::class, static fn () => $store->waitAndSave($setup->key($name)));
                throws(LockConflictedException::class, static fn () => $store->waitAndSaveRead($setup->key($name)));
            } finally {
                \Synlock\Runtime::setMaxWait(null);
            }
            same(true, $other->query("SELECT pg_advisory_unlock({$key})")->fetchColumn());
            $store->save($next = $setup->key($name));
            same([true, false], [$store->exists($next), $other->query("SELECT pg_try_advisory_lock({$key})")->fetchColumn()]);
            throws(LockConflictedException::class, static fn () => $store->save($setup->key($name)));
            $store->delete($next);
            same(true, $other->query("SELECT pg_try_advisory_lock({$key})")->fetchColumn(), 'the session has it no more');
            $other->query("SELECT pg_advisory_unlock({$key})");
        }
    });
};
