<?php

declare(strict_types=1);

namespace Synlock\Symfony\Internal;

use Synlock\Ask;
use Synlock\Attempt;
use Synlock\CustomStore;

/**
 * Symfony's nodes of locks in ZooKeeper, in the session of a client of the program: the extension does not tell
 * where its server is.
 *
 * @internal
 */
final class Nodes implements CustomStore
{
    private const NO_NODE = -101;
    private const NODE_EXISTS = -110;
    private const EPHEMERAL = 1;
    private const EVERYBODY = [['perms' => 31, 'scheme' => 'world', 'id' => 'anyone']];

    public bool $freesOnDeath = true;
    public bool $survivesRestart = true;
    public string $scope = 'cluster';

    public function __construct(private readonly \Zookeeper $client)
    {
    }

    public function attempt(Ask $ask): Attempt|bool
    {
        try {
            $this->client->create(self::node($ask->name), self::token($ask), self::EVERYBODY, self::EPHEMERAL);

            return true;
        } catch (\ZookeeperException $thrown) {
            if ($thrown->getCode() !== self::NODE_EXISTS) {
                throw $thrown;
            }

            return $this->isHeld($ask) ?: Attempt::busy(poll: 0.05);
        }
    }

    public function release(Ask $ask): bool
    {
        if (!$this->isHeld($ask)) {
            return false;
        }
        try {
            return $this->client->delete(self::node($ask->name));
        } catch (\ZookeeperException $thrown) {
            return $thrown->getCode() === self::NO_NODE ? false : throw $thrown;
        }
    }

    public function isHeld(Ask $ask): bool
    {
        try {
            return $this->client->get(self::node($ask->name)) === self::token($ask);
        } catch (\ZookeeperException $thrown) {
            return $thrown->getCode() === self::NO_NODE ? false : throw $thrown;
        }
    }

    /** 44 characters, as Symfony's. */
    private static function token(Ask $ask): string
    {
        return \base64_encode(\hash('sha256', $ask->owner, true));
    }

    private static function node(string $name): string
    {
        return '/' . (\str_contains($name, '/') ? \strtr($name, '/', '-') . '-' . \sha1($name) : $name);
    }
}
