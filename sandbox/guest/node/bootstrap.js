// The Node.js runtime: runs a function's handler for the events of the Runtime API, as AWS's own does, from Node.js 18 on.
//
// Three ways lead in. Without arguments it is a fresh process that finds everything in its environment. With `--fd N` it also has a
// connection to the Runtime API already. With `--stem` it is started ahead of need, because Node cannot fork: it loads all that
// needs no function, plays two made-up ones, says so on descriptor 3 and waits there, in a read that blocks the whole process,
// for the environment of a real function; descriptor 4 is the connection. What a process must know when it starts (NODE_OPTIONS
// and the like) comes too late for a stem: such functions get a fresh one.
//
// Errors, log lines and exit codes are as AWS's runtime client (aws-lambda-ric, public) has them.
'use strict';

const fs = require('fs');
const Module = require('module');
const v8 = require('v8');
const { start } = require('./runtime.js');

const GO_FD = 3;
const API_FD = 4;
const MAX_MESSAGE_BYTES = 256 * 1024;
const AWS_MAIN = '/var/runtime/index.mjs';

// What handlers and their libraries mostly load. `fetch` brings more than all of these together: 18 ms and 4 MB.
const COMMON = [
    'assert', 'async_hooks', 'buffer', 'child_process', 'crypto', 'dns', 'events', 'fs/promises', 'http', 'https', 'net', 'os',
    'path', 'perf_hooks', 'querystring', 'stream', 'stream/promises', 'string_decoder', 'timers/promises', 'tls', 'url', 'util',
    'zlib',
];

// Be as a fresh process with this environment would be.
function become(environment) {
    const { env } = process;
    const searched = env.NODE_PATH;
    for (const name of Object.keys(env)) if (!(name in environment)) delete env[name];
    for (const [name, value] of Object.entries(environment)) if (env[name] !== value) env[name] = value; // TZ is dear to set
    if (env.NODE_PATH !== searched) Module._initPaths();
    process.chdir(env.LAMBDA_TASK_ROOT ?? '/var/task');
    limitHeap(Number(env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE));
}

// A fresh process would be given the sizes of the heap, which cannot be changed later. What can is how much garbage V8 lets gather
// before it looks: by default up to four times what is alive, which a small function's memory does not hold.
function limitHeap(memoryMb) {
    if (memoryMb <= 512) v8.setFlagsFromString(`--heap-growing-percent=${memoryMb <= 256 ? 30 : 60}`);
}

function receive() {
    const buffer = Buffer.allocUnsafeSlow(MAX_MESSAGE_BYTES);
    const size = fs.readSync(GO_FD, buffer);
    if (size === 0) process.exit(0); // nobody will give it a function any more
    fs.closeSync(GO_FD);
    return JSON.parse(buffer.toString('utf8', 0, size));
}

async function stem() {
    for (const name of COMMON) require(name);
    await require('./rehearsal.js').rehearse();
    globalThis.gc?.();
    fs.writeSync(GO_FD, 'r');
    become(receive().environment);
    start(API_FD);
}

function main([mode, fd]) {
    process.argv.splice(1, Infinity, AWS_MAIN);
    process.mainModule = undefined; // as where an ES module is the main one: `require.main` is nobody
    if (mode === '--stem') stem();
    else start(mode === '--fd' ? Number(fd) : undefined);
}

main(process.argv.slice(2));
