'use strict';

// What the modules of this package show each other, put here by index.js.

exports.tools = undefined;
