<?php

declare(strict_types=1);

namespace Synlock\Symfony\Exception;

if (\class_exists(\Symfony\Component\Lock\Exception\LockConflictedException::class)) {
    \class_alias(\Symfony\Component\Lock\Exception\LockConflictedException::class, LockConflictedException::class);
} else {
    /** Somebody else has the lock. */
    class LockConflictedException extends \RuntimeException implements ExceptionInterface
    {
    }
}

require_once __DIR__ . '/../Internal/types.php';
