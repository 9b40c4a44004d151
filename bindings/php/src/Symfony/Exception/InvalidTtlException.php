<?php

declare(strict_types=1);

namespace Synlock\Symfony\Exception;

if (\class_exists(\Symfony\Component\Lock\Exception\InvalidTtlException::class)) {
    \class_alias(\Symfony\Component\Lock\Exception\InvalidTtlException::class, InvalidTtlException::class);
} else {
    class InvalidTtlException extends InvalidArgumentException implements ExceptionInterface
    {
    }
}

require_once __DIR__ . '/../Internal/types.php';
