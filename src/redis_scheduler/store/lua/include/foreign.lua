-- Foreign keys under our names must leave nothing half done: they must not refuse a command behind a write.

-- Makes a write that grows and that a foreign key may refuse, as `redis.pcall` does; for scripts that drain the queue.
-- A full Redis refuses it only as a script's first write, so then it is made again, behind one that removes nothing.
local function write_growing(queue, ...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and string.find(reply.err, 'OOM command not allowed', 1, true) then
    redis.pcall('XDEL', queue, '0-0')
    reply = redis.pcall(...)
  end
  return reply
end

-- A number of ms that a script keeps; 0 if there is none, or one that no clock says.
local function number_of(text)
  local number = tonumber(text or 0)
  return number and number >= 0 and number < 1e15 and number or 0
end

-- A counter that is no number does not count until an audit has removed it.
local function add_to_counter(counters, name, number)
  redis.pcall('HINCRBY', counters, name, number)
end

-- Takes members out of a hash. If a foreign key has its name, nothing of ours is in it.
local function remove_from_hash(hash, ...)
  redis.pcall('HDEL', hash, ...)
end
