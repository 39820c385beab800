-- promote: move what is due into the queue, at most `limit` tasks a call; and, so that what comes due here need not be asked
-- for, claim as many of the queue's oldest entries for this consumer, lease them, and read the tasks of the first.
-- KEYS   due, queue, entries, tasks, failures
-- ARGV   limit, claims (at most; 0: none), group, consumer, idle time that the lease starts at (ms), room (bytes of records)
-- Returns {moved, us until the next is due or -1, claims made, {entry id, key, record or false, failure or false, ...}}.
--        moved == limit: there may be more. Fewer in the list than were claimed: there was no room for the others.
-- Twice  what moved is no longer in due: a resend moves the next ones, as another timer would. What the first claimed is
--        listed under the consumer's pending entries.
-- Full   ZREM is the first write, so a full Redis does not refuse what follows.
--- include clock lease records
local due, queue, entries, tasks, failures = unpack(KEYS)
local limit, most_claims, group, consumer, idle_ms, room = unpack(ARGV)
local now = now_us()

local keys = redis.call('ZRANGEBYSCORE', due, '-inf', math.floor(now / 1000), 'LIMIT', 0, limit)
if #keys > 0 then
  redis.call('ZREM', due, unpack(keys))
  local queued = {}
  for _, key in ipairs(keys) do
    queued[#queued + 1] = key
    queued[#queued + 1] = redis.call('XADD', queue, '*', 'key', key)
  end
  redis.call('HSET', entries, unpack(queued))
end
local head = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')

local ids, claimed_keys, is_held, claims = {}, {}, {}, {}
local count = math.min(#keys, tonumber(most_claims))
-- Last: where the group is gone this fails, and all before it stands.
local read = count > 0 and redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count, 'STREAMS', queue, '>')
for _, entry in ipairs(read and read[1][2] or {}) do
  local id, fields = entry[1], entry[2]
  if fields then  -- a deleted entry that was never claimed has none on a 6.2 server
    ids[#ids + 1] = id
    claimed_keys[#claimed_keys + 1] = fields[2]
    is_held[id] = true
  end
end
if #ids > 0 then
  lease(queue, group, consumer, idle_ms, ids)
  local found = records_of(entries, tasks, failures, ids, claimed_keys, is_held, tonumber(room))
  for i = 1, #found / 2 do
    claims[#claims + 1] = ids[i]
    claims[#claims + 1] = claimed_keys[i]
    claims[#claims + 1] = found[2 * i - 1]
    claims[#claims + 1] = found[2 * i]
  end
end
return {#keys, head[2] and math.max(0, head[2] * 1000 - now) or -1, #ids, claims}
