<?php

declare(strict_types=1);

namespace Synlock\Internal;

use FFI\CData;
use Synlock\Ask;
use Synlock\Attempt;
use Synlock\Code;
use Synlock\CustomStore;
use Synlock\Exception\LockLost;
use Synlock\Exception\SynlockException;
use Synlock\Holder;

/**
 * The table of callbacks of one custom store. They end with the request: so do the store and its locks.
 *
 * @internal
 */
final class Custom
{
    private const MODES = ['exclusive', 'shared', 'permits'];
    private const OPTIONAL = [
        'extend' => 'extend',
        'change_mode' => 'changeMode',
        'inspect' => 'inspect',
        'list' => 'list',
        'break_lock' => 'breakLock',
        'ping' => 'ping',
    ];

    /** What the object threw last. */
    public static ?\Throwable $thrown = null;

    public readonly CData $table;
    /** @var list<CData> text that the table names */
    private array $kept = [];

    public function __construct(private readonly Native $native, private readonly CustomStore $store)
    {
        $this->table = $native->sized('synlock_callbacks');
        $verbs = ['attempt' => 'attempt', 'release' => 'release', 'is_held' => 'isHeld'];
        foreach (self::OPTIONAL as $verb => $method) {
            if (\method_exists($store, $method)) {
                $verbs[$verb] = $method;
            }
        }
        foreach ($verbs as $verb => $method) {
            $this->table->$verb = fn (mixed $user, CData $ask, CData $reply): int => $this->call($verb, $method, $ask, $reply);
        }
        foreach (['shared' => 'shared', 'permits' => 'permits', 'frees_on_death' => 'freesOnDeath', 'survives_restart' => 'survivesRestart'] as $field => $property) {
            $this->table->$field = (int) ($store->$property ?? false);
        }
        foreach (['fence', 'scope'] as $field) {
            $word = $store->$field ?? null;
            if ($word !== null) {
                $this->kept[] = $bytes = $native->copy((string) $word);
                $place = \FFI::addr($bytes);
                $this->table->$field = $native->ffi->cast('char *', $place);
            }
        }
    }

    /** What is thrown must not leave through C. */
    private function call(string $verb, string $method, CData $ask, CData $reply): int
    {
        self::$thrown = null;
        try {
            return $this->answer($verb, $method, $this->question($ask), $ask, $reply);
        } catch (\Throwable $thrown) {
            if ($verb === 'change_mode' && $thrown instanceof LockLost) {
                return Code::LOST;
            }
            self::$thrown = $thrown;
            $words = \substr($thrown->getMessage(), 0, $reply->words_size - 1) . "\0";
            \FFI::memcpy($reply->words, $words, \strlen($words));
            if ($thrown instanceof SynlockException && $thrown->getCode() >= 100) {
                return $thrown->getCode();
            }

            return \in_array($verb, ['is_held', 'inspect', 'list', 'ping'], true) ? Code::UNAVAILABLE : Code::UNCERTAIN;
        }
    }

    private function question(CData $ask): Ask
    {
        // FFI would look for a NUL behind the name: size, name, length.
        $name = $this->native->ffi->cast('char **', $ask)[1];

        return new Ask(
            $ask->name_length > 0 ? \FFI::string($name, $ask->name_length) : '',
            $ask->owner,
            self::MODES[$ask->mode],
            $ask->permits_take,
            $ask->permits_of,
            $ask->ttl_ms > 0 ? $ask->ttl_ms / 1000 : null,
            $ask->time_ms >= 0 ? $ask->time_ms / 1000 : null,
            $ask->label,
            $ask->waits === 1,
        );
    }

    private function answer(string $verb, string $method, Ask $question, CData $ask, CData $reply): int
    {
        $said = $this->store->$method($question);
        switch ($verb) {
            case 'attempt':
            case 'change_mode':
                return self::attempt($said, $reply);
            case 'ping':
                return Code::OK;
            case 'inspect':
                foreach ($said as $holder) {
                    $this->add($reply, $ask, $question->name, $holder, null);
                }

                return Code::OK;
            case 'list':
                foreach ($said as $found) {
                    foreach ($found->holders as $holder) {
                        $this->add($reply, $ask, $found->name, $holder, $found->waiters);
                    }
                }

                return Code::OK;
            case 'break_lock':
                return $said ? Code::OK : Code::NOT_HELD;
            default:
                return $said ? Code::OK : Code::LOST;
        }
    }

    private static function attempt(Attempt|bool $said, CData $reply): int
    {
        if (\is_bool($said)) {
            return $said ? Code::OK : Code::BUSY;
        }
        $milliseconds = static fn (?float $seconds): int => $seconds === null ? -1 : Native::milliseconds(\max(0.0, $seconds), 'a time');
        $reply->fencing_token = $said->fencingToken ?? 0;
        $reply->recovered = (int) $said->recovered;
        $reply->until_ms = $milliseconds($said->until);
        $reply->poll_ms = $milliseconds($said->poll);

        return $said->granted ? Code::OK : Code::BUSY;
    }

    private function add(CData $reply, CData $ask, string $name, Holder $holder, ?int $waiters): void
    {
        $row = $this->native->sized('synlock_holder');
        $kept = [];
        foreach (['name' => $name, 'owner' => $holder->owner, 'mode' => $holder->mode, 'host' => $holder->host, 'label' => $holder->label] as $field => $text) {
            if ($text !== null) {
                $kept[] = $bytes = $this->native->copy($text);
                $place = \FFI::addr($bytes);
                $row->$field = $this->native->ffi->cast('char *', $place);
            }
        }
        $milliseconds = static fn (?float $seconds): int => $seconds === null ? -1 : Native::milliseconds(\max(0.0, $seconds), 'a time');
        $row->name_length = \strlen($name);
        $row->remaining_ms = $milliseconds($holder->remaining);
        $row->held_ms = $milliseconds($holder->held);
        $row->fencing_token = $holder->fencingToken ?? 0;
        $row->waiters = $waiters ?? -1;
        $row->permits = $holder->permits;
        $row->pid = $holder->pid ?? 0;
        $place = \FFI::addr($row);
        $status = $this->native->ffi->synlock_reply_add($reply, $ask, $place, null);
        unset($kept); // read by now
        if ($status !== Code::OK) {
            throw Native::invalid("the store told of a holder that is none (status {$status})");
        }
    }
}
