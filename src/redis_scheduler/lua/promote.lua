-- promote: move what is due into the queue, at most `limit` tasks a call.
-- KEYS   due, queue, entries
-- ARGV   limit
-- Returns {moved, us until the next is due or -1}. moved == limit: there may be more.
-- Twice  what moved is no longer in due: a resend moves the next ones, as another timer would.
-- Full   ZREM is the first write, so a full Redis does not refuse what follows.
--- include clock
local due, queue, entries = unpack(KEYS)
local now = now_us()

local keys = redis.call('ZRANGEBYSCORE', due, '-inf', math.floor(now / 1000), 'LIMIT', 0, ARGV[1])
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
return {#keys, head[2] and math.max(0, head[2] * 1000 - now) or -1}
