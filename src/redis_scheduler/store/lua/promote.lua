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
--- include clock lease
--- names
local now = now_us()
if redis.call('GET', pause_all) then
  return {-1, -1, math.floor(now / 1000), {}}
end

local keys = redis.call('ZRANGEBYSCORE', due, '-inf', math.floor(now / 1000), 'LIMIT', 0, limit)
if #keys > 0 then
  -- This removes nothing, but refuses a user without the right to ZREM, before a task stands in both places.
  redis.call('ZREM', due, '')
  -- Before any removal: a foreign key, or a foreign entry with the last possible id, may refuse this.
  local first_id = redis.pcall('XADD', queue, '*', 'key', keys[1])
  if type(first_id) == 'table' then
    return first_id
  end
  local queued = {keys[1], first_id}
  for i = 2, #keys do
    queued[#queued + 1] = keys[i]
    queued[#queued + 1] = redis.call('XADD', queue, '*', 'key', keys[i])
  end
  local named = redis.pcall('HSET', entries, unpack(queued))
  if type(named) == 'table' then
    for i = 2, #queued, 2 do
      redis.call('XDEL', queue, queued[i])
    end
    return named
  end
  redis.call('ZREM', due, unpack(keys))
end
local head = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')

local ids, claims = {}, {}
while #ids < math.min(#keys, most_claims) and room > 0 do
  -- Last: without the group it fails, and all before it stays.
  local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', queue, '>')
  if not read then
    break
  end
  local id, key = read[1][2][1][1], read[1][2][1][2][2]
  ids[#ids + 1] = id
  local record = redis.call('HGET', entries, key) == id and redis.pcall('HGET', tasks, key)
  local failure = record and redis.pcall('HGET', failures, key)
  -- An entry that cannot be read stays pending for this consumer, whose next load says why.
  if type(record) == 'string' and type(failure) ~= 'table' then
    room = room - #record - (failure and #failure or 0)
    claims[#claims + 1] = id
    claims[#claims + 1] = key
    claims[#claims + 1] = record
    claims[#claims + 1] = failure
  end
end
if #ids > 0 then
  lease(queue, group, consumer, idle_ms, ids)
end
return {#keys, head[2] and math.max(0, head[2] * 1000 - now) or -1, math.floor(now / 1000), claims}
