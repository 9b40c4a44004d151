<?php

declare(strict_types=1);

namespace Synlock\Internal;

/**
 * JSON of typed keys for the library, which makes the name of them. Unlike PHP's own it keeps the difference
 * between 1 and 1.0 and carries text that is not UTF-8; of objects it says what PHP's own says.
 *
 * @internal
 */
final class Json
{
    private const DEEPEST = 64;

    public static function of(mixed $value, int $depth = 0): string
    {
        return match (true) {
            $value === null => 'null',
            \is_bool($value) => $value ? 'true' : 'false',
            \is_int($value) => (string) $value,
            \is_float($value) => self::float($value),
            \is_string($value) => self::text($value),
            \is_array($value) || \is_object($value) => self::parts($value, $depth + 1),
            default => throw Native::invalid('a key is made of text, numbers, flags, lists and objects, not of ' . \get_debug_type($value)),
        };
    }

    private static function float(float $value): string
    {
        if (!\is_finite($value)) {
            throw Native::invalid("a key has the number {$value}");
        }

        if ($value === 0.0) {
            return \fdiv(1.0, $value) < 0 ? '-0.0' : '0.0'; // sprintf loses the sign
        }

        // Digits enough to tell it from every other, whatever the ini file and the locale say.
        return \str_replace(',', '.', \sprintf('%.17e', $value));
    }

    private static function text(string $value): string
    {
        return '"' . \preg_replace_callback(
            '/["\\\\\x00-\x1f]/',
            static fn (array $found): string => \sprintf('\u%04x', \ord($found[0])),
            $value,
        ) . '"';
    }

    /** @param array<mixed>|object $value */
    private static function parts(array|object $value, int $depth): string
    {
        if ($depth > self::DEEPEST) {
            throw Native::invalid('a key has lists more than 64 deep');
        }
        if ($value instanceof \JsonSerializable) {
            $told = $value->jsonSerialize();
            if ($told !== $value) {
                return self::of($told, $depth);
            }
        } elseif ($value instanceof \BackedEnum) {
            return self::of($value->value, $depth);
        } elseif ($value instanceof \UnitEnum) {
            throw Native::invalid('a key has a case of ' . $value::class . ', which stands for no text or number');
        }
        $isList = \is_array($value) && \array_is_list($value);
        $parts = [];
        foreach (\is_object($value) ? self::properties($value) : $value as $name => $part) {
            $parts[] = ($isList ? '' : self::text((string) $name) . ':') . self::of($part, $depth);
        }

        return ($isList ? '[' : '{') . \implode(',', $parts) . ($isList ? ']' : '}');
    }

    /**
     * What json_encode() sees of an object.
     *
     * @return array<mixed>
     */
    private static function properties(object $object): array
    {
        $parents = \class_parents($object);
        if (!(new \ReflectionClass(\end($parents) ?: $object))->isInternal()) {
            return \get_object_vars($object);
        }
        // What PHP's own classes, dates and ArrayObject among them, have within is seen by a cast alone.
        return $object instanceof \Closure ? [] : \array_filter(
            (array) $object,
            static fn (int|string $name): bool => $name === '' || ((string) $name)[0] !== "\0",
            \ARRAY_FILTER_USE_KEY,
        );
    }
}
