<?php

declare(strict_types=1);

namespace Synlock\Exception;

/**
 * Every error of synlock is one of these. `getCode()` is the number of the status, the same in
 * every language.
 */
class SynlockException extends \RuntimeException
{
    /**
     * @param string      $status    name of the status, as in `TIMEOUT`
     * @param string|null $store     URL of the store without credentials
     * @param bool        $retriable whether the same call may succeed when it is made again later
     */
    final public function __construct(
        string $message,
        int $code = 0,
        private readonly string $status = '',
        private readonly ?string $store = null,
        private readonly bool $retriable = false,
        ?\Throwable $previous = null,
    ) {
        parent::__construct($message, $code, $previous);
    }

    public function getStatus(): string
    {
        return $this->status;
    }

    public function getStore(): ?string
    {
        return $this->store;
    }

    public function isRetriable(): bool
    {
        return $this->retriable;
    }
}
