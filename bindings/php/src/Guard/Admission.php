<?php

declare(strict_types=1);

namespace Synlock\Guard;

use Synlock\Exception\SynlockException;
use Synlock\Holder;
use Synlock\Internal\Native;
use Synlock\Lock;

/** A request that was let in, and what it holds. */
final class Admission
{
    private ?float $held = null;
    private readonly int $since;
    private readonly Native $native;

    /**
     * @param string       $name    of the lock
     * @param string       $service short name of the store's service
     * @param Lock|null    $lock    what is held; null in the mode `check`
     * @param float        $waited  seconds
     * @param list<Holder> $broken  from whom `force` took the lock
     */
    public function __construct(
        public readonly MutexRequest $policy,
        public readonly string $name,
        public readonly string $service,
        public readonly ?Lock $lock,
        public readonly float $waited,
        public readonly int $attempts,
        public readonly array $broken,
    ) {
        $this->since = \hrtime(true);
        $this->native = Native::current();
    }

    /** For how long it has been, or was, held, in seconds. */
    public function held(): float
    {
        return $this->held ?? ($this->lock === null ? 0.0 : (\hrtime(true) - $this->since) / 1e9);
    }

    public function isReleased(): bool
    {
        return $this->held !== null;
    }

    /**
     * Gives the lock back; nothing the second time, nor if nothing is held, nor if the end of the request did it.
     *
     * @throws SynlockException `LockLost` if it was lost meanwhile, trouble of the store
     */
    public function release(): void
    {
        if ($this->held !== null) {
            return;
        }
        $this->held = $this->held();
        if (!$this->native->ended || !$this->policy->autoRelease) {
            $this->lock?->release();
        }
    }
}
