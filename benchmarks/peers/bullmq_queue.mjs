// What worker and enqueuer of BullMQ share.

export const QUEUE = 'deliveries';

// maxRetriesPerRequest is what BullMQ asks for. ioredis' automatic pipelines stay off: BullMQ does not support them.
export const connection = { url: process.env.REDIS_URL, maxRetriesPerRequest: null };
