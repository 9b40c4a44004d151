<?php

declare(strict_types=1);

namespace Synlock\Drupal;

use Drupal\Core\Lock\LockBackendInterface;

// Drupal's interface where Drupal is, and its methods where it is not. Not to be preloaded, since
// nobody knows then.
if (\interface_exists(LockBackendInterface::class)) {
    interface Contract extends LockBackendInterface
    {
    }
} else {
    interface Contract
    {
        /**
         * @param string $name
         * @param float  $timeout seconds
         *
         * @return bool
         */
        public function acquire($name, $timeout = 30.0);

        /**
         * @param string $name
         *
         * @return bool
         */
        public function lockMayBeAvailable($name);

        /**
         * @param string $name
         * @param int    $delay seconds
         *
         * @return bool true if the lock is still held
         */
        public function wait($name, $delay = 30);

        /**
         * @param string $name
         */
        public function release($name);

        /**
         * @param string|null $lockId
         */
        public function releaseAll($lockId = null);

        /**
         * @return string
         */
        public function getLockId();
    }
}
