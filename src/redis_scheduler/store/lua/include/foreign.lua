-- What foreign hands put under our names must leave nothing half done: it may not refuse what comes behind a write.

-- Makes a write that grows, and that a foreign key may refuse, as `redis.pcall` does; for what drains the queue. A full Redis
-- refuses it only as a script's first write, so then it comes again, behind one that removes nothing.
local function put(queue, ...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and string.find(reply.err, 'OOM command not allowed', 1, true) then
    redis.pcall('XDEL', queue, '0-0')
    reply = redis.pcall(...)
  end
  return reply
end

-- A number that a script keeps, in ms; 0 where there is none, or what no clock says.
local function number_of(text)
  local number = tonumber(text or 0)
  return number and number >= 0 and number < 1e15 and number or 0
end

-- A counter that is no number counts no more, until an audit has removed it.
local function add_to_counter(counters, name, number)
  redis.pcall('HINCRBY', counters, name, number)
end

-- Takes members out of a hash; where another key has its name there is nothing of ours to take out.
local function remove_from_hash(hash, ...)
  redis.pcall('HDEL', hash, ...)
end
