<?php

// The command of PHP; README.md says what it understands.

declare(strict_types=1);

use Synlock\Exception\SynlockException;
use Synlock\Lock;
use Synlock\Session;
use Synlock\Store;

require __DIR__ . '/../../bindings/php/autoload.php';

final class Command
{
    /** @var array<string, Store> */
    private array $stores = [];
    /** @var array<string, Lock> */
    private array $holds = [];
    /** @var array<string, Session> */
    private array $sessions = [];

    /** What follows the status, or a status alone. */
    public function answer(string $verb, string ...$words): string|int
    {
        if (str_starts_with($verb, 's_')) {
            return $this->askSession($this->sessions[array_shift($words)], $verb, ...$words);
        }
        switch ($verb) {
            case 'open':
                $this->stores[$words[0]] = Store::open($words[1]);

                return '';
            case 'take':
                return $this->take(...$words);
            case 'wait':
            case 'plain':
                $lock = $this->stores[$words[1]]->createLock((string) hex2bin($words[2]));
                if (!($verb === 'wait' ? $lock->acquire(true) : $lock->acquire())) {
                    return $verb === 'wait' ? 2 : 1;
                }
                $this->holds[$words[0]] = $lock;

                return '';
            case 'session':
                $this->sessions[$words[0]] = $this->stores[$words[1]]->createSession($words[2] ?? null);

                return '';
            case 'drop':
                unset($this->holds[$words[0]]);
                gc_collect_cycles();

                return '';
            case 'adopt':
                $this->holds[$words[0]] = $this->stores[$words[1]]->adopt($words[2]);

                return '';
            case 'codes':
                $codes = array_flip(array_filter((new ReflectionClass(Synlock\Code::class))->getConstants(), 'is_int'));
                ksort($codes);

                return implode(' ', array_map(static fn (int $number, string $name): string => "{$number}={$name}", array_keys($codes), $codes));
        }
        $first = array_shift($words);

        return isset($this->stores[$first])
            ? $this->askStore($this->stores[$first], $verb, ...$words)
            : $this->askHold($this->holds[$first], $verb, ...$words);
    }

    private function askSession(Session $session, string $verb, string ...$words): string
    {
        if ($verb === 's_id') {
            return $session->id();
        }
        if ($verb === 's_release_all') {
            return (string) $session->releaseAll(...$words);
        }
        $name = (string) hex2bin($words[0]);
        $seconds = (int) ($words[1] ?? 0) / 1000.0;

        return (string) (int) match ($verb) {
            's_acquire' => $session->acquire($name, $seconds),
            's_renew' => $session->renew($name, $seconds),
            's_free' => $session->mayBeAvailable($name),
            's_wait' => $session->wait($name, $seconds),
            's_release' => $session->release($name),
        };
    }

    private function take(string $hold, string $store, string $name, string $ms, string ...$options): string|int
    {
        $more = [];
        foreach ($options as $option) {
            [$key, $value] = explode('=', $option);
            if ($key === 'permits') {
                [$take, $of] = explode('/', $value);
                $more += ['permits' => (int) $take, 'of' => (int) $of];
            } else {
                $more[$key === 'auto_release' ? 'autoRelease' : $key] = match ($key) {
                    'ttl' => (int) $value / 1000.0,
                    'label' => (string) hex2bin($value),
                    'reentry' => $value,
                    default => $value === '1',
                };
            }
        }
        $lock = $this->stores[$store]->createLock((string) hex2bin($name), ...$more);
        $wait = self::seconds($ms);
        if (!((int) $ms === 0 ? $lock->acquire() : $lock->acquire(true, $wait))) {
            return self::late($ms);
        }
        $this->holds[$hold] = $lock;

        return '';
    }

    private function askStore(Store $store, string $verb, string ...$words): string|int
    {
        $name = (string) hex2bin($words[0] ?? '');
        switch ($verb) {
            case 'ping':
                $store->ping();

                return '';
            case 'fingerprint':
                return $store->fingerprint();
            case 'locked':
                return $store->isLocked($name) ? '1' : '0';
            case 'break':
                return $store->breakLock($name) ? '1' : '0';
            case 'wait_free':
                return $store->waitFree($name, self::seconds($words[1])) ? '' : 2;
            case 'inspect':
                $found = $store->inspect($name);

                return count($found->holders) . ' ' . ($found->waiters ?? -1);
            case 'who':
                $first = $store->inspect($name)->holders[0];

                return "{$first->mode} {$first->permits} {$first->pid} " . (bin2hex($first->label ?? '') ?: '-');
            case 'where':
                $first = $store->inspect($name)->holders[0];

                return (bin2hex($first->host ?? '') ?: '-') . ' ' . ($first->held === null ? -1 : (int) ($first->held * 1000));
            case 'list':
                $names = [];
                foreach ($store->list($name) as $found) {
                    $names[] = bin2hex($found->name);
                }
                sort($names, SORT_STRING);

                return implode(' ', ['0', ...$names]);
            case 'capabilities':
                $can = $store->capabilities();
                $keys = ['shared', 'promote', 'permits', 'ttl', 'freesOnDeath', 'wakes', 'fair', 'export', 'list', 'breakLock'];

                return implode(' ', array_map(static fn (string $key): string => $can->{$key} ? '1' : '0', $keys)) . " {$can->fence}";
        }
        throw new LogicException($verb);
    }

    private function askHold(Lock $lock, string $verb, string ...$words): string|int
    {
        switch ($verb) {
            case 'release':
                $lock->release();

                return '';
            case 'refresh':
                $lock->refresh((int) $words[0] === 0 ? null : (int) $words[0] / 1000.0);

                return '';
            case 'check':
                $lock->ensureHeld();

                return '';
            case 'demote':
                $lock->demote();

                return '';
            case 'promote':
                $done = (int) $words[0] === 0 ? $lock->promote() : $lock->promote(true, self::seconds($words[0]));

                return $done ? '' : self::late($words[0]);
            case 'held':
                return $lock->isAcquired() ? '1' : '0';
            case 'state':
                return strtolower($lock->state()->name);
            case 'remaining':
                $left = $lock->getRemainingLifetime();

                return (string) ($left === null ? -1 : (int) ($left * 1000));
            case 'fence':
                return (string) ($lock->fencingToken() ?? 0);
            case 'export':
                return $lock->export();
            case 'again':
                return $lock->acquire() ? '' : 1;
            case 'how':
                return $lock->lastAcquired()->contended ? '1' : '0';
        }
        throw new LogicException($verb);
    }

    private static function seconds(string $ms): ?float
    {
        return (int) $ms < 0 ? null : (int) $ms / 1000.0;
    }

    private static function late(string $ms): int
    {
        return (int) $ms === 0 ? 1 : 2;
    }
}

$command = new Command();
while (($line = fgets(STDIN)) !== false) {
    try {
        $said = $command->answer(...explode(' ', trim($line)));
        echo is_int($said) ? $said : trim("0 {$said}"), "\n";
    } catch (SynlockException $error) {
        echo $error->getCode(), "\n";
    }
}
