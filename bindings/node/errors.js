// The error classes, made from the core's table of codes.
'use strict';

const native = require('./native.js');

class SynlockError extends Error {
  constructor(message, outcome = {}, options) {
    super(message, options);
    const row = table.get(outcome.status) ?? { name: 'INTERNAL', status: 900, retriable: false };
    this.code = `SYNLOCK_${row.name}`;
    this.status = row.status;
    this.retriable = row.retriable;
    for (const key of ['store', 'resource', 'operation']) {
      if (outcome[key] != null) this[key] = outcome[key];
    }
  }

  get name() {
    return this.constructor.name;
  }
}

const table = new Map();
const classes = { SynlockError };
for (const row of native.codes()) {
  table.set(row.status, row);
  if (row.class && !classes[row.class]) {
    classes[row.class] = { [row.class]: class extends SynlockError {} }[row.class];
  }
}

function make(outcome, options) {
  const row = table.get(outcome.status);
  const Class = classes[row?.class] ?? SynlockError;
  return new Class(outcome.message ?? row?.text ?? 'unknown status', outcome, options);
}

/** Returns the outcome, or throws what it stands for. */
function check(outcome) {
  if (outcome instanceof Error) throw make({ status: 900, message: outcome.message });
  if (outcome.status !== 0) throw make(outcome);
  return outcome;
}

const statusOf = Object.fromEntries([...table.values()].map((row) => [row.name, row.status]));
const nameOf = new Map([...table.values()].map((row) => [row.status, row.name]));

module.exports = { classes, make, check, statusOf, nameOf };
