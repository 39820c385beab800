-- Takes a task that awaits, or is held, out of its place (a sorted set) and into the queue. Returns an error of Redis
-- that keeps it there, such as that Redis is full, or nothing.
local function queue_from(place, queue, entries, key)
  local id = redis.pcall('XADD', queue, '*', 'key', key)
  if type(id) == 'table' then
    return id
  end
  redis.call('HSET', entries, key, id)
  redis.call('ZREM', place, key)
end
