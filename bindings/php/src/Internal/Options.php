<?php

declare(strict_types=1);

namespace Synlock\Internal;

use FFI\CData;

/**
 * The options of a lock, checked as far as the C struct could not carry a mistake.
 *
 * @internal
 */
final class Options
{
    private const REENTRY = ['independent' => 1, 'error' => 2, 'extend' => 3];

    public function __construct(
        public readonly ?float $ttl,
        public readonly ?bool $autoRelease,
        public readonly ?float $timeout,
        public readonly ?bool $renew,
        public readonly bool $shared,
        public readonly ?int $permits,
        public readonly ?int $of,
        public readonly ?bool $fair,
        public readonly ?bool $strict,
        public readonly ?string $reentry,
        public readonly ?string $label,
    ) {
        if ($ttl !== null) {
            self::ttl($ttl);
        }
        if ($timeout !== null) {
            Native::milliseconds($timeout, 'a timeout');
        }
        if (($permits !== null || $of !== null) && ($shared || $of === null || $of < 1 || $of > 0xFFFFFFFF || ($permits ?? 1) < 1 || ($permits ?? 1) > $of)) {
            throw Native::invalid('permits need `of`, the number that there are, at least as many as are taken; and are not shared');
        }
        if ($reentry !== null && !isset(self::REENTRY[$reentry])) {
            throw Native::invalid('reentry is one of ' . \implode(', ', \array_keys(self::REENTRY)));
        }
        if ($label !== null && \str_contains($label, "\0")) {
            throw Native::invalid('the label contains a NUL');
        }
    }

    /** A TTL in milliseconds. Zero would mean "omitted" in C, and is refused here. */
    public static function ttl(float $seconds): int
    {
        if (!($seconds > 0 && $seconds <= 10 * 365 * 86400)) {
            throw Native::invalid("a TTL of {$seconds} seconds: it must lie between a millisecond and ten years");
        }

        return Native::milliseconds($seconds, 'a TTL');
    }

    /**
     * Fills the C struct.
     *
     * @return CData|null the label's bytes, to be kept until the struct was read
     */
    public function fill(CData $struct, Native $native, bool $shared): ?CData
    {
        $struct->ttl_ms = $this->ttl === null ? 0 : self::ttl($this->ttl);
        $struct->timeout_ms = match ($this->timeout) {
            null => 0,
            0.0 => -2,
            \INF => -1,
            default => Native::milliseconds($this->timeout, 'a timeout'),
        };
        $struct->mode = $this->of !== null ? 2 : (int) $shared;
        $struct->permits_take = $this->of !== null ? $this->permits ?? 1 : 0;
        $struct->permits_of = $this->of ?? 0;
        $struct->renew = self::toggle($this->renew);
        $struct->auto_release = self::toggle($this->autoRelease);
        $struct->fair = self::toggle($this->fair);
        $struct->strict = self::toggle($this->strict);
        $struct->reentry = self::REENTRY[$this->reentry] ?? 0;
        $struct->interruptible = 1;
        $struct->scope = $native->scope;
        $struct->label = null;
        if ($this->label === null) {
            return null;
        }
        $label = $native->copy($this->label);
        $place = \FFI::addr($label);
        $struct->label = $native->ffi->cast('char *', $place);

        return $label;
    }

    private static function toggle(?bool $value): int
    {
        return $value === null ? 0 : ($value ? 1 : -1);
    }
}
