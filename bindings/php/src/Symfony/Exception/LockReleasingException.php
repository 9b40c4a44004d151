<?php

declare(strict_types=1);

namespace Synlock\Symfony\Exception;

if (\class_exists(\Symfony\Component\Lock\Exception\LockReleasingException::class)) {
    \class_alias(\Symfony\Component\Lock\Exception\LockReleasingException::class, LockReleasingException::class);
} else {
    /** The lock could not be let go. */
    class LockReleasingException extends \RuntimeException implements ExceptionInterface
    {
    }
}

require_once __DIR__ . '/../Internal/types.php';
