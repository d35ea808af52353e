// The loop: an event comes, the handler runs, its answer goes out, the next event is asked for.
//
// When an invocation is over depends on how the handler is written. A promise: when it settles. A callback: when it was called and,
// unless `callbackWaitsForEmptyEventLoop` is false, nothing is left in the event loop. Neither: when nothing is left in the event
// loop. So there is one listener to Node's `beforeExit`, and `whenEmpty` says what it has to do; what never asks for the next event
// lets the process end, which is then the platform's to report. From Node.js 24 on AWS knows promises only.
'use strict';

const { Socket } = require('net');
const { Client } = require('./client.js');
const context = require('./context.js');
const errors = require('./errors.js');
const { ASYNC_ONLY, load } = require('./load.js');
const log = require('./log.js');
const { ResponseStream, makeGlobal } = require('./stream.js');

const UNCAUGHT = 129; // exit status, as on AWS
const UNHANDLED = 128;
const TRACE = '_X_AMZN_TRACE_ID';

class Runtime {
    constructor(client) {
        this._client = client;
        this._report = (error, done) => client.failInit(errors.document(error), done); // where an error goes that nobody catches
        this._whenEmpty = () => {};
        this._function = undefined;
    }

    // Init, then events for ever: the event loop has the rest.
    run(root, handlerName) {
        process.on('uncaughtException', (error) => this._end('Uncaught Exception', error, UNCAUGHT));
        process.on('unhandledRejection', (reason, promise) => {
            this._end('Unhandled Promise Rejection', errors.unhandledRejection(reason, promise), UNHANDLED);
        });
        process.on('beforeExit', () => this._whenEmpty());
        this.serve(root, handlerName).catch((error) => this._end('Uncaught Exception', error, UNCAUGHT));
    }

    // Load the function and ask for the first event. Throws what loading throws.
    async serve(root, handlerName) {
        makeGlobal();
        this._function = await load(root, handlerName);
        this.handler = this._function.handler; // called as a method of Runtime, so that traces say what they say on AWS
        this._iterate();
    }

    _end(title, error, status) {
        log.logError(title, error);
        this._report(error, () => process.exit(status));
    }

    _iterate() {
        this._whenEmpty = () => {};
        this._report = (_, done) => done(); // nothing runs: the platform sees the exit, and the connection is in use
        this._client.next().then((event) => this._handle(event));
    }

    _later() {
        setImmediate(() => this._iterate());
    }

    _handle({ headers, body }) {
        const id = headers['lambda-runtime-aws-request-id'];
        log.setInvocation(id, headers['lambda-runtime-aws-tenant-id']);
        if (headers['lambda-runtime-trace-id'] === undefined) delete process.env[TRACE];
        else process.env[TRACE] = headers['lambda-runtime-trace-id'];
        this._report = (error, done) => this._client.fail(id, errors.document(error), errors.cause(error), done);
        if (this._function.streaming) this._stream(id, headers, body);
        else if (ASYNC_ONLY) this._await(id, headers, body);
        else this._call(id, headers, body);
    }

    _fail(id, error) {
        log.logError('Invoke Error', error);
        this._client.fail(id, errors.document(error), errors.cause(error), () => this._later());
    }

    // The answer and the wish for the next event, in one write. Throws where the result is no JSON; then nothing was sent.
    _succeed(id, result) {
        const body = stringify(result);
        this._client.together(() => {
            this._client.respond(id, body);
            this._iterate();
        });
    }

