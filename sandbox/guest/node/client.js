// The runtime's side of the Runtime API: one HTTP/1.1 connection, requests in order, answers in order.
//
// Node's own client is not used, for three reasons. The connection is already there (init made it); an answer and the next `next`
// go out in one write, which halves the gateway's wake-ups; and it costs a third. The connection holds the event loop only while
// an answer of the Runtime API is awaited: while the function runs, an empty loop means that the function has nothing left to do.
'use strict';

const net = require('net');

const BASE = '/2018-06-01/runtime';
const HEAD_END = Buffer.from('\r\n\r\n');
const LINE_END = Buffer.from('\r\n');
const ERROR_TYPE = 'Lambda-Runtime-Function-Error-Type';

class Client {
    // `address` is HOST:PORT; `connection`, if any, is a stream that is connected to it.
    constructor(address, connection) {
        this._address = address;
        this._awaited = []; // functions that take an answer, oldest first
        this._received = [];
        this._size = 0;
        this._wanted = 0; // do not look before so many bytes are there
        this._socket = undefined;
        if (connection !== undefined) this._use(connection);
    }

    // The next event: {headers, body}.
    next() {
        return new Promise((resolve) => {
            this._send(`GET ${BASE}/invocation/next HTTP/1.1\r\nHost: ${this._address}\r\n\r\n`, undefined, resolve);
        });
    }

    // Written at once. Nothing is waited for: the connection keeps the order.
    respond(id, body) {
        this._post(`/invocation/${encodeURIComponent(id)}/response`, body, '', () => {});
    }

    // What `act` sends leaves in one write.
    together(act) {
        const socket = this._connected();
        socket.cork();
        try {
            act();
        } finally {
            socket.uncork();
        }
    }

    // `done` is called when the Runtime API has it.
    fail(id, document, cause, done) {
        const more = cause === '' ? '' : `Lambda-Runtime-Function-XRay-Error-Cause: ${cause}\r\n`;
        this._report(`/invocation/${encodeURIComponent(id)}/error`, document, more, done);
    }

    failInit(document, done) {
        this._report('/init/error', document, '', done);
    }

    // A response whose body comes piece by piece; gives what writes the pieces. `done` is called when all was accepted.
    stream(id, contentType, done) {
        const head =
            `POST ${BASE}/invocation/${encodeURIComponent(id)}/response HTTP/1.1\r\nHost: ${this._address}\r\n` +
            `Content-Type: ${printable(contentType)}\r\nTransfer-Encoding: chunked\r\n` +
            'Lambda-Runtime-Function-Response-Mode: streaming\r\n' +
            `Trailer: ${ERROR_TYPE}, Lambda-Runtime-Function-Error-Body\r\n\r\n`;
        const socket = this._connected();
        this._expect(done);
        let begun = '';
        const begin = () => {
            const first = begun === '' ? head : '';
            begun = head;
            return first;
        };
        return {
            write(chunks, sent) {
                const size = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
                socket.cork();
                socket.write(`${begin()}${size.toString(16)}\r\n`);
                for (const chunk of chunks) socket.write(chunk);
                socket.write('\r\n', sent);
                socket.uncork();
            },
            end(error, sent) {
                let trailers = '';
                if (error !== undefined) {
                    const body = Buffer.from(JSON.stringify(error)).toString('base64');
                    trailers = `${ERROR_TYPE}: ${printable(error.errorType)}\r\nLambda-Runtime-Function-Error-Body: ${body}\r\n`;
                }
                socket.write(`${begin()}0\r\n${trailers}\r\n`, sent);
            },
        };
    }

    _report(path, document, more, done) {
        this._post(path, JSON.stringify(document), `${ERROR_TYPE}: ${printable(document.errorType)}\r\n${more}`, done);
    }

