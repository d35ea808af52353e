// Response streaming as handlers see it: `awslambda.streamifyResponse`, `awslambda.HttpResponseStream`, and the stream they write.
//
// The stream is an ordinary Writable over the Runtime API's chunked request, so pipelines, back-pressure and `end` are Node's own.
// What differs from AWS's runtime, on purpose: an HTTP prelude is also sent where the handler ends its stream without a write.
'use strict';

const { Writable } = require('stream');
const { document, InvalidStreamingOperation } = require('./errors.js');

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');
const HTTP_CONTENT_TYPE = 'application/vnd.awslambda.http-integration-response';
const PRELUDE_END = new Uint8Array(8);

class ResponseStream extends Writable {
    // `open(contentType)` begins the response and gives {write, end} of `Client.stream`.
    constructor(open, highWaterMark) {
        super(highWaterMark === undefined ? {} : { highWaterMark });
        this._open = open;
        this._contentType = 'application/octet-stream';
        this._sink = undefined;
        this._error = undefined;
        this._onBeforeFirstWrite = undefined;
    }

    setContentType(contentType) {
        if (this._sink !== undefined) throw new InvalidStreamingOperation('Cannot set content-type, too late.');
        this._contentType = contentType;
    }

    write(chunk, encoding, callback) {
        return super.write(writable(chunk), encoding, callback);
    }

    end(chunk, encoding, callback) {
        if (chunk === undefined || chunk === null || typeof chunk === 'function') return super.end(chunk);
        return super.end(writable(chunk), encoding, callback);
    }

    // End with an error that the caller of the function is told. Does nothing where the handler has ended it.
    fail(error) {
        this._error = document(error);
        super.end();
    }

    _begin() {
        if (this._sink !== undefined) return [];
        const prelude = [];
        if (this._error === undefined) this._onBeforeFirstWrite?.((piece) => prelude.push(Buffer.from(piece)));
        this._sink = this._open(this._contentType);
        return prelude;
    }

    _write(chunk, _, callback) {
        const pieces = [...this._begin(), chunk].filter((piece) => piece.length > 0);
        if (pieces.length > 0) this._sink.write(pieces, callback);
        else callback();
    }

    _writev(entries, callback) {
        const pieces = [...this._begin(), ...entries.map((entry) => entry.chunk)].filter((piece) => piece.length > 0);
        if (pieces.length > 0) this._sink.write(pieces, callback);
        else callback();
    }

    _final(callback) {
        const prelude = this._begin();
        if (prelude.length > 0) this._sink.write(prelude);
        this._sink.end(this._error, callback);
    }

    // Destroyed by the handler or by a pipeline that failed: what is on its way is cut off with the error.
    _destroy(error, callback) {
        if (!this.writableFinished) {
            this._begin();
            this._sink.end(document(error ?? new Error('The response stream was destroyed.')));
        }
        callback(error);
    }
}

function writable(chunk) {
    return typeof chunk === 'string' || chunk instanceof Uint8Array ? chunk : JSON.stringify(chunk);
}

const HttpResponseStream = {
    // Have what is written to `stream` preceded by status, headers and cookies for a function URL.
    from(stream, prelude) {
        stream.setContentType(HTTP_CONTENT_TYPE);
        const json = JSON.stringify(prelude);
        stream._onBeforeFirstWrite = (write) => {
            write(json);
            write(PRELUDE_END);
        };
        return stream;
    },
};

// The global that functions find.
function makeGlobal() {
    if (['1', 'true'].includes(process.env.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA)) return;
    globalThis.awslambda = {
        streamifyResponse(handler, options) {
            handler[STREAMING] = 'response';
            if (typeof options?.highWaterMark === 'number') handler[HIGH_WATER_MARK] = Math.trunc(options.highWaterMark);
            return handler;
        },
        HttpResponseStream,
    };
}

module.exports = { HIGH_WATER_MARK, ResponseStream, STREAMING, makeGlobal };
