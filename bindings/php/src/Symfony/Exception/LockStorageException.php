<?php

declare(strict_types=1);

namespace Synlock\Symfony\Exception;

if (\class_exists(\Symfony\Component\Lock\Exception\LockStorageException::class)) {
    \class_alias(\Symfony\Component\Lock\Exception\LockStorageException::class, LockStorageException::class);
} else {
    /** The store is in trouble. */
    class LockStorageException extends \RuntimeException implements ExceptionInterface
    {
    }
}

require_once __DIR__ . '/../Internal/types.php';