    // A handler as they were up to Node.js 22.
    _call(id, headers, body) {
        const once = new Once();
        let waits = true;
        const answer = (result) => {
            this._whenEmpty = () => {};
            this._client.respond(id, stringify(result));
            this._later();
        };
        const fail = (error) => {
            this._whenEmpty = () => {};
            this._fail(id, error);
        };
        const isError = (error) => error !== undefined && error !== null;
        const done = once.only((error, result) => (isError(error) ? fail(error) : answer(result)));
        const base = {
            get callbackWaitsForEmptyEventLoop() {
                return waits;
            },
            set callbackWaitsForEmptyEventLoop(value) {
                waits = value;
            },
            done,
            succeed: (result) => done(null, result),
            fail: (error) => done(isError(error) ? error : 'handled'),
        };
        const callback = once.only((error, result) => {
            if (isError(error)) fail(error);
            else if (!waits) answer(result);
            else this._whenEmpty = () => setImmediate(() => this._guarded(id, () => answer(result)));
        });
        this._whenEmpty = () => {
            once.over = true;
            this._whenEmpty = () => {};
            if (!this._function.isAsync) answer(null);
            else this._fail(id, new errors.NodeJsExit(errors.PROMISE_LEFT));
        };
        try {
            const result = this.handler(JSON.parse(body), context.complete(base, headers), callback);
            if (typeof result?.then !== 'function') return;
            const settled = once.only((value) => {
                this._whenEmpty = () => {};
                setImmediate(() => this._guarded(id, () => this._succeed(id, value)));
            });
            result.then(settled, (error) => base.fail(error));
        } catch (error) {
            callback(error); // null and undefined are no errors, as on AWS
        }
    }

    _guarded(id, act) {
        try {
            act();
        } catch (error) {
            this._fail(id, error);
        }
    }

    // A handler as AWS has them from Node.js 24 on: what it returns, or what the promise that it returns becomes, is the answer.
    async _await(id, headers, body) {
        try {
            const result = await this.handler(JSON.parse(body), context.complete({}, headers));
            await new Promise(setImmediate);
            this._succeed(id, result);
        } catch (error) {
            await new Promise(setImmediate);
            this._fail(id, error);
        }
    }

    async _stream(id, headers, body) {
        let waits = !ASYNC_ONLY;
        let accepted;
        const taken = new Promise((resolve) => {
            accepted = resolve;
        });
        const open = (contentType) => this._client.stream(id, contentType, accepted);
        const stream = new ResponseStream(open, this._function.highWaterMark);
        stream.on('error', () => {}); // its end tells the caller, and the handler hears of it by its own listeners
        const base = {
            get callbackWaitsForEmptyEventLoop() {
                return waits;
            },
            set callbackWaitsForEmptyEventLoop(value) {
                waits = value;
            },
        };
        this._report = (error, done) => {
            stream.fail(error);
            taken.then(done);
        };
        this._whenEmpty = () => {
            this._whenEmpty = () => {};
            this._failStream(stream, 'Response stream is not finished.');
        };
        taken.then(() => {
            this._report = (_, done) => done(); // the answer is out: the platform will report the exit
        });
        try {
            const result = this.handler(JSON.parse(body), stream, context.complete(base, headers));
            if (typeof result?.then !== 'function') {
                this._failStream(stream, 'Streaming does not support non-async handlers.');
            } else if ((await result) !== undefined) {
                console.warn('Streaming handlers ignore return values.');
            }
        } catch (error) {
            this._failStream(stream, error);
        }
        await taken;
        if (waits) this._whenEmpty = () => this._later();
        else this._later();
    }

    _failStream(stream, error) {
        log.logError('Invoke Error', error);
        stream.fail(error);
    }
}

// Of all ways to end an invocation only the first one counts.
class Once {
    constructor() {
        this.over = false;
    }

    only(act) {
        return (...values) => {
            if (this.over) return;
            act(...values);
            this.over = true;
        };
    }
}

function stringify(result) {
    let text;
    try {
        text = JSON.stringify(result === undefined ? null : result);
    } catch {
        const message = 'Unable to stringify response body';
        throw ASYNC_ONLY ? new errors.JSONStringifyError(message) : new Error(message);
    }
    if (text === undefined) throw new TypeError('Wrong arguments'); // a function or a symbol; the words of AWS's client
    return text;
}

// Be the runtime of the function that the environment says. `fd`, if any, is a socket connected to the Runtime API.
function start(fd) {
    const { env } = process;
    log.patchConsole();
    const connection = fd === undefined ? undefined : new Socket({ fd, readable: true, writable: true });
    const client = new Client(env.AWS_LAMBDA_RUNTIME_API ?? '', connection);
    new Runtime(client).run(env.LAMBDA_TASK_ROOT || process.cwd(), env._HANDLER ?? '');
}

module.exports = { Runtime, start };
