// console.*, as AWS's Node.js runtime writes it: TIME, request id, level and message with tabs between, or one JSON object a line.
//
// Each call is written at once, with write(2): the process may be frozen or killed at any time after it, and what was logged has
// to be there. On AWS one call is one entry of the log whatever line feeds it holds, so line feeds are left as they are.
'use strict';

const fs = require('fs');
const { format } = require('util');
const errors = require('./errors.js');

const LEVELS = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];
const METHODS = { trace: 'TRACE', debug: 'DEBUG', info: 'INFO', log: 'INFO', warn: 'WARN', error: 'ERROR', fatal: 'FATAL' };
const REQUEST_ID = Symbol.for('aws.lambda.runtime.requestId'); // where AWS's runtime has it, and libraries look
const TENANT_ID = Symbol.for('aws.lambda.runtime.tenantId');
const STDOUT = 1;

let logError = () => {};

// Once the function has touched process.stdout the descriptor does not block any more, and a full pipe has to be waited for.
function write(line) {
    let rest = Buffer.from(line + '\n');
    while (rest.length > 0) {
        try {
            rest = rest.subarray(fs.writeSync(STDOUT, rest));
        } catch (error) {
            if (error.code !== 'EAGAIN') return; // the function closed it
            Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
        }
    }
}

function textLine(level, values) {
    return `${new Date().toISOString()}\t${globalThis[REQUEST_ID]}\t${level}\t${format(...values)}`;
}

function jsonLine(level, values) {
    const entry = { timestamp: new Date().toISOString(), level, requestId: globalThis[REQUEST_ID], tenantId: globalThis[TENANT_ID] };
    if (values.length === 1) {
        try {
            return JSON.stringify({ ...entry, message: values[0] }, errors.replacer);
        } catch {
            return JSON.stringify({ ...entry, message: format(values[0]) });
        }
    }
    const found = values.find((value) => value instanceof Error);
    const described = found === undefined ? {} : errors.replacer('', found);
    const { errorType, errorMessage, stackTrace } = described;
    return JSON.stringify({ ...entry, message: format(...values), errorType, errorMessage, stackTrace });
}

// Make console write to the function's log; format and least level come from the environment.
function patchConsole() {
    const json = process.env.AWS_LAMBDA_LOG_FORMAT?.toUpperCase() === 'JSON';
    const line = json ? jsonLine : textLine;
    const least = Math.max(0, LEVELS.indexOf(process.env.AWS_LAMBDA_LOG_LEVEL?.toUpperCase()));
    for (const [method, level] of Object.entries(METHODS)) {
        const heard = LEVELS.indexOf(level) >= least;
        console[method] = heard ? (message, ...rest) => write(line(level, [message, ...rest])) : () => {};
    }
    logError = (title, error) => {
        if (json) console.error(errors.asError(error));
        else console.error(title, errors.formatted(errors.asError(error)));
    };
}

function setInvocation(requestId, tenantId) {
    globalThis[REQUEST_ID] = requestId;
    globalThis[TENANT_ID] = tenantId;
}

module.exports = { logError: (title, error) => logError(title, error), patchConsole, setInvocation };
