<?php

declare(strict_types=1);

namespace Synlock\Internal;

use FFI\CData;
use Synlock\Guard\Admission;
use Synlock\Guard\MutexException;
use Synlock\Guard\MutexRequest;
use Synlock\Guard\Request;
use Synlock\Lock;
use Synlock\Store;

/**
 * A handle of a guard; it ends with the request.
 *
 * @internal
 */
final class Guard
{
    private readonly CData $handle;
    private readonly Native $native;

    public function __construct(string $dialect)
    {
        $this->native = Native::current();
        $slot = $this->native->ffi->new('synlock_guard *');
        $place = \FFI::addr($slot);
        $status = $this->native->ffi->synlock_guard_new($dialect, $this->native->scope, $place, $this->native->errorSlot);
        $this->native->check($status);
        $this->handle = $slot;
    }

    public function __destruct()
    {
        if (isset($this->handle) && !$this->native->ended) {
            $this->native->ffi->synlock_guard_free($this->handle);
        }
    }

    public function hasEnded(): bool
    {
        return $this->native->ended;
    }

    public function add(Store $store, string $name, bool $canWait): void
    {
        $store->guard($this->handle, $name, $canWait);
    }

    public function setDefault(string $name): void
    {
        $status = $this->native->ffi->synlock_guard_set_default($this->handle, $name, $this->native->errorSlot);
        $this->native->check($status);
    }

    /** The place of a service in the order of adding. */
    public function find(?string $name): int
    {
        if (\str_contains((string) $name, "\0")) {
            throw Native::invalid('the name of a service contains a NUL');
        }
        $found = $this->native->ffi->new('size_t');
        $place = \FFI::addr($found);
        $status = $this->native->ffi->synlock_guard_find($this->handle, $name, $place, $this->native->errorSlot);
        $this->native->check($status);

        return $found->cdata;
    }

    public function name(MutexRequest $policy, Request $request): string
    {
        $call = $this->describe($policy, $request, null, null);

        return $this->native->read(fn (Native $native, ?CData $buffer, int $size, CData $length): int
            => $native->ffi->synlock_guard_name($this->handle, $call->policy, $call->request, $buffer, $size, $length, $native->errorSlot));
    }

    /**
     * @param float|null $maxWait for policies that do not say
     * @param float|null $ttl     likewise
     *
     * @throws MutexException
     */
    public function enter(Store $store, string $service, MutexRequest $policy, Request $request, ?float $maxWait, ?float $ttl): Admission
    {
        $native = $this->native;
        $name = $this->name($policy, $request);
        $ttl = $policy->ttl ?? $ttl;
        $call = $this->describe($policy, $request, $maxWait, $ttl);
        $lock = $native->ffi->new('synlock_lock *');
        $list = $native->ffi->new('synlock_list *');
        $answer = $native->sized('synlock_guard_answer');
        [$lockPlace, $listPlace, $answerPlace] = [\FFI::addr($lock), \FFI::addr($list), \FFI::addr($answer)];
        try {
            try {
                $status = $native->ffi->synlock_guard_enter(
                    $this->handle,
                    $call->policy,
                    $call->request,
                    null,
                    $lockPlace,
                    $listPlace,
                    $answerPlace,
                    $native->errorSlot,
                );
            } finally {
                $store->tell();
            }
            $native->check($status);
            $holders = (Rows::read($native, $list)[0] ?? null)?->holders ?? [];
            $native->ffi->synlock_list_free($list);
            if ($answer->admitted !== 1) {
                $left = $answer->retry_after_ms;
                $left = $left < 0 ? null : (int) \max(1, ($left + 999) / 1000);

                throw new MutexException($policy, $name, $service, $left, $holders, $answer->waited_ms / 1000, $answer->attempts);
            }
            $held = \FFI::isNull($lock) ? null : $this->own($store, $name, $policy, $ttl, $lock);

            return new Admission($policy, $name, $service, $held, $answer->waited_ms / 1000, $answer->attempts, $holders);
        } catch (\Throwable $thrown) {
            $native->takeBack($lock);
            $native->ffi->synlock_list_free($list);
            throw $thrown;
        }
    }

    private function own(Store $store, string $name, MutexRequest $policy, ?float $ttl, CData $lock): Lock
    {
        // A lease that the store does not have was left out, unless the policy is strict.
        $ttl = $store->capabilities()->ttl ? $ttl : null;

        return new Lock($store, $name, new Options($ttl, $policy->autoRelease, null, null, false, null, null, null, null, null, $policy->label), $lock);
    }

    /** The structs of C, and what they point to. */
    private function describe(MutexRequest $policy, Request $request, ?float $maxWait, ?float $ttl): object
    {
        $native = $this->native;
        $kept = [];
        $put = static function (CData $struct, string $field, ?string $text, bool $sized = true) use ($native, &$kept): void {
            if ($text === null) {
                return;
            }
            if (!$sized && \str_contains($text, "\0")) {
                throw Native::invalid("the {$field} contains a NUL");
            }
            $kept[] = $copy = $native->copy($text);
            $place = \FFI::addr($copy);
            $struct->{$field} = $native->ffi->cast('char *', $place);
            if ($sized) {
                $struct->{"{$field}_length"} = \strlen($text);
            }
        };
        $how = $native->sized('synlock_guard_policy');
        $put($how, 'name', $policy->name);
        $put($how, 'label', $policy->label, false);
        $how->ttl_ms = $ttl === null ? 0 : Options::ttl($ttl);
        $wait = $policy->maxWait ?? $maxWait;
        $how->max_wait_ms = $wait === null ? 0 : \max(1, Native::milliseconds($wait, 'a wait'));
        $how->mode = MutexRequest::MODES[$policy->mode];
        $how->status = $policy->status;
        $how->user_isolation = $policy->userIsolation ? 1 : -1;
        $how->anonymous = MutexRequest::ANONYMOUS[$policy->anonymous];
        $how->auto_release = $policy->autoRelease ? 1 : -1;
        $how->strict = $policy->strict ? 1 : -1;
        $how->scope = $native->scope;

        $what = $native->sized('synlock_guard_request');
        $put($what, 'route', $request->route);
        $put($what, 'path', $request->path);
        $put($what, 'session', $request->session);
        $put($what, 'ip', $request->ip);
        $put($what, 'token', $request->token);
        $what->user = 0;
        if ($request->user !== null) {
            $what->user = $request->user->id === null ? 1 : 2;
            $put($what, 'provider', $request->user->provider);
            $put($what, 'user_id', $request->user->id);
        }
        $count = \count($request->params);
        if ($count > 0) {
            $params = $native->ffi->new("synlock_placeholder[{$count}]");
            $i = 0;
            foreach ($request->params as $name => $value) {
                $put($params[$i], 'name', (string) $name);
                $put($params[$i], 'value', $value);
                ++$i;
            }
            $kept[] = $params;
            $place = \FFI::addr($params);
            $what->params = $native->ffi->cast('synlock_placeholder *', $place);
            $what->param_count = $count;
        }
        $kept[] = $how;
        $kept[] = $what;

        return (object) ['policy' => \FFI::addr($how), 'request' => \FFI::addr($what), 'kept' => $kept];
    }
}
