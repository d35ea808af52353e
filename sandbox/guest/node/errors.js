// What went wrong, in AWS's words and shapes: one for the Runtime API, one for the log in text, one for the log in JSON, one for X-Ray.
//
// An error may be anything that JavaScript can throw, and may throw itself while it is looked at (a getter, a proxy), so nothing
// here lets anything out.
'use strict';

const { types } = require('util');

const UNREADABLE =
    'callback called with Error argument, but there was a problem while retrieving one or more of its message, name, and stack';
const PROMISE_LEFT =
    'The Lambda runtime client detected an unexpected Node.js exit code. This is most commonly caused by a Promise that was never ' +
    'settled. For more information, see https://nodejs.org/docs/latest/api/process.html#exit-codes';
const NO_CALLBACKS =
    'ERROR: AWS Lambda has removed support for callback-based function handlers starting with Node.js 24. You need to modify this ' +
    'function to use a supported handler signature to use Node.js 24 or later. For more information see ' +
    'https://docs.aws.amazon.com/lambda/latest/dg/nodejs-handler.html.';

class RuntimeError extends Error {}

// One class for each error type of AWS's Node.js runtime; `name` is what the caller sees, the class's name what the JSON log shows.
function kind(name) {
    const made = { [name]: class extends RuntimeError {} }[name];
    Object.defineProperty(made.prototype, 'name', { value: `Runtime.${name}`, writable: true, configurable: true });
    return made;
}

const ImportModuleError = kind('ImportModuleError');
const HandlerNotFound = kind('HandlerNotFound');
const MalformedHandlerName = kind('MalformedHandlerName');
const UserCodeSyntaxError = kind('UserCodeSyntaxError');
const MalformedStreamingHandler = kind('MalformedStreamingHandler');
const InvalidStreamingOperation = kind('InvalidStreamingOperation');
const NodeJsExit = kind('NodeJsExit');
const JSONStringifyError = kind('JSONStringifyError');
const CallbackHandlerDeprecated = kind('CallbackHandlerDeprecated');
const UnhandledPromiseRejection = kind('UnhandledPromiseRejection');

function unhandledRejection(reason, promise) {
    const error = new UnhandledPromiseRejection(text(reason));
    return Object.assign(error, { reason, promise });
}

function text(value) {
    try {
        return String(value);
    } catch {
        return Object.prototype.toString.call(value);
    }
}

function looksLikeError(value) {
    return ['name', 'message', 'stack'].every((member) => typeof value?.[member] === 'string' && value[member] !== '');
}

// For the Runtime API: errorType, errorMessage and trace.
function document(error) {
    try {
        if (types.isNativeError(error) || looksLikeError(error)) {
            // DEL is no character of JSON strings for what reads this next on AWS
            const clean = (value) => value?.replaceAll('\x7F', '%7F');
            return { errorType: clean(error.name), errorMessage: clean(error.message), trace: clean(error.stack).split('\n') };
        }
        return { errorType: typeof error, errorMessage: error.toString(), trace: [] };
    } catch {
        return { errorType: 'handled', errorMessage: UNREADABLE };
    }
}

function asError(value) {
    return value instanceof Error ? value : new Error(text(value));
}

// For the log in text: everything enumerable, and what is not but matters. Begins with a tab, as on AWS.
function formatted(error) {
    const shown = (_, value) => {
        if (!(value instanceof Error)) return value;
        const members = { errorType: value.name, errorMessage: value.message, code: value.code, ...value };
        return typeof value.stack === 'string' ? { ...members, stack: value.stack.split('\n') } : members;
    };
    try {
        return '\t' + JSON.stringify(error, shown);
    } catch {
        return '\t' + JSON.stringify(document(error));
    }
}

// For the log in JSON, as a replacer.
function replacer(_, value) {
    if (!(value instanceof Error)) return value;
    const stack = typeof value.stack === 'string' ? value.stack.split('\n') : value.stack;
    return { errorType: value.constructor?.name ?? 'UnknownError', errorMessage: value.message, stackTrace: stack, ...value };
}

// For X-Ray, as a header's value: visible ASCII only. Empty where there is nothing to tell.
function cause(error) {
    try {
        const frames = typeof error.stack === 'string' ? error.stack.split('\n').slice(1).map(frame) : [];
        const exceptions = [{ type: error.name, message: error.message, stack: frames }];
        const paths = [...new Set(frames.map((each) => each.path))];
        const json = JSON.stringify({ working_directory: process.cwd(), exceptions, paths });
        return json.replace(/[^ -~]/g, (unit) => '\\u' + unit.charCodeAt(0).toString(16).padStart(4, '0'));
    } catch {
        return '';
    }
}

function frame(line) {
    const match = /^\s*at (?:(.*) )?\(?(.*?)(?::(\d+))?(?::\d+)?\)?$/.exec(line);
    return { path: match?.[2] ?? line.trim(), line: Number(match?.[3] ?? 0), label: match?.[1] ?? 'anonymous' };
}

module.exports = {
    CallbackHandlerDeprecated, HandlerNotFound, ImportModuleError, InvalidStreamingOperation, JSONStringifyError,
    MalformedHandlerName, MalformedStreamingHandler, NO_CALLBACKS, NodeJsExit, PROMISE_LEFT, UserCodeSyntaxError, asError, cause,
    document, formatted, replacer, text, unhandledRejection,
};
