<?php

declare(strict_types=1);

namespace Synlock\Guard;

use Synlock\Holder;

/** A request was refused: somebody holds the lock. */
final class MutexException extends \RuntimeException
{
    /**
     * @param MutexRequest $policy  by which it was refused
     * @param string       $name    of the lock
     * @param string       $service short name of the store's service
     * @param list<Holder> $holders who held it, if the store tells
     * @param float        $waited  seconds
     */
    public function __construct(
        private readonly MutexRequest $policy,
        private readonly string $name,
        private readonly string $service,
        private readonly ?int $retryAfter,
        private readonly array $holders,
        private readonly float $waited = 0.0,
        private readonly int $attempts = 0,
    ) {
        parent::__construct($policy->message, $policy->status);
    }

    public function getStatusCode(): int
    {
        return $this->policy->status;
    }

    /** Domain for the translation of the message; null: it is not translated. */
    public function getDomain(): ?string
    {
        return $this->policy->domain;
    }

    /** Seconds after which the holder's lease is over; null if unknown. */
    public function getRetryAfter(): ?int
    {
        return $this->retryAfter;
    }

    /**
     * Headers of the answer.
     *
     * @return array<string, string>
     */
    public function getHeaders(): array
    {
        return $this->retryAfter === null ? [] : ['Retry-After' => (string) $this->retryAfter];
    }

    public function getPolicy(): MutexRequest
    {
        return $this->policy;
    }

    public function getLockName(): string
    {
        return $this->name;
    }

    public function getService(): string
    {
        return $this->service;
    }

    /**
     * @return list<Holder>
     */
    public function getHolders(): array
    {
        return $this->holders;
    }

    /** How long it had waited, in seconds. */
    public function getWaited(): float
    {
        return $this->waited;
    }

    /** How many acquires came to nothing; none in the mode `check`. */
    public function getAttempts(): int
    {
        return $this->attempts;
    }
}
