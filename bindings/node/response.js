'use strict';

// Tells when a response of Node's is about to be over, for request guards: a client may ask again as soon as it has
// the last byte, so the lock goes before that byte does.

const WITHOUT_BODY = new Set([204, 304]);

/** `Content-Length` of what `writeHead` or `setHeader` was given; undefined if there is none. */
function lengthOf(response, headers) {
  let found;
  if (Array.isArray(headers)) {
    const pairs = Array.isArray(headers[0]) ? headers : headers.map((name, at) => [name, headers[at + 1]]).filter((_, at) => at % 2 === 0);
    found = pairs.find(([name]) => String(name).toLowerCase() === 'content-length')?.[1];
  } else if (headers) {
    found = Object.entries(headers).find(([name]) => name.toLowerCase() === 'content-length')?.[1];
  }
  found ??= response.getHeader('content-length');
  return found === undefined ? undefined : Number(found);
}

function sizeOf(chunk, encoding) {
  if (chunk === undefined || chunk === null || typeof chunk === 'function') return 0;
  return typeof chunk === 'string' ? Buffer.byteLength(chunk, typeof encoding === 'string' ? encoding : 'utf8') : chunk.byteLength;
}

/**
 * Calls `finish` once, before the piece with the last byte is passed on. If that returns a promise, the piece and
 * what comes after it wait for that, in their order.
 */
function watch(response, method, finish) {
  const { write, end, writeHead, flushHeaders } = response;
  let left;
  let known = false;
  let over = false;
  /** What waits, in its order; nothing if nothing does. */
  let waiting;
  let ended = false;

  const know = (headers) => {
    known = true;
    left = lengthOf(response, headers);
    if (method === 'HEAD' || WITHOUT_BODY.has(response.statusCode)) left = 0;
  };

  /** Passes on, at once or when the lock is gone. */
  const pass = (isLast, call) => {
    if (isLast && !over) {
      over = true;
      const gone = finish();
      if (gone) {
        const mine = (waiting = []);
        const go = () => {
          waiting = undefined;
          for (const later of mine) later();
        };
        gone.then(go, go);
      }
    }
    if (waiting === undefined) return call();
    waiting.push(call);
    return undefined;
  };

  response.writeHead = function (...words) {
    if (waiting) return pass(false, () => writeHead.apply(response, words)) ?? response;
    const made = writeHead.apply(response, words);
    const last = words[words.length - 1];
    // Node calls it itself if nobody has, with the first piece.
    if (!known) know(typeof last === 'object' ? last : undefined);
    return made;
  };
  if (flushHeaders) {
    response.flushHeaders = function () {
      if (!known) know();
      pass(left === 0, () => flushHeaders.call(response));
    };
  }
  response.write = function (chunk, encoding, callback) {
    if (!known) know();
    if (left !== undefined) left -= sizeOf(chunk, encoding);
    const isLast = left !== undefined && left <= 0;
    const done = pass(isLast, () => {
      const more = write.call(response, chunk, encoding, callback);
      // Whoever was told to wait is told to go on.
      if (more && isLast) response.emit('drain');
      return more;
    });
    return done ?? false;
  };
  response.end = function (chunk, encoding, callback) {
    if (ended && waiting) return response;
    ended = true;
    pass(true, () => end.call(response, chunk, encoding, callback));
    return response;
  };
  Object.defineProperty(response, 'writableEnded', {
    configurable: true,
    get: () => (ended && waiting !== undefined) || response.finished === true,
  });
}

module.exports = { watch };
