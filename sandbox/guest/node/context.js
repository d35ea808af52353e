// The second argument of every handler, with AWS's members.
'use strict';

// What is the same for every invocation. Read when the first one comes, when the environment is the function's.
let facts;

function functionFacts() {
    const { env } = process;
    return {
        functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
        functionName: env.AWS_LAMBDA_FUNCTION_NAME,
        memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE, // text on AWS too
        logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
        logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    };
}

function parse(json, name) {
    if (json === undefined) return undefined;
    try {
        return JSON.parse(json);
    } catch (error) {
        throw new Error(`Cannot parse ${name} as json: ${error}`);
    }
}

// `base` gets the members and is returned. Throws where a header is no JSON.
function complete(base, headers) {
    facts ??= functionFacts();
    const deadlineMs = Number(headers['lambda-runtime-deadline-ms']);
    return Object.assign(base, facts, {
        clientContext: parse(headers['lambda-runtime-client-context'], 'ClientContext'),
        identity: parse(headers['lambda-runtime-cognito-identity'], 'CognitoIdentity'),
        invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
        awsRequestId: headers['lambda-runtime-aws-request-id'],
        tenantId: headers['lambda-runtime-aws-tenant-id'],
        getRemainingTimeInMillis: () => deadlineMs - Date.now(),
    });
}

function forget() {
    facts = undefined;
}

module.exports = { complete, forget };
