<?php

declare(strict_types=1);

namespace Synlock;

use FFI\CData;
use Synlock\Exception\SynlockException;
use Synlock\Internal\Native;

/**
 * One owner of any number of exclusive locks, known by its id: Drupal's model. Made by
 * `Store::createSession()`. Its locks end with it: released together, when it is destroyed or the request
 * ends; those of a persistent session outlive it and the process until their leases end.
 *
 * After `pcntl_fork`, a session that held something throws `ForkedHandle` in the child; one that held
 * nothing works there under an id of its own. After the end of a request it goes on as a new one.
 */
final class Session
{
    public const TTL = 30.0;

    private CData $handle;
    private Native $native;

    /**
     * @internal use Store::createSession()
     */
    public function __construct(private readonly Store $store, private readonly ?string $persistent)
    {
        if ($persistent !== null && \str_contains($persistent, "\0")) {
            throw Native::invalid('a NUL in the id of a session');
        }
        $this->native();
    }

    public function __destruct()
    {
        if (isset($this->handle)) {
            $this->native->ffi->synlock_session_free($this->handle);
            $this->store->warn();
        }
    }

    private function __clone()
    {
    }

    public function __serialize(): array
    {
        throw new Exception\Unsupported('a session cannot be serialized', Code::UNSUPPORTED, 'UNSUPPORTED');
    }

    /** The same for the session's whole life. */
    public function id(): string
    {
        return $this->native()->read(
            fn (Native $native, ?CData $buffer, int $size, CData $length): int
                => $native->ffi->synlock_session_id($this->handle, $buffer, $size, $length, $native->errorSlot),
        );
    }

    /** Whether its locks outlive it. */
    public function isPersistent(): bool
    {
        return $this->persistent !== null;
    }

    /**
     * Takes the lock, or renews it if the session holds it. Does not wait.
     *
     * @param float $ttl seconds; a renewal never shortens
     *
     * @return bool false if somebody else holds it; to who held it, that somebody else has it or may have had it
     *
     * @throws SynlockException for trouble of the store
     */
    public function acquire(string $name, float $ttl = self::TTL): bool
    {
        $native = $this->native();
        $ttl = Internal\Options::ttl($ttl);

        $status = $native->ffi->synlock_session_acquire($this->handle, $name, \strlen($name), $ttl, $native->errorSlot);

        return $this->told($status);
    }

    /**
     * Lengthens a hold; false if there is none. A persistent session renews what any process acquired under
     * its id.
     *
     * @throws SynlockException for trouble of the store
     */
    public function renew(string $name, float $ttl = self::TTL): bool
    {
        $native = $this->native();
        $ttl = Internal\Options::ttl($ttl);

        $status = $native->ffi->synlock_session_renew($this->handle, $name, \strlen($name), $ttl, $native->errorSlot);

        return $this->told($status);
    }

    /**
     * Whether an acquire by somebody else would find the lock free now. Breaks a hold whose lease has ended.
     *
     * @throws SynlockException for trouble of the store
     */
    public function mayBeAvailable(string $name): bool
    {
        $native = $this->native();
        $available = $native->ffi->new('int32_t');
        $place = \FFI::addr($available);
        $status = $native->ffi->synlock_session_may_be_available($this->handle, $name, \strlen($name), $place, $native->errorSlot);
        $native->check($status);

        return $available->cdata === 1;
    }

    /**
     * Waits until the lock may be available; takes nothing.
     *
     * @param float $delay seconds
     *
     * @return bool whether it is still held
     *
     * @throws SynlockException for trouble of the store
     */
    public function wait(string $name, float $delay = self::TTL): bool
    {
        return !$this->store->waitFree($name, $delay);
    }

    /**
     * Releases one lock; false if the session did not hold it any more.
     *
     * @throws SynlockException for trouble of the store
     */
    public function release(string $name): bool
    {
        $native = $this->native();

        $status = $native->ffi->synlock_session_release($this->handle, $name, \strlen($name), $native->errorSlot);

        return $this->told($status);
    }

    /**
     * Releases all locks of this session (of a persistent one what this object took, not what others took under
     * its id), or all of that id; how many there were.
     *
     * @throws SynlockException `Unsupported` for the locks of another process that the store cannot find
     */
    public function releaseAll(?string $id = null): int
    {
        if ($id !== null && \str_contains($id, "\0")) {
            throw Native::invalid('a NUL in the id of a session');
        }
        $native = $this->native();
        $count = $native->ffi->new('uint64_t');
        $place = \FFI::addr($count);
        $status = $native->ffi->synlock_session_release_all($this->handle, $id, $place, $native->errorSlot);
        $this->told($status);

        return $count->cdata;
    }

    private function told(int $status): bool
    {
        if ($this->store->isLogged) {
            $this->store->tell();
        }
        if (\in_array($status, [Code::BUSY, Code::LOST, Code::NOT_HELD], true)) {
            $this->native->forget();

            return false;
        }
        $this->native->check($status);

        return true;
    }

    private function native(): Native
    {
        if (!isset($this->native) || $this->native->ended) {
            $native = $this->store->native();
            $options = $native->sized('synlock_session_options');
            $id = $this->persistent === null ? null : $native->copy($this->persistent);
            if ($id !== null) {
                $place = \FFI::addr($id);
                $options->id = $native->ffi->cast('const char *', $place);
            }
            $options->scope = $native->scope;
            $slot = $native->ffi->new('synlock_session *');
            [$how, $place] = [\FFI::addr($options), \FFI::addr($slot)];
            $status = $native->ffi->synlock_session_new($this->store->handle(), $how, $place, $native->errorSlot);
            $native->check($status);
            unset($id); // read by now
            $this->handle = $slot;
            $this->native = $native;
        }

        return $this->native;
    }
}
