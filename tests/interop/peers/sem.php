<?php

// PHP's own semaphores: sem.php KEY

declare(strict_types=1);

require __DIR__ . '/turns.php';

$sem = sem_get((int) $argv[1]);
serve(
    static fn (): bool => sem_acquire($sem),
    static fn (): bool => sem_acquire($sem, true),
    static fn (): bool => sem_release($sem),
);
