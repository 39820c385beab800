// The worker of BullMQ: each job is one POST by undici.

import { Worker } from 'bullmq';
import { Agent, request } from 'undici';
import { connection, QUEUE } from './bullmq_queue.mjs';

const concurrency = Number(process.env.CONCURRENCY);

// A kept connection for each job that may be under way, and one request at a time on each: a slow answer holds up no other.
const dispatcher = new Agent({ connections: concurrency, pipelining: 1 });

async function deliver(job) {
  const { webhook, content } = job.data;
  const headers = { 'Content-Type': 'application/json', 'Schedule-Key': job.id };
  const answer = await request(webhook, { method: 'POST', headers, body: JSON.stringify(content), dispatcher });
  await answer.body.dump();
  if (answer.statusCode < 200 || answer.statusCode >= 300) {
    throw new Error(`status ${answer.statusCode}`);
  }
}

const worker = new Worker(QUEUE, deliver, {
  connection,
  concurrency,
  // What is done is gone, as with the service. Stalled jobs are looked for and locks are renewed, as is the default:
  // without them it would not be at least once.
  removeOnComplete: { count: 0 },
  removeOnFail: { count: 0 },
});
worker.on('error', (error) => console.error(error));
worker.on('failed', (job, error) => console.error(error));
await worker.waitUntilReady();
console.log('ready');
