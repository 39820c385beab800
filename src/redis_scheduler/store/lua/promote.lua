-- promote: move due tasks into the queue, at most `limit` a call. Then claim as many of the queue's oldest entries for
-- this consumer, lease them, and read their tasks: so a task that comes due here need not be asked for.
-- KEYS   due queue entries tasks failures pause_all
-- ARGV   limit most_claims# (0: none) group consumer idle_ms (that the lease starts at)
--        room# (bytes of records and failures: once it is used up, no more is claimed)
-- Returns {moved, us until the next is due or -1, now ms, {entry id, key, record, failure or false, ...}}.
--        moved == limit: there may be more. moved is -1 while all is paused: then nothing is moved or claimed.
-- Bounds `limit` tasks; of entries 50, and the room and one record.
-- Twice  what moved is no longer in due: a resend moves the next ones, as another timer would. What the first claimed
--        is listed under the consumer's pending entries.
-- Full   ZREM of nothing is the first write.
--- include clock lease claim_oldest queue_all
--- names
local now = now_us()
if redis.call('GET', pause_all) then
  return {-1, -1, math.floor(now / 1000), {}}
end

local keys = redis.call('ZRANGEBYSCORE', due, '-inf', math.floor(now / 1000), 'LIMIT', 0, limit)
local failed = #keys > 0 and queue_all(due, queue, entries, keys)
if failed then
  return failed
end
local head = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
local most = math.min(#keys, most_claims)
local claims = claim_oldest(queue, entries, tasks, failures, group, consumer, idle_ms, most, room)
return {#keys, head[2] and math.max(0, head[2] * 1000 - now) or -1, math.floor(now / 1000), claims}
