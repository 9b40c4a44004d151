<?php

declare(strict_types=1);

namespace Synlock\Symfony\Exception;

if (\class_exists(\Symfony\Component\Lock\Exception\LockExpiredException::class)) {
    \class_alias(\Symfony\Component\Lock\Exception\LockExpiredException::class, LockExpiredException::class);
} else {
    /** The lease ran out while it was taken or lengthened. */
    class LockExpiredException extends \RuntimeException implements ExceptionInterface
    {
    }
}

require_once __DIR__ . '/../Internal/types.php';
