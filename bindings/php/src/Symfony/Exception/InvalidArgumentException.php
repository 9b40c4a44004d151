<?php

declare(strict_types=1);

namespace Synlock\Symfony\Exception;

if (\class_exists(\Symfony\Component\Lock\Exception\InvalidArgumentException::class)) {
    \class_alias(\Symfony\Component\Lock\Exception\InvalidArgumentException::class, InvalidArgumentException::class);
} else {
    class InvalidArgumentException extends \InvalidArgumentException implements ExceptionInterface
    {
    }
}

require_once __DIR__ . '/../Internal/types.php';
