<?php

// What Laravel 13 declares where synlock extends it: signatures, and as much of the bodies as is called.

declare(strict_types=1);

namespace Illuminate\Contracts\Cache {
    interface Lock
    {
        public function get($callback = null);

        public function block($seconds, $callback = null);

        public function release();

        public function owner();

        public function forceRelease();
    }

    interface LockProvider
    {
        public function lock($name, $seconds = 0, $owner = null);

        public function restoreLock($name, $owner);
    }

    class LockTimeoutException extends \Exception
    {
    }

    interface Store
    {
        public function get($key);

        public function many(array $keys);

        public function put($key, $value, $seconds);

        public function putMany(array $values, $seconds);

        public function increment($key, $value = 1);

        public function decrement($key, $value = 1);

        public function forever($key, $value);

        public function touch($key, $seconds);

        public function forget($key);

        public function flush();

        public function getPrefix();
    }
}

namespace Illuminate\Cache {
    abstract class Lock implements \Illuminate\Contracts\Cache\Lock
    {
        protected $name;
        protected $seconds;
        protected $owner;
        protected $sleepMilliseconds = 250;

        public function __construct($name, $seconds, $owner = null)
        {
            [$this->name, $this->seconds, $this->owner] = [$name, $seconds, $owner ?? 'sixteen letters '];
        }

        abstract public function acquire();

        abstract public function release();

        abstract protected function getCurrentOwner();

        public function get($callback = null)
        {
            return $this->acquire();
        }

        public function block($seconds, $callback = null)
        {
            throw new \LogicException('synlock has its own');
        }

        public function refresh($seconds = null)
        {
            throw new \RuntimeException('This lock driver does not support refreshing locks.');
        }

        public function owner()
        {
            return $this->owner;
        }

        public function isLocked()
        {
            return $this->getCurrentOwner() !== null;
        }

        public function isOwnedByCurrentProcess()
        {
            return $this->isOwnedBy($this->owner);
        }

        public function isOwnedBy($owner)
        {
            return $this->getCurrentOwner() === $owner;
        }

        public function betweenBlockedAttemptsSleepFor($milliseconds)
        {
            return $this;
        }
    }

    abstract class TaggableStore implements \Illuminate\Contracts\Cache\Store
    {
        public function tags($names)
        {
            throw new \LogicException('synlock has its own');
        }
    }
}
