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
    private ?Sql $sql = null;
    private ?Advisory $locks = null;

    /** @param array<string, mixed> $options `db_username`, `db_password` */
    public function __construct(private readonly object|string $connection, private readonly array $options = [])
    {
        if (!\is_string($connection)) {
            $this->sql = Connect::wrap($connection);
            if ($this->sql->engine() !== 'pgsql') {
                throw new InvalidArgumentException(\sprintf('%s takes connections to PostgreSQL, not of "%s".', static::class, $this->sql->engine()));
            }
        }
        parent::__construct('');
    }

    protected function storeFor(string $name): Store
    {
        if ($this->sql === null) {
            $this->store ??= $this->own();
            if ($this->store !== null) {
                return $this->store;
            }
            $this->sql = Connect::to($this->dsn(), $this->options);
        }
        $this->locks ??= new Advisory($this->sql);
        $this->locks->check();

        return $this->store ??= $this->locks->open();
    }

    /** Null if only the program's kind of connection can be opened by the DSN. */
    private function own(): ?Store
    {
        if (Url::engine($this->dsn()) !== 'pgsql') {
            throw new InvalidArgumentException(\sprintf('%s takes a DSN of PostgreSQL.', static::class));
        }
        $place = Url::database($this->dsn(), $this->options, '+advisory');

        return $place === null ? null : Store::open($place[0], $place[1] + ['dialect' => 'symfony']);
    }

    private function dsn(): string
    {
        return \preg_replace('~^([a-z]+)\+advisory:~', '$1:', $this->connection);
    }
}
