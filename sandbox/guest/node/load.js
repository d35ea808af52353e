// From `_HANDLER` to a function: which file, CommonJS or ES module, and which of its exports.
'use strict';

const fs = require('fs');
const { createRequire } = require('module');
const path = require('path');
const { pathToFileURL } = require('url');
const {
    CallbackHandlerDeprecated, HandlerNotFound, ImportModuleError, MalformedHandlerName, MalformedStreamingHandler, NO_CALLBACKS,
    UserCodeSyntaxError,
} = require('./errors.js');
const { HIGH_WATER_MARK, STREAMING } = require('./stream.js');

const MAJOR = Number(process.versions.node.split('.')[0]);
const ASYNC_ONLY = MAJOR >= 24; // AWS has taken callbacks away there, and takes TypeScript

// As the file that AWS's runtime consists of: it is named where a module is not found.
const requireForFunction = createRequire('/var/runtime/index.mjs');

// The kinds of file in the order in which they are tried, and whether `.js` and `.ts` are ES modules there.
function candidates(module) {
    const before = [['.js', false], ['.js', true], ['.mjs', true], ['.cjs', false]];
    const typed = [['.ts', false], ['.ts', true], ['.mts', true], ['.cts', false]];
    return [['', false], ...before, ...(ASYNC_ONLY ? typed : [])].map(([ending, isModule]) => {
        const either = ending === '.js' || ending === '.ts';
        return { file: module + ending, isModule, onlyIf: either ? isModule : undefined };
    });
}

// Whether package.json says that `.js` is an ES module in this directory.
function isModuleScope(directory) {
    for (let at = directory; !at.endsWith('/node_modules'); at = path.dirname(at)) {
        const file = path.join(at, 'package.json');
        if (fs.existsSync(file)) {
            try {
                return JSON.parse(fs.readFileSync(file, 'utf8'))?.type === 'module';
            } catch (error) {
                console.warn(`${file} cannot be read, it will be ignored for ES module detection purposes.`, error);
                return false;
            }
        }
        if (at === path.dirname(at)) break;
    }
    return false;
}

async function loadModule(root, directory, module) {
    const base = path.resolve(root, directory, module);
    let scope; // asked for when it matters, once
    for (const { file, isModule, onlyIf } of candidates(base)) {
        if (!fs.existsSync(file)) continue;
        if (onlyIf !== undefined && (scope ??= isModuleScope(path.dirname(base))) !== onlyIf) continue;
        return isModule ? import(pathToFileURL(file).href) : requireForFunction(file);
    }
    return requireForFunction(requireForFunction.resolve(module, { paths: [root, directory] }));
}

async function importFunction(root, directory, module) {
    try {
        return await loadModule(root, directory, module);
    } catch (error) {
        if (error instanceof SyntaxError) {
            const named = new UserCodeSyntaxError(String(error));
            named.stack = error.stack; // says where
            throw named;
        }
        if (error?.code === 'MODULE_NOT_FOUND') throw new ImportModuleError(String(error));
        throw error;
    }
}

// The handler, and how it wants to be called: {handler, streaming, highWaterMark, isAsync}.
async function load(root, name) {
    if (name.includes('..')) {
        throw new MalformedHandlerName(
            `'${name}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`,
        );
    }
    const last = path.basename(name);
    const match = /^([^.]*)\.(.*)$/.exec(last);
    if (match === null) throw new MalformedHandlerName('Bad handler');
    const found = await importFunction(root, name.slice(0, name.indexOf(last)), match[1]);
    const handler = match[2].split('.').reduce((holder, key) => holder && holder[key], found);
    if (!handler) throw new HandlerNotFound(`${name} is undefined or not exported`);
    if (typeof handler !== 'function') throw new HandlerNotFound(`${name} is not a function`);
    return { handler, ...traits(handler) };
}

function traits(handler) {
    const mode = handler[STREAMING];
    const streaming = mode !== undefined && mode !== null && mode !== false;
    if (streaming && mode !== 'response') throw new MalformedStreamingHandler('Only response streaming is supported.');
    if (ASYNC_ONLY && !streaming && handler.length >= 3) throw new CallbackHandlerDeprecated(NO_CALLBACKS);
    const mark = Number.parseInt(handler[HIGH_WATER_MARK], 10);
    return {
        streaming,
        highWaterMark: Number.isNaN(mark) ? undefined : mark,
        isAsync: handler.constructor?.name === 'AsyncFunction',
    };
}

module.exports = { ASYNC_ONLY, load };
