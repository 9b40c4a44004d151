<?php

declare(strict_types=1);

namespace Synlock\Guard;

use Synlock\Exception\SynlockException;
use Synlock\Internal\Guard;
use Synlock\Internal\Native;
use Synlock\Store;

/**
 * Named stores, and whether a request is let in by them. Usable in long-lived workers.
 */
final class Guards
{
    /** @var array<string, array{0: Store|\Closure, 1: bool, 2: float|null, 3: float|null}> */
    private array $services = [];
    /** @var array<string, Guard> one for each service that was used */
    private array $guards = [];
    /** Knows the names alone: to find one opens no store. */
    private ?Guard $directory = null;
    private ?string $default = null;

    /**
     * @param array<string, Store|string|\Closure(): Store> $stores  by short name; a string is a URL
     * @param string                                        $dialect how names are made: `native`, `ixarlie` (the
     *                                                               bundle before 2.0) or `ixarlie2` (2.1)
     */
    public function __construct(array $stores = [], private readonly string $dialect = 'native')
    {
        foreach ($stores as $name => $store) {
            $this->add((string) $name, $store);
        }
    }

    private function __clone()
    {
    }

    /**
     * @param string                       $name    such as `default`, `redis.queued`; the first one is the default
     * @param Store|string|\Closure(): Store $store a closure is called when the store is used first
     * @param bool                         $canWait false for a store of one's own that cannot wait: `queue` is refused
     * @param float|null                   $maxWait seconds, for policies that do not say
     * @param float|null                   $ttl     likewise
     */
    public function add(string $name, Store|string|\Closure $store, bool $canWait = true, ?float $maxWait = null, ?float $ttl = null): self
    {
        if ($name === '' || \str_contains($name, "\0") || isset($this->services[$name])) {
            throw Native::invalid("a service called \"{$name}\": its name is empty, contains a NUL, or is there already");
        }
        $this->services[$name] = [\is_string($store) ? Store::open($store) : $store, $canWait, $maxWait, $ttl];
        $this->forget();

        return $this;
    }

    /** Which service is meant by policies that name none. */
    public function setDefault(string $name): self
    {
        $this->default = $name;
        $this->forget();

        return $this;
    }

    /**
     * @return list<string> short names
     */
    public function names(): array
    {
        $names = \array_keys($this->services);

        return \array_map('strval', $names);
    }

    /**
     * The short name of a service, by that or a full one (`synlock.redis.queued`,
     * `ixarlie_mutex.redis_factory.queued`); of the default one if null.
     *
     * @throws SynlockException `InvalidArgument`
     */
    public function find(?string $name = null): string
    {
        if ($name !== null && isset($this->services[$name])) {
            return $name;
        }

        return $this->names()[$this->directory()->find($name)];
    }

    /** The store of a service. */
    public function store(?string $name = null): Store
    {
        $name = $this->find($name);
        if (!$this->services[$name][0] instanceof Store) {
            $this->services[$name][0] = ($this->services[$name][0])();
        }

        return $this->services[$name][0];
    }

    /**
     * The name of the lock that a request is about; asks no store.
     *
     * @throws SynlockException `InvalidArgument`, `Unsupported`
     */
    public function name(MutexRequest $policy, Request $request): string
    {
        return $this->guard($this->find($policy->service))->name($policy, $request);
    }

    /**
     * Applies the policy to the request.
     *
     * @throws MutexException    if the request is refused
     * @throws SynlockException for trouble of the store, or a policy that does not fit
     */
    public function enter(MutexRequest $policy, Request $request): Admission
    {
        $service = $this->find($policy->service);
        [, , $maxWait, $ttl] = $this->services[$service];

        return $this->guard($service)->enter($this->store($service), $service, $policy, $request, $maxWait, $ttl);
    }

    private function forget(): void
    {
        $this->guards = [];
        $this->directory = null;
    }

    private function directory(): Guard
    {
        if ($this->directory === null || $this->directory->hasEnded()) {
            $directory = new Guard($this->dialect);
            $nowhere = Store::open('null:');
            foreach ($this->names() as $name) {
                $directory->add($nowhere, $name, true);
            }
            if ($this->default !== null) {
                $directory->setDefault($this->default);
            }
            $this->directory = $directory;
        }

        return $this->directory;
    }

    /** One that was made in the request before is gone with it. */
    private function guard(string $service): Guard
    {
        if (!isset($this->guards[$service]) || $this->guards[$service]->hasEnded()) {
            $guard = new Guard($this->dialect);
            $guard->add($this->store($service), $service, $this->services[$service][1]);
            $this->guards[$service] = $guard;
        }

        return $this->guards[$service];
    }
}
