<?php

declare(strict_types=1);

namespace Synlock\Symfony\Exception;

if (\interface_exists(\Symfony\Component\Lock\Exception\ExceptionInterface::class)) {
    \class_alias(\Symfony\Component\Lock\Exception\ExceptionInterface::class, ExceptionInterface::class);
} else {
    interface ExceptionInterface extends \Throwable
    {
    }
}

require_once __DIR__ . '/../Internal/types.php';
