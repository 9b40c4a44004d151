<?php

declare(strict_types=1);

namespace Synlock\Symfony\Strategy;

require_once __DIR__ . '/../Internal/types.php';

/** All members. */
class UnanimousStrategy implements StrategyInterface
{
    public function isMet(int $numberOfSuccess, int $numberOfItems): bool
    {
        return $numberOfSuccess === $numberOfItems;
    }

    public function canBeMet(int $numberOfFailure, int $numberOfItems): bool
    {
        return $numberOfFailure === 0;
    }
}