    _post(path, text, more, done) {
        const body = Buffer.from(text);
        const head =
            `POST ${BASE}${path} HTTP/1.1\r\nHost: ${this._address}\r\nContent-Type: application/json\r\n` +
            `${more}Content-Length: ${body.length}\r\n\r\n`;
        this._send(head, body, done);
    }

    _send(head, body, taker) {
        const socket = this._connected();
        this._expect(taker);
        socket.cork();
        socket.write(head);
        if (body !== undefined) socket.write(body);
        socket.uncork();
    }

    _expect(taker) {
        if (this._awaited.length === 0) this._socket.ref();
        this._awaited.push(taker);
    }

    _connected() {
        if (this._socket === undefined) {
            const [host, port] = this._address.split(':');
            this._use(net.connect({ host, port: Number(port), noDelay: true }));
        }
        return this._socket;
    }

    _use(socket) {
        this._socket = socket;
        this._received = [];
        this._size = this._wanted = 0;
        socket.on('data', (data) => this._take(data));
        socket.on('error', () => {}); // 'close' follows
        socket.on('close', () => {
            if (this._socket !== socket) return;
            this._socket = undefined; // the function closed it: the next request connects anew
            if (this._awaited.length > 0) this._lost('the connection ended');
        });
        socket.unref();
    }

    _lost(reason) {
        process.stderr.write(`[ERROR] Runtime API: ${reason}\n`);
        process.exit(1);
    }

    _take(data) {
        this._received.push(data);
        this._size += data.length;
        while (this._size > 0 && this._size >= this._wanted) {
            const all = this._received.length === 1 ? this._received[0] : Buffer.concat(this._received, this._size);
            const used = this._answer(all);
            this._received = used === all.length ? [] : [all.subarray(used)];
            this._size = all.length - used;
            if (used === 0) return;
            this._wanted = 0;
        }
    }

    // How many bytes at the beginning of `data` were a whole answer, which was passed on; 0 where it is not all there.
    _answer(data) {
        const end = data.indexOf(HEAD_END);
        if (end < 0) return 0;
        const [line, ...lines] = data.toString('utf8', 0, end).split('\r\n');
        const status = Number(/^HTTP\/1\.\d (\d{3})/.exec(line)?.[1]);
        if (!status) this._lost(`answered with something else than HTTP: ${JSON.stringify(line.slice(0, 80))}`);
        const start = end + HEAD_END.length;
        if (status < 200) return start;
        const headers = {};
        for (const each of lines) {
            const colon = each.indexOf(':');
            headers[each.slice(0, colon).toLowerCase()] = each.slice(colon + 1).trim();
        }
        const [body, used] = headers['transfer-encoding'] ? chunked(data, start) : this._plain(data, start, headers);
        if (body === undefined) return 0;
        const taker = this._awaited.shift();
        if (this._awaited.length === 0) this._socket.unref();
        taker({ status, headers, body });
        return used;
    }

    _plain(data, start, headers) {
        const end = start + Number(headers['content-length'] ?? 0);
        if (data.length >= end) return [data.subarray(start, end), end];
        this._wanted = end;
        return [undefined, 0];
    }
}

// The body that begins at `start`, and where it ends; undefined while it is not all there.
function chunked(data, start) {
    const pieces = [];
    for (let at = start; ; ) {
        const end = data.indexOf(LINE_END, at);
        if (end < 0) return [undefined, 0];
        const size = parseInt(data.toString('latin1', at, end), 16);
        at = end + LINE_END.length;
        if (size === 0) {
            const last = data.indexOf(LINE_END, at); // trailers would be for nobody
            return last < 0 ? [undefined, 0] : [Buffer.concat(pieces), last + LINE_END.length];
        }
        if (data.length < at + size + LINE_END.length) return [undefined, 0];
        pieces.push(data.subarray(at, at + size));
        at += size + LINE_END.length;
    }
}

function printable(value) {
    return String(value).replace(/[^ -~]/g, '?');
}

module.exports = { Client };
