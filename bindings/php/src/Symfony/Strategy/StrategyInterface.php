<?php

declare(strict_types=1);

namespace Synlock\Symfony\Strategy;

if (\interface_exists(\Symfony\Component\Lock\Strategy\StrategyInterface::class)) {
    \class_alias(\Symfony\Component\Lock\Strategy\StrategyInterface::class, StrategyInterface::class);
} else {
    /** How many members of a combined store must agree. */
    interface StrategyInterface
    {
        public function isMet(int $numberOfSuccess, int $numberOfItems): bool;

        public function canBeMet(int $numberOfFailure, int $numberOfItems): bool;
    }
}

require_once __DIR__ . '/../Internal/types.php';
