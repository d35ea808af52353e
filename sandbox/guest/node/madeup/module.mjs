import { EventEmitter } from 'node:events';
const TABLE = process.env.TABLE ?? (await Promise.resolve('none'));
export const handler = async (event) => ({ statusCode: 200, body: `${event.version}${TABLE}${EventEmitter.name}` });
