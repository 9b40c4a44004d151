<?php

declare(strict_types=1);

namespace Synlock\Guard\Psr15;

use Psr\Http\Message\StreamInterface;

/**
 * A body that tells when it has been read: before its last byte is handed on, since the client may ask again as
 * soon as it has that; at the latest when it is closed, breaks, or nobody has it any more.
 *
 * Parameters have no types, so that it fits the interfaces of psr/http-message 1 and 2.
 *
 * @internal
 */
final class Body implements StreamInterface
{
    /**
     * @param \Closure(): void $finished called once
     */
    public function __construct(private readonly StreamInterface $body, private ?\Closure $finished)
    {
    }

    public function __destruct()
    {
        $this->finish();
    }

    private function __clone()
    {
    }

    public function __toString(): string
    {
        $text = $this->reading(fn (): string => (string) $this->body);
        $this->finish();

        return $text;
    }

    public function close(): void
    {
        $this->finish();
        $this->body->close();
    }

    /** @return resource|null whoever takes the stream away keeps this object until it has been sent */
    public function detach()
    {
        return $this->body->detach();
    }

    public function getSize(): ?int
    {
        return $this->body->getSize();
    }

    public function tell(): int
    {
        return $this->body->tell();
    }

    public function eof(): bool
    {
        $end = $this->body->eof();
        if ($end) {
            $this->finish();
        }

        return $end;
    }

    public function isSeekable(): bool
    {
        return $this->body->isSeekable();
    }

    public function seek($offset, $whence = \SEEK_SET): void
    {
        $this->body->seek($offset, $whence);
    }

    public function rewind(): void
    {
        $this->body->rewind();
    }

    public function isWritable(): bool
    {
        return $this->body->isWritable();
    }

    public function write($string): int
    {
        return $this->body->write($string);
    }

    public function isReadable(): bool
    {
        return $this->body->isReadable();
    }

    public function read($length): string
    {
        $bytes = $this->reading(fn (): string => $this->body->read($length));
        if ($this->finished !== null && $this->isAtEnd()) {
            $this->finish();
        }

        return $bytes;
    }

    public function getContents(): string
    {
        $text = $this->reading($this->body->getContents(...));
        $this->finish();

        return $text;
    }

    public function getMetadata($key = null)
    {
        return $this->body->getMetadata($key);
    }

    /** A stream may have handed out its last byte and learn only from the next read that it was the last. */
    private function isAtEnd(): bool
    {
        if ($this->body->eof()) {
            return true;
        }
        $size = self::size($this->body);

        return $size !== null && $this->body->tell() >= $size;
    }

    /** How long a body is, if that is known: of pipes and sockets some implementations say 0. */
    public static function size(StreamInterface $body): ?int
    {
        return $body->isSeekable() ? $body->getSize() : null;
    }

    /** A body that breaks will not be read to its end. */
    private function reading(\Closure $read): string
    {
        try {
            return $read();
        } catch (\Throwable $broken) {
            $this->finish();
            throw $broken;
        }
    }

    private function finish(): void
    {
        [$finished, $this->finished] = [$this->finished, null];
        if ($finished !== null) {
            $finished();
        }
    }
}
