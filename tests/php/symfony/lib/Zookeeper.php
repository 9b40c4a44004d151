<?php

// As much of the class of the Zookeeper extension, which Debian does not have, as a store of locks calls; it speaks
// the protocol with a real server.

declare(strict_types=1);

class ZookeeperException extends \Exception
{
}

class Zookeeper
{
    /** @var resource */
    private $socket;
    private int $xid = 0;

    public function __construct(string $host)
    {
        $this->socket = stream_socket_client('tcp://' . explode(',', $host)[0]);
        $this->send(pack('NJNJ', 0, 0, 10_000, 0) . self::text(str_repeat("\0", 16)));
        $this->read();
    }

    public function create(string $path, string $value, array $acls, int $flags): string
    {
        $list = implode('', array_map(static fn (array $acl): string => pack('N', $acl['perms']) . self::text($acl['scheme']) . self::text($acl['id']), $acls));

        return substr($this->ask(1, self::text($path) . self::text($value) . pack('N', count($acls)) . $list . pack('N', $flags)), 4);
    }

    public function get(string $path): string
    {
        $answer = $this->ask(4, self::text($path) . "\0");

        return substr($answer, 4, unpack('N', $answer)[1]);
    }

    public function delete(string $path, int $version = -1): bool
    {
        $this->ask(2, self::text($path) . pack('N', $version));

        return true;
    }

    private function ask(int $type, string $body): string
    {
        $this->send(pack('NN', ++$this->xid, $type) . $body);
        $answer = $this->read();
        $code = unpack('N', $answer, 12)[1];
        if ($code !== 0) {
            throw new ZookeeperException("error {$code}", $code - 0x100000000);
        }

        return substr($answer, 16);
    }

    private function send(string $packet): void
    {
        fwrite($this->socket, self::text($packet));
    }

    private function read(): string
    {
        return stream_get_contents($this->socket, unpack('N', stream_get_contents($this->socket, 4))[1]);
    }

    private static function text(string $bytes): string
    {
        return pack('N', strlen($bytes)) . $bytes;
    }
}
