-- Takes tasks, one at least, out of their place (a sorted set) and into the queue: all or none. Returns an error of
-- Redis that keeps them there, or nothing.
local function queue_all(place, queue, entries, keys)
  -- This removes nothing, but refuses a user without the right to ZREM, before a task stands in both places.
  redis.call('ZREM', place, '')
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
  redis.call('ZREM', place, unpack(keys))
end
