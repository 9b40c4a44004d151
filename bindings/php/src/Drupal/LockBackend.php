<?php

declare(strict_types=1);

namespace Synlock\Drupal;

use Synlock\Session;
use Synlock\Store;

/**
 * Drupal's lock service (`Drupal\Core\Lock\LockBackendInterface`) on any store of synlock. With
 * `dialect=drupal` it shares the table `semaphore` with Drupal's own backend, and each excludes the other.
 *
 * A renewal is refused once the lock's time is over, whether or not somebody has taken it; Drupal's own
 * revives it. A lock is released when the request ends.
 */
class LockBackend implements Contract
{
    protected readonly Store $store;
    private ?Session $session = null;

    /**
     * @param Store|string $store the store, or its URL
     */
    public function __construct(Store|string $store)
    {
        $this->store = \is_string($store) ? Store::open($store) : $store;
    }

    protected function createSession(): Session
    {
        return $this->store->createSession();
    }

    private function session(): Session
    {
        return $this->session ??= $this->createSession();
    }

    public function acquire($name, $timeout = 30.0): bool
    {
        return $this->session()->acquire((string) $name, \max(0.001, (float) $timeout));
    }

    public function lockMayBeAvailable($name): bool
    {
        return $this->session()->mayBeAvailable((string) $name);
    }

    public function wait($name, $delay = 30): bool
    {
        // Whole seconds, as Drupal's.
        return $this->session()->wait((string) $name, \max(0, (int) $delay));
    }

    public function release($name): void
    {
        $this->session()->release((string) $name);
    }

    public function releaseAll($lockId = null): void
    {
        // Drupal's own does nothing either if this request holds nothing.
        if ($lockId !== null || $this->session !== null) {
            $this->session()->releaseAll($lockId === null ? null : (string) $lockId);
        }
    }

    public function getLockId(): string
    {
        return $this->session()->id();
    }
}
