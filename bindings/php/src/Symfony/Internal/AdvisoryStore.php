<?php

declare(strict_types=1);

namespace Synlock\Symfony\Internal;

use Synlock\Store;
use Synlock\Symfony\Exception\InvalidArgumentException;
use Synlock\Symfony\SynlockStore;

/**
 * A store of PostgreSQL's advisory locks: in sessions of synlock's own where a DSN tells where, otherwise in the
 * session of a connection of the program.
 *
 * @internal
 */
abstract class AdvisoryStore extends SynlockStore
{
    private ?Store $store = null;
    private readonly ?Sql $sql;

    /** @param array<string, mixed> $options `db_username`, `db_password` */
    public function __construct(private readonly object|string $connection, private readonly array $options = [])
    {
        $this->sql = match (true) {
            \is_string($connection) => null,
            $connection instanceof \PDO => new PdoSql($connection),
            default => new DbalSql($connection),
        };
        if ($this->sql !== null && $this->sql->engine() !== 'pgsql') {
            throw new InvalidArgumentException(\sprintf('%s takes connections to PostgreSQL, not of "%s".', static::class, $this->sql->engine()));
        }
        parent::__construct('');
    }

    protected function storeFor(string $name): Store
    {
        if ($this->sql === null) {
            return $this->store ??= $this->own();
        }
        $locks = Advisory::of($this->sql);
        $locks->check();

        return $this->store ??= $locks->open();
    }

    private function own(): Store
    {
        $dsn = \preg_replace('~^([a-z]+)\+advisory:~', '$1:', $this->connection);
        $place = Url::database($dsn, $this->options, '+advisory');
        if ($place === null || !\str_starts_with($place[0], 'postgres')) {
            throw new InvalidArgumentException(\sprintf('%s takes a DSN of PostgreSQL.', static::class));
        }

        return Store::open($place[0], $place[1] + ['dialect' => 'symfony']);
    }
}
