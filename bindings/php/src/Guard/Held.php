<?php

declare(strict_types=1);

namespace Synlock\Guard;

use Psr\Log\LoggerInterface;
use Synlock\Exception\SynlockException;

/** What one request was let in with; released at its release points, the latest first. */
final class Held
{
    /** @var list<Admission> */
    private array $admissions = [];
    /** @var list<\Closure(Admission): void> */
    private array $listeners = [];

    /**
     * @param string        $release the release point of policies that name none
     * @param \Closure|null $log     told of a release that failed: (Admission, SynlockException); null: an
     *                               E_USER_WARNING
     */
    public function __construct(
        private readonly string $release = MutexRequest::RELEASE_RESPONSE,
        private readonly ?\Closure $log = null,
    ) {
    }

    /** One that tells a logger, if there is any, of releases that failed. */
    public static function logging(string $release, ?LoggerInterface $logger): self
    {
        return new self($release, $logger === null ? null : static function (Admission $admission, SynlockException $failed) use ($logger): void {
            // Laravel's logger puts nothing in the place of placeholders.
            $logger->error("The lock \"{$admission->name}\" of a request: {$failed->getMessage()}", ['name' => $admission->name, 'exception' => $failed]);
        });
    }

    /**
     * Lets the request in by one more policy. A lock that it holds already is not asked for again.
     *
     * @throws MutexException    if it is refused
     * @throws SynlockException for trouble of the store, or a policy that does not fit
     */
    public function enter(Guards $guards, MutexRequest $policy, Request $request): ?Admission
    {
        $service = $guards->find($policy->service);
        $name = $guards->name($policy, $request);
        foreach ($this->admissions as $held) {
            if ($held->service === $service && $held->name === $name && $held->lock !== null && !$held->isReleased()) {
                return null;
            }
        }

        return $this->admissions[] = $guards->enter($policy, $request);
    }

    /**
     * @return list<Admission>
     */
    public function all(): array
    {
        return $this->admissions;
    }

    /** @param \Closure(Admission): void $listener called after each release */
    public function onRelease(\Closure $listener): void
    {
        $this->listeners[] = $listener;
    }

    /** Whether anything waits for the release point. */
    public function holdsUntil(string $point): bool
    {
        foreach ($this->admissions as $admission) {
            if ($this->isDue($admission, $point)) {
                return true;
            }
        }

        return false;
    }

    /** Releases what is due at the release point. */
    public function release(string $point): void
    {
        foreach (\array_reverse($this->admissions) as $admission) {
            if ($this->isDue($admission, $point)) {
                $this->let($admission);
            }
        }
    }

    /** Releases everything, whatever its release point: the request is over. */
    public function releaseAll(): void
    {
        $this->release(MutexRequest::RELEASE_RESPONSE);
        $this->release(MutexRequest::RELEASE_TERMINATE);
    }

    private function isDue(Admission $admission, string $point): bool
    {
        return $admission->lock !== null
            && !$admission->isReleased()
            && $admission->policy->autoRelease
            && ($admission->policy->release ?? $this->release) === $point;
    }

    /** What has happened cannot be undone by failing the request: it is told. */
    private function let(Admission $admission): void
    {
        try {
            $admission->release();
        } catch (SynlockException $failed) {
            if ($this->log !== null) {
                ($this->log)($admission, $failed);
            } else {
                \trigger_error("synlock: the lock \"{$admission->name}\" of a request: {$failed->getMessage()}", \E_USER_WARNING);
            }
        }
        foreach ($this->listeners as $listener) {
            $listener($admission);
        }
    }
}
