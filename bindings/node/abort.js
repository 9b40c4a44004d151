'use strict';

// Whom an abort tells, by signal. One listener for all: Node warns of more than ten on one signal.
const waiting = new WeakMap();

function listenTo(signal) {
  const told = new Set();
  const tell = () => {
    waiting.delete(signal);
    for (const callback of told) callback();
  };
  signal.addEventListener('abort', tell, { once: true });
  const entry = { told, end: () => signal.removeEventListener('abort', tell) };
  waiting.set(signal, entry);
  return entry;
}

/** Calls back once when the signal, if there is one, is given; returns what ends that. */
function onAbort(signal, callback) {
  if (!signal || signal.aborted) return () => {};
  const entry = waiting.get(signal) ?? listenTo(signal);
  entry.told.add(callback);
  return () => {
    entry.told.delete(callback);
    if (entry.told.size > 0 || waiting.get(signal) !== entry) return;
    entry.end();
    waiting.delete(signal);
  };
}

module.exports = { onAbort };
