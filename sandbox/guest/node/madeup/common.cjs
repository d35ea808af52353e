'use strict';
const { EventEmitter } = require('events');
const TABLE = process.env.TABLE ?? 'none';
class Thing extends EventEmitter {}
exports.handler = async (event) => {
    new Thing().emit(TABLE);
    return { statusCode: 200, body: `${event.version}` };
};
