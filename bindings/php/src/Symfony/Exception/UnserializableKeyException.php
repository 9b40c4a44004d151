<?php

declare(strict_types=1);

namespace Synlock\Symfony\Exception;

if (\class_exists(\Symfony\Component\Lock\Exception\UnserializableKeyException::class)) {
    \class_alias(\Symfony\Component\Lock\Exception\UnserializableKeyException::class, UnserializableKeyException::class);
} else {
    /** The hold of the key cannot leave this process. */
    class UnserializableKeyException extends \RuntimeException implements ExceptionInterface
    {
    }
}

require_once __DIR__ . '/../Internal/types.php';
