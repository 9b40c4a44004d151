<?php

declare(strict_types=1);

namespace Synlock\Symfony\Exception;

if (\class_exists(\Symfony\Component\Lock\Exception\LockAcquiringException::class)) {
    \class_alias(\Symfony\Component\Lock\Exception\LockAcquiringException::class, LockAcquiringException::class);
} else {
    /** The store could not say whether the lock is free. */
    class LockAcquiringException extends \RuntimeException implements ExceptionInterface
    {
    }
}

require_once __DIR__ . '/../Internal/types.php';
