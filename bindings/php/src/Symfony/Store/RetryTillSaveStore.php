<?php

declare(strict_types=1);

namespace Synlock\Symfony\Store;

use Synlock\Symfony\BlockingStoreInterface;
use Synlock\Symfony\Exception\InvalidArgumentException;
use Synlock\Symfony\Exception\LockConflictedException;
use Synlock\Symfony\Key;
use Synlock\Symfony\PersistingStoreInterface;

require_once __DIR__ . '/../Internal/types.php';

/** Asks a store again and again; one that can wait, and may for ever, is left to it. */
class RetryTillSaveStore implements BlockingStoreInterface
{
    private ?object $logger = null;

    /**
     * @param int $retrySleep milliseconds between two questions, a tenth more or less
     * @param int $retryCount how many questions follow the first
     */
    public function __construct(
        private readonly PersistingStoreInterface $decorated,
        private readonly int $retrySleep = 100,
        private readonly int $retryCount = \PHP_INT_MAX,
    ) {
        if ($retrySleep < 0 || $retryCount < 0) {
            throw new InvalidArgumentException('The pause and the number of retries are not negative.');
        }
    }

    /** @param object|null $logger a PSR-3 logger */
    public function setLogger(?object $logger): void
    {
        $this->logger = $logger;
    }

    public function save(Key $key): void
    {
        $this->decorated->save($key);
    }

    public function waitAndSave(Key $key): void
    {
        if ($this->decorated instanceof BlockingStoreInterface && $this->retryCount === \PHP_INT_MAX) {
            $this->decorated->waitAndSave($key);

            return;
        }
        for ($retry = 0; ; ++$retry) {
            try {
                $this->decorated->save($key);

                return;
            } catch (LockConflictedException $conflict) {
                if ($retry >= $this->retryCount) {
                    $this->logger?->log('warning', 'Failed to store the "{resource}" lock. Abort after {retry} retries.', ['resource' => $key, 'retry' => $retry]);
                    throw $conflict;
                }
                $jitter = \intdiv($this->retrySleep, 10);
                \usleep(($this->retrySleep + \random_int(-$jitter, $jitter)) * 1000);
            }
        }
    }

    public function putOffExpiration(Key $key, float $ttl): void
    {
        $this->decorated->putOffExpiration($key, $ttl);
    }

    public function delete(Key $key): void
    {
        $this->decorated->delete($key);
    }

    public function exists(Key $key): bool
    {
        return $this->decorated->exists($key);
    }
}
