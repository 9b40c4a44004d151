'use strict';

try {
  module.exports = require('./synlock.node');
} catch (cause) {
  throw new Error('synlock is not built: run `npm rebuild synlock` (it needs cargo)', { cause });
}
