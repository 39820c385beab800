// The enqueuer of BullMQ; load.py and webhooks.py say what its arguments mean. Prints when each job is due, by its id.

import { setTimeout } from 'node:timers/promises';
import { Queue } from 'bullmq';
import { connection, QUEUE } from './bullmq_queue.mjs';

const BULK = 500;

const [bases, tasks, rate, ttl_s] = process.argv.slice(2).map((text) => JSON.parse(text));
// The stream of events cannot be switched off; the shorter it is, the less it costs.
const queue = new Queue(QUEUE, { connection, streams: { events: { maxLen: 10 } } });
await queue.waitUntilReady();

const due = {};
const started = Date.now();

function webhookOf(number) {
  if (bases.length === 1) {
    return bases[0];
  }
  const signature = number.toString(16).padStart(64, '0');
  return `${bases[number % bases.length]}orders/${number}?id=${number}&signature=${signature}`;
}

function job(number, now) {
  const webhook = webhookOf(number);
  const content = { order: number, status: 'shipped' };
  return { name: 'deliver', data: { webhook, content }, opts: { timestamp: now, delay: started + 1000 * ttl_s - now } };
}

function keep(added) {
  due[added.id] = (added.timestamp + added.delay) / 1000;
}

async function enqueueAll() {
  for (let first = 0; first < tasks; first += BULK) {
    const now = Date.now();
    const jobs = Array.from({ length: Math.min(BULK, tasks - first) }, (_, place) => job(first + place, now));
    (await queue.addBulk(jobs)).forEach(keep);
  }
}

async function enqueueAtRate() {
  const adding = [];
  for (let number = 0; number < tasks; number += 1) {
    const wait_ms = started + (1000 * number) / rate - Date.now();
    if (wait_ms > 0) {
      await setTimeout(wait_ms);
    }
    const { name, data } = job(number, started);
    adding.push(queue.add(name, data, { timestamp: Date.now(), delay: 1000 * ttl_s }).then(keep));
  }
  await Promise.all(adding);
}

await (rate ? enqueueAtRate() : enqueueAll());
await queue.close();
console.log(JSON.stringify(due));
