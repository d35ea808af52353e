// Functions that a stem plays before it gets a real one: what they make Node load and compile need not be done when it counts.
//
// One is a CommonJS and one an ES module, because each kind has a loader of its own that starts with its first file.
'use strict';

const { once } = require('events');
const { Duplex } = require('stream');
const { format } = require('util');
const { Client } = require('./client.js');
const context = require('./context.js');
const log = require('./log.js');
const { Runtime } = require('./runtime.js');

const BODY = '{"version": "2.0", "headers": {"host": "localhost"}, "numbers": [null, true, 1, 1.5]}';
const EVENT =
    'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: 1\r\nLambda-Runtime-Deadline-Ms: 1\r\n' +
    'Lambda-Runtime-Invoked-Function-Arn: 1\r\nLambda-Runtime-Trace-Id: 1\r\n' +
    `Content-Length: ${BODY.length}\r\n\r\n${BODY}`;
const ACCEPTED = 'HTTP/1.1 202 Accepted\r\nContent-Length: 16\r\n\r\n{"status":"OK"}\n';
const EVENTS = 3;

// The Runtime API's end of a connection: so many events, and then silence.
class Stage extends Duplex {
    constructor() {
        super();
        this._given = 0;
    }

    _read() {}

    _write(chunk, _, callback) {
        const text = chunk.toString('latin1');
        if (text.startsWith('{')) this.push(ACCEPTED);
        if (text.startsWith('GET')) {
            this._given += 1;
            if (this._given <= EVENTS) this.push(EVENT);
            else this.emit('over');
        }
        callback();
    }

    ref() {}

    unref() {}
}

async function play(name) {
    const stage = new Stage();
    const client = new Client('127.0.0.1:1', stage);
    const over = once(stage, 'over');
    await new Runtime(client).serve(__dirname, `madeup/${name}.handler`);
    await over;
}

async function rehearse() {
    format('%s %j %o', new Error('none'), { one: [1, 2] }, new Map([[1, 'one']]));
    await play('common');
    await play('module');
    context.forget();
    log.setInvocation(undefined, undefined);
    delete process.env._X_AMZN_TRACE_ID;
    delete globalThis.awslambda; // whether the function finds one is its environment's to say
}

module.exports = { rehearse };
