<?php

declare(strict_types=1);

namespace Synlock\Symfony\Internal;

use Doctrine\DBAL\Schema\Schema;
use Synlock\Exception\SynlockException;
use Synlock\Store;
use Synlock\Symfony\Exception\InvalidArgumentException;
use Synlock\Symfony\Exception\InvalidTtlException;
use Synlock\Symfony\SynlockStore;

/**
 * A store on Symfony's table: over a connection of synlock's own where a DSN says all that this needs, otherwise
 * by way of a connection of the program.
 *
 * @internal
 */
abstract class TableStore extends SynlockStore
{
    private ?Table $table = null;
    private ?Store $store = null;

    /**
     * @param object|string        $connection a PDO, a connection of Doctrine, a DSN
     * @param array<string, mixed> $options
     *
     * @throws InvalidArgumentException
     */
    public function __construct(
        private readonly object|string $connection,
        private readonly array $options,
        private readonly float $gcProbability,
        int $initialTtl,
    ) {
        if (!($gcProbability >= 0 && $gcProbability <= 1)) {
            throw new InvalidArgumentException(\sprintf('The gcProbability of %s lies between 0 and 1, unlike %s.', static::class, $gcProbability));
        }
        if ($initialTtl < 1) {
            throw new InvalidTtlException(\sprintf('%s expects an initial TTL of a second at least, not %d.', static::class, $initialTtl));
        }
        if (!\is_string($connection)) {
            $this->table = new Table(Connect::wrap($connection), $options, $gcProbability);
        }
        parent::__construct('', [], $initialTtl);
    }

    /**
     * Makes the table, if it is not there.
     *
     * @throws \PDOException if that fails
     */
    public function createTable(): void
    {
        try {
            $store = $this->storeFor('');
            $this->table === null ? $store->createTable() : $this->table->create();
        } catch (SynlockException $trouble) {
            throw new \PDOException($trouble->getMessage(), 0, $trouble);
        }
    }

    /** Adds the table to a schema of Doctrine, for migrations. */
    public function configureSchema(Schema $schema, ?\Closure $isSameDatabase = null): void
    {
        $name = $this->options['db_table'] ?? 'lock_keys';
        $own = $this->connection;
        $isOther = $isSameDatabase !== null && $own instanceof \Doctrine\DBAL\Connection && !$isSameDatabase($own->executeStatement(...));
        if ($isOther || $schema->hasTable($name)) {
            return;
        }
        $id = $this->options['db_id_col'] ?? 'key_id';
        $table = $schema->createTable($name);
        $table->addColumn($id, 'string', ['length' => 64]);
        $table->addColumn($this->options['db_token_col'] ?? 'key_token', 'string', ['length' => 44]);
        $table->addColumn($this->options['db_expiration_col'] ?? 'key_expiration', 'integer', ['unsigned' => true]);
        $table->setPrimaryKey([$id]);
    }

    protected function storeFor(string $name): Store
    {
        $this->table?->check();
        if ($this->store !== null) {
            return $this->store;
        }
        if ($this->table === null) {
            $place = Url::database($this->connection, $this->options);
            $table = Url::table($this->options, (string) Url::engine($this->connection));
            if ($place !== null && $table !== null) {
                return $this->store = Store::open($place[0], $place[1] + $table);
            }
            $this->table = new Table(Connect::to($this->connection, $this->options), $this->options, $this->gcProbability);
            $this->table->check();
        }

        return $this->store = $this->table->open();
    }

    protected function inheritable(): ?Inheritable
    {
        return $this->table;
    }
}
